//! Recordings: Kafka records kept verbatim in one Avro object container file.
//!
//! Written by `driftline record`, read by `driftline replay` and `driftline analyze`. The file is self-describing: any
//! Avro tool lists it.
//!
//! # The file
//! * The header's metadata has, under `driftline.recording`, an [`Info`] as JSON: what was recorded, and from where to
//!   where of each partition. Recordings made before there was an `Info` lack it, and are read all the same.
//! * Then come the partitions, one after another, each whole and in offset order: those of tables first, then those of
//!   streams, by topic and partition, in the order of [`Info::sections`]. A block holds records of one partition only.
//!   So a recording that was cut off says by its last record where to go on, and whoever wants the partitions merged
//!   ([`Merged`]) reads each of them from where it begins, with one block of each in memory.
//! * A block ends after the record with which it reaches [`BLOCK_BYTES`], or with its partition. Blocks are not
//!   compressed. Where they end, and the marker between them, follow from the records and the `Info`; so the same
//!   range of the same topics gives the same bytes, apart from [`Info::recorded`], however often it was interrupted.
//!
//! Readers rely only on each partition being in offset order; partitions may be interleaved.

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

/// A block ends when it has this many bytes: enough to make its own 20 bytes and a read negligible, little enough that
/// one block of each of a thousand partitions fits into memory.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Longest block that is read: a record may be as long as a broker takes (12 MB on ours), and one begins when
/// [`BLOCK_BYTES`] are not yet reached.
pub const BLOCK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest header that is read. Sections take some 90 bytes each: 3 topics of 1,000 partitions take 270 kB.
pub const HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;

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

/// Why a recording cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Some other file.
    #[error("not a recording of driftline: {0}")]
    Foreign(String),
    /// Its blocks are compressed, which driftline's own never are.
    #[error("its blocks are compressed with {0}; convert it with an Avro tool to codec null")]
    Compressed(String),
    /// Made by a newer driftline.
    #[error("its format is {found}, this driftline reads up to {FORMAT}; use driftline {made_by} or newer")]
    Newer {
        /// Format in the file.
        found: u32,
        /// Version that wrote it.
        made_by: String,
    },
    /// It begins as a recording and ends in the middle, or bytes in it were changed.
    #[error("cut off or damaged at byte {position}: {why}; record or copy it again")]
    Damaged {
        /// Where the first block begins that is not whole.
        position: u64,
        /// What is wrong there.
        why: String,
    },
    /// A topic that this version does not have.
    #[error("it has records of a topic {0:?}, which this driftline does not know; use the version that made it")]
    UnknownTopic(String),
    /// A partition's offsets do not ascend, so it is not one recording.
    #[error("{topic} partition {partition}: offset {offset} comes after {after}; the file was put together by hand")]
    Disorder {
        /// Stem of the topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset that comes too late.
        offset: i64,
        /// Offset before it.
        after: i64,
    },
    /// A record cannot be encoded, which is a defect.
    #[error(transparent)]
    Encode(#[from] crate::EncodeError),
    /// The file system refuses.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
