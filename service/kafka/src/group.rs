//! Reads one input topic whose partitions a consumer group assigns to the instances of a service.
//!
//! An OS thread polls; one bounded channel carries batches and rebalances in order. Assigned partitions are paused
//! until their state is restored ([`Group::resume`]). Revoked partitions are released only after the service has
//! finished with them: the rebalance waits for that, with a limit.

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

/// Batches that wait in the channel; together with the length of a batch ([`polling`]) this bounds the memory of a
/// stopped service.
const CHANNEL_BATCHES: usize = 8;
/// Longest sleep of the polling thread, and therefore the longest delay of a resume.
const POLL: Duration = Duration::from_millis(20);
/// How long a rebalance waits for the service to finish with revoked partitions; far below the session timeout.
const REVOKE_WAIT: Duration = Duration::from_secs(10);
/// Attempts of a commit without a transaction, [`COMMIT_RETRY`] apart: two seconds, one heartbeat.
const COMMIT_TRIES: u32 = 20;
const COMMIT_RETRY: Duration = Duration::from_millis(100);
/// How long one request for a partition's end may take, and the pause before the next.
const END_WAIT: Duration = Duration::from_secs(2);
const END_RETRY: Duration = Duration::from_millis(100);
/// How long a request for committed offsets may take, including the transactions of others that may change them.
const COMMITTED_MAX: Duration = TRANSACTION_TIMEOUT.saturating_mul(3);

/// The events of a [`GroupReader`].
#[derive(Debug)]
pub enum GroupEvent {
    /// Records in offset order within each partition.
    Batch(Vec<Record>),
    /// These partitions were assigned to this instance, and are paused.
    Assigned(Vec<i32>),
    /// Later records of these partitions start at the offset given to [`Group::resume`].
    Resumed(Vec<i32>),
    /// These partitions are being revoked. Finish, commit, then drop the sender.
    Revoked(Vec<i32>, Done),
    /// These partitions belong to another instance already. Their work can no longer be committed. The member joins
    /// again when the sender is dropped.
    Lost(Vec<i32>, Done),
    /// All brokers became unreachable, or reachable again. The client reconnects by itself.
    Reach(Reach),
    /// The client failed for good.
    Failed(KafkaError),
}

/// Dropped when the service has finished with the partitions; until then, with a limit, the rebalance waits.
#[derive(Debug)]
pub struct Done(std::sync::mpsc::SyncSender<Never>);

/// The rebalance must not continue.
#[derive(Debug, PartialEq, Eq)]
struct Never;

impl Done {
    /// The service ends, and must not take part in the group any more: the rebalance waits until the reader is closed.
    pub fn never(self) {
        let _ = self.0.send(Never);
    }
}

/// An event, and the membership from then on.
type Handed = (GroupEvent, Option<ConsumerGroupMetadata>);

struct Context {
    topic: String,
    events: mpsc::Sender<Handed>,
    /// Records read but not yet handed over. A poll may serve a rebalance instead of returning a record; records read
    /// before the rebalance must be handed over before it.
    batch: Mutex<Vec<Record>>,
    static_member: StaticMember,
    /// Set when the receiver takes no more events.
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

    /// Hands over the records read so far.
    fn hand_over(&self) -> Result<(), ReceiverGone> {
        let batch = std::mem::take(&mut *self.batch());
        if batch.is_empty() { Ok(()) } else { self.send(GroupEvent::Batch(batch), None) }
    }

    /// Sends an event. Blocks while the channel is full, on the polling thread only: after reading has stopped nothing
    /// is sent, because the client may then be dropped, and call back, on a thread of the async runtime.
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
    /// Takes partitions, and pauses them before any record can be fetched. A later seek sets the position; until then
    /// their present end is the position, as a number. With [`Offset::End`] the client would request the end itself. If
    /// a seek made that request outdated, the client would repeat it half a second later and continue from the
    /// response.
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

    /// End offset of a partition, requested until a broker answers; `None` when reading was stopped meanwhile. The
    /// rebalance waits, as it would for any member that reaches no broker.
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

    /// Answers a rebalance while the reader is being closed. The client's queue is closed first: with the answer alone
    /// the client would join again, and would fence a successor or be taken for one. The client expects one answer, and
    /// may never return from a second.
    fn give_up(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<(), ClientError> {
        if self.has_given_up.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // This fails for a client that failed for good, which does not join again either.
        let _ = consumer.close_queue();
        consumer.incremental_unassign(list)
    }

    /// Waits until the service has finished and has dropped the sender, or takes no more events.
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
    /// Joins `group` as `instance`. The membership is static: a quick restart does not move partitions.
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
        // Missing input must be reported instead of skipped.
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

    /// The name of this member in the group, for use after its membership has ended.
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

    /// Number of rebalances since the last call that this member caused because partitions had no owner.
    #[must_use]
    pub fn take_forced_rebalances(&self) -> u64 {
        self.watching.take_rebalances()
    }

    /// The other operations of the membership.
    pub(crate) fn group(&self) -> Group {
        self.group.clone()
    }

    /// Ends the membership and waits until the client is gone, outside the async runtime because closing blocks. Every
    /// other holder of the membership must be dropped before.
    pub async fn close(mut self) {
        self.stop.store(true, Ordering::Release);
        self.events.close();
        // Drain the channel, so that a polling thread blocked on the full channel notices that it is closed.
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

/// The operations of a member apart from reading. All of them block.
#[derive(Clone)]
pub(crate) struct Group {
    consumer: Arc<BaseConsumer<Context>>,
    topic: String,
    resumes: std::sync::mpsc::Sender<BTreeMap<i32, i64>>,
    /// The membership at the last event that the service has taken.
    member: Arc<Mutex<Option<Arc<ConsumerGroupMetadata>>>>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Group {
    /// The group's commits. The broker answers only when no open transaction may change them.
    pub(crate) fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Committed>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        let list = self.consumer.committed_offsets(list, COMMITTED_MAX)?;
        let mut found = BTreeMap::new();
        for element in list.elements() {
            // An error for one partition does not mean that nothing is committed.
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                let state_next = state_next(element.metadata());
                found.insert(element.partition(), Committed { offset, state_next });
            }
        }
        Ok(found)
    }

    /// Starts reading these partitions at these offsets; [`GroupEvent::Resumed`] precedes their first record.
    pub(crate) fn resume(&self, from: BTreeMap<i32, i64>) {
        let _ = self.resumes.send(from);
    }

    /// Offsets in the form for a transaction or a commit.
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

    /// The membership that the service knows. The client may have a newer one: it may have lost its partitions and
    /// joined again. Work done before that, committed under the newer generation, would be accepted although another
    /// instance does the same work.
    pub(crate) fn member(&self) -> Result<Arc<ConsumerGroupMetadata>, KafkaError> {
        let member = self.member.lock().unwrap_or_else(PoisonError::into_inner).clone();
        member.ok_or_else(|| KafkaError::Failed("not in a group".to_owned()))
    }

    /// Commits without a transaction. During a rebalance the coordinator accepts no commit; that passes.
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

/// Prefix in a commit's metadata: the next offset of the state partition follows.
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
