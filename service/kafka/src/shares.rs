//! The partitions of each member of a group, according to the coordinator, and the decision when the group has to
//! rebalance.
//!
//! A partition without an owner is normal for a moment: in a cooperative rebalance no member owns it between the member
//! that releases it and the one that gets it. It stays without an owner when the first member is killed in between: a
//! restart under the same name gets the smaller assignment without a rebalance, and no member requests the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Pause between requests while a partition has no owner; longer than a heartbeat, by which a rebalance begins.
const AGAIN: Duration = Duration::from_secs(3);
/// Pause between requests while each partition has an owner.
const EVERY: Duration = Duration::from_secs(15);
/// Number of equal answers in a row before this member acts: 6 s, time to commit and release a partition.
const SAME_ANSWERS: u32 = 3;
/// After this many failed attempts the pause before the next one grows no more.
const GROWTH_MAX: u32 = 5;

/// Partitions of one topic by the ids of the members that own them.
pub(crate) type Shares = BTreeMap<String, BTreeSet<i32>>;

/// Decides for one member whether to make the group rebalance.
#[derive(Debug)]
pub(crate) struct Watch {
    partitions: i32,
    last: Option<Shares>,
    same_answers: u32,
    /// Number of failed attempts in a row.
    tried: u32,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    PollAfter(Duration),
    /// Rebalance: these partitions have no owner, and will not get one otherwise.
    Rebalance(Vec<i32>),
}

impl Watch {
    /// `partitions` is the partition count of the topic.
    pub(crate) fn new(partitions: i32) -> Self {
        Self { partitions, last: None, same_answers: 0, tried: 0 }
    }

    /// Takes an answer: the assignments in a group that is stable, or `None`. `is_own` recognises this member's id. A
    /// member waits for one more answer for each member of lower rank, so that one member acts and the others see the
    /// result.
    pub(crate) fn take(&mut self, shares: Option<Shares>, is_own: impl Fn(&str) -> bool) -> Next {
        let unowned = shares.as_ref().map_or_else(Vec::new, |shares| unowned(shares, self.partitions));
        let rank = shares.as_ref().and_then(|shares| shares.keys().position(|id| is_own(id)));
        let (false, Some(rank)) = (unowned.is_empty(), rank.and_then(|rank| u32::try_from(rank).ok())) else {
            if shares.is_some() {
                self.tried = 0;
            }
            (self.last, self.same_answers) = (None, 0);
            return Next::PollAfter(EVERY);
        };
        self.same_answers = if self.last == shares { self.same_answers + 1 } else { 1 };
        self.last = shares;
        if self.same_answers < (SAME_ANSWERS << self.tried.min(GROWTH_MAX)).saturating_add(rank) {
            return Next::PollAfter(AGAIN);
        }
        (self.last, self.same_answers) = (None, 0);
        self.tried = self.tried.saturating_add(1);
        Next::Rebalance(unowned)
    }
}

fn unowned(shares: &Shares, partitions: i32) -> Vec<i32> {
    (0..partitions).filter(|partition| !shares.values().any(|share| share.contains(partition))).collect()
}

/// Versions of `ConsumerProtocolAssignment` that are equal up to the partitions.
const VERSIONS: std::ops::RangeInclusive<i16> = 0..=3;

/// The partitions of a topic in the assignment of a member, a `ConsumerProtocolAssignment`; `None` when the bytes are
/// malformed. A member without partitions may have no bytes at all.
pub(crate) fn share(assignment: &[u8], topic: &str) -> Option<BTreeSet<i32>> {
    let mut share = BTreeSet::new();
    if assignment.is_empty() {
        return Some(share);
    }
    let mut rest = assignment;
    if !VERSIONS.contains(&i16::from_be_bytes(take(&mut rest)?)) {
        return None;
    }
    let topics = i32::from_be_bytes(take(&mut rest)?);
    for _ in 0..topics {
        let length = i16::from_be_bytes(take(&mut rest)?);
        let (name, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = after;
        for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
            let partition = i32::from_be_bytes(take(&mut rest)?);
            if name == topic.as_bytes() {
                share.insert(partition);
            }
        }
    }
    Some(share)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(of: &[(&str, &[i32])]) -> Option<Shares> {
        Some(of.iter().map(|(id, share)| ((*id).to_owned(), share.iter().copied().collect())).collect())
    }

    /// The number of the answer at which this member acts, if the answers stay the same and it does act.
    fn acts_upon(watch: &mut Watch, shares: Option<&Shares>, own: &str) -> Option<u32> {
        (1..=200).find(|_| matches!(watch.take(shares.cloned(), |id| id == own), Next::Rebalance(_)))
    }

    #[test]
    fn a_partition_that_stays_without_an_owner_is_seen_by_one_member_after_the_other() {
        let orphaned = shares(&[("a", &[0]), ("b", &[1]), ("c", &[])]);
        for (own, expected) in [("a", Some(3)), ("b", Some(4)), ("c", Some(5)), ("gone", None)] {
            assert_eq!(acts_upon(&mut Watch::new(3), orphaned.as_ref(), own), expected, "{own}");
        }
        let mut watch = Watch::new(4);
        watch.take(orphaned.clone(), |id| id == "a");
        watch.take(orphaned.clone(), |id| id == "a");
        assert_eq!(watch.take(orphaned, |id| id == "a"), Next::Rebalance(vec![2, 3]));
    }

    #[test]
    fn a_group_in_which_something_moves_is_left_alone() {
        let (one, other) = (shares(&[("a", &[0]), ("b", &[])]), shares(&[("a", &[]), ("b", &[1])]));
        let mut watch = Watch::new(2);
        for answer in [&one, &other, &one, &one, &None, &one, &one, &other, &other].into_iter().cycle().take(90) {
            let pause = if answer.is_some() { AGAIN } else { EVERY };
            assert_eq!(watch.take(answer.clone(), |id| id == "a"), Next::PollAfter(pause));
        }
        let whole = shares(&[("a", &[0]), ("b", &[1])]);
        assert_eq!(acts_upon(&mut watch, whole.as_ref(), "a"), None);
    }

    #[test]
    fn attempts_in_vain_become_rare_and_success_ends_that() {
        let orphaned = shares(&[("a", &[0])]);
        let mut watch = Watch::new(2);
        let mut upon = || acts_upon(&mut watch, orphaned.as_ref(), "a").unwrap();
        assert_eq!([upon(), upon(), upon(), upon(), upon(), upon(), upon()], [3, 6, 12, 24, 48, 96, 96]);
        assert_eq!(watch.take(shares(&[("a", &[0, 1])]), |id| id == "a"), Next::PollAfter(EVERY));
        assert_eq!(acts_upon(&mut watch, orphaned.as_ref(), "a"), Some(3));
    }

    /// Version 1 with two topics and user data, as a leader writes it.
    fn assignment() -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        for (topic, partitions) in [("other", &[7][..]), ("input", &[0, 5])] {
            bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend(i32::try_from(partitions.len()).unwrap().to_be_bytes());
            partitions.iter().for_each(|partition: &i32| bytes.extend(partition.to_be_bytes()));
        }
        bytes.extend([0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn an_assignment_is_read_or_is_none() {
        let whole = assignment();
        assert_eq!(share(&whole, "input"), Some(BTreeSet::from([0, 5])));
        assert_eq!(share(&whole, "inpu"), Some(BTreeSet::new()));
        assert_eq!(share(&[], "input"), Some(BTreeSet::new()));
        for length in 1..whole.len() - 4 {
            assert_eq!(share(&whole[..length], "input"), None, "{length} bytes");
        }
        for (at, bytes) in [(0, [0, 4]), (0, [255, 255]), (2, [127, 255]), (6, [255, 255]), (6, [127, 255])] {
            let mut hostile = whole.clone();
            hostile[at..at + 2].copy_from_slice(&bytes);
            assert_eq!(share(&hostile, "input"), None, "{bytes:?} at {at}");
        }
    }
}
