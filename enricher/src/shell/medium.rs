//! Location of the store as the shell knows it, and the images that wait while the store moves from its disk into
//! memory.
//!
//! A store in memory begins empty. Until the topics have been read again it has fewer records than before, so no image
//! is looked up: its containers wait as for any image that must be loaded.

use prometheus::{IntCounterVec, IntGauge};
use std::collections::BTreeSet;
use std::sync::Arc;

use driftline_enricher::store::{Failure, Store};
use driftline_enricher_core::{ImageAnswer, ImageView};
use driftline_schemas::ImageFailure;
use driftline_service::telemetry::Telemetry;

/// Location of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreLocation {
    /// The store is on its disk.
    Disk,
    /// The store is in memory and not filled yet.
    Filling,
    /// The store is in memory and filled.
    Memory,
}

pub(super) struct Medium {
    location: StoreLocation,
    waiting: BTreeSet<ImageView>,
    failed: IntCounterVec,
    is_in_memory: IntGauge,
    bytes: IntGauge,
}

impl Medium {
    pub(super) fn new(store: &Store, telemetry: &Telemetry) -> Result<Self, prometheus::Error> {
        let failed = telemetry.counters(
            "enricher_store_failures_total",
            "Times that the image store left its disk for memory, by reason",
            &["reason"],
        )?;
        Failure::ALL.into_iter().for_each(|failure| drop(failed.with_label_values(&[failure.label()])));
        let mut medium = Self {
            location: StoreLocation::Disk,
            waiting: BTreeSet::new(),
            failed,
            is_in_memory: telemetry
                .gauge("enricher_store_in_memory", "Whether the image store is in memory: 1, or 0")?,
            bytes: telemetry.gauge("enricher_store_bytes", "Bytes that the image store has of its disk")?,
        };
        if let Some(failure) = store.failure() {
            medium.emptied(failure);
        }
        Ok(medium)
    }

    /// Records that the store continues in memory, and that all records are read again.
    pub(super) fn emptied(&mut self, failure: Failure) {
        self.location = StoreLocation::Filling;
        self.is_in_memory.set(1);
        self.failed.with_label_values(&[failure.label()]).inc();
    }

    /// Records that the store holds everything that was on the topics; returns the images to look up now.
    pub(super) fn caught_up(&mut self) -> BTreeSet<ImageView> {
        if self.location == StoreLocation::Filling {
            self.location = StoreLocation::Memory;
        }
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn location(&self) -> StoreLocation {
        self.location
    }

    /// Defers the lookup of an image until the store is filled.
    pub(super) fn wait(&mut self, view: ImageView) {
        self.waiting.insert(view);
    }

    pub(super) fn forget(&mut self, view: &ImageView) {
        self.waiting.remove(view);
    }

    /// Measures in the background how many bytes of the disk the store uses.
    pub(super) fn measure(&self, store: &Arc<Store>) {
        let (store, bytes) = (Arc::clone(store), self.bytes.clone());
        tokio::task::spawn_blocking(move || match store.disk_bytes() {
            Ok(found) => bytes.set(i64::try_from(found).unwrap_or(i64::MAX)),
            Err(error) => tracing::debug!(%error, "the image store cannot be measured"),
        });
    }
}

/// Whether an answer reports only that the store on disk failed during the lookup.
pub(super) fn is_of_failed_disk(answer: &ImageAnswer, asked_of: StoreLocation, store: &Store) -> bool {
    let is_unread = matches!(answer, ImageAnswer::Failed { failure: ImageFailure::Unavailable, .. });
    is_unread && asked_of == StoreLocation::Disk && store.is_failing()
}
