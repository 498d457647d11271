//! Recordings: Kafka records kept verbatim in one Avro object container file.
//!
//! Written by `driftline record`, read by `driftline replay`. The file is self-describing: any Avro tool lists it.

use serde::{Deserialize, Serialize};
use serde_avro_fast::object_container_file_encoding::{Compression, Reader, WriterBuilder};
use serde_avro_fast::ser::SerializerConfig;
use std::io::{BufRead, Write};

use crate::codec::{record, schema};

/// One Kafka record. See `recorded.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Stem of the topic, for example `exec-events`.
    pub topic: String,
    /// Partition it was read from.
    pub partition: i32,
    /// Offset it was read at.
    pub offset: i64,
    /// Record timestamp.
    pub timestamp_ms: i64,
    /// Key.
    #[serde(with = "serde_bytes")]
    pub key: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<Header>,
    /// Value; `None` is a tombstone.
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
}

/// A record header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

record!(Recorded, "Recorded", "recorded.avsc");

/// The file is not a recording, or ends in the middle.
#[derive(Debug, thiserror::Error)]
#[error("not a readable recording: {0}")]
pub struct RecordingError(String);

/// Writes records in order.
///
/// # Errors
/// When the output fails.
pub fn write<'a>(out: impl Write, records: impl Iterator<Item = &'a Recorded>) -> Result<(), RecordingError> {
    let fail = |error: serde_avro_fast::ser::SerError| RecordingError(error.to_string());
    let mut config = SerializerConfig::new(schema::<Recorded>());
    let mut writer = WriterBuilder::new(&mut config).compression(Compression::Null).build(out).map_err(fail)?;
    for record in records {
        writer.serialize(record).map_err(fail)?;
    }
    writer.finish_block().map_err(fail)
}

/// Reads all records in order.
///
/// # Errors
/// When the file is not a recording or is cut off.
pub fn read(input: impl BufRead) -> Result<Vec<Recorded>, RecordingError> {
    let mut reader = Reader::from_reader(input).map_err(|error| RecordingError(error.to_string()))?;
    reader.deserialize::<Recorded>().map(|record| record.map_err(|error| RecordingError(error.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_keeps_every_byte_and_a_cut_off_one_is_refused() {
        let one = Recorded {
            topic: "exec-events".into(),
            partition: 2,
            offset: 7,
            timestamp_ms: 9,
            key: Some(vec![0xff, 0]),
            headers: vec![Header { name: "h".into(), value: vec![1] }],
            value: None,
        };
        let records = [one.clone(), Recorded { value: Some(vec![0; 40]), ..one }];
        let mut file = Vec::new();
        write(&mut file, records.iter()).unwrap();
        assert_eq!(read(file.as_slice()).unwrap(), records);
        assert!(read(&file[..file.len() - 3]).is_err());
        assert!(read(b"hello".as_slice()).is_err());
    }
}
