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
    /// Kafka did not take records in time.
    Producer,
    /// A record of the kernel program could not be decoded.
    Undecodable,
}

impl Loss {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Ring => "ring_full",
            Self::Producer => "producer_full",
            Self::Undecodable => "undecodable",
        }
    }
}

/// Losses since the last time they were said.
#[derive(Debug)]
pub(super) struct Losses {
    counts: BTreeMap<Loss, u64>,
    since_ns: i64,
    /// When Kafka last did not take a record, until it takes one again. What it would not take now is not said now.
    refused_ns: Option<i64>,
    /// When the containers are to be described anew, because records about them may be among those that were lost.
    announce_at_ns: Option<i64>,
}

impl Losses {
    pub(super) fn new(now_ns: i64) -> Self {
        Self { counts: BTreeMap::new(), since_ns: now_ns, refused_ns: None, announce_at_ns: None }
    }

    pub(super) fn add(&mut self, now_ns: i64, loss: Loss, count: u64) {
        *self.counts.entry(loss).or_default() += count;
        if loss == Loss::Producer {
            self.refused_ns = Some(now_ns);
            self.announce_at_ns = Some(now_ns.saturating_add(limits::LOSS_INTERVAL));
        }
    }

    /// Kafka takes records again.
    pub(super) fn delivered(&mut self) {
        self.refused_ns = None;
    }

    /// Whether the containers are to be described anew; once after each time that records were lost.
    pub(super) fn announce_is_due(&mut self, now_ns: i64) -> bool {
        self.announce_at_ns.take_if(|at_ns| *at_ns <= now_ns).is_some()
    }

    pub(super) fn are_due(&self, now_ns: i64) -> bool {
        let refused = self.refused_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < limits::REFUSED_MAX);
        !refused && now_ns.saturating_sub(self.since_ns) >= limits::LOSS_INTERVAL
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_wait_until_kafka_takes_records_again_and_containers_are_announced_once() {
        let mut losses = Losses::new(0);
        let interval = limits::LOSS_INTERVAL;
        losses.add(1, Loss::Ring, 500);
        losses.add(2, Loss::Producer, 3);
        assert!(!losses.are_due(interval), "the record that says them would be lost too");
        assert!(!losses.announce_is_due(interval));
        assert!(losses.announce_is_due(interval + 2));
        assert!(!losses.announce_is_due(interval + 3));
        losses.delivered();
        assert!(losses.are_due(interval));
        let both = BTreeMap::from([(Loss::Ring, 500), (Loss::Producer, 3)]);
        assert_eq!(losses.take(interval), (0, both));
        assert!(!losses.are_due(interval + 1));
    }

    #[test]
    fn a_quiet_node_says_its_losses_after_a_while() {
        let mut losses = Losses::new(0);
        losses.add(0, Loss::Producer, 1);
        assert!(!losses.are_due(limits::REFUSED_MAX - 1));
        assert!(losses.are_due(limits::REFUSED_MAX));
    }
}
