//! Step 6, out: an exec becomes the record that goes to Kafka. This is the end of its way, where it is reported or dropped.

use driftline_schemas::topics::Topic;
use driftline_schemas::{ContainerId, Exec, FileClass};
use driftline_service_core::{BrokenInvariant, Disposition};

use super::container_state::ContainerState;
use super::held::HeldExec;
use super::input::{Fx, NodeSettings, PipelineCommand};
use super::late::LateExecs;
use crate::class;
use crate::container_root::ContainerRoot;
use crate::event::{self, Surroundings};
use crate::mounts::Mounts;
use crate::programs::Programs;

/// What a record takes from the node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) settings: &'a NodeSettings,
    pub(super) programs: &'a Programs,
}

impl<'a> Origin<'a> {
    /// Where an exec happened, for its record.
    pub(super) fn surroundings(
        self,
        container: &'a ContainerId,
        root: &'a ContainerRoot,
        mounts: &'a Mounts,
        inner: Option<&'a ContainerId>,
    ) -> Surroundings<'a> {
        let Self { settings, programs } = self;
        Surroundings { settings, container, root, mounts, programs, inner }
    }
}

/// Emits an exec that happened at `wall_ns`. One whose digest may still come is retained in `late`.
///
/// # Errors
/// Only when the record cannot be encoded: a defect.
pub(super) fn send(
    now_ns: i64,
    held: HeldExec,
    wall_ns: i64,
    (id, container): (&ContainerId, &mut ContainerState),
    origin: Origin<'_>,
    late: &mut LateExecs,
    effects: &mut Fx,
) -> Result<(), BrokenInvariant> {
    let host_mnt_ns = origin.settings.host_mnt_ns;
    let is_helper = || class::is_runtime_helper(&held.exec, container.root.as_ref(), host_mnt_ns);
    if !held.was_inside && held.inner.is_none() && is_helper() {
        drop_as("runtime_helper", &held, effects);
        return Ok(());
    }
    let time_ns = container.follow_time(wall_ns);
    let root = container.root_of(&held.exec);
    let at = origin.surroundings(id, &root, &container.mounts, held.inner.as_ref());
    let outcome = held.outcome().map(|outcome| outcome.of_exec(&held.exec, wall_ns));
    let record = event::exec(&held.exec, at, outcome.as_ref(), time_ns);
    if container.is_sandbox && is_untouched(&record) {
        drop_as("sandbox", &held, effects);
        return Ok(());
    }
    effects.emit(Topic::ExecEvents, id.as_str(), &record)?;
    effects.settle(Disposition::Reported);
    let given_up = if held.may_be_late() { late.retain(now_ns, id, held, (time_ns, wall_ns)) } else { Vec::new() };
    for moment in given_up {
        effects.count("late_digest_refused");
        effects.command(PipelineCommand::Release(moment));
    }
    Ok(())
}

fn is_untouched(record: &Exec) -> bool {
    record.class == FileClass::Image && record.named_path().is_none()
}

fn drop_as(reason: &'static str, held: &HeldExec, effects: &mut Fx) {
    effects.settle(Disposition::Dropped(reason));
    held.postponed.iter().for_each(|job| effects.command(PipelineCommand::Release(job.moment)));
}
