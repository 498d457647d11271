//! What the enricher remembers of one container.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use driftline_runtime_core::Position;
use driftline_schemas::{ContainerSeen, EventId, Exec, ImageId};

use crate::limits::{MISMATCHED_PATHS_MAX, RECENT_EVENTS_MAX, SILENCE_NS, UNRESOLVED_MAX};

/// An exec that waits for its container's metadata or image.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) at: Position,
    pub(crate) exec: Box<Exec>,
}

/// A finding that went out before the image was known.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) exec: Box<Exec>,
    /// Revision that is out.
    pub(crate) revision: i32,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) partition: i32,
    pub(crate) seen: Option<(Position, Arc<ContainerSeen>)>,
    pub(crate) parked: VecDeque<Parked>,
    /// When waiting ends; set while something is parked.
    pub(crate) deadline_ns: Option<i64>,
    /// Why the container flows without its image; cleared when the image comes.
    pub(crate) given_up: Option<String>,
    pub(crate) ended: bool,
    pub(crate) unresolved: VecDeque<Unresolved>,
    pub(crate) heard_ns: i64,
    /// When to look whether the container fell silent.
    pub(crate) silence_check_ns: i64,
    recent: Recent,
    mismatched: BTreeSet<Vec<u8>>,
}

/// Whether an unlisted image path is reported or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    First,
    Known,
    TooMany,
}

impl Tracked {
    pub(crate) fn new(partition: i32, now_ns: i64) -> Self {
        Self {
            partition,
            seen: None,
            parked: VecDeque::new(),
            deadline_ns: None,
            given_up: None,
            ended: false,
            unresolved: VecDeque::new(),
            heard_ns: now_ns,
            silence_check_ns: now_ns.saturating_add(SILENCE_NS),
            recent: Recent::default(),
            mismatched: BTreeSet::new(),
        }
    }

    pub(crate) fn metadata(&self) -> Option<&ContainerSeen> {
        self.seen.as_ref().map(|(_, seen)| seen.as_ref())
    }

    pub(crate) fn image_id(&self) -> Option<&ImageId> {
        self.metadata().map(|seen| &seen.container.image_id).filter(|id| id.is_known())
    }

    /// Whether this event came before; remembers it.
    pub(crate) fn is_repeat(&mut self, event: &EventId) -> bool {
        !self.recent.insert(event)
    }

    pub(crate) fn note_mismatch(&mut self, path: &[u8]) -> Mismatch {
        if self.mismatched.contains(path) {
            return Mismatch::Known;
        }
        if self.mismatched.len() >= MISMATCHED_PATHS_MAX {
            return Mismatch::TooMany;
        }
        self.mismatched.insert(path.to_vec());
        Mismatch::First
    }

    /// Remembers an unresolved finding; returns whether an older one had to be forgotten.
    pub(crate) fn remember_unresolved(&mut self, exec: Box<Exec>) -> bool {
        self.unresolved.push_back(Unresolved { exec, revision: 1 });
        self.unresolved.len() > UNRESOLVED_MAX && self.unresolved.pop_front().is_some()
    }
}

/// The last event ids, in order of arrival and by value.
#[derive(Debug, Default)]
struct Recent {
    order: VecDeque<EventId>,
    known: BTreeSet<EventId>,
}

impl Recent {
    /// `false` when it is known already.
    fn insert(&mut self, event: &EventId) -> bool {
        if !self.known.insert(event.clone()) {
            return false;
        }
        self.order.push_back(event.clone());
        if self.order.len() > RECENT_EVENTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
