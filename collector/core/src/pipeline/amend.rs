//! After step 6: an exec that went out without its digest goes out again with it, otherwise unchanged.

use driftline_schemas::ContainerId;
use driftline_schemas::topics::Topic;
use driftline_service_core::BrokenInvariant;

use super::container_state::ContainerState;
use super::input::Fx;
use super::late::LateExec;
use super::out::Origin;
use crate::container_root::ContainerRoot;
use crate::digest::DigestOutcome;
use crate::event;
use crate::mounts::Mounts;

/// Emits the same exec again. `container` is `None` when the container is gone by now.
///
/// # Errors
/// Only when the record cannot be encoded: a defect.
pub(super) fn send(
    late: &LateExec,
    outcome: DigestOutcome,
    (id, container): (&ContainerId, Option<&ContainerState>),
    origin: Origin<'_>,
    effects: &mut Fx,
) -> Result<(), BrokenInvariant> {
    let exec = &late.exec;
    let unknown = Mounts::default();
    let root = container.map_or_else(|| ContainerRoot::of_process(exec), |container| container.root_of(exec));
    let mounts = container.map_or(&unknown, |container| &container.mounts);
    let at = origin.surroundings(id, &root, mounts, late.inner.as_ref());
    effects.count("digest_late");
    let outcome = outcome.of_exec(exec, late.executed_ns);
    effects.emit(Topic::ExecEvents, id.as_str(), &event::exec(exec, at, Some(&outcome), late.time_ns))
}
