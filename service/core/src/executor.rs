//! Drives a [`Stage`] over a [`Log`]: takes input, sends output and commits in the required order, and handles aborted
//! transactions and partitions that are assigned or revoked. Called by the service loop in `driftline-service` and by
//! the simulation.
//!
//! The rules, each with a fault in the simulation that breaks it:
//! - Outputs, changelog and offsets of the inputs they came from are in one transaction. Offsets are sent last, after
//!   everything else is acknowledged.
//! - A partition's state is restored to the *high watermark* that the state partition had after the committed offset
//!   was known, not to the last stable offset: after the first record of a zombie's open transaction there are records
//!   that are committed already.
//! - An abort drops the state of every partition and restores it. There is no undo log.
//! - A transaction that is refused only because the group has a new generation leaves the state as it is: its content
//!   is sent again under the next membership.
//! - The executor checks conservation after every input: each record received is settled once, or held.
//! - Reading is not trusted: a record at an unexpected offset is taken only after the log has shown that no committed
//!   record was skipped.

mod commit;
mod counts;
mod partitions;

use std::collections::{BTreeMap, BTreeSet};

use driftline_schemas::topics::Topic;

use crate::dead_letters::dead_letter;
use crate::{BrokenInvariant, Committed, Disposition, Effects, Log, LogError, Outgoing, Record, Stage, StateKey};
pub use counts::Counts;
use counts::Ledger;

/// Keys of schemas in a changelog: this and the fingerprint in hex.
const SCHEMA_PREFIX: &str = "schema/";
/// Transactions that may fail in a row before the process ends; each restores all state.
const ABORTS_MAX: u32 = 5;

/// Every jump in the offsets of an input with markers is checked for this long after a partition's first record; for
/// other inputs, always. A client that moves a position to a wrong offset does so with the response to a request made
/// at the assignment, or made again 500 ms later.
const SETTLING_NS: i64 = 1_000_000_000;
/// Afterwards, jumps up to this length count as markers: a transaction leaves a marker in each partition it wrote to,
/// and this many instances upstream may end their transactions between two records. A check costs a round trip to the
/// broker.
const MARKERS_MAX: i64 = 16;

/// Reasons why an executor cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum Stop<E> {
    /// The core contradicts itself; a defect.
    #[error(transparent)]
    Broken(#[from] BrokenInvariant),
    /// State that a commit relies on is missing.
    #[error(
        "partition {partition} of {topic} ends at {found}, the group's commit relies on {wanted}: state was lost; to go on without it, delete the group's offsets and the state topic"
    )]
    StateLost {
        /// Stem of the state topic.
        topic: &'static str,
        /// Partition.
        partition: i32,
        /// Its end offset.
        found: i64,
        /// Its end offset at the time of the commit.
        wanted: i64,
    },
    /// Too many transactions failed in a row.
    #[error("{ABORTS_MAX} transactions in a row were aborted, the last because: {0}")]
    Aborting(String),
    /// The log is gone.
    #[error(transparent)]
    Log(E),
}

/// The names of a service and its topics.
#[derive(Debug, Clone, Copy)]
pub struct Roles {
    /// Whether the input is written in transactions, which leave markers between its records.
    pub has_markers: bool,
    /// Name of the service, in dead letters.
    pub service: &'static str,
    /// Its changelog.
    pub state: Topic,
}

/// The content of the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pending {
    /// Nothing new.
    Nothing,
    /// Input or changed state.
    Progress,
    /// Output that no reader sees before the commit.
    Output,
}

/// An input partition that this instance owns.
#[derive(Debug)]
struct Owned {
    /// Next offset to take.
    next: i64,
    committed: Option<Committed>,
    state_next: i64,
    /// Schemas that are in the changelog already.
    schemas: BTreeSet<String>,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Records read before the last change of the position may still arrive.
    Awaited,
    /// The next record is the first from the position.
    Begun,
    /// The first record was taken at this time.
    Since(i64),
}

/// The executor; see the module.
#[derive(Debug)]
pub struct Executor<S: Stage, L> {
    roles: Roles,
    stage: S,
    log: L,
    effects: Effects<S::Command>,
    owned: BTreeMap<i32, Owned>,
    /// State keys that changed since the last commit.
    dirty: BTreeSet<StateKey>,
    /// Records received that are neither settled nor handed over.
    open: u64,
    /// Outputs since the last commit, in order. They are kept because the group may refuse a transaction whose content
    /// is still right.
    outputs: Vec<Outgoing>,
    /// Number of outputs that are in the open transaction.
    outputs_sent: usize,
    sent_bytes: usize,
    /// Time at which the membership became outdated. Nothing can be committed until an event contains the new
    /// membership.
    outdated_since_ns: Option<i64>,
    ledger: Ledger,
    aborts_in_a_row: u32,
    /// Key and text of the schemas of the state.
    schemas: Vec<(String, &'static str)>,
}

fn schema_key(fingerprint: &[u8]) -> String {
    format!("{SCHEMA_PREFIX}{}", driftline_schemas::text::hex(fingerprint))
}

/// Result of a step that may find its transaction aborted.
type Step<T, E> = Result<T, Failed<E>>;

enum Failed<E> {
    Aborted(String),
    Stop(Stop<E>),
}

impl<E> From<LogError<E>> for Failed<E> {
    fn from(error: LogError<E>) -> Self {
        match error {
            LogError::Aborted(why) | LogError::Outdated(why) => Self::Aborted(why),
            LogError::Fatal(error) => Self::Stop(Stop::Log(error)),
        }
    }
}

impl<E> From<BrokenInvariant> for Failed<E> {
    fn from(error: BrokenInvariant) -> Self {
        Self::Stop(Stop::Broken(error))
    }
}

impl<S: Stage, L: Log> Executor<S, L> {
    /// Makes an executor that owns no partition yet.
    pub fn new(roles: Roles, stage: S, log: L) -> Self {
        Self {
            roles,
            stage,
            log,
            effects: Effects::default(),
            owned: BTreeMap::new(),
            dirty: BTreeSet::new(),
            open: 0,
            outputs: Vec::new(),
            outputs_sent: 0,
            sent_bytes: 0,
            outdated_since_ns: None,
            ledger: Ledger::default(),
            aborts_in_a_row: 0,
            schemas: S::state_schemas()
                .into_iter()
                .map(|schema| (schema_key(&schema.fingerprint), schema.json))
                .collect(),
        }
    }

    /// The core, for inspection.
    pub fn stage(&self) -> &S {
        &self.stage
    }

    /// The log, for inspection.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// Partitions that this instance owns.
    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.owned.keys().copied()
    }

    /// Next offset to take of a partition that this instance owns and reads.
    pub fn position(&self, partition: i32) -> Option<i64> {
        self.owned.get(&partition).filter(|owned| owned.reading != Reading::Awaited).map(|owned| owned.next)
    }

    /// The commands of the core to its shell.
    pub fn take_commands(&mut self) -> Vec<S::Command> {
        self.effects.take_commands()
    }

    /// The content of the next commit.
    pub fn pending(&self) -> Pending {
        if !self.outputs.is_empty() {
            Pending::Output
        } else if !self.dirty.is_empty() || self.owned.values().any(Owned::has_progress) {
            Pending::Progress
        } else {
            Pending::Nothing
        }
    }

    /// Bytes of keys and values of the outputs since the last commit.
    pub fn sent_bytes(&self) -> usize {
        self.sent_bytes
    }

    /// Takes a record of the input topic; returns the reason when it became a dead letter. Records of partitions that
    /// this instance does not own (any more), and records that were read before the last change of the position, are
    /// skipped.
    ///
    /// # Errors
    /// When the process has to end.
    pub async fn record(&mut self, now_ns: i64, record: &Record) -> Result<Option<String>, Stop<L::Error>> {
        let position = self.position(record.partition);
        let Some(next) = position.filter(|next| *next <= record.offset) else { return Ok(None) };
        let result = match self.check_follows(now_ns, record, next).await {
            Ok(()) => self.take(now_ns, record).await,
            Err(failed) => Err(failed),
        };
        self.recovered(now_ns, result).await.map(Option::flatten)
    }

    /// Checks that no committed record is between the expected offset and the record's.
    async fn check_follows(&mut self, now_ns: i64, record: &Record, next: i64) -> Step<(), L::Error> {
        let Some(owned) = self.owned.get_mut(&record.partition) else { return Ok(()) };
        let settled = match owned.reading {
            Reading::Since(first_ns) => now_ns.saturating_sub(first_ns) > SETTLING_NS,
            Reading::Awaited | Reading::Begun => {
                owned.reading = Reading::Since(now_ns);
                false
            }
        };
        let jump = record.offset.saturating_sub(next);
        if jump == 0 || (settled && self.roles.has_markers && jump <= MARKERS_MAX) {
            return Ok(());
        }
        match self.log.first_committed(record.partition, next, record.offset).await? {
            None => Ok(()),
            Some(skipped) => Err(BrokenInvariant(format!(
                "reading of partition {} went on at offset {} although offset {skipped} was to be read: input was skipped; the next start reads it from the last commit",
                record.partition, record.offset
            ))
            .into()),
        }
    }

    async fn take(&mut self, now_ns: i64, record: &Record) -> Step<Option<String>, L::Error> {
        self.ledger.open.received += 1;
        self.open += 1;
        let refused = match self.stage.decode(record) {
            Ok(input) => {
                self.stage.apply(now_ns, input, &mut self.effects)?;
                None
            }
            Err(reason) => {
                self.effects.emit_raw(dead_letter(record, self.roles.service, &reason));
                self.effects.settle(Disposition::DeadLettered);
                Some(reason)
            }
        };
        if let Some(owned) = self.owned.get_mut(&record.partition) {
            owned.next = record.offset.saturating_add(1);
        }
        self.perform().await?;
        Ok(refused)
    }

    /// Takes an input that does not come from the input topic.
    ///
    /// # Errors
    /// When the process has to end.
    pub async fn input(&mut self, now_ns: i64, input: S::Input) -> Result<(), Stop<L::Error>> {
        let result = match self.stage.apply(now_ns, input, &mut self.effects) {
            Ok(()) => self.perform().await,
            Err(error) => Err(error.into()),
        };
        self.recovered(now_ns, result).await.map(drop)
    }

    /// Sends the outputs of the last inputs, and counts them.
    async fn perform(&mut self) -> Step<(), L::Error> {
        self.check_conservation()?;
        self.dirty.extend(self.effects.take_touched());
        self.ledger.events(self.effects.take_counts());
        for outgoing in self.effects.take_outgoing() {
            self.sent_bytes += outgoing.key.len().saturating_add(outgoing.value.len());
            self.ledger.produced(outgoing.topic);
            self.outputs.push(outgoing);
        }
        self.send_outputs().await
    }

    /// Conservation: every record received is settled once, or held.
    fn check_conservation(&mut self) -> Result<(), BrokenInvariant> {
        let settled = self.effects.take_settled();
        let count: u64 = settled.values().sum();
        let held = self.stage.held();
        if self.open < count || self.open - count != held {
            return Err(BrokenInvariant(format!("{} records open, {count} settled now, {held} held", self.open)));
        }
        self.open = held;
        self.ledger.settled(settled, held);
        Ok(())
    }

    /// Commits everything since the last commit, unless the commit waits for the membership. Returns what the commit
    /// counted.
    ///
    /// # Errors
    /// When the process has to end.
    pub async fn commit(&mut self, now_ns: i64) -> Result<Counts, Stop<L::Error>> {
        let result = self.try_commit(now_ns).await;
        self.recovered(now_ns, result).await?;
        Ok(self.ledger.take())
    }

    /// Handles an abort: undoes the transaction, drops all state and restores it. Returns `None` in that case.
    async fn recovered<T>(&mut self, now_ns: i64, result: Step<T, L::Error>) -> Result<Option<T>, Stop<L::Error>> {
        let mut why = match result {
            Ok(done) => return Ok(Some(done)),
            Err(Failed::Stop(stop)) => return Err(stop),
            Err(Failed::Aborted(why)) => why,
        };
        loop {
            self.aborts_in_a_row += 1;
            if self.aborts_in_a_row > ABORTS_MAX {
                return Err(Stop::Aborting(why));
            }
            match self.start_over(now_ns, &why).await {
                Ok(()) => return Ok(None),
                Err(Failed::Stop(stop)) => return Err(stop),
                Err(Failed::Aborted(again)) => why = again,
            }
        }
    }

    async fn start_over(&mut self, now_ns: i64, why: &str) -> Step<(), L::Error> {
        let partitions: Vec<i32> = self.owned.keys().copied().collect();
        self.log.abort().await?;
        self.ledger.undo(why.to_owned());
        for partition in &partitions {
            self.stage.drop_partition(*partition);
            self.owned.insert(*partition, Owned::unknown());
        }
        let commands = self.effects.take_commands();
        self.effects = Effects::default();
        commands.into_iter().for_each(|command| self.effects.command(command));
        self.dirty.clear();
        self.open = self.stage.held();
        self.forget_outputs();
        self.take_over(now_ns, &partitions).await
    }
}

impl Owned {
    /// A partition that is owned, whose state is not restored yet.
    fn unknown() -> Self {
        Self { next: 0, committed: None, state_next: 0, schemas: BTreeSet::new(), reading: Reading::Awaited }
    }

    fn to_commit(&self) -> Committed {
        Committed { offset: self.next, state_next: Some(self.state_next) }
    }

    /// Whether there is something to commit. A partition without a commit has progress, so that its first offset is
    /// committed.
    fn has_progress(&self) -> bool {
        self.committed.is_none_or(|committed| committed.offset != self.next)
    }
}

#[cfg(test)]
mod tests;
