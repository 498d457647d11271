//! Digests that were not there when their exec had to go out.
//!
//! A few per container are still wanted: those that are being hashed, and those for which there was no budget. They are
//! hashed in their order when the container's budget allows, and then the same exec goes out again, with the digest.

use driftline_schemas::{ContainerId, HeapBytes as _};
use std::collections::BTreeMap;

use crate::digest::{Budget, DigestJob};
use crate::limits;
use crate::node::tracked::Held;
use crate::raw::{Moment, RawExec};

/// What becomes of a digest.
#[derive(Debug)]
enum Stage {
    /// Waits for budget.
    Queued(Box<DigestJob>),
    Hashing,
}

/// An exec that went out without its digest.
#[derive(Debug)]
pub(super) struct LateExec {
    pub(super) exec: Box<RawExec>,
    pub(super) inner: Option<ContainerId>,
    /// As it was written down the first time.
    pub(super) time_ns: i64,
    until_ns: i64,
    stage: Stage,
    /// What it takes of memory, with its job.
    bytes: usize,
}

/// All such execs of a node.
#[derive(Debug, Default)]
pub(super) struct Late {
    containers: BTreeMap<ContainerId, BTreeMap<Moment, LateExec>>,
    /// What all of them take of memory.
    bytes: usize,
}

/// Whether there was room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Kept,
    Full,
}

impl Late {
    /// Keeps an exec that goes out now, if its digest may still come. `job` is what it lacks the budget for.
    pub(super) fn keep(&mut self, now_ns: i64, id: &ContainerId, held: Held, time_ns: i64) -> Kept {
        let stage = match held.postponed {
            Some(job) => Stage::Queued(job),
            None => Stage::Hashing,
        };
        let of_container = self.containers.get(id).map_or(0, BTreeMap::len);
        // The job has a path like one of the exec's.
        let bytes = size_of::<LateExec>() + size_of::<DigestJob>() + held.exec.path.len() + held.exec.memory_bytes();
        if of_container >= limits::LATE_PER_CONTAINER || self.bytes + bytes > limits::LATE_BYTES {
            return Kept::Full;
        }
        let late = LateExec {
            exec: held.exec,
            inner: held.inner,
            time_ns,
            until_ns: now_ns.saturating_add(limits::LATE_WAIT),
            stage,
            bytes,
        };
        let before = self.containers.entry(id.clone()).or_default().insert(late.exec.moment, late);
        self.bytes += bytes;
        self.bytes -= before.map_or(0, |before| before.bytes);
        Kept::Kept
    }

    /// What all of them take of memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The exec of a digest that is there now.
    pub(super) fn take(&mut self, id: &ContainerId, moment: Moment) -> Option<LateExec> {
        let execs = self.containers.get_mut(id)?;
        let late = execs.remove(&moment)?;
        self.bytes -= late.bytes;
        if execs.is_empty() {
            self.containers.remove(id);
        }
        Some(late)
    }

    /// Somebody else was served first; the job waits again.
    pub(super) fn postpone(&mut self, id: &ContainerId, job: Box<DigestJob>) {
        if let Some(late) = self.containers.get_mut(id).and_then(|execs| execs.get_mut(&job.moment)) {
            late.stage = Stage::Queued(job);
        }
    }

    /// Whether this digest is still wanted.
    pub(super) fn wants(&self, id: &ContainerId, moment: Moment) -> bool {
        self.containers.get(id).is_some_and(|execs| execs.contains_key(&moment))
    }

    /// What a container's budget allows now, oldest first.
    pub(super) fn affordable(&mut self, now_ns: i64, id: &ContainerId, budget: &mut Budget) -> Vec<DigestJob> {
        let mut jobs = Vec::new();
        for late in self.containers.get_mut(id).into_iter().flat_map(BTreeMap::values_mut) {
            let Stage::Queued(job) = &late.stage else { continue };
            if !budget.take(now_ns, job) {
                break;
            }
            if let Stage::Queued(job) = std::mem::replace(&mut late.stage, Stage::Hashing) {
                jobs.push(*job);
            }
        }
        jobs
    }

    /// Containers with such execs.
    pub(super) fn containers(&self) -> Vec<ContainerId> {
        self.containers.keys().cloned().collect()
    }

    /// Forgets what was waited for too long, and what waits for the budget of a container that is gone. Returns how many.
    pub(super) fn forget(&mut self, now_ns: i64, is_known: impl Fn(&ContainerId) -> bool) -> Vec<Moment> {
        let (mut forgotten, mut bytes) = (Vec::new(), 0);
        self.containers.retain(|id, execs| {
            let known = is_known(id);
            execs.retain(|moment, late| {
                let keep = late.until_ns > now_ns && (known || matches!(late.stage, Stage::Hashing));
                if !keep {
                    forgotten.push(*moment);
                    bytes += late.bytes;
                }
                keep
            });
            !execs.is_empty()
        });
        self.bytes -= bytes;
        forgotten
    }
}
