//! Compaction of a changelog: the newest committed record of each key stays, in its order, and records of aborted
//! transactions are removed. Nothing at or above the last stable offset is changed.

use std::collections::BTreeMap;

use super::transactions::Fate;
use super::{Broker, Stored, TopicPartition};

/// The handling of tombstones that follow no older record of their key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tombstones {
    Kept,
    Dropped,
}

impl Broker {
    /// Compacts the records before `until`; returns the number of removed records.
    pub(crate) fn compact(&mut self, topic_partition: TopicPartition, until: i64, tombstones: Tombstones) -> usize {
        let until = until.min(self.last_stable(topic_partition));
        let Some(partition) = self.partitions.get(&topic_partition) else { return 0 };
        let cleanable = || partition.records.iter().filter(|stored| stored.offset < until);
        let mut newest: BTreeMap<&[u8], i64> = BTreeMap::new();
        for stored in cleanable().filter(|stored| self.is_committed(stored)) {
            if let Some(key) = stored.data.as_ref().and_then(|data| data.key.as_deref()) {
                newest.insert(key, stored.offset);
            }
        }
        let stays = |stored: &Stored| {
            let Some(data) = &stored.data else { return tombstones == Tombstones::Kept };
            let is_newest = data.key.as_deref().is_some_and(|key| newest.get(key) == Some(&stored.offset));
            is_newest && (data.value.is_some() || tombstones == Tombstones::Kept)
        };
        let aborted = |stored: &Stored| {
            let fate = stored.transaction.and_then(|number| self.transactions.get(number)).map(|found| found.fate);
            fate == Some(Fate::Aborted)
        };
        let retained: Vec<Stored> = partition
            .records
            .iter()
            .filter(|stored| stored.offset >= until || (stays(stored) && !aborted(stored)))
            .cloned()
            .collect();
        let gone = partition.records.len().saturating_sub(retained.len());
        if let Some(partition) = self.partitions.get_mut(&topic_partition) {
            partition.records = retained;
        }
        gone
    }
}
