//! One input topic, shared out among the instances of a service by a consumer group.
//!
//! An OS thread polls; batches and rebalances go over one bounded channel in order. Partitions that come are paused until
//! their state is restored ([`Group::resume`]); partitions that go are handed back only after the service has finished
//! with them: the rebalance waits, bounded, until it says so.

mod polling;

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

use driftline_schemas::topics::Topic;
use driftline_service_core::{Committed, Record};

use crate::blocking::blocking;
use crate::outage::{Outage, Reach};
use crate::timeouts::TRANSACTION_TIMEOUT;
use crate::watch::Watching;
use crate::{ClientSettings, KafkaError, StaticMember};
use polling::Polling;

/// Batches waiting in the channel; with their longest ([`polling`]) this bounds what a stopped service holds.
const CHANNEL_BATCHES: usize = 8;
/// Longest sleep of the polling thread, so also how long a resume may wait.
const POLL: Duration = Duration::from_millis(20);
/// How long a rebalance waits for the service to finish with revoked partitions; far below the session timeout.
const REVOKE_WAIT: Duration = Duration::from_secs(10);
/// Tries of a commit without a transaction, [`COMMIT_RETRY`] apart: two seconds, one heartbeat.
const COMMIT_TRIES: u32 = 20;
const COMMIT_RETRY: Duration = Duration::from_millis(100);
/// How long one question for a partition's end may take, and the pause before the next.
const END_WAIT: Duration = Duration::from_secs(2);
const END_RETRY: Duration = Duration::from_millis(100);
/// How long a committed offset may take, transactions of others that may change it included.
const COMMITTED_MAX: Duration = TRANSACTION_TIMEOUT.saturating_mul(3);

/// What a [`GroupReader`] hands over.
#[derive(Debug)]
pub enum GroupEvent {
    /// Records in offset order within each partition.
    Batch(Vec<Record>),
    /// These partitions are ours now, and paused.
    Assigned(Vec<i32>),
    /// Records from here on are from where [`Group::resume`] was told.
    Resumed(Vec<i32>),
    /// These partitions go to another instance. Finish, commit, then drop the sender.
    Revoked(Vec<i32>, Done),
    /// These partitions belong to another instance already. Nothing of them can be committed any more. Membership is taken
    /// up again when the sender is dropped.
    Lost(Vec<i32>, Done),
    /// The brokers went away as a whole, or came back. The client reconnects by itself.
    Reach(Reach),
    /// The client failed for good.
    Failed(KafkaError),
}

/// Dropped when the service has finished with partitions; until then, bounded, the rebalance waits.
#[derive(Debug)]
pub struct Done(std::sync::mpsc::SyncSender<Never>);

/// The rebalance is not to go on.
#[derive(Debug, PartialEq, Eq)]
struct Never;

impl Done {
    /// The service ends, and must not take part in the group any more: the rebalance waits until the reader is closed.
    pub fn never(self) {
        let _ = self.0.send(Never);
    }
}

/// An event, and who we are in the group from then on.
type Handed = (GroupEvent, Option<ConsumerGroupMetadata>);

struct Context {
    topic: String,
    events: mpsc::Sender<Handed>,
    /// Records read but not yet handed over. A poll may serve a rebalance instead of a record; what was read before it
    /// must be handed over before it.
    batch: Mutex<Vec<Record>>,
    static_member: StaticMember,
    /// Nobody takes events any more.
    stop: Arc<AtomicBool>,
    has_given_up: AtomicBool,
}

impl ClientContext for Context {}

impl Context {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<i32> {
        list.elements_for_topic(&self.topic).iter().map(|element| element.partition()).collect()
    }

    fn batch(&self) -> MutexGuard<'_, Vec<Record>> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what was read.
    fn hand_over(&self) -> Result<(), ReceiverGone> {
        let batch = std::mem::take(&mut *self.batch());
        if batch.is_empty() { Ok(()) } else { self.send(GroupEvent::Batch(batch), None) }
    }

    /// Blocks while the channel is full, on the polling thread only: once reading has stopped nothing is sent, because
    /// the client may then be dropped, and call back, on a thread of the async runtime.
    fn send(&self, event: GroupEvent, member: Option<ConsumerGroupMetadata>) -> Result<(), ReceiverGone> {
        if self.is_stopped() {
            return Err(ReceiverGone);
        }
        self.events.blocking_send((event, member)).map_err(|_| ReceiverGone)
    }
}

/// The service takes no more events.
struct ReceiverGone;

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let _ = self.hand_over();
        let done = match what {
            _ if self.is_stopped() => self.give_up(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list),
            error => Err(ClientError::Rebalance(error.into())),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "rebalance failed");
        }
    }
}

impl Context {
    /// Takes partitions, and pauses them before anything can be fetched. Where they are read from is decided later by a
    /// seek; until then their present end stands for it, as a number. With [`Offset::End`] the client would ask for the end
    /// itself, ask again half a second after a seek had made its question outdated, and then go on from that answer.
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> Result<(), ClientError> {
        for partition in self.partitions(list) {
            let Some(end) = self.end(consumer, partition) else { return self.give_up(consumer, list) };
            list.set_partition_offset(&self.topic, partition, Offset::Offset(end))?;
        }
        consumer.incremental_assign(list)?;
        consumer.pause(list)?;
        let _ = self.send(GroupEvent::Assigned(self.partitions(list)), consumer.group_metadata());
        Ok(())
    }

    /// Where a partition ends, asked until a broker answers; `None` when reading was stopped meanwhile. The rebalance waits,
    /// as it would for any member that has no broker to talk to.
    fn end(&self, consumer: &BaseConsumer<Self>, partition: i32) -> Option<i64> {
        let mut is_reported = false;
        while !self.is_stopped() {
            match consumer.fetch_watermarks(&self.topic, partition, END_WAIT) {
                Ok((_, end)) => return Some(end),
                Err(error) if !is_reported => {
                    tracing::warn!(%error, partition, "no broker reports where an assigned partition ends; trying on");
                    is_reported = true;
                }
                Err(_) => {}
            }
            std::thread::sleep(END_RETRY);
        }
        None
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<(), ClientError> {
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        let (partitions, done) = (self.partitions(list), Done(done));
        let is_lost = consumer.assignment_lost();
        let sent = if is_lost {
            self.send(GroupEvent::Lost(partitions, done), None)
        } else {
            self.send(GroupEvent::Revoked(partitions, done), consumer.group_metadata())
        };
        if sent.is_ok() {
            self.wait(&wait);
        }
        if self.is_stopped() {
            return self.give_up(consumer, list);
        }
        if is_lost {
            self.static_member.note_joining();
        }
        consumer.incremental_unassign(list)
    }

    /// Answers a rebalance when the reader is being closed. The client is told first: with the answer alone it would join
    /// again, drive out a successor, or be taken for one. It wants one answer, and may never return from a second.
    fn give_up(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<(), ClientError> {
        if self.has_given_up.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // Refused by a client that failed for good, which does not join again either.
        let _ = consumer.close_queue();
        consumer.incremental_unassign(list)
    }

    /// Until the service has finished, and has dropped the sender, or takes no more events.
    fn wait(&self, done: &std::sync::mpsc::Receiver<Never>) {
        let until = Instant::now() + REVOKE_WAIT;
        while Instant::now() < until && !self.is_stopped() {
            match done.recv_timeout(POLL) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(Never) => {
                    while !self.is_stopped() {
                        std::thread::sleep(POLL);
                    }
                }
            }
        }
    }
}

/// A member of a consumer group on one topic.
pub struct GroupReader {
    group: Group,
    static_member: StaticMember,
    watching: Watching,
    events: mpsc::Receiver<Handed>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for GroupReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupReader").field("topic", &self.group.topic).finish_non_exhaustive()
    }
}

impl GroupReader {
    /// Joins `group` as `instance`. Membership is static: a quick restart does not move partitions.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn start(settings: &ClientSettings, topic: Topic, group: &str, instance: &str) -> Result<Self, KafkaError> {
        let name = settings.topic(topic);
        let static_member = StaticMember::new(settings, group, instance);
        let (sender, events) = mpsc::channel(CHANNEL_BATCHES);
        let mut config = settings.reader_config();
        ClientSettings::join(&mut config, group);
        ClientSettings::refresh_leaders(&mut config);
        // Input that is gone must be noticed, not passed over.
        config.set("group.instance.id", instance).set("auto.offset.reset", "error");
        let stop = Arc::new(AtomicBool::new(false));
        let context = Context {
            topic: name.clone(),
            events: sender,
            batch: Mutex::default(),
            static_member: static_member.clone(),
            stop: Arc::clone(&stop),
            has_given_up: AtomicBool::new(false),
        };
        let consumer: Arc<BaseConsumer<Context>> = Arc::new(config.create_with_context(context)?);
        consumer.subscribe(&[&name])?;
        let (resumes, resuming) = std::sync::mpsc::channel();
        let polling = Polling {
            consumer: Arc::clone(&consumer),
            topic,
            stop: Arc::clone(&stop),
            resuming,
            awaited: BTreeMap::new(),
            static_member: static_member.clone(),
            outage: Outage::default(),
        };
        let thread = std::thread::Builder::new()
            .name("kafka-group".into())
            .spawn(move || polling.run())
            .map_err(KafkaError::Thread)?;
        let watching = Watching::start(settings, topic, static_member.clone())?;
        let group = Group { consumer, topic: name, resumes, member: Arc::default() };
        Ok(Self { group, static_member, watching, events, stop, thread: Some(thread) })
    }

    /// The name under which this member is in the group, for when it is not a member any more.
    #[must_use]
    pub fn static_member(&self) -> StaticMember {
        self.static_member.clone()
    }

    /// The next event; `None` after [`GroupEvent::Failed`]. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        let (event, member) = self.events.recv().await?;
        if matches!(event, GroupEvent::Assigned(_)) {
            self.static_member.note_assigned();
            self.watching.note_assigned();
        }
        if let Some(member) = member {
            *self.group.member.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(member));
        }
        Some(event)
    }

    /// How often since the last question this member made the group share out partitions that nobody had.
    #[must_use]
    pub fn take_forced_rebalances(&self) -> u64 {
        self.watching.take_rebalances()
    }

    /// What else can be done with the membership.
    pub(crate) fn group(&self) -> Group {
        self.group.clone()
    }

    /// Ends the membership and waits until the client is gone, off the async runtime because closing blocks. Whatever else
    /// holds the membership has to be dropped before.
    pub async fn close(mut self) {
        self.stop.store(true, Ordering::Release);
        self.events.close();
        // Drain, so that a polling thread blocked on the full channel sees that it is closed.
        while self.events.recv().await.is_some() {}
        let thread = self.thread.take();
        let closing = blocking(move || {
            if let Some(thread) = thread {
                let _ = thread.join();
            }
            drop(self);
            Ok(())
        });
        let _ = closing.await;
    }
}

impl Drop for GroupReader {
    /// Without [`GroupReader::close`] the thread ends by itself and leaves the group a moment later.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// What a member can do apart from reading. All of it blocks.
#[derive(Clone)]
pub(crate) struct Group {
    consumer: Arc<BaseConsumer<Context>>,
    topic: String,
    resumes: std::sync::mpsc::Sender<BTreeMap<i32, i64>>,
    /// Who we were in the group at the last event that the service has taken.
    member: Arc<Mutex<Option<Arc<ConsumerGroupMetadata>>>>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Group {
    /// What the group committed. The broker answers only when no open transaction may change it.
    pub(crate) fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Committed>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        let list = self.consumer.committed_offsets(list, COMMITTED_MAX)?;
        let mut found = BTreeMap::new();
        for element in list.elements() {
            // An answer that is refused for one partition is no answer that nothing is committed.
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                let state_next = state_next(element.metadata());
                found.insert(element.partition(), Committed { offset, state_next });
            }
        }
        Ok(found)
    }

    /// Has partitions read from these offsets on; [`GroupEvent::Resumed`] stands before their first record.
    pub(crate) fn resume(&self, from: BTreeMap<i32, i64>) {
        let _ = self.resumes.send(from);
    }

    /// Offsets as a transaction or a commit wants them.
    pub(crate) fn offsets(&self, offsets: &BTreeMap<i32, Committed>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, committed) in offsets {
            let mut element = list.add_partition(&self.topic, *partition);
            element.set_offset(Offset::Offset(committed.offset))?;
            if let Some(next) = committed.state_next {
                element.set_metadata(format!("{STATE_NEXT}{next}"));
            }
        }
        Ok(list)
    }

    /// Who we are in the group as far as the service knows. The client may know more: that it lost partitions and joined
    /// anew. Work of before, committed under a generation of after, would be accepted although somebody else does it too.
    pub(crate) fn member(&self) -> Result<Arc<ConsumerGroupMetadata>, KafkaError> {
        let member = self.member.lock().unwrap_or_else(PoisonError::into_inner).clone();
        member.ok_or_else(|| KafkaError::Failed("not in a group".to_owned()))
    }

    /// Commits without a transaction. While members are told their shares the coordinator takes no commit; that passes.
    pub(crate) fn commit(&self, offsets: &TopicPartitionList) -> Result<(), KafkaError> {
        for _ in 1..COMMIT_TRIES {
            match self.consumer.commit(offsets, CommitMode::Sync) {
                Err(error) if error.rdkafka_error_code() == Some(Code::RebalanceInProgress) => {
                    std::thread::sleep(COMMIT_RETRY);
                }
                done => return Ok(done?),
            }
        }
        Ok(self.consumer.commit(offsets, CommitMode::Sync)?)
    }
}

/// In a commit's metadata: the next offset of the state partition.
const STATE_NEXT: &str = "state=";

fn state_next(metadata: &str) -> Option<i64> {
    metadata.strip_prefix(STATE_NEXT)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_state_is_read_from_a_commit_s_metadata() {
        for (metadata, expected) in [("state=12", Some(12)), ("", None), ("state=", None), ("by hand", None)] {
            assert_eq!(state_next(metadata), expected, "{metadata}");
        }
    }
}
