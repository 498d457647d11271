//! The outcome of one exec: a finding, another revision of one, or none.
//!
//! A digest that is computed late arrives as the same exec again, in its place among the container's other events. So
//! the output is the same whether or not the first of both was parked.

use driftline_detection::{ADDED, Category, Verdict, finding, finding::Revision};
use driftline_schemas::topics::Topic;
use driftline_schemas::{ContainerId, ContainerThrottled, Exec, FindingState, HashState, Origin};
use driftline_service_core::{BrokenInvariant, Disposition};

use super::{Enricher, Fx, Kind, container_key};
use crate::container::{Mismatch, Occurrence, Queued, Reported, Unresolved};
use crate::limits::AMEND_NS;

impl Enricher {
    /// Settles one exec: with a finding, another revision of one, or none.
    pub(super) fn settle(
        &mut self,
        now_ns: i64,
        offset: i64,
        exec: Box<Exec>,
        verdict: &Verdict,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(exec) = self.amend_with_digest(now_ns, exec, verdict, effects)? else { return Ok(()) };
        let Some(report) = self.reportable(&exec, verdict, effects) else {
            effects.settle(match verdict.origin {
                Origin::HostNamespace => Disposition::Dropped("host_namespace"),
                Origin::None => Disposition::Dropped("engine_init"),
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

    /// The category to report, unless a mismatch was reported for this container and path before.
    fn reportable(&mut self, exec: &Exec, verdict: &Verdict, effects: &mut Fx) -> Option<Category> {
        let report = verdict.category?;
        if verdict.origin != Origin::Inconsistent {
            return Some(report);
        }
        let tracked = self.containers.get_mut(&exec.container_id)?;
        match tracked.record_mismatch(exec.subject_path()) {
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

    /// Settles an exec whose finding was published already. Returns the exec if there is no such finding.
    pub(super) fn amend_with_digest(
        &mut self,
        now_ns: i64,
        exec: Box<Exec>,
        verdict: &Verdict,
        effects: &mut Fx,
    ) -> Result<Option<Box<Exec>>, BrokenInvariant> {
        let event = Queued::Exec(exec);
        let occurrence = self.containers.get(event.container_id()).map(|tracked| tracked.occurrence(&event));
        let Queued::Exec(exec) = event else { return Ok(None) };
        match occurrence {
            None | Some(Occurrence::New) => return Ok(Some(exec)),
            Some(Occurrence::Repeat) => effects.settle(Disposition::Duplicate),
            Some(Occurrence::Amends(_, reported)) if reported.amend_until_ns <= now_ns => {
                effects.settle(Disposition::Dropped("amendment_too_late"));
            }
            Some(Occurrence::Amends(offset, reported)) => {
                self.amend_reported(now_ns, offset, &reported, exec, verdict, effects)?;
            }
        }
        Ok(None)
    }

    fn amend_reported(
        &mut self,
        now_ns: i64,
        offset: i64,
        reported: &Reported,
        exec: Box<Exec>,
        verdict: &Verdict,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let id = exec.container_id.clone();
        let Some(tracked) = self.containers.get_mut(&id) else { return Ok(()) };
        let partition = tracked.partition;
        let before = tracked.unresolved.get(&offset).map(|unresolved| unresolved.amend_until_ns);
        let mut revision = reported.revision;
        if verdict.unresolved.is_some() && before.is_none() {
            // The exec was judged with the image, which is no longer known: that judgement stands until the image is
            // known again.
            effects.settle(Disposition::Clean);
        } else {
            effects.settle(Disposition::Reported);
            let (report, next) = amendment(verdict, revision, effects);
            revision = next.number;
            let seen = tracked.seen.as_deref();
            let finding = finding::drift(&exec, seen, verdict, report, next, &self.settings.versions);
            effects.emit(Topic::Findings, id.as_str(), &finding)?;
        }
        tracked.remember_revision(offset, revision);
        tracked.remember_digest(offset);
        effects.touch(partition, Kind::Reported.key(&id, offset));
        if verdict.unresolved.is_some() {
            let amend_until_ns = before.unwrap_or_else(|| now_ns.saturating_add(AMEND_NS));
            self.remember_unresolved(&id, offset, Unresolved { exec, revision, amend_until_ns }, effects);
        } else if tracked.unresolved.remove(&offset).is_some() {
            effects.touch(partition, Kind::Unresolved.key(&id, offset));
        }
        Ok(())
    }

    /// Reports that execs of a container were left out.
    pub(super) fn report_throttle(
        &mut self,
        offset: i64,
        throttled: &ContainerThrottled,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let id = &throttled.container_id;
        let Some(tracked) = self.containers.get(id) else { return Ok(()) };
        effects.settle(Disposition::Reported);
        let finding = finding::throttle(throttled, tracked.seen.as_deref(), &self.settings.versions);
        effects.emit(Topic::Findings, id.as_str(), &finding)?;
        let reported = Reported { event: throttled.event_id(), revision: 1, amend_until_ns: 0 };
        self.remember_reported(id, offset, reported, effects);
        Ok(())
    }
}

/// Category and state of the next revision of a finding: it stays active, or is retracted.
pub(super) fn amendment(verdict: &Verdict, revision: i32, effects: &mut Fx) -> (Category, Revision) {
    let (report, state) =
        verdict.category.map_or((ADDED, FindingState::Retracted), |report| (report, FindingState::Active));
    effects.count(if state == FindingState::Active { "finding_amended" } else { "finding_retracted" });
    (report, Revision { number: revision.saturating_add(1), state })
}
