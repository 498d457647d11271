//! The loop around an [`Executor`]: input, commits, counters.
//!
//! One task owns the executor, its core and everything here; channels exist only at the boundaries (the Kafka threads
//! and the shell's own tasks). The executor handles input, commits, aborts and partitions, in the same way as in the
//! simulation; this module has the clock, the waiting and the metrics.

mod joining;
mod metrics;
mod stopping;

use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep, timeout};

use driftline_kafka::{ClientSettings, Done, GroupEvent, GroupReader, KafkaError, KafkaLog, Reach, Record};
use driftline_schemas::topics::Topic;
use driftline_service_core::{BrokenInvariant, Counts, Executor, Pending, Stage, Stop};

use crate::clock::SteadyClock;
use crate::log_limit::LogLimit;
use crate::settings::Identity;
use crate::telemetry::Telemetry;
use joining::{Joining, Rejoins};
use metrics::LoopMetrics;
use stopping::Stopping;

/// Interval of commits while output waits.
const COMMIT_WITH_OUTPUT: Duration = Duration::from_millis(20);
/// Interval of commits without output.
const COMMIT_IDLE: Duration = Duration::from_millis(100);
/// A transaction with this much output is committed at once: a broker that accepts 1 MiB a second still acknowledges it
/// within the transaction timeout.
const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Interval of ticks to the core.
const TICK: Duration = Duration::from_millis(100);
/// Interval of ticks while more is due than one tick does: waiting records are taken in between.
const TICK_AGAIN: Duration = COMMIT_WITH_OUTPUT;
/// Records older than this when they are read belong to a backlog.
const BACKLOG_AGE: Duration = Duration::from_secs(2);
/// Without a record for this long there is no backlog; the broker answers a fetch within 50 ms.
const BACKLOG_IDLE: Duration = Duration::from_millis(500);
/// How long ending a membership may take: at the end of the process, and before the service joins again.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Why a service stopped without a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Kafka refused a request, or was unreachable for longer than the client waits.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The core contradicts itself; a defect.
    #[error(transparent)]
    Broken(#[from] BrokenInvariant),
    /// Transactions fail repeatedly.
    #[error(transparent)]
    Aborting(Stop<KafkaError>),
    /// State was lost.
    #[error(transparent)]
    StateLost(Stop<KafkaError>),
    /// The shell failed.
    #[error(transparent)]
    Shell(Box<dyn std::error::Error + Send + Sync>),
    /// A metric could not be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl From<Stop<KafkaError>> for ServiceError {
    fn from(stop: Stop<KafkaError>) -> Self {
        match stop {
            Stop::Broken(error) => Self::Broken(error),
            Stop::Log(error) => Self::Kafka(error),
            Stop::Aborting(_) => Self::Aborting(stop),
            Stop::StateLost { .. } => Self::StateLost(stop),
        }
    }
}

/// The service-specific part of the loop.
pub trait Shell: Send {
    /// The pure core.
    type Stage: Stage;

    /// The tick for the core, or `None` if the core must not receive it while a backlog is read.
    fn tick(&mut self, backlog: Backlog) -> Option<<Self::Stage as Stage>::Input>;

    /// Publishes figures of the core, with each tick.
    fn observe(&mut self, _core: &Self::Stage) {}

    /// Starts a command of the core; its result is returned by [`Shell::next`].
    fn command(&mut self, command: <Self::Stage as Stage>::Command);

    /// The next input that is not from the input topic; pending for ever when there is none. It must be safe to drop
    /// and call again.
    fn next(&mut self) -> impl Future<Output = Result<<Self::Stage as Stage>::Input, ServiceError>> + Send;
}

/// Whether the records being read are old, as after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// Records are read as they are produced, or none arrive.
    None,
    /// Records are read that were produced a while ago; more of them are likely.
    Reading,
}

/// The topics of a service, and its identity.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Name of the service, in dead letters, metrics and the names of its group and transactions.
    pub service: &'static str,
    /// Input topic.
    pub input: Topic,
    /// Changelog; its partitions correspond to the input's.
    pub state: Topic,
    /// The instance, and its delivery guarantee.
    pub identity: Identity,
    /// How long requests of the start are repeated.
    pub kafka_wait: Duration,
}

/// A running service.
pub struct Service<S: Shell> {
    shell: S,
    executor: Executor<S::Stage, KafkaLog>,
    reader: GroupReader,
    joining: Joining,
    rejoins: Rejoins,
    metrics: LoopMetrics,
    telemetry: Telemetry,
    clock: SteadyClock,
    last_commit: Instant,
    /// When the last record was read, and its age at that time.
    last_record: Option<(Instant, Duration)>,
    ready: Ready,
    dead_letter_lines: LogLimit,
}

/// The conditions of readiness.
#[derive(Debug, Default)]
struct Ready {
    is_restored: bool,
    is_kafka_away: bool,
}

/// The state in which the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Open work can be committed.
    BetweenSteps,
    /// A step was dropped unfinished; nothing can be committed.
    WithinStep,
}

/// The next step of the loop.
enum Next<I> {
    Commit,
    Tick,
    Input(I),
    Event(Option<GroupEvent>),
}

impl<S: Shell> Service<S> {
    /// Takes over from a predecessor with the same name and joins the group. Everything the shell needs before the
    /// first record must be ready; the service itself is ready when its assigned partitions, possibly none, are
    /// restored.
    ///
    /// # Errors
    /// When the client refuses its settings, the cluster does not answer or a metric cannot be registered.
    pub async fn join(
        membership: Membership,
        shell: S,
        stage: S::Stage,
        kafka: &ClientSettings,
        telemetry: &Telemetry,
    ) -> Result<Self, ServiceError> {
        let joining = Joining { membership, kafka: kafka.clone() };
        let (log, reader) = joining.join(joining.membership.kafka_wait).await?;
        Ok(Self {
            shell,
            executor: Executor::new(joining.roles(), stage, log),
            reader,
            joining,
            rejoins: Rejoins::default(),
            metrics: LoopMetrics::register(telemetry)?,
            telemetry: telemetry.clone(),
            clock: SteadyClock::default(),
            last_commit: Instant::now(),
            last_record: None,
            ready: Ready::default(),
            dead_letter_lines: LogLimit::default(),
        })
    }

    /// Runs until `stop` resolves, then finishes open work. When Kafka's clients cannot continue, everything not
    /// committed is undone and the service joins again, with new clients, as soon as Kafka is back.
    ///
    /// # Errors
    /// Every [`ServiceError`] ends the process; the next instance reads uncommitted input again.
    pub async fn run(mut self, stop: impl Future<Output = &'static str>) -> Result<(), ServiceError> {
        let mut stop = std::pin::pin!(stop);
        let mut stopping = Stopping::new(stop.as_mut());
        loop {
            let error = match self.work(&mut stopping).await {
                Ok(left) => return self.end(left, &mut stopping).await,
                Err(error) => error,
            };
            let Some(pause) = self.rejoins.allow(&error) else { return Err(error) };
            self = tokio::select! {
                biased;
                joined = self.join_anew(&error, pause) => joined?,
                () = stopping.asked() => return Ok(()),
            };
        }
    }

    /// Runs until it is signalled to end.
    async fn work<F: Future<Output = &'static str>>(
        &mut self,
        stopping: &mut Stopping<'_, F>,
    ) -> Result<Left, ServiceError> {
        let (mut tick, mut commit) = (every(TICK), every(COMMIT_WITH_OUTPUT));
        loop {
            let next = tokio::select! {
                biased;
                () = stopping.asked() => return Ok(Left::BetweenSteps),
                _ = commit.tick() => Next::Commit,
                _ = tick.tick() => Next::Tick,
                input = self.shell.next() => Next::Input(input?),
                event = self.reader.next() => Next::Event(event),
            };
            let is_tick = matches!(next, Next::Tick);
            match stopping.bound(self.step(next)).await {
                Some(done) => done?,
                None => return Ok(Left::WithinStep),
            }
            if is_tick {
                self.shell.observe(self.executor.stage());
                if self.executor.stage().has_due(self.clock.now_ns()) {
                    tick.reset_after(TICK_AGAIN);
                }
            }
        }
    }

    async fn step(&mut self, next: Next<<S::Stage as Stage>::Input>) -> Result<(), ServiceError> {
        match next {
            Next::Commit => {}
            Next::Tick => {
                self.dead_letter_lines.log_left_out("dead letters");
                let backlog = self.backlog();
                if let Some(input) = self.shell.tick(backlog) {
                    self.apply(input).await?;
                }
            }
            Next::Input(input) => self.apply(input).await?,
            Next::Event(event) => self.take(event).await?,
        }
        self.pass_on_commands();
        self.commit_when_due().await
    }

    /// Commits open work and leaves the group.
    async fn end<F: Future<Output = &'static str>>(
        mut self,
        left: Left,
        stopping: &mut Stopping<'_, F>,
    ) -> Result<(), ServiceError> {
        let committed = match left {
            Left::BetweenSteps => stopping.bound(self.commit()).await,
            Left::WithinStep => None,
        };
        match committed {
            Some(committed) => committed?,
            None => tracing::warn!("kafka does not answer; the next instance reads again what was not committed"),
        }
        let (_, log, _) = self.executor.end(String::new());
        close(log, self.reader).await;
        Ok(())
    }

    /// Drops the state of the old clients, and makes new clients as soon as Kafka is back.
    async fn join_anew(mut self, error: &ServiceError, pause: Duration) -> Result<Self, ServiceError> {
        tracing::warn!(%error, "what was not committed is undone; joining anew as soon as kafka allows it");
        self.telemetry.set_unready("joining kafka anew");
        self.pass_on_commands();
        let static_member = self.reader.static_member();
        let (stage, log, counts) = self.executor.end(error.to_string());
        self.metrics.publish(Duration::ZERO, counts);
        self.metrics.assigned(0);
        close(log, self.reader).await;
        sleep(pause).await;
        let (log, reader) = self.joining.join_anew(&static_member).await?;
        self.metrics.rejoined();
        let executor = Executor::new(self.joining.roles(), stage, log);
        let (last_commit, last_record, ready) = (Instant::now(), None, Ready::default());
        let joined = Self { executor, reader, last_commit, last_record, ready, ..self };
        joined.show_readiness();
        Ok(joined)
    }

    fn show_readiness(&self) {
        match self.ready {
            Ready { is_kafka_away: true, .. } => self.telemetry.set_unready("no kafka broker answers"),
            Ready { is_restored: false, .. } => self.telemetry.set_unready("taking over partitions"),
            Ready { .. } => self.telemetry.set_ready(),
        }
    }

    async fn take(&mut self, event: Option<GroupEvent>) -> Result<(), ServiceError> {
        match event {
            Some(GroupEvent::Batch(records)) => self.take_batch(&records).await?,
            Some(GroupEvent::Assigned(partitions)) => self.assign(&partitions).await?,
            Some(GroupEvent::Resumed(partitions)) => {
                self.executor.resumed(&partitions);
                self.ready.is_restored = true;
                self.show_readiness();
            }
            Some(GroupEvent::Reach(reach)) => {
                self.ready.is_kafka_away = reach == Reach::Away;
                self.show_readiness();
            }
            Some(GroupEvent::Revoked(partitions, done)) => {
                tracing::info!(?partitions, "revoked");
                finish(self.revoke(&partitions).await, done)?;
            }
            Some(GroupEvent::Lost(partitions, done)) => {
                tracing::warn!(?partitions, "lost: the group has not heard of this instance for a session");
                self.ready.is_restored = false;
                self.show_readiness();
                finish(self.lose(&partitions).await, done)?;
            }
            Some(GroupEvent::Failed(error)) => return Err(error.into()),
            None => return Err(ServiceError::Shell("the kafka reader ended".into())),
        }
        Ok(())
    }

    async fn assign(&mut self, partitions: &[i32]) -> Result<(), ServiceError> {
        tracing::info!(?partitions, "assigned");
        let began = Instant::now();
        self.executor.assign(self.clock.now_ns(), partitions).await?;
        tracing::info!(?partitions, seconds = began.elapsed().as_secs_f64(), "state restored");
        self.metrics.restored(began.elapsed(), self.executor.partitions().count());
        Ok(())
    }

    async fn revoke(&mut self, partitions: &[i32]) -> Result<(), ServiceError> {
        let began = Instant::now();
        let counts = self.executor.revoke(self.clock.now_ns(), partitions).await?;
        self.publish(began.elapsed(), counts);
        Ok(())
    }

    async fn lose(&mut self, partitions: &[i32]) -> Result<(), ServiceError> {
        self.executor.lose(self.clock.now_ns(), partitions).await?;
        self.metrics.assigned(self.executor.partitions().count());
        Ok(())
    }

    async fn take_batch(&mut self, records: &[Record]) -> Result<(), ServiceError> {
        if let Some(last) = records.last() {
            self.note_age(last);
        }
        for record in records {
            if let Some(reason) = self.executor.record(self.clock.now_ns(), record).await? {
                self.log_dead_letter(record, &reason);
            }
            self.pass_on_commands();
            if self.executor.sent_bytes() > TRANSACTION_BYTES_MAX {
                self.commit().await?;
            }
        }
        Ok(())
    }

    /// Logs a dead letter, which is counted as `driftline_records_settled_total{disposition="dead_lettered"}`.
    fn log_dead_letter(&mut self, record: &Record, reason: &str) {
        if let Some(left_out) = self.dead_letter_lines.admit() {
            let Record { partition, offset, .. } = *record;
            tracing::warn!(partition, offset, reason, left_out, "dead letter");
        }
    }

    async fn apply(&mut self, input: <S::Stage as Stage>::Input) -> Result<(), ServiceError> {
        Ok(self.executor.input(self.clock.now_ns(), input).await?)
    }

    fn pass_on_commands(&mut self) {
        for command in self.executor.take_commands() {
            self.shell.command(command);
        }
    }

    /// The backlog by the last record's age; a reader that has been idle for a moment has none.
    fn backlog(&self) -> Backlog {
        let idle = self.last_record.is_none_or(|(at, _)| at.elapsed() > BACKLOG_IDLE);
        let old = self.last_record.is_some_and(|(_, age)| age > BACKLOG_AGE);
        if old && !idle { Backlog::Reading } else { Backlog::None }
    }

    /// Called once for each batch, whose records were read together.
    fn note_age(&mut self, record: &Record) {
        let produced_ns = record.timestamp_ms.saturating_mul(1_000_000);
        let age_ns = u64::try_from(self.clock.now_ns().saturating_sub(produced_ns)).unwrap_or(0);
        self.last_record = Some((Instant::now(), Duration::from_nanos(age_ns)));
    }

    async fn commit_when_due(&mut self) -> Result<(), ServiceError> {
        let due = match self.executor.pending() {
            Pending::Output => COMMIT_WITH_OUTPUT,
            Pending::Progress | Pending::Nothing => COMMIT_IDLE,
        };
        let full = self.executor.sent_bytes() > TRANSACTION_BYTES_MAX;
        if full || self.last_commit.elapsed() >= due { self.commit().await } else { Ok(()) }
    }

    async fn commit(&mut self) -> Result<(), ServiceError> {
        let began = Instant::now();
        let counts = self.executor.commit(self.clock.now_ns()).await?;
        if counts.commits > 0 {
            self.rejoins.worked();
        }
        self.publish(began.elapsed(), counts);
        self.last_commit = Instant::now();
        Ok(())
    }

    fn publish(&self, took: Duration, counts: Counts) {
        for why in &counts.aborts {
            tracing::warn!(why, "transaction aborted, state restored");
        }
        self.metrics.publish(took, counts);
        self.metrics.rebalances_forced(self.reader.take_forced_rebalances());
        self.metrics.assigned(self.executor.partitions().count());
    }
}

/// Ends a membership. A client with a stuck call is left behind.
async fn close(log: KafkaLog, reader: GroupReader) {
    let closing = async {
        // The log holds the membership too; closing the reader waits for every holder.
        log.close().await;
        reader.close().await;
    };
    if timeout(CLOSE_MAX, closing).await.is_err() {
        tracing::warn!(
            seconds = CLOSE_MAX.as_secs(),
            "the kafka client does not end its membership; going on without it"
        );
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Lets the group continue, unless this member failed: a fenced member must not join again in its successor's place.
fn finish(result: Result<(), ServiceError>, done: Done) -> Result<(), ServiceError> {
    if result.is_ok() {
        drop(done)
    } else {
        done.never()
    }
    result
}
