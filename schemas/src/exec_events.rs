//! Records that collectors write to the exec-events topic: execs, container records, losses. The structs and their
//! schemas are generated from the tables in `schemas/generate`; this file has their methods.
#![expect(missing_docs, reason = "an enum's documentation in the schema says what each of its symbols means")]

use crate::codec::{DecodeError, decode_datum, split, unknown};
use crate::ids::EventId;

mod bounds;
mod container;
mod exec;

pub use container::{
    CollectorLoss, Container, ContainerEnded, ContainerSeen, ContainerThrottled, FoldedFile, Node, Owner, Pod,
};
pub use exec::{Ancestor, Exec, Fd, FdKind, FileClass, FileFacts, HashState, Loader, Mount, MountNamespace};

/// [`Mount::fs_type`] of the mount by which an engine puts its own init program into a container (`run --init`).
pub const ENGINE_INIT: &str = "engine-init";

impl Exec {
    /// Path of the judged file: the script, the target of a dynamic loader or the program of an interpreter, where there is one;
    /// else the executable.
    #[must_use]
    pub fn subject_path(&self) -> &[u8] {
        self.named_path().unwrap_or(&self.path)
    }

    /// Path of the judged file if that is not the executable.
    #[must_use]
    pub fn named_path(&self) -> Option<&[u8]> {
        self.script.as_deref().or(self.loaded.as_deref()).or(self.interpreted.as_deref())
    }
}

impl FileFacts {
    /// Whether the record has facts about the file.
    #[must_use]
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }
}

impl bounds::Measured for Owner {
    fn bytes(&self) -> usize {
        self.kind.len() + self.name.len()
    }
}

impl ContainerThrottled {
    /// The id of the interval: the same record always has the same id.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        EventId::of_throttle(&self.node.cluster, &self.container_id, &self.collector_start, self.from_ns)
    }
}

/// Every record of the exec-events topic.
#[derive(Debug, Clone, PartialEq)]
pub enum ExecEvent {
    Exec(Box<Exec>),
    Seen(Box<ContainerSeen>),
    Ended(ContainerEnded),
    Loss(CollectorLoss),
    Throttled(Box<ContainerThrottled>),
}

impl ExecEvent {
    /// Decodes a value of the exec-events topic. Refuses a record that matches the schema but exceeds the limits of a
    /// collector, so that nothing derived from it can be too long for a topic.
    ///
    /// # Errors
    /// When the value is not exactly one of the five records, within its limits.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let (fingerprint, datum) = split(value)?;
        let event = decode_datum(fingerprint, datum)
            .map(|exec| exec.map(|exec| Self::Exec(Box::new(exec))))
            .or_else(|| decode_datum(fingerprint, datum).map(|seen| seen.map(|seen| Self::Seen(Box::new(seen)))))
            .or_else(|| decode_datum(fingerprint, datum).map(|ended| ended.map(Self::Ended)))
            .or_else(|| decode_datum(fingerprint, datum).map(|loss| loss.map(Self::Loss)))
            .or_else(|| decode_datum(fingerprint, datum).map(|it| it.map(|it| Self::Throttled(Box::new(it)))))
            .unwrap_or_else(|| Err(unknown(fingerprint)))?;
        bounds::check(&event)?;
        Ok(event)
    }

    /// The key of the record: the container id, or for a loss the node's name.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Exec(exec) => exec.container_id.as_str(),
            Self::Seen(seen) => seen.container.id.as_str(),
            Self::Ended(ended) => ended.container_id.as_str(),
            Self::Loss(loss) => &loss.node.name,
            Self::Throttled(throttled) => throttled.container_id.as_str(),
        }
    }
}
