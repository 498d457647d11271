//! Tests a commit that the group refuses because of a new generation.

use super::super::commit::{KEPT_BYTES_MAX, MEMBERSHIP_MAX_NS};
use super::*;

/// An executor whose commit was refused after `a` at offset 0 of partition 0.
fn refused(log: &FakeLog, partitions: &[i32]) -> (Executor<Toy, FakeLog>, Counts) {
    let mut executor = reading(log, partitions);
    log.lock().outdated = 1;
    take(&mut executor, 0, 0, "a");
    let counts = commit(&mut executor);
    (executor, counts)
}

#[test]
fn a_refused_commit_is_made_again_under_the_next_membership_and_nothing_is_restored() {
    let log = FakeLog::default();
    let (mut executor, mut counts) = refused(&log, &[0]);
    assert_eq!(log.lock().take_calls(), ["send a=1", "state schema", "state a", "flush", "offsets", "abort"]);
    assert_eq!((counts.received, counts.commits, counts.state_keys, counts.aborts.len()), (0, 0, 0, 0));
    now(executor.assign(0, &[])).unwrap();
    let calls = ["send a=1", "state schema", "state a", "flush", "offsets", "commit", "resume {}"];
    assert_eq!(log.lock().take_calls(), calls);
    counts.add(commit(&mut executor));
    assert_eq!((counts.received, counts.commits, counts.commits_repeated), (1, 1, 1));
    assert_eq!((counts.state_keys, counts.produced[&Topic::Findings], counts.aborts.len()), (1, 1, 0));
    assert_balanced(&counts);
    assert_eq!(log.lock().outputs, ["a=1"]);
    assert_eq!(executor.position(0), Some(1));
}

#[test]
fn input_is_taken_while_a_commit_waits_and_what_comes_of_it_is_sent_behind() {
    let log = FakeLog::default();
    let (mut executor, mut counts) = refused(&log, &[0]);
    log.lock().take_calls();
    take(&mut executor, 0, 1, "b");
    now(executor.record(0, &record(0, 2, "", Some("hold")))).unwrap();
    counts.add(commit(&mut executor));
    assert_eq!(log.lock().take_calls(), [""; 0], "no transaction is open");
    assert_eq!((counts.received, executor.pending()), (0, Pending::Output));
    take(&mut executor, 0, 3, "a");
    now(executor.assign(0, &[])).unwrap();
    counts.add(commit(&mut executor));
    assert_eq!(log.lock().outputs, ["a=1", "b=1", "a=2"]);
    assert_eq!(log.lock().committed[&0].offset, 4);
    assert_eq!((counts.received, counts.held, counts.settled[&Disposition::Reported]), (4, 1, 3));
    assert_balanced(&counts);
    assert_eq!(reading(&log, &[0]).stage().counts[&0], BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]));
}

#[test]
fn a_commit_that_is_refused_again_does_not_keep_a_partition_from_being_taken_over() {
    let log = FakeLog::default();
    let (mut executor, mut counts) = refused(&log, &[0]);
    log.lock().outdated = 1;
    now(executor.assign(0, &[1])).unwrap();
    executor.resumed(&[1]);
    take(&mut executor, 1, 0, "b");
    assert_eq!(log.lock().outputs, [""; 0]);
    now(executor.assign(0, &[])).unwrap();
    counts.add(commit(&mut executor));
    assert_eq!(log.lock().outputs, ["a=1", "b=1"]);
    assert_eq!((counts.commits_repeated, counts.aborts.len()), (2, 0));
    assert_balanced(&counts);
}

#[test]
fn what_waits_is_committed_before_a_partition_is_handed_over() {
    let log = FakeLog::default();
    let (mut executor, mut counts) = refused(&log, &[0, 1]);
    now(executor.record(0, &record(0, 1, "", Some("hold")))).unwrap();
    counts.add(now(executor.revoke(0, &[0])).unwrap());
    assert_eq!(log.lock().outputs, ["a=1"]);
    assert_eq!(log.lock().committed[&0].offset, 2);
    assert_eq!((counts.received, counts.handed_over, counts.aborts.len()), (2, 1, 0));
    assert_balanced(&counts);
    assert!(!log.lock().calls.contains(&"read".to_owned()), "nothing is restored");
}

#[test]
fn what_cannot_be_committed_before_a_partition_is_handed_over_is_undone() {
    let log = FakeLog::default();
    let (mut executor, mut counts) = refused(&log, &[0, 1]);
    take(&mut executor, 1, 0, "b");
    log.lock().outdated = 1;
    counts.add(now(executor.revoke(0, &[0])).unwrap());
    executor.resumed(&[1]);
    take(&mut executor, 1, 0, "b");
    counts.add(commit(&mut executor));
    assert_eq!(log.lock().outputs, ["b=1"], "the next owner reads the other again");
    assert_eq!((counts.received, counts.aborts.len(), counts.commits_repeated), (1, 1, 0));
    assert_balanced(&counts);
}

#[test]
fn of_what_waits_nothing_is_committed_when_partitions_are_lost() {
    let log = FakeLog::default();
    let (mut executor, mut counts) = refused(&log, &[0, 1]);
    take(&mut executor, 1, 0, "b");
    now(executor.lose(0, &[0])).unwrap();
    executor.resumed(&[1]);
    assert_eq!(log.lock().outputs, [""; 0]);
    take(&mut executor, 1, 0, "b");
    counts.add(commit(&mut executor));
    assert_eq!(log.lock().outputs, ["b=1"]);
    assert_eq!((counts.received, counts.aborts.len()), (1, 1));
    assert_balanced(&counts);
}

#[test]
fn a_transaction_is_undone_when_too_much_waits_or_for_too_long() {
    let half = "k".repeat(KEPT_BYTES_MAX / 4);
    for (key, at_ns) in [(half.as_str(), 0), ("b", MEMBERSHIP_MAX_NS + 1)] {
        let log = FakeLog::default();
        let (mut executor, mut counts) = refused(&log, &[0]);
        take(&mut executor, 0, 1, key);
        take(&mut executor, 0, 2, key);
        counts.add(now(executor.commit(at_ns)).unwrap());
        assert_eq!(executor.position(0), None, "it is restored");
        executor.resumed(&[0]);
        take(&mut executor, 0, 0, "a");
        counts.add(commit(&mut executor));
        assert_eq!(log.lock().outputs, ["a=1"]);
        assert_eq!((counts.received, counts.aborts.len(), counts.commits_repeated), (1, 1, 0));
        assert_balanced(&counts);
    }
}

#[test]
fn a_membership_that_never_comes_ends_the_process() {
    let log = FakeLog::default();
    let mut executor = reading(&log, &[0]);
    log.lock().outdated = u32::MAX;
    let mut now_ns = 0;
    for _ in 0..ABORTS_MAX {
        take(&mut executor, 0, 0, "a");
        now(executor.commit(now_ns)).unwrap();
        now_ns += MEMBERSHIP_MAX_NS + 1;
        now(executor.commit(now_ns)).unwrap();
        executor.resumed(&[0]);
    }
    take(&mut executor, 0, 0, "a");
    now(executor.commit(now_ns)).unwrap();
    let ended = now(executor.commit(now_ns + MEMBERSHIP_MAX_NS + 1));
    assert!(matches!(ended, Err(Stop::Aborting(_))), "{ended:?}");
}
