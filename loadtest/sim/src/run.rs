//! One seed: the plan, the services, the faults, the end, and the checks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use driftline_correlator_core as correlator;
use driftline_enricher_core as enricher;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, AlertId};
use driftline_service_core::Committed;

use crate::broker::{Broker, Data, Tombstones};
use crate::checks::Outputs;
use crate::consumer_group::ConsumerGroup;
use crate::fault::{Fault, Hits};
use crate::mutant::Mutant;
use crate::oracle::{self, Limits, RunFacts};
use crate::rng::Rng;
use crate::service::{Correlating, Enriching, Setup};
use crate::violation::{Checked, Violation};
use crate::workload::{Action, CLUSTER, Clarity, Plan, START_NS};
use crate::world::{MILLISECOND_NS, Rates, SECOND_NS, Shared, World};

const SESSION_GAP_S: i64 = 30;
const SESSION_CAP_S: i64 = 300;
/// An amendment may arrive an hour after its finding.
const RETENTION_S: i64 = 3_700;
const TICK_NS: i64 = 100 * MILLISECOND_NS;
/// Tick interval in quiet times; no content depends on the number of ticks.
const QUIET_TICK_NS: i64 = 5 * SECOND_NS;
/// Tick interval of [`Mutant::RareTicks`].
const RARE_TICK_NS: i64 = 30 * SECOND_NS;
/// How long after its finding was committed news may be without a revision: the pace, a tick in quiet times, and the way
/// through the log.
const NEWS_MAX_NS: i64 = correlator::limits::NEWS_PACE_NS + QUIET_TICK_NS + 2 * SECOND_NS;
/// How long remaining work may take once no more faults occur.
const DRAIN_NS: i64 = 120 * SECOND_NS;
/// After this time all sessions are final.
const FINAL_NS: i64 = (SESSION_GAP_S + RETENTION_S + 700) * SECOND_NS;
/// After this time no state of any container is left.
const SILENCE_NS: i64 = 3 * 3_600 * SECOND_NS;

/// The options of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The seed; it determines the whole run.
    pub seed: u64,
    /// A bug to mutant.
    pub mutant: Option<Mutant>,
    /// Whether the last steps are recorded.
    pub trace: Trace,
}

/// Whether the steps of a run are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// No steps.
    Off,
    /// The last steps.
    On,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// How often each fault was hit.
    pub hits: Hits,
    /// Calls of logs.
    pub effects: u64,
    /// Execs, and those in containers that are compared exactly.
    pub execs: (u64, u64),
    /// Findings and alert revisions that were committed.
    pub outputs: (u64, u64),
    /// Injected faults, in order: time since the start, and name.
    pub faults: Vec<(Duration, &'static str)>,
    /// Number of possible faults: those that were left out have a number too.
    pub(crate) fault_numbers: u64,
    /// The first broken rule.
    pub violation: Option<Violation>,
    /// The last steps, if requested.
    pub trace: Vec<String>,
}

/// Whether faults occur in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultMode {
    Injected,
    /// One instance, one partition, no faults: every run is compared with this.
    None,
}

struct Run<'a> {
    plan: &'a Plan,
    shared: Shared,
    chance: Rng,
    enrichers: ConsumerGroup<Enriching>,
    correlators: ConsumerGroup<Correlating>,
    next_action: usize,
    /// Time of the next fault that no effect triggers.
    next_fault_ns: i64,
    fault_mode: FaultMode,
}

/// Runs a seed and checks it.
#[must_use]
pub fn run(options: Options) -> Report {
    run_without(options, &BTreeSet::new())
}

/// Runs a seed without the faults of these numbers, and checks it.
#[must_use]
pub fn run_without(options: Options, left_out: &BTreeSet<u64>) -> Report {
    let plan = Plan::draw(options.seed);
    let mut faulty = match Run::new(&plan, options, FaultMode::Injected) {
        Ok(faulty) => faulty,
        Err(violation) => return Report { violation: Some(violation), ..Report::default() },
    };
    faulty.shared.lock().left_out.clone_from(left_out);
    let result = faulty.go().and_then(|()| faulty.judge(options));
    let mut world = faulty.shared.lock();
    let mut hits = plan.hits.clone();
    for (fault, count) in std::mem::take(&mut world.hits) {
        *hits.entry(fault).or_default() += count;
    }
    let exact = plan.labels.values().filter(|label| {
        plan.clarity.get(&label.container) == Some(&Clarity::Exact) && !world.gave_up.contains(&label.container)
    });
    let outputs = Outputs::read(&world.broker).unwrap_or_default();
    Report {
        hits,
        effects: world.effects,
        execs: (plan.labels.len() as u64, exact.count() as u64),
        outputs: (outputs.findings.len() as u64, outputs.alerts.len() as u64),
        faults: std::mem::take(&mut world.faults).into_iter().map(|(at_ns, what)| (since_start(at_ns), what)).collect(),
        fault_numbers: world.fault_numbers,
        violation: result.err(),
        trace: world.trace.take().unwrap_or_default().into(),
    }
}

fn since_start(at_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(at_ns.saturating_sub(START_NS)).unwrap_or(0))
}

fn setup(partitions: i32, sessions_bytes_max: usize, sessions_per_tick: usize) -> Checked<Setup> {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let options = correlator::Options {
        session_gap: seconds(SESSION_GAP_S),
        session_cap: seconds(SESSION_CAP_S),
        retention: seconds(RETENTION_S),
        sessions_per_tick,
        sessions_bytes_max,
        ..correlator::Options::default()
    };
    Ok(Setup {
        enricher: enricher::Settings {
            park_ns: 5 * SECOND_NS,
            partitions,
            cluster: CLUSTER.to_owned(),
            trust: enricher::Trust::default(),
            versions: BTreeMap::from([("rules".to_owned(), "1".to_owned())]),
        },
        correlator: correlator::Settings::new(options, &driftline_formats::ALL)
            .map_err(|errors| Violation::new("settings", errors.to_string()))?,
    })
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, options: Options, fault_mode: FaultMode) -> Checked<Self> {
        let mut chance = Rng::new(options.seed ^ 0xdead_beef);
        let (partitions, enrichers, correlators, sessions_bytes_max, sessions_per_tick) = match fault_mode {
            // One session in a tick, so that others wait for the next, and input and faults occur in between.
            FaultMode::Injected => (plan.partitions, plan.enrichers, plan.correlators, plan.sessions_bytes_max, 1),
            FaultMode::None => (1, 1, 1, usize::MAX, correlator::limits::TICK_SESSIONS_MAX),
        };
        let mut world = World::new(Broker::new(partitions), chance.fork(1), options.mutant);
        world.now_ns = START_NS;
        let late = plan.labels.iter().filter(|(_, label)| label.early.is_some());
        world.undigested = late.map(|(event, _)| event.clone()).collect();
        world.broker.fencing = options.mutant != Some(Mutant::NoFencing);
        world.trace = (options.trace == Trace::On).then(VecDeque::new);
        world.rates = if fault_mode == FaultMode::Injected { rates(&mut chance) } else { Rates::default() };
        for number in 0..partitions {
            // Groups start at the beginning.
            let start = Committed { offset: 0, state_next: None };
            world.broker.set_offset((Topic::ExecEvents, number), start);
            world.broker.set_offset((Topic::Findings, number), start);
        }
        let shared = Shared::new(world);
        let setup = setup(partitions, sessions_bytes_max, sessions_per_tick)?;
        Ok(Self {
            plan,
            enrichers: ConsumerGroup::new(&shared, &setup, enrichers, chance.fork(2), 0),
            correlators: ConsumerGroup::new(&shared, &setup, correlators, chance.fork(3), 1_000),
            shared,
            chance,
            next_action: 0,
            next_fault_ns: START_NS + SECOND_NS,
            fault_mode,
        })
    }

    /// Runs until nothing is left to do.
    fn go(&mut self) -> Checked {
        self.until(self.plan.end_ns, TICK_NS)?;
        self.fault_mode = FaultMode::None;
        {
            let mut world = self.shared.lock();
            world.rates = Rates::default();
            world.note(|| "faults end".to_owned());
        }
        let deadline_ns = self.plan.end_ns + DRAIN_NS;
        while !self.is_settled() {
            let now_ns = self.shared.lock().now_ns;
            if now_ns > deadline_ns {
                return Err(Violation::new("everything comes to an end", "input is left that nobody takes"));
            }
            self.until(now_ns + SECOND_NS, TICK_NS)?;
        }
        self.until(deadline_ns + FINAL_NS, 6 * QUIET_TICK_NS)
    }

    fn is_settled(&self) -> bool {
        self.enrichers.is_settled() && self.correlators.is_settled()
    }

    fn until(&mut self, end_ns: i64, tick_ns: i64) -> Checked {
        loop {
            let (now_ns, broker_ns) = {
                let world = self.shared.lock();
                (world.now_ns, world.broker.due_ns())
            };
            let action_ns = self.plan.actions.get(self.next_action).map_or(i64::MAX, |(at_ns, _)| *at_ns);
            let fault_ns = if self.fault_mode == FaultMode::Injected { self.next_fault_ns } else { i64::MAX };
            let due_ns = [self.enrichers.due_ns(), self.correlators.due_ns(), broker_ns, action_ns, fault_ns];
            let next_ns = due_ns.into_iter().min().unwrap_or(i64::MAX).max(now_ns);
            if next_ns > end_ns {
                self.shared.lock().now_ns = end_ns;
                return Ok(());
            }
            self.advance(next_ns);
            self.act(next_ns);
            if fault_ns <= next_ns {
                self.fail(next_ns);
            }
            // Ticks are rare while no action is near.
            let near = action_ns < next_ns + 2 * SECOND_NS || !self.is_settled();
            let tick_ns = if near { tick_ns } else { tick_ns.max(QUIET_TICK_NS) };
            if self.chance.one_in(2) {
                self.enrichers.turn(tick_ns)?;
                self.correlators.turn(self.correlator_tick_ns(tick_ns))?;
            } else {
                self.correlators.turn(self.correlator_tick_ns(tick_ns))?;
                self.enrichers.turn(tick_ns)?;
            }
            let mut world = self.shared.lock();
            if let Some(violation) = world.broker.violations.pop().or_else(|| world.violations.pop()) {
                return Err(violation);
            }
        }
    }

    fn correlator_tick_ns(&self, tick_ns: i64) -> i64 {
        if self.shared.lock().has(Mutant::RareTicks) { tick_ns.max(RARE_TICK_NS) } else { tick_ns }
    }

    fn advance(&mut self, now_ns: i64) {
        let mut world = self.shared.lock();
        world.now_ns = now_ns;
        for _ in 0..world.broker.advance(now_ns) {
            world.hit(Fault::TransactionTimeout);
        }
    }

    /// Executes the actions of the plan that are due.
    fn act(&mut self, now_ns: i64) {
        let mut world = self.shared.lock();
        while let Some((_, action)) = self.plan.actions.get(self.next_action).filter(|(at_ns, _)| *at_ns <= now_ns) {
            self.next_action += 1;
            let timestamp_ms = now_ns / MILLISECOND_NS;
            let (topic_partition, key, value) = match action.clone() {
                Action::Event { key, value } => (world.broker.topic_partition_of(Topic::ExecEvents, &key), key, value),
                Action::Table { topic, by, key, value } => {
                    (world.broker.topic_partition_of(topic, &by), key, Some(value))
                }
                Action::BadFinding { key, value } => {
                    (world.broker.topic_partition_of(Topic::Findings, &key), key, value)
                }
            };
            let offset =
                world.broker.append(topic_partition, Data { timestamp_ms, key: Some(key), value, headers: Vec::new() });
            world.note(|| format!("{:?}/{} gets record {offset}", topic_partition.0, topic_partition.1));
        }
    }

    /// Injects a fault that no effect triggers.
    fn fail(&mut self, now_ns: i64) {
        self.next_fault_ns = now_ns + self.chance.between(200, 4_000) * MILLISECOND_NS;
        let quiet_ns = self.plan.actions.get(self.next_action).map_or(0, |(at_ns, _)| at_ns.saturating_sub(now_ns));
        if quiet_ns > 60 * SECOND_NS {
            self.next_fault_ns += quiet_ns / 4;
        }
        let drawn = self.chance.below(20);
        let what = match drawn {
            0..=7 => Fault::Rebalance.name(),
            8..=9 => Fault::CrashIdle.name(),
            10..=11 => "a clock jumps",
            12 => Fault::RetentionGap.name(),
            _ => Fault::Compaction.name(),
        };
        if !self.shared.lock().injects(what) {
            return;
        }
        match drawn {
            0..=3 => self.enrichers.rebalance(),
            4..=7 => self.correlators.rebalance(),
            8 => self.enrichers.crash(),
            9 => self.correlators.crash(),
            10 => self.enrichers.jump_clock(20 * SECOND_NS),
            11 => self.correlators.jump_clock(60 * SECOND_NS),
            12 => self.retention(),
            _ => self.compact(),
        }
    }

    fn compact(&mut self) {
        let mut world = self.shared.lock();
        let mut topic_partitions = world.broker.topic_partitions(Topic::EnricherState);
        topic_partitions.extend(world.broker.topic_partitions(Topic::CorrelatorState));
        let Some(topic_partition) = self.chance.pick(&topic_partitions) else { return };
        let until = self.chance.between(0, world.broker.high_watermark(topic_partition));
        let tombstones = if self.chance.one_in(2) { Tombstones::Kept } else { Tombstones::Dropped };
        if world.broker.compact(topic_partition, until, tombstones) > 0 {
            world.hit(Fault::Compaction);
            world.note(|| format!("{topic_partition:?} is compacted before {until}"));
        }
    }

    fn retention(&mut self) {
        let mut world = self.shared.lock();
        let topic_partitions = world.broker.topic_partitions(Topic::ExecEvents);
        let Some(topic_partition) = self.chance.pick(&topic_partitions) else { return };
        let committed = world.broker.offset(topic_partition).map_or(0, |committed| committed.offset);
        let end = world.broker.high_watermark(topic_partition);
        if committed >= end {
            return;
        }
        let begin = self.chance.between(committed + 1, end);
        world.broker.truncate(topic_partition, begin);
        world.hit(Fault::RetentionGap);
        world.note(|| format!("{topic_partition:?} begins at {begin}, committed is {committed}"));
    }

    /// Runs all checks of the end.
    fn judge(&mut self, options: Options) -> Checked {
        self.enrichers.check_state()?;
        self.correlators.check_state()?;
        let outputs = {
            let world = self.shared.lock();
            let outputs = Outputs::read(&world.broker)?;
            outputs.check()?;
            every_input_once(&world, Topic::ExecEvents)?;
            every_input_once(&world, Topic::Findings)?;
            let gone = world.accounts.get(&Topic::ExecEvents).map(|account| account.gaps.clone()).unwrap_or_default();
            let facts = RunFacts { plan: self.plan, gave_up: &world.gave_up, gone };
            oracle::check_findings(&world.broker, &outputs, &facts)?;
            let mut excused = self.plan.very_late.clone();
            excused.extend(oracle::evicted(&world, &outputs.alerts, limits()));
            oracle::check_alerts(&world.broker, &outputs, limits(), &excused)?;
            outputs
        };
        self.confluence(options, &outputs)?;
        self.forgotten()
    }

    /// Checks that the same input without faults leads to the same alerts.
    fn confluence(&self, options: Options, outputs: &Outputs) -> Checked {
        let mutant = options.mutant.filter(|mutant| mutant.is_of_pace());
        let mut reference = Run::new(self.plan, Options { mutant, trace: Trace::Off, ..options }, FaultMode::None)?;
        reference.go()?;
        let reference_world = reference.shared.lock();
        oracle::check_news(&reference_world.broker, limits(), NEWS_MAX_NS, &self.plan.very_late)?;
        let reference_outputs = Outputs::read(&reference_world.broker)?;
        let world = self.shared.lock();
        let gone = !world.accounts.get(&Topic::ExecEvents).is_none_or(|account| account.gaps.is_empty());
        let comparable = |container: &str| {
            let exact = self.plan.clarity.get(container) == Some(&Clarity::Exact);
            exact
                && !gone
                && !self.plan.very_late.contains(container)
                // The flaw of an image becomes known on other topics, at no offset of this one.
                && !self.plan.image_flaws.contains_key(container)
                && !world.gave_up.contains(container)
                && !reference_world.gave_up.contains(container)
        };
        let mut clouded: BTreeSet<String> =
            [outputs, &reference_outputs].into_iter().flat_map(|outputs| oracle::clouded(&outputs.alerts)).collect();
        clouded.extend(oracle::evicted(&world, &outputs.alerts, limits()));
        let comparable = |container: &str| comparable(container) && !clouded.contains(container);
        let ours = canonical(&outputs.alerts, &comparable);
        let theirs = canonical(&reference_outputs.alerts, &comparable);
        let ids: BTreeSet<&AlertId> = ours.keys().chain(theirs.keys()).collect();
        match ids.into_iter().find(|id| ours.get(*id) != theirs.get(*id)) {
            None => Ok(()),
            Some(id) => {
                let what = format!("alert {id}: {:?}, alone and in peace {:?}", ours.get(id), theirs.get(id));
                Err(Violation::new("confluence", what))
            }
        }
    }

    /// Checks that after a long silence no state is left.
    fn forgotten(&mut self) -> Checked {
        let now_ns = self.shared.lock().now_ns;
        self.until(now_ns + SILENCE_NS, 1_200 * SECOND_NS)?;
        let world = self.shared.lock();
        for topic in [Topic::EnricherState, Topic::CorrelatorState] {
            for topic_partition in world.broker.topic_partitions(topic) {
                let left = crate::checks::changelog(&world.broker, topic_partition);
                if let Some(key) = left.keys().find(|key| !key.starts_with("partition")) {
                    return Err(Violation::new("bounded state", format!("{topic_partition:?} retains {key} for ever")));
                }
            }
        }
        Ok(())
    }
}

fn limits() -> Limits {
    Limits { gap_ns: SESSION_GAP_S * SECOND_NS, cap_ns: SESSION_CAP_S * SECOND_NS }
}

/// Draws the rates of faults.
fn rates(chance: &mut Rng) -> Rates {
    Rates {
        crash: chance.one_of([0, 60, 200, 1_000]),
        crash_in_restore: chance.one_of([0, 25, 100]),
        abort: chance.one_of([0, 100, 300, 1_000]),
        freeze: chance.one_of([0, 150, 400, 1_000]),
        torn: chance.one_of([0, 0, 4, 12]),
        delay: chance.one_of([0, 4, 12]),
        delay_max_ns: chance.one_of([5, 40, 400]) * MILLISECOND_NS,
        markers_max_ns: chance.one_of([0, 5, 60]) * MILLISECOND_NS,
        hears_max_ns: chance.one_of([0, 30, 400, 3_000]) * MILLISECOND_NS,
    }
}

/// Invariant 1, for all processes together: every input record was settled once, or was deleted.
fn every_input_once(world: &World, input: Topic) -> Checked {
    let mut expected = 0;
    let account = world.accounts.get(&input).cloned().unwrap_or_default();
    for topic_partition in world.broker.topic_partitions(input) {
        let gone = |offset: i64| {
            account.gaps.iter().any(|gap| gap.partition == topic_partition.1 && (gap.from..gap.to).contains(&offset))
        };
        expected += world.broker.committed_records(topic_partition).filter(|(offset, _)| !gone(*offset)).count() as u64;
    }
    if account.settled == expected {
        return Ok(());
    }
    let what = format!("{input:?}: {} settled of {expected} records", account.settled);
    Err(Violation::new("conservation of all", what))
}

/// The fields of each alert that must not depend on the process that emits it, nor on the time.
fn canonical(alerts: &[Alert], comparable: &impl Fn(&str) -> bool) -> BTreeMap<AlertId, Alert> {
    let of_comparable =
        |alert: &&Alert| alert.container.as_ref().is_some_and(|container| comparable(container.id.as_str()));
    let canonical = |alert: &Alert| Alert { revision: 0, emitted_ns: 0, ..alert.clone() };
    alerts.iter().filter(of_comparable).map(|alert| (alert.alert_id.clone(), canonical(alert))).collect()
}
