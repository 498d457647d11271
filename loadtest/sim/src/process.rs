//! One process of an instance: the executor, and the loop around it as in `service/src/service`, without waiting.
//!
//! The current step of the executor is a future that owns it. It is polled in virtual time; dropping it is a crash, not
//! polling it is a hang.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use driftline_service_core::{Counts, Executor, Pending, Record, Stage, Stop};

use crate::broker::Data;
use crate::checks;
use crate::clock::SteadyClock;
use crate::fault::Fault;
use crate::log::{FencedOff, SimLog};
use crate::mutant::Mutant;
use crate::planted;
use crate::rng::Rng;
use crate::service::{Service, Shell};
use crate::violation::{Checked, Violation};
use crate::watch::Watched;
use crate::world::{MILLISECOND_NS, ProcessId, Shared, World};

const COMMIT_WITH_OUTPUT_NS: i64 = 20 * MILLISECOND_NS;
const COMMIT_IDLE_NS: i64 = 100 * MILLISECOND_NS;
/// Events that wait while the service is busy.
const QUEUE_MAX: usize = 6;
/// One in this many commits is compared with the state, which costs as much as encoding all of it.
const STATE_CHECKED_IN: u64 = 6;

pub(crate) type SimExecutor<V> = Executor<Watched<<V as Service>::Core>, SimLog>;
type Outcome<V> = (SimExecutor<V>, Result<Option<Counts>, Stop<FencedOff>>);
type Input<V> = <<V as Service>::Core as Stage>::Input;

/// The events of the reader.
#[derive(Debug)]
pub(crate) enum Event {
    Batch(Vec<Record>),
    /// Newly assigned partitions, perhaps none, and the group's generation.
    Assigned(Vec<i32>, u64),
    Resumed(Vec<i32>),
    /// Revoked partitions, the number of the membership that they belong to, and the group's generation.
    Revoked(Vec<i32>, u64, u64),
    /// Partitions that the group gave to other members; the number of the new membership.
    Lost(Vec<i32>, u64),
    /// Another process with this name is a member now.
    Replaced,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Commit,
    Input,
    Assign,
    Revoke(Vec<i32>, u64),
}

enum Engine<V: Service> {
    Idle(Box<SimExecutor<V>>),
    Busy(Doing, Pin<Box<dyn Future<Output = Outcome<V>>>>),
    Gone,
}

/// Whether the reading thread can continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    On,
    OutOfRange,
}

/// The state of a process after a turn.
#[derive(Debug)]
pub(crate) enum Health {
    Alive,
    Crashed,
    /// It ended by itself, which is allowed.
    Stopped(String),
}

/// The process; see the module.
pub(crate) struct Process<V: Service> {
    pub(crate) id: ProcessId,
    pub(crate) slot: usize,
    /// When the group or a successor reacts to its hanging.
    pub(crate) noticed_ns: Option<i64>,
    /// Partitions that the group took away while the process hung, which it does not know yet.
    pub(crate) lost: Option<Vec<i32>>,
    /// Another process has its name.
    pub(crate) replaced: bool,
    /// How far its node's clock is ahead.
    pub(crate) ahead_ns: i64,
    /// Partitions that it has finished with.
    pub(crate) handed_back: Vec<i32>,
    pub(crate) queue: VecDeque<Event>,
    /// Decisions of the group, and the time at which the client receives each.
    coming: VecDeque<(i64, Event)>,
    pub(crate) positions: BTreeMap<i32, i64>,
    engine: Engine<V>,
    shell: V::Shell,
    batch: VecDeque<Record>,
    clock: SteadyClock,
    next_tick_ns: i64,
    last_commit_ns: i64,
    counts: Counts,
    chance: Rng,
}

impl<V: Service> Process<V> {
    pub(crate) fn new(id: ProcessId, slot: usize, executor: SimExecutor<V>, shell: V::Shell, chance: Rng) -> Self {
        Self {
            id,
            slot,
            noticed_ns: None,
            lost: None,
            replaced: false,
            ahead_ns: 0,
            handed_back: Vec::new(),
            queue: VecDeque::new(),
            coming: VecDeque::new(),
            positions: BTreeMap::new(),
            engine: Engine::Idle(Box::new(executor)),
            shell,
            batch: VecDeque::new(),
            clock: SteadyClock::default(),
            next_tick_ns: 0,
            last_commit_ns: 0,
            counts: Counts::default(),
            chance,
        }
    }

    /// The executor, between two inputs.
    pub(crate) fn executor(&self) -> Option<&SimExecutor<V>> {
        match &self.engine {
            Engine::Idle(executor) => Some(executor),
            _ => None,
        }
    }

    /// Whether it waits only for time and input.
    pub(crate) fn is_settled(&self) -> bool {
        let idle = self.executor().is_some_and(|executor| executor.pending() == Pending::Nothing);
        idle && self.queue.is_empty() && self.coming.is_empty() && self.batch.is_empty()
    }

    /// Announces a decision of the group. The client receives it at this time, but not before earlier decisions.
    pub(crate) fn announce(&mut self, at_ns: i64, event: Event) {
        let before_ns = self.coming.back().map_or(i64::MIN, |(at_ns, _)| *at_ns);
        self.coming.push_back((at_ns.max(before_ns), event));
    }

    /// Delivers the decisions up to this time to the client.
    fn hear(&mut self, until_ns: i64) {
        let due = self.coming.partition_point(|(at_ns, _)| *at_ns <= until_ns);
        self.queue.extend(self.coming.drain(..due).map(|(_, event)| event));
    }

    /// The next time at which the process has work.
    pub(crate) fn due_ns(&self, world: &World) -> i64 {
        let wire = world.wires.get(&self.id);
        let now_ns = world.now_ns;
        match &self.engine {
            Engine::Gone => i64::MAX,
            Engine::Busy(..) => wire.map_or(now_ns, |wire| wire.wake_ns),
            Engine::Idle(executor) => {
                let resumes = wire.is_some_and(|wire| !wire.resumes.is_empty());
                if resumes || !self.batch.is_empty() || !self.queue.is_empty() || self.can_fetch(world) {
                    return now_ns;
                }
                let commit_ns = match executor.pending() {
                    Pending::Nothing => i64::MAX,
                    Pending::Progress => self.last_commit_ns.saturating_add(COMMIT_IDLE_NS),
                    Pending::Output => self.last_commit_ns.saturating_add(COMMIT_WITH_OUTPUT_NS),
                };
                let hears_ns = self.coming.front().map_or(i64::MAX, |(at_ns, _)| *at_ns);
                commit_ns.min(hears_ns).min(self.next_tick_ns).min(self.shell.due_ns(world))
            }
        }
    }

    fn can_fetch(&self, world: &World) -> bool {
        self.positions.iter().any(|(partition, next)| *next < world.broker.last_stable((V::INPUT, *partition)))
    }

    /// Does everything that is due.
    pub(crate) fn turn(&mut self, shared: &Shared, tick_ns: i64) -> Checked<Health> {
        loop {
            if self.read(&mut shared.lock()) == Reading::OutOfRange {
                self.engine = Engine::Gone;
                return Ok(Health::Stopped("what it would read next is gone".to_owned()));
            }
            if let Engine::Busy(..) = self.engine {
                let (now_ns, wake_ns) = {
                    let mut world = shared.lock();
                    (world.now_ns, world.wire(self.id).wake_ns)
                };
                if wake_ns > now_ns {
                    return Ok(Health::Alive);
                }
                match self.poll(shared)? {
                    Some(Health::Alive) => {}
                    Some(ended) => return Ok(ended),
                    None => return Ok(Health::Alive),
                }
            } else if let Some(ended) = self.begin(shared, tick_ns) {
                return Ok(ended);
            }
        }
    }

    /// Continues the current step; `None` when it waits.
    fn poll(&mut self, shared: &Shared) -> Checked<Option<Health>> {
        let Engine::Busy(doing, future) = &mut self.engine else { return Ok(None) };
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready((executor, result)) = polled else {
            if !shared.lock().wire(self.id).crashed {
                return Ok(None);
            }
            self.engine = Engine::Gone;
            return Ok(Some(Health::Crashed));
        };
        let doing = doing.clone();
        self.engine = Engine::Idle(Box::new(executor));
        match result {
            Ok(counts) => self.done(&doing, counts, shared).map(|()| Some(Health::Alive)),
            Err(stop) => self.stopped(&stop, shared).map(Some),
        }
    }

    fn done(&mut self, doing: &Doing, counts: Option<Counts>, shared: &Shared) -> Checked {
        let mut world = shared.lock();
        if world.wire(self.id).torn {
            return Err(Violation::new("a torn restore is refused", format!("process {} went on", self.id)));
        }
        for command in self.take_commands() {
            self.shell.command(command, &world);
        }
        if let Some(counts) = counts {
            self.last_commit_ns = world.now_ns;
            let clean = counts.aborts.is_empty();
            self.counts.add(counts);
            checks::conservation(self.id, &self.counts)?;
            if clean && *doing == Doing::Commit && self.chance.one_in(STATE_CHECKED_IN) {
                self.check_state(&world)?;
            }
        }
        // A revocation must be answered to the membership that requested it. A member that hung, lost everything and
        // joined again may still have an old revocation in its queue. It hands over none of the partitions assigned
        // since, just as a client that blocks in its rebalance callback joins again only when the callback has
        // returned.
        let joined = world.groups.get(&V::INPUT).and_then(|group| group.incarnation(self.id));
        if let Doing::Revoke(partitions, asked) = doing
            && joined == Some(*asked)
        {
            self.handed_back.extend(partitions);
        }
        Ok(())
    }

    /// Checks that a restore would give the present state.
    pub(crate) fn check_state(&self, world: &World) -> Checked {
        let Some(executor) = self.executor() else { return Ok(()) };
        if executor.pending() != Pending::Nothing {
            return Ok(());
        }
        // Partitions taken away while it hung belong to another member.
        let ours = |partition: &i32| executor.position(*partition).is_some() && self.positions.contains_key(partition);
        for partition in executor.partitions().filter(ours) {
            checks::changelog_is_state(executor.stage().core(), &world.broker, (V::ROLES.state, partition))?;
        }
        Ok(())
    }

    fn take_commands(&mut self) -> Vec<<V::Core as Stage>::Command> {
        match &mut self.engine {
            Engine::Idle(executor) => executor.take_commands(),
            _ => Vec::new(),
        }
    }

    fn stopped(&mut self, stop: &Stop<FencedOff>, shared: &Shared) -> Checked<Health> {
        self.engine = Engine::Gone;
        let mut world = shared.lock();
        let member = world.groups.get(&V::INPUT).and_then(|group| group.incarnation(self.id));
        let wire = world.wire(self.id);
        match stop {
            Stop::Log(FencedOff) => {}
            // It hung during the takeover of partitions that have long belonged to another member: the changelog may
            // have been compacted past the mark of the restore. Or its commits are refused repeatedly before it
            // receives the event that ends its membership.
            Stop::Broken(_) | Stop::Aborting(_) if member != Some(wire.incarnation) => {}
            Stop::StateLost { .. } if wire.torn => {}
            Stop::Aborting(_) if wire.aborts > 0 => {}
            Stop::Broken(_) | Stop::StateLost { .. } | Stop::Aborting(_) => {
                return Err(Violation::new("no contradiction in own state", format!("process {}: {stop}", self.id)));
            }
        }
        Ok(Health::Stopped(stop.to_string()))
    }

    /// Starts a due step. Returns a health when the process ends, or when nothing is due.
    fn begin(&mut self, shared: &Shared, tick_ns: i64) -> Option<Health> {
        let now_ns = {
            let world = shared.lock();
            if self.due_ns(&world) > world.now_ns {
                return Some(Health::Alive);
            }
            world.now_ns
        };
        let steady_ns = self.clock.now_ns(now_ns, self.ahead_ns);
        if let Some(record) = self.batch.pop_front() {
            // Sometimes commits early, as if a transaction were full.
            if self.chance.one_in(12) {
                self.batch.push_front(record);
                self.commit(steady_ns);
                return None;
            }
            let mut world = shared.lock();
            if world.wire(self.id).waits {
                world.hit(Fault::OutdatedInput);
            }
            drop(world);
            self.busy(Doing::Input, move |mut executor| async move {
                let result = executor.record(steady_ns, &record).await;
                (executor, result.map(|_| None))
            });
            return None;
        }
        if self.commit_is_due(now_ns) {
            self.commit(steady_ns);
        } else if self.next_tick_ns <= now_ns {
            self.next_tick_ns = now_ns.saturating_add(tick_ns);
            self.input(steady_ns, V::tick());
        } else if let Some(input) = { self.shell.next(&shared.lock()) } {
            self.input(steady_ns, input);
        } else if let Some(event) = self.queue.pop_front() {
            return self.take(steady_ns, event, &mut shared.lock());
        }
        None
    }

    fn commit_is_due(&self, now_ns: i64) -> bool {
        let since_ns = now_ns.saturating_sub(self.last_commit_ns);
        self.executor().is_some_and(|executor| match executor.pending() {
            Pending::Nothing => false,
            Pending::Progress => since_ns >= COMMIT_IDLE_NS,
            Pending::Output => since_ns >= COMMIT_WITH_OUTPUT_NS,
        })
    }

    fn take(&mut self, steady_ns: i64, event: Event, world: &mut World) -> Option<Health> {
        let id = self.id;
        match event {
            Event::Batch(records) => self.batch = records.into(),
            Event::Resumed(partitions) => {
                if let Engine::Idle(executor) = &mut self.engine {
                    executor.resumed(&partitions);
                }
            }
            Event::Assigned(partitions, generation) => {
                world.note(|| format!("process {id} is assigned {partitions:?} in generation {generation}"));
                world.wire(id).generation = generation;
                self.busy(Doing::Assign, move |mut executor| async move {
                    let result = executor.assign(steady_ns, &partitions).await;
                    (executor, result.map(|()| None))
                });
            }
            Event::Revoked(partitions, asked, generation) => {
                world.note(|| format!("process {id} hands over {partitions:?} in generation {generation}"));
                world.wire(id).generation = generation;
                if world.wire(id).waits {
                    world.hit(Fault::OutdatedRevoked);
                }
                self.busy(Doing::Revoke(partitions.clone(), asked), move |mut executor| async move {
                    let result = executor.revoke(steady_ns, &partitions).await;
                    (executor, result.map(Some))
                });
            }
            Event::Lost(partitions, incarnation) => {
                world.note(|| format!("process {id} lost {partitions:?}"));
                world.wire(id).incarnation = incarnation;
                if world.wire(id).waits {
                    world.hit(Fault::OutdatedLost);
                }
                self.busy(Doing::Input, move |mut executor| async move {
                    let result = executor.lose(steady_ns, &partitions).await;
                    (executor, result.map(|()| None))
                });
            }
            Event::Replaced => {
                self.engine = Engine::Gone;
                return Some(Health::Stopped("replaced by another process of its name".to_owned()));
            }
        }
        None
    }

    fn commit(&mut self, steady_ns: i64) {
        self.busy(Doing::Commit, move |mut executor| async move {
            let result = executor.commit(steady_ns).await;
            (executor, result.map(Some))
        });
    }

    fn input(&mut self, steady_ns: i64, input: Input<V>) {
        self.busy(Doing::Input, move |mut executor| async move {
            let result = executor.input(steady_ns, input).await;
            (executor, result.map(|()| None))
        });
    }

    fn busy<F: Future<Output = Outcome<V>> + 'static>(&mut self, doing: Doing, work: impl FnOnce(SimExecutor<V>) -> F) {
        match std::mem::replace(&mut self.engine, Engine::Gone) {
            Engine::Idle(executor) => self.engine = Engine::Busy(doing, Box::pin(work(*executor))),
            other => self.engine = other,
        }
    }

    /// The reading thread: first positions that were set, then records.
    fn read(&mut self, world: &mut World) -> Reading {
        if world.wire(self.id).frozen_until_ns.is_some() {
            return Reading::On;
        }
        self.hear(world.now_ns);
        while let Some(from) = world.wire(self.id).resumes.pop_front() {
            let assigned: Vec<i32> =
                from.keys().copied().filter(|partition| self.positions.contains_key(partition)).collect();
            self.positions.extend(from.into_iter().filter(|(partition, _)| assigned.contains(partition)));
            if world.has(Mutant::EndAtAssignment) && self.chance.one_in(4) {
                let end = |partition: &i32| (*partition, world.broker.last_stable((V::INPUT, *partition)));
                self.positions.extend(assigned.iter().map(end));
            }
            self.queue.push_back(Event::Resumed(assigned));
        }
        let is_gone = |(partition, next): (&i32, &i64)| *next < world.broker.begin((V::INPUT, *partition));
        if self.positions.iter().any(is_gone) && !world.has(Mutant::SilentOffsetReset) {
            return Reading::OutOfRange;
        }
        if self.queue.len() >= QUEUE_MAX || !self.can_fetch(world) {
            return Reading::On;
        }
        let mut records = Vec::new();
        for (partition, next) in &mut self.positions {
            let topic_partition = (V::INPUT, *partition);
            if *next == i64::MAX {
                continue;
            }
            let max = usize::try_from(self.chance.between(1, 24)).unwrap_or(1);
            let fetched = world.broker.fetch(topic_partition, *next, max);
            *next = fetched.next;
            records.extend(
                fetched
                    .records
                    .into_iter()
                    .map(|(offset, data)| planted::record_read(world, record(topic_partition, offset, data))),
            );
        }
        if !records.is_empty() {
            self.queue.push_back(Event::Batch(records));
        }
        Reading::On
    }
}

fn record(topic_partition: crate::broker::TopicPartition, offset: i64, data: &Data) -> Record {
    Record {
        topic: topic_partition.0,
        partition: topic_partition.1,
        offset,
        timestamp_ms: data.timestamp_ms,
        key: data.key.clone(),
        value: data.value.clone(),
        headers: data.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    }
}
