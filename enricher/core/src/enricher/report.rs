//! The outcome of one exec: a finding, another revision of one, or none.
//!
//! A digest that is computed late arrives as the same exec again, in its place among the container's other events. So
//! the output is the same whether or not the first of both was parked.

use driftline_detection::{Category, Unproven, Verdict, finding, finding::Revision};
use driftline_schemas::topics::Topic;
use driftline_schemas::{ContainerId, ContainerThrottled, Exec, FindingState, HashState, Origin};
use driftline_service_core::{BrokenInvariant, Disposition};

use super::{Enricher, Fx, Kind, container_key};
use crate::container::{Change, Mismatch, Occurrence, Queued, Reported};
use crate::judging::judge;
use crate::limits::AMEND_NS;
use crate::unresolved::Unresolved;

/// Why a finding stays unresolved even when the image comes.
const NOT_AMENDED: &str = "it stays so, because too many findings of the container wait for the image";

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
                _ => Disposition::Clean,
            });
            return Ok(());
        };
        effects.settle(Disposition::Reported);
        let id = exec.container_id.clone();
        let revision = self.report_first(&exec, verdict, report, effects)?;
        let amend_until_ns = now_ns.saturating_add(AMEND_NS);
        let awaits_digest = exec.hash_state == HashState::OverBudget;
        let reported = Reported {
            event: exec.event_id.clone(),
            revision,
            amend_until_ns: if awaits_digest { amend_until_ns } else { 0 },
        };
        self.remember_reported(&id, offset, reported, effects);
        if let Some(reason) = &verdict.unresolved {
            self.remember_unresolved(&id, offset, Unresolved { exec, revision, amend_until_ns }, reason, effects)?;
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

    fn remember_unresolved(
        &mut self,
        id: &ContainerId,
        offset: i64,
        unresolved: Unresolved,
        reason: &str,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
        effects.touch(tracked.partition, Kind::Unresolved.key(id, offset));
        for (offset, forgotten) in tracked.unresolved.insert(offset, unresolved) {
            effects.count("unresolved_forgotten");
            self.report_forgotten(id, offset, &forgotten, reason, effects)?;
        }
        Ok(())
    }

    /// Adds to a finding that it will not be amended: its container has too many that wait for the image.
    fn report_forgotten(
        &mut self,
        id: &ContainerId,
        offset: i64,
        forgotten: &Unresolved,
        reason: &str,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
        effects.touch(tracked.partition, Kind::Unresolved.key(id, offset));
        let verdict = judge(&forgotten.exec, Err(reason));
        let Some(category) = verdict.category.filter(|_| forgotten.revision > 0) else { return Ok(()) };
        let verdict = Verdict { unresolved: Some(format!("{reason}; {NOT_AMENDED}")), ..verdict };
        let next = Revision { number: forgotten.revision.saturating_add(1), state: FindingState::Active };
        if tracked.remember_revision(offset, next.number) == Change::Changed {
            effects.touch(tracked.partition, Kind::Reported.key(id, offset));
        }
        let seen = tracked.seen.as_deref();
        let finding = finding::drift(&forgotten.exec, seen, &verdict, category, next, &self.settings.versions);
        effects.emit(Topic::Findings, id.as_str(), &finding)
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
        let before = tracked.unresolved.get(offset).map(|unresolved| unresolved.amend_until_ns);
        let mut revision = reported.revision;
        if revision == 0 {
            let was = if before.is_some() { Unproven::NoImage } else { Unproven::NoDigest(HashState::OverBudget) };
            revision = self.amend_unproven(&exec, verdict, was, effects)?;
            effects.settle(if revision == 0 { Disposition::Clean } else { Disposition::Reported });
        } else if verdict.unresolved.is_some() && before.is_none() {
            // The exec was judged with the image, which is no longer known: that judgement stands until the image is
            // known again.
            effects.settle(Disposition::Clean);
        } else {
            effects.settle(Disposition::Reported);
            let (report, next) = amendment(&exec, verdict, revision, effects);
            revision = next.number;
            let seen = tracked.seen.as_deref();
            let finding = finding::drift(&exec, seen, verdict, report, next, &self.settings.versions);
            effects.emit(Topic::Findings, id.as_str(), &finding)?;
        }
        let Some(tracked) = self.containers.get_mut(&id) else { return Ok(()) };
        tracked.remember_revision(offset, revision);
        tracked.remember_digest(offset);
        effects.touch(partition, Kind::Reported.key(&id, offset));
        if let Some(reason) = &verdict.unresolved {
            let amend_until_ns = before.unwrap_or_else(|| now_ns.saturating_add(AMEND_NS));
            self.remember_unresolved(&id, offset, Unresolved { exec, revision, amend_until_ns }, reason, effects)?;
        } else if tracked.unresolved.remove(offset).is_some() {
            effects.touch(partition, Kind::Unresolved.key(&id, offset));
        }
        Ok(())
    }

    /// Amends the report of an exec whose image is known by now. Returns the number of its finding's newest revision.
    pub(super) fn amend_with_image(
        &mut self,
        old: &Unresolved,
        verdict: &Verdict,
        effects: &mut Fx,
    ) -> Result<i32, BrokenInvariant> {
        if old.revision == 0 {
            return self.amend_unproven(&old.exec, verdict, Unproven::NoImage, effects);
        }
        let (report, revision) = amendment(&old.exec, verdict, old.revision, effects);
        let id = &old.exec.container_id;
        let seen = self.containers.get(id).and_then(|tracked| tracked.seen.as_deref());
        let finding = finding::drift(&old.exec, seen, verdict, report, revision, &self.settings.versions);
        effects.emit(Topic::Findings, id.as_str(), &finding)?;
        Ok(revision.number)
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
fn amendment(exec: &Exec, verdict: &Verdict, revision: i32, effects: &mut Fx) -> (Category, Revision) {
    let retracted = || (Category::of_retraction(exec), FindingState::Retracted);
    let (report, state) = verdict.category.map_or_else(retracted, |report| (report, FindingState::Active));
    effects.count(if state == FindingState::Active { "finding_amended" } else { "finding_retracted" });
    (report, Revision { number: revision.saturating_add(1), state })
}
