//! An owned record as read, bytes unchanged.

use driftline_schemas::topics::{Topic, partition_of};

use crate::Position;

/// One record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: Topic,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Record timestamp, milliseconds since 1970; 0 when it has none.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The record's origin.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
    }

    /// Checks that the record has `key` and is in the partition of that key. State is kept per partition, so a record
    /// in any other partition must not be taken.
    ///
    /// # Errors
    /// The reason, for a dead letter.
    pub fn check_place(&self, key: &str, partition_count: i32) -> Result<(), String> {
        if self.key.as_deref() != Some(key.as_bytes()) {
            return Err("the record's key is not its subject's id".to_owned());
        }
        let partition = partition_of(key.as_bytes(), partition_count);
        if self.partition != partition {
            return Err(format!("the record is in partition {}, its key belongs in {partition}", self.partition));
        }
        Ok(())
    }
}
