//! Decides which bytes of the tables are kept on disk: sends orders to the feed, and records which images wait for
//! chunks that are read again.

use prometheus::{IntCounter, IntCounterVec};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::Interval;

use driftline_enricher::store::{Feed, Order, Store};
use driftline_enricher_core::ImageView;
use driftline_enricher_core::chunks::KnownChunks;
use driftline_enricher_core::tables::{Collection, ImageTables};
use driftline_schemas::{ImageId, Sha256};
use driftline_service::clock;
use driftline_service::telemetry::Telemetry;

/// Interval between collection steps: each step is bounded, and nothing waits for it.
const STEP: Duration = Duration::from_secs(1);

/// Most steps between sweeps of the directory of merged images, which read all of its names.
const STEPS_PER_SWEEP_MAX: u32 = 60;

pub(super) struct Keeping {
    keep: Duration,
    collection: Collection,
    began: Instant,
    steps: Interval,
    step: u32,
    steps_per_sweep: u32,
    /// Whether an order to collect is pending; the next step waits for it.
    is_collecting: bool,
    /// Orders that the feed had no room for: at most one to collect, and at most one to read each manifest again.
    orders: VecDeque<Order>,
    /// Manifests that are being read again.
    reading: BTreeSet<Sha256>,
    /// Images that wait for these manifests.
    waiting: BTreeSet<ImageView>,
    /// Merged images in use.
    merged: BTreeMap<ImageView, Sha256>,
    manifests: IntCounter,
    bytes: IntCounter,
    again: IntCounterVec,
    files: IntCounter,
}

impl Keeping {
    pub(super) fn new(keep: Duration, telemetry: &Telemetry) -> Result<Self, prometheus::Error> {
        let mut steps = tokio::time::interval(STEP);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let again = telemetry.counters(
            "enricher_manifests_read_again_total",
            "Collected layer manifests that an image needed, by whether the topic still had them",
            &["result"],
        )?;
        ["read", "gone"].into_iter().for_each(|result| drop(again.with_label_values(&[result])));
        Ok(Self {
            keep,
            collection: Collection::new(i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX)),
            began: clock::monotonic(),
            steps,
            step: 0,
            steps_per_sweep: u32::try_from(keep.as_secs()).unwrap_or(u32::MAX).clamp(1, STEPS_PER_SWEEP_MAX),
            is_collecting: false,
            orders: VecDeque::new(),
            reading: BTreeSet::new(),
            waiting: BTreeSet::new(),
            merged: BTreeMap::new(),
            manifests: telemetry
                .counter("enricher_manifests_collected_total", "Layer manifests dropped that no image in use needed")?,
            bytes: telemetry.counter("enricher_collected_bytes_total", "Bytes of layer manifests dropped")?,
            again,
            files: telemetry
                .counter("enricher_merged_removed_total", "Files of merged images removed that no container used")?,
        })
    }

    /// Resolves when the next step is due. Safe to drop and call again.
    pub(super) async fn is_due(&mut self) {
        self.steps.tick().await;
    }

    /// Queues an order for the manifests to collect now, and returns them.
    pub(super) fn step(
        &mut self,
        tables: &ImageTables<KnownChunks>,
        is_used: impl Fn(&ImageId) -> bool,
    ) -> Vec<Sha256> {
        self.step = self.step.wrapping_add(1);
        if self.is_collecting {
            return Vec::new();
        }
        let now_ns = i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let due = self.collection.step(now_ns, tables, is_used);
        if !due.is_empty() {
            self.is_collecting = true;
            self.orders.push_back(Order::Collect(due.clone()));
        }
        due
    }

    pub(super) fn collected(&mut self, manifests: usize, bytes: u64) {
        self.is_collecting = false;
        self.manifests.inc_by(u64::try_from(manifests).unwrap_or(u64::MAX));
        self.bytes.inc_by(bytes);
        tracing::info!(manifests, bytes, "layer manifests collected that no image in use needs");
    }

    /// Resets orders and reads after the store was emptied. Returns the images that waited for a read.
    pub(super) fn begin_again(&mut self) -> BTreeSet<ImageView> {
        self.is_collecting = false;
        self.orders.clear();
        self.reading.clear();
        std::mem::take(&mut self.waiting)
    }

    /// Queues a read of collected chunks that an image needs.
    pub(super) fn read_again(&mut self, view: ImageView, manifests: &BTreeSet<Sha256>) {
        let fresh: BTreeSet<Sha256> = manifests.difference(&self.reading).copied().collect();
        self.waiting.insert(view);
        if !fresh.is_empty() {
            self.reading.extend(&fresh);
            self.orders.push_back(Order::ReadAgain(fresh));
        }
    }

    /// Images to look up after these manifests were read again, as far as the topic has them.
    pub(super) fn was_read_again(&mut self, manifests: &BTreeSet<Sha256>, gone: &BTreeSet<Sha256>) -> Vec<ImageView> {
        self.reading.retain(|manifest| !manifests.contains(manifest));
        let count = |result, count: usize| {
            self.again.with_label_values(&[result]).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        };
        count("read", manifests.len().saturating_sub(gone.len()));
        count("gone", gone.len());
        tracing::info!(manifests = manifests.len(), gone = gone.len(), "collected layer manifests read again");
        std::mem::take(&mut self.waiting).into_iter().collect()
    }

    /// Records that an image in use has this merged image.
    pub(super) fn used(&mut self, view: &ImageView, merged: Sha256) {
        self.merged.insert(view.clone(), merged);
    }

    pub(super) fn forget(&mut self, view: &ImageView) {
        self.waiting.remove(view);
        self.merged.remove(view);
    }

    /// Sends as many orders as the feed has room for.
    pub(super) fn give_orders(&mut self, feed: &Feed) {
        while let Some(order) = self.orders.pop_front() {
            if let Err(order) = feed.order(order) {
                self.orders.push_front(order);
                return;
            }
        }
    }

    /// Removes unused merged images in the background, at intervals.
    pub(super) fn sweep_merged(&self, store: &Arc<Store>) {
        if !self.step.is_multiple_of(self.steps_per_sweep) {
            return;
        }
        let in_use: BTreeSet<Sha256> = self.merged.values().copied().collect();
        let (store, keep, files) = (Arc::clone(store), self.keep, self.files.clone());
        tokio::task::spawn_blocking(move || match store.sweep_merged(&in_use, keep) {
            Ok(swept) => files.inc_by(swept.files),
            Err(error) => tracing::warn!(%error, "merged images that are not used cannot be removed"),
        });
    }
}
