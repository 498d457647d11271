//! One input topic, shared out among the instances of a service by a consumer group.
//!
//! An OS thread polls; batches and rebalances go over one bounded channel in order. Revoked partitions are handed back
//! only after the service has finished with them: the rebalance waits, bounded, until it says so.

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

use driftline_schemas::topics::Topic;

use crate::outage::Outage;
use crate::reader::is_passing;
use crate::{ClientSettings, KafkaError, Record};

/// Next offset to read, by partition.
pub type Offsets = BTreeMap<i32, i64>;

/// Batches waiting in the channel; with [`BATCH_RECORDS`] this bounds what a stopped service holds.
const CHANNEL_BATCHES: usize = 8;
const BATCH_RECORDS: usize = 256;
const POLL: Duration = Duration::from_millis(100);
/// How long a rebalance waits for the service to finish with revoked partitions; far below the session timeout.
const REVOKE_WAIT: Duration = Duration::from_secs(10);

/// What a [`GroupReader`] hands over.
#[derive(Debug)]
pub enum GroupEvent {
    /// Records in offset order within each partition.
    Batch(Vec<Record>),
    /// These partitions are ours now.
    Assigned(Vec<i32>),
    /// These partitions go to another instance. Finish, commit, then drop the sender.
    Revoked(Vec<i32>, std::sync::mpsc::SyncSender<()>),
    /// The client failed for good.
    Failed(KafkaError),
}

struct Context {
    topic: String,
    events: mpsc::Sender<GroupEvent>,
    /// Records read but not yet handed over. A poll may serve a rebalance instead of a record; what was read before it
    /// must be handed over before it.
    batch: Mutex<Vec<Record>>,
    /// Nobody takes events any more.
    stop: Arc<AtomicBool>,
}

impl ClientContext for Context {}

impl Context {
    fn partitions(&self, list: &TopicPartitionList) -> Vec<i32> {
        list.elements_for_topic(&self.topic).iter().map(|element| element.partition()).collect()
    }

    fn batch(&self) -> MutexGuard<'_, Vec<Record>> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what was read.
    fn hand_over(&self) -> Result<(), ReceiverGone> {
        let batch = std::mem::take(&mut *self.batch());
        if batch.is_empty() { Ok(()) } else { self.send(GroupEvent::Batch(batch)) }
    }

    /// Blocks while the channel is full, on the polling thread only: once reading has stopped nothing is sent, because
    /// the client may then be dropped, and call back, on a thread of the async runtime.
    fn send(&self, event: GroupEvent) -> Result<(), ReceiverGone> {
        if self.stop.load(Ordering::Acquire) {
            return Err(ReceiverGone);
        }
        self.events.blocking_send(event).map_err(|_| ReceiverGone)
    }
}

/// The service takes no more events.
struct ReceiverGone;

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let _ = self.hand_over();
        match rebalance {
            Rebalance::Assign(list) => {
                let _ = self.send(GroupEvent::Assigned(self.partitions(list)));
            }
            Rebalance::Revoke(list) => {
                let (done, wait) = std::sync::mpsc::sync_channel(1);
                if self.send(GroupEvent::Revoked(self.partitions(list), done)).is_ok() {
                    // Either the service says so, or it dropped the sender: both mean it is finished.
                    let _ = wait.recv_timeout(REVOKE_WAIT);
                }
            }
            Rebalance::Error(error) => tracing::warn!(%error, "rebalance failed"),
        }
    }
}

/// A member of a consumer group on one topic.
pub struct GroupReader {
    consumer: Arc<BaseConsumer<Context>>,
    events: mpsc::Receiver<GroupEvent>,
    topic: String,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for GroupReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupReader").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl GroupReader {
    /// Joins `group`. With an `instance` name membership is static: a quick restart does not move partitions.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn start(
        settings: &ClientSettings,
        topic: Topic,
        group: &str,
        instance: Option<&str>,
    ) -> Result<Self, KafkaError> {
        let name = settings.topic(topic);
        let (sender, events) = mpsc::channel(CHANNEL_BATCHES);
        let mut config = settings.reader_config();
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "15000")
            .set("heartbeat.interval.ms", "2000");
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let context = Context { topic: name.clone(), events: sender, batch: Mutex::default(), stop: Arc::clone(&stop) };
        let consumer: Arc<BaseConsumer<Context>> = Arc::new(config.create_with_context(context)?);
        consumer.subscribe(&[&name])?;
        let polling = Polling {
            consumer: Arc::clone(&consumer),
            topic,
            stop: Arc::clone(&stop),
            outage: Outage::new(&settings.bootstrap),
        };
        let thread = std::thread::Builder::new()
            .name("kafka-group".into())
            .spawn(move || polling.run())
            .map_err(|error| KafkaError::Client(error.to_string()))?;
        Ok(Self { consumer, events, topic: name, stop, thread: Some(thread) })
    }

    /// The next event; `None` after [`GroupEvent::Failed`]. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        self.events.recv().await
    }

    /// Commits the next offset to read of each partition and waits for the broker.
    ///
    /// # Errors
    /// When the group moved on without us or the coordinator does not answer.
    pub async fn commit(&self, offsets: Offsets) -> Result<(), KafkaError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        let consumer = Arc::clone(&self.consumer);
        tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync))
            .await
            .map_err(|error| KafkaError::Client(error.to_string()))?
            .map_err(KafkaError::from)
    }

    /// Leaves the group and waits for the polling thread, off the async runtime because closing blocks.
    pub async fn close(mut self) {
        self.stop.store(true, Ordering::Release);
        self.events.close();
        // Drain, so that a polling thread blocked on the full channel sees that it is closed.
        while self.events.recv().await.is_some() {}
        let thread = self.thread.take();
        let closing = tokio::task::spawn_blocking(move || {
            if let Some(thread) = thread {
                let _ = thread.join();
            }
            drop(self);
        });
        let _ = tokio::time::timeout(REVOKE_WAIT, closing).await;
    }
}

impl Drop for GroupReader {
    /// Without [`GroupReader::close`] the thread ends by itself and leaves the group a moment later.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

struct Polling {
    consumer: Arc<BaseConsumer<Context>>,
    topic: Topic,
    stop: Arc<AtomicBool>,
    outage: Outage,
}

impl Polling {
    fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            let ended = self.outage.check(&self.consumer).map_err(Some).and_then(|()| self.read());
            if let Err(error) = ended {
                if let Some(error) = error {
                    let _ = self.consumer.context().send(GroupEvent::Failed(error));
                }
                // From here on the client may be dropped elsewhere.
                self.stop.store(true, Ordering::Release);
            }
        }
    }

    /// Waits for a record, takes what else is there, hands it over. An error ends the reading; without a reason when
    /// nobody takes events any more.
    fn read(&mut self) -> Result<(), Option<KafkaError>> {
        let mut patience = POLL;
        while self.consumer.context().batch().len() < BATCH_RECORDS {
            match self.consumer.poll(patience) {
                Some(Ok(message)) => {
                    let record = Record::new(self.topic, &message);
                    self.consumer.context().batch().push(record);
                }
                Some(Err(error)) if is_passing(&error) => {
                    tracing::warn!(%error, "kafka consumer goes on after an error");
                    self.outage.suspect();
                }
                Some(Err(error)) => return Err(Some(error.into())),
                None => break,
            }
            patience = Duration::ZERO;
        }
        self.consumer.context().hand_over().map_err(|ReceiverGone| None)
    }
}
