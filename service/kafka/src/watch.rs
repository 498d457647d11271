//! Finds partitions without an owner, and makes the group rebalance. A thread of its own queries the coordinator after
//! each assignment, and at intervals afterwards.
//!
//! The client cannot request a rebalance. So a guest joins the group: a member for a moment, subscribed to another
//! topic only. When it joins, the coordinator makes all members join again, with the partitions that they keep, and
//! assigns the rest.

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;
use tokio::time::Instant;

use driftline_schemas::topics::Topic;

use crate::shares::{Next, Watch};
use crate::{ClientSettings, KafkaError, StaticMember};

/// Delay of the first query after an assignment; usually the group is stable by then.
const FIRST: Duration = Duration::from_secs(2);
/// Random extension of the pause, so that instances do not query at the same time.
const JITTER_MS: u64 = 1000;
/// A topic that exists in each cluster, is not an input of the group, and is never read by a group.
const GUEST_TOPIC: Topic = Topic::DeadLetters;
/// How long a guest waits for the members to join again. A member that releases partitions may take 10 s.
const GUEST_MAX: Duration = Duration::from_secs(60);
const GUEST_POLL: Duration = Duration::from_millis(100);

/// Ends the watch when dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    assigned: Sender<()>,
    rebalances: Arc<AtomicU64>,
}

impl Watching {
    pub(crate) fn start(
        settings: &ClientSettings,
        topic: Topic,
        static_member: StaticMember,
    ) -> Result<Self, KafkaError> {
        let (assigned, assignments) = channel();
        let rebalances = Arc::default();
        let watcher = Watcher {
            topic: settings.topic(topic),
            settings: settings.clone(),
            static_member,
            watch: Watch::new(settings.partition_count(topic)),
            assignments,
            rebalances: Arc::clone(&rebalances),
        };
        std::thread::Builder::new()
            .name("kafka-watch".into())
            .spawn(move || watcher.run())
            .map_err(KafkaError::Thread)?;
        Ok(Self { assigned, rebalances })
    }

    /// Starts the queries after an assignment.
    pub(crate) fn note_assigned(&self) {
        let _ = self.assigned.send(());
    }

    /// Number of rebalances caused since the last call.
    pub(crate) fn take_rebalances(&self) -> u64 {
        self.rebalances.swap(0, Ordering::Relaxed)
    }
}

struct Watcher {
    settings: ClientSettings,
    topic: String,
    static_member: StaticMember,
    watch: Watch,
    assignments: Receiver<()>,
    rebalances: Arc<AtomicU64>,
}

impl Watcher {
    fn run(mut self) {
        let mut pause = None;
        loop {
            let assigned = match pause {
                // The instance is not a member yet.
                None => self.assignments.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => self.assignments.recv_timeout(jittered(pause)),
            };
            pause = match assigned {
                Ok(()) => Some(FIRST),
                Err(RecvTimeoutError::Timeout) => Some(self.check()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    }

    /// Queries the coordinator, acts on the answer, and returns the pause before the next query.
    fn check(&mut self) -> Duration {
        let shares = self.static_member.shares(&self.topic).unwrap_or_else(|error| {
            tracing::debug!(%error, "the cluster does not list who has which partitions");
            None
        });
        match self.watch.take(shares, |id| self.static_member.is_ours(id)) {
            Next::PollAfter(pause) => pause,
            Next::Rebalance(partitions) => {
                tracing::warn!(?partitions, "nobody reads these partitions; making the group share them out");
                self.rebalances.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = self.rebalance() {
                    tracing::warn!(%error, "the group was not made to share out; trying again");
                }
                FIRST
            }
        }
    }

    /// Joins the group as a guest and leaves it again. Joining and leaving each cause a rebalance.
    fn rebalance(&self) -> Result<(), KafkaError> {
        let mut config = self.settings.config();
        ClientSettings::join(&mut config, self.static_member.group());
        config
            .set("client.id", format!("{}-guest", self.settings.client_id))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "latest");
        let guest: BaseConsumer<Guest> = config.create_with_context(Guest::default())?;
        guest.subscribe(&[&self.settings.topic(GUEST_TOPIC)])?;
        let until = Instant::now() + GUEST_MAX;
        while !guest.context().is_assigned.load(Ordering::Acquire) {
            let is_over = Instant::now() > until;
            if is_over || matches!(self.assignments.try_recv(), Err(TryRecvError::Disconnected)) {
                break;
            }
            // The client retries failures.
            drop(guest.poll(GUEST_POLL));
        }
        Ok(())
    }
}

fn jittered(pause: Duration) -> Duration {
    pause + Duration::from_millis(RandomState::new().hash_one(()) % JITTER_MS)
}

#[derive(Default)]
struct Guest {
    is_assigned: AtomicBool,
}

impl ClientContext for Guest {}

impl ConsumerContext for Guest {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.is_assigned.store(true, Ordering::Release);
        }
    }
}
