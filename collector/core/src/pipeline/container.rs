//! Step 2, container: the container that an exec belongs to, by the cgroup of its process, else by its namespaces and its root.
//! What belongs to none is dropped.

use driftline_schemas::ContainerId;
use driftline_service_core::Disposition;

use super::containers::Containers;
use super::input::{Fx, PipelineCommand};
use super::losses::{Loss, Losses};
use crate::cgroup::{Cgroup, cgroup};
use crate::programs::Programs;
use crate::raw::RawExec;
use crate::{class, limits};

/// An exec and its container.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) exec: Box<RawExec>,
    pub(super) container: ContainerId,
    /// The containers that `container` lies in, from it outwards.
    pub(super) outer: Vec<ContainerId>,
    /// The process is in the container's namespaces, or has executed something in the container before.
    pub(super) was_inside: bool,
    /// The process is in the container's cgroup.
    pub(super) is_in_cgroup: bool,
    /// Its name was given by a process in another container, whose namespaces and root this one still has.
    pub(super) is_made_inside: bool,
}

/// Finds the container of an exec, and remembers its program. `None`: the exec is dropped and counted.
pub(super) fn locate(
    exec: Box<RawExec>,
    containers: &Containers,
    programs: &mut Programs,
    losses: &mut Losses,
    host_mnt_ns: u32,
    effects: &mut Fx,
) -> Option<Located> {
    let reason = match cgroup(&exec.cgroup) {
        Cgroup::Container(id, outer) => {
            return by_cgroup(exec, (id, outer), containers, programs, host_mnt_ns, effects);
        }
        Cgroup::Monitor => "monitor",
        Cgroup::Other => "not_a_container",
    };
    if exec.mnt_ns != host_mnt_ns
        && let Some(container) = containers.of_process(&exec).cloned()
    {
        effects.count("exec_outside_cgroup");
        programs.learn(&exec);
        return Some(Located {
            exec,
            container,
            outer: Vec::new(),
            was_inside: true,
            is_in_cgroup: false,
            is_made_inside: false,
        });
    }
    if exec.has_truncated_cgroups() {
        losses.add(Loss::Cgroups, 1);
        return drop_as(Loss::Cgroups.reason(), effects);
    }
    // Of what runs already the time is that of its start.
    let may_be_ignored = exec.cgroup.is_empty() && exec.mnt_ns != host_mnt_ns && exec.mnt_ns_id != 0;
    if may_be_ignored && !exec.is_snapshot() {
        let until_ns = exec.moment.time_ns.saturating_add(limits::UNCONTAINED);
        effects.command(PipelineCommand::Ignore(exec.mnt_ns_id, until_ns));
    }
    drop_as(reason, effects)
}

fn by_cgroup(
    exec: Box<RawExec>,
    (container, mut outer): (ContainerId, Vec<ContainerId>),
    containers: &Containers,
    programs: &mut Programs,
    host_mnt_ns: u32,
    effects: &mut Fx,
) -> Option<Located> {
    // A helper that a runtime starts on its way into a container has executed nothing there before; `nsenter` on its way
    // out has.
    let was_inside = programs.knows(&exec);
    if !was_inside && class::is_runtime_helper(&exec, None, host_mnt_ns) {
        return drop_as("runtime_helper", effects);
    }
    programs.learn(&exec);
    let maker = containers.maker_of(&container, &exec);
    let is_made_inside = maker.is_some();
    outer.extend(maker.filter(|maker| !outer.contains(maker)).cloned());
    Some(Located { exec, container, outer, was_inside, is_in_cgroup: true, is_made_inside })
}

fn drop_as(reason: &'static str, effects: &mut Fx) -> Option<Located> {
    effects.settle(Disposition::Dropped(reason));
    None
}
