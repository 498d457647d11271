//! How one container goes on: its parked execs are judged from the head, its unresolved findings amended, for as long as
//! metadata, image and budget allow.

use std::sync::Arc;

use driftline_schemas::topics::Topic;
use driftline_schemas::{ContainerId, Exec, FindingState, HashState, Origin};
use driftline_service_core::{BrokenInvariant, Disposition};

use super::images::shown;
use super::{Enricher, Fx, ImageAnswer, Kind, container_key};
use crate::finding::{self, Revision};
use crate::image::ImageIndex;
use crate::limits::{AMEND_NS, PARKED_BYTES_MAX};
use crate::tracked::{Change, Mismatch, Queued, Reported, Unresolved};
use crate::verdict::{self, Report, Verdict, judge};

/// Whether the head of a container's queue can be judged.
pub(super) enum Readiness {
    Ready(Arc<ImageIndex>),
    Flow(String),
    Wait(&'static str),
}

impl Enricher {
    /// Everything that can be done for a container now; called after whatever may have changed that.
    pub(super) fn proceed(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.report_flaw(now_ns, id, effects)?;
        self.advance(now_ns, id, effects)?;
        self.amend(now_ns, id, effects)?;
        self.index(id);
        Ok(())
    }

    /// Goes on with what was left when the budget was used up.
    pub(super) fn work_off(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        while self.budget > 0
            && let Some(id) = self.backlog.pop_first()
        {
            self.proceed(now_ns, &id, effects)?;
        }
        Ok(())
    }

    pub(super) fn readiness(&self, id: &ContainerId) -> Readiness {
        let Some(tracked) = self.containers.get(id) else { return Readiness::Wait("no_metadata") };
        let waiting = |reason| match &tracked.given_up {
            Some(given_up) => Readiness::Flow(given_up.clone()),
            None => Readiness::Wait(reason),
        };
        let Some(seen) = &tracked.seen else { return waiting("no_metadata") };
        if seen.unseen {
            // What the node's kernel sees of it is not what the container executes: no image explains that.
            return Readiness::Flow(format!("unsupported_runtime: {}", shown(&seen.runtime_handler)));
        }
        let Some(image) = tracked.image() else { return Readiness::Flow("image_id_unknown".to_owned()) };
        match self.images.get(image).and_then(|image| image.answer.as_ref()) {
            Some(ImageAnswer::Ready { index, .. }) => Readiness::Ready(Arc::clone(index)),
            Some(ImageAnswer::Failed { reason, .. }) => Readiness::Flow(format!("image_failed: {reason}")),
            Some(ImageAnswer::Missing | ImageAnswer::Dropped { .. }) | None => waiting("no_manifest"),
        }
    }

    /// From now on the container's execs go out without the image.
    pub(super) fn give_up(&mut self, id: &ContainerId, reason: &'static str, effects: &mut Fx) {
        let Some(tracked) = self.containers.get_mut(id) else { return };
        tracked.given_up = Some(reason.to_owned());
        tracked.deadline_ns = None;
        effects.touch(tracked.partition, container_key(id));
    }

    /// Judges parked execs from the head for as long as that is possible.
    fn advance(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.need_image(id, effects);
        let readiness = self.readiness(id);
        if matches!(readiness, Readiness::Ready(_)) {
            self.stop_flowing(id, effects);
            self.note_use(id);
        }
        loop {
            let Some(tracked) = self.containers.get(id) else { return Ok(()) };
            if tracked.parked.is_empty() {
                self.stop_waiting(id, effects);
                return Ok(());
            }
            let image = match &readiness {
                Readiness::Ready(index) => Ok(index.as_ref()),
                Readiness::Flow(reason) => Err(reason.as_str()),
                Readiness::Wait(_) if tracked.parked_bytes > PARKED_BYTES_MAX => {
                    effects.count("parking_full");
                    Err("parking_full")
                }
                Readiness::Wait(_) => {
                    self.wait(now_ns, id, effects);
                    return Ok(());
                }
            };
            if self.budget == 0 {
                self.backlog.insert(id.clone());
                return Ok(());
            }
            self.budget -= 1;
            match self.unpark(id, effects) {
                Some((offset, Queued::Exec(exec))) => {
                    let verdict = judge(&exec, image);
                    self.report(now_ns, offset, exec, &verdict, effects)?;
                }
                Some((offset, Queued::Throttled(throttled))) => self.report_throttle(offset, &throttled, effects)?,
                None => {}
            }
        }
    }

    fn unpark(&mut self, id: &ContainerId, effects: &mut Fx) -> Option<(i64, Queued)> {
        let tracked = self.containers.get_mut(id)?;
        let (offset, parked) = tracked.unpark()?;
        if parked.told {
            effects.touch(tracked.partition, Kind::parked(&parked.event).key(id, offset));
        }
        if let Some(partition) = self.partitions.get_mut(&tracked.partition) {
            partition.parked -= 1;
            partition.parked_bytes -= parked.event.memory_bytes();
        }
        Some((offset, parked.event))
    }

    /// Sets the deadline of a container that must wait.
    fn wait(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) {
        if let Some(tracked) = self.containers.get_mut(id)
            && tracked.deadline_ns.is_none()
        {
            tracked.deadline_ns = Some(now_ns.saturating_add(self.settings.park_ns));
            effects.touch(tracked.partition, container_key(id));
        }
    }

    pub(super) fn stop_waiting(&mut self, id: &ContainerId, effects: &mut Fx) {
        if let Some(tracked) = self.containers.get_mut(id)
            && tracked.deadline_ns.take().is_some()
        {
            effects.touch(tracked.partition, container_key(id));
        }
    }

    /// The image is there, or was: nothing goes out without it any more.
    pub(super) fn stop_flowing(&mut self, id: &ContainerId, effects: &mut Fx) {
        if let Some(tracked) = self.containers.get_mut(id)
            && tracked.given_up.take().is_some()
        {
            effects.touch(tracked.partition, container_key(id));
        }
    }

    /// Settles one exec: a finding, another revision of one, or nothing to report.
    fn report(
        &mut self,
        now_ns: i64,
        offset: i64,
        exec: Box<Exec>,
        verdict: &Verdict,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(exec) = self.amend_with_digest(now_ns, exec, verdict, effects)? else { return Ok(()) };
        let Some(report) = self.wanted(&exec, verdict, effects) else {
            effects.settle(match verdict.origin {
                Origin::HostNamespace => Disposition::Dropped("host_namespace"),
                Origin::Unresolved => Disposition::Dropped("unresolved_unsuspicious"),
                _ => Disposition::Clean,
            });
            return Ok(());
        };
        effects.settle(Disposition::Reported);
        let id = exec.container_id.clone();
        let Some(tracked) = self.containers.get_mut(&id) else { return Ok(()) };
        let first = Revision { number: 1, state: FindingState::Active };
        let finding = finding::drift(&exec, tracked.seen.as_deref(), verdict, report, first, &self.settings.versions);
        effects.emit(Topic::Findings, id.as_str(), &finding)?;
        let amend_until_ns = now_ns.saturating_add(AMEND_NS);
        let awaits_digest = exec.hash_state == HashState::OverBudget;
        let reported = Reported {
            event: exec.event_id.clone(),
            revision: 1,
            amend_until_ns: if awaits_digest { amend_until_ns } else { 0 },
        };
        self.remember_reported(&id, offset, reported, effects);
        if verdict.unresolved.is_some() {
            self.remember_unresolved(&id, offset, Unresolved { exec, revision: 1, amend_until_ns }, effects);
        }
        Ok(())
    }

    pub(super) fn remember_reported(&mut self, id: &ContainerId, offset: i64, reported: Reported, effects: &mut Fx) {
        let Some(tracked) = self.containers.get_mut(id) else { return };
        effects.touch(tracked.partition, Kind::Reported.key(id, offset));
        if let Some(oldest) = tracked.remember_reported(offset, reported) {
            effects.touch(tracked.partition, Kind::Reported.key(id, oldest));
        }
    }

    pub(super) fn remember_unresolved(&mut self, id: &ContainerId, offset: i64, it: Unresolved, effects: &mut Fx) {
        let Some(tracked) = self.containers.get_mut(id) else { return };
        effects.touch(tracked.partition, Kind::Unresolved.key(id, offset));
        if let Some(oldest) = tracked.remember_unresolved(offset, it) {
            effects.count("unresolved_forgotten");
            effects.touch(tracked.partition, Kind::Unresolved.key(id, oldest));
        }
    }

    /// The report of a verdict, unless it was made for this container and path before.
    fn wanted(&mut self, exec: &Exec, verdict: &Verdict, effects: &mut Fx) -> Option<Report> {
        let report = verdict.report?;
        if verdict.origin != Origin::Inconsistent {
            return Some(report);
        }
        let tracked = self.containers.get_mut(&exec.container_id)?;
        match tracked.note_mismatch(exec.subject_path()) {
            Mismatch::First => {
                effects.touch(tracked.partition, container_key(&exec.container_id));
                Some(report)
            }
            Mismatch::Known => None,
            Mismatch::TooMany => {
                effects.count("mismatched_paths_capped");
                None
            }
        }
    }

    /// Findings that went out unresolved are judged again when the image is known.
    fn amend(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        if self.containers.get(id).is_none_or(|tracked| tracked.unresolved.is_empty()) {
            return Ok(());
        }
        let Readiness::Ready(index) = self.readiness(id) else { return Ok(()) };
        self.expire_unresolved(now_ns, id, effects);
        let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
        while !tracked.unresolved.is_empty() {
            if self.budget == 0 {
                self.backlog.insert(id.clone());
                return Ok(());
            }
            self.budget -= 1;
            let Some((offset, old)) = tracked.unresolved.pop_first() else { return Ok(()) };
            effects.touch(tracked.partition, Kind::Unresolved.key(id, offset));
            let verdict = judge(&old.exec, Ok(&index));
            let (report, revision) = amendment(&verdict, old.revision, effects);
            if tracked.remember_revision(offset, revision.number) == Change::Changed {
                effects.touch(tracked.partition, Kind::Reported.key(id, offset));
            }
            let seen = tracked.seen.as_deref();
            let finding = finding::drift(&old.exec, seen, &verdict, report, revision, &self.settings.versions);
            effects.emit(Topic::Findings, id.as_str(), &finding)?;
        }
        Ok(())
    }

    /// Findings stay unresolved when their hour is over.
    pub(super) fn expire_unresolved(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) {
        let Some(tracked) = self.containers.get_mut(id) else { return };
        while let Some(oldest) = tracked.unresolved.first_entry()
            && oldest.get().amend_until_ns <= now_ns
        {
            effects.count("amendment_too_late");
            effects.touch(tracked.partition, Kind::Unresolved.key(id, *oldest.key()));
            oldest.remove();
        }
    }
}

/// What the next revision of a finding says: what stands now, or that nothing does.
pub(super) fn amendment(verdict: &Verdict, revision: i32, effects: &mut Fx) -> (Report, Revision) {
    let (report, state) =
        verdict.report.map_or((verdict::ADDED, FindingState::Retracted), |report| (report, FindingState::Active));
    effects.count(if state == FindingState::Active { "finding_amended" } else { "finding_retracted" });
    (report, Revision { number: revision.saturating_add(1), state })
}
