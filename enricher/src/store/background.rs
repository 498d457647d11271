//! Work on the store outside the runtime's threads, and the events that report it to the shell.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftline_kafka::KafkaError;
use driftline_schemas::Sha256;

use super::failure::{Failure, guarded};
use super::{Row, Store, StoreError};

/// Bytes of values in one write: memory stays bounded, and a write takes some ten milliseconds.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events of the feed.
#[derive(Debug)]
pub enum FeedEvent {
    /// These rows have been stored. Their values are empty.
    Stored(Vec<Row>),
    /// All records that were on the topics at the start have been stored. Sent once, and once after [`Self::Emptied`].
    CaughtUp,
    /// The chunks of these manifests were collected; the number is the sum of the bytes dropped.
    Collected(Vec<Sha256>, u64),
    /// The collected chunks of these manifests were read again, and were sent with [`Self::Stored`].
    ReadAgain {
        /// All manifests of the order.
        manifests: BTreeSet<Sha256>,
        /// Manifests of which the topic lacks at least one chunk.
        gone: BTreeSet<Sha256>,
    },
    /// The store failed and continues in memory, empty: all records are sent again, followed by [`Self::CaughtUp`].
    Emptied(Failure),
    /// Reading the topics failed.
    Unread(KafkaError),
    /// Writing the store failed.
    Unwritten(StoreError),
}

/// Puts chunks that were read again into the store.
pub(super) async fn put_back(store: &Arc<Store>, rows: Vec<Row>) -> Result<Vec<Row>, StoreError> {
    in_background(store, move |store| store.put_back(rows)).await
}

/// Runs work on the store outside the runtime's threads, because writing waits for the disk.
pub(super) async fn in_background<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = Arc::clone(store);
    let done = tokio::task::spawn_blocking(move || guarded(|| work(&store))).await;
    done.unwrap_or_else(|error| Err(StoreError::Stopped(error.into())))
}
