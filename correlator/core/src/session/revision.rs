//! When a revision of an alert is due. The wall clock matters only here.

use driftline_schemas::correlator_state::LastRevision;
use driftline_schemas::{Activity, Severity, Sha256};
use driftline_service_core::BrokenInvariant;

use super::Session;
use crate::finding::SessionFinding;
use crate::limits::NEWS_PACE_NS;
use crate::settings::Settings;

/// Whether the session was found quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Final since this wall-clock time, from which retention counts.
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

    /// Time at which the gap has passed without a finding. An event time in the future, from a node whose clock is
    /// wrong, counts as its time of arrival; otherwise the session would stay open until then.
    fn quiet_from_ns(&self, settings: &Settings) -> i64 {
        self.span.last_ns.min(self.heard_ns).saturating_add(settings.gap_ns)
    }

    fn is_quiet(&self, now_ns: i64, settings: &Settings) -> bool {
        now_ns >= self.quiet_from_ns(settings)
    }

    /// The revision that a change makes due at once. A final session is open again after a change, unless it is still
    /// quiet and the change is emitted now.
    pub(crate) fn after_change(&mut self, now_ns: i64, settings: &Settings) -> Option<Due> {
        let still_final = !self.is_open() && self.is_quiet(now_ns, settings);
        let update = if still_final { Finality::Final } else { Finality::MoreMayCome };
        let due = match (&self.last_revision, self.is_withdrawn()) {
            (None, true) => None,
            (None, false) => (self.severity(settings.threshold) >= settings.threshold)
                .then_some(Due { activity: Activity::Create, finality: Finality::MoreMayCome }),
            (Some(last), true) => (last.activity != Activity::Close)
                .then_some(Due { activity: Activity::Close, finality: Finality::Final }),
            (Some(last), false) => (self.differs(last, settings.threshold) || self.news_are_due(now_ns))
                .then_some(Due { activity: Activity::Update, finality: update }),
        };
        if due.is_none_or(|due| due.finality == Finality::MoreMayCome) {
            self.enter(Phase::Open);
        }
        due
    }

    /// The revision that the clock makes due: the last one when the session is found quiet, or one for news.
    pub(crate) fn when_due(&mut self, now_ns: i64, settings: &Settings) -> Option<Due> {
        if self.is_open() && self.is_quiet(now_ns, settings) {
            return self.end(now_ns);
        }
        self.news_are_due(now_ns).then_some(Due { activity: Activity::Update, finality: Finality::MoreMayCome })
    }

    /// Whether a finding is of a program (path and digest), origin or way of entry that no other active finding of the
    /// session has. Of findings that are only counted, the program and the session's ways of entry are known.
    pub(super) fn is_news(&self, finding: &SessionFinding) -> bool {
        let same =
            |known: &SessionFinding| known.is_active() && known.id != finding.id && known.kind() == finding.kind();
        let counted = self.beyond.has(finding) && self.facts.has_entries_of(finding);
        finding.is_active() && !counted && !self.findings.iter().any(same)
    }

    /// Makes a revision due for what the last one did not have: at once, or when [`NEWS_PACE_NS`] has passed since. The
    /// first revision has everything.
    pub(super) fn note_news(&mut self, now_ns: i64) {
        let Some(last) = &self.last_revision else { return };
        if self.news_due_ns.is_none() {
            // A clock that was set back must not delay the revision.
            let emitted_ns = last.emitted_ns.min(now_ns);
            self.news_due_ns = Some(emitted_ns.saturating_add(NEWS_PACE_NS).max(now_ns));
            self.changes.head = true;
        }
    }

    /// Whether a finding joined after the last revision; before the first one, all did.
    pub(super) fn joined_since_revision(&self, finding: &SessionFinding) -> bool {
        self.last_revision.as_ref().is_none_or(|last| finding.order >= last.next_order)
    }

    fn news_are_due(&self, now_ns: i64) -> bool {
        self.news_due_ns.is_some_and(|due_ns| due_ns <= now_ns)
    }

    /// Ends the session whatever the clock reads. Returns the revision to emit, if the alert still applies.
    pub(crate) fn end(&mut self, now_ns: i64) -> Option<Due> {
        let was_open = self.is_open();
        self.enter(Phase::Final(now_ns));
        let stands = self.last_revision.as_ref().is_some_and(|last| last.activity != Activity::Close);
        (was_open && stands).then_some(Due { activity: Activity::Update, finality: Finality::Final })
    }

    /// The session's next deadline: a revision for news is due, it is found quiet, or it expires.
    pub(crate) fn deadline_ns(&self, settings: &Settings) -> i64 {
        match self.phase {
            Phase::Open => self.quiet_from_ns(settings).min(self.news_due_ns.unwrap_or(i64::MAX)),
            Phase::Final(since_ns) => since_ns.saturating_add(settings.retention_ns),
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.changes.head |= phase != self.phase;
        self.phase = phase;
    }

    /// Digest of the categories: only a change matters, and there may be many categories.
    fn categories_digest(&self) -> Sha256 {
        let categories = self.facts.categories();
        let parts = categories.iter().map(|category| format!("{}:{category}", category.len()));
        Sha256::of(parts.collect::<String>().as_bytes())
    }

    /// Whether the retention of a final session for late findings has passed.
    pub(crate) fn is_expired(&self, now_ns: i64, settings: &Settings) -> bool {
        !self.is_open() && now_ns >= self.deadline_ns(settings)
    }

    /// The number of the next revision.
    pub(crate) fn next_revision(&self) -> Result<i32, BrokenInvariant> {
        let last = self.last_revision.as_ref().map_or(0, |last| last.revision);
        last.checked_add(1).ok_or_else(|| BrokenInvariant("revision number overflow".to_owned()))
    }

    /// Records that a revision was emitted.
    pub(crate) fn record_revision(&mut self, revision: i32, due: Due, now_ns: i64, settings: &Settings) {
        self.last_revision = Some(LastRevision {
            revision,
            activity: due.activity,
            severity: self.severity(settings.threshold),
            categories_digest: self.categories_digest(),
            count: self.active_count(),
            unresolved: self.unresolved_count(),
            next_order: self.next_order,
            emitted_ns: now_ns,
        });
        self.news_due_ns = None;
        self.changes.head = true;
    }

    /// Whether the content differs enough for a revision at once: severity or categories changed, the findings doubled, at
    /// least half of the findings emitted without image or container have both now, or a closed alert applies again.
    fn differs(&self, last: &LastRevision, threshold: Severity) -> bool {
        last.activity == Activity::Close
            || (last.unresolved > 0 && self.unresolved_count().saturating_mul(2) <= last.unresolved)
            || self.severity(threshold) != last.severity
            || self.categories_digest() != last.categories_digest
            || self.active_count() >= last.count.saturating_mul(2)
    }
}
