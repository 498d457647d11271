//! What the enricher's core cannot do itself: read the image tables, load an image off the loop's task.

use moka::future::Cache;
use prometheus::{IntCounter, IntGauge};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

use driftline_enricher::store::{Feed, FeedEvent, KnownChunks, News, Row, Store, StoreError, blocks};
use driftline_enricher_core::image::ImageIndex;
use driftline_enricher_core::tables::{Change, ImageTables, Lookup, Stored};
use driftline_enricher_core::{Ask, Enricher, ImageAnswer, Input};
use driftline_runtime::service::{Backlog, ServiceError, Shell};
use driftline_runtime::telemetry::Telemetry;
use driftline_schemas::{ImageFailure, ImageId, LayerChunk, LayerEvent, Sha256};

/// Answers on their way to the core; loading waits when the core is that far behind.
const ANSWERS: usize = 64;

/// Longest time that a tick waits for answers; loading an image takes milliseconds to a second.
const TICK_HELD_MAX: Duration = Duration::from_secs(1);

type Answer = (ImageId, ImageAnswer);

pub(crate) struct EnricherShell {
    feed: Feed,
    images: ImageTables<KnownChunks>,
    store: Arc<Store>,
    /// Images the core uses; it is told when their answer changes.
    wanted: BTreeSet<ImageId>,
    /// Those whose content it was told, and which nobody has contradicted yet.
    settled: BTreeSet<ImageId>,
    /// Those of them for which it has not been told anything yet.
    unanswered: BTreeSet<ImageId>,
    /// When the core was told the time last.
    last_tick: Instant,
    /// Merged images by the name of their content, weighed in KiB; concurrent misses of one do the work once.
    merged: Cache<Sha256, Arc<ImageIndex>>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    /// Answers that need no loading; taken before anything else, so never more than one event of the tables brings.
    known_now: VecDeque<Answer>,
    rejected: IntCounter,
    conflicts: IntCounter,
    known: IntGauge,
}

impl EnricherShell {
    pub(crate) fn new(
        feed: Feed,
        store: Arc<Store>,
        images: ImageTables<KnownChunks>,
        cache_mib: i64,
        telemetry: &Telemetry,
    ) -> Result<Self, prometheus::Error> {
        let merged = Cache::builder()
            .weigher(|_, index: &Arc<ImageIndex>| u32::try_from(index.memory_bytes() / 1024 + 1).unwrap_or(u32::MAX))
            .max_capacity(u64::try_from(cache_mib).unwrap_or(1) * 1024)
            .build();
        Ok(Self {
            feed,
            images,
            store,
            wanted: BTreeSet::new(),
            settled: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            last_tick: Instant::now(),
            merged,
            answers: mpsc::channel(ANSWERS),
            known_now: VecDeque::new(),
            rejected: telemetry
                .counter("table_records_rejected_total", "Records of the image tables that cannot be used")?,
            conflicts: telemetry
                .counter("layer_conflicts_total", "Publications that contradict another of the same layer")?,
            known: telemetry.gauge("images_known", "Images on the images topic")?,
        })
    }

    pub(crate) fn image_count(&self) -> usize {
        self.images.image_count()
    }

    /// Reads the tables up to where they ended when the service started.
    pub(crate) async fn catch_up(&mut self) -> Result<(), ServiceError> {
        loop {
            match self.feed.next().await {
                Some(FeedEvent::CaughtUp) => return Ok(()),
                event => self.table_event(event)?,
            }
        }
    }

    fn table_event(&mut self, event: Option<FeedEvent>) -> Result<(), ServiceError> {
        match event {
            Some(FeedEvent::Stored(rows)) => self.stored(rows),
            Some(FeedEvent::CaughtUp) => {}
            Some(FeedEvent::Unread(error)) => return Err(error.into()),
            Some(FeedEvent::Unwritten(error)) => return Err(of_store(&error)),
            None => return Err(ServiceError::Shell("the image table reader ended".to_owned())),
        }
        Ok(())
    }

    /// Takes what the store has taken; of many new layers the core is told once.
    fn stored(&mut self, rows: Vec<Row>) {
        let (mut is_layer_new, mut is_contradicted) = (false, false);
        for row in rows {
            let (topic, partition, offset) = (row.topic.spec().stem, row.partition, row.offset);
            match self.take(row.news) {
                Ok(Some(Change::Image(id))) => self.answer_if_wanted(&id),
                Ok(Some(Change::Layer)) => is_layer_new = true,
                Ok(Some(Change::Conflict(what))) => {
                    self.conflicts.inc();
                    tracing::error!(what, "two publications contradict each other: one of the publishers lies");
                    is_contradicted = true;
                }
                Ok(None) => {}
                Err(reason) => {
                    self.rejected.inc();
                    tracing::warn!(topic, partition, offset, reason, "image table record rejected");
                }
            }
        }
        self.known.set(i64::try_from(self.images.image_count()).unwrap_or(i64::MAX));
        if is_layer_new || is_contradicted {
            self.answer_complete();
        }
        if is_contradicted {
            self.answer_contradicted();
        }
    }

    fn take(&mut self, news: News) -> Result<Option<Change>, String> {
        match news {
            News::Image(image) => self.images.image(image).map(Some),
            News::Head(head) => self.images.layer(LayerEvent::Head(head)).map(Some),
            News::Chunk { manifest, index } => {
                let index = i32::try_from(index).map_err(|error| error.to_string())?;
                let chunk = LayerChunk { manifest_sha256: manifest, index, data: Vec::new() };
                self.images.layer(LayerEvent::Chunk(chunk)).map(Some)
            }
            // What running containers were told stays good for them, and layers stay with who names them.
            News::ImageGone(key) => {
                self.images.forget_image(&key);
                Ok(None)
            }
            News::Nothing => Ok(None),
            News::Refused(reason) => Err(reason),
        }
    }

    /// A layer came: tells the core of every awaited image that is complete now.
    fn answer_complete(&mut self) {
        let complete = |id: &&ImageId| matches!(self.images.lookup(id), Lookup::Complete { .. });
        let complete: Vec<ImageId> = self.wanted.iter().filter(complete).cloned().collect();
        complete.iter().for_each(|id| self.answer(id));
    }

    /// Tells the core of every image it has that is contradicted now.
    fn answer_contradicted(&mut self) {
        let contradicted = |id: &&ImageId| matches!(self.images.lookup(id), Lookup::Complete { conflict: Some(_), .. });
        let contradicted: Vec<ImageId> = self.settled.iter().filter(contradicted).cloned().collect();
        contradicted.iter().for_each(|id| self.answer(id));
    }

    fn answer_if_wanted(&mut self, id: &ImageId) {
        if self.wanted.contains(id) {
            self.answer(id);
        }
    }

    /// Tells the core what is known of an image now, in the order in which it became known; loading happens in the
    /// background.
    fn answer(&mut self, id: &ImageId) {
        let id = id.clone();
        match self.images.lookup(&id) {
            Lookup::Missing => self.known_now.push_back((id, ImageAnswer::Missing)),
            Lookup::Failed { reason, failure, retry_ns } => {
                self.known_now.push_back((id, ImageAnswer::Failed { reason, failure, retry_ns }));
            }
            Lookup::Complete { stored, conflict } => {
                let (sender, merged, store) = (self.answers.0.clone(), self.merged.clone(), Arc::clone(&self.store));
                tokio::spawn(async move {
                    let loaded = merged.try_get_with(blocks::name(&stored), load(store, stored)).await;
                    let answer = match loaded {
                        Ok(index) => ImageAnswer::Ready { index, conflict },
                        Err(failed) => ImageAnswer::clone(&failed),
                    };
                    let _ = sender.send((id, answer)).await;
                });
            }
        }
    }
}

/// What the service ends with when its store fails.
pub(crate) fn of_store(error: &StoreError) -> ServiceError {
    ServiceError::Shell(error.to_string())
}

async fn load(store: Arc<Store>, stored: Stored) -> Result<Arc<ImageIndex>, ImageAnswer> {
    let crashed = |error: tokio::task::JoinError| ImageAnswer::Failed {
        reason: error.to_string(),
        failure: ImageFailure::Unsupported,
        retry_ns: i64::MAX,
    };
    let loaded = tokio::task::spawn_blocking(move || store.load(&stored)).await.map_err(crashed)?;
    loaded.map(|(index, _)| Arc::new(index)).map_err(|error| ImageAnswer::unusable(&error))
}

impl Shell for EnricherShell {
    type Stage = Enricher;

    /// A deadline must not fire because an answer that is known here is still on its way, as for all that a restart finds
    /// parked.
    fn tick(&mut self, _: Backlog) -> Option<Input> {
        if !self.unanswered.is_empty() && self.last_tick.elapsed() < TICK_HELD_MAX {
            return None;
        }
        self.last_tick = Instant::now();
        Some(Input::Tick)
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Image(id) => {
                self.answer(&id);
                self.unanswered.insert(id.clone());
                self.wanted.insert(id);
            }
            Ask::Forget(id) => {
                self.unanswered.remove(&id);
                self.wanted.remove(&id);
                self.settled.remove(&id);
            }
        }
    }

    async fn next(&mut self) -> Result<Input, ServiceError> {
        loop {
            if let Some((id, answer)) = self.known_now.pop_front() {
                self.unanswered.remove(&id);
                return Ok(Input::Image(id, answer));
            }
            tokio::select! {
                Some((id, answer)) = self.answers.1.recv() => {
                    self.unanswered.remove(&id);
                    // Content does not change under a digest; only that somebody contradicts it may be news.
                    if let ImageAnswer::Ready { conflict, .. } = &answer
                        && (self.wanted.remove(&id) || self.settled.remove(&id))
                        && conflict.is_none()
                    {
                        self.settled.insert(id.clone());
                    }
                    return Ok(Input::Image(id, answer));
                }
                event = self.feed.next() => self.table_event(event)?,
            }
        }
    }
}
