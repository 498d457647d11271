//! The state that the instances of one run share: broker, group membership, randomness, and the accounts for the
//! checks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driftline_schemas::AlertId;
use driftline_schemas::topics::Topic;
use driftline_service_core::Gap;

use crate::broker::Broker;
use crate::fault::{Fault, Hits};
use crate::mutant::Mutant;
use crate::rng::Rng;
use crate::violation::Violation;

/// A process of an instance, from its start to its crash; an instance has one process after the other.
pub(crate) type ProcessId = u32;

pub(crate) const MILLISECOND_NS: i64 = 1_000_000;
pub(crate) const SECOND_NS: i64 = 1_000 * MILLISECOND_NS;

/// Steps kept for `--verbose`.
const TRACE_MAX: usize = 400;

/// A call of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    Committed,
    InputBegin,
    StateMarks,
    ReadState,
    Resume,
    Send,
    SendState,
    Flush,
    SendOffsets,
    Commit,
    Abort,
}

impl Effect {
    fn restores(self) -> bool {
        matches!(self, Self::Committed | Self::InputBegin | Self::StateMarks | Self::ReadState | Self::Resume)
    }
}

/// Before or after the effect of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

/// The decision at a moment of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive {
    Go,
    /// Continue at this time.
    At(i64),
    Abort,
    Crash,
}

/// The probability of each fault at one effect: once in so many, 0 for never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub crash: u64,
    pub crash_in_restore: u64,
    pub abort: u64,
    pub freeze: u64,
    pub torn: u64,
    pub delay: u64,
    pub delay_max_ns: i64,
    /// How late markers of a decided transaction may be.
    pub markers_max_ns: i64,
    /// How late a member receives the event of a rebalance.
    pub hears_max_ns: i64,
}

/// The state that one process and its log share with the driver.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// When the pending call continues.
    pub wake_ns: i64,
    pub crashed: bool,
    pub frozen_until_ns: Option<i64>,
    /// A restore was cut short and must be refused.
    pub torn: bool,
    pub aborts: u64,
    /// The membership that this process knows from its last event.
    pub incarnation: u64,
    /// The group's generation in the last event that this process took.
    pub generation: u64,
    /// A commit was refused, and its content waits for the next generation.
    pub waits: bool,
    /// Positions that were set, in order.
    pub resumes: VecDeque<BTreeMap<i32, i64>>,
    /// Next offsets of state partitions written to.
    pub state_ends: BTreeMap<i32, i64>,
    /// Counts since the last commit.
    pub open: Account,
    /// How often this process committed.
    pub commits: u64,
}

/// The accounts of input records.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    pub settled: u64,
    pub gaps: Vec<Gap>,
}

/// Members of a consumer group, each with the number of its membership.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    members: BTreeMap<ProcessId, u64>,
    joined: u64,
    /// Number of rebalances.
    generation: u64,
}

impl Membership {
    /// Joins, or joins again; returns the number of the membership.
    pub(crate) fn join(&mut self, process: ProcessId) -> u64 {
        self.joined += 1;
        self.members.insert(process, self.joined);
        self.joined
    }

    pub(crate) fn leave(&mut self, process: ProcessId) {
        self.members.remove(&process);
    }

    /// Starts a new generation; returns its number.
    pub(crate) fn share_out(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn incarnation(&self, process: ProcessId) -> Option<u64> {
        self.members.get(&process).copied()
    }
}

/// The world; see the module.
#[derive(Debug)]
pub(crate) struct World {
    pub now_ns: i64,
    pub broker: Broker,
    pub chance: Rng,
    pub rates: Rates,
    pub hits: Hits,
    pub wires: BTreeMap<ProcessId, Wire>,
    pub groups: BTreeMap<Topic, Membership>,
    /// Committed accounts, by input topic.
    pub accounts: BTreeMap<Topic, Account>,
    /// Containers for which a deadline fired, in any process.
    pub gave_up: BTreeSet<String>,
    /// Sessions that changed in calls that evicted some for the memory limit: the evicted ones and the one that needed
    /// the memory.
    pub evicted: BTreeSet<AlertId>,
    pub violations: Vec<Violation>,
    pub mutant: Option<Mutant>,
    /// Execs whose digests arrive late; for a planted bug.
    pub undigested: BTreeSet<String>,
    pub effects: u64,
    /// Numbers of the faults that are left out.
    pub left_out: BTreeSet<u64>,
    /// Number of faults that have been numbered.
    pub fault_numbers: u64,
    /// Injected faults: time, and name.
    pub faults: Vec<(i64, &'static str)>,
    /// Steps, if requested.
    pub trace: Option<VecDeque<String>>,
}

/// The world, shared by several holders; one at a time has access.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    pub(crate) fn new(broker: Broker, chance: Rng, mutant: Option<Mutant>) -> Self {
        Self {
            now_ns: 0,
            broker,
            chance,
            rates: Rates::default(),
            hits: Hits::new(),
            wires: BTreeMap::new(),
            groups: BTreeMap::new(),
            accounts: BTreeMap::new(),
            gave_up: BTreeSet::new(),
            undigested: BTreeSet::new(),
            evicted: BTreeSet::new(),
            violations: Vec::new(),
            mutant,
            effects: 0,
            left_out: BTreeSet::new(),
            fault_numbers: 0,
            faults: Vec::new(),
            trace: None,
        }
    }

    /// Whether this mutant is planted.
    pub(crate) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether the next fault, of this kind, is injected, which is the case unless it is left out.
    pub(crate) fn injects(&mut self, what: &'static str) -> bool {
        let number = self.fault_numbers;
        self.fault_numbers += 1;
        let comes = !self.left_out.contains(&number);
        if comes {
            self.faults.push((self.now_ns, what));
        }
        comes
    }

    pub(crate) fn hit(&mut self, fault: Fault) {
        *self.hits.entry(fault).or_default() += 1;
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let at_ms = self.now_ns / MILLISECOND_NS;
        if let Some(trace) = &mut self.trace {
            trace.push_back(format!("{:>9}.{:03} {}", at_ms / 1_000 % 1_000_000, at_ms % 1_000, what()));
            if trace.len() > TRACE_MAX {
                trace.pop_front();
            }
        }
    }

    pub(crate) fn wire(&mut self, process: ProcessId) -> &mut Wire {
        self.wires.entry(process).or_default()
    }

    /// Decides what happens to this process at this moment.
    pub(crate) fn decide(&mut self, process: ProcessId, effect: Effect, moment: Moment) -> Directive {
        self.effects += 1;
        let rates = self.rates;
        let crash = if effect.restores() { rates.crash_in_restore } else { rates.crash };
        let kind = match (effect.restores(), moment) {
            (true, _) => Fault::CrashInRestore,
            (false, Moment::Before) => Fault::CrashBefore,
            (false, Moment::After) => Fault::CrashAfter,
        };
        if self.chance.one_in(crash) && self.injects(kind.name()) {
            self.hit(kind);
            self.note(|| format!("process {process} crashes {moment:?} {effect:?}"));
            self.wire(process).crashed = true;
            return Directive::Crash;
        }
        let may_abort = moment == Moment::Before && effect != Effect::Abort;
        if may_abort && self.chance.one_in(rates.abort) && self.injects(Fault::Abort.name()) {
            self.hit(Fault::Abort);
            self.note(|| format!("process {process} finds its transaction aborted at {effect:?}"));
            self.wire(process).aborts += 1;
            return Directive::Abort;
        }
        if self.chance.one_in(rates.freeze) && self.injects(Fault::Freeze.name()) {
            let until_ns = self.now_ns.saturating_add(self.chance.between(SECOND_NS / 2, 25 * SECOND_NS));
            self.hit(Fault::Freeze);
            self.note(|| format!("process {process} freezes {moment:?} {effect:?}"));
            self.wire(process).frozen_until_ns = Some(until_ns);
            return Directive::At(until_ns);
        }
        if self.chance.one_in(rates.delay) {
            return Directive::At(self.now_ns.saturating_add(self.chance.between(MILLISECOND_NS, rates.delay_max_ns)));
        }
        Directive::Go
    }

    /// Adds the counts of a committed transaction of this process.
    pub(crate) fn committed(&mut self, process: ProcessId, input: Topic) {
        let wire = self.wire(process);
        wire.commits += 1;
        wire.waits = false;
        let open = std::mem::take(&mut wire.open);
        let account = self.accounts.entry(input).or_default();
        account.settled += open.settled;
        account.gaps.extend(open.gaps);
    }
}
