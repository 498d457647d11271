//! What could not be reported, until it is said.

use driftline_schemas::{CollectorLoss, ContainerSeen};
use std::collections::BTreeMap;

use crate::limits;
use crate::node::NodeSettings;

/// Where execs were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// A ring was full.
    Ring,
    /// A record of the kernel program could not be decoded.
    Undecodable,
}

impl Loss {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Ring => "ring_full",
            Self::Undecodable => "undecodable",
        }
    }
}

/// Losses since the last time they were said.
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

/// Says that none of a container's execs can be seen, and what runs it. Its id makes the loss its own, and not that of
/// another container described in the same moment.
pub(super) fn unseen(seen: &ContainerSeen, settings: &NodeSettings, now_ns: i64) -> CollectorLoss {
    let cut = |text: &str, length: usize| text.get(..text.floor_char_boundary(length)).unwrap_or(text).to_owned();
    let handler = cut(&seen.runtime_handler, limits::HANDLER_BYTES);
    let container = cut(seen.container.id.as_str(), limits::SHORT_ID_BYTES);
    CollectorLoss {
        node: settings.node.clone(),
        collector_start: settings.collector_start.clone(),
        from_ns: now_ns,
        to_ns: now_ns,
        lost: None,
        reason: format!("unseen container {container} run by {handler}"),
    }
}
