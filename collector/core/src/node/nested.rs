//! Containers in containers: an engine that runs in a container makes some whose cgroups lie in that container's.
//!
//! Of these the innermost that a runtime of the node knows is the one that executes. So an exec waits in the innermost of
//! all until that is certain to be unknown, and then belongs to the next that is known, judged by its root; from then on
//! others go there at once. Where none is known it stays where it is.

use driftline_schemas::ContainerId;
use driftline_service_core::BrokenInvariant;

use super::tracked::{Held, Standing};
use super::{Fx, Node};
use crate::raw::Moment;

impl Node {
    /// The container around this one that its execs belong to, when it is certain that this one is not known.
    pub(super) fn owner<'a>(&self, now_ns: i64, id: &ContainerId, outer: &'a [ContainerId]) -> Option<&'a ContainerId> {
        let standing = |id| self.containers.get(id).map_or(Standing::Open, |tracked| tracked.standing(now_ns));
        if outer.is_empty() || standing(id) != Standing::Unknown {
            return None;
        }
        let known = outer.iter().find(|id| standing(id) != Standing::Unknown)?;
        (standing(known) == Standing::Known).then_some(known)
    }

    /// Moves what a container holds to those it belongs to, which tell it.
    pub(super) fn hand_over(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let Some(tracked) = self.containers.get(id).filter(|tracked| tracked.lies_in_another) else { return Ok(()) };
        let owned = tracked.held.iter().filter(|(_, held)| !held.outer.is_empty());
        let owned: Vec<(Moment, ContainerId)> =
            owned.filter_map(|(moment, held)| Some((*moment, self.owner(now_ns, id, &held.outer)?.clone()))).collect();
        for (moment, owner) in &owned {
            let held = self.containers.get_mut(id).and_then(|tracked| tracked.held.remove(moment));
            let (Some(held), Some(tracked)) = (held, self.containers.get_mut(owner)) else { continue };
            tracked.held.insert(*moment, held.adopted_from(id));
            effects.count("exec_adopted");
            self.want_digest(now_ns, owner, *moment, effects);
        }
        owned.iter().try_for_each(|(_, owner)| self.tell_execs(now_ns, owner, self.stopping, effects))
    }

    /// The first process of the container in a container in which an exec was made: its root directory outlives others.
    pub(super) fn first_inside(&self, held: &Held) -> Option<u32> {
        let inner = self.containers.get(held.inner.as_ref()?)?;
        let is_its_root = inner.root?.mount_ns == held.exec.mnt_ns && !held.exec.is_chrooted();
        inner.init_pid.filter(|_| is_its_root).and_then(|pid| u32::try_from(pid).ok())
    }

    /// Which container holds an exec, or waits for its digest, that was in this one when it was asked for.
    pub(super) fn holder(&self, id: &ContainerId, moment: Moment) -> ContainerId {
        let holds = |id: &ContainerId| {
            let is_held = self.containers.get(id).is_some_and(|tracked| tracked.held.contains_key(&moment));
            is_held || self.late.wants(id, moment)
        };
        let elsewhere = || self.containers.keys().find(|id| holds(id));
        if holds(id) { id } else { elsewhere().unwrap_or(id) }.clone()
    }
}
