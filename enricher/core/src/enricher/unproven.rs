//! The first report of an exec: a finding of its own, or, of an unproven one, the finding of its container, reason and time.

use driftline_detection::finding::{self, Revision, UnprovenExecs};
use driftline_detection::{Category, Unproven, Verdict};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Exec, FindingState};
use driftline_service_core::BrokenInvariant;

use super::{Enricher, Fx, container_key};

impl Enricher {
    /// Reports an exec for the first time. Returns the revision of its own finding; 0 when it is one of the unproven ones that
    /// have a finding together.
    pub(super) fn report_first(
        &mut self,
        exec: &Exec,
        verdict: &Verdict,
        category: Category,
        effects: &mut Fx,
    ) -> Result<i32, BrokenInvariant> {
        if let Some(reason) = verdict.unproven {
            self.add_unproven(exec, verdict, reason, effects)?;
            return Ok(0);
        }
        let id = &exec.container_id;
        let first = Revision { number: 1, state: FindingState::Active };
        let seen = self.containers.get(id).and_then(|tracked| tracked.seen.as_deref());
        let finding = finding::drift(exec, seen, verdict, category, first, &self.settings.versions);
        effects.emit(Topic::Findings, id.as_str(), &finding)?;
        Ok(first.number)
    }

    /// Counts an unproven exec, and publishes the finding when that is due.
    fn add_unproven(
        &mut self,
        exec: &Exec,
        verdict: &Verdict,
        reason: Unproven,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        effects.count("exec_unproven");
        let Some(tracked) = self.containers.get_mut(&exec.container_id) else { return Ok(()) };
        effects.touch(tracked.partition, container_key(&exec.container_id));
        let due = tracked.unproven.add(reason, exec);
        self.publish_unproven(exec, verdict, due, effects)
    }

    /// Gives an exec that was unproven the verdict that it has by now. Returns the number of its own finding's revision;
    /// 0 when it has no finding of its own.
    pub(super) fn amend_unproven(
        &mut self,
        exec: &Exec,
        verdict: &Verdict,
        was: Unproven,
        effects: &mut Fx,
    ) -> Result<i32, BrokenInvariant> {
        if verdict.unproven == Some(was) {
            return Ok(0);
        }
        let own = match verdict.category {
            Some(category) => self.report_first(exec, verdict, category, effects)?,
            None => 0,
        };
        effects.count("unproven_exec_proven");
        let Some(tracked) = self.containers.get_mut(&exec.container_id) else { return Ok(own) };
        effects.touch(tracked.partition, container_key(&exec.container_id));
        let retraction = tracked.unproven.remove(was, exec.time_ns);
        self.publish_unproven(exec, verdict, retraction, effects)?;
        Ok(own)
    }

    fn publish_unproven(
        &self,
        newest: &Exec,
        verdict: &Verdict,
        due: Option<(UnprovenExecs, Revision)>,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some((execs, revision)) = due else { return Ok(()) };
        let seen = self.containers.get(&newest.container_id).and_then(|tracked| tracked.seen.as_deref());
        let finding = finding::unproven(newest, seen, verdict, &execs, revision, &self.settings.versions);
        effects.emit(Topic::Findings, newest.container_id.as_str(), &finding)
    }
}
