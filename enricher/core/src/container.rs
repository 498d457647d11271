//! The enricher's state of one container. The changelog holds all of it except what is derived from the rest:
//! [`TrackedContainer::indexed`] and [`TrackedContainer::image`].

use std::collections::{BTreeMap, BTreeSet};

use driftline_schemas::{ContainerId, ContainerSeen, ContainerThrottled, EventId, Exec, HashState, HeapBytes as _};

use crate::limits::{ENDED_KEPT_NS, HEARD_STEP_NS, MISMATCHED_PATHS_MAX, REPORTED_MAX, SILENCE_NS};
use crate::trust::{ImageView, Trust};
use crate::unproven::UnprovenFolds;
use crate::unresolved::UnresolvedExecs;
use driftline_detection::Flaw;

/// A record of a container that is parked and settled in order of arrival.
#[derive(Debug)]
pub(crate) enum Queued {
    Exec(Box<Exec>),
    /// A record of execs that were left out.
    Throttled(Box<ContainerThrottled>),
}

impl Queued {
    pub(crate) fn container_id(&self) -> &ContainerId {
        match self {
            Self::Exec(exec) => &exec.container_id,
            Self::Throttled(throttled) => &throttled.container_id,
        }
    }

    pub(crate) fn event_id(&self) -> EventId {
        match self {
            Self::Exec(exec) => exec.event_id.clone(),
            Self::Throttled(throttled) => throttled.event_id(),
        }
    }

    /// Memory of the record while it is parked, without its container's name.
    pub(crate) fn memory_bytes(&self) -> usize {
        // The `waiting` set holds the event's id as well.
        let (bytes, id) = match self {
            Self::Exec(exec) => (exec.memory_bytes(), exec.event_id.memory_bytes()),
            Self::Throttled(throttled) => (throttled.memory_bytes(), throttled.event_id().memory_bytes()),
        };
        size_of::<(i64, Parked)>() + bytes + id
    }

    fn digest_state(&self) -> DigestState {
        match self {
            Self::Exec(exec) if exec.hash_state == HashState::OverBudget => DigestState::Pending,
            Self::Exec(_) | Self::Throttled(_) => DigestState::Final,
        }
    }
}

/// Whether the collector may send the event again with more data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DigestState {
    /// There was no time or budget for the digest; the collector may send the same exec again with it.
    Pending,
    Final,
}

/// An event that waits for its container's metadata or image.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) event: Queued,
    /// Memory of the event, estimated once.
    pub(crate) bytes: usize,
    /// Whether the event is in the changelog. An exec that is judged in the call that brought it never is.
    pub(crate) in_changelog: bool,
}

impl Parked {
    pub(crate) fn new(event: Queued, in_changelog: bool) -> Self {
        Self { bytes: event.memory_bytes(), event, in_changelog }
    }
}

/// An event that was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) event: EventId,
    /// Newest published revision, maintained while a digest may still arrive; 0 while the event is one of the unproven
    /// ones that have a finding together.
    pub(crate) revision: i32,
    /// Time until which a digest amends the finding; 0 when no digest is expected.
    pub(crate) amend_until_ns: i64,
}

/// Relation of a record to an earlier record of the same event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Occurrence {
    /// There is no finding of its event.
    New,
    /// The record adds nothing to the finding of its event.
    Repeat,
    /// The record brings the digest for the finding of the exec at this offset.
    Amends(i64, Reported),
}

/// Position of a container in the order of eviction of its partition: the lowest is evicted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EvictionRank {
    /// Nothing of the container is parked; holds the time at which it was last heard of.
    Idle(i64),
    /// Offset of the container's first parked exec.
    Waiting(i64),
}

/// The state of one container.
#[derive(Debug)]
pub(crate) struct TrackedContainer {
    pub(crate) partition: i32,
    /// Newest container record, without the mount table, which no verdict needs.
    pub(crate) seen: Option<Box<ContainerSeen>>,
    /// The container's image, as its node sees it.
    image: Option<ImageView>,
    /// Parked execs by offset.
    pub(crate) parked: BTreeMap<i64, Parked>,
    /// Memory of the parked execs.
    pub(crate) parked_bytes: usize,
    /// When waiting ends; set while an event waits.
    pub(crate) deadline_ns: Option<i64>,
    /// Why the container's execs are judged without its image; cleared when the image arrives.
    pub(crate) given_up: Option<String>,
    pub(crate) ended: bool,
    /// Execs to judge again when the image is known.
    pub(crate) unresolved: UnresolvedExecs,
    /// When the container was last heard of, in steps: see [`HEARD_STEP_NS`].
    pub(crate) heard_ns: i64,
    pub(crate) mismatched: BTreeSet<Vec<u8>>,
    /// Flaws of its image that were reported.
    pub(crate) flaws: BTreeSet<Flaw>,
    /// Its unproven execs.
    pub(crate) unproven: UnprovenFolds,
    /// Events with a published finding, by offset.
    reported: BTreeMap<i64, Reported>,
    /// Offsets of the events in `reported`.
    reported_at: BTreeMap<EventId, i64>,
    /// All parked events that are in the changelog.
    waiting: BTreeSet<(EventId, DigestState)>,
    /// The rank and timer under which the enricher has indexed the container.
    pub(crate) indexed: Option<(EvictionRank, i64)>,
}

/// Whether an unlisted image path is reported or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    First,
    Known,
    TooMany,
}

/// Whether durable state changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    Changed,
}

impl TrackedContainer {
    pub(crate) fn new(partition: i32, heard_ns: i64) -> Self {
        Self {
            partition,
            seen: None,
            image: None,
            parked: BTreeMap::new(),
            parked_bytes: 0,
            deadline_ns: None,
            given_up: None,
            ended: false,
            unresolved: UnresolvedExecs::default(),
            heard_ns,
            mismatched: BTreeSet::new(),
            flaws: BTreeSet::new(),
            unproven: UnprovenFolds::default(),
            reported: BTreeMap::new(),
            reported_at: BTreeMap::new(),
            waiting: BTreeSet::new(),
            indexed: None,
        }
    }

    pub(crate) fn image(&self) -> Option<&ImageView> {
        self.image.as_ref()
    }

    /// Stores a container record without comparing it with the last one.
    pub(crate) fn set_seen(&mut self, seen: Box<ContainerSeen>, trust: Trust) {
        let image = Some(&seen.container.image_id).filter(|id| id.is_known());
        self.image = image.map(|image| trust.view(image, &seen.node.name));
        self.seen = Some(seen);
    }

    /// Notes that a record of the container arrived.
    pub(crate) fn hear(&mut self, now_ns: i64) -> Change {
        if now_ns.saturating_sub(self.heard_ns) <= HEARD_STEP_NS {
            return Change::Nothing;
        }
        self.heard_ns = now_ns;
        Change::Changed
    }

    /// Stores a container record; most repeat the last one.
    pub(crate) fn describe(&mut self, seen: ContainerSeen, trust: Trust) -> Change {
        let same = |old: &ContainerSeen| {
            let is_run_alike = old.unseen == seen.unseen && old.runtime_handler == seen.runtime_handler;
            is_run_alike && old.node == seen.node && old.container == seen.container
        };
        if !self.ended && self.seen.as_deref().is_some_and(same) {
            return Change::Nothing;
        }
        self.ended = false;
        self.set_seen(Box::new(ContainerSeen { mounts: Vec::new(), ..seen }), trust);
        Change::Changed
    }

    /// Whether a record repeats one that is parked, or one that led to a finding.
    pub(crate) fn repeats(&self, event: &Queued) -> bool {
        let id = event.event_id();
        let in_final_form = (id.clone(), DigestState::Final);
        if self.waiting.contains(&in_final_form) {
            return true;
        }
        match self.occurrence(event) {
            Occurrence::Repeat => true,
            Occurrence::Amends(..) => false,
            Occurrence::New => {
                event.digest_state() == DigestState::Pending && self.waiting.contains(&(id, DigestState::Pending))
            }
        }
    }

    /// Relation of a record to the published findings.
    pub(crate) fn occurrence(&self, event: &Queued) -> Occurrence {
        let found = self.reported_at.get(&event.event_id());
        let Some((offset, reported)) = found.and_then(|offset| self.reported.get_key_value(offset)) else {
            return Occurrence::New;
        };
        if reported.amend_until_ns == 0 || event.digest_state() == DigestState::Pending {
            return Occurrence::Repeat;
        }
        Occurrence::Amends(*offset, reported.clone())
    }

    /// Parks an event; returns the event that was parked at its offset.
    pub(crate) fn park(&mut self, offset: i64, parked: Parked) -> Option<Parked> {
        self.parked_bytes += parked.bytes;
        self.parked.insert(offset, parked)
    }

    /// Marks a parked event as durable: it stays parked beyond the call that brought it.
    pub(crate) fn make_durable(&mut self, offset: i64) -> Change {
        let Some(parked) = self.parked.get_mut(&offset) else { return Change::Nothing };
        parked.in_changelog = true;
        self.waiting.insert((parked.event.event_id(), parked.event.digest_state()));
        Change::Changed
    }

    /// Takes the first parked event.
    pub(crate) fn unpark(&mut self) -> Option<(i64, Parked)> {
        let (offset, parked) = self.parked.pop_first()?;
        self.parked_bytes -= parked.bytes;
        self.waiting.remove(&(parked.event.event_id(), parked.event.digest_state()));
        Some((offset, parked))
    }

    /// Records that an event led to a finding; returns the offset of the event that is forgotten in its place.
    pub(crate) fn remember_reported(&mut self, offset: i64, reported: Reported) -> Option<i64> {
        self.reported_at.insert(reported.event.clone(), offset);
        self.reported.insert(offset, reported);
        if self.reported.len() <= REPORTED_MAX {
            return None;
        }
        let (oldest, reported) = self.reported.pop_first()?;
        self.reported_at.remove(&reported.event);
        Some(oldest)
    }

    /// Records that another revision of a finding was published. It is kept only while a digest may amend the finding
    /// again.
    pub(crate) fn remember_revision(&mut self, offset: i64, revision: i32) -> Change {
        match self.reported.get_mut(&offset).filter(|reported| reported.amend_until_ns != 0) {
            Some(reported) => {
                reported.revision = revision;
                Change::Changed
            }
            None => Change::Nothing,
        }
    }

    /// Records that the digest has arrived and no other is expected.
    pub(crate) fn remember_digest(&mut self, offset: i64) {
        if let Some(reported) = self.reported.get_mut(&offset) {
            reported.amend_until_ns = 0;
        }
    }

    pub(crate) fn record_mismatch(&mut self, path: &[u8]) -> Mismatch {
        if self.mismatched.contains(path) {
            return Mismatch::Known;
        }
        if self.mismatched.len() >= MISMATCHED_PATHS_MAX {
            return Mismatch::TooMany;
        }
        self.mismatched.insert(path.to_vec());
        Mismatch::First
    }

    pub(crate) fn reported(&self) -> &BTreeMap<i64, Reported> {
        &self.reported
    }

    /// Whether a new answer about the image would change anything for the container.
    pub(crate) fn awaits_image(&self) -> bool {
        !self.parked.is_empty() || !self.unresolved.is_empty() || self.given_up.is_some()
    }

    /// Marks the container as ended; its retention time starts now.
    pub(crate) fn end(&mut self, now_ns: i64) {
        self.ended = true;
        self.heard_ns = now_ns;
    }

    /// When the container is forgotten if nothing more is heard of it and nothing of it is parked.
    fn forgotten_ns(&self) -> i64 {
        let is_over = self.ended && self.unresolved.is_empty();
        self.heard_ns.saturating_add(if is_over { ENDED_KEPT_NS } else { SILENCE_NS })
    }

    pub(crate) fn is_silent(&self, now_ns: i64) -> bool {
        self.parked.is_empty() && self.forgotten_ns() <= now_ns
    }

    pub(crate) fn eviction_rank(&self) -> EvictionRank {
        self.parked
            .first_key_value()
            .map_or(EvictionRank::Idle(self.heard_ns), |(offset, _)| EvictionRank::Waiting(*offset))
    }

    /// When the passing of time next changes the container.
    pub(crate) fn due_ns(&self) -> i64 {
        let silence = self.parked.is_empty().then(|| self.forgotten_ns());
        let amendment = self.unresolved.due_ns();
        [self.deadline_ns, silence, amendment].into_iter().flatten().min().unwrap_or(i64::MAX)
    }
}
