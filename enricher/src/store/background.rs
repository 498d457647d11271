//! Work on the store off the runtime's threads, and what it reports to the shell.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftline_kafka::KafkaError;
use driftline_schemas::Sha256;

use super::failure::{Failure, guarded};
use super::{Row, Store, StoreError};

/// Values of one write: memory stays flat, and a write takes some ten milliseconds.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;

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
