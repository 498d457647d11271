//! Tests that no partition stays without a member that reads it, whichever member is killed during a rebalance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use driftline_kafka::{ClientSettings, Done, GroupEvent, GroupReader};
use driftline_schemas::topics::Topic;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::harness::{PATIENCE, with_topics};

/// On an otherwise idle machine it takes 10 s.
const OWNED_MAX: Duration = Duration::from_secs(40);
/// Longer than a stalled group needs to be noticed.
const QUIET: Duration = Duration::from_secs(12);

/// A member with a revocation that it has not answered.
struct Held {
    name: String,
    reader: GroupReader,
    done: Done,
}

#[derive(Default)]
struct State {
    /// The partitions that each member reads.
    shares: BTreeMap<String, BTreeSet<i32>>,
    revocations: u64,
    forced: u64,
    /// Receives the next member with a revocation.
    hold: Option<oneshot::Sender<Held>>,
}

/// The members of a group in this process.
struct Members {
    kafka: ClientSettings,
    state: watch::Sender<State>,
    tasks: JoinSet<()>,
}

impl Members {
    fn join(&mut self, name: &str) {
        let group = format!("{}.unowned", self.kafka.prefix);
        let reader = GroupReader::start(&self.kafka, Topic::ExecEvents, &group, name).unwrap();
        self.tasks.spawn(follow(reader, name.to_owned(), self.state.clone()));
    }

    /// Waits until each partition has one owner, and each of so many members has a partition.
    async fn all_owned(&self, members: usize, longest: Duration) {
        let partitions: Vec<i32> = (0..self.kafka.partitions).collect();
        let mut state = self.state.subscribe();
        let whole = state.wait_for(|state| {
            let mut owned: Vec<i32> = state.shares.values().flatten().copied().collect();
            owned.sort_unstable();
            owned == partitions && state.shares.values().filter(|share| !share.is_empty()).count() == members
        });
        let is_whole = tokio::time::timeout(longest, whole).await.is_ok();
        assert!(is_whole, "{:?} after {longest:?}", self.state.borrow().shares);
    }

    /// Number of revocations, and number of rebalances that a member caused.
    fn counts(&self) -> (u64, u64) {
        let state = self.state.borrow();
        (state.revocations, state.forced)
    }
}

async fn follow(mut reader: GroupReader, name: String, state: watch::Sender<State>) {
    let mut poll = tokio::time::interval(Duration::from_millis(100));
    loop {
        let event = tokio::select! {
            event = reader.next() => event.unwrap(),
            _ = poll.tick() => {
                state.send_modify(|state| state.forced += reader.take_forced_rebalances());
                continue;
            }
        };
        match event {
            GroupEvent::Assigned(partitions) => {
                state.send_modify(|state| state.shares.entry(name.clone()).or_default().extend(partitions));
            }
            GroupEvent::Revoked(partitions, done) => {
                let mut hold = None;
                state.send_modify(|state| {
                    state.revocations += 1;
                    state.shares.entry(name.clone()).or_default().retain(|owned| !partitions.contains(owned));
                    hold = state.hold.take();
                    if hold.is_some() {
                        state.shares.remove(&name);
                    }
                });
                if let Some(hold) = hold {
                    assert!(hold.send(Held { name, reader, done }).is_ok());
                    return;
                }
            }
            event @ (GroupEvent::Lost(..) | GroupEvent::Failed(_)) => panic!("{name}: {event:?}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_handover_was_cut_short_gets_an_owner() {
    with_topics("unowned", |bench| async move {
        let mut members = Members { kafka: bench.kafka, state: watch::Sender::default(), tasks: JoinSet::new() };
        for (number, name) in ["a", "b"].into_iter().enumerate() {
            members.join(name);
            members.all_owned(number + 1, PATIENCE).await;
        }
        tokio::time::sleep(QUIET).await;
        assert_eq!(members.counts().1, 0, "nothing was to be mended");

        let (hold, held) = oneshot::channel();
        members.state.send_modify(|state| state.hold = Some(hold));
        members.join("c");
        let Held { name, reader, done } = held.await.unwrap();
        // A restart: the coordinator replaces the member that must release a partition by a new one, and no member is
        // left to report the release.
        members.join(&name);
        members.state.subscribe().wait_for(|state| state.shares.contains_key(&name)).await.unwrap();
        drop((done, reader));
        let (revocations, _) = members.counts();
        members.all_owned(3, OWNED_MAX).await;
        tokio::time::sleep(QUIET).await;
        let (after, forced) = members.counts();
        assert_eq!(after, revocations, "everybody retains its partitions");
        assert!((1..=2).contains(&forced), "{forced}: one acts; a second one only if that took longer than 3 s");
        let ended = members.tasks.try_join_next();
        assert!(matches!(ended, Some(Ok(()))), "the one that was replaced: {ended:?}");
        let ended = members.tasks.try_join_next();
        assert!(ended.is_none(), "nobody else lost anything: {ended:?}");
    })
    .await;
}
