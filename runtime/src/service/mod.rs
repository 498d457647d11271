//! The loop around a pure core: input, `apply`, effects, acknowledgement, commit.
//!
//! One task owns the core and everything here; channels exist only at the edges (the Kafka threads and the shell's own
//! tasks). Delivery is at least once: offsets are committed after every effect of the records before them is
//! acknowledged, and never past the oldest record that the core still holds ([`Stage::oldest_needed`]), so a restarted
//! instance reads again what its lost state was made of. Ids are deterministic, so a repeat is recognisable.

mod metrics;

use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

use driftline_kafka::{GroupEvent, GroupReader, KafkaError, Offsets, Producer, Record};
use driftline_runtime_core::{BrokenInvariant, Disposition, Effects, Stage};
use driftline_schemas::topics::Topic;

use crate::clock::SteadyClock;
use crate::dead_letters::dead_letter;
use crate::telemetry::Telemetry;
use metrics::LoopMetrics;

/// With output waiting, commit this long after the last commit.
const COMMIT_WITH_OUTPUT: Duration = Duration::from_millis(20);
/// Without output, commit this seldom.
const COMMIT_IDLE: Duration = Duration::from_millis(100);
/// How often a core is told the time.
const TICK: Duration = Duration::from_millis(100);
/// Failing commits for this long end the process: the group has moved on, or the coordinator is gone.
const COMMIT_PATIENCE: Duration = Duration::from_secs(30);
/// Records older than this when they are read belong to a backlog.
const BACKLOG_AGE: Duration = Duration::from_secs(2);
/// Without a record for this long there is no backlog; the broker answers a fetch within 50 ms.
const BACKLOG_IDLE: Duration = Duration::from_millis(500);

/// Why a service stopped without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Kafka refused, or went away for longer than the client waits.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The core contradicts itself; a defect.
    #[error(transparent)]
    Broken(#[from] BrokenInvariant),
    /// The shell's own part failed.
    #[error("{0}")]
    Shell(String),
    /// A metric could not be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What a service adds to the loop: how to read its input, and what only it can do.
pub trait Shell: Send {
    /// The pure core.
    type Stage: Stage;

    /// Turns a record into an input.
    ///
    /// # Errors
    /// The reason for the dead letter when it cannot be used.
    fn decode(&self, record: &Record) -> Result<<Self::Stage as Stage>::Input, String>;

    /// The input that tells the core the time, or nothing if it should not be told while a backlog is read.
    fn tick(&self, backlog: Backlog) -> Option<<Self::Stage as Stage>::Input>;

    /// Begins to answer what the core asked; the answer comes from [`Shell::next`].
    fn ask(&mut self, ask: <Self::Stage as Stage>::Ask);

    /// The next input that does not come from the input topic; pending for ever when there is none. It must be safe to
    /// drop and call again.
    fn next(&mut self) -> impl Future<Output = Result<<Self::Stage as Stage>::Input, ServiceError>> + Send;
}

/// Whether the records that come are old, as after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// Records are read as they are produced, or none come.
    None,
    /// Records are read that were produced a while ago; more of them are likely.
    Reading,
}

/// Which topic a service reads, and as whom.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Name of the service, in dead letters and metrics.
    pub service: &'static str,
    /// Input topic.
    pub input: Topic,
    /// Consumer group.
    pub group: String,
    /// Stable instance name for static membership, if there is one.
    pub instance: Option<String>,
}

/// A running service.
pub struct Service<S: Shell> {
    membership: Membership,
    shell: S,
    stage: S::Stage,
    reader: GroupReader,
    producer: Producer,
    metrics: LoopMetrics,
    telemetry: Telemetry,
    clock: SteadyClock,
    effects: Effects<<S::Stage as Stage>::Ask>,
    /// Next offset to read, of the partitions that are ours.
    positions: Offsets,
    committed: Offsets,
    /// Records received that are neither settled nor handed over with their partition.
    open: u64,
    produced: bool,
    last_commit: Instant,
    /// When the last record was read, and how old it was then.
    last_record: Option<(Instant, Duration)>,
    commits_fail_since: Option<Instant>,
}

impl<S: Shell> Service<S> {
    /// Joins the group. Everything the shell needs before the first record must be ready; the service itself is ready
    /// when the group has given it its share, which may be empty.
    ///
    /// # Errors
    /// When the client refuses its settings or a metric cannot be registered.
    pub fn join(
        membership: Membership,
        shell: S,
        stage: S::Stage,
        producer: Producer,
        telemetry: &Telemetry,
    ) -> Result<Self, ServiceError> {
        let reader = GroupReader::start(
            producer.settings(),
            membership.input,
            &membership.group,
            membership.instance.as_deref(),
        )?;
        let metrics = LoopMetrics::register(telemetry)?;
        Ok(Self {
            membership,
            shell,
            stage,
            reader,
            producer,
            metrics,
            telemetry: telemetry.clone(),
            clock: SteadyClock::default(),
            effects: Effects::default(),
            positions: Offsets::new(),
            committed: Offsets::new(),
            open: 0,
            produced: false,
            last_commit: Instant::now(),
            last_record: None,
            commits_fail_since: None,
        })
    }

    /// Runs until `stop` resolves, then finishes what was begun.
    ///
    /// # Errors
    /// Every [`ServiceError`] ends the process; what was not committed is read again by the next instance.
    pub async fn run(mut self, stop: impl Future<Output = &'static str>) -> Result<(), ServiceError> {
        let mut stop = std::pin::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        let mut commit = tokio::time::interval(COMMIT_WITH_OUTPUT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                signal = &mut stop => {
                    tracing::info!(signal, "stopping");
                    break;
                }
                _ = commit.tick() => self.commit_when_due().await?,
                _ = tick.tick() => {
                    let backlog = self.backlog();
                    if let Some(input) = self.shell.tick(backlog) {
                        self.apply(input)?;
                    }
                }
                input = self.shell.next() => {
                    let input = input?;
                    self.apply(input)?;
                }
                event = self.reader.next() => self.take(event).await?,
            }
            self.perform().await?;
        }
        self.commit().await?;
        self.reader.close().await;
        Ok(())
    }

    async fn take(&mut self, event: Option<GroupEvent>) -> Result<(), ServiceError> {
        match event {
            Some(GroupEvent::Batch(records)) => {
                if let Some(last) = records.last() {
                    self.note_age(last);
                }
                for record in &records {
                    self.take_record(record)?;
                    self.perform().await?;
                }
            }
            Some(GroupEvent::Assigned(partitions)) => {
                tracing::info!(?partitions, "assigned");
                self.metrics.partitions.add(i64::try_from(partitions.len()).unwrap_or(0));
                self.telemetry.set_ready();
            }
            Some(GroupEvent::Revoked(partitions, done)) => {
                self.hand_over(&partitions).await?;
                // The rebalance goes on when this is dropped.
                drop(done);
            }
            Some(GroupEvent::Failed(error)) => return Err(error.into()),
            None => return Err(ServiceError::Shell("the kafka reader ended".to_owned())),
        }
        Ok(())
    }

    /// Looks at the last record's age; a reader that has been idle for a moment has no backlog.
    fn backlog(&self) -> Backlog {
        let idle = self.last_record.is_none_or(|(at, _)| at.elapsed() > BACKLOG_IDLE);
        let old = self.last_record.is_some_and(|(_, age)| age > BACKLOG_AGE);
        if old && !idle { Backlog::Reading } else { Backlog::None }
    }

    /// Once a batch: its records were read together.
    fn note_age(&mut self, record: &Record) {
        let produced_ns = record.timestamp_ms.saturating_mul(1_000_000);
        let age_ns = u64::try_from(self.clock.now_ns().saturating_sub(produced_ns)).unwrap_or(0);
        self.last_record = Some((Instant::now(), Duration::from_nanos(age_ns)));
    }

    fn take_record(&mut self, record: &Record) -> Result<(), ServiceError> {
        self.metrics.received();
        self.open += 1;
        match self.shell.decode(record) {
            Ok(input) => self.apply(input)?,
            Err(reason) => {
                tracing::warn!(partition = record.partition, offset = record.offset, reason, "dead letter");
                self.effects.emit_raw(dead_letter(record, self.membership.service, &reason));
                self.effects.settle(Disposition::DeadLettered);
                self.check_conservation()?;
            }
        }
        self.positions.insert(record.partition, record.offset + 1);
        Ok(())
    }

    fn apply(&mut self, input: <S::Stage as Stage>::Input) -> Result<(), ServiceError> {
        self.stage.apply(self.clock.now_ns(), input, &mut self.effects)?;
        self.check_conservation()
    }

    /// Conservation: every record received is settled once, or held.
    fn check_conservation(&mut self) -> Result<(), ServiceError> {
        let settled = self.effects.take_settled();
        let count: u64 = settled.values().sum();
        let held = self.stage.held();
        if self.open < count || self.open - count != held {
            let text = format!("{} records open, {count} settled now, {held} held", self.open);
            return Err(BrokenInvariant(text).into());
        }
        self.open = held;
        self.metrics.settled(settled, held);
        Ok(())
    }

    async fn perform(&mut self) -> Result<(), ServiceError> {
        for ask in self.effects.take_asks() {
            self.shell.ask(ask);
        }
        for outgoing in self.effects.take_outgoing() {
            let headers: Vec<(&str, &[u8])> =
                outgoing.headers.iter().map(|(key, value)| (*key, value.as_slice())).collect();
            self.producer.send(outgoing.topic, &outgoing.key, &outgoing.value, &headers).await?;
            self.metrics.produced(outgoing.topic);
            self.produced = true;
        }
        self.metrics.counted(self.effects.take_counts());
        Ok(())
    }

    async fn commit_when_due(&mut self) -> Result<(), ServiceError> {
        let due = if self.produced { COMMIT_WITH_OUTPUT } else { COMMIT_IDLE };
        if self.last_commit.elapsed() >= due { self.commit().await } else { Ok(()) }
    }

    /// Waits until all output is acknowledged, then commits how far input need not be read again.
    async fn commit(&mut self) -> Result<(), ServiceError> {
        let began = Instant::now();
        if self.produced {
            self.producer.settled().await?;
            self.produced = false;
        }
        self.last_commit = Instant::now();
        let safe: Offsets = self
            .positions
            .iter()
            .map(|(partition, next)| {
                let held = self.stage.oldest_needed(*partition).unwrap_or(*next);
                (*partition, held.min(*next))
            })
            .filter(|(partition, offset)| self.committed.get(partition) != Some(offset))
            .collect();
        if !safe.is_empty() {
            match self.reader.commit(safe.clone()).await {
                Ok(()) => {
                    self.commits_fail_since = None;
                    self.committed.extend(safe);
                    self.metrics.committed(began.elapsed());
                }
                Err(error) => self.note_failed_commit(error)?,
            }
        }
        self.metrics.publish();
        Ok(())
    }

    /// A commit may fail while the group rebalances; the next one tries again. Failing on and on is fatal.
    fn note_failed_commit(&mut self, error: KafkaError) -> Result<(), ServiceError> {
        let since = *self.commits_fail_since.get_or_insert_with(Instant::now);
        if since.elapsed() > COMMIT_PATIENCE {
            return Err(error.into());
        }
        tracing::warn!(%error, "commit failed, will be tried again");
        self.metrics.commit_failed();
        Ok(())
    }

    /// Finishes with partitions that another instance takes over.
    async fn hand_over(&mut self, partitions: &[i32]) -> Result<(), ServiceError> {
        tracing::info!(?partitions, "revoked");
        self.commit().await?;
        let before = self.stage.held();
        for partition in partitions {
            self.stage.drop_partition(*partition);
            self.positions.remove(partition);
            self.committed.remove(partition);
        }
        let given_up = before.saturating_sub(self.stage.held());
        self.open = self.open.saturating_sub(given_up);
        self.metrics.handed_over(given_up, self.stage.held());
        self.metrics.partitions.sub(i64::try_from(partitions.len()).unwrap_or(0));
        Ok(())
    }
}
