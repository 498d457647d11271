//! Avro single-object encoding: `C3 01`, the schema's CRC-64-AVRO fingerprint, then the datum.
//!
//! Called wherever a record is read from or written to a topic. Readers find the writer's schema by fingerprint among
//! the versions that this package knows; a field that an older version lacks takes its serde default.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_avro_fast::Schema;
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};
use serde_avro_fast::ser::SerializerConfig;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::sync::OnceLock;

use crate::limits;

const MARKER: [u8; 2] = [0xC3, 0x01];
const HEADER_BYTES: usize = 10;

/// Why bytes of a topic are not a valid record. Each error becomes the reason of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A tombstone or an empty value where a record is required.
    #[error("empty value")]
    Empty,
    /// The value has no single-object header.
    #[error("no avro single-object header")]
    NoHeader,
    /// The schema is none of those that this topic may carry; holds the fingerprint from the record, in hex.
    #[error("unknown schema fingerprint {0}")]
    UnknownSchema(String),
    /// The datum does not match its schema, or is truncated.
    #[error("malformed {record} datum: {why}")]
    Malformed {
        /// Name of the record's schema.
        record: &'static str,
        /// Error text of the codec.
        why: String,
    },
    /// Bytes remain after the datum.
    #[error("trailing bytes after the {record} datum")]
    TrailingBytes {
        /// Name of the record's schema.
        record: &'static str,
    },
    /// A field is longer than a collector's limit.
    #[error("{field} of the {record} is over its limit of {limit}")]
    OverLimit {
        /// Name of the record's schema.
        record: &'static str,
        /// Name of the field.
        field: &'static str,
        /// Bytes or items, see [`limits`].
        limit: usize,
    },
    /// The value is longer than any record that this topic may carry.
    #[error("{size_bytes} bytes, more than the {limit_bytes} allowed")]
    TooLarge {
        /// Length of the value.
        size_bytes: usize,
        /// [`limits::RECORD_BYTES_MAX`].
        limit_bytes: usize,
    },
}

/// A record of driftline could not be encoded. The cause is a defect, or a value that Avro cannot represent (a `u64`
/// over `i64::MAX`).
#[derive(Debug, thiserror::Error)]
#[error("cannot encode {record}: {why}")]
pub struct EncodeError {
    record: &'static str,
    why: String,
}

impl EncodeError {
    pub(crate) fn new(record: &'static str, why: &impl ToString) -> Self {
        Self { record, why: why.to_string() }
    }
}

/// A type with schemas: the current one for writing, and all known ones for reading.
pub trait Record: Serialize + DeserializeOwned {
    /// Name of the record in its schema.
    const NAME: &'static str;
    /// The codec of this record, parsed once per process.
    fn codec() -> &'static Codec;
}

/// Parsed schemas of one record.
#[derive(Debug)]
pub struct Codec {
    current: Schema,
    older: Vec<Schema>,
}

impl Codec {
    fn find(&self, fingerprint: &[u8]) -> Option<&Schema> {
        std::iter::once(&self.current).chain(&self.older).find(|schema| schema.rabin_fingerprint() == fingerprint)
    }
}

/// Parses the schemas of a record; called once, through [`record!`].
#[expect(clippy::expect_used, reason = "the schemas are part of the program, and a test parses every one")]
pub(crate) fn parse(cell: &'static OnceLock<Codec>, current: &str, older: &[&str]) -> &'static Codec {
    cell.get_or_init(|| Codec {
        current: current.parse().expect("current schema parses"),
        older: older.iter().map(|text| text.parse().expect("frozen schema parses")).collect(),
    })
}

/// Binds a type to its schema file and the frozen older versions.
macro_rules! record {
    ($type:ty, $name:literal, $current:literal $(, $older:literal)* $(,)?) => {
        impl $crate::codec::Record for $type {
            const NAME: &'static str = $name;
            fn codec() -> &'static $crate::codec::Codec {
                static CODEC: std::sync::OnceLock<$crate::codec::Codec> = std::sync::OnceLock::new();
                $crate::codec::parse(
                    &CODEC,
                    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $current)),
                    &[$(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $older))),*],
                )
            }
        }
    };
}
pub(crate) use record;

/// A buffer that grows beyond this size is freed after its record instead of being kept for the next ones.
const BUFFER_BYTES: usize = 16 << 10;

thread_local! {
    /// A value is encoded into this buffer, and then copied at its exact length.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes a record with its current schema.
///
/// # Errors
/// When the schema cannot represent a value.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, EncodeError> {
    let mut config = SerializerConfig::new(&R::codec().current);
    let mut buffer = BUFFER.take();
    buffer.clear();
    let encoded = serde_avro_fast::to_single_object(record, &mut buffer, &mut config);
    let value = encoded.map(|buffer| buffer.as_slice().to_vec()).map_err(|error| EncodeError::new(R::NAME, &error));
    if buffer.capacity() <= BUFFER_BYTES {
        BUFFER.set(buffer);
    }
    value
}

/// Decodes a value that must be an `R`.
///
/// # Errors
/// When the bytes are not exactly one `R`; each cause has a variant.
pub fn decode<R: Record>(value: &[u8]) -> Result<R, DecodeError> {
    let (fingerprint, datum) = split(value)?;
    decode_datum(fingerprint, datum).unwrap_or_else(|| Err(unknown(fingerprint)))
}

/// The fingerprint of the schema with which `R` is written now, as in the header.
#[must_use]
pub fn fingerprint_of<R: Record>() -> [u8; 8] {
    *R::codec().current.rabin_fingerprint()
}

/// A schema that is stored beside the state that was written with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterSchema {
    /// CRC-64-AVRO, as in the header of a value.
    pub fingerprint: [u8; 8],
    /// The schema's text.
    pub json: &'static str,
}

/// The current schema of `R`.
#[must_use]
pub fn writer_schema<R: Record>() -> WriterSchema {
    let schema = &R::codec().current;
    WriterSchema { fingerprint: *schema.rabin_fingerprint(), json: schema.json() }
}

/// Schemas that were stored beside the state written with them. They let a version of driftline read the state of a
/// newer one, whose schemas it does not contain.
#[derive(Debug, Default)]
pub struct WriterSchemas(BTreeMap<[u8; 8], Schema>);

impl WriterSchemas {
    /// Adds a schema by its text; returns its fingerprint.
    ///
    /// # Errors
    /// When the text is not a schema, or is longer than [`limits::SCHEMA_BYTES_MAX`].
    pub fn add(&mut self, json: &str) -> Result<[u8; 8], DecodeError> {
        let malformed = |why: String| DecodeError::Malformed { record: "schema", why };
        if json.len() > limits::SCHEMA_BYTES_MAX {
            return Err(malformed(format!("more than {} bytes", limits::SCHEMA_BYTES_MAX)));
        }
        let schema: Schema = json.parse().map_err(|error| malformed(format!("{error}")))?;
        let fingerprint = *schema.rabin_fingerprint();
        self.0.insert(fingerprint, schema);
        Ok(fingerprint)
    }

    /// Decodes a value that must be an `R`, written by any version whose schema was added here or is in the program.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode<R: Record>(&self, value: &[u8]) -> Result<R, DecodeError> {
        let (fingerprint, datum) = split(value)?;
        let found = self.0.iter().find(|(known, _)| known.as_slice() == fingerprint);
        match (R::codec().find(fingerprint), found) {
            (Some(schema), _) | (None, Some((_, schema))) => read_whole(schema, datum),
            (None, None) => Err(unknown(fingerprint)),
        }
    }
}

/// Checks length and marker; returns fingerprint and datum.
pub(crate) fn split(value: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    if value.is_empty() {
        return Err(DecodeError::Empty);
    }
    if value.len() > limits::RECORD_BYTES_MAX {
        return Err(DecodeError::TooLarge { size_bytes: value.len(), limit_bytes: limits::RECORD_BYTES_MAX });
    }
    let (header, datum) = value.split_at_checked(HEADER_BYTES).ok_or(DecodeError::NoHeader)?;
    let fingerprint = header.strip_prefix(&MARKER).ok_or(DecodeError::NoHeader)?;
    Ok((fingerprint, datum))
}

/// The header of a value that is written with this schema.
pub(crate) fn header(schema: &Schema) -> Vec<u8> {
    [MARKER.as_slice(), schema.rabin_fingerprint()].concat()
}

pub(crate) fn unknown(fingerprint: &[u8]) -> DecodeError {
    DecodeError::UnknownSchema(crate::text::hex(fingerprint))
}

/// Decodes a datum; `None` when the fingerprint belongs to no version of `R`.
pub(crate) fn decode_datum<R: Record>(fingerprint: &[u8], datum: &[u8]) -> Option<Result<R, DecodeError>> {
    Some(read_whole(R::codec().find(fingerprint)?, datum))
}

fn read_whole<R: Record>(schema: &Schema, datum: &[u8]) -> Result<R, DecodeError> {
    let (record, rest) = read_one(schema, datum)?;
    if rest.is_empty() { Ok(record) } else { Err(DecodeError::TrailingBytes { record: R::NAME }) }
}

/// Reads one datum with the current schema; returns it and the remaining bytes.
pub(crate) fn read_current<R: Record>(bytes: &[u8]) -> Result<(R, &[u8]), DecodeError> {
    read_one(&R::codec().current, bytes)
}

/// Appends one datum with the current schema, without a header.
pub(crate) fn write_current<R: Record>(record: &R, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut config = SerializerConfig::new(&R::codec().current);
    serde_avro_fast::to_datum(record, &mut *out, &mut config)
        .map(|_| ())
        .map_err(|error| EncodeError::new(R::NAME, &error))
}

/// Reads one datum with the schema that a container file names; returns it and the remaining bytes.
pub(crate) fn read_with<'a, R: Record>(schema: &Schema, bytes: &'a [u8]) -> Result<(R, &'a [u8]), DecodeError> {
    read_one(schema, bytes)
}

/// The current schema of `R`, for container files.
pub(crate) fn schema<R: Record>() -> &'static Schema {
    &R::codec().current
}

fn read_one<'a, R: Record>(schema: &Schema, bytes: &'a [u8]) -> Result<(R, &'a [u8]), DecodeError> {
    let mut config = DeserializerConfig::new(schema);
    config.max_seq_size = limits::AVRO_ITEMS_MAX;
    let mut state = DeserializerState::with_config(SliceRead::new(bytes), config);
    let record = R::deserialize(state.deserializer())
        .map_err(|error| DecodeError::Malformed { record: R::NAME, why: error.to_string() })?;
    let left = state.into_reader().fill_buf().map_or(0, <[u8]>::len);
    Ok((record, bytes.get(bytes.len() - left..).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
