//! Execs that could not be reported, counted until a record reports the counts.

use std::collections::BTreeMap;

use crate::limits;

/// Where execs were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// A ring was full.
    Ring,
    /// A record of the kernel program could not be decoded.
    Undecodable,
    /// Its cgroup lies deeper than the kernel program looks, and nothing else shows a container.
    Cgroups,
}

impl Loss {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Ring => "ring_full",
            Self::Undecodable => "undecodable",
            Self::Cgroups => "cgroups_truncated",
        }
    }
}

/// Losses that no record has reported yet.
#[derive(Debug)]
pub(super) struct Losses {
    counts: BTreeMap<Loss, u64>,
    since_ns: i64,
}

impl Losses {
    pub(super) fn new(now_ns: i64) -> Self {
        Self { counts: BTreeMap::new(), since_ns: now_ns }
    }

    pub(super) fn add(&mut self, loss: Loss, count: u64) {
        *self.counts.entry(loss).or_default() += count;
    }

    pub(super) fn are_due(&self, now_ns: i64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= limits::LOSS_INTERVAL
    }

    /// The counts, and when their interval began; another begins now.
    pub(super) fn take(&mut self, now_ns: i64) -> (i64, BTreeMap<Loss, u64>) {
        (std::mem::replace(&mut self.since_ns, now_ns), std::mem::take(&mut self.counts))
    }
}
