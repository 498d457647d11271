//! The contract between a pure core and the shell that feeds it.
//!
//! A service is: a closed input enum, a synchronous [`Stage::apply`] that changes state and says what must happen as
//! [`Effects`], and a shell that makes it happen, then commits. Cores never see Kafka, a clock or a channel: time comes
//! in as an argument, answers to questions come back as inputs.
//!
//! What is deliberately absent: I/O of any kind. This package is enough to drive a whole core in a test.

use driftline_schemas::topics::Topic;
use driftline_schemas::{EncodeError, Record};
use std::collections::BTreeMap;

/// Where a record stood in its input topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Partition of the input topic.
    pub partition: i32,
    /// Offset in that partition.
    pub offset: i64,
}

/// A contradiction in a core's own state: a defect of ours. The process stops rather than going on with wrong state;
/// bad *input* is never this, it becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken invariant: {0}")]
pub struct BrokenInvariant(pub String);

impl From<EncodeError> for BrokenInvariant {
    fn from(error: EncodeError) -> Self {
        Self(error.to_string())
    }
}

/// The pure part of a service: one task owns it and calls it with one input at a time.
pub trait Stage {
    /// Closed enum of everything that can happen to this core.
    type Input;
    /// What this core asks of its shell beside output, for example an image to load.
    type Ask;

    /// Takes one input. `now_ns` is the wall clock, nanoseconds since 1970; it never goes back between calls.
    ///
    /// # Errors
    /// Only when the core's own state contradicts itself.
    fn apply(
        &mut self,
        now_ns: i64,
        input: Self::Input,
        effects: &mut Effects<Self::Ask>,
    ) -> Result<(), BrokenInvariant>;

    /// The oldest input offset of a partition that state still depends on; after a restart reading must begin there.
    /// `None` when nothing is held.
    fn oldest_needed(&self, partition: i32) -> Option<i64>;

    /// How many inputs are held without a final [`Disposition`].
    fn held(&self) -> u64;

    /// Drops all state of a partition that another instance takes over.
    fn drop_partition(&mut self, partition: i32);
}

/// What finally became of one input record. Each has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disposition {
    /// Used; nothing to report.
    Clean,
    /// At least one finding or alert revision came of it.
    Reported,
    /// Went to dead letters with its reason.
    DeadLettered,
    /// Seen before.
    Duplicate,
    /// Not judged, for this counted reason.
    Dropped(&'static str),
}

impl Disposition {
    /// Label of the production metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Reported => "reported",
            Self::DeadLettered => "dead_lettered",
            Self::Duplicate => "duplicate",
            Self::Dropped(reason) => reason,
        }
    }
}

/// A record to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic.
    pub topic: Topic,
    /// Key; decides the partition.
    pub key: Vec<u8>,
    /// Value as it stands on the topic.
    pub value: Vec<u8>,
    /// Headers.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

/// What must happen because of one or more inputs, in order.
#[derive(Debug)]
pub struct Effects<A> {
    outgoing: Vec<Outgoing>,
    asks: Vec<A>,
    settled: BTreeMap<Disposition, u64>,
    counts: BTreeMap<&'static str, u64>,
}

impl<A> Default for Effects<A> {
    fn default() -> Self {
        Self { outgoing: Vec::new(), asks: Vec::new(), settled: BTreeMap::new(), counts: BTreeMap::new() }
    }
}

impl<A> Effects<A> {
    /// Produces a record.
    ///
    /// # Errors
    /// When it cannot be encoded, which is a defect.
    pub fn emit<R: Record>(&mut self, topic: Topic, key: &str, record: &R) -> Result<(), BrokenInvariant> {
        let value = driftline_schemas::encode(record)?;
        self.emit_raw(Outgoing { topic, key: key.as_bytes().to_vec(), value, headers: Vec::new() });
        Ok(())
    }

    /// Produces bytes that are encoded already.
    pub fn emit_raw(&mut self, outgoing: Outgoing) {
        self.outgoing.push(outgoing);
    }

    /// Asks the shell for something; the answer comes back as an input.
    pub fn ask(&mut self, ask: A) {
        self.asks.push(ask);
    }

    /// Gives one input record its final disposition.
    pub fn settle(&mut self, disposition: Disposition) {
        *self.settled.entry(disposition).or_default() += 1;
    }

    /// Counts something that happened, by the name under which `docs/telemetry.md` lists it.
    pub fn count(&mut self, event: &'static str) {
        *self.counts.entry(event).or_default() += 1;
    }

    /// Records to produce, in order.
    #[must_use]
    pub fn outgoing(&self) -> &[Outgoing] {
        &self.outgoing
    }

    /// Takes the records to produce.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// Takes the questions to the shell.
    pub fn take_asks(&mut self) -> Vec<A> {
        std::mem::take(&mut self.asks)
    }

    /// Takes the dispositions given since the last call.
    pub fn take_settled(&mut self) -> BTreeMap<Disposition, u64> {
        std::mem::take(&mut self.settled)
    }

    /// Takes the counts made since the last call.
    pub fn take_counts(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.counts)
    }
}
