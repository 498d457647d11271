//! Execs that went out before their digest was known.
//!
//! A few of each container are retained: those whose file is being hashed, and those for which there was no budget. The
//! latter are hashed in their order when the container's budget allows. Then the same exec goes out again, with the digest.

use driftline_schemas::{ContainerId, HeapBytes as _};
use std::collections::BTreeMap;

use super::held::HeldExec;
use crate::digest::{Budget, DigestJob};
use crate::limits;
use crate::raw::{Moment, RawExec};

/// How far a digest is.
#[derive(Debug)]
enum Stage {
    /// It waits for budget.
    Queued(Box<DigestJob>),
    Hashing,
}

/// An exec that went out without its digest.
#[derive(Debug)]
pub(super) struct LateExec {
    pub(super) exec: Box<RawExec>,
    pub(super) inner: Option<ContainerId>,
    /// As in the first record.
    pub(super) time_ns: i64,
    until_ns: i64,
    stage: Stage,
    /// What it takes of memory, with its job.
    bytes: usize,
}

/// All such execs of a node. See the module.
#[derive(Debug, Default)]
pub(super) struct LateExecs {
    containers: BTreeMap<ContainerId, BTreeMap<Moment, LateExec>>,
    /// What all of them take of memory.
    bytes: usize,
}

/// Whether there was room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retention {
    Retained,
    Full,
}

impl LateExecs {
    /// Retains an exec that goes out now, if there is room.
    pub(super) fn retain(&mut self, now_ns: i64, id: &ContainerId, held: HeldExec, time_ns: i64) -> Retention {
        let stage = match held.postponed {
            Some(job) => Stage::Queued(job),
            None => Stage::Hashing,
        };
        let of_container = self.containers.get(id).map_or(0, BTreeMap::len);
        // The job has a path like one of the exec's.
        let bytes = size_of::<LateExec>() + size_of::<DigestJob>() + held.exec.path.len() + held.exec.memory_bytes();
        if of_container >= limits::LATE_PER_CONTAINER || self.bytes + bytes > limits::LATE_BYTES {
            return Retention::Full;
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
        Retention::Retained
    }

    /// Memory of all of them.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes out the exec of a digest that is known now.
    pub(super) fn take(&mut self, id: &ContainerId, moment: Moment) -> Option<LateExec> {
        let execs = self.containers.get_mut(id)?;
        let late = execs.remove(&moment)?;
        self.bytes -= late.bytes;
        if execs.is_empty() {
            self.containers.remove(id);
        }
        Some(late)
    }

    /// The shell had no room for the job; it waits again.
    pub(super) fn postpone(&mut self, id: &ContainerId, job: Box<DigestJob>) {
        if let Some(late) = self.containers.get_mut(id).and_then(|execs| execs.get_mut(&job.moment)) {
            late.stage = Stage::Queued(job);
        }
    }

    /// Whether this exec is retained.
    pub(super) fn contains(&self, id: &ContainerId, moment: Moment) -> bool {
        self.containers.get(id).is_some_and(|execs| execs.contains_key(&moment))
    }

    /// The jobs that a container's budget allows now, oldest first.
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

    /// Gives up execs that were retained for too long, and those that wait for the budget of a container that is gone. Returns
    /// which.
    pub(super) fn expire(&mut self, now_ns: i64, is_known: impl Fn(&ContainerId) -> bool) -> Vec<Moment> {
        let (mut expired, mut bytes) = (Vec::new(), 0);
        self.containers.retain(|id, execs| {
            let known = is_known(id);
            execs.retain(|moment, late| {
                let stays = late.until_ns > now_ns && (known || matches!(late.stage, Stage::Hashing));
                if !stays {
                    expired.push(*moment);
                    bytes += late.bytes;
                }
                stays
            });
            !execs.is_empty()
        });
        self.bytes -= bytes;
        expired
    }
}
