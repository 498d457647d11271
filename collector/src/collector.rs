//! The task that owns the pure core. The documentation of `Collector` describes its loop.

use anyhow::Context as _;
use driftline_collector_bpf::{Probe, ProbeConfig};
use driftline_collector_core::{Digest, DigestJob, DigestOutcome, ExecPipeline, Input, Loss, NodeSettings, limits};
use driftline_kafka::{KafkaError, admin};
use driftline_schemas::ContainerId;
use driftline_schemas::topics::Topic;
use driftline_service::clock::{self, SteadyClock, monotonic};
use driftline_service::shutdown;
use driftline_service::telemetry::Telemetry;
use driftline_service_core::Effects;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::commands::{Commands, Workers};
use crate::describer::{self, Answer};
use crate::hasher::{Finished, Hasher};
use crate::metrics::Metrics;
use crate::outbox::{self, KafkaClient, Outbox, OutboxSettings};
use crate::poll_schedule::PollIntervals;
use crate::proc::Proc;
use crate::reader::{self, Batch, Reader};
use crate::self_test::SelfTest;
use crate::settings::{CollectorSettings, HASH_QUEUE, HASH_THREADS};
use crate::strict::{Prepared, Strict};

/// Shortest time between two ticks of the core. A tick follows a batch of the rings, which comes at least every
/// [`reader::POLL`].
const TICK: Duration = Duration::from_millis(20);

/// How often the containers' first processes are checked.
const WATCH: Duration = Duration::from_secs(2);

/// Pause between attempts to reach a Kafka that was reached before.
const CHECK_AGAIN: Duration = Duration::from_secs(2);

/// How long a stopping collector waits for acknowledgements; what is not acknowledged by then stays in the spool.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT, in strict mode if that is prepared.
///
/// # Errors
/// When the settings, Kafka or the kernel do not allow it, or a thread or task stops.
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
    let (mut probe, maps) = Probe::load(&ProbeConfig {
        ordinary_ring_bytes: settings.ring_bytes,
        suspicious_ring_bytes: settings.suspicious_ring_bytes,
        host_mnt_ns: node.host_mnt_ns,
    })?;
    prove(&mut probe, self_test)?;
    outbox.attached(clock::now_ns());
    tracing::info!(%address, node = node.node.name, cluster = node.node.cluster, "collector is attached");
    let start = |prepared| Strict::start(prepared, &proc, settings.hash_file_bytes_max, metrics.strict());
    let strict = strict.map(start).transpose()?;
    let (mut channels, hasher, questions) = InputChannels::start(&settings, &proc, probe, checked, strict.as_ref())?;
    let commands = Commands::new(proc, Workers { hasher, questions, maps, strict });
    let mut collector = Collector::new(node, outbox, metrics, commands);
    telemetry.set_ready();
    collector.work(&mut channels, stopped).await?;
    collector.finish(&mut channels).await
}

/// Proves that what the kernel program reads is true on this kernel. Nothing is reported before.
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

/// Reports whether the topic is as configured, as soon as Kafka answers. Nothing is sent to a topic that is not.
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

/// Where inputs come from: each channel has a thread or a task at its other end.
struct InputChannels {
    batches: mpsc::Receiver<Batch>,
    finished: mpsc::Receiver<Finished>,
    answers: mpsc::Receiver<Answer>,
    /// Whether the topic is as configured, where that was not known at the start.
    checked: mpsc::Receiver<Result<(), KafkaError>>,
    stop_reading: Arc<AtomicBool>,
}

impl InputChannels {
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

/// The collector's task and its state.
///
/// The loop in `work` waits for one of the [`InputChannels`]: a batch of the rings, a finished digest, a description, or the
/// time. Each becomes one or more [`Input`]s, and `take` gives an input to the core: [`ExecPipeline::apply`] decides, the
/// records that it emits go to the [`Outbox`], and its commands go to [`Commands`]. A command that can be answered at once
/// yields the next input, until there is none. Nothing here waits for a file, a runtime or Kafka.
struct Collector {
    pipeline: ExecPipeline,
    clock: SteadyClock,
    outbox: Outbox<KafkaClient>,
    metrics: Metrics,
    commands: Commands,
    ticked: Instant,
}

impl Collector {
    fn new(node: NodeSettings, outbox: Outbox<KafkaClient>, metrics: Metrics, commands: Commands) -> Self {
        let mut clock = SteadyClock::default();
        let pipeline = ExecPipeline::new(node, clock.now_ns());
        Self { pipeline, clock, outbox, metrics, commands, ticked: monotonic() }
    }

    async fn work(
        &mut self,
        channels: &mut InputChannels,
        stopped: impl Future<Output = &'static str>,
    ) -> anyhow::Result<()> {
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
                // Rare inputs first: under load there is always a batch.
                _ = watch.tick() => self.watch()?,
                Some(checked) = channels.checked.recv() => {
                    checked?;
                    self.outbox.open_gate();
                }
                Some(answer) = channels.answers.recv() => self.answered(answer)?,
                Some((job, outcome)) = channels.finished.recv() => self.digested(*job, outcome)?,
                batch = channels.batches.recv() => self.batch(batch.context("the ring reader has stopped")?)?,
            }
        }
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.ticked = monotonic();
        self.take(Input::Tick)?;
        self.outbox.tick(self.clock.now_ns(), self.pipeline.held());
        self.metrics.outbox(&self.outbox.numbers());
        if self.outbox.take_containers_lost() {
            self.take(Input::ContainersLost)?;
        }
        Ok(())
    }

    /// Reads what is left, waits within bounds for what was begun, and sends all of it.
    async fn finish(&mut self, channels: &mut InputChannels) -> anyhow::Result<()> {
        channels.stop_reading.store(true, Ordering::Release);
        while let Some(batch) = channels.batches.recv().await {
            self.batch(batch)?;
        }
        let begun = monotonic();
        let patience = Duration::from_nanos(limits::DIGEST_WAIT.unsigned_abs());
        while self.pipeline.held() > 0 && begun.elapsed() < patience {
            tokio::select! {
                Some((job, outcome)) = channels.finished.recv() => self.digested(*job, outcome)?,
                Some(answer) = channels.answers.recv() => self.answered(answer)?,
                () = tokio::time::sleep(TICK) => self.take(Input::Tick)?,
            }
        }
        self.take(Input::Stop)?;
        let begun = monotonic();
        while !self.outbox.is_settled() && begun.elapsed() < SETTLE_MAX {
            tokio::time::sleep(TICK).await;
            self.outbox.tick(self.clock.now_ns(), self.pipeline.held());
        }
        self.outbox.close(self.clock.now_ns());
        let numbers = self.outbox.numbers();
        self.metrics.outbox(&numbers);
        tracing::info!(spooled = numbers.spool_records, "stopped");
        Ok(())
    }

    fn batch(&mut self, batch: Batch) -> anyhow::Result<()> {
        let Batch { records, captured, age_ns, counters, has_uncontained } = batch;
        // Namespaces show something of containers that run only.
        if has_uncontained {
            self.watch()?;
        }
        self.commands.take_captured(captured);
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
        self.commands.drop_captured();
        if self.ticked.elapsed() >= TICK { self.tick() } else { Ok(()) }
    }

    fn answered(&mut self, answer: Answer) -> anyhow::Result<()> {
        match answer {
            Answer::One(id, description) => self.take(Input::Described(id, description)),
            Answer::All(all) => self.take(Input::Running(all)),
            Answer::Gone(ids) => {
                // Where the first process is known, the kernel decides whether it is gone.
                self.watch()?;
                let unwatched: Vec<_> = ids.into_iter().filter(|id| !self.commands.watches(id)).collect();
                unwatched.into_iter().try_for_each(|id| self.take(Input::Ended(id)))
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

    /// Gives the core an input and carries out its commands, until none of them has an answer at once.
    fn take(&mut self, input: Input) -> anyhow::Result<()> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let (mut effects, now_ns) = (Effects::default(), self.clock.now_ns());
            self.pipeline.apply(now_ns, input, &mut effects)?;
            for (disposition, count) in effects.take_settled() {
                self.metrics.outcome(disposition, count);
            }
            for (event, count) in effects.take_counts() {
                self.metrics.event(event, count);
            }
            inputs.extend(effects.take_commands().into_iter().filter_map(|command| self.commands.carry_out(command)));
            for outgoing in effects.take_outgoing() {
                self.outbox.push(now_ns, outgoing);
            }
        }
        self.metrics.sizes(self.pipeline.held(), self.pipeline.container_count());
        Ok(())
    }

    fn watch(&mut self) -> anyhow::Result<()> {
        self.commands.take_gone().into_iter().try_for_each(|id| self.take(Input::Ended(id)))
    }
}

fn digest_label(digest: Digest) -> &'static str {
    match digest {
        Digest::Hashed(_) => "hashed",
        Digest::Unsettled(_) | Digest::Changed => "changed",
        Digest::Gone => "gone",
        Digest::Unreadable => "unreadable",
        Digest::TooLarge => "too_large",
        Digest::RefusedFs => "refused_fs",
        Digest::OverBudget => "over_budget",
    }
}
