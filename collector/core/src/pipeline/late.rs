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
    /// Wall clock of the exec itself: the record's time may be later, because the times of a container never go back.
    pub(super) executed_ns: i64,
    until_ns: i64,
    stage: Stage,
    /// What it takes of memory, with its job.
    bytes: usize,
}

/// Those of one container.
#[derive(Debug, Default)]
struct OfContainer {
    execs: BTreeMap<Moment, LateExec>,
    bytes: usize,
}

/// All such execs of a node. See the module.
#[derive(Debug, Default)]
pub(super) struct LateExecs {
    containers: BTreeMap<ContainerId, OfContainer>,
    /// Memory of all of them.
    bytes: usize,
}

impl LateExecs {
    /// Retains an exec that goes out now, if there is room or another container takes more. Returns the execs that are given
    /// up: this one, or those that make room for it.
    pub(super) fn retain(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        held: HeldExec,
        (time_ns, executed_ns): (i64, i64),
    ) -> Vec<Moment> {
        let stage = match held.postponed {
            Some(job) => Stage::Queued(job),
            None => Stage::Hashing,
        };
        // The job has a path like one of the exec's.
        let bytes = size_of::<LateExec>() + size_of::<DigestJob>() + held.exec.path.len() + held.exec.memory_bytes();
        let (count, with_it) =
            self.containers.get(id).map_or((0, bytes), |own| (own.execs.len(), own.bytes.saturating_add(bytes)));
        if count >= limits::LATE_PER_CONTAINER {
            return vec![held.exec.moment];
        }
        let mut given_up = Vec::new();
        while self.bytes + bytes > limits::LATE_BYTES {
            match self.newest_of_largest(with_it) {
                Some((largest, moment)) => {
                    self.take(&largest, moment);
                    given_up.push(moment);
                }
                None => {
                    given_up.push(held.exec.moment);
                    return given_up;
                }
            }
        }
        let late = LateExec {
            exec: held.exec,
            inner: held.inner,
            time_ns,
            executed_ns,
            until_ns: now_ns.saturating_add(limits::LATE_WAIT),
            stage,
            bytes,
        };
        self.take(id, late.exec.moment);
        let own = self.containers.entry(id.clone()).or_default();
        own.bytes += bytes;
        self.bytes += bytes;
        own.execs.insert(late.exec.moment, late);
        given_up
    }

    /// The newest exec of the container that takes most memory, if that is more than `bytes`.
    fn newest_of_largest(&self, bytes: usize) -> Option<(ContainerId, Moment)> {
        let (id, largest) = self.containers.iter().max_by_key(|(_, of)| of.bytes).filter(|(_, of)| of.bytes > bytes)?;
        let (moment, _) = largest.execs.last_key_value()?;
        Some((id.clone(), *moment))
    }

    /// Memory of all of them.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes out the exec of a digest that is known now.
    pub(super) fn take(&mut self, id: &ContainerId, moment: Moment) -> Option<LateExec> {
        let own = self.containers.get_mut(id)?;
        let late = own.execs.remove(&moment)?;
        own.bytes -= late.bytes;
        self.bytes -= late.bytes;
        if own.execs.is_empty() {
            self.containers.remove(id);
        }
        Some(late)
    }

    /// The shell had no room for the job; it waits again.
    pub(super) fn postpone(&mut self, id: &ContainerId, job: Box<DigestJob>) {
        if let Some(late) = self.containers.get_mut(id).and_then(|own| own.execs.get_mut(&job.moment)) {
            late.stage = Stage::Queued(job);
        }
    }

    /// Whether this exec is retained.
    pub(super) fn contains(&self, id: &ContainerId, moment: Moment) -> bool {
        self.containers.get(id).is_some_and(|own| own.execs.contains_key(&moment))
    }

    /// The jobs that a container's budget allows now, oldest first.
    pub(super) fn affordable(&mut self, now_ns: i64, id: &ContainerId, budget: &mut Budget) -> Vec<DigestJob> {
        let mut jobs = Vec::new();
        for late in self.containers.get_mut(id).into_iter().flat_map(|own| own.execs.values_mut()) {
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
        let mut expired = Vec::new();
        for (id, own) in &self.containers {
            let known = is_known(id);
            let stays = |late: &LateExec| late.until_ns > now_ns && (known || matches!(late.stage, Stage::Hashing));
            let over = own.execs.iter().filter(|(_, late)| !stays(late));
            expired.extend(over.map(|(moment, _)| (id.clone(), *moment)));
        }
        expired.iter().for_each(|(id, moment)| drop(self.take(id, *moment)));
        expired.into_iter().map(|(_, moment)| moment).collect()
    }
}
