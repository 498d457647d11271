//! What a collector says later or of many execs at once: the digest of an exec that went out without it, and that execs
//! were left out.
//!
//! A digest that comes late comes as the same exec again, in its place among the container's other events. So it makes no
//! difference to what is said whether the first of both had to wait here.

use driftline_schemas::topics::Topic;
use driftline_schemas::{ContainerThrottled, Exec};
use driftline_service_core::{BrokenInvariant, Disposition};

use super::flow::amendment;
use super::{Enricher, Fx, Kind};
use crate::finding;
use crate::limits::AMEND_NS;
use crate::tracked::{Queued, Reported, Standing, Unresolved};
use crate::verdict::Verdict;

impl Enricher {
    /// Settles an exec of which a finding went out already. Returns one of which there is none.
    pub(super) fn amend_with_digest(
        &mut self,
        now_ns: i64,
        exec: Box<Exec>,
        verdict: &Verdict,
        effects: &mut Fx,
    ) -> Result<Option<Box<Exec>>, BrokenInvariant> {
        let event = Queued::Exec(exec);
        let standing = self.containers.get(event.container_id()).map(|tracked| tracked.standing(&event));
        let Queued::Exec(exec) = event else { return Ok(None) };
        match standing {
            None | Some(Standing::New) => return Ok(Some(exec)),
            Some(Standing::Repeat) => effects.settle(Disposition::Duplicate),
            Some(Standing::Amends(_, reported)) if reported.amend_until_ns <= now_ns => {
                effects.settle(Disposition::Dropped("amendment_too_late"));
            }
            Some(Standing::Amends(offset, reported)) => {
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
            // It was judged by the image, which is not known any more: that judgement stands until the image is.
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

    /// Says that execs of a container were left out.
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
