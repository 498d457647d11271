//! Step 2, container: the container that an exec belongs to, by the cgroup of its process. What belongs to none is dropped.

use driftline_schemas::ContainerId;
use driftline_service_core::Disposition;

use super::input::Fx;
use crate::cgroup::{Cgroup, cgroup};
use crate::class;
use crate::programs::Programs;
use crate::raw::RawExec;

/// An exec and its container.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) exec: Box<RawExec>,
    pub(super) container: ContainerId,
    /// The containers that `container` lies in, from it outwards.
    pub(super) outer: Vec<ContainerId>,
    /// The process has executed something in the container before.
    pub(super) was_inside: bool,
}

/// Finds the container of an exec, and remembers its program. `None`: the exec is dropped and counted.
pub(super) fn locate(
    exec: Box<RawExec>,
    programs: &mut Programs,
    host_mnt_ns: u32,
    effects: &mut Fx,
) -> Option<Located> {
    let (container, outer) = match cgroup(&exec.cgroup) {
        Cgroup::Container(id, outer) => (id, outer),
        Cgroup::Monitor => return drop_as("monitor", effects),
        Cgroup::Other => return drop_as("not_a_container", effects),
    };
    // A helper that a runtime starts on its way into a container has executed nothing there before; `nsenter` on its way
    // out has.
    let was_inside = programs.knows(&exec);
    if !was_inside && class::is_runtime_helper(&exec, None, host_mnt_ns) {
        return drop_as("runtime_helper", effects);
    }
    programs.learn(&exec);
    Some(Located { exec, container, outer, was_inside })
}

fn drop_as(reason: &'static str, effects: &mut Fx) -> Option<Located> {
    effects.settle(Disposition::Dropped(reason));
    None
}
