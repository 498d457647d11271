//! Recordings: Kafka records kept verbatim in one Avro object container file.
//!
//! Written by `driftline record`, read by `driftline replay` and `driftline analyze`. The file is self-describing: any
//! Avro tool can list it.
//!
//! # The file
//! * The header's metadata has, under `driftline.recording`, an [`Info`] as JSON: what was recorded, with the range of
//!   offsets of each partition. Recordings made before there was an `Info` lack it and remain readable.
//! * The partitions follow, one after another, each whole and in offset order: those of tables first, then those of
//!   streams, by topic and partition, in the order of [`Info::sections`]. A block holds records of one partition only.
//!   So the last record of an interrupted recording determines where to resume. [`Merged`] reads all partitions at
//!   once, each from its own position, with one block of each in memory.
//! * A block ends after the record with which it reaches [`BLOCK_BYTES`], or with its partition. Blocks are not
//!   compressed. Their boundaries, and the marker between them, follow from the records and the `Info`. So recordings
//!   of the same range of the same topics have the same bytes, apart from [`Info::recorded`], however often they were
//!   interrupted.
//!
//! Readers rely only on the offset order within each partition; partitions may be interleaved.

mod frame;
mod header;
mod merge;
mod read;
mod write;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::codec::record;

pub use header::{Arguments, FORMAT, Info, Section, What};
pub use merge::{Merged, Order};
pub use read::{Damage, Lane, Recording, Scan};
pub use write::RecordingWriter;

/// A block ends when it has this many bytes. That is enough to make its own 20 bytes and the cost of a read negligible,
/// and small enough to keep one block of each of a thousand partitions in memory.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Longest block that is read: a record may be as long as a broker accepts (12 MB on ours), and a record may start as
/// long as the block is below [`BLOCK_BYTES`].
pub const BLOCK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest header that is read. Sections take some 90 bytes each: 3 topics of 1,000 partitions take 270 kB.
pub const HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One Kafka record. See `recorded.avsc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Stem of the topic, for example `exec-events`.
    pub topic: String,
    /// Partition that the record was read from.
    pub partition: i32,
    /// Offset that the record was read at.
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

/// Why a recording cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file is not a recording.
    #[error("not a recording of driftline: {0}")]
    Foreign(String),
    /// The blocks are compressed, which driftline never writes.
    #[error("its blocks are compressed with {0}; convert it with an Avro tool to codec null")]
    Compressed(String),
    /// A newer driftline wrote the file.
    #[error("its format is {found}, this driftline reads up to {FORMAT}; use driftline {made_by} or newer")]
    Newer {
        /// Format of the file.
        found: u32,
        /// Version that wrote the file.
        made_by: String,
    },
    /// The file begins as a recording and ends in the middle, or its bytes were changed.
    #[error("cut off or damaged at byte {position}: {why}; record or copy it again")]
    Damaged {
        /// Position of the first block that is not whole.
        position: u64,
        /// Description of the damage.
        why: String,
    },
    /// A topic that this version does not have.
    #[error("it has records of a topic {0:?}, which this driftline does not know; use the version that made it")]
    UnknownTopic(String),
    /// A partition's offsets do not ascend, so the file is not one recording.
    #[error("{topic} partition {partition}: offset {offset} comes after {after}; the file was put together by hand")]
    Disorder {
        /// Stem of the topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset that is out of order.
        offset: i64,
        /// Offset of the record before it.
        after: i64,
    },
    /// A record cannot be encoded, which is a defect.
    #[error(transparent)]
    Encode(#[from] crate::EncodeError),
    /// The file system returned an error.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
