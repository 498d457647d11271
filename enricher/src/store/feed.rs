//! Reads the topics into the store, and then sends the stored rows to the shell. In this order, a restart finds every
//! record that an answer of the enricher was based on.
//!
//! All changes of the store pass through this one task, so the shell receives changes in the order in which they were
//! made: a chunk that arrives while its manifest is collected is afterwards stored both on disk and in the tables, or
//! in neither.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use driftline_kafka::{ClientSettings, KafkaError, ReaderEvent, TopicReader, persist};
use driftline_schemas::Sha256;
use driftline_schemas::topics::Topic;

use super::background::{BYTES_MAX, FeedEvent, in_background};
use super::{Row, Store, StoreError, again};

/// The topics of the store.
pub const TABLES: [Topic; 2] = [Topic::Images, Topic::ImageLayers];

/// Most records of one write: heads and images have some hundred bytes, so one write takes many of them.
const RECORDS_MAX: usize = 4_096;
/// How long a record waits for others: little compared with the seconds that indexing its image took.
const WAIT: Duration = Duration::from_millis(20);
/// How long Kafka may be unavailable when all records must be read again.
const KAFKA_WAIT: Duration = Duration::from_secs(600);
/// Writes that the shell has not processed yet.
const BATCHES: usize = 2;
/// Orders that wait for processing; the sender keeps any further ones.
const ORDERS: usize = 16;

/// Orders of the shell.
#[derive(Debug)]
pub enum Order {
    /// Drop the bytes of these manifests' chunks.
    Collect(Vec<Sha256>),
    /// Read the collected chunks of these manifests from the topic again.
    ReadAgain(BTreeSet<Sha256>),
}

/// Reads the topics into the store until it is dropped.
#[derive(Debug)]
pub struct Feed {
    events: mpsc::Receiver<FeedEvent>,
    orders: mpsc::Sender<Order>,
}

impl Feed {
    /// Starts reading.
    #[must_use]
    pub fn start(reader: TopicReader, store: Arc<Store>, kafka: ClientSettings) -> Self {
        let (sender, events) = mpsc::channel(BATCHES);
        let (orders, received) = mpsc::channel(ORDERS);
        tokio::spawn(Filling { reader, store, kafka, orders: received, sender }.run());
        Self { events, orders }
    }

    /// Sends an order; returns the order when there is no room for it now. After the feed has ended, [`Self::next`]
    /// reports the end.
    ///
    /// # Errors
    /// `Err` holds the order.
    pub fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.try_send(order).or_else(|error| match error {
            mpsc::error::TrySendError::Full(order) => Err(order),
            mpsc::error::TrySendError::Closed(_) => Ok(()),
        })
    }

    /// The next event; `None` after an error. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<FeedEvent> {
        self.events.recv().await
    }
}

struct Filling {
    reader: TopicReader,
    store: Arc<Store>,
    kafka: ClientSettings,
    orders: mpsc::Receiver<Order>,
    sender: mpsc::Sender<FeedEvent>,
}

/// The next thing to process.
enum Next {
    Order(Order),
    Event(Option<ReaderEvent>),
    /// A reader found that the store cannot be read.
    Suspected(StoreError),
}

impl Filling {
    /// Runs until the shell is gone, or the topics cannot be read.
    async fn run(mut self) {
        while let Ok(next) = self.next().await {
            let done = match next {
                Next::Order(Order::Collect(manifests)) => self.collect(manifests).await,
                Next::Order(Order::ReadAgain(manifests)) => {
                    again::read(&self.kafka, &self.store, manifests, &self.sender).await
                }
                Next::Event(first) => self.fill(first).await,
                Next::Suspected(error) => Err(Some(FeedEvent::Unwritten(error))),
            };
            let done = match done {
                Err(Some(FeedEvent::Unwritten(error))) if self.store.failure().is_none() => {
                    self.begin_again(error).await
                }
                done => done,
            };
            if let Err(last) = done {
                if let Some(event) = last {
                    let _ = self.sender.send(event).await;
                }
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Next, ()> {
        tokio::select! {
            order = self.orders.recv() => order.map(Next::Order).ok_or(()),
            event = self.reader.next() => Ok(Next::Event(event)),
            error = self.store.suspected() => Ok(Next::Suspected(error)),
        }
    }

    /// Continues in memory after the store failed, and reads all records from the topics again. They include records
    /// that were given to the store and not reported as stored.
    async fn begin_again(&mut self, error: StoreError) -> Result<(), Option<FeedEvent>> {
        let left = in_background(&self.store, move |store| store.leave_disk(&error)).await;
        let failure = left.map_err(|error| Some(FeedEvent::Unwritten(error)))?;
        self.sender.send(FeedEvent::Emptied(failure)).await.map_err(|_| None)?;
        let unread = |error| Some(FeedEvent::Unread(error));
        let extent = persist(KAFKA_WAIT, "ends of the tables", || TopicReader::extent(&self.kafka, &TABLES))
            .await
            .map_err(unread)?;
        self.reader = TopicReader::follow(&self.kafka, &extent).map_err(unread)?;
        Ok(())
    }

    async fn collect(&self, manifests: Vec<Sha256>) -> Result<(), Option<FeedEvent>> {
        let asked = manifests.clone();
        let bytes = in_background(&self.store, move |store| store.collect(&asked)).await;
        let bytes = bytes.map_err(|error| Some(FeedEvent::Unwritten(error)))?;
        self.sender.send(FeedEvent::Collected(manifests, bytes)).await.map_err(|_| None)
    }

    /// Stores the records that the topics return.
    async fn fill(&mut self, first: Option<ReaderEvent>) -> Result<(), Option<FeedEvent>> {
        let (rows, after) = batch(&mut self.reader, first).await;
        if !rows.is_empty() {
            let rows = write(&self.store, rows).await.map_err(|error| Some(FeedEvent::Unwritten(error)))?;
            self.sender.send(FeedEvent::Stored(rows)).await.map_err(|_| None)?;
        }
        match after {
            After::More => Ok(()),
            After::CaughtUp => self.sender.send(FeedEvent::CaughtUp).await.map_err(|_| None),
            After::Over(error) => Err(error.map(FeedEvent::Unread)),
        }
    }
}

/// The end of a batch.
enum After {
    More,
    CaughtUp,
    Over(Option<KafkaError>),
}

/// Reads a record, and the records that follow it within [`WAIT`].
async fn batch(reader: &mut TopicReader, first: Option<ReaderEvent>) -> (Vec<Row>, After) {
    let (mut rows, mut bytes) = (Vec::new(), 0_usize);
    let (mut next, until) = (first, Instant::now() + WAIT);
    loop {
        match next {
            Some(ReaderEvent::Record(record)) => {
                let row = Row::of(record);
                bytes = bytes.saturating_add(row.value_bytes());
                rows.push(row);
            }
            Some(ReaderEvent::CaughtUp) => return (rows, After::CaughtUp),
            Some(ReaderEvent::Failed(error)) => return (rows, After::Over(Some(error))),
            None => return (rows, After::Over(None)),
        }
        if rows.len() >= RECORDS_MAX || bytes >= BYTES_MAX {
            return (rows, After::More);
        }
        next = match timeout_at(until, reader.next()).await {
            Ok(event) => event,
            Err(_) => return (rows, After::More),
        };
    }
}

async fn write(store: &Arc<Store>, mut rows: Vec<Row>) -> Result<Vec<Row>, StoreError> {
    in_background(store, move |store| {
        store.write(&mut rows)?;
        rows.iter_mut().for_each(|row| row.value = None);
        Ok(rows)
    })
    .await
}
