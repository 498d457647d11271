//! From the topics into the store, and what was stored on to the shell, in this order: what the enricher answers with, a
//! restart finds again.
//!
//! Everything that changes the store goes through the one task here, so the shell hears of changes in the order in which
//! they were made: a chunk that comes while its manifest is collected is here afterwards in both places, or in none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use driftline_kafka::{ClientSettings, KafkaError, ReaderEvent, TopicReader, persist};
use driftline_schemas::Sha256;
use driftline_schemas::topics::Topic;

use super::failure::{Failure, guarded};
use super::{Row, Store, StoreError, again};

/// The topics that the store is of.
pub const TABLES: [Topic; 2] = [Topic::Images, Topic::ImageLayers];

/// Records of one write: heads and images are some hundred bytes, so many of them are one write, not many.
const RECORDS_MAX: usize = 4_096;
/// Values of one write: memory stays flat, and a write takes some ten milliseconds.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a record waits for others: little against the seconds that indexing its image took.
const WAIT: Duration = Duration::from_millis(20);
/// How long Kafka may be away when everything has to be read again.
const KAFKA_WAIT: Duration = Duration::from_secs(600);
/// Writes that the shell has not taken in yet.
const BATCHES: usize = 2;
/// Orders that wait for their turn; who has more keeps them.
const ORDERS: usize = 16;

/// What the shell wants done.
#[derive(Debug)]
pub enum Order {
    /// Drop the bytes of these manifests' chunks.
    Collect(Vec<Sha256>),
    /// Read from the topic again what was collected of these manifests.
    ReadAgain(BTreeSet<Sha256>),
}

/// What comes of the topics.
#[derive(Debug)]
pub enum FeedEvent {
    /// These stand in the store now. Their values are empty.
    Stored(Vec<Row>),
    /// All that stood in the topics at the start is stored. Comes once, and once after [`Self::Emptied`].
    CaughtUp,
    /// The bytes of these manifests' chunks were dropped, so many.
    Collected(Vec<Sha256>, u64),
    /// What was collected of these manifests was read again, and came with [`Self::Stored`].
    ReadAgain {
        /// All of them.
        manifests: BTreeSet<Sha256>,
        /// Those of which the topic does not have everything any more.
        gone: BTreeSet<Sha256>,
    },
    /// The store failed and is in memory now, empty: everything comes again, and [`Self::CaughtUp`] after it.
    Emptied(Failure),
    /// The topics cannot be read.
    Unread(KafkaError),
    /// The store cannot be written.
    Unwritten(StoreError),
}

/// Reads the topics into the store until it is dropped.
#[derive(Debug)]
pub struct Feed {
    events: mpsc::Receiver<FeedEvent>,
    orders: mpsc::Sender<Order>,
}

impl Feed {
    /// Begins to read.
    #[must_use]
    pub fn start(reader: TopicReader, store: Arc<Store>, kafka: ClientSettings) -> Self {
        let (sender, events) = mpsc::channel(BATCHES);
        let (orders, received) = mpsc::channel(ORDERS);
        tokio::spawn(Filling { reader, store, kafka, orders: received, sender }.run());
        Self { events, orders }
    }

    /// Gives an order; back comes one for which there is no room now. When the feed has ended, [`Self::next`] says so.
    ///
    /// # Errors
    /// The order.
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

/// What comes next.
enum Next {
    Order(Order),
    Event(Option<ReaderEvent>),
    /// A reader found that the store cannot be read.
    Suspected(StoreError),
}

impl Filling {
    /// Ends when the shell is gone, or the topics cannot be read.
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

    /// The store failed: it goes on in memory, and everything is read from the topics again. What was given to it and not
    /// said to be stored comes again, too.
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

    /// Takes what the topics bring into the store.
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

/// What ended a batch.
enum After {
    More,
    CaughtUp,
    Over(Option<KafkaError>),
}

/// A record, and those that come soon after it.
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

/// Puts chunks that were read again into the store.
pub(super) async fn put_back(store: &Arc<Store>, rows: Vec<Row>) -> Result<Vec<Row>, StoreError> {
    in_background(store, move |store| store.put_back(rows)).await
}

/// Writing waits for the disk, so it is off the runtime's threads.
pub(super) async fn in_background<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = Arc::clone(store);
    let done = tokio::task::spawn_blocking(move || guarded(|| work(&store))).await;
    done.unwrap_or_else(|error| Err(StoreError::Stopped(error.into())))
}
