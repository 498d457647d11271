//! The head of a recording: magic, Avro schema, [`Info`], sync marker.

use serde::{Deserialize, Serialize};
use serde_avro_fast::Schema;
use serde_avro_fast::object_container_file_encoding::{Compression, WriterBuilder};
use serde_avro_fast::ser::SerializerConfig;
use std::collections::BTreeMap;
use std::io::Read;

use super::frame::{Input, MARKER_BYTES, Marker};
use super::{HEADER_BYTES_MAX, Recorded, RecordingError};
use crate::codec::{Record as _, schema};
use crate::{EncodeError, Sha256};

/// Version of the format that this package writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 4] = *b"Obj\x01";
const INFO_KEY: &str = "driftline.recording";

/// The content of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Version of the format, [`FORMAT`].
    pub format: u32,
    /// Version of driftline that wrote the recording.
    pub driftline: String,
    /// When recording began, RFC 3339 in UTC with milliseconds.
    pub recorded: String,
    /// The request, as typed.
    pub arguments: Arguments,
    /// Start of the requested range, in milliseconds since 1970; older records are the pre-roll, without which the
    /// first sessions and containers would be incomplete. `None` means from the beginning.
    pub since_ms: Option<i64>,
    /// Records from this time on are left out. `None` means up to the end of the topics when recording began.
    pub until_ms: Option<i64>,
    /// Length of the pre-roll.
    pub pre_roll_ms: i64,
    /// The partitions, in the order of the file.
    pub sections: Vec<Section>,
}

/// The request: an interrupted recording can be resumed only with an equal one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arguments {
    /// Id of the Kafka cluster.
    pub cluster: String,
    /// Prefix of the topics' names.
    pub prefix: String,
    /// Stems of the topics.
    pub topics: Vec<String>,
    /// `--since`, empty if not given.
    pub since: String,
    /// `--until`, empty if not given.
    pub until: String,
    /// `--pre-roll`, empty without `--since`.
    pub pre_roll: String,
}

/// The recorded part of one partition, by offsets that were looked up when recording began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Stem of the topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Which of its records are in the file.
    pub what: What,
    /// First offset.
    pub begin: i64,
    /// First offset that is not pre-roll.
    pub range: i64,
    /// Offset after the last.
    pub end: i64,
}

/// Which records of a section are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// All records.
    Every,
    /// The newest record of each key.
    NewestOfKey,
}

/// The head of a file, as read.
pub(super) struct Head {
    pub schema: Schema,
    pub info: Option<Info>,
    pub marker: Marker,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "driftline.recording")]
    info: &'a str,
}

/// The format alone, which stays readable whatever else a newer version changes.
#[derive(Deserialize)]
struct Version {
    format: u32,
    driftline: String,
}

impl Info {
    /// The marker between blocks. Other Avro files use a random one. Here it is derived from the `Info`, so that an
    /// interrupted and resumed recording has the same bytes as an uninterrupted one.
    pub(super) fn marker(&self) -> Result<Marker, RecordingError> {
        let digest = Sha256::of(json(&Self { recorded: String::new(), ..self.clone() })?.as_bytes());
        let mut marker = Marker::default();
        marker.iter_mut().zip(digest.0).for_each(|(to, from)| *to = from);
        Ok(marker)
    }

    /// Encodes the head of a file with this `Info`.
    pub(super) fn head(&self) -> Result<Vec<u8>, RecordingError> {
        let mut config = SerializerConfig::new(schema::<Recorded>());
        WriterBuilder::new(&mut config)
            .compression(Compression::Null)
            .sync_marker(self.marker()?)
            .build_with_user_metadata(Vec::new(), Metadata { info: &json(self)? })
            .and_then(serde_avro_fast::object_container_file_encoding::Writer::into_inner)
            .map_err(|error| EncodeError::new(Recorded::NAME, &error).into())
    }
}

fn json(info: &Info) -> Result<String, RecordingError> {
    serde_json::to_string(info).map_err(|error| EncodeError::new("Info", &error).into())
}

/// Reads the head.
pub(super) fn read_head(input: &mut Input<impl Read>) -> Result<Head, RecordingError> {
    let mut magic = [0; MAGIC.len()];
    if input.read_exact(&mut magic).is_err() || magic != MAGIC {
        return Err(RecordingError::Foreign("it does not begin as an Avro object container file".to_owned()));
    }
    let mut metadata = read_metadata(input)?;
    let mut marker = [0; MARKER_BYTES];
    input.read_exact(&mut marker).map_err(|error| input.damaged(0, &error))?;
    let mut take = |key: &str| metadata.remove(key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    match take("avro.codec").as_deref() {
        None | Some("" | "null") => {}
        Some(codec) => return Err(RecordingError::Compressed(codec.to_owned())),
    }
    let text = take("avro.schema").unwrap_or_default();
    let info = take(INFO_KEY).map(|text| read_info(&text)).transpose()?;
    Ok(Head { schema: read_schema(&text)?, info, marker })
}

fn read_schema(text: &str) -> Result<Schema, RecordingError> {
    let name = serde_json::from_str::<serde_json::Value>(text).ok();
    let name = name.as_ref().and_then(|schema| schema.get("name")?.as_str());
    if name.is_none_or(|name| name.rsplit('.').next() != Some(Recorded::NAME)) {
        return Err(RecordingError::Foreign(format!("its records are {:?}", name.unwrap_or("of no name"))));
    }
    text.parse().map_err(|error| RecordingError::Foreign(format!("its schema does not parse: {error}")))
}

fn read_info(text: &str) -> Result<Info, RecordingError> {
    let foreign = |error: serde_json::Error| RecordingError::Foreign(format!("its metadata does not parse: {error}"));
    let version: Version = serde_json::from_str(text).map_err(foreign)?;
    if version.format > FORMAT {
        return Err(RecordingError::Newer { found: version.format, made_by: version.driftline });
    }
    serde_json::from_str(text).map_err(foreign)
}

/// Reads an Avro map of bytes: blocks of entries, each after its count; a negative count is followed by the block's
/// length.
fn read_metadata(input: &mut Input<impl Read>) -> Result<BTreeMap<String, Vec<u8>>, RecordingError> {
    let mut metadata = BTreeMap::new();
    loop {
        let mut count = input.long(0)?;
        if count == 0 {
            return Ok(metadata);
        }
        if count < 0 {
            count = count.saturating_neg();
            input.long(0)?;
        }
        for _ in 0..count {
            let key = input.bytes(0, HEADER_BYTES_MAX)?;
            let value = input.bytes(0, HEADER_BYTES_MAX)?;
            if input.position() > HEADER_BYTES_MAX {
                return Err(RecordingError::Foreign(format!("its header is longer than {HEADER_BYTES_MAX} bytes")));
            }
            metadata.insert(String::from_utf8_lossy(&key).into_owned(), value);
        }
    }
}
