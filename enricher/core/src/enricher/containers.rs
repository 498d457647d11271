//! The set of tracked containers: adds containers, handles their timers, and evicts them.

use driftline_schemas::ContainerId;
use driftline_service_core::BrokenInvariant;

use super::advance::Readiness;
use super::{Enricher, Fx, Kind, Partition, container_key};
use crate::container::{Change, EvictionRank, TrackedContainer};
use crate::limits::{CONTAINERS_MAX, PARKED_PARTITION_BYTES_MAX};

impl Enricher {
    /// Returns the container's entry, created if there is none. The caller finishes with [`Self::index`].
    pub(super) fn track(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        partition: i32,
        effects: &mut Fx,
    ) -> Result<&mut TrackedContainer, BrokenInvariant> {
        if !self.containers.contains_key(id) {
            self.make_room(now_ns, partition, effects)?;
            effects.touch(partition, container_key(id));
        }
        let tracked = self.containers.entry(id.clone()).or_insert_with(|| TrackedContainer::new(partition, now_ns));
        if tracked.hear(now_ns) == Change::Changed {
            effects.touch(partition, container_key(id));
        }
        Ok(tracked)
    }

    /// Handles a container's timer: its parking deadline, the end of an amendment's hour, or a long silence.
    pub(super) fn timer_fired(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        self.expire_unresolved(now_ns, id, effects);
        let Some(tracked) = self.containers.get(id) else {
            return Err(BrokenInvariant(format!("a timer of the unknown container {id} fired")));
        };
        if tracked.is_silent(now_ns) {
            return self.forget(id, effects);
        }
        if tracked.deadline_ns.is_some_and(|deadline| deadline <= now_ns) {
            if let Readiness::Wait(reason) = self.readiness(id) {
                effects.count("deadline_fired");
                self.give_up(id, reason, effects);
            }
            self.stop_waiting(id, effects);
        }
        self.proceed(now_ns, id, effects)
    }

    /// Evicts containers from a full partition: first the one that was silent longest. When every container has
    /// something parked, the one that waits longest is evicted, after all of its execs have been judged.
    fn make_room(&mut self, now_ns: i64, partition: i32, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        while let Some(eviction_order) = self.partitions.get(&partition).map(|partition| &partition.eviction_order)
            && eviction_order.len() >= CONTAINERS_MAX
            && let Some((place, id)) = eviction_order.first().cloned()
        {
            effects.count("container_evicted");
            if let EvictionRank::Waiting(_) = place {
                self.release(&id, "containers_full", effects);
                let budget = std::mem::replace(&mut self.budget, usize::MAX);
                self.proceed(now_ns, &id, effects)?;
                self.budget = budget;
            }
            self.forget(&id, effects)?;
        }
        Ok(())
    }

    /// Releases the container that waits longest from its wait for an image when the partition's parked execs exceed
    /// their limit.
    pub(super) fn release_longest_waiting(
        &mut self,
        now_ns: i64,
        partition: i32,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let is_full = |partition: &&Partition| partition.parked_bytes > PARKED_PARTITION_BYTES_MAX;
        let full = self.partitions.get(&partition).filter(is_full);
        let Some(id) = full.and_then(Partition::first_waiting).cloned() else { return Ok(()) };
        self.release(&id, "partition_parking_full", effects);
        self.proceed(now_ns, &id, effects)
    }

    /// Lets a waiting container proceed without its image, for a reason outside the container.
    fn release(&mut self, id: &ContainerId, reason: &'static str, effects: &mut Fx) {
        if let Readiness::Wait(_) = self.readiness(id) {
            effects.count(reason);
            self.give_up(id, reason, effects);
        }
    }

    /// Forgets a container with nothing parked. Its unresolved findings stay unresolved.
    pub(super) fn forget(&mut self, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let Some(tracked) = self.containers.remove(id) else { return Ok(()) };
        if !tracked.parked.is_empty() {
            return Err(BrokenInvariant(format!("container {id} is forgotten, and something of it is parked")));
        }
        let partition = tracked.partition;
        effects.touch(partition, container_key(id));
        for offset in tracked.reported().keys() {
            effects.touch(partition, Kind::Reported.key(id, *offset));
        }
        for offset in tracked.unresolved.offsets() {
            effects.count("unresolved_forgotten");
            effects.touch(partition, Kind::Unresolved.key(id, offset));
        }
        self.backlog.remove(id);
        self.unindex(id, partition, tracked.indexed);
        if let Some(image) = tracked.image() {
            self.release_image(image, id, effects);
        }
        Ok(())
    }
}
