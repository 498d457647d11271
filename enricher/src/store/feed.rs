//! From the topics into the store, and what was stored on to the shell, in this order: what the enricher answers with, a
//! restart finds again.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use driftline_kafka::{KafkaError, ReaderEvent, TopicReader};

use super::{Row, Store, StoreError};

/// Records of one write: heads and images are some hundred bytes, so many of them are one write, not many.
const RECORDS_MAX: usize = 4_096;
/// Values of one write: memory stays flat, and a write takes some ten milliseconds.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a record waits for others: little against the seconds that indexing its image took.
const WAIT: Duration = Duration::from_millis(20);
/// Writes that the shell has not taken in yet.
const BATCHES: usize = 2;

/// What comes of the topics.
#[derive(Debug)]
pub enum FeedEvent {
    /// These stand in the store now. Their values are empty.
    Stored(Vec<Row>),
    /// All that stood in the topics at the start is stored. Comes once.
    CaughtUp,
    /// The topics cannot be read.
    Unread(KafkaError),
    /// The store cannot be written.
    Unwritten(StoreError),
}

/// Reads the topics into the store until it is dropped.
#[derive(Debug)]
pub struct Feed(mpsc::Receiver<FeedEvent>);

impl Feed {
    /// Begins to read.
    #[must_use]
    pub fn start(reader: TopicReader, store: Arc<Store>) -> Self {
        let (sender, receiver) = mpsc::channel(BATCHES);
        tokio::spawn(run(reader, store, sender));
        Self(receiver)
    }

    /// The next event; `None` after an error. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<FeedEvent> {
        self.0.recv().await
    }
}

/// Ends when the shell is gone, or something failed.
async fn run(mut reader: TopicReader, store: Arc<Store>, sender: mpsc::Sender<FeedEvent>) {
    loop {
        let (rows, after) = batch(&mut reader).await;
        let stored = if rows.is_empty() { Ok(rows) } else { write(&store, rows).await };
        let event = match stored {
            Ok(rows) => FeedEvent::Stored(rows),
            Err(error) => FeedEvent::Unwritten(error),
        };
        let is_over = matches!(event, FeedEvent::Unwritten(_)) || matches!(after, After::Over(_));
        let after = match after {
            After::More => None,
            After::CaughtUp => Some(FeedEvent::CaughtUp),
            After::Over(error) => error.map(FeedEvent::Unread),
        };
        for event in std::iter::once(event).chain(after) {
            if sender.send(event).await.is_err() {
                return;
            }
        }
        if is_over {
            return;
        }
    }
}

/// What ended a batch.
enum After {
    More,
    CaughtUp,
    Over(Option<KafkaError>),
}

/// Waits for a record, and for those that come soon after it.
async fn batch(reader: &mut TopicReader) -> (Vec<Row>, After) {
    let (mut rows, mut bytes) = (Vec::new(), 0_usize);
    let mut until = None;
    while rows.len() < RECORDS_MAX && bytes < BYTES_MAX {
        let next = match until {
            None => reader.next().await,
            Some(until) => match timeout_at(until, reader.next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        match next {
            Some(ReaderEvent::Record(record)) => {
                let row = Row::of(record);
                bytes = bytes.saturating_add(row.value_bytes());
                rows.push(row);
                until.get_or_insert_with(|| Instant::now() + WAIT);
            }
            Some(ReaderEvent::CaughtUp) => return (rows, After::CaughtUp),
            Some(ReaderEvent::Failed(error)) => return (rows, After::Over(Some(error))),
            None => return (rows, After::Over(None)),
        }
    }
    (rows, After::More)
}

/// Writing waits for the disk, so it is off the runtime's threads.
async fn write(store: &Arc<Store>, mut rows: Vec<Row>) -> Result<Vec<Row>, StoreError> {
    let store = Arc::clone(store);
    let written = tokio::task::spawn_blocking(move || {
        store.write(&rows)?;
        rows.iter_mut().for_each(|row| row.value = None);
        Ok(rows)
    });
    written.await.unwrap_or_else(|error| Err(StoreError::Stopped(error.to_string())))
}
