//! All containers of a node, and the relation between those that lie in one another.
//!
//! An engine that runs in a container makes containers whose cgroups lie in that container's. Of these the innermost that a
//! runtime of the node knows is the owner of an exec. So an exec waits in the innermost container of all until that is
//! certain to be unknown; then it moves to the next one that is known, and is judged by that one's root. From then on other
//! execs go there at once. Where no runtime knows any of the containers, the exec stays in the innermost.

use driftline_schemas::ContainerId;
use std::collections::BTreeMap;

use super::container_state::{ContainerState, Standing};
use super::held::HeldExec;
use super::membership::Sign;
use crate::limits;
use crate::raw::{Moment, RawExec};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Containers {
    all: BTreeMap<ContainerId, ContainerState>,
}

impl Containers {
    pub(super) fn get(&self, id: &ContainerId) -> Option<&ContainerState> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ContainerId) -> Option<&mut ContainerState> {
        self.all.get_mut(id)
    }

    pub(super) fn get_or_create(&mut self, now_ns: i64, id: &ContainerId) -> &mut ContainerState {
        self.all.entry(id.clone()).or_insert_with(|| ContainerState::new(now_ns))
    }

    pub(super) fn held_mut(&mut self, id: &ContainerId, moment: Moment) -> Option<&mut HeldExec> {
        self.all.get_mut(id)?.held.get_mut(&moment)
    }

    pub(super) fn contains(&self, id: &ContainerId) -> bool {
        self.all.contains_key(id)
    }

    pub(super) fn remove(&mut self, id: &ContainerId) {
        self.all.remove(id);
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many execs wait.
    pub(super) fn held(&self) -> usize {
        self.all.values().map(|container| container.held.len()).sum()
    }

    /// Memory of the execs that wait.
    pub(super) fn held_bytes(&self) -> usize {
        self.all.values().map(|container| container.held.bytes()).sum()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&ContainerId, &mut ContainerState)> {
        self.all.iter_mut()
    }

    /// The containers to which this applies.
    pub(super) fn ids_where(&self, applies: impl Fn(&ContainerState) -> bool) -> Vec<ContainerId> {
        self.all.iter().filter(|(_, container)| applies(container)).map(|(id, _)| id.clone()).collect()
    }

    /// The container that has to make room for another one: the one unheard of for the longest time.
    pub(super) fn to_evict(&self) -> Option<ContainerId> {
        if self.all.len() < limits::CONTAINERS {
            return None;
        }
        self.all.iter().min_by_key(|(_, container)| container.heard_ns).map(|(id, _)| id.clone())
    }

    /// The container around this one that owns an exec in it, once it is certain that this one is unknown.
    pub(super) fn owner<'a>(&self, now_ns: i64, id: &ContainerId, outer: &'a [ContainerId]) -> Option<&'a ContainerId> {
        let standing = |id| self.all.get(id).map_or(Standing::Open, |container| container.standing(now_ns));
        if outer.is_empty() || standing(id) != Standing::Unknown {
            return None;
        }
        let known = outer.iter().find(|id| standing(id) != Standing::Unknown)?;
        (standing(known) == Standing::Known).then_some(known)
    }

    /// The container that a process is in by anything but its cgroup. What has ended has none.
    pub(super) fn of_process(&self, exec: &RawExec) -> Option<&ContainerId> {
        let signs = self.all.iter().filter(|(_, container)| !container.has_ended());
        let signs = signs.filter_map(|(id, container)| Some((container.sign(exec)?, !container.is_described(), id)));
        signs.min().map(|(.., id)| id)
    }

    /// The container in which a process has made the cgroup that it is in and that is named as a container's. The process has
    /// the mount namespace or the root of it. What a runtime has just started may have them too, by the numbers, while the end
    /// of their last user is not known yet; but no ancestor of that runs a program of a container.
    pub(super) fn maker_of(&self, named: &ContainerId, exec: &RawExec) -> Option<&ContainerId> {
        if self.all.get(named).is_some_and(|container| !container.is_made_inside) {
            return None;
        }
        let id = self.of_process(exec)?;
        let container = self.all.get(id)?;
        let is_strong = container.sign(exec).is_some_and(|sign| sign <= Sign::Root);
        (is_strong && container.root.is_some_and(|root| root.is_of_an_ancestor(exec))).then_some(id)
    }

    /// Moves the execs of a container to the containers that own them; returns each exec with its new container. An owner is
    /// known to a runtime, so nothing moves twice.
    pub(super) fn hand_over(&mut self, now_ns: i64, id: &ContainerId) -> Vec<(Moment, ContainerId)> {
        let Some(container) = self.all.get(id).filter(|container| container.lies_in_another) else {
            return Vec::new();
        };
        let owned = container.held.iter().filter(|(_, held)| !held.outer.is_empty());
        let mut owned: Vec<(Moment, ContainerId)> =
            owned.filter_map(|(moment, held)| Some((*moment, self.owner(now_ns, id, &held.outer)?.clone()))).collect();
        owned.retain(|(moment, owner)| {
            let held = self.all.get_mut(id).and_then(|container| container.held.remove(moment));
            let (Some(held), Some(owner)) = (held, self.all.get_mut(owner)) else { return false };
            owner.held.insert(*moment, held.adopted_from(id));
            true
        });
        owned
    }

    /// The first process of the container inside its own in which an exec ran: its root directory outlives other processes.
    pub(super) fn first_inside(&self, held: &HeldExec) -> Option<u32> {
        self.all.get(held.inner.as_ref()?)?.first_process_of(&held.exec)
    }

    /// The container that holds an exec, or for which `waits_late`: it may have changed since the digest was commanded for
    /// this one.
    pub(super) fn holder(
        &self,
        id: &ContainerId,
        moment: Moment,
        waits_late: impl Fn(&ContainerId) -> bool,
    ) -> ContainerId {
        let is_held = |id: &ContainerId| self.all.get(id).is_some_and(|container| container.held.contains_key(&moment));
        let holds = |id: &ContainerId| is_held(id) || waits_late(id);
        let elsewhere = || self.all.keys().find(|id| holds(id));
        if holds(id) { id } else { elsewhere().unwrap_or(id) }.clone()
    }
}
