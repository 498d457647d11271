//! All instances of a service, and the consumer group that assigns the input to them.

use std::collections::BTreeMap;

use driftline_service_core::Executor;

use crate::fault::Fault;
use crate::log::SimLog;
use crate::planted;
use crate::process::{Event, Health, Process};
use crate::rng::Rng;
use crate::service::{Service, Setup, Shell};
use crate::violation::Checked;
use crate::watch::Watched;
use crate::world::{MILLISECOND_NS, ProcessId, SECOND_NS, Shared};

/// How far a node's clock may be behind. Retention is measured by the clock of the process that retains something, so
/// clocks must not differ by more than the shortest retention, the ten minutes of an ended container.
const BEHIND_MAX_NS: i64 = 300 * SECOND_NS;

/// The owner of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Process(ProcessId),
    /// Waits until the first process has finished with it.
    Moving(ProcessId, ProcessId),
}

/// The effect of a rebalance on a member.
#[derive(Debug)]
enum Change {
    Given(Vec<i32>),
    /// A partition that is revoked, and the number of the membership from which it is revoked.
    Taken(i32, u64),
}

/// Whether a process that may have hung has joined the group again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    AsBefore,
    JoinedAnew,
}

/// An instance: its name and node stay when a process ends.
#[derive(Debug)]
struct Slot {
    name: String,
    ahead_ns: i64,
    /// Start time of the next process; never while one runs.
    start_ns: i64,
}

/// The instances and the group; see the module.
pub(crate) struct ConsumerGroup<V: Service> {
    shared: Shared,
    setup: Setup,
    slots: Vec<Slot>,
    processes: Vec<Process<V>>,
    holders: BTreeMap<i32, Holder>,
    chance: Rng,
    started: ProcessId,
}

impl<V: Service> ConsumerGroup<V> {
    pub(crate) fn new(
        shared: &Shared,
        setup: &Setup,
        instances: usize,
        mut chance: Rng,
        first_process: ProcessId,
    ) -> Self {
        let count = shared.lock().broker.partition_count();
        let slot = |number| Slot { name: format!("{}-{number}", V::ROLES.service), ahead_ns: 0, start_ns: 0 };
        Self {
            shared: shared.clone(),
            setup: setup.clone(),
            slots: (0..instances).map(slot).collect(),
            processes: Vec::new(),
            holders: (0..count).map(|partition| (partition, Holder::Nobody)).collect(),
            chance: chance.fork(1),
            started: first_process,
        }
    }

    /// The next time at which something is due.
    pub(crate) fn due_ns(&self) -> i64 {
        let world = self.shared.lock();
        let processes =
            self.processes.iter().map(|process| process.noticed_ns.unwrap_or(i64::MAX).min(process.due_ns(&world)));
        processes.chain(self.slots.iter().map(|slot| slot.start_ns)).min().unwrap_or(i64::MAX)
    }

    /// Every process does what is due, in a random order.
    pub(crate) fn turn(&mut self, tick_ns: i64) -> Checked {
        self.start_due();
        self.notice_hangs();
        let mut ids: Vec<ProcessId> = self.processes.iter().map(|process| process.id).collect();
        while let Some(id) = self.chance.pick(&ids) {
            ids.retain(|other| *other != id);
            self.turn_of(id, tick_ns)?;
        }
        Ok(())
    }

    fn turn_of(&mut self, id: ProcessId, tick_ns: i64) -> Checked {
        let shared = self.shared.clone();
        let Some(process) = self.processes.iter_mut().find(|process| process.id == id) else { return Ok(()) };
        if wake(process, &shared, V::INPUT) == Woken::JoinedAnew {
            self.shared_out(BTreeMap::new());
        }
        let Some(process) = self.processes.iter_mut().find(|process| process.id == id) else { return Ok(()) };
        let health = process.turn(&shared, tick_ns)?;
        let handed_back = std::mem::take(&mut process.handed_back);
        for partition in handed_back {
            self.handed_back(id, partition);
        }
        match health {
            Health::Alive => {}
            Health::Crashed => self.bury(id, "crashed"),
            Health::Stopped(why) => self.bury(id, &why),
        }
        Ok(())
    }

    fn start_due(&mut self) {
        let now_ns = self.shared.lock().now_ns;
        for slot in 0..self.slots.len() {
            if self.slots.get(slot).is_some_and(|slot| slot.start_ns <= now_ns) {
                self.start(slot);
            }
        }
    }

    fn start(&mut self, number: usize) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        slot.start_ns = i64::MAX;
        self.started += 1;
        let id = self.started;
        let mut world = self.shared.lock();
        let epoch = world.broker.init(&slot.name);
        let incarnation = world.groups.entry(V::INPUT).or_default().join(id);
        world.wire(id).incarnation = incarnation;
        let name = slot.name.clone();
        world.note(|| format!("process {id} of {name} starts"));
        let shell = V::Shell::start(&world, self.chance.fork(2));
        drop(world);
        let log = SimLog {
            world: self.shared.clone(),
            process: id,
            id: slot.name.clone(),
            epoch,
            input: V::INPUT,
            state: V::ROLES.state,
            refused: false,
            outputs: planted::Outputs::default(),
        };
        let stage = Watched::new(V::core(&self.setup), self.shared.clone(), id);
        let mut process = Process::new(id, number, Executor::new(V::ROLES, stage, log), shell, self.chance.fork(3));
        process.ahead_ns = slot.ahead_ns;
        self.processes.push(process);
        self.share_out();
    }

    /// Assigns partitions without an owner. The group has a new generation, even if there are no such partitions.
    fn share_out(&mut self) {
        let free: Vec<i32> = self
            .holders
            .iter()
            .filter(|(_, holder)| **holder == Holder::Nobody)
            .map(|(partition, _)| *partition)
            .collect();
        let mut given: BTreeMap<ProcessId, Vec<i32>> = BTreeMap::new();
        for partition in free {
            if let Some(id) = self.somebody(None) {
                given.entry(id).or_default().push(partition);
            }
        }
        self.shared_out(given.into_iter().map(|(id, partitions)| (id, Change::Given(partitions))).collect());
    }

    /// Announces a rebalance. Every member receives its event after a delay of its own, including members for which
    /// nothing changes.
    fn shared_out(&mut self, mut changes: BTreeMap<ProcessId, Change>) {
        let mut world = self.shared.lock();
        let generation = world.groups.entry(V::INPUT).or_default().share_out();
        let (now_ns, late_ns) = (world.now_ns, world.rates.hears_max_ns);
        let members = world.groups.entry(V::INPUT).or_default();
        for process in self.processes.iter_mut().filter(|process| members.incarnation(process.id).is_some()) {
            let event = match changes.remove(&process.id).unwrap_or(Change::Given(Vec::new())) {
                Change::Given(partitions) => {
                    for partition in &partitions {
                        // The partition is paused until its position is set.
                        process.positions.insert(*partition, i64::MAX);
                        self.holders.insert(*partition, Holder::Process(process.id));
                    }
                    Event::Assigned(partitions, generation)
                }
                Change::Taken(partition, joined) => Event::Revoked(vec![partition], joined, generation),
            };
            let at_ns = now_ns.saturating_add(self.chance.between(0, late_ns));
            process.announce(at_ns, event);
        }
    }

    /// A member that can take a partition.
    fn somebody(&mut self, but: Option<ProcessId>) -> Option<ProcessId> {
        let able: Vec<ProcessId> = {
            let mut world = self.shared.lock();
            let processes = self
                .processes
                .iter()
                .filter(|process| Some(process.id) != but && !process.replaced && process.lost.is_none());
            processes.map(|process| process.id).filter(|id| world.wire(*id).frozen_until_ns.is_none()).collect()
        };
        self.chance.pick(&able)
    }

    fn handed_back(&mut self, from: ProcessId, partition: i32) {
        let Some(Holder::Moving(holder, to)) = self.holders.get(&partition).copied() else { return };
        if holder != from {
            return;
        }
        self.holders.insert(partition, Holder::Nobody);
        if let Some(process) = self.processes.iter_mut().find(|process| process.id == from) {
            process.positions.remove(&partition);
        }
        if self.processes.iter().any(|process| process.id == to && !process.replaced && process.lost.is_none()) {
            self.shared_out(BTreeMap::from([(to, Change::Given(vec![partition]))]));
        } else {
            self.share_out();
        }
    }

    /// Removes a process from the group; returns the partitions that it owned.
    fn expel(&mut self, id: ProcessId) -> Vec<i32> {
        self.shared.lock().groups.entry(V::INPUT).or_default().leave(id);
        let mut had = Vec::new();
        for (partition, holder) in &mut self.holders {
            match *holder {
                Holder::Process(of) if of == id => *holder = Holder::Nobody,
                Holder::Moving(of, _) if of == id => *holder = Holder::Nobody,
                _ => continue,
            }
            had.push(*partition);
        }
        had
    }

    fn bury(&mut self, id: ProcessId, why: &str) {
        let Some(at) = self.processes.iter().position(|process| process.id == id) else { return };
        let process = self.processes.swap_remove(at);
        let mut world = self.shared.lock();
        world.note(|| format!("process {id} ended: {why}"));
        if world.wire(id).waits {
            world.hit(Fault::OutdatedCrash);
        }
        let now_ns = world.now_ns;
        drop(world);
        if !process.replaced
            && let Some(slot) = self.slots.get_mut(process.slot)
        {
            slot.start_ns = now_ns.saturating_add(self.chance.between(0, 3 * SECOND_NS));
        }
        self.expel(id);
        // Either the group notices and others take over, or the next process starts before that.
        if self.chance.one_in(2) {
            self.share_out();
        }
    }

    /// Decides the consequence for processes that hang, and executes it when it is due.
    fn notice_hangs(&mut self) {
        let now_ns = self.shared.lock().now_ns;
        let mut due = Vec::new();
        for process in &mut self.processes {
            let frozen = self.shared.lock().wire(process.id).frozen_until_ns;
            if frozen.is_some_and(|until_ns| until_ns > now_ns)
                && process.noticed_ns.is_none()
                && process.lost.is_none()
            {
                process.noticed_ns = Some(now_ns.saturating_add(self.chance.between(0, 4 * SECOND_NS)));
            }
            if process.noticed_ns.is_some_and(|at_ns| at_ns <= now_ns) {
                process.noticed_ns = Some(i64::MAX);
                if frozen.is_some_and(|until_ns| until_ns > now_ns) && !process.replaced {
                    due.push((process.id, process.slot));
                }
            }
            if frozen.is_none() {
                process.noticed_ns = None;
            }
        }
        for (id, slot) in due {
            match self.chance.below(3) {
                0 => self.move_away(id),
                1 => self.replace(id, slot),
                _ => {}
            }
        }
    }

    /// The session times out: other members get its partitions.
    fn move_away(&mut self, id: ProcessId) {
        if self.somebody(Some(id)).is_none() {
            return;
        }
        self.shared.lock().hit(Fault::FreezeMoved);
        let had = self.expel(id);
        if let Some(process) = self.processes.iter_mut().find(|process| process.id == id) {
            process.positions.clear();
            process.lost = Some(had);
        }
        self.share_out();
    }

    /// A successor with the same name starts.
    fn replace(&mut self, id: ProcessId, slot: usize) {
        self.shared.lock().hit(Fault::FreezeReplaced);
        self.expel(id);
        if let Some(process) = self.processes.iter_mut().find(|process| process.id == id) {
            process.positions.clear();
            process.replaced = true;
        }
        self.start(slot);
    }

    /// Moves a partition from one member to another.
    pub(crate) fn rebalance(&mut self) {
        let held: Vec<(i32, ProcessId)> = self
            .holders
            .iter()
            .filter_map(|(partition, holder)| match holder {
                Holder::Process(id) => Some((*partition, *id)),
                _ => None,
            })
            .collect();
        let Some((partition, from)) = self.chance.pick(&held) else { return };
        let Some(to) = self.somebody(Some(from)) else { return };
        let joined = self.shared.lock().groups.get(&V::INPUT).and_then(|group| group.incarnation(from));
        let Some(joined) = joined else { return };
        self.holders.insert(partition, Holder::Moving(from, to));
        {
            let mut world = self.shared.lock();
            world.hit(Fault::Rebalance);
            world.note(|| format!("partition {partition} goes from process {from} to {to}"));
        }
        self.shared_out(BTreeMap::from([(from, Change::Taken(partition, joined))]));
    }

    /// Kills a process between two inputs.
    pub(crate) fn crash(&mut self) {
        let idle: Vec<ProcessId> =
            self.processes.iter().filter(|process| process.executor().is_some()).map(|process| process.id).collect();
        if let Some(id) = self.chance.pick(&idle) {
            self.shared.lock().hit(Fault::CrashIdle);
            self.bury(id, "killed");
        }
    }

    /// Makes the wall clock of a node jump.
    pub(crate) fn jump_clock(&mut self, forward_max_ns: i64) {
        let (fault, by_ns) = match self.chance.below(2) {
            0 => (Fault::ClockForward, self.chance.between(100 * MILLISECOND_NS, forward_max_ns)),
            _ => (Fault::ClockBack, -self.chance.between(100 * MILLISECOND_NS, BEHIND_MAX_NS)),
        };
        let at = usize::try_from(self.chance.below(self.slots.len() as u64)).unwrap_or(0);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.ahead_ns = slot.ahead_ns.saturating_add(by_ns).clamp(-BEHIND_MAX_NS, forward_max_ns);
            let ahead_ns = slot.ahead_ns;
            self.processes
                .iter_mut()
                .filter(|process| process.slot == at)
                .for_each(|process| process.ahead_ns = ahead_ns);
            self.shared.lock().hit(fault);
        }
    }

    /// Whether every input has been processed.
    pub(crate) fn is_settled(&self) -> bool {
        let held = self.holders.values().all(|holder| matches!(holder, Holder::Process(_)));
        let world = self.shared.lock();
        let read = self.holders.keys().all(|partition| {
            let topic_partition = (V::INPUT, *partition);
            let reached = world.broker.offset(topic_partition).map_or(0, |committed| committed.offset);
            world.broker.committed_records(topic_partition).last().is_none_or(|(offset, _)| offset < reached)
        });
        held && read && self.processes.iter().all(Process::is_settled)
    }

    /// Checks for every process that its state equals the changelog.
    pub(crate) fn check_state(&self) -> Checked {
        let world = self.shared.lock();
        self.processes.iter().try_for_each(|process| process.check_state(&world))
    }
}

/// Gives a process that hung the events that it missed.
fn wake<V: Service>(process: &mut Process<V>, shared: &Shared, input: driftline_schemas::topics::Topic) -> Woken {
    let mut world = shared.lock();
    let now_ns = world.now_ns;
    let frozen = world.wire(process.id).frozen_until_ns.is_some_and(|until_ns| until_ns > now_ns);
    if frozen {
        return Woken::AsBefore;
    }
    if process.replaced && !process.queue.iter().any(|event| matches!(event, Event::Replaced)) {
        process.queue.push_back(Event::Replaced);
    }
    let Some(lost) = process.lost.take() else { return Woken::AsBefore };
    // The reading thread joins again at once; the service gets the event later, after all earlier events.
    let incarnation = world.groups.entry(input).or_default().join(process.id);
    let late_ns = world.rates.hears_max_ns;
    let at_ns = now_ns.saturating_add(world.chance.between(0, late_ns));
    process.announce(at_ns, Event::Lost(lost, incarnation));
    Woken::JoinedAnew
}
