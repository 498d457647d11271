//! The task that owns the core: takes what comes from its edges, lets the core decide, does what it asks.

use anyhow::Context as _;
use driftline_collector_bpf::{KnownFiles, Probe, ProbeConfig};
use driftline_collector_core::{
    Ask, Digest, DigestJob, DigestOutcome, Input, Loss, Moment, Node, NodeSettings, limits,
};
use driftline_kafka::{KafkaError, admin};
use driftline_schemas::ContainerId;
use driftline_schemas::topics::Topic;
use driftline_service::clock::{self, SteadyClock, monotonic};
use driftline_service::shutdown;
use driftline_service::telemetry::Telemetry;
use driftline_service_core::Effects;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::describer::{self, Answer};
use crate::files::Caught;
use crate::hasher::{Finished, Hasher};
use crate::kept::KeptFiles;
use crate::metrics::Metrics;
use crate::outbox::{self, KafkaClient, Outbox, OutboxSettings};
use crate::poll_schedule::PollIntervals;
use crate::proc::Proc;
use crate::reader::{self, Batch, Reader};
use crate::self_test::SelfTest;
use crate::settings::{CollectorSettings, HASH_QUEUE, HASH_THREADS};
use crate::strict::{Prepared, Strict};

/// How often the core is told the time at most. It is told with what the rings had, which comes at least every
/// [`reader::POLL`].
const TICK: Duration = Duration::from_millis(20);

/// How often the containers' first processes are looked for.
const WATCH: Duration = Duration::from_secs(2);

/// Pause between tries to reach a Kafka that was reached before.
const CHECK_AGAIN: Duration = Duration::from_secs(2);

/// How long a stopping collector waits for acknowledgements; what is not acknowledged by then stays in the spool.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT, in strict mode if that is prepared.
///
/// # Errors
/// When the settings, Kafka or the kernel do not allow it, or a part stops.
pub async fn run(settings: CollectorSettings, self_test: SelfTest, strict: Option<Prepared>) -> anyhow::Result<()> {
    let telemetry = Telemetry::new("collector");
    let metrics = Metrics::register(&telemetry)?;
    let address = telemetry.serve(settings.telemetry).await?;
    let mut stopped = std::pin::pin!(shutdown::signalled()?);
    let proc = Proc::at(&settings.runtimes.proc);
    let node = NodeSettings {
        node: settings.node.clone(),
        boot_id: proc.boot_id(),
        collector_start: proc.unique_id(),
        host_mnt_ns: proc.host_mount_namespace(),
        redaction: settings.redaction.clone(),
    };
    let mut outbox = Outbox::new(outbox_settings(&settings, &node), KafkaClient::new(&settings.kafka)?)?;
    let checked = if outbox.was_attached() {
        check_until_known(&settings)
    } else {
        tokio::select! {
            ready = kafka_is_ready(&settings) => ready?,
            _ = &mut stopped => return Ok(()),
        }
        outbox.open_gate();
        mpsc::channel(1).1
    };
    let (mut probe, known_files) = Probe::load(&ProbeConfig {
        ordinary_ring_bytes: settings.ring_bytes,
        suspicious_ring_bytes: settings.suspicious_ring_bytes,
        host_mnt_ns: node.host_mnt_ns,
    })?;
    prove(&mut probe, self_test)?;
    outbox.attached(clock::now_ns());
    tracing::info!(%address, node = node.node.name, cluster = node.node.cluster, "collector is attached");
    let start = |prepared| Strict::start(prepared, &proc, settings.hash_file_bytes_max, metrics.strict());
    let strict = strict.map(start).transpose()?;
    let (mut edges, hasher, questions) = Edges::start(&settings, &proc, probe, checked, strict.as_ref())?;
    let asked = Asked { hasher, questions, known_files, strict };
    let mut collector = Collector::new(node, proc, outbox, metrics, asked);
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

fn outbox_settings(settings: &CollectorSettings, node: &NodeSettings) -> OutboxSettings {
    OutboxSettings {
        directory: settings.spool_directory.clone(),
        bytes_max: settings.spool_bytes_max,
        node: node.node.clone(),
        collector_start: node.collector_start.clone(),
        boot_id: node.boot_id.clone(),
        origin: outbox::origin_of(&settings.kafka),
    }
}

async fn kafka_is_ready(settings: &CollectorSettings) -> Result<(), KafkaError> {
    admin::wait(&settings.kafka, settings.kafka_wait).await?;
    admin::check(&settings.kafka, &[Topic::ExecEvents]).await
}

/// Says whether the topic is as configured as soon as Kafka answers. Nothing is sent to a topic that is not.
fn check_until_known(settings: &CollectorSettings) -> mpsc::Receiver<Result<(), KafkaError>> {
    let (known, checked) = mpsc::channel(1);
    let settings = settings.clone();
    tokio::spawn(async move {
        while !known.is_closed() {
            match kafka_is_ready(&settings).await {
                result @ (Ok(()) | Err(KafkaError::NoTopic(_) | KafkaError::PartitionCount { .. })) => {
                    let _ = known.send(result).await;
                    return;
                }
                Err(error) => tracing::warn!(%error, "records are spooled until kafka answers"),
            }
            tokio::time::sleep(CHECK_AGAIN).await;
        }
    });
    checked
}

/// Where inputs come from.
struct Edges {
    batches: mpsc::Receiver<Batch>,
    finished: mpsc::Receiver<Finished>,
    answers: mpsc::Receiver<Answer>,
    /// Whether the topic is as configured, where that was not known at the start.
    checked: mpsc::Receiver<Result<(), KafkaError>>,
    stop_reading: Arc<AtomicBool>,
}

impl Edges {
    fn start(
        settings: &CollectorSettings,
        proc: &Proc,
        probe: Probe,
        checked: mpsc::Receiver<Result<(), KafkaError>>,
        strict: Option<&Arc<Strict>>,
    ) -> anyhow::Result<(Self, Hasher, mpsc::Sender<ContainerId>)> {
        let (batch_sender, batches) = mpsc::channel(reader::BATCHES);
        let (finished_sender, finished) = mpsc::channel(HASH_QUEUE);
        let (questions, question_receiver) = mpsc::channel(describer::QUESTION_QUEUE);
        let (answer_sender, answers) = mpsc::channel(describer::QUESTION_QUEUE);
        let stop_reading = Arc::new(AtomicBool::new(false));
        let hasher =
            Hasher::start(proc, HASH_THREADS, HASH_QUEUE, settings.hash_file_bytes_max, &finished_sender, strict)?;
        describer::start(
            settings.runtimes.clone(),
            &settings.kubernetes,
            PollIntervals::default(),
            question_receiver,
            answer_sender,
        );
        let reader = Reader::new(probe, proc.clone(), settings.hash_file_bytes_max);
        reader.start(Arc::clone(&stop_reading), batch_sender)?;
        Ok((Self { batches, finished, answers, checked, stop_reading }, hasher, questions))
    }
}

/// Who is asked.
struct Asked {
    hasher: Hasher,
    questions: mpsc::Sender<ContainerId>,
    known_files: KnownFiles,
    strict: Option<Arc<Strict>>,
}

struct Collector {
    node: Node,
    clock: SteadyClock,
    proc: Proc,
    outbox: Outbox<KafkaClient>,
    metrics: Metrics,
    asked: Asked,
    /// First processes of containers.
    watched: BTreeMap<ContainerId, i32>,
    /// Executables that were caught for the batch at hand.
    caught: BTreeMap<Moment, Caught>,
    /// Those whose hashing has to wait.
    kept: KeptFiles,
    ticked: Instant,
}

impl Collector {
    fn new(node: NodeSettings, proc: Proc, outbox: Outbox<KafkaClient>, metrics: Metrics, asked: Asked) -> Self {
        let mut clock = SteadyClock::default();
        Self {
            node: Node::new(node, clock.now_ns()),
            clock,
            proc,
            outbox,
            metrics,
            asked,
            watched: BTreeMap::new(),
            caught: BTreeMap::new(),
            kept: KeptFiles::default(),
            ticked: monotonic(),
        }
    }

    async fn work(&mut self, edges: &mut Edges, stopped: impl Future<Output = &'static str>) -> anyhow::Result<()> {
        tokio::pin!(stopped);
        let mut watch = interval(WATCH);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                signal = &mut stopped => {
                    tracing::info!(signal, "stopping");
                    return Ok(());
                }
                // What comes seldom first: under load there is always a batch.
                _ = watch.tick() => self.watch()?,
                Some(checked) = edges.checked.recv() => {
                    checked?;
                    self.outbox.open_gate();
                }
                Some(answer) = edges.answers.recv() => self.told(answer)?,
                Some((job, outcome)) = edges.finished.recv() => self.digested(*job, outcome)?,
                batch = edges.batches.recv() => self.batch(batch.context("the ring reader has stopped")?)?,
            }
        }
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.ticked = monotonic();
        self.take(Input::Tick)?;
        self.outbox.tick(self.clock.now_ns(), self.node.held());
        self.metrics.outbox(&self.outbox.numbers());
        if self.outbox.take_containers_lost() {
            self.take(Input::ContainersLost)?;
        }
        Ok(())
    }

    /// Reads what is left, finishes what was begun within its time, sends all of it.
    async fn finish(&mut self, edges: &mut Edges) -> anyhow::Result<()> {
        edges.stop_reading.store(true, Ordering::Release);
        while let Some(batch) = edges.batches.recv().await {
            self.batch(batch)?;
        }
        let begun = monotonic();
        let patience = Duration::from_nanos(limits::DIGEST_WAIT.unsigned_abs());
        while self.node.held() > 0 && begun.elapsed() < patience {
            tokio::select! {
                Some((job, outcome)) = edges.finished.recv() => self.digested(*job, outcome)?,
                Some(answer) = edges.answers.recv() => self.told(answer)?,
                () = tokio::time::sleep(TICK) => self.take(Input::Tick)?,
            }
        }
        self.take(Input::Stop)?;
        let begun = monotonic();
        while !self.outbox.is_settled() && begun.elapsed() < SETTLE_MAX {
            tokio::time::sleep(TICK).await;
            self.outbox.tick(self.clock.now_ns(), self.node.held());
        }
        self.outbox.close(self.clock.now_ns());
        let numbers = self.outbox.numbers();
        self.metrics.outbox(&numbers);
        tracing::info!(spooled = numbers.spool_records, "stopped");
        Ok(())
    }

    fn batch(&mut self, batch: Batch) -> anyhow::Result<()> {
        let Batch { records, caught, age_ns, counters } = batch;
        self.caught.extend(caught);
        if let Some(age_ns) = age_ns {
            self.metrics.read(age_ns);
        }
        if let Some(counters) = counters {
            let lost = self.metrics.kernel(counters);
            if lost > 0 {
                tracing::warn!(lost, "the rings were full");
                self.take(Input::Lost(Loss::Ring, lost))?;
            }
        }
        let read_ns = records.complete_until();
        self.take(Input::Records(records))?;
        self.outbox.has_read(read_ns);
        // What was not asked for by now is not needed.
        self.caught.clear();
        if self.ticked.elapsed() >= TICK { self.tick() } else { Ok(()) }
    }

    fn told(&mut self, answer: Answer) -> anyhow::Result<()> {
        match answer {
            Answer::One(id, description) => self.take(Input::Described(id, description)),
            Answer::All(all) => self.take(Input::Running(all)),
            Answer::Gone(ids) => {
                // Of those whose first process is known the kernel says whether it is true.
                self.watch()?;
                let unwatched = ids.into_iter().filter(|id| !self.watched.contains_key(id));
                unwatched.collect::<Vec<_>>().into_iter().try_for_each(|id| self.take(Input::Ended(id)))
            }
            Answer::Placed(placement) => self.take(Input::Placed(placement)),
            Answer::Trouble(trouble) => {
                self.metrics.api_trouble(trouble.label());
                Ok(())
            }
        }
    }

    fn digested(&mut self, job: DigestJob, outcome: DigestOutcome) -> anyhow::Result<()> {
        self.metrics.digest(digest_label(outcome.digest));
        self.take(Input::Digested(job.container, job.moment, outcome))
    }

    /// Gives the core an input, and does what it asks, until it asks nothing more.
    fn take(&mut self, input: Input) -> anyhow::Result<()> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let (mut effects, now_ns) = (Effects::default(), self.clock.now_ns());
            self.node.apply(now_ns, input, &mut effects)?;
            for (disposition, count) in effects.take_settled() {
                self.metrics.outcome(disposition, count);
            }
            for (event, count) in effects.take_counts() {
                self.metrics.event(event, count);
            }
            inputs.extend(effects.take_asks().into_iter().filter_map(|ask| self.answer(ask)));
            for outgoing in effects.take_outgoing() {
                self.outbox.push(now_ns, outgoing);
            }
        }
        self.metrics.sizes(self.node.held(), self.node.container_count());
        Ok(())
    }

    /// Does what the core asks; what can be answered at once is.
    fn answer(&mut self, ask: Ask) -> Option<Input> {
        match ask {
            Ask::Describe(id) => match self.asked.questions.try_send(id) {
                Ok(()) => None,
                Err(refused) => Some(Input::Described(refused.into_inner(), None)),
            },
            Ask::Digest(job) => {
                let caught = self.caught.remove(&job.moment).or_else(|| self.kept.take(job.moment));
                let (job, caught) = self.asked.hasher.submit(job, caught)?;
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
            Ask::Know(file) => {
                if let Err(error) = self.asked.known_files.know(file) {
                    tracing::error!(%error, "the kernel program does not learn which files are known");
                }
                None
            }
            Ask::Inspect(id, pid) => {
                let inspection = self.proc.inspect(&id, pid).map(Box::new);
                if let (Some(strict), Some(_)) = (&self.asked.strict, &inspection) {
                    strict.watch(&id, pid);
                }
                self.watched.insert(id.clone(), pid);
                Some(Input::Inspected(id, inspection))
            }
        }
    }

    fn watch(&mut self) -> anyhow::Result<()> {
        let gone: Vec<ContainerId> =
            self.watched.iter().filter(|(id, pid)| !self.proc.belongs(id, **pid)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.watched.remove(&id);
            self.take(Input::Ended(id))?;
        }
        Ok(())
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
