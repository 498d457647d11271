//! The effects of an input.

use driftline_schemas::Record;
use driftline_schemas::topics::Topic;
use std::collections::{BTreeMap, BTreeSet};

use crate::BrokenInvariant;

/// The final outcome of one input record. Each has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disposition {
    /// Used; no finding or alert revision.
    Clean,
    /// At least one finding or alert revision resulted from it.
    Reported,
    /// Copied to dead letters with its reason.
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

/// A key of the state changelog. The executor owns the keys that begin with `schema/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateKey {
    /// Partition of the input, and of the changelog.
    pub partition: i32,
    /// Key in the changelog.
    pub key: String,
}

/// A record to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic.
    pub topic: Topic,
    /// Key; decides the partition.
    pub key: Vec<u8>,
    /// Value as written to the topic.
    pub value: Vec<u8>,
    /// Headers.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

/// The effects of one or more inputs, in order.
#[derive(Debug)]
pub struct Effects<C> {
    outgoing: Vec<Outgoing>,
    commands: Vec<C>,
    settled: BTreeMap<Disposition, u64>,
    counts: BTreeMap<&'static str, u64>,
    touched: BTreeSet<StateKey>,
}

impl<C> Default for Effects<C> {
    fn default() -> Self {
        Self {
            outgoing: Vec::new(),
            commands: Vec::new(),
            settled: BTreeMap::new(),
            counts: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }
}

impl<C> Effects<C> {
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

    /// Gives the shell a command; its result arrives as an input.
    pub fn command(&mut self, command: C) {
        self.commands.push(command);
    }

    /// Gives one input record its final disposition.
    pub fn settle(&mut self, disposition: Disposition) {
        *self.settled.entry(disposition).or_default() += 1;
    }

    /// Counts an event, by the name under which `docs/telemetry.md` lists it.
    pub fn count(&mut self, event: &'static str) {
        *self.counts.entry(event).or_default() += 1;
    }

    /// Marks the value of a state key as changed or deleted; it is written with the next commit.
    pub fn touch(&mut self, partition: i32, key: String) {
        self.touched.insert(StateKey { partition, key });
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

    /// Takes the commands to the shell since the last call.
    pub fn take_commands(&mut self) -> Vec<C> {
        std::mem::take(&mut self.commands)
    }

    /// Takes the dispositions given since the last call.
    pub fn take_settled(&mut self) -> BTreeMap<Disposition, u64> {
        std::mem::take(&mut self.settled)
    }

    /// Takes the counts made since the last call.
    pub fn take_counts(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.counts)
    }

    /// Number of distinct state keys touched since the last [`Self::take_touched`].
    #[must_use]
    pub fn touched_count(&self) -> usize {
        self.touched.len()
    }

    /// Takes the state keys touched since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<StateKey> {
        std::mem::take(&mut self.touched)
    }
}
