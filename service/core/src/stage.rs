//! The pure part of a service.

use driftline_schemas::topics::Topic;
use driftline_schemas::{DecodeError, EncodeError, WriterSchema, WriterSchemas};
use std::collections::BTreeMap;

use crate::{Effects, Record};

/// The origin of a record in its input topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Partition of the input topic.
    pub partition: i32,
    /// Offset in that partition.
    pub offset: i64,
}

/// Input records that the topic no longer has: retention deleted them, or the topic was truncated or recreated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Partition of the input topic.
    pub partition: i32,
    /// First offset that was not read.
    pub from: i64,
    /// The offset at which reading continues: the first that exists. It is below `from` when the topic ends before
    /// `from`.
    pub to: i64,
}

impl Gap {
    /// A description of the missing records, for a finding.
    #[must_use]
    pub fn in_words(self, topic: Topic) -> String {
        let (Self { partition, from, to }, stem) = (self, topic.spec().stem);
        if from < to {
            let last = to.saturating_sub(1);
            format!(
                "records of {stem} were gone before they were read: partition {partition}, offsets {from} to {last}"
            )
        } else {
            format!(
                "{stem} was cut back or made anew: what stood in partition {partition} from offset {from} on is gone, and it is read again from {to}"
            )
        }
    }
}

/// A contradiction in a core's own state: a defect of driftline. The process stops instead of continuing with wrong
/// state. Bad *input* never leads to this error; it becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken invariant: {0}")]
pub struct BrokenInvariant(pub String);

impl From<EncodeError> for BrokenInvariant {
    fn from(error: EncodeError) -> Self {
        Self(error.to_string())
    }
}

/// Only the services write state, so state that cannot be decoded is a contradiction.
impl From<DecodeError> for BrokenInvariant {
    fn from(error: DecodeError) -> Self {
        Self(format!("state cannot be read: {error}"))
    }
}

/// The pure part of a service: one task owns it and calls it with one input at a time.
///
/// Its state belongs to input partitions. State that must outlive the process is written to the changelog: `apply`
/// names the keys it changed ([`Effects::touch`]), the executor reads their values once per commit ([`Stage::state`])
/// and restores them after a restart or rebalance ([`Stage::restore`]).
pub trait Stage {
    /// Closed enum of all inputs of this core.
    type Input;
    /// A command of this core to its shell, for example an image to load.
    type Command;

    /// Turns a record of the input topic into an input.
    ///
    /// # Errors
    /// The reason for the dead letter when the record cannot be used.
    fn decode(&self, record: &Record) -> Result<Self::Input, String>;

    /// Takes one input. `now_ns` is the wall clock, nanoseconds since 1970; it never goes back between calls.
    ///
    /// # Errors
    /// Only when the core's own state contradicts itself.
    fn apply(
        &mut self,
        now_ns: i64,
        input: Self::Input,
        effects: &mut Effects<Self::Command>,
    ) -> Result<(), BrokenInvariant>;

    /// Whether anything that is due at this time was left to the next call, because each call does a bounded part. The
    /// loop then sends the next tick sooner, and takes other input in between.
    fn has_due(&self, _now_ns: i64) -> bool {
        false
    }

    /// Handles lost input, which the core has to report.
    ///
    /// # Errors
    /// As [`Self::apply`].
    fn gap(&mut self, now_ns: i64, gap: Gap, effects: &mut Effects<Self::Command>) -> Result<(), BrokenInvariant>;

    /// The schemas of the values of [`Self::state`]; they are stored beside the state.
    fn state_schemas() -> Vec<WriterSchema>;

    /// The current value of a state key; `None` when it was deleted.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    fn state(&self, partition: i32, key: &str) -> Result<Option<Vec<u8>>, BrokenInvariant>;

    /// Takes over a partition with the values of all its state keys. The core has no earlier state of the partition. It
    /// may give the shell commands, but emits no findings or alerts: those emitted before are part of the state.
    ///
    /// # Errors
    /// When state cannot be read.
    fn restore(
        &mut self,
        now_ns: i64,
        partition: i32,
        state: BTreeMap<String, Vec<u8>>,
        schemas: &WriterSchemas,
        effects: &mut Effects<Self::Command>,
    ) -> Result<(), BrokenInvariant>;

    /// Number of inputs held without a final [`crate::Disposition`].
    fn held(&self) -> u64;

    /// Drops all state of a partition that another instance takes over, or that will be restored.
    fn drop_partition(&mut self, partition: i32);
}
