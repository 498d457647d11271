//! Maintains a container's position in the order of eviction, and its timer. Both are derived from the container's own
//! state.

use driftline_schemas::ContainerId;

use super::{Enricher, Partition};
use crate::container::EvictionRank;

impl Partition {
    /// The container that waits longest.
    pub(super) fn first_waiting(&self) -> Option<&ContainerId> {
        self.eviction_order.range((EvictionRank::Waiting(i64::MIN), ContainerId::default())..).next().map(|(_, id)| id)
    }
}

impl Enricher {
    /// Updates rank and timer of a container. Most inputs change neither.
    pub(super) fn index(&mut self, id: &ContainerId) {
        let Some(tracked) = self.containers.get_mut(id) else { return };
        let now = (tracked.eviction_rank(), tracked.due_ns());
        if tracked.indexed == Some(now) {
            return;
        }
        let before = tracked.indexed.replace(now);
        let partition = tracked.partition;
        self.unindex(id, partition, before);
        self.partitions.entry(partition).or_default().eviction_order.insert((now.0, id.clone()));
        self.timers.insert((now.1, id.clone()));
    }

    pub(super) fn unindex(&mut self, id: &ContainerId, partition: i32, indexed: Option<(EvictionRank, i64)>) {
        let Some((place, due_ns)) = indexed else { return };
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.eviction_order.remove(&(place, id.clone()));
        }
        self.timers.remove(&(due_ns, id.clone()));
    }
}
