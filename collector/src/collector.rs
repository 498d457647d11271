//! The task that owns the core: takes what comes from its edges, lets the core decide, does what it asks.

use anyhow::Context as _;
use driftline_collector_bpf::{Probe, ProbeConfig};
use driftline_collector_core::{
    Ask, Digest, DigestJob, DigestOutcome, Input, Loss, Moment, Node, NodeSettings, limits,
};
use driftline_kafka::{Producer, admin};
use driftline_runtime::clock::{SteadyClock, monotonic};
use driftline_runtime::shutdown;
use driftline_runtime::telemetry::Telemetry;
use driftline_runtime_core::{Effects, Outgoing};
use driftline_schemas::ContainerId;
use driftline_schemas::topics::Topic;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::describer::{self, Answer};
use crate::files::Caught;
use crate::hasher::{Finished, Hasher};
use crate::kept::KeptFiles;
use crate::metrics::Metrics;
use crate::proc::Proc;
use crate::reader::{self, Batch, Reader};
use crate::self_test::SelfTest;
use crate::settings::{CollectorSettings, HASH_QUEUE, HASH_THREADS};

/// How often the core is told the time.
const TICK: Duration = Duration::from_millis(20);

/// How often the containers' first processes are looked for.
const WATCH: Duration = Duration::from_secs(2);

/// How often deliveries are looked at.
const DELIVERIES: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the settings, Kafka or the kernel do not allow it, or a part stops.
pub async fn run(settings: CollectorSettings, self_test: SelfTest) -> anyhow::Result<()> {
    let telemetry = Telemetry::new("collector");
    let metrics = Metrics::register(&telemetry)?;
    let address = telemetry.serve(settings.telemetry).await?;
    let mut stopped = std::pin::pin!(shutdown::signalled()?);
    tokio::select! {
        ready = kafka_is_ready(&settings) => ready?,
        _ = &mut stopped => return Ok(()),
    }
    let proc = Proc::at(&settings.runtimes.proc);
    let node = NodeSettings {
        node: settings.node.clone(),
        boot_id: proc.boot_id(),
        collector_start: proc.unique_id(),
        host_mnt_ns: proc.host_mount_namespace(),
        redaction: settings.redaction.clone(),
    };
    let mut probe = Probe::load(&ProbeConfig {
        ordinary_ring_bytes: settings.ring_bytes,
        suspicious_ring_bytes: settings.suspicious_ring_bytes,
        host_mnt_ns: node.host_mnt_ns,
    })?;
    prove(&mut probe, self_test)?;
    tracing::info!(%address, node = node.node.name, cluster = node.node.cluster, "collector is attached");
    let (mut edges, hasher, questions) = Edges::start(&settings, &proc, probe)?;
    let producer = Producer::new(&settings.kafka)?;
    let mut collector = Collector::new(node, proc, producer, metrics, hasher, questions);
    telemetry.set_ready();
    collector.work(&mut edges, stopped).await?;
    collector.finish(&mut edges).await
}

/// Nothing is reported before it is proved that what the program reads is true on this kernel.
fn prove(probe: &mut Probe, self_test: SelfTest) -> anyhow::Result<()> {
    let report = tokio::task::block_in_place(|| self_test.run(probe))?;
    for (case, why) in report.not_tried() {
        tracing::warn!(case, why, "self-test: not tried");
    }
    let cases = report.cases.len();
    tracing::info!(cases, kernel = report.kernel, "self-test passed");
    Ok(())
}

async fn kafka_is_ready(settings: &CollectorSettings) -> anyhow::Result<()> {
    admin::wait(&settings.kafka, settings.kafka_wait).await?;
    Ok(admin::check(&settings.kafka, &[Topic::ExecEvents]).await?)
}

/// Where inputs come from.
struct Edges {
    batches: mpsc::Receiver<Batch>,
    finished: mpsc::Receiver<Finished>,
    answers: mpsc::Receiver<Answer>,
    stop_reading: Arc<AtomicBool>,
}

impl Edges {
    fn start(
        settings: &CollectorSettings,
        proc: &Proc,
        probe: Probe,
    ) -> anyhow::Result<(Self, Hasher, mpsc::Sender<ContainerId>)> {
        let (batch_sender, batches) = mpsc::channel(reader::BATCHES);
        let (finished_sender, finished) = mpsc::channel(HASH_QUEUE);
        let (questions, question_receiver) = mpsc::channel(describer::QUESTION_QUEUE);
        let (answer_sender, answers) = mpsc::channel(describer::QUESTION_QUEUE);
        let stop_reading = Arc::new(AtomicBool::new(false));
        let hasher = Hasher::start(proc, HASH_THREADS, HASH_QUEUE, settings.hash_file_bytes_max, &finished_sender)?;
        describer::start(settings.runtimes.clone(), question_receiver, answer_sender);
        let reader = Reader::new(probe, proc.clone(), settings.hash_file_bytes_max);
        reader.start(Arc::clone(&stop_reading), batch_sender)?;
        Ok((Self { batches, finished, answers, stop_reading }, hasher, questions))
    }
}

struct Collector {
    node: Node,
    clock: SteadyClock,
    proc: Proc,
    producer: Producer,
    metrics: Metrics,
    hasher: Hasher,
    questions: mpsc::Sender<ContainerId>,
    /// First processes of containers.
    watched: BTreeMap<ContainerId, i32>,
    /// Executables that were caught for the batch at hand.
    caught: BTreeMap<Moment, Caught>,
    /// Those whose hashing has to wait.
    kept: KeptFiles,
    sent: u64,
    not_delivered: u64,
    /// Acknowledged records when deliveries were last looked at.
    acknowledged: u64,
}

impl Collector {
    fn new(
        node: NodeSettings,
        proc: Proc,
        producer: Producer,
        metrics: Metrics,
        hasher: Hasher,
        questions: mpsc::Sender<ContainerId>,
    ) -> Self {
        let mut clock = SteadyClock::default();
        Self {
            node: Node::new(node, clock.now_ns()),
            clock,
            proc,
            producer,
            metrics,
            hasher,
            questions,
            watched: BTreeMap::new(),
            caught: BTreeMap::new(),
            kept: KeptFiles::default(),
            sent: 0,
            not_delivered: 0,
            acknowledged: 0,
        }
    }

    async fn work(&mut self, edges: &mut Edges, stopped: impl Future<Output = &'static str>) -> anyhow::Result<()> {
        tokio::pin!(stopped);
        let every = |period| {
            let mut timer = interval(period);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer
        };
        let (mut tick, mut watch, mut deliveries) = (every(TICK), every(WATCH), every(DELIVERIES));
        loop {
            tokio::select! {
                biased;
                signal = &mut stopped => {
                    tracing::info!(signal, "stopping");
                    return Ok(());
                }
                // What comes seldom first: under load there is always a batch.
                _ = tick.tick() => self.take(Input::Tick).await?,
                _ = watch.tick() => self.watch().await?,
                _ = deliveries.tick() => self.deliveries().await?,
                Some(answer) = edges.answers.recv() => self.take(answered(answer)).await?,
                Some((job, outcome)) = edges.finished.recv() => self.digested(*job, outcome).await?,
                batch = edges.batches.recv() => self.batch(batch.context("the ring reader has stopped")?).await?,
            }
        }
    }

    /// Reads what is left, finishes what was begun within its time, sends all of it.
    async fn finish(&mut self, edges: &mut Edges) -> anyhow::Result<()> {
        edges.stop_reading.store(true, Ordering::Release);
        while let Some(batch) = edges.batches.recv().await {
            self.batch(batch).await?;
        }
        let begun = monotonic();
        let patience = Duration::from_nanos(limits::DIGEST_WAIT.unsigned_abs());
        while self.node.held() > 0 && begun.elapsed() < patience {
            tokio::select! {
                Some((job, outcome)) = edges.finished.recv() => self.digested(*job, outcome).await?,
                Some(answer) = edges.answers.recv() => self.take(answered(answer)).await?,
                () = tokio::time::sleep(TICK) => self.take(Input::Tick).await?,
            }
        }
        self.deliveries().await?;
        self.take(Input::Stop).await?;
        self.producer.settled().await.context("the last records did not reach Kafka")?;
        tracing::info!(sent = self.sent, "stopped");
        Ok(())
    }

    async fn batch(&mut self, batch: Batch) -> anyhow::Result<()> {
        self.caught.extend(batch.caught);
        if let Some(age_ns) = batch.age_ns {
            self.metrics.read(age_ns);
        }
        if let Some(counters) = batch.counters {
            let lost = self.metrics.kernel(counters);
            if lost > 0 {
                tracing::warn!(lost, "the rings were full");
                self.take(Input::Lost(Loss::Ring, lost)).await?;
            }
        }
        self.take(Input::Records(batch.records)).await?;
        // What was not asked for by now is not needed.
        self.caught.clear();
        Ok(())
    }

    async fn digested(&mut self, job: DigestJob, outcome: DigestOutcome) -> anyhow::Result<()> {
        self.metrics.digest(digest_label(outcome.digest));
        self.take(Input::Digested(job.container, job.moment, outcome)).await
    }

    /// Gives the core an input, and does what it asks, until it asks nothing more.
    async fn take(&mut self, input: Input) -> anyhow::Result<()> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Effects::default();
            self.node.apply(self.clock.now_ns(), input, &mut effects)?;
            for (disposition, count) in effects.take_settled() {
                self.metrics.outcome(disposition, count);
            }
            for (event, count) in effects.take_counts() {
                self.metrics.event(event, count);
            }
            inputs.extend(effects.take_asks().into_iter().filter_map(|ask| self.answer(ask)));
            for outgoing in effects.take_outgoing() {
                inputs.extend(self.send(&outgoing).await);
            }
        }
        self.metrics.sizes(self.node.held(), self.node.container_count());
        Ok(())
    }

    /// Does what the core asks; what can be answered at once is.
    fn answer(&mut self, ask: Ask) -> Option<Input> {
        match ask {
            Ask::Describe(id) => match self.questions.try_send(id) {
                Ok(()) => None,
                Err(refused) => Some(Input::Described(refused.into_inner(), None)),
            },
            Ask::Digest(job) => {
                let caught = self.caught.remove(&job.moment).or_else(|| self.kept.take(job.moment));
                let (job, caught) = self.hasher.submit(job, caught)?;
                if let Some(caught) = caught {
                    self.kept.keep(&job.container, job.moment, caught);
                }
                Some(Input::NotHashed(job))
            }
            Ask::Keep(id, moment) => {
                if let Some(caught) = self.caught.remove(&moment) {
                    self.kept.keep(&id, moment, caught);
                }
                None
            }
            Ask::Drop(moment) => {
                self.kept.take(moment);
                None
            }
            Ask::Inspect(id, pid) => {
                let inspection = self.proc.inspect(&id, pid).map(Box::new);
                self.watched.insert(id.clone(), pid);
                Some(Input::Inspected(id, inspection))
            }
        }
    }

    /// Hands a record to the Kafka client. While its queue is full nothing is read, so the rings fill and the kernel
    /// counts; after the client's patience the record is lost and counted here.
    async fn send(&mut self, outgoing: &Outgoing) -> Option<Input> {
        match self.producer.send(outgoing.topic, &outgoing.key, &outgoing.value, &[]).await {
            Ok(()) => {
                self.sent += 1;
                self.metrics.sent.inc();
                None
            }
            Err(error) => {
                tracing::error!(%error, "record lost");
                self.metrics.not_sent.inc();
                Some(Input::Lost(Loss::Producer, 1))
            }
        }
    }

    /// Counts records that the client gave up on. The two numbers are read in this order so that a record which is
    /// acknowledged in between is not taken for a lost one.
    async fn deliveries(&mut self) -> anyhow::Result<()> {
        let in_flight = self.producer.in_flight();
        let acknowledged = self.producer.acknowledged();
        let failed = self.sent.saturating_sub(in_flight).saturating_sub(acknowledged);
        let newly = failed.saturating_sub(self.not_delivered);
        if newly > 0 {
            self.not_delivered = failed;
            self.metrics.not_sent.inc_by(newly);
            tracing::error!(lost = newly, "kafka did not take records in time");
            self.take(Input::Lost(Loss::Producer, newly)).await?;
        } else if acknowledged > self.acknowledged {
            self.take(Input::Delivered).await?;
        }
        self.acknowledged = acknowledged;
        Ok(())
    }

    async fn watch(&mut self) -> anyhow::Result<()> {
        let gone: Vec<ContainerId> =
            self.watched.iter().filter(|(id, pid)| !self.proc.belongs(id, **pid)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.watched.remove(&id);
            self.take(Input::Ended(id)).await?;
        }
        Ok(())
    }
}

fn answered(answer: Answer) -> Input {
    match answer {
        Answer::One(id, description) => Input::Described(id, description),
        Answer::All(all) => Input::Running(all),
    }
}

fn digest_label(digest: Digest) -> &'static str {
    match digest {
        Digest::Hashed(_) => "hashed",
        Digest::Changed => "changed",
        Digest::Gone => "gone",
        Digest::Unreadable => "unreadable",
        Digest::TooLarge => "too_large",
        Digest::RefusedFs => "refused_fs",
        Digest::OverBudget => "over_budget",
    }
}
