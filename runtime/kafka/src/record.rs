//! A record as it was read, owned, bytes untouched.

use driftline_schemas::topics::{Topic, partition_of};
use rdkafka::message::{Headers as _, Message};

/// One record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which topic.
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
    /// Checks that the record stands under `key` and in the partition of that key. State is kept by partition, so a record
    /// that a careless producer put elsewhere must not be taken.
    ///
    /// # Errors
    /// In words, for a dead letter.
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

    pub(crate) fn new(topic: Topic, message: &impl Message) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
        });
        Self {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }
}
