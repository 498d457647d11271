//! An exec that waits in the queue of its container.

use driftline_schemas::ContainerId;

use super::container::Located;
use crate::digest::{Digest, DigestJob, DigestOutcome};
use crate::raw::RawExec;

/// See the module.
#[derive(Debug)]
pub(super) struct HeldExec {
    pub(super) exec: Box<RawExec>,
    pub(super) arrived_ns: i64,
    /// Its process has executed something in the container before.
    pub(super) was_inside: bool,
    /// The containers that its own lies in, from it outwards.
    pub(super) outer: Vec<ContainerId>,
    /// The container inside its own in which it ran, which no runtime knows.
    pub(super) inner: Option<ContainerId>,
    /// Its digest was commanded.
    pub(super) is_hashing: bool,
    /// The job for which there was no budget.
    pub(super) postponed: Option<Box<DigestJob>>,
    pub(super) digest: Option<DigestOutcome>,
}

impl HeldExec {
    pub(super) fn new(now_ns: i64, located: Located) -> Self {
        Self {
            exec: located.exec,
            arrived_ns: now_ns,
            was_inside: located.was_inside,
            outer: located.outer,
            inner: None,
            is_hashing: false,
            postponed: None,
            digest: None,
        }
    }

    /// The same exec in the queue of a container around its own.
    pub(super) fn adopted_from(self, inner: &ContainerId) -> Self {
        Self { outer: Vec::new(), inner: Some(inner.clone()), ..self }
    }

    /// Whether its digest is known, or was commanded.
    pub(super) fn has_digest_request(&self) -> bool {
        self.digest.is_some() || self.is_hashing
    }

    /// There is no room or budget for its digest now: it does not wait for it.
    pub(super) fn postpone(&mut self, job: Box<DigestJob>) {
        self.digest = Some(DigestOutcome::of(Digest::OverBudget));
        self.postponed = Some(job);
    }

    /// Whether its digest may come after it has gone out.
    pub(super) fn may_be_late(&self) -> bool {
        self.postponed.is_some() || (self.is_hashing && self.digest.is_none())
    }

    /// How its hashing ended; a digest that did not come in time counts as over budget.
    pub(super) fn outcome(&self) -> Option<DigestOutcome> {
        let unfinished = self.is_hashing.then(|| DigestOutcome::of(Digest::OverBudget));
        self.digest.clone().or(unfinished)
    }
}
