//! Records that were given up, until the loss record that reports them is safe.

use driftline_schemas::{CollectorLoss, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::limits;

/// What is missing for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How many execs; nothing when that cannot be known.
    pub lost: Option<u64>,
    /// The first of them, nanoseconds since 1970.
    pub from_ns: i64,
    /// The last of them.
    pub to_ns: i64,
}

/// What is missing, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gaps(BTreeMap<String, Gap>);

impl Gaps {
    /// Adds to what is missing for a reason. The interval becomes the shortest that holds both. `false`: there are
    /// too many reasons, and this one was not taken.
    pub fn add(&mut self, reason: &str, more: Gap) -> bool {
        if let Some(gap) = self.0.get_mut(reason) {
            gap.lost = gap.lost.zip(more.lost).map(|(lost, more)| lost.saturating_add(more));
            gap.from_ns = gap.from_ns.min(more.from_ns);
            gap.to_ns = gap.to_ns.max(more.to_ns);
            return true;
        }
        let has_room = self.0.len() < limits::SPOOL_REASONS && reason.len() <= limits::SPOOL_REASON_BYTES;
        if has_room {
            self.0.insert(reason.to_owned(), more);
        }
        has_room
    }

    /// Takes back what a loss record reports that will not be sent.
    pub fn add_record(&mut self, loss: &CollectorLoss) -> bool {
        let lost = loss.lost.map(|lost| u64::try_from(lost).unwrap_or(0));
        self.add(&loss.reason, Gap { lost, from_ns: loss.from_ns, to_ns: loss.to_ns })
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The loss records that report it.
    pub fn records<'a>(&'a self, node: &'a Node, collector_start: &'a str) -> impl Iterator<Item = CollectorLoss> + 'a {
        self.0.iter().map(move |(reason, gap)| CollectorLoss {
            node: node.clone(),
            collector_start: collector_start.to_owned(),
            from_ns: gap.from_ns,
            to_ns: gap.to_ns.max(gap.from_ns),
            lost: gap.lost.map(|lost| i64::try_from(lost).unwrap_or(i64::MAX)),
            reason: reason.clone(),
        })
    }

    /// By reason.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Gap)> {
        self.0.iter().map(|(reason, gap)| (reason.as_str(), *gap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_the_interval_holds_all() {
        let mut gaps = Gaps::default();
        assert!(gaps.add("spool_full", Gap { lost: Some(3), from_ns: 10, to_ns: 20 }));
        assert!(gaps.add("spool_full", Gap { lost: Some(4), from_ns: 5, to_ns: 15 }));
        assert!(gaps.add("collector_restart", Gap { lost: None, from_ns: 30, to_ns: 40 }));
        let records: Vec<CollectorLoss> = gaps.records(&Node::default(), "start").collect();
        let short = |loss: &CollectorLoss| (loss.reason.clone(), loss.lost, loss.from_ns, loss.to_ns);
        let expected = [("collector_restart".to_owned(), None, 30, 40), ("spool_full".to_owned(), Some(7), 5, 20)];
        assert_eq!(records.iter().map(short).collect::<Vec<_>>(), expected);
        let mut again = Gaps::default();
        assert!(records.iter().all(|loss| again.add_record(loss)));
        assert_eq!(again, gaps);
    }

    #[test]
    fn reasons_are_bounded() {
        let mut gaps = Gaps::default();
        let gap = Gap { lost: Some(1), from_ns: 0, to_ns: 0 };
        let taken = (0..100).filter(|number| gaps.add(&number.to_string(), gap)).count();
        assert_eq!(taken, limits::SPOOL_REASONS);
        assert!(!Gaps::default().add(&"x".repeat(100), gap));
    }
}
