//! What leaves a node: execs from the front of their container's queue, accounts of what was left out or lost.

use driftline_schemas::topics::Topic;
use driftline_schemas::{CollectorLoss, ContainerEnded, ContainerId, ContainerThrottled, FileClass};
use driftline_service_core::{BrokenInvariant, Disposition};

use super::late::Kept;
use super::tracked::Wait;
use super::{Ask, Fx, Node};
use crate::class::{self, ContainerRoot};
use crate::event::{self, Surroundings};

impl Node {
    /// Says of which containers execs were left out, when their interval is over.
    pub(super) fn report_throttled(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let is_over = self.stopping == Wait::Over;
        let due = self.containers.iter().filter(|(_, tracked)| is_over || tracked.throttle.is_due(now_ns));
        let due: Vec<ContainerId> = due.map(|(id, _)| id.clone()).collect();
        due.iter().try_for_each(|id| self.report_left_out(now_ns, id, effects))
    }

    /// Says how many execs of a container were left out, if any.
    pub(super) fn report_left_out(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let left_out = self.containers.get_mut(id).and_then(|tracked| tracked.throttle.take());
        let Some(left_out) = left_out else { return Ok(()) };
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let record = ContainerThrottled {
            container_id: id.clone(),
            node: self.settings.node.clone(),
            collector_start: self.settings.collector_start.clone(),
            from_ns: left_out.from_ns,
            to_ns: now_ns,
            ordinary: number(left_out.ordinary),
            folded: number(left_out.folded),
            files: number(left_out.files),
            examples: left_out.examples,
        };
        effects.count("container_throttled");
        effects.emit(Topic::ExecEvents, id.as_str(), &record)
    }

    /// One record for each reason that has a count, over the time since the last.
    pub(super) fn report_losses(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let (from_ns, losses) = self.losses.take(now_ns);
        for (loss, count) in losses {
            let record = CollectorLoss {
                node: self.settings.node.clone(),
                collector_start: self.settings.collector_start.clone(),
                from_ns,
                to_ns: now_ns,
                lost: Some(i64::try_from(count).unwrap_or(i64::MAX)),
                reason: loss.reason().to_owned(),
            };
            effects.emit(Topic::ExecEvents, &self.settings.node.name, &record)?;
        }
        Ok(())
    }

    /// Sends the execs of a container from the front while they need not wait, and its end after the last.
    pub(super) fn release_with(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        wait: Wait,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        self.tell_execs(now_ns, id, wait, effects)?;
        self.tell_end(now_ns, id, wait, effects)
    }

    /// Sends the execs only: of what was read, more may follow.
    pub(super) fn tell_execs(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        wait: Wait,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        self.hand_over(now_ns, id, effects)?;
        let offset_ns = self.boot_offset_ns.unwrap_or(0);
        let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
        while let Some(held) = tracked.next_ready(now_ns, self.complete_until_ns, wait) {
            let is_helper = || class::is_runtime_helper(&held.exec, tracked.root.as_ref(), self.settings.host_mnt_ns);
            if !held.was_inside && held.inner.is_none() && is_helper() {
                effects.settle(Disposition::Dropped("runtime_helper"));
                held.postponed.iter().for_each(|job| effects.ask(Ask::Drop(job.moment)));
                continue;
            }
            let root = tracked.root.unwrap_or_else(|| ContainerRoot::of_process(&held.exec));
            let wall_ns = i64::try_from(held.exec.moment.time_ns).unwrap_or(i64::MAX).saturating_add(offset_ns);
            tracked.last_time_ns = tracked.last_time_ns.max(wall_ns);
            let at = Surroundings {
                settings: &self.settings,
                container: id,
                root: &root,
                mounts: &tracked.mounts,
                programs: &self.programs,
                inner: held.inner.as_ref(),
            };
            let event = event::exec(&held.exec, at, held.outcome().as_ref(), tracked.last_time_ns);
            let moment = held.exec.moment;
            if tracked.is_sandbox && event.class == FileClass::Image && event.script.is_none() && event.loaded.is_none()
            {
                effects.settle(Disposition::Dropped("sandbox"));
                held.postponed.iter().for_each(|job| effects.ask(Ask::Drop(job.moment)));
                continue;
            }
            effects.emit(Topic::ExecEvents, id.as_str(), &event)?;
            effects.settle(Disposition::Reported);
            let may_be_late = held.may_be_late();
            if may_be_late && self.late.keep(now_ns, id, held, event.time_ns) == Kept::Full {
                effects.count("late_digest_refused");
                effects.ask(Ask::Drop(moment));
            }
        }
        Ok(())
    }

    fn tell_end(&mut self, now_ns: i64, id: &ContainerId, wait: Wait, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let Some(tracked) = self.containers.get(id) else { return Ok(()) };
        // On the wall clock, as the time of the end is.
        let offset_ns = self.boot_offset_ns.unwrap_or(0);
        let complete_until_ns = i64::try_from(self.complete_until_ns).unwrap_or(i64::MAX).saturating_add(offset_ns);
        let Some(ended_ns) = tracked.over_since(now_ns, complete_until_ns, wait) else { return Ok(()) };
        let is_told = tracked.is_told();
        self.report_left_out(now_ns, id, effects)?;
        self.containers.remove(id);
        if is_told {
            let ended = ContainerEnded {
                container_id: id.clone(),
                cluster: self.settings.node.cluster.clone(),
                node: self.settings.node.name.clone(),
                ended_ns,
            };
            effects.emit(Topic::ExecEvents, id.as_str(), &ended)?;
            effects.count("container_ended");
        }
        Ok(())
    }
}
