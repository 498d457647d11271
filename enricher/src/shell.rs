//! I/O on behalf of the enricher's core: reads the image tables, loads images outside the loop's task, and decides
//! which bytes of the tables are kept ([`keeping`]).

mod keeping;
mod medium;
mod merged;

use prometheus::{IntCounter, IntGauge};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

use driftline_enricher::store::{Failure, Feed, FeedEvent, News, Row, Store, StoreError};
use driftline_enricher_core::chunks::KnownChunks;
use driftline_enricher_core::tables::{Change, Following, ImageTables, Lookup, Stored};
use driftline_enricher_core::{Enricher, ImageAnswer, ImageCommand, ImageView, Input};
use driftline_schemas::{LayerChunk, LayerEvent, Sha256};
use driftline_service::log_limit::LogLimit;
use driftline_service::service::{Backlog, ServiceError, Shell};
use driftline_service::telemetry::Telemetry;
use keeping::Keeping;
use medium::{Medium, StoreLocation, is_of_failed_disk};
use merged::Merged;

/// Capacity of the channel of loaded answers; loading waits when the core is that far behind.
const ANSWERS: usize = 64;

/// Longest time for which a tick waits for answers; loading an image takes milliseconds to a second.
const TICK_HELD_MAX: Duration = Duration::from_secs(1);

type Answer = (ImageView, ImageAnswer);

/// The result of loading an image.
struct Loaded {
    view: ImageView,
    answer: ImageAnswer,
    /// The layers that were loaded.
    stored: Arc<Stored>,
    /// Location of the store when loading began.
    asked_of: StoreLocation,
}

pub(crate) struct EnricherShell {
    feed: Feed,
    images: ImageTables<KnownChunks>,
    store: Arc<Store>,
    /// Images that the core uses; the core is given a new answer when the tables change it.
    following: Following,
    /// Images for which the core has no answer yet.
    unanswered: BTreeSet<ImageView>,
    keeping: Keeping,
    medium: Medium,
    /// The layers of each image whose content the core was given. When the core drops the content and asks again, it is
    /// given the same content, whatever was published since.
    given: BTreeMap<ImageView, Arc<Stored>>,
    /// When the core received a tick last.
    last_tick: Instant,
    merged: Merged,
    answers: (mpsc::Sender<Loaded>, mpsc::Receiver<Loaded>),
    /// Answers that need no loading. They are sent before anything else, so the queue holds at most the answers that
    /// one event of the tables causes.
    known_now: VecDeque<Answer>,
    rejected: IntCounter,
    rejected_lines: LogLimit,
    conflicts: IntCounter,
    conflict_lines: LogLimit,
    known: IntGauge,
    images_bytes: IntGauge,
}

/// The shell's settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShellSettings {
    /// Memory for merged images that no container uses at the moment.
    pub(crate) cache_bytes: u64,
    /// How long unused content is kept on disk.
    pub(crate) keep: Duration,
}

impl EnricherShell {
    pub(crate) fn new(
        feed: Feed,
        store: Arc<Store>,
        images: ImageTables<KnownChunks>,
        settings: ShellSettings,
        telemetry: &Telemetry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            feed,
            images,
            merged: Merged::new(Arc::clone(&store), settings.cache_bytes, telemetry)?,
            medium: Medium::new(&store, telemetry)?,
            store,
            following: Following::default(),
            keeping: Keeping::new(settings.keep, telemetry)?,
            given: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            last_tick: Instant::now(),
            answers: mpsc::channel(ANSWERS),
            known_now: VecDeque::new(),
            rejected: telemetry
                .counter("table_records_rejected_total", "Records of the image tables that cannot be used")?,
            rejected_lines: LogLimit::default(),
            conflict_lines: LogLimit::default(),
            conflicts: telemetry
                .counter("layer_conflicts_total", "Publications that contradict another of the same layer")?,
            known: telemetry.gauge("images_known", "Images on the images topic")?,
            images_bytes: telemetry
                .gauge("images_bytes", "Estimate of the memory that contents of images in use take")?,
        })
    }

    pub(crate) fn image_count(&self) -> usize {
        self.images.image_count()
    }

    /// Reads the tables up to the end that they had when the service started.
    pub(crate) async fn catch_up(&mut self) -> Result<(), ServiceError> {
        loop {
            let event = self.feed.next().await;
            let is_over = matches!(event, Some(FeedEvent::CaughtUp));
            self.table_event(event)?;
            if is_over {
                return Ok(());
            }
        }
    }

    fn table_event(&mut self, event: Option<FeedEvent>) -> Result<(), ServiceError> {
        match event {
            Some(FeedEvent::Stored(rows)) => self.stored(rows),
            Some(FeedEvent::CaughtUp) => self.medium.caught_up().iter().for_each(|view| self.answer(view)),
            Some(FeedEvent::Emptied(failure)) => self.emptied(failure),
            Some(FeedEvent::Collected(manifests, bytes)) => self.collected(&manifests, bytes),
            Some(FeedEvent::ReadAgain { manifests, gone }) => self.read_again(&manifests, &gone),
            Some(FeedEvent::Unread(error)) => return Err(error.into()),
            Some(FeedEvent::Unwritten(error)) => return Err(of_store(error)),
            None => return Err(ServiceError::Shell("the image table reader ended".into())),
        }
        Ok(())
    }

    /// Clears the tables after the store was emptied; all records are read again.
    fn emptied(&mut self, failure: Failure) {
        self.medium.emptied(failure);
        *self.images.chunks_mut() = KnownChunks::default();
        self.keeping.begin_again().into_iter().for_each(|view| self.medium.wait(view));
    }

    /// Applies rows that the store has written; after many new layers the core is given one answer for each image.
    fn stored(&mut self, rows: Vec<Row>) {
        let mut changes = Vec::new();
        for row in rows {
            let (topic, partition, offset) = (row.topic.spec().stem, row.partition, row.offset);
            match self.take(row.news) {
                Ok(None) => {}
                Ok(Some(change)) => {
                    if let Change::Conflict(what) = &change {
                        self.conflicts.inc();
                        if let Some(left_out) = self.conflict_lines.admit() {
                            let why = "two publications contradict each other: one of the publishers lies";
                            tracing::error!(what, left_out, "{why}");
                        }
                    }
                    changes.push(change);
                }
                Err(reason) => {
                    self.rejected.inc();
                    if let Some(left_out) = self.rejected_lines.admit() {
                        tracing::warn!(topic, partition, offset, reason, left_out, "image table record rejected");
                    }
                }
            }
        }
        self.known.set(i64::try_from(self.images.image_count()).unwrap_or(i64::MAX));
        self.following.concerned(&changes, &self.images).iter().for_each(|view| self.answer(view));
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
            News::CollectedChunk { manifest, index } => {
                self.images.chunks_mut().put_collected(manifest, index);
                Ok(Some(Change::Layer))
            }
            // The answers given for running containers stay valid.
            News::ImageGone(key) => {
                self.images.forget_image(&key);
                Ok(None)
            }
            News::LayerGone(key) => {
                self.images.forget_layer(&key);
                Ok(None)
            }
            News::Nothing => Ok(None),
            News::Refused(reason) => Err(reason),
        }
    }

    /// Gives the core the current answer about an image, in the order in which answers became known; loading runs in
    /// the background. For an image whose chunks were collected the answer follows when they have been read again.
    fn answer(&mut self, view: &ImageView) {
        let view = view.clone();
        if self.medium.location() == StoreLocation::Filling {
            return self.medium.wait(view);
        }
        match (self.images.lookup(&view), self.given.get(&view).cloned()) {
            (Lookup::Collected(manifests), _) => self.keeping.read_again(view, &manifests),
            (Lookup::Complete { conflict, .. }, Some(given)) => self.load(view, given, conflict),
            (Lookup::Complete { stored, conflict }, None) => self.load(view, Arc::new(stored), conflict),
            (Lookup::Missing | Lookup::Failed { .. }, Some(given)) => self.load(view, given, None),
            (Lookup::Missing, None) => self.known_now.push_back((view, ImageAnswer::Missing)),
            (Lookup::Failed { reason, failure, retry_ns }, None) => {
                self.known_now.push_back((view, ImageAnswer::Failed { reason, failure, retry_ns }));
            }
        }
    }

    /// Loads an image in the background.
    fn load(&mut self, view: ImageView, stored: Arc<Stored>, conflict: Option<String>) {
        self.keeping.used(&view, stored.name());
        let (sender, merged, asked_of) = (self.answers.0.clone(), self.merged.clone(), self.medium.location());
        tokio::spawn(async move {
            let answer = match merged.get(Arc::clone(&stored)).await {
                Ok(index) => ImageAnswer::Ready { index, conflict },
                Err(failed) => ImageAnswer::clone(&failed),
            };
            let _ = sender.send(Loaded { view, answer, stored, asked_of }).await;
        });
    }

    fn collected(&mut self, manifests: &[Sha256], bytes: u64) {
        manifests.iter().for_each(|manifest| self.images.chunks_mut().collect(manifest));
        self.keeping.collected(manifests.len(), bytes);
    }

    /// Handles manifests that were read again: chunks that did not arrive are no longer on the topic.
    fn read_again(&mut self, manifests: &BTreeSet<Sha256>, gone: &BTreeSet<Sha256>) {
        manifests.iter().for_each(|manifest| self.images.chunks_mut().forget_collected(manifest));
        self.keeping.was_read_again(manifests, gone).iter().for_each(|view| self.answer(view));
    }

    /// Checks a loaded answer before the core is given it. An answer that only reports the failure of the store on disk
    /// is looked up again in the next store. An answer with other content than the core was given is replaced by the
    /// given content. When the given content can no longer be loaded, the image is looked up among the current records.
    fn loaded(&mut self, loaded: Loaded) -> Option<Answer> {
        let Loaded { view, answer, stored, asked_of } = loaded;
        if !self.following.follows(&view) {
            return None;
        }
        if is_of_failed_disk(&answer, asked_of, &self.store) {
            match self.medium.location() {
                StoreLocation::Memory => self.answer(&view),
                StoreLocation::Disk | StoreLocation::Filling => self.medium.wait(view),
            }
            return None;
        }
        if matches!(answer, ImageAnswer::Ready { .. }) {
            let given = self.given.entry(view.clone()).or_insert_with(|| Arc::clone(&stored));
            if given.name() != stored.name() {
                self.answer(&view);
                return None;
            }
        } else if self.given.remove(&view).is_some() {
            self.answer(&view);
            return None;
        }
        Some((view, answer))
    }

    /// Collects a bounded number of manifests that no image in use needs.
    fn tidy(&mut self) {
        let following = &self.following;
        let due = self.keeping.step(&self.images, |id| following.uses(id));
        due.iter().for_each(|manifest| self.images.chunks_mut().collect(manifest));
        self.keeping.sweep_merged(&self.store);
        self.medium.measure(&self.store);
    }
}

/// The error with which the service ends when its store fails.
pub(crate) fn of_store(error: StoreError) -> ServiceError {
    ServiceError::Shell(Box::new(error))
}

impl Shell for EnricherShell {
    type Stage = Enricher;

    /// Holds the tick back while an answer that is known here is on its way to the core, so that no deadline fires
    /// before it. A restart depends on this for all restored parked events.
    fn tick(&mut self, _: Backlog) -> Option<Input> {
        if !self.unanswered.is_empty() && self.last_tick.elapsed() < TICK_HELD_MAX {
            return None;
        }
        self.last_tick = Instant::now();
        self.rejected_lines.log_left_out("rejected records of the image tables");
        self.conflict_lines.log_left_out("conflicts of publishers");
        Some(Input::Tick)
    }

    fn observe(&mut self, core: &Enricher) {
        self.images_bytes.set(i64::try_from(core.images_bytes()).unwrap_or(i64::MAX));
    }

    fn command(&mut self, command: ImageCommand) {
        match command {
            ImageCommand::Load(view) => {
                self.following.ask(view.clone());
                self.unanswered.insert(view.clone());
                self.answer(&view);
            }
            ImageCommand::Forget(view) => {
                self.unanswered.remove(&view);
                self.following.forget(&view);
                self.keeping.forget(&view);
                self.medium.forget(&view);
                self.given.remove(&view);
            }
        }
    }

    async fn next(&mut self) -> Result<Input, ServiceError> {
        loop {
            if let Some((view, answer)) = self.known_now.pop_front() {
                self.unanswered.remove(&view);
                return Ok(Input::Image(view, answer));
            }
            self.keeping.give_orders(&self.feed);
            tokio::select! {
                Some(loaded) = self.answers.1.recv() => {
                    let Some((view, answer)) = self.loaded(loaded) else { continue };
                    self.unanswered.remove(&view);
                    self.following.answered(&view, &answer);
                    return Ok(Input::Image(view, answer));
                }
                event = self.feed.next() => self.table_event(event)?,
                () = self.keeping.is_due() => self.tidy(),
            }
        }
    }
}
