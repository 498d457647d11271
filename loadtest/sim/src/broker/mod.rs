//! Topics in memory that behave like Kafka's: offsets, transactions whose markers take offsets, last stable offset,
//! high watermark. Driven by virtual time.

mod compaction;
#[cfg(test)]
mod tests;
mod transactions;

use driftline_schemas::topics::{Topic, partition_of};
use driftline_service_core::Committed;
use std::collections::{BTreeMap, BTreeSet};

use crate::violation::Violation;
pub(crate) use compaction::Tombstones;
use transactions::{Fate, Producer, Transaction};
pub(crate) use transactions::{Fenced, Markers};

/// A partition of a topic.
pub(crate) type TopicPartition = (Topic, i32);

/// The content of an appended record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Data {
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

/// A record or a transaction's marker.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub offset: i64,
    /// `None` is a marker.
    pub data: Option<Data>,
    transaction: Option<usize>,
}

#[derive(Debug, Default)]
struct Partition {
    /// Readers do not get records before it; the oracle still does.
    begin: i64,
    next: i64,
    records: Vec<Stored>,
}

/// The records that a committed reader received, and its next offset.
#[derive(Debug, Default)]
pub(crate) struct Fetched<'a> {
    pub records: Vec<(i64, &'a Data)>,
    pub next: i64,
}

/// The broker; see the module.
#[derive(Debug)]
pub(crate) struct Broker {
    partition_count: i32,
    partitions: BTreeMap<TopicPartition, Partition>,
    transactions: Vec<Transaction>,
    /// Transactions whose markers are not all written.
    active: BTreeSet<usize>,
    producers: BTreeMap<String, Producer>,
    /// The commits of each group, by its input.
    offsets: BTreeMap<TopicPartition, Committed>,
    pub(crate) violations: Vec<Violation>,
    /// Whether producer epochs are checked; a planted bug turns the check off.
    pub(crate) fencing: bool,
}

impl Broker {
    pub(crate) fn new(partition_count: i32) -> Self {
        Self {
            partition_count,
            partitions: BTreeMap::new(),
            transactions: Vec::new(),
            active: BTreeSet::new(),
            producers: BTreeMap::new(),
            offsets: BTreeMap::new(),
            violations: Vec::new(),
            fencing: true,
        }
    }

    pub(crate) fn partition_count(&self) -> i32 {
        self.partition_count
    }

    /// The partition of a key in a topic.
    pub(crate) fn topic_partition_of(&self, topic: Topic, key: &[u8]) -> TopicPartition {
        (topic, partition_of(key, topic.spec().partition_count(self.partition_count)))
    }

    /// Appends outside of any transaction; returns the record's offset.
    pub(crate) fn append(&mut self, topic_partition: TopicPartition, data: Data) -> i64 {
        self.push(topic_partition, Some(data), None)
    }

    fn push(&mut self, topic_partition: TopicPartition, data: Option<Data>, transaction: Option<usize>) -> i64 {
        let partition = self.partitions.entry(topic_partition).or_default();
        let offset = partition.next;
        partition.next += 1;
        partition.records.push(Stored { offset, data, transaction });
        offset
    }

    /// Next offset, including records of open transactions.
    pub(crate) fn high_watermark(&self, topic_partition: TopicPartition) -> i64 {
        self.partitions.get(&topic_partition).map_or(0, |partition| partition.next)
    }

    /// First offset that readers of committed records may not read yet.
    pub(crate) fn last_stable(&self, topic_partition: TopicPartition) -> i64 {
        let open =
            self.active.iter().filter_map(|number| self.transactions.get(*number)?.unmarked.get(&topic_partition));
        open.copied().min().unwrap_or_else(|| self.high_watermark(topic_partition))
    }

    pub(crate) fn begin(&self, topic_partition: TopicPartition) -> i64 {
        self.partitions.get(&topic_partition).map_or(0, |partition| partition.begin)
    }

    /// Applies retention: everything before `begin` is deleted.
    pub(crate) fn truncate(&mut self, topic_partition: TopicPartition, begin: i64) {
        let partition = self.partitions.entry(topic_partition).or_default();
        partition.begin = partition.begin.max(begin.min(partition.next));
    }

    /// The records for a reader of committed records, from `from` on.
    pub(crate) fn fetch(&self, topic_partition: TopicPartition, from: i64, max: usize) -> Fetched<'_> {
        let stable = self.last_stable(topic_partition);
        let Some(partition) = self.partitions.get(&topic_partition) else {
            return Fetched { records: Vec::new(), next: from };
        };
        let from = from.max(partition.begin);
        let first = partition.records.partition_point(|stored| stored.offset < from);
        let mut fetched = Fetched { records: Vec::new(), next: from };
        for stored in partition.records.iter().skip(first) {
            if stored.offset >= stable {
                break;
            }
            if fetched.records.len() >= max {
                return fetched;
            }
            fetched.next = stored.offset + 1;
            if let Some(data) = stored.data.as_ref().filter(|_| self.is_committed(stored)) {
                fetched.records.push((stored.offset, data));
            }
        }
        // The last records may have been compacted away.
        fetched.next = fetched.next.max(stable.min(partition.next));
        fetched
    }

    fn is_committed(&self, stored: &Stored) -> bool {
        let fate =
            stored.transaction.and_then(|number| self.transactions.get(number)).map(|transaction| transaction.fate);
        fate.is_none_or(|fate| fate == Fate::Committed)
    }

    /// Every committed record, whether or not readers may read it yet or still can; for oracle and checks.
    pub(crate) fn committed_records(&self, topic_partition: TopicPartition) -> impl Iterator<Item = (i64, &Data)> {
        let records =
            self.partitions.get(&topic_partition).map(|partition| partition.records.as_slice()).unwrap_or_default();
        let committed = records.iter().filter(|stored| self.is_committed(stored));
        committed.filter_map(|stored| Some((stored.offset, stored.data.as_ref()?)))
    }

    /// The partitions of a topic that contain records.
    pub(crate) fn topic_partitions(&self, topic: Topic) -> Vec<TopicPartition> {
        self.partitions.keys().filter(|(of, _)| *of == topic).copied().collect()
    }

    /// The commit of the group of this input.
    pub(crate) fn offset(&self, topic_partition: TopicPartition) -> Option<Committed> {
        self.offsets.get(&topic_partition).copied()
    }

    /// Whether an open transaction may still change this commit.
    pub(crate) fn is_offset_pending(&self, topic_partition: TopicPartition) -> bool {
        let mut active = self.active.iter().filter_map(|number| self.transactions.get(*number));
        active.any(|transaction| transaction.offsets.contains_key(&topic_partition))
    }

    pub(crate) fn set_offset(&mut self, topic_partition: TopicPartition, committed: Committed) {
        if let Some(before) = self.offsets.insert(topic_partition, committed)
            && before.offset > committed.offset
        {
            let what = format!("{topic_partition:?} went back from {} to {}", before.offset, committed.offset);
            self.violations.push(Violation::new("committed offset is monotone", what));
        }
    }
}
