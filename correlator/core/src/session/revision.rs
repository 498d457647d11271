//! When a revision of an alert is due. Only here does the wall clock matter.

use driftline_schemas::correlator_state::LastRevision;
use driftline_schemas::{Activity, Sha256};
use driftline_service_core::BrokenInvariant;

use super::Session;
use crate::settings::Settings;

/// Whether the session was found quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Since this wall clock time, from which retention counts.
    Final(i64),
}

/// Whether a revision is the last that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finality {
    MoreMayCome,
    Final,
}

/// A revision to be emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub activity: Activity,
    pub finality: Finality,
}

impl Session {
    /// Whether findings are still expected.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(crate) fn last_event_ns(&self) -> i64 {
        self.span.last_ns
    }

    /// Nothing happened for the gap. An event time in the future, from a node whose clock is wrong, counts as the time
    /// it arrived, or the session would stay open until then.
    fn quiet_from_ns(&self, settings: &Settings) -> i64 {
        self.span.last_ns.min(self.heard_ns).saturating_add(settings.gap_ns)
    }

    fn is_quiet(&self, now_ns: i64, settings: &Settings) -> bool {
        now_ns >= self.quiet_from_ns(settings)
    }

    /// What a change makes due at once. A session that was final is open again after it, unless it is still quiet and
    /// the change is emitted now.
    pub(crate) fn after_change(&mut self, now_ns: i64, settings: &Settings) -> Option<Due> {
        let still_final = !self.is_open() && self.is_quiet(now_ns, settings);
        let update = if still_final { Finality::Final } else { Finality::MoreMayCome };
        let due = match (&self.last_revision, self.is_withdrawn()) {
            (None, true) => None,
            (None, false) => (self.severity() >= settings.threshold)
                .then_some(Due { activity: Activity::Create, finality: Finality::MoreMayCome }),
            (Some(last), true) => (last.activity != Activity::Close)
                .then_some(Due { activity: Activity::Close, finality: Finality::Final }),
            (Some(last), false) => self.differs(last).then_some(Due { activity: Activity::Update, finality: update }),
        };
        if due.is_none_or(|due| due.finality == Finality::MoreMayCome) {
            self.enter(Phase::Open);
        }
        due
    }

    /// What is due when the session is found quiet: its last revision.
    pub(crate) fn when_quiet(&mut self, now_ns: i64, settings: &Settings) -> Option<Due> {
        if self.is_open() && self.is_quiet(now_ns, settings) { self.end(now_ns) } else { None }
    }

    /// Ends the session whatever the clock says; the revision to emit, when there is an alert that stands.
    pub(crate) fn end(&mut self, now_ns: i64) -> Option<Due> {
        let was_open = self.is_open();
        self.enter(Phase::Final(now_ns));
        let stands = self.last_revision.as_ref().is_some_and(|last| last.activity != Activity::Close);
        (was_open && stands).then_some(Due { activity: Activity::Update, finality: Finality::Final })
    }

    /// When the clock makes something happen to the session: it is found quiet, or expires.
    pub(crate) fn deadline_ns(&self, settings: &Settings) -> i64 {
        match self.phase {
            Phase::Open => self.quiet_from_ns(settings),
            Phase::Final(since_ns) => since_ns.saturating_add(settings.retention_ns),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.changes.head |= phase != self.phase;
        self.phase = phase;
    }

    /// Only whether the categories changed matters, and there may be many.
    fn categories_digest(&self) -> Sha256 {
        let categories = self.facts.categories();
        let parts = categories.iter().map(|category| format!("{}:{category}", category.len()));
        Sha256::of(parts.collect::<String>().as_bytes())
    }

    /// Whether a final session need not be kept for late findings any longer.
    pub(crate) fn is_expired(&self, now_ns: i64, settings: &Settings) -> bool {
        !self.is_open() && now_ns >= self.deadline_ns(settings)
    }

    /// Records that `due` is emitted, and returns its revision number.
    pub(crate) fn start_revision(&mut self, due: Due) -> Result<i32, BrokenInvariant> {
        let last = self.last_revision.as_ref().map_or(0, |last| last.revision);
        let revision = last.checked_add(1).ok_or_else(|| BrokenInvariant("revision number overflow".to_owned()))?;
        self.last_revision = Some(LastRevision {
            revision,
            activity: due.activity,
            severity: self.severity(),
            categories_digest: self.categories_digest(),
            count: self.active_count(),
            unresolved: self.unresolved_count(),
        });
        self.changes.head = true;
        Ok(revision)
    }

    /// Severity or categories changed, the findings doubled, at least half of those that were emitted without their image or
    /// container have them now, or a closed alert stands again.
    fn differs(&self, last: &LastRevision) -> bool {
        last.activity == Activity::Close
            || (last.unresolved > 0 && self.unresolved_count().saturating_mul(2) <= last.unresolved)
            || self.severity() != last.severity
            || self.categories_digest() != last.categories_digest
            || self.active_count() >= last.count.saturating_mul(2)
    }
}
