//! The findings of one container that belong together, the content computed from them, and the times at which it is
//! emitted.
//!
//! A session holds a set: of each finding the revision that won. The content is computed from the set, so it cannot
//! depend on the order of amendments. Findings beyond [`SESSION_FINDINGS_MAX`] leave the set and are only counted
//! ([`Beyond`]).

mod background;
mod content;
mod findings;
mod revision;
mod state;

use driftline_schemas::correlator_state::LastRevision;
use driftline_schemas::{AlertId, Finding, FindingId, FindingState, Sha256};
use driftline_service_core::BrokenInvariant;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::finding::{Joined, SessionFinding};
use crate::limits::{SESSION_FINDINGS_MAX, VERSION_KINDS_MAX, VERSION_VALUES_MAX};
use crate::memory;
use crate::score::{ContainerFacts, Facts};
use crate::settings::Settings;
use crate::subject::Subject;
use crate::window::{Belongs, Span};
use background::{EncodedBackground, Weight};
use content::{Beyond, strength};
use findings::SessionFindings;
use revision::Phase;

pub(crate) use background::Background;
pub(crate) use content::{Fold, Scope, SessionContent};
pub(crate) use revision::{Due, Finality};
pub(crate) use state::Stored;

/// Flags of an alert: what bounded or disturbed it.
pub(crate) mod flag {
    /// The session has more findings than are shown or tracked.
    pub(crate) const FINDINGS_CAPPED: &str = "findings_capped";
    /// A finding is shown without its process and file: the finding with details was retracted, and of its repeats only
    /// the numbers were kept.
    pub(crate) const DETAILS_DROPPED: &str = "details_dropped";
    /// The session has more categories, techniques or versions than are listed.
    pub(crate) const LISTS_CAPPED: &str = "lists_capped";
    /// A finding was made before its image or container was known.
    pub(crate) const DEADLINE: &str = "deadline";
    /// The first finding arrived so late that it may belong to a session that was forgotten.
    pub(crate) const LATE: &str = "late";
    /// The session ended, or began, because of the cap on a session's length.
    pub(crate) const LENGTH_CAPPED: &str = "length_capped";
    /// The session was ended early to make room.
    pub(crate) const EVICTED: &str = "session_evicted";
    /// Long texts were cut.
    pub(crate) const SHORTENED: &str = "shortened";
}

/// Memory of a session without its texts, findings and records: the session, its subject with its place in the order of
/// eviction, its deadline, and its id, all of which are in maps.
const SESSION_BYTES: usize = size_of::<Session>()
    + size_of::<Subject>()
    + memory::entry(2 * memory::WORD_BYTES) // sessions
    + memory::entry(8 * memory::WORD_BYTES) // subjects
    + memory::entry(4 * memory::WORD_BYTES) // ages
    + memory::entry(2 * memory::WORD_BYTES) // deadlines
    + 4 * memory::WORD_BYTES // sessions of the subject
    + 11 * memory::WORD_BYTES // the node of the first labels among the facts
    + 9 * memory::WORD_BYTES // lists of findings and labels, which begin with room for four
    + 12 * memory::ALLOCATION_BYTES;

/// One session; see the module.
#[derive(Debug)]
pub(crate) struct Session {
    pub alert_id: Arc<AlertId>,
    pub subject: Arc<Subject>,
    /// Place among the sessions of the subject, in the order in which they opened.
    pub opened: i64,
    /// Covers every finding that joined, including retracted ones: membership must not depend on amendments.
    span: Span,
    /// Wall-clock time at which the last finding joined.
    heard_ns: i64,
    next_order: i64,
    findings: SessionFindings,
    beyond: Beyond,
    /// Facts of all active findings. They are updated with every finding, so that a finding costs little whatever the
    /// session's size.
    facts: Facts,
    background: EncodedBackground,
    /// Weight of the finding whose node and container are in the background.
    weight: Weight,
    /// Digest of the versions that were taken last, which need no look-up in the background.
    versions_taken: Option<Sha256>,
    flags: BTreeSet<String>,
    /// The last revision, to know whether another is due.
    last_revision: Option<LastRevision>,
    /// Wall-clock time from which a revision is due for news ([`Self::is_news`]) that the last one did not have.
    news_due_ns: Option<i64>,
    /// Latest event of the subject's sessions that were forgotten while this one was the last that had opened.
    forgotten_event_ns: Option<i64>,
    phase: Phase,
    changes: Changes,
}

/// The state records of a session that changed since they were last written.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub head: bool,
    pub beyond: bool,
    pub findings: BTreeSet<FindingId>,
}

/// How a finding affected its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    /// The finding is new and the session tracks the maximum: this or a weaker finding is only counted.
    Counted,
    Amended,
    NothingNew,
}

impl Session {
    /// A session with its first finding.
    pub(crate) fn open(
        alert_id: Arc<AlertId>,
        subject: Arc<Subject>,
        first: &Finding,
        now_ns: i64,
        settings: &Settings,
    ) -> Result<Self, BrokenInvariant> {
        let (node, container) = (first.node.clone(), first.container.clone());
        let background = Background { node, container, versions: BTreeMap::new() };
        let mut session = Self {
            alert_id,
            subject,
            opened: 0,
            span: Span::at(first.event_time_ns),
            heard_ns: now_ns,
            next_order: 0,
            findings: SessionFindings::default(),
            beyond: Beyond::default(),
            facts: Facts { container: ContainerFacts::of(first.container.as_ref()), ..Facts::default() },
            background: EncodedBackground::of(background)?,
            weight: Weight::of(first, 0, SessionFinding::new(first, 0)?.digest()),
            versions_taken: None,
            flags: BTreeSet::new(),
            last_revision: None,
            news_due_ns: None,
            forgotten_event_ns: None,
            phase: Phase::Open,
            changes: Changes::default(),
        };
        session.take(first, now_ns, settings)?;
        Ok(session)
    }

    /// Whether the session has this finding.
    pub(crate) fn holds(&self, id: &FindingId) -> bool {
        self.findings.get(id).is_some()
    }

    /// Number of active findings that were made without their image or container.
    fn unresolved_count(&self) -> i64 {
        self.findings.iter().filter(|tracked| !tracked.is_resolved()).fold(0, |count, _| count + 1)
    }

    /// Latest event of the subject's forgotten sessions, as far as this session keeps it.
    pub(crate) fn forgotten_event_ns(&self) -> Option<i64> {
        self.forgotten_event_ns
    }

    /// Keeps the latest event of a forgotten session of the subject.
    pub(crate) fn keep_forgotten_event(&mut self, event_ns: i64) {
        if self.forgotten_event_ns < Some(event_ns) {
            self.forgotten_event_ns = Some(event_ns);
            self.changes.head = true;
        }
    }

    pub(crate) fn flags(&self) -> &BTreeSet<String> {
        &self.flags
    }

    /// Sets a flag; returns whether it was unset before.
    pub(crate) fn set_flag(&mut self, flag: &str) -> bool {
        let news = !self.flags.contains(flag) && self.flags.insert(flag.to_owned());
        self.changes.head |= news;
        news
    }

    /// Whether a finding with this event time would belong to the session.
    pub(crate) fn belongs(&self, time_ns: i64, settings: &Settings) -> Belongs {
        self.span.belongs(time_ns, settings)
    }

    /// Takes a finding that belongs here, or another revision of a finding of the session.
    pub(crate) fn take(
        &mut self,
        finding: &Finding,
        now_ns: i64,
        settings: &Settings,
    ) -> Result<Taken, BrokenInvariant> {
        let known = self.findings.get(&finding.finding_id).map(|known| known.order);
        let order = known.unwrap_or(self.next_order);
        let tracked = SessionFinding::new(finding, order)?;
        let mut news = self.take_background(finding, Weight::of(finding, order, tracked.digest()))?;
        if finding.unresolved.is_some() {
            news |= self.set_flag(flag::DEADLINE);
        }
        self.changes.head |= news;
        if known.is_none() && self.is_news(&tracked) {
            self.note_news(now_ns);
        }
        let taken = match known {
            None => self.take_new(tracked, now_ns, settings)?,
            Some(_) => self.take_revision(tracked, news, now_ns),
        };
        let is_settled = taken == Taken::NothingNew
            || (taken != Taken::Amended && self.details_are_settled(&finding.finding_id, settings.findings_kept));
        if !is_settled {
            self.drop_details(settings)?;
        }
        Ok(taken)
    }

    /// Takes the node, container and versions of a finding; returns whether anything changed.
    fn take_background(&mut self, finding: &Finding, weight: Weight) -> Result<bool, BrokenInvariant> {
        let parts = finding.versions.iter().map(|(kind, value)| format!("{}:{kind}{value}\0", kind.len()));
        let versions = Some(Sha256::of(parts.collect::<String>().as_bytes()));
        let better = weight > self.weight;
        if !better && versions == self.versions_taken {
            return Ok(false);
        }
        let mut background = self.background()?;
        self.versions_taken = versions;
        let news = take_versions(&finding.versions, &mut background.versions, &mut self.flags);
        if better {
            self.weight = weight;
            self.facts.container = ContainerFacts::of(finding.container.as_ref());
            background.node = finding.node.clone();
            background.container.clone_from(&finding.container);
        }
        if better || news {
            self.background = EncodedBackground::of(background)?;
        }
        Ok(better || news)
    }

    /// The part that only an alert or the changelog needs.
    pub(crate) fn background(&self) -> Result<Background, BrokenInvariant> {
        self.background.open()
    }

    /// Estimated memory of the session.
    pub(crate) fn memory_bytes(&self) -> usize {
        let ids = self.alert_id.as_str().len() + self.subject.cluster.len() + self.subject.id.len();
        let flags = self.flags.len() * memory::FLAG_BYTES;
        SESSION_BYTES + ids + flags + self.background.len() + self.findings.bytes() + self.beyond.memory_bytes()
    }

    /// The same estimate, computed again from all parts.
    #[cfg(test)]
    pub(crate) fn count_memory_bytes(&self) -> usize {
        self.memory_bytes() - self.findings.bytes() + self.findings.count_bytes() - self.beyond.memory_bytes()
            + self.beyond.count_memory_bytes()
    }

    fn take_new(
        &mut self,
        mut finding: SessionFinding,
        now_ns: i64,
        settings: &Settings,
    ) -> Result<Taken, BrokenInvariant> {
        self.changes.head = true;
        let id = finding.id.clone();
        self.changes.findings.insert(id.clone());
        self.next_order = self.next_order.saturating_add(1);
        self.span = self.span.with(finding.event_time_ns);
        self.heard_ns = self.heard_ns.max(now_ns);
        if finding.state == FindingState::Active {
            self.facts.take(&finding);
        }
        let max = settings.findings_kept;
        if self.is_mere_repeat(&finding, max) || self.is_behind_what_is_shown(&finding, max) {
            finding.drop_detail()?;
        }
        self.findings.insert(finding);
        if self.findings.len() <= SESSION_FINDINGS_MAX {
            return Ok(Taken::New);
        }
        self.set_flag(flag::FINDINGS_CAPPED);
        self.untrack_weakest(&id);
        if !self.holds(&id) {
            self.changes.findings.remove(&id); // it was never written
        }
        Ok(Taken::Counted)
    }

    /// Computes the facts again from all findings.
    fn count_facts(&mut self) {
        let container = std::mem::take(&mut self.facts.container);
        self.facts = Facts { container, ..self.beyond.facts.clone() };
        self.findings.iter().filter(|finding| finding.is_active()).for_each(|finding| self.facts.take(finding));
    }

    /// Untracks a finding: first a retracted one, then a repeat of a tracked one, then one that a revision had; of these
    /// the weakest, of these the newest.
    fn untrack_weakest(&mut self, newest: &FindingId) {
        let weakest = if self.is_loop(newest) { Some(newest.clone()) } else { self.weakest() };
        let Some(finding) = weakest.and_then(|id| self.findings.remove(&id)) else { return };
        self.changes.findings.insert(finding.id.clone());
        if finding.is_active() {
            self.changes.beyond = true;
            if let Some(flag) = self.beyond.take(&finding) {
                self.set_flag(flag);
                // The label of the finding is now in the facts only.
                self.count_facts();
            }
        }
    }

    /// Whether nothing is retracted and the newest finding is a repeat. In this common case nothing is to be searched.
    fn is_loop(&self, newest: &FindingId) -> bool {
        let Some(newest) = self.findings.get(newest) else { return false };
        let repeats = |other: &SessionFinding| {
            other.id != newest.id && other.kind() == newest.kind() && other.severity() >= newest.severity()
        };
        self.findings.iter().all(SessionFinding::is_active) && self.findings.iter().any(repeats)
    }

    fn weakest(&self) -> Option<FindingId> {
        let rank = |finding: &&SessionFinding| (self.joined_since_revision(finding), strength(finding));
        let retracted = self.findings.iter().filter(|finding| !finding.is_active()).min_by_key(rank);
        let weakest = retracted.or_else(|| self.repeats().into_iter().min_by_key(rank));
        weakest.or_else(|| self.findings.iter().min_by_key(rank)).map(|finding| finding.id.clone())
    }

    /// Of each kind all active findings but the strongest.
    fn repeats(&self) -> Vec<&SessionFinding> {
        let active = self.findings.iter().filter(|finding| finding.is_active());
        let mut active: Vec<_> = active.map(|finding| (finding.fold.part(), finding)).collect();
        active.sort_unstable_by_key(|(part, _)| *part);
        let mut repeats = Vec::new();
        for alike in active.chunk_by_mut(|(one, _), (other, _)| one == other).filter(|alike| alike.len() > 1) {
            alike.sort_unstable_by_key(|(_, finding)| (finding.kind(), Reverse(strength(finding))));
            let of_kinds = alike.chunk_by(|(_, one), (_, other)| one.kind() == other.kind());
            repeats.extend(of_kinds.flat_map(|of_kind| of_kind.iter().skip(1)).map(|(_, finding)| *finding));
        }
        repeats
    }

    fn take_revision(&mut self, revision: SessionFinding, news: bool, now_ns: i64) -> Taken {
        let id = revision.id.clone();
        let was_same = self.findings.get(&id).is_some_and(|known| known.is_active() && known.kind() == revision.kind());
        let is_news = !was_same && self.is_news(&revision);
        let joined = self.findings.join(revision);
        if joined == Joined::Changed {
            if is_news {
                self.note_news(now_ns);
            }
            self.changes.findings.insert(id);
            self.count_facts();
        }
        if joined == Joined::Changed || news { Taken::Amended } else { Taken::NothingNew }
    }

    /// Whether there is no room to show more, and a finding at least as strong is shown for the same detector, path and
    /// digest. In the common case, a loop, this saves [`Self::drop_details`].
    fn is_mere_repeat(&self, finding: &SessionFinding, kept: usize) -> bool {
        let shown = || self.findings.iter().filter(|other| other.has_detail());
        let same = |other: &SessionFinding| other.is_active() && other.fold == finding.fold;
        shown().count() >= kept && shown().any(|other| same(other) && other.severity() >= finding.severity())
    }

    /// Whether as many folds as an alert shows come before the one of a new finding in every view: the strongest, and those
    /// that are as strong as it, begun earlier, and news since the last revision. In a flood of new programs this saves
    /// [`Self::drop_details`].
    fn is_behind_what_is_shown(&self, finding: &SessionFinding, kept: usize) -> bool {
        let active = || self.findings.iter().filter(|other| other.is_active());
        let with_detail = || active().filter(|other| other.has_detail());
        if with_detail().count() < kept {
            return false;
        }
        let is_as_strong = |other: &&SessionFinding| other.severity() >= finding.severity() && !self.beyond.has(other);
        let mut folds: BTreeSet<u64> = with_detail().filter(is_as_strong).map(|other| other.fold.part()).collect();
        if folds.contains(&finding.fold.part()) {
            return false;
        }
        let strongest = active().map(SessionFinding::severity).max();
        let mut is_strongest_known = false;
        for known in active().filter(|other| !self.joined_since_revision(other)) {
            folds.remove(&known.fold.part());
            is_strongest_known |= Some(known.severity()) == strongest;
        }
        folds.len() + usize::from(is_strongest_known) >= kept
    }

    /// Whether no details have to be dropped: the newest finding brought none, and what is kept beyond `kept` is still for
    /// the revision that is next.
    fn details_are_settled(&self, newest: &FindingId, kept: usize) -> bool {
        let brought_detail = self.findings.get(newest).is_some_and(SessionFinding::has_detail);
        let with_detail = || self.findings.iter().filter(|finding| finding.has_detail());
        let is_for_next = || with_detail().any(|finding| self.joined_since_revision(finding));
        !brought_detail && (with_detail().count() <= kept || is_for_next())
    }

    /// Keeps the details of as many findings as an alert shows: first those that the last alert would show, then others in
    /// order. Until the next revision, it also keeps those that this revision shows instead.
    fn drop_details(&mut self, settings: &Settings) -> Result<(), BrokenInvariant> {
        let max = settings.findings_kept;
        let with_detail = || self.findings.iter().filter(|finding| finding.has_detail());
        if with_detail().count() <= max {
            return Ok(());
        }
        let content = self.content(settings.threshold);
        let in_view = |finality| content.shown(finality, max).flat_map(|fold| [fold.strongest, fold.first]);
        let mut others: Vec<&SessionFinding> = with_detail().collect();
        others.sort_by_key(|finding| (!finding.is_active(), finding.order));
        let mut room = ids_with_detail(in_view(Finality::Final).chain(others), max);
        room.extend(ids_with_detail(in_view(Finality::MoreMayCome), max));
        self.changes.findings.extend(self.findings.drop_details(|id| room.contains(id))?);
        Ok(())
    }
}

/// Ids of the first `max` findings with details.
fn ids_with_detail<'a>(findings: impl Iterator<Item = &'a SessionFinding>, max: usize) -> BTreeSet<FindingId> {
    let mut ids = BTreeSet::new();
    for finding in findings.filter(|finding| finding.has_detail()) {
        if ids.len() < max {
            ids.insert(finding.id.clone());
        }
    }
    ids
}

/// Adds versions to those of a session; returns whether any was new.
fn take_versions(
    taken: &BTreeMap<String, String>,
    versions: &mut BTreeMap<String, BTreeSet<String>>,
    flags: &mut BTreeSet<String>,
) -> bool {
    let mut news = false;
    for (kind, value) in taken {
        let room = versions.len() < VERSION_KINDS_MAX;
        match versions.get_mut(kind) {
            Some(values) if values.contains(value) => {}
            Some(values) if values.len() < VERSION_VALUES_MAX => news |= values.insert(value.clone()),
            None if room => {
                versions.insert(kind.clone(), BTreeSet::from([value.clone()]));
                news = true;
            }
            _ => news |= flags.insert(flag::LISTS_CAPPED.to_owned()),
        }
    }
    news
}
