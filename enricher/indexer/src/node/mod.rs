//! The indexer of one node: indexes the images of its containers and answers the requests that concern it.
//!
//! One task owns the plan and selects over: records of the images and image-requests topics, images that the scanner
//! found, ends of attempts, a tick, and the signal to stop. Attempts run beside it, as many at once as the setting says.

mod job;
mod metrics;
mod plan;
mod scan;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use driftline_collector_runtimes::{RuntimeSettings, Runtimes};
use driftline_kafka::{ClientSettings, Producer, ReadFrom, ReaderEvent, Record, TopicReader, admin};
use driftline_runtime::clock;
use driftline_runtime::env::Settings;
use driftline_runtime::telemetry::Telemetry;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, ImageRequest, decode};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use crate::publish::Publisher;
use job::{Done, JobError, perform};
use metrics::Metrics;
use plan::{Job, Outcome, Plan, Wanted};
use scan::{Scanner, log_states};

/// Attempts in a row that may fail because Kafka takes nothing; each has waited for 30 s.
const KAFKA_FAILURES_MAX: u32 = 3;
/// Requests older than this are not answered: the enricher amends findings for an hour.
const REQUEST_AGE_MAX_NS: i64 = 3_600 * 1_000_000_000;
/// Images indexed at once unless set: with two, a large image does not make every small one wait behind it.
const PARALLEL: i64 = 2;
/// How often the plan is looked at when nothing happens.
const TICK: Duration = Duration::from_millis(500);
/// Images found by the scanner and not yet taken.
const FOUND_MAX: usize = 256;

/// Settings of the node's indexer.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Kafka.
    pub kafka: ClientSettings,
    /// How long a Kafka that does not answer is waited for at start.
    pub kafka_wait: Duration,
    /// Cluster whose requests are answered.
    pub cluster: String,
    /// Name of this node in requests and as the source of manifests.
    pub node: String,
    /// Where the runtimes are.
    pub runtimes: RuntimeSettings,
    /// Images indexed at once.
    pub parallel: usize,
    /// Pause between looks at the running containers.
    pub scan_pause: Duration,
}

impl NodeSettings {
    /// Reads the settings; problems are noted in `settings`.
    #[must_use]
    pub fn read(settings: &mut Settings) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("node").to_owned();
        let scan_ms = settings.number("DRIFTLINE_SCAN_MS", 3_000, 100..=600_000);
        Self {
            kafka: settings.kafka("indexer"),
            kafka_wait: settings.kafka_wait(),
            cluster: settings.cluster(),
            node: settings.name("DRIFTLINE_NODE", &host),
            runtimes: RuntimeSettings::read(|name| settings.optional(name)),
            parallel: usize::try_from(settings.number("DRIFTLINE_INDEXER_PARALLEL", PARALLEL, 1..=8)).unwrap_or(1),
            scan_pause: Duration::from_millis(scan_ms.unsigned_abs()),
        }
    }
}

/// Runs until `stop` resolves.
///
/// # Errors
/// When Kafka cannot be used at start, or stops taking records.
pub async fn run(
    settings: NodeSettings,
    telemetry: &Telemetry,
    stop: impl Future<Output = &'static str>,
) -> anyhow::Result<()> {
    admin::wait(&settings.kafka, settings.kafka_wait).await?;
    let topics = [Topic::Images, Topic::ImageRequests];
    admin::check(&settings.kafka, &[Topic::Images, Topic::ImageLayers, Topic::ImageRequests]).await?;
    let kafka = settings.kafka.clone();
    let reader = tokio::task::spawn_blocking(move || TopicReader::start(&kafka, &topics, ReadFrom::Beginning));
    let mut reader = reader.await.context("the reader did not start")??;

    let runtimes = Arc::new(Runtimes::detect(&settings.runtimes).await);
    log_states(&runtimes);
    let (sender, runtimes) = watch::channel(runtimes);
    let (found_sender, mut found) = mpsc::channel(FOUND_MAX);
    let scanner = Scanner {
        settings: settings.runtimes.clone(),
        pause: settings.scan_pause,
        runtimes: sender,
        found: found_sender,
    };
    let publisher = Publisher::new(Producer::new(&settings.kafka)?, &format!("node:{}", settings.node));
    let mut node = Node {
        plan: Plan::default(),
        metrics: Metrics::new(telemetry)?,
        runtimes,
        publisher: Arc::new(Mutex::new(publisher)),
        attempts: JoinSet::new(),
        stopping: Arc::default(),
        caught_up: false,
        kafka_failures: 0,
        settings,
    };
    let scanner = tokio::spawn(scanner.run());
    let mut tick = tokio::time::interval(TICK);
    tokio::pin!(stop);
    let ended = loop {
        let step = tokio::select! {
            signal = &mut stop => {
                tracing::info!(signal, "stopping");
                break Ok(());
            }
            event = reader.next() => node.take_event(event, telemetry),
            Some(job) = found.recv(), if node.caught_up => {
                node.plan.want(job, Wanted::ByContainer, clock::now_ns());
                Ok(())
            }
            Some(ended) = node.attempts.join_next() => node.take_end(ended).await,
            _ = tick.tick() => {
                node.plan.wake(clock::now_ns());
                Ok(())
            }
        };
        if let Err(error) = step {
            break Err(error);
        }
        node.start_attempts();
    };
    node.stopping.store(true, Ordering::Release);
    scanner.abort();
    ended
}

struct Node {
    settings: NodeSettings,
    plan: Plan,
    metrics: Metrics,
    runtimes: watch::Receiver<Arc<Runtimes>>,
    publisher: Arc<Mutex<Publisher>>,
    attempts: JoinSet<Attempt>,
    stopping: Arc<AtomicBool>,
    /// Before it is, published images are not known.
    caught_up: bool,
    kafka_failures: u32,
}

/// An attempt that has ended.
struct Attempt {
    job: Job,
    result: Result<Done, JobError>,
    took: Duration,
}

impl Node {
    fn take_event(&mut self, event: Option<ReaderEvent>, telemetry: &Telemetry) -> anyhow::Result<()> {
        match event {
            Some(ReaderEvent::Record(record)) => self.take_record(&record),
            Some(ReaderEvent::CaughtUp) => {
                self.caught_up = true;
                telemetry.set_ready();
                tracing::info!(node = self.settings.node, cluster = self.settings.cluster, "ready");
            }
            Some(ReaderEvent::Failed(error)) => return Err(error.into()),
            None => bail!("the kafka reader ended"),
        }
        Ok(())
    }

    fn take_record(&mut self, record: &Record) {
        let Some(value) = &record.value else { return };
        match record.topic {
            Topic::Images => match decode::<Image>(value) {
                Ok(image) => self.plan.note(&image),
                Err(error) => tracing::warn!(%error, offset = record.offset, "image record cannot be read"),
            },
            _ => match decode::<ImageRequest>(value) {
                Ok(request) => self.take_request(request),
                Err(error) => {
                    // Every node reads every request, so nobody sends it to dead letters.
                    self.metrics.count_request("malformed");
                    tracing::warn!(%error, offset = record.offset, "image request cannot be read");
                }
            },
        }
    }

    fn take_request(&mut self, request: ImageRequest) {
        let now_ns = clock::now_ns();
        let answer = if request.cluster != self.settings.cluster || request.node != self.settings.node {
            "other_node"
        } else if request.requested_ns < now_ns.saturating_sub(REQUEST_AGE_MAX_NS) {
            "expired"
        } else if !driftline_schemas::is_digest(request.image_id.as_str()) {
            "malformed"
        } else {
            let wanted = Wanted::ByRequest { requested_ns: request.requested_ns };
            let job = Job { image_id: request.image_id, runtime: request.runtime, reference: request.reference };
            self.plan.want(job, wanted, now_ns).label()
        };
        self.metrics.count_request(answer);
    }

    fn start_attempts(&mut self) {
        while self.caught_up && self.attempts.len() < self.settings.parallel {
            let Some(job) = self.plan.next() else { break };
            let runtimes = Arc::clone(&self.runtimes.borrow());
            let publisher = Arc::clone(&self.publisher);
            let stop = Arc::clone(&self.stopping);
            tracing::info!(image = %job.image_id, reference = job.reference, "indexing");
            self.attempts.spawn(async move {
                let started: Instant = clock::monotonic();
                let result = perform(job.clone(), runtimes, publisher, stop).await;
                Attempt { job, result, took: started.elapsed() }
            });
        }
        self.metrics.waiting.set(i64::try_from(self.plan.waiting()).unwrap_or(i64::MAX));
        let answering = self.runtimes.borrow().answering().count();
        self.metrics.runtimes.set(i64::try_from(answering).unwrap_or(i64::MAX));
    }

    async fn take_end(&mut self, ended: Result<Attempt, tokio::task::JoinError>) -> anyhow::Result<()> {
        let Attempt { job, result, took } = ended.context("an attempt broke off")?;
        let image_id = job.image_id.clone();
        self.metrics.seconds.observe(took.as_secs_f64());
        match result {
            Ok(done) => {
                self.kafka_failures = 0;
                self.plan.done(job, Outcome::Published, clock::now_ns());
                self.metrics.images.with_label_values(&["indexed"]).inc();
                self.metrics.layers.inc_by(crate::tar_stream::as_u64(done.fresh_layers));
                self.metrics.bytes.inc_by(done.bytes);
                let Done { layers, fresh_layers, entries, bytes } = done;
                let took_ms = took.as_millis();
                tracing::info!(image = %image_id, layers, fresh_layers, entries, bytes, took_ms, "indexed");
                Ok(())
            }
            Err(error) => self.take_failure(job, error).await,
        }
    }

    async fn take_failure(&mut self, job: Job, error: JobError) -> anyhow::Result<()> {
        let now_ns = clock::now_ns();
        let image_id = job.image_id.clone();
        self.metrics.images.with_label_values(&["failed"]).inc();
        let failure = error.failure();
        let retry_ns = self.plan.done(job, Outcome::Failed(failure), now_ns);
        let retry_s = retry_ns.map(|retry_ns| retry_ns.saturating_sub(now_ns) / 1_000_000_000);
        tracing::warn!(image = %image_id, %error, retry_s, "image cannot be indexed");
        if error.is_kafka() {
            self.kafka_failures += 1;
            if self.kafka_failures >= KAFKA_FAILURES_MAX {
                return Err(error).context("kafka takes no records");
            }
            return Ok(());
        }
        if let Some(retry_ns) = retry_ns {
            let mut publisher = self.publisher.lock().await;
            publisher.publish_failure(&image_id, &error.to_string(), failure, retry_ns, now_ns).await?;
        }
        Ok(())
    }
}
