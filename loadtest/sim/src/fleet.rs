//! All instances of a service, and the group that shares the input out among them.

use std::collections::BTreeMap;

use driftline_service_core::Executor;

use crate::fault::Fault;
use crate::life::{Event, Health, Life};
use crate::log::SimLog;
use crate::rng::Rng;
use crate::service::{Service, Setup, Shell};
use crate::violation::Checked;
use crate::watch::Watched;
use crate::world::{LifeId, MILLISECOND_NS, SECOND_NS, Shared};

/// How far a node's clock may be behind. How long something is remembered is counted by the clock of whoever has it, so
/// clocks must not differ by more than the shortest such time, the ten minutes of an ended container.
const BEHIND_MAX_NS: i64 = 300 * SECOND_NS;

/// Who has a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Life(LifeId),
    /// Waits until the first has finished with it.
    Moving(LifeId, LifeId),
}

/// What a sharing changes for a member.
#[derive(Debug)]
enum Change {
    Given(Vec<i32>),
    /// A partition that goes elsewhere, and the number of the member's joining.
    Taken(i32, u64),
}

/// Whether a life that may have hung has joined the group anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    AsBefore,
    JoinedAnew,
}

/// An instance's place: its name and node stay when a life ends.
#[derive(Debug)]
struct Slot {
    name: String,
    ahead_ns: i64,
    /// When the next life starts; never while one lives.
    start_ns: i64,
}

/// See the module.
pub(crate) struct Fleet<V: Service> {
    shared: Shared,
    setup: Setup,
    slots: Vec<Slot>,
    lives: Vec<Life<V>>,
    holders: BTreeMap<i32, Holder>,
    chance: Rng,
    started: LifeId,
}

impl<V: Service> Fleet<V> {
    pub(crate) fn new(shared: &Shared, setup: &Setup, instances: usize, mut chance: Rng, first_life: LifeId) -> Self {
        let count = shared.lock().broker.partition_count();
        let slot = |number| Slot { name: format!("{}-{number}", V::ROLES.service), ahead_ns: 0, start_ns: 0 };
        Self {
            shared: shared.clone(),
            setup: setup.clone(),
            slots: (0..instances).map(slot).collect(),
            lives: Vec::new(),
            holders: (0..count).map(|partition| (partition, Holder::Nobody)).collect(),
            chance: chance.fork(1),
            started: first_life,
        }
    }

    /// When something is due next.
    pub(crate) fn due_ns(&self) -> i64 {
        let world = self.shared.lock();
        let lives = self.lives.iter().map(|life| life.noticed_ns.unwrap_or(i64::MAX).min(life.due_ns(&world)));
        lives.chain(self.slots.iter().map(|slot| slot.start_ns)).min().unwrap_or(i64::MAX)
    }

    /// Everybody does what is due, in a random order.
    pub(crate) fn turn(&mut self, tick_ns: i64) -> Checked {
        self.start_due();
        self.notice_hangs();
        let mut ids: Vec<LifeId> = self.lives.iter().map(|life| life.id).collect();
        while let Some(id) = self.chance.pick(&ids) {
            ids.retain(|other| *other != id);
            self.turn_of(id, tick_ns)?;
        }
        Ok(())
    }

    fn turn_of(&mut self, id: LifeId, tick_ns: i64) -> Checked {
        let shared = self.shared.clone();
        let Some(life) = self.lives.iter_mut().find(|life| life.id == id) else { return Ok(()) };
        if wake(life, &shared, V::INPUT) == Woken::JoinedAnew {
            self.shared_out(BTreeMap::new());
        }
        let Some(life) = self.lives.iter_mut().find(|life| life.id == id) else { return Ok(()) };
        let health = life.turn(&shared, tick_ns)?;
        let handed_back = std::mem::take(&mut life.handed_back);
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
        world.note(|| format!("life {id} of {name} starts"));
        let shell = V::Shell::start(&world, self.chance.fork(2));
        drop(world);
        let log = SimLog {
            world: self.shared.clone(),
            life: id,
            id: slot.name.clone(),
            epoch,
            input: V::INPUT,
            state: V::ROLES.state,
            held_back: Vec::new(),
            refused: false,
            sent: 0,
            forgotten: 0,
        };
        let stage = Watched::new(V::core(&self.setup), self.shared.clone(), id);
        let mut life = Life::new(id, number, Executor::new(V::ROLES, stage, log), shell, self.chance.fork(3));
        life.ahead_ns = slot.ahead_ns;
        self.lives.push(life);
        self.share_out();
    }

    /// Gives partitions that nobody has to somebody. The group has a new generation, whether there are any or not.
    fn share_out(&mut self) {
        let free: Vec<i32> = self
            .holders
            .iter()
            .filter(|(_, holder)| **holder == Holder::Nobody)
            .map(|(partition, _)| *partition)
            .collect();
        let mut given: BTreeMap<LifeId, Vec<i32>> = BTreeMap::new();
        for partition in free {
            if let Some(id) = self.somebody(None) {
                given.entry(id).or_default().push(partition);
            }
        }
        self.shared_out(given.into_iter().map(|(id, partitions)| (id, Change::Given(partitions))).collect());
    }

    /// The group has shared out anew. Every member hears of it in its own time, also one for which nothing changes.
    fn shared_out(&mut self, mut changes: BTreeMap<LifeId, Change>) {
        let mut world = self.shared.lock();
        let generation = world.groups.entry(V::INPUT).or_default().share_out();
        let (now_ns, late_ns) = (world.now_ns, world.rates.hears_max_ns);
        let members = world.groups.entry(V::INPUT).or_default();
        for life in self.lives.iter_mut().filter(|life| members.incarnation(life.id).is_some()) {
            let event = match changes.remove(&life.id).unwrap_or(Change::Given(Vec::new())) {
                Change::Given(partitions) => {
                    for partition in &partitions {
                        // Paused until its position is set.
                        life.positions.insert(*partition, i64::MAX);
                        self.holders.insert(*partition, Holder::Life(life.id));
                    }
                    Event::Assigned(partitions, generation)
                }
                Change::Taken(partition, joined) => Event::Revoked(vec![partition], joined, generation),
            };
            let at_ns = now_ns.saturating_add(self.chance.between(0, late_ns));
            life.announce(at_ns, event);
        }
    }

    /// A member that can take a partition.
    fn somebody(&mut self, but: Option<LifeId>) -> Option<LifeId> {
        let able: Vec<LifeId> = {
            let mut world = self.shared.lock();
            let lives = self.lives.iter().filter(|life| Some(life.id) != but && !life.replaced && life.lost.is_none());
            lives.map(|life| life.id).filter(|id| world.wire(*id).frozen_until_ns.is_none()).collect()
        };
        self.chance.pick(&able)
    }

    fn handed_back(&mut self, from: LifeId, partition: i32) {
        let Some(Holder::Moving(holder, to)) = self.holders.get(&partition).copied() else { return };
        if holder != from {
            return;
        }
        self.holders.insert(partition, Holder::Nobody);
        if let Some(life) = self.lives.iter_mut().find(|life| life.id == from) {
            life.positions.remove(&partition);
        }
        if self.lives.iter().any(|life| life.id == to && !life.replaced && life.lost.is_none()) {
            self.shared_out(BTreeMap::from([(to, Change::Given(vec![partition]))]));
        } else {
            self.share_out();
        }
    }

    /// Takes everything from a life that the group no longer counts in; what it had.
    fn expel(&mut self, id: LifeId) -> Vec<i32> {
        self.shared.lock().groups.entry(V::INPUT).or_default().leave(id);
        let mut had = Vec::new();
        for (partition, holder) in &mut self.holders {
            match *holder {
                Holder::Life(of) if of == id => *holder = Holder::Nobody,
                Holder::Moving(of, _) if of == id => *holder = Holder::Nobody,
                _ => continue,
            }
            had.push(*partition);
        }
        had
    }

    fn bury(&mut self, id: LifeId, why: &str) {
        let Some(at) = self.lives.iter().position(|life| life.id == id) else { return };
        let life = self.lives.swap_remove(at);
        let mut world = self.shared.lock();
        world.note(|| format!("life {id} ended: {why}"));
        if world.wire(id).waits {
            world.hit(Fault::OutdatedCrash);
        }
        let now_ns = world.now_ns;
        drop(world);
        if !life.replaced
            && let Some(slot) = self.slots.get_mut(life.slot)
        {
            slot.start_ns = now_ns.saturating_add(self.chance.between(0, 3 * SECOND_NS));
        }
        self.expel(id);
        // Either the group notices and others take over, or the next life is there before that.
        if self.chance.one_in(2) {
            self.share_out();
        }
    }

    /// Decides what is done about those that hang, and does it when it is time.
    fn notice_hangs(&mut self) {
        let now_ns = self.shared.lock().now_ns;
        let mut due = Vec::new();
        for life in &mut self.lives {
            let frozen = self.shared.lock().wire(life.id).frozen_until_ns;
            if frozen.is_some_and(|until_ns| until_ns > now_ns) && life.noticed_ns.is_none() && life.lost.is_none() {
                life.noticed_ns = Some(now_ns.saturating_add(self.chance.between(0, 4 * SECOND_NS)));
            }
            if life.noticed_ns.is_some_and(|at_ns| at_ns <= now_ns) {
                life.noticed_ns = Some(i64::MAX);
                if frozen.is_some_and(|until_ns| until_ns > now_ns) && !life.replaced {
                    due.push((life.id, life.slot));
                }
            }
            if frozen.is_none() {
                life.noticed_ns = None;
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

    /// The session times out: others get its partitions.
    fn move_away(&mut self, id: LifeId) {
        if self.somebody(Some(id)).is_none() {
            return;
        }
        self.shared.lock().hit(Fault::FreezeMoved);
        let had = self.expel(id);
        if let Some(life) = self.lives.iter_mut().find(|life| life.id == id) {
            life.positions.clear();
            life.lost = Some(had);
        }
        self.share_out();
    }

    /// A successor of the same name starts.
    fn replace(&mut self, id: LifeId, slot: usize) {
        self.shared.lock().hit(Fault::FreezeReplaced);
        self.expel(id);
        if let Some(life) = self.lives.iter_mut().find(|life| life.id == id) {
            life.positions.clear();
            life.replaced = true;
        }
        self.start(slot);
    }

    /// A partition goes from one member to another.
    pub(crate) fn rebalance(&mut self) {
        let held: Vec<(i32, LifeId)> = self
            .holders
            .iter()
            .filter_map(|(partition, holder)| match holder {
                Holder::Life(id) => Some((*partition, *id)),
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
            world.note(|| format!("partition {partition} goes from life {from} to {to}"));
        }
        self.shared_out(BTreeMap::from([(from, Change::Taken(partition, joined))]));
    }

    /// Somebody is killed between two inputs.
    pub(crate) fn crash(&mut self) {
        let idle: Vec<LifeId> =
            self.lives.iter().filter(|life| life.executor().is_some()).map(|life| life.id).collect();
        if let Some(id) = self.chance.pick(&idle) {
            self.shared.lock().hit(Fault::CrashIdle);
            self.bury(id, "killed");
        }
    }

    /// The wall clock of a node jumps.
    pub(crate) fn jump_clock(&mut self, forward_max_ns: i64) {
        let (fault, by_ns) = match self.chance.below(2) {
            0 => (Fault::ClockForward, self.chance.between(100 * MILLISECOND_NS, forward_max_ns)),
            _ => (Fault::ClockBack, -self.chance.between(100 * MILLISECOND_NS, BEHIND_MAX_NS)),
        };
        let at = usize::try_from(self.chance.below(self.slots.len() as u64)).unwrap_or(0);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.ahead_ns = slot.ahead_ns.saturating_add(by_ns).clamp(-BEHIND_MAX_NS, forward_max_ns);
            let ahead_ns = slot.ahead_ns;
            self.lives.iter_mut().filter(|life| life.slot == at).for_each(|life| life.ahead_ns = ahead_ns);
            self.shared.lock().hit(fault);
        }
    }

    /// Whether everything that came is dealt with.
    pub(crate) fn is_settled(&self) -> bool {
        let held = self.holders.values().all(|holder| matches!(holder, Holder::Life(_)));
        let world = self.shared.lock();
        let read = self.holders.keys().all(|partition| {
            let place = (V::INPUT, *partition);
            let reached = world.broker.offset(place).map_or(0, |committed| committed.offset);
            world.broker.committed_records(place).last().is_none_or(|(offset, _)| offset < reached)
        });
        held && read && self.lives.iter().all(Life::is_settled)
    }

    /// State is what is written, of everybody.
    pub(crate) fn check_state(&self) -> Checked {
        let world = self.shared.lock();
        self.lives.iter().try_for_each(|life| life.check_state(&world))
    }
}

/// Tells a life that hung what happened meanwhile.
fn wake<V: Service>(life: &mut Life<V>, shared: &Shared, input: driftline_schemas::topics::Topic) -> Woken {
    let mut world = shared.lock();
    let now_ns = world.now_ns;
    let frozen = world.wire(life.id).frozen_until_ns.is_some_and(|until_ns| until_ns > now_ns);
    if frozen {
        return Woken::AsBefore;
    }
    if life.replaced && !life.queue.iter().any(|event| matches!(event, Event::Replaced)) {
        life.queue.push_back(Event::Replaced);
    }
    let Some(lost) = life.lost.take() else { return Woken::AsBefore };
    // The reading thread joins anew at once; the service hears of it in its turn, and after all that was before.
    let incarnation = world.groups.entry(input).or_default().join(life.id);
    let late_ns = world.rates.hears_max_ns;
    let at_ns = now_ns.saturating_add(world.chance.between(0, late_ns));
    life.announce(at_ns, Event::Lost(lost, incarnation));
    Woken::JoinedAnew
}
