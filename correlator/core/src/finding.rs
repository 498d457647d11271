//! What a session remembers of one finding, and how revisions of it are joined.
//!
//! The join takes the greater of two revisions in a total order, so it is commutative, associative and idempotent:
//! whatever order amendments come in, and however often, the same one wins.

use driftline_schemas::correlator_state::{ExecFacts, FindingDetail, TrackedFinding};
use driftline_schemas::{
    AlertFinding, FileClass, Finding, FindingId, FindingState, Severity, Sha256, Subject, decode, encode,
};
use driftline_service_core::BrokenInvariant;
use std::sync::Arc;

use crate::memory;

/// A finding without its texts: itself, its place in the session's list, its id and its record.
const FINDING_BYTES: usize = size_of::<SessionFinding>() + 2 * memory::WORD_BYTES + 3 * memory::ALLOCATION_BYTES;

/// A label without its texts, and who uses it: among those that are tracked, and in the facts.
const LABEL_BYTES: usize = size_of::<Label>()
    + size_of::<(Arc<Label>, usize)>()
    + memory::entry(memory::WORD_BYTES)
    + 4 * memory::ALLOCATION_BYTES;

/// Categories that say a digest is known to be malicious.
const MALICIOUS: [&str; 3] = [
    "Execution: Added Malicious Binary Executed",
    "Execution: Built in Malicious Binary Executed",
    "Execution: Modified Malicious Binary Executed",
];

fn is_malicious(category: &str) -> bool {
    MALICIOUS.contains(&category)
}

/// Which of two revisions of a finding holds: malicious over not, so that nothing hides a match; then resolved over
/// unresolved; then the higher revision. Equal ones differ only when two instances wrote the same revision; then the
/// digest of the record decides, for want of anything better that does not depend on the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    malicious: bool,
    resolved: bool,
    revision: i32,
    digest: Sha256,
}

/// What findings are grouped by when categories and techniques are listed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label {
    pub severity: Severity,
    pub category: String,
    pub techniques: Vec<String>,
}

impl Label {
    /// Bytes in memory, whoever uses it.
    pub(crate) fn memory_bytes(&self) -> usize {
        let techniques = self.techniques.iter().map(|technique| memory::TEXT_BYTES + technique.len());
        LABEL_BYTES + self.category.len() + techniques.sum::<usize>()
    }
}

/// Findings with equal keys are repeats: same detector, path and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FoldKey(pub Sha256);

/// One finding of a session, in the revision that holds. What only an alert shows stays encoded, which takes a third of the
/// memory.
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
    detail: Detail,
    /// The whole finding as it stands in the changelog.
    record: Box<[u8]>,
}

/// Whether what is shown of a finding is kept; it is dropped when the session has stronger findings to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Retained,
    Dropped,
}

/// Whether a revision of a known finding said anything new.
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
            detail: Some(FindingDetail {
                unresolved: finding.unresolved.clone(),
                process: finding.process.clone(),
                subject: finding.subject.clone(),
                note: finding.note.clone(),
            }),
        };
        Self::restored(finding.finding_id.clone(), state)
    }

    /// The finding as it stands in the changelog.
    pub(crate) fn record(&self) -> &[u8] {
        &self.record
    }

    /// The finding of a record.
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

    /// Drops what is shown of it.
    pub(crate) fn drop_detail(&mut self) -> Result<(), BrokenInvariant> {
        let state = TrackedFinding { detail: None, ..decode(&self.record)? };
        self.record = encode(&state)?.into_boxed_slice();
        self.detail = Detail::Dropped;
        Ok(())
    }

    /// Whether its image and container were known when it was made.
    pub(crate) fn is_resolved(&self) -> bool {
        self.rank.resolved
    }

    /// Takes in another revision of the same finding.
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

    /// The finding as an alert shows it, alone.
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

/// What the score asks of an execution.
fn exec_facts(finding: &Finding) -> ExecFacts {
    let process = finding.process.as_ref();
    // A memory file never had a name, so none was taken away.
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
    /// Printable paths hold no NUL, so it separates them from what follows. Of a container without a file, what is said of
    /// its image, the category stands in the path's place.
    fn of(finding: &Finding) -> Self {
        let subject = finding.subject.as_ref();
        let without = if finding.container.is_some() { &finding.category } else { "" };
        let path = subject.map_or(without, |subject| &subject.path);
        let digest = subject.and_then(|subject| subject.sha256).map(|digest| digest.to_string()).unwrap_or_default();
        Self(Sha256::of([finding.detector.as_str(), path, &digest].join("\0").as_bytes()))
    }
}
