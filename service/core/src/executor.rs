//! Drives a [`Stage`] over a [`Log`]: what is taken in, sent and committed, in which order, and what happens when a
//! transaction aborts or a partition comes or goes. Called by the service loop in `driftline-service` and by the
//! simulation.
//!
//! The rules, each with a fault in the simulation that breaks it:
//! - Outputs, changelog and offsets of the inputs they came from are in one transaction. Offsets are sent last, after
//!   everything else is acknowledged.
//! - A partition's state is restored to the *high watermark* that the state partition had after the committed offset was
//!   known, not to the last stable offset: behind a zombie's open transaction stand records that are committed already.
//! - An abort drops the state of every partition and restores it. There is no undo log.
//! - A transaction that is refused only because the group has moved on leaves the state as it is: what was in it is sent
//!   again under the next membership.
//! - The executor checks conservation after every input: each record received is settled once, or held.
//! - Reading is not trusted: a record that does not stand at the expected offset is taken only after the log has shown
//!   that nothing committed was passed over.

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
/// Transactions that may fail one after the other before the process ends; each restores all state.
const ABORTS_MAX: u32 = 5;

/// Every jump in the offsets of an input with markers is looked into for this long after a partition's first record, and of
/// another input always. A client that turns a position elsewhere does so with an answer that was asked for at the
/// assignment, or again 500 ms later.
const SETTLING_NS: i64 = 1_000_000_000;
/// Afterwards jumps up to this length pass for markers: a transaction leaves one in each partition it wrote to, and this
/// many instances upstream may end theirs between two records. A look costs a round trip to the broker.
const MARKERS_MAX: i64 = 16;

/// Why an executor cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Stop<E> {
    /// The core contradicts itself; a defect.
    #[error(transparent)]
    Broken(#[from] BrokenInvariant),
    /// State that a commit relies on is not there.
    #[error(
        "partition {partition} of {topic} ends at {found}, the group's commit relies on {wanted}: state was lost; to go on without it, delete the group's offsets and the state topic"
    )]
    StateLost {
        /// Stem of the state topic.
        topic: &'static str,
        /// Partition.
        partition: i32,
        /// Where it ends.
        found: i64,
        /// Where it ended when the commit was made.
        wanted: i64,
    },
    /// One transaction after the other fails.
    #[error("{ABORTS_MAX} transactions in a row were aborted, the last because: {0}")]
    Aborting(String),
    /// The log is gone.
    #[error(transparent)]
    Log(E),
}

/// What a service is called and where its state is.
#[derive(Debug, Clone, Copy)]
pub struct Roles {
    /// Whether the input is written in transactions, which leave markers between its records.
    pub has_markers: bool,
    /// Name of the service, in dead letters.
    pub service: &'static str,
    /// Its changelog.
    pub state: Topic,
}

/// What a commit would contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pending {
    /// Nothing new.
    Nothing,
    /// Input was taken, or state changed.
    Progress,
    /// There is output that nobody can read before the commit.
    Output,
}

/// An input partition that is ours.
#[derive(Debug)]
struct Owned {
    /// Next offset to take.
    next: i64,
    committed: Option<Committed>,
    state_next: i64,
    /// Schemas that stand in the changelog already.
    schemas: BTreeSet<String>,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Records that still come were read before the position was set anew.
    Awaited,
    /// The next record is the first from the position.
    Begun,
    /// The first was taken at this time.
    Since(i64),
}

/// See the module.
#[derive(Debug)]
pub struct Executor<S: Stage, L> {
    roles: Roles,
    stage: S,
    log: L,
    effects: Effects<S::Command>,
    owned: BTreeMap<i32, Owned>,
    /// State keys that changed since the last commit.
    dirty: BTreeSet<StateKey>,
    /// Records received that are neither settled nor given away.
    open: u64,
    /// Outputs since the last commit, in order: the group may refuse a transaction whose contents are still right.
    outputs: Vec<Outgoing>,
    /// How many of them are in the open transaction.
    outputs_sent: usize,
    sent_bytes: usize,
    /// The group has moved on at this time; until an event says who is in it now, nothing can be committed.
    outdated_since_ns: Option<i64>,
    ledger: Ledger,
    aborts_in_a_row: u32,
    /// Key and text of the schemas that the state is written with.
    schemas: Vec<(String, &'static str)>,
}

fn schema_key(fingerprint: &[u8]) -> String {
    format!("{SCHEMA_PREFIX}{}", driftline_schemas::text::hex(fingerprint))
}

/// Result of a step that may find the transaction aborted.
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
    /// An executor that owns no partition yet.
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

    /// The core, to look at.
    pub fn stage(&self) -> &S {
        &self.stage
    }

    /// The log, to look at.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// Partitions that are ours.
    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.owned.keys().copied()
    }

    /// Next offset to take of a partition that is ours and read.
    pub fn position(&self, partition: i32) -> Option<i64> {
        self.owned.get(&partition).filter(|owned| owned.reading != Reading::Awaited).map(|owned| owned.next)
    }

    /// The commands of the core to its shell.
    pub fn take_commands(&mut self) -> Vec<S::Command> {
        self.effects.take_commands()
    }

    /// What a commit would contain.
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

    /// Takes a record of the input topic; the reason when it became a dead letter. Records of partitions that are not
    /// ours (any more), and ones that were read before the position was set anew, are passed over.
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

    /// Nothing that is committed stands between the expected offset and the record's.
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

    /// Sends what the last inputs amount to, and keeps the accounts.
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

    /// Commits everything since the last commit, unless the membership has to come first; what was counted in it.
    ///
    /// # Errors
    /// When the process has to end.
    pub async fn commit(&mut self, now_ns: i64) -> Result<Counts, Stop<L::Error>> {
        let result = self.try_commit(now_ns).await;
        self.recovered(now_ns, result).await?;
        Ok(self.ledger.take())
    }

    /// After an abort: undoes the transaction, drops all state and restores it. `None` when that was needed.
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
    /// Ours, but nothing is known of it until it is restored.
    fn unknown() -> Self {
        Self { next: 0, committed: None, state_next: 0, schemas: BTreeSet::new(), reading: Reading::Awaited }
    }

    fn to_commit(&self) -> Committed {
        Committed { offset: self.next, state_next: Some(self.state_next) }
    }

    /// Whether there is something to commit; of a partition without a commit there is, so that its beginning stands.
    fn has_progress(&self) -> bool {
        self.committed.is_none_or(|committed| committed.offset != self.next)
    }
}

#[cfg(test)]
mod tests;
