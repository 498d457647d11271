//! The part of a finding that a session keeps, and the join of its revisions.
//!
//! The join takes the greater of two revisions in a total order, so it is commutative, associative and idempotent: the
//! same revision wins whatever the order and number of amendments.

use driftline_schemas::correlator_state::{ExecFacts, FindingDetail, TrackedFinding};
use driftline_schemas::{
    AlertFinding, Confidence, FileClass, Finding, FindingId, FindingState, Origin, Severity, Sha256, Subject, decode,
    encode,
};
use driftline_service_core::BrokenInvariant;
use std::sync::Arc;

use crate::memory;

/// Memory of a finding without its texts: the finding, its place in the session's list, its id and its record.
const FINDING_BYTES: usize = size_of::<SessionFinding>() + 2 * memory::WORD_BYTES + 3 * memory::ALLOCATION_BYTES;

/// Memory of a label without its texts, and of the references to it: from tracked findings and from the facts.
const LABEL_BYTES: usize = size_of::<Label>()
    + size_of::<(Arc<Label>, usize)>()
    + memory::entry(memory::WORD_BYTES)
    + 4 * memory::ALLOCATION_BYTES;

/// Categories of a digest that is known to be malicious.
const MALICIOUS: [&str; 3] = [
    "Execution: Added Malicious Binary Executed",
    "Execution: Built in Malicious Binary Executed",
    "Execution: Modified Malicious Binary Executed",
];

fn is_malicious(category: &str) -> bool {
    MALICIOUS.contains(&category)
}

/// Order that decides which of two revisions of a finding wins: malicious over others, so that nothing hides a match;
/// then resolved over unresolved; then the higher revision. Two revisions are equal up to here only when two instances
/// wrote the same revision. The digest of the record then decides, because it does not depend on the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    malicious: bool,
    resolved: bool,
    revision: i32,
    digest: Sha256,
}

/// The values by which findings are grouped when categories and techniques are listed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label {
    pub severity: Severity,
    pub category: String,
    pub techniques: Vec<String>,
}

impl Label {
    /// Bytes in memory, shared by all findings that have this label.
    pub(crate) fn memory_bytes(&self) -> usize {
        let techniques = self.techniques.iter().map(|technique| memory::TEXT_BYTES + technique.len());
        LABEL_BYTES + self.category.len() + techniques.sum::<usize>()
    }
}

/// Findings with equal keys are repeats: same detector, path and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FoldKey(pub Sha256);

impl FoldKey {
    /// A part that is compared faster. Different keys hardly have an equal one; equal keys have.
    pub(crate) fn part(&self) -> u64 {
        let Self(Sha256([a, b, c, d, e, f, g, h, ..])) = *self;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Findings of equal kinds are no news to each other: same detector, path, digest, origin and way of entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    fold: FoldKey,
    origin: Origin,
    entered: bool,
    interactive: bool,
}

/// One finding of a session, in the revision that won. Fields that only an alert shows stay encoded, which takes a
/// third of the memory.
#[derive(Debug, Clone)]
pub(crate) struct SessionFinding {
    /// Place in the session's order of first arrival.
    pub order: i64,
    pub id: FindingId,
    rank: Rank,
    pub state: FindingState,
    pub label: Arc<Label>,
    pub fold: FoldKey,
    pub event_time_ns: i64,
    pub facts: ExecFacts,
    origin: Origin,
    confidence: Confidence,
    on_read_only_mount: bool,
    detail: Detail,
    /// The whole finding as stored in the changelog.
    record: Box<[u8]>,
}

/// Whether the details of a finding are kept. They are dropped when the session has stronger findings to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Retained,
    Dropped,
}

/// Whether a revision of a known finding changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    Changed,
    NothingNew,
}

impl SessionFinding {
    pub(crate) fn new(finding: &Finding, order: i64) -> Result<Self, BrokenInvariant> {
        let state = TrackedFinding {
            order,
            digest: Sha256::of(&encode(finding)?),
            resolved: finding.unresolved.is_none() || finding.state == FindingState::Retracted,
            revision: finding.revision,
            state: finding.state,
            category: finding.category.clone(),
            severity: finding.severity,
            techniques: finding.techniques.clone(),
            detector: finding.detector.clone(),
            fold: FoldKey::of(finding).0,
            confidence: finding.confidence,
            origin: finding.origin,
            event_time_ns: finding.event_time_ns,
            facts: exec_facts(finding),
            on_read_only_mount: finding
                .subject
                .as_ref()
                .and_then(|it| it.mount.as_ref())
                .is_some_and(|it| it.read_only),
            detail: Some(FindingDetail {
                unresolved: finding.unresolved.clone(),
                process: finding.process.clone(),
                subject: finding.subject.clone(),
                note: finding.note.clone(),
            }),
        };
        Self::restored(finding.finding_id.clone(), state)
    }

    /// The finding as stored in the changelog.
    pub(crate) fn record(&self) -> &[u8] {
        &self.record
    }

    /// Restores the finding from its record.
    pub(crate) fn restored(id: FindingId, state: TrackedFinding) -> Result<Self, BrokenInvariant> {
        let record = encode(&state)?.into_boxed_slice();
        let rank = Rank {
            malicious: is_malicious(&state.category),
            resolved: state.resolved,
            revision: state.revision,
            digest: state.digest,
        };
        let label = Label { severity: state.severity, category: state.category, techniques: state.techniques };
        Ok(Self {
            order: state.order,
            id,
            rank,
            state: state.state,
            label: Arc::new(label),
            fold: FoldKey(state.fold),
            event_time_ns: state.event_time_ns,
            facts: state.facts,
            origin: state.origin,
            confidence: state.confidence,
            on_read_only_mount: state.on_read_only_mount,
            detail: if state.detail.is_some() { Detail::Retained } else { Detail::Dropped },
            record,
        })
    }

    /// Bytes in memory, without the label.
    pub(crate) fn memory_bytes(&self) -> usize {
        FINDING_BYTES + self.id.as_str().len() + self.record.len()
    }

    pub(crate) fn has_detail(&self) -> bool {
        self.detail == Detail::Retained
    }

    /// Drops the details that an alert would show.
    pub(crate) fn drop_detail(&mut self) -> Result<(), BrokenInvariant> {
        let state = TrackedFinding { detail: None, ..decode(&self.record)? };
        self.record = encode(&state)?.into_boxed_slice();
        self.detail = Detail::Dropped;
        Ok(())
    }

    /// Whether image and container were known when the finding was made.
    pub(crate) fn is_resolved(&self) -> bool {
        self.rank.resolved
    }

    /// Joins another revision of the same finding.
    pub(crate) fn join(&mut self, other: Self) -> Joined {
        if other.rank <= self.rank {
            return Joined::NothingNew;
        }
        *self = Self { order: self.order, ..other };
        Joined::Changed
    }

    /// Digest of the revision's record.
    pub(crate) fn digest(&self) -> Sha256 {
        self.rank.digest
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state == FindingState::Active
    }

    pub(crate) fn severity(&self) -> Severity {
        self.label.severity
    }

    /// Whether the finding proves that a program ran which somebody brought into the container. What lies on a read-only
    /// mount was put there by whoever runs the container: a script of a `ConfigMap`.
    pub(crate) fn is_proven_foreign(&self) -> bool {
        let is_foreign = match self.origin {
            Origin::Added | Origin::Modified | Origin::Relocated | Origin::Fileless | Origin::FilelessShm => true,
            Origin::Mounted => !self.on_read_only_mount,
            _ => false,
        };
        is_foreign && self.confidence == Confidence::High
    }

    /// What makes the finding news.
    pub(crate) fn kind(&self) -> Kind {
        let ExecFacts { entered, interactive, .. } = self.facts;
        Kind { fold: self.fold, origin: self.origin, entered, interactive }
    }

    /// The finding as an alert shows it, without repeats.
    pub(crate) fn shown(&self) -> Result<AlertFinding, BrokenInvariant> {
        let state: TrackedFinding = decode(&self.record)?;
        let (unresolved, process, subject, note) = match state.detail {
            Some(detail) => (detail.unresolved, detail.process, detail.subject, detail.note),
            None => (None, None, None, String::new()),
        };
        Ok(AlertFinding {
            finding_id: self.id.clone(),
            detector: state.detector,
            category: state.category,
            severity: state.severity,
            confidence: state.confidence,
            origin: state.origin,
            unresolved,
            techniques: state.techniques,
            event_time_ns: self.event_time_ns,
            last_time_ns: self.event_time_ns,
            count: 1,
            process,
            subject,
            note,
        })
    }
}

/// The facts of an execution that the score uses.
fn exec_facts(finding: &Finding) -> ExecFacts {
    let process = finding.process.as_ref();
    // A memory file never had a name, so nobody deleted it.
    let deleted = |subject: &Subject| subject.deleted && subject.class != FileClass::Memfd;
    let entered = process.is_some_and(|process| process.entered_from_outside);
    ExecFacts {
        deleted: finding.subject.as_ref().is_some_and(deleted),
        entered,
        interactive: entered && process.is_some_and(|process| process.tty.is_some()),
        container_root: process.is_some_and(|process| process.container_root_user),
    }
}

impl FoldKey {
    /// Printable paths hold no NUL, so NUL separates the path from what follows. A finding about an image has no file;
    /// its category takes the place of the path.
    fn of(finding: &Finding) -> Self {
        let subject = finding.subject.as_ref();
        let without = if finding.container.is_some() { &finding.category } else { "" };
        let path = subject.map_or(without, |subject| &subject.path);
        let digest = subject.and_then(|subject| subject.sha256).map(|digest| digest.to_string()).unwrap_or_default();
        Self(Sha256::of([finding.detector.as_str(), path, &digest].join("\0").as_bytes()))
    }
}
