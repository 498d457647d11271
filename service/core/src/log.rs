//! The part of Kafka that the executor needs. `driftline-kafka` implements it with a consumer group and a transactional
//! producer, `loadtest/sim` in memory.

use std::collections::BTreeMap;

use crate::Outgoing;

/// The commit of an input partition: the next offset to read, and the end of its state at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Next input offset to read.
    pub offset: i64,
    /// Next offset of the state partition; a shorter state partition has lost state. `None` when the commit does not
    /// contain it, for example after somebody reset the group's offsets.
    pub state_next: Option<i64>,
}

/// The offsets of an input partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputRange {
    /// Oldest offset.
    pub begin: i64,
    /// Offset after the newest record, including records of open transactions.
    pub end: i64,
}

/// A changed state key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// Partition of the changelog.
    pub partition: i32,
    /// Key.
    pub key: String,
    /// The current value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
}

/// The newest value of each key of a state partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionImage {
    /// Values by key.
    pub values: BTreeMap<String, Vec<u8>>,
    /// Next offset after the part that was read.
    pub next: i64,
}

/// State partitions while they are read.
#[derive(Debug, Default)]
pub struct StateImages {
    partitions: BTreeMap<i32, PartitionImage>,
}

impl StateImages {
    /// Takes a record. The services' keys are UTF-8; a record with any other key is not state and is skipped.
    pub fn take(&mut self, partition: i32, offset: i64, key: &[u8], value: Option<&[u8]>) {
        self.read_to(partition, offset.saturating_add(1));
        let Ok(key) = std::str::from_utf8(key) else { return };
        let image = self.partitions.entry(partition).or_default();
        match value {
            Some(value) => drop(image.values.insert(key.to_owned(), value.to_vec())),
            None => drop(image.values.remove(key)),
        }
    }

    /// Records that everything before `next` was read; the last offsets may have been transaction markers.
    pub fn read_to(&mut self, partition: i32, next: i64) {
        let image = self.partitions.entry(partition).or_default();
        image.next = image.next.max(next);
    }

    /// The state read of a partition.
    #[must_use]
    pub fn remove(&mut self, partition: i32) -> PartitionImage {
        self.partitions.remove(&partition).unwrap_or_default()
    }
}

/// Why the log did not complete a call.
#[derive(Debug)]
pub enum LogError<E> {
    /// The open transaction cannot be committed, with the reason. Everything since the last commit must be undone.
    Aborted(String),
    /// The group has a newer generation than that of the last membership event handed over, with the client's text; a
    /// newer event follows. Only [`Log::send_offsets`] returns this. The open transaction must be aborted, but its
    /// content may be sent again.
    Outdated(String),
    /// The log cannot continue: the process ends.
    Fatal(E),
}

/// Topics with transactions, as one member of a consumer group sees them.
///
/// A transaction is open from the first [`Log::send`] or [`Log::send_state`] after a commit or abort. With
/// at-least-once delivery there are no transactions; the calls have the same effects, but not together or not at all.
pub trait Log {
    /// The error that ends the process.
    type Error;

    /// The group's commits for these input partitions. Waits for open transactions that may change them. Partitions
    /// without a commit are left out.
    fn committed(
        &mut self,
        partitions: &[i32],
    ) -> impl Future<Output = Result<BTreeMap<i32, Committed>, LogError<Self::Error>>> + Send;

    /// The offsets of these input partitions.
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

    /// Starts the input of these partitions at these offsets, which the caller's driver then confirms.
    fn resume(&mut self, from: &BTreeMap<i32, i64>) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// The first committed record of an input partition with an offset in `from..to`, if there is one. Offsets may also
    /// belong to markers of transactions and to records of aborted ones, which no reader receives.
    fn first_committed(
        &mut self,
        partition: i32,
        from: i64,
        to: i64,
    ) -> impl Future<Output = Result<Option<i64>, LogError<Self::Error>>> + Send;

    /// Produces a record; may return before it is acknowledged.
    fn send(&mut self, outgoing: &Outgoing) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// Produces a changelog record; may return before the record is acknowledged.
    fn send_state(&mut self, change: StateChange) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// Waits until everything sent is acknowledged; returns the next offsets of the state partitions written to since
    /// the start.
    fn flush(&mut self) -> impl Future<Output = Result<BTreeMap<i32, i64>, LogError<Self::Error>>> + Send;

    /// Adds input offsets to the transaction, under the membership of the last event handed over.
    fn send_offsets(
        &mut self,
        offsets: &BTreeMap<i32, Committed>,
    ) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// Makes everything since the last commit visible.
    fn commit(&mut self) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;

    /// Undoes everything since the last commit.
    fn abort(&mut self) -> impl Future<Output = Result<(), LogError<Self::Error>>> + Send;
}
