//! Counts of events: reported only after the commit that makes them final, discarded by an abort.

use std::collections::BTreeMap;

use driftline_schemas::topics::Topic;

use crate::Disposition;

/// Counts of the commits since the last call. Over the life of a process, `received + taken_over = settled + held +
/// handed_over`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Input records taken.
    pub received: u64,
    /// Held input records that were restored with a partition's state.
    pub taken_over: u64,
    /// Held input records whose state was dropped, because the partition was revoked or to be restored after an abort.
    pub handed_over: u64,
    /// Input records by final disposition.
    pub settled: BTreeMap<Disposition, u64>,
    /// Input records held now.
    pub held: u64,
    /// Named events in the core.
    pub events: BTreeMap<&'static str, u64>,
    /// Records produced.
    pub produced: BTreeMap<Topic, u64>,
    /// Commits with any content.
    pub commits: u64,
    /// Commits that were refused because the group had a new generation, and repeated under the next membership.
    pub commits_repeated: u64,
    /// State keys written.
    pub state_keys: u64,
    /// State keys restored.
    pub restored_keys: u64,
    /// Ranges of input that the topic no longer has.
    pub gaps: u64,
    /// Reasons of aborted transactions.
    pub aborts: Vec<String>,
}

impl Counts {
    /// Adds the counts of `later`.
    pub fn add(&mut self, later: Self) {
        self.received += later.received;
        self.taken_over += later.taken_over;
        self.handed_over += later.handed_over;
        add_all(&mut self.settled, later.settled);
        self.held = later.held;
        add_all(&mut self.events, later.events);
        add_all(&mut self.produced, later.produced);
        self.commits += later.commits;
        self.commits_repeated += later.commits_repeated;
        self.state_keys += later.state_keys;
        self.restored_keys += later.restored_keys;
        self.gaps += later.gaps;
        self.aborts.extend(later.aborts);
    }
}

fn add_all<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}

/// Counts since the last commit, and those of earlier commits.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) open: Counts,
    committed: Counts,
}

impl Ledger {
    pub(super) fn settled(&mut self, settled: BTreeMap<Disposition, u64>, held: u64) {
        add_all(&mut self.open.settled, settled);
        self.open.held = held;
    }

    pub(super) fn events(&mut self, events: BTreeMap<&'static str, u64>) {
        add_all(&mut self.open.events, events);
    }

    pub(super) fn produced(&mut self, topic: Topic) {
        *self.open.produced.entry(topic).or_default() += 1;
    }

    /// Makes everything counted final.
    pub(super) fn commit(&mut self) {
        let held = self.open.held;
        self.committed.add(std::mem::take(&mut self.open));
        self.open.held = held;
    }

    /// Discards the counts since the last commit. Records held at that commit are dropped, and are restored with the
    /// state.
    pub(super) fn undo(&mut self, why: String) {
        let mut aborts = std::mem::take(&mut self.open.aborts);
        aborts.push(why);
        self.open = Counts { handed_over: self.committed.held, aborts, ..Counts::default() };
    }

    /// Takes the counts of the commits since the last call.
    pub(super) fn take(&mut self) -> Counts {
        let held = self.committed.held;
        std::mem::replace(&mut self.committed, Counts { held, ..Counts::default() })
    }
}
