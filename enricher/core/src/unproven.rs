//! Folding of a container's unproven execs: those of one reason and time have one finding together.

use driftline_detection::Unproven;
use driftline_detection::finding::{Revision, UnprovenExecs};
use driftline_schemas::enricher_state::UnprovenFold;
use driftline_schemas::{EventId, Exec, FindingState};

use crate::limits::{UNPROVEN_FOLD_NS, UNPROVEN_FOLDS_MAX};

/// The unproven execs of a container.
#[derive(Debug, Default)]
pub(crate) struct UnprovenFolds(Vec<Fold>);

/// Execs of one reason whose event times lie within [`UNPROVEN_FOLD_NS`].
#[derive(Debug)]
struct Fold {
    execs: UnprovenExecs,
    /// Newest published revision.
    revision: i32,
    /// Number of execs that it reports.
    reported: i64,
}

impl Fold {
    fn new(reason: Unproven, first: &Exec) -> Self {
        let event_id = EventId::of_unproven(&first.event_id, reason.name());
        let execs = UnprovenExecs { reason, event_id, first_ns: first.time_ns, execs: 0 };
        Self { execs, revision: 0, reported: 0 }
    }

    /// Whether every exec of it has a verdict of its own by now. It stays so that the number of its revision is known if the
    /// exec that began it comes back.
    fn is_retracted(&self) -> bool {
        self.execs.execs == 0
    }

    fn covers(&self, reason: Unproven, time_ns: i64) -> bool {
        let since_ns = time_ns.saturating_sub(self.execs.first_ns);
        self.execs.reason == reason && (0..UNPROVEN_FOLD_NS).contains(&since_ns)
    }

    fn publish(&mut self, state: FindingState) -> (UnprovenExecs, Revision) {
        self.revision = self.revision.saturating_add(1);
        self.reported = self.execs.execs;
        (self.execs.clone(), Revision { number: self.revision, state })
    }
}

impl UnprovenFolds {
    /// Adds an exec. Returns the finding to publish: for the first exec, and each time that their number has doubled.
    pub(crate) fn add(&mut self, reason: Unproven, exec: &Exec) -> Option<(UnprovenExecs, Revision)> {
        let open = self.position(reason, exec.time_ns).or_else(|| self.begun_by(reason, exec));
        let at = open.unwrap_or_else(|| {
            if self.0.len() >= UNPROVEN_FOLDS_MAX {
                self.0.remove(0);
            }
            self.0.push(Fold::new(reason, exec));
            self.0.len() - 1
        });
        let fold = self.0.get_mut(at)?;
        fold.execs.execs = fold.execs.execs.saturating_add(1);
        let is_due = fold.execs.execs >= fold.reported.saturating_mul(2).max(1);
        is_due.then(|| fold.publish(FindingState::Active))
    }

    /// Takes out an exec that has a verdict of its own by now. Returns the retraction when none is left.
    pub(crate) fn remove(&mut self, reason: Unproven, time_ns: i64) -> Option<(UnprovenExecs, Revision)> {
        let at = self.position(reason, time_ns)?;
        let fold = self.0.get_mut(at)?;
        fold.execs.execs = fold.execs.execs.saturating_sub(1);
        fold.is_retracted().then(|| fold.publish(FindingState::Retracted))
    }

    /// The fold that an exec began, all of whose execs left it. The exec is unproven for the same reason again: the manifest
    /// that proved it is gone.
    fn begun_by(&self, reason: Unproven, exec: &Exec) -> Option<usize> {
        let event_id = EventId::of_unproven(&exec.event_id, reason.name());
        self.0.iter().position(|fold| fold.execs.event_id == event_id)
    }

    /// The newest fold that covers an exec and has any. An exec is taken out where it was added, because a fold is only begun where
    /// none covers its first exec. Only where its fold was forgotten ([`UNPROVEN_FOLDS_MAX`]) and an exec of an earlier time
    /// came later is it taken out of that one's fold.
    fn position(&self, reason: Unproven, time_ns: i64) -> Option<usize> {
        let covering =
            self.0.iter().enumerate().filter(|(_, fold)| !fold.is_retracted() && fold.covers(reason, time_ns));
        covering.max_by_key(|(_, fold)| fold.execs.first_ns).map(|(at, _)| at)
    }

    pub(crate) fn to_state(&self) -> Vec<UnprovenFold> {
        let fold = |Fold { execs, revision, reported }: &Fold| UnprovenFold {
            reason: execs.reason.name().to_owned(),
            first_ns: execs.first_ns,
            event_id: execs.event_id.clone(),
            revision: *revision,
            execs: execs.execs,
            reported: *reported,
        };
        self.0.iter().map(fold).collect()
    }

    pub(crate) fn of_state(state: Vec<UnprovenFold>) -> Self {
        let fold = |it: UnprovenFold| {
            let reason = Unproven::of_name(&it.reason)?;
            let execs = UnprovenExecs { reason, event_id: it.event_id, first_ns: it.first_ns, execs: it.execs };
            Some(Fold { execs, revision: it.revision, reported: it.reported })
        };
        Self(state.into_iter().filter_map(fold).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::exec;
    use driftline_schemas::{FileClass, HashState};

    const REASON: Unproven = Unproven::NoDigest(HashState::OverBudget);

    fn at(time_ns: i64) -> Exec {
        Exec { time_ns, ..exec(time_ns, FileClass::Unknown, "/bin/ls", "/bin/ls") }
    }

    fn published(change: Option<(UnprovenExecs, Revision)>) -> Option<(i64, i32, FindingState)> {
        change.map(|(execs, revision)| (execs.execs, revision.number, revision.state))
    }

    #[test]
    fn the_first_exec_and_each_doubling_are_published() {
        let mut folds = UnprovenFolds::default();
        let revisions: Vec<_> = (0..9).filter_map(|n| published(folds.add(REASON, &at(n)))).collect();
        let active = FindingState::Active;
        assert_eq!(revisions, [(1, 1, active), (2, 2, active), (4, 3, active), (8, 4, active)]);
    }

    #[test]
    fn the_last_exec_taken_out_retracts_and_the_next_one_begins_another_finding() {
        let mut folds = UnprovenFolds::default();
        (0..3).for_each(|n| drop(folds.add(REASON, &at(n))));
        assert_eq!(published(folds.remove(REASON, 0)), None);
        assert_eq!(published(folds.remove(REASON, 2)), None);
        assert_eq!(published(folds.remove(REASON, 1)), Some((0, 3, FindingState::Retracted)));
        let (next, revision) = folds.add(REASON, &at(5)).unwrap();
        assert_eq!((next.event_id, revision.number), (EventId::of_unproven(&at(5).event_id, REASON.name()), 1));
    }

    #[test]
    fn the_exec_that_began_a_retracted_finding_comes_back_into_it_as_its_next_revision() {
        let mut folds = UnprovenFolds::default();
        drop(folds.add(REASON, &at(0)));
        assert_eq!(published(folds.remove(REASON, 0)), Some((0, 2, FindingState::Retracted)));
        let (other, _) = folds.add(REASON, &at(5)).unwrap();
        assert_eq!(other.first_ns, 5);
        let (again, revision) = folds.add(REASON, &at(0)).unwrap();
        assert_eq!(again.event_id, EventId::of_unproven(&at(0).event_id, REASON.name()));
        assert_eq!((again.execs, revision.number, revision.state), (1, 3, FindingState::Active));
        // Each is taken out of its own.
        assert_eq!(published(folds.remove(REASON, 5)), Some((0, 2, FindingState::Retracted)));
        assert_eq!(published(folds.remove(REASON, 0)), Some((0, 4, FindingState::Retracted)));
    }

    #[test]
    fn reasons_and_times_far_apart_are_separate_findings() {
        let mut folds = UnprovenFolds::default();
        let mut ids = std::collections::BTreeSet::new();
        for (reason, time_ns) in [(REASON, 0), (Unproven::NoImage, 0), (REASON, UNPROVEN_FOLD_NS), (REASON, -1)] {
            let (execs, revision) = folds.add(reason, &at(time_ns)).unwrap();
            assert_eq!(revision.number, 1);
            assert!(ids.insert(execs.event_id));
        }
        // The exec of time -1 came last, and the one of time 0 is still taken out of its own fold.
        assert_eq!(published(folds.remove(REASON, 0)), Some((0, 2, FindingState::Retracted)));
        assert_eq!(published(folds.remove(REASON, -1)), Some((0, 2, FindingState::Retracted)));
    }

    #[test]
    fn beyond_the_limit_the_oldest_is_forgotten() {
        let mut folds = UnprovenFolds::default();
        let count = i64::try_from(UNPROVEN_FOLDS_MAX).unwrap() + 1;
        (0..count).for_each(|n| drop(folds.add(REASON, &at(n * UNPROVEN_FOLD_NS))));
        assert_eq!(folds.to_state().len(), UNPROVEN_FOLDS_MAX);
        assert_eq!(published(folds.remove(REASON, 0)), None);
    }

    #[test]
    fn the_state_restores_the_same_folds() {
        let mut folds = UnprovenFolds::default();
        (0..3).for_each(|n| drop(folds.add(REASON, &at(n))));
        let restored = UnprovenFolds::of_state(folds.to_state());
        assert_eq!(restored.to_state(), folds.to_state());
    }
}
