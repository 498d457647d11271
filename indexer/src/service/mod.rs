//! The service for every source of images: takes requests, plans, reads, publishes.
//!
//! One task owns the plan and selects over: records of the images and image-requests topics, images that a scanner
//! found, ends of attempts, a tick, and the signal to stop. Attempts run concurrently, up to the number in the
//! settings. An [`Origin`] provides the images: a node's engines, or registries.

pub(crate) mod attempt;
mod metrics;
pub(crate) mod plan;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use driftline_enricher_core::Trust;
use driftline_kafka::{ClientSettings, Producer, ReadFrom, ReaderEvent, Record, TopicReader, admin, persist};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, ImageId, ImageRequest, decode};
use driftline_service::clock;
use driftline_service::log_limit::LogLimit;
use driftline_service::settings::kafka;
use driftline_service::telemetry::Telemetry;
use driftline_settings::{Settings, table};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::publish::Publisher;
use attempt::{Done, JobError, KnownLayers, Read, Task, add_references};
use metrics::Metrics;
use plan::{Job, Outcome, Plan, Wanted};

/// Requests older than this are not answered: the enricher amends findings for an hour.
const REQUEST_AGE_MAX_NS: i64 = 3_600 * 1_000_000_000;
/// Interval at which the plan is checked without other events.
const TICK: Duration = Duration::from_millis(500);

/// Settings that do not depend on the source of images.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Kafka.
    pub kafka: ClientSettings,
    /// How long the start waits for a Kafka that does not answer.
    pub kafka_wait: Duration,
    /// Cluster whose requests are answered.
    pub cluster: String,
    /// Images indexed at once.
    pub parallel: usize,
    /// Which publishers the enricher trusts. Publications of others need not keep this indexer from publishing.
    pub trust: Trust,
}

impl ServiceSettings {
    /// Reads the settings; records problems in `settings`.
    #[must_use]
    pub fn read(settings: &mut Settings) -> Self {
        Self {
            kafka: kafka(settings, "indexer"),
            kafka_wait: settings.get(&table::KAFKA_WAIT_S),
            cluster: settings.get(&table::CLUSTER),
            parallel: usize::try_from(settings.get(&table::INDEXER_PARALLEL)).unwrap_or(1),
            trust: settings.choice(&table::TRUST, &Trust::NAMES).unwrap_or_default(),
        }
    }
}

/// When a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// After this pause, unless another indexer has published the image by then.
    After {
        pause_ns: i64,
    },
    Never,
}

/// A source of images.
pub(crate) trait Origin: Send + Sync + 'static {
    /// Name of the source in publications, for example `node:worker-1`.
    fn source(&self) -> String;

    /// When this origin answers a request of its cluster.
    fn turn(&self, request: &ImageRequest) -> Turn;

    /// Whether a publication by `source` suffices for the requesters of this origin.
    fn suffices(&self, source: &str, trust: Trust) -> bool;

    /// Reads an image.
    fn read(&self, task: &Task) -> impl Future<Output = Result<Read, JobError>> + Send;
}

/// Runs until `stop` resolves. `found` receives images that were not requested yet.
pub(crate) async fn run(
    settings: ServiceSettings,
    origin: impl Origin,
    mut found: mpsc::Receiver<Job>,
    telemetry: &Telemetry,
    stop: impl Future<Output = &'static str>,
) -> anyhow::Result<()> {
    let topics = [Topic::Images, Topic::ImageRequests];
    let begin = || TopicReader::start(&settings.kafka, &topics, ReadFrom::Beginning);
    let mut reader = persist(settings.kafka_wait, "images and requests", begin).await?;
    let publisher = Publisher::new(Producer::new(&settings.kafka)?, &origin.source());
    let mut service = Service {
        plan: Plan::default(),
        metrics: Metrics::new(telemetry)?,
        origin: Arc::new(origin),
        known: Arc::default(),
        publisher: Arc::new(Mutex::new(publisher)),
        attempts: JoinSet::new(),
        stopping: Arc::default(),
        caught_up: false,
        rejected_lines: LogLimit::default(),
        failure_lines: LogLimit::default(),
        telemetry: telemetry.clone(),
        settings,
    };
    let mut tick = tokio::time::interval(TICK);
    tokio::pin!(stop);
    let ended = loop {
        let step = tokio::select! {
            signal = &mut stop => {
                tracing::info!(signal, "stopping");
                break Ok(());
            }
            event = reader.next() => service.take_event(event).await,
            Some(job) = found.recv(), if service.caught_up => {
                service.plan.want(job, Wanted::ByContainer, clock::now_ns());
                Ok(())
            }
            Some(ended) = service.attempts.join_next() => service.take_end(ended).await,
            _ = tick.tick() => {
                service.plan.wake(clock::now_ns());
                service.rejected_lines.log_left_out("records that cannot be read");
                service.failure_lines.log_left_out("images that cannot be indexed");
                Ok(())
            }
        };
        if let Err(error) = step {
            break Err(error);
        }
        service.start_attempts();
    };
    service.stopping.store(true, Ordering::Release);
    ended
}

/// Waits for Kafka, and checks the topics.
pub(crate) async fn kafka_ready(settings: &ServiceSettings) -> anyhow::Result<()> {
    admin::wait(&settings.kafka, settings.kafka_wait).await?;
    let topics = [Topic::Images, Topic::ImageLayers, Topic::ImageRequests];
    persist(settings.kafka_wait, "topics", || admin::check(&settings.kafka, &topics)).await?;
    Ok(())
}

struct Service<O> {
    settings: ServiceSettings,
    plan: Plan,
    metrics: Metrics,
    origin: Arc<O>,
    known: Arc<KnownLayers>,
    publisher: Arc<Mutex<Publisher>>,
    attempts: JoinSet<Attempt>,
    stopping: Arc<AtomicBool>,
    /// Until then, published images are not known.
    caught_up: bool,
    rejected_lines: LogLimit,
    failure_lines: LogLimit,
    telemetry: Telemetry,
}

/// An attempt that has ended.
struct Attempt {
    job: Job,
    result: Result<Done, JobError>,
    took: Duration,
}

impl<O: Origin> Service<O> {
    async fn take_event(&mut self, event: Option<ReaderEvent>) -> anyhow::Result<()> {
        match event {
            Some(ReaderEvent::Record(record)) => self.take_record(&record).await,
            Some(ReaderEvent::CaughtUp) => {
                self.caught_up = true;
                self.telemetry.set_ready();
                tracing::info!(source = self.origin.source(), cluster = self.settings.cluster, "ready");
            }
            Some(ReaderEvent::Failed(error)) => return Err(error.into()),
            None => bail!("the kafka reader ended"),
        }
        Ok(())
    }

    async fn take_record(&mut self, record: &Record) {
        let Some(value) = &record.value else { return self.take_removal(record).await };
        match record.topic {
            Topic::Images => match decode::<Image>(value) {
                Ok(image) => {
                    self.known.note(&image);
                    if self.origin.suffices(&image.source, self.settings.trust) {
                        self.plan.note(&image);
                    }
                }
                Err(error) => {
                    self.metrics.rejected.inc();
                    if let Some(left_out) = self.rejected_lines.admit() {
                        tracing::warn!(%error, offset = record.offset, left_out, "image record cannot be read");
                    }
                }
            },
            _ => match decode::<ImageRequest>(value) {
                Ok(request) => self.take_request(request),
                Err(error) => {
                    // Every indexer reads every request, so none sends it to dead letters.
                    self.metrics.count_request("malformed");
                    if let Some(left_out) = self.rejected_lines.admit() {
                        tracing::warn!(%error, offset = record.offset, left_out, "image request cannot be read");
                    }
                }
            },
        }
    }

    /// An image is removed after its layers, and another image may need these layers next. So no layer counts as
    /// published any more, by this indexer or by a verified source.
    async fn take_removal(&mut self, record: &Record) {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        let (Topic::Images, Some((image_id, source))) = (record.topic, key.split_once('/')) else { return };
        self.plan.forget(&ImageId::from(image_id), source);
        self.known.clear();
        if self.caught_up {
            self.publisher.lock().await.forget_all();
        }
    }

    fn take_request(&mut self, request: ImageRequest) {
        let answer = self.answer(request, clock::now_ns());
        self.metrics.count_request(answer);
    }

    fn answer(&mut self, request: ImageRequest, now_ns: i64) -> &'static str {
        if request.cluster != self.settings.cluster {
            return "other_node";
        }
        let Turn::After { pause_ns } = self.origin.turn(&request) else { return "other_node" };
        if request.requested_ns < now_ns.saturating_sub(REQUEST_AGE_MAX_NS) {
            return "expired";
        }
        if !driftline_schemas::is_digest(request.image_id.as_str()) {
            return "malformed";
        }
        let wanted = Wanted::ByRequest { requested_ns: request.requested_ns, pause_ns };
        let job = Job { image_id: request.image_id, runtime: request.runtime, reference: request.reference };
        self.plan.want(job, wanted, now_ns).label()
    }

    fn start_attempts(&mut self) {
        while self.caught_up && self.attempts.len() < self.settings.parallel {
            let Some(job) = self.plan.next() else { break };
            tracing::info!(image = %job.image_id, reference = job.reference, "indexing");
            let effort = if self.plan.is_lost(&job.image_id) { Effort::Everything } else { Effort::OnlyNew };
            let known = match effort {
                Effort::Everything => Arc::default(),
                Effort::OnlyNew => Arc::clone(&self.known),
            };
            let task = Task { job, known, stop: Arc::clone(&self.stopping) };
            let (origin, publisher) = (Arc::clone(&self.origin), Arc::clone(&self.publisher));
            self.attempts.spawn(async move {
                let started: Instant = clock::monotonic();
                let result = perform(&task, &*origin, &publisher, effort).await;
                Attempt { job: task.job, result, took: started.elapsed() }
            });
        }
        self.metrics.waiting.set(i64::try_from(self.plan.waiting()).unwrap_or(i64::MAX));
    }

    async fn take_end(&mut self, ended: Result<Attempt, tokio::task::JoinError>) -> anyhow::Result<()> {
        let Attempt { job, result, took } = ended.context("an attempt broke off")?;
        let image_id = job.image_id.clone();
        self.metrics.seconds.observe(took.as_secs_f64());
        match result {
            Ok(done) => {
                self.telemetry.set_ready();
                self.plan.done(job, Outcome::Published, clock::now_ns());
                self.metrics.images.with_label_values(&["indexed"]).inc();
                self.metrics.layers.inc_by(crate::tar_stream::as_u64(done.fresh_layers));
                self.metrics.bytes.inc_by(done.bytes);
                let Done { layers, fresh_layers, entries, bytes } = done;
                let took_ms = took.as_millis();
                tracing::info!(image = %image_id, layers, fresh_layers, entries, bytes, took_ms, "indexed");
            }
            Err(error) => self.take_failure(job, error).await,
        }
        Ok(())
    }

    /// The plan decides when the image is tried again, so a Kafka that does not answer ends nothing.
    async fn take_failure(&mut self, job: Job, error: JobError) {
        let now_ns = clock::now_ns();
        let image_id = job.image_id.clone();
        self.metrics.images.with_label_values(&["failed"]).inc();
        let retry_ns = self.plan.done(job, error.outcome(), now_ns);
        let retry_s = retry_ns.map(|retry_ns| retry_ns.saturating_sub(now_ns) / 1_000_000_000);
        if let Some(left_out) = self.failure_lines.admit() {
            tracing::warn!(image = %image_id, %error, retry_s, left_out, "image cannot be indexed");
        }
        if error.is_kafka() {
            self.telemetry.set_unready("kafka takes no records");
        } else if let Some(retry_ns) = retry_ns {
            let mut publisher = self.publisher.lock().await;
            let why = error.to_string();
            let published = publisher.publish_failure(&image_id, &why, error.failure(), retry_ns, now_ns).await;
            if let Err(error) = published {
                tracing::warn!(image = %image_id, %error, "kafka does not take that the image cannot be indexed");
                self.telemetry.set_unready("kafka takes no records");
            }
        }
    }
}

/// Which part of an image is read and published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Layers that are not on the topic yet.
    OnlyNew,
    /// All of it, because a reader lost part of it.
    Everything,
}

/// One attempt: the image is read and published.
async fn perform(
    task: &Task,
    origin: &impl Origin,
    publisher: &Mutex<Publisher>,
    effort: Effort,
) -> Result<Done, JobError> {
    let Read { mut indexed, bytes } = origin.read(task).await?;
    add_references(&mut indexed, [task.job.reference.clone()]);
    let mut publisher = publisher.lock().await;
    if effort == Effort::Everything {
        publisher.forget(&indexed.image.diff_ids);
    }
    let fresh_layers = publisher.publish(&indexed, clock::now_ns()).await?;
    let entries = indexed.layers.iter().map(|layer| layer.manifest.entries().len()).sum();
    Ok(Done { layers: indexed.image.diff_ids.len(), fresh_layers, entries, bytes })
}
