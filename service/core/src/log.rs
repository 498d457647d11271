//! What the executor needs of Kafka, and nothing else. `driftline-kafka` implements it with a consumer group and a
//! transactional producer, `loadtest/sim` in memory.

use std::collections::BTreeMap;

use crate::Outgoing;

/// What is committed for an input partition: the next offset to read, and how long its state was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Next input offset to read.
    pub offset: i64,
    /// Next offset of the state partition; restoring less than that has lost state. `None` when the commit does not say,
    /// as after somebody reset the group's offsets.
    pub state_next: Option<i64>,
}

/// Which offsets an input partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputRange {
    /// The oldest.
    pub begin: i64,
    /// After the newest, records of open transactions included.
    pub end: i64,
}

/// A changed state key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// Partition of the changelog.
    pub partition: i32,
    /// Key.
    pub key: String,
    /// What stands there now; `None` deletes it.
    pub value: Option<Vec<u8>>,
}

/// The newest value of each key of a state partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionImage {
    /// Values by key.
    pub values: BTreeMap<String, Vec<u8>>,
    /// How far the partition was read: its next offset.
    pub next: i64,
}

/// State partitions as they were read.
#[derive(Debug, Default)]
pub struct StateImages {
    partitions: BTreeMap<i32, PartitionImage>,
}

impl StateImages {
    /// Takes a record. Keys are ours and UTF-8; anything else is nobody's state and left out.
    pub fn take(&mut self, partition: i32, offset: i64, key: &[u8], value: Option<&[u8]>) {
        self.read_to(partition, offset.saturating_add(1));
        let Ok(key) = std::str::from_utf8(key) else { return };
        let image = self.partitions.entry(partition).or_default();
        match value {
            Some(value) => drop(image.values.insert(key.to_owned(), value.to_vec())),
            None => drop(image.values.remove(key)),
        }
    }

    /// Everything before `next` was read; its last records may have been markers of transactions.
    pub fn read_to(&mut self, partition: i32, next: i64) {
        let image = self.partitions.entry(partition).or_default();
        image.next = image.next.max(next);
    }

    /// What was read of a partition.
    #[must_use]
    pub fn remove(&mut self, partition: i32) -> PartitionImage {
        self.partitions.remove(&partition).unwrap_or_default()
    }
}

/// Why the log did not do what was asked.
#[derive(Debug)]
pub enum LogError<E> {
    /// The open transaction cannot be committed, in words why. Everything since the last commit must be undone.
    Aborted(String),
    /// The group has moved on since the last membership event that was handed over, in words; a newer one follows. Only
    /// [`Log::send_offsets`] says so. The open transaction can only be aborted, but everything in it may be sent again.
    Outdated(String),
    /// Nothing more can be done with this log: the process ends.
    Fatal(E),
}

/// Topics with transactions, as one member of a consumer group sees them.
///
/// A transaction is open from the first [`Log::send`] or [`Log::send_state`] after a commit or abort. With at-least-once
/// delivery there are no transactions; calls mean the same without the "together or not at all".
pub trait Log {
    /// What ends the process.
    type Error;

    /// What the group committed for these input partitions, waiting for open transactions that may change it. Partitions
    /// without a commit are left out.
    fn committed(
        &mut self,
        partitions: &[i32],
    ) -> impl Future<Output = Result<BTreeMap<i32, Committed>, LogError<Self::Error>>> + Send;

    /// Which offsets these input partitions have.
    fn input_ranges(
        &mut self,
        partitions: &[i32],
    ) -> impl Future<Output = Result<BTreeMap<i32, InputRange>, LogError<Self::Error>>> + Send;

    /// The next offset of these state partitions, records of open transactions included.
    fn state_marks(
        &mut self,
        partitions: &[i32],
    ) -> impl Future<Output = Result<BTreeMap<i32, i64>, LogError<Self::Error>>> + Send;

    /// Reads committed records of state partitions up to these marks, waiting for transactions that are open.
    fn read_state(
        &mut self,
        marks: &BTreeMap<i32, i64>,
    ) -> impl Future<Output = Result<StateImages, LogError<Self::Error>>> + Send;

    /// Input of these partitions comes from these offsets on, after it has been confirmed by the caller's driver.
    fn resume(&mut self, from: &BTreeMap<i32, i64>) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// The first committed record of an input partition with an offset in `from..to`, if there is one. Offsets may also
    /// belong to markers of transactions and to records of aborted ones, which no reader is given.
    fn first_committed(
        &mut self,
        partition: i32,
        from: i64,
        to: i64,
    ) -> impl Future<Output = Result<Option<i64>, LogError<Self::Error>>> + Send;

    /// Produces a record; may return before it is acknowledged.
    fn send(&mut self, outgoing: &Outgoing) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// Produces a changelog record; may return before it is acknowledged.
    fn send_state(&mut self, change: StateChange) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// Waits until everything sent is acknowledged; the next offsets of the state partitions written to since the start.
    fn flush(&mut self) -> impl Future<Output = Result<BTreeMap<i32, i64>, LogError<Self::Error>>> + Send;

    /// Adds input offsets to the transaction, under the membership of the last event that was handed over.
    fn send_offsets(
        &mut self,
        offsets: &BTreeMap<i32, Committed>,
    ) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// Makes everything since the last commit visible.
    fn commit(&mut self) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// Undoes everything since the last commit.
    fn abort(&mut self) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;
}
