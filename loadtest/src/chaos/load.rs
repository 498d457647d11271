//! The load: containers that start and end, each with a fixed number of execs, at a steady rate. Called by
//! [`super::rig`].
//!
//! Records are pending until they are acknowledged. When a client gives up, a new client sends them again, in order, as
//! the collector does. So no record is lost, and a record may be on the topic twice with the same event id.

use anyhow::Context as _;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

use driftline_kafka::{ClientSettings, Outcome, TrackedProducer};
use driftline_schemas::topics::Topic;
use driftline_schemas::{ContainerEnded, ContainerId, Sha256, encode};
use driftline_service::clock;

use crate::workload::{exec_of, seen};

/// Containers that run at a time.
const LIVE: usize = 120;
/// Execs of each container: ten findings, so five or so revisions of its alert.
const EXECS_EACH: usize = 40;
const TICK: Duration = Duration::from_millis(10);
/// How long the last records may take to be acknowledged.
const SETTLE_MAX: Duration = Duration::from_secs(90);

/// A running load.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    execs: Arc<AtomicU64>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Load {
    /// Starts the load.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub(super) fn start(kafka: &ClientSettings, execs_per_s: u32) -> anyhow::Result<Self> {
        let (stop, execs) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let sending = Sending::new(kafka)?;
        let task = tokio::spawn(run(sending, execs_per_s, Arc::clone(&stop), Arc::clone(&execs)));
        Ok(Self { stop, execs, task })
    }

    /// Execs made so far.
    pub(super) fn execs(&self) -> u64 {
        self.execs.load(Ordering::Acquire)
    }

    /// Stops making execs, and waits until every record is acknowledged.
    ///
    /// # Errors
    /// When that takes too long.
    pub(super) async fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.task.await?
    }
}

async fn run(mut sending: Sending, rate: u32, stop: Arc<AtomicBool>, execs: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut containers = Containers::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let began = clock::monotonic();
    let mut made = 0_u64;
    while !stop.load(Ordering::Acquire) {
        ticks.tick().await;
        let due = u64::try_from(began.elapsed().as_millis())?.saturating_mul(u64::from(rate)) / 1000;
        while made < due {
            containers.next(|id, value| sending.push(id, value))?;
            made += 1;
        }
        execs.store(made, Ordering::Release);
        sending.go_on()?;
    }
    let deadline = clock::monotonic() + SETTLE_MAX;
    while !sending.pending.is_empty() {
        anyhow::ensure!(clock::monotonic() < deadline, "{} records are not acknowledged", sending.pending.len());
        ticks.tick().await;
        sending.go_on()?;
    }
    Ok(())
}

/// The running containers, in turn; a container that has done all its execs ends and makes room for a new one.
struct Containers {
    live: VecDeque<(ContainerId, usize)>,
    started: usize,
}

impl Containers {
    fn new() -> Self {
        Self { live: VecDeque::new(), started: 0 }
    }

    /// The next exec, and container records as they become due before or after it.
    fn next(&mut self, mut push: impl FnMut(&ContainerId, Vec<u8>)) -> anyhow::Result<()> {
        if self.live.len() < LIVE {
            let id = Sha256::of(format!("chaos {}", self.started).as_bytes()).to_string();
            let id = ContainerId::from(id.as_str());
            push(&id, encode(&seen(&id))?);
            // The containers of the beginning end one after the other, not all at once.
            let number = if self.started < LIVE { self.started * EXECS_EACH / LIVE } else { 0 };
            self.live.push_front((id, number));
            self.started += 1;
        }
        let (id, number) = self.live.pop_front().context("no container runs")?;
        push(&id, encode(&exec_of(&id, number, clock::now_ns()))?);
        if number + 1 < EXECS_EACH {
            self.live.push_back((id, number + 1));
        } else {
            let ended = ContainerEnded {
                container_id: id.clone(),
                cluster: "test".to_owned(),
                node: "node-1".to_owned(),
                ended_ns: clock::now_ns(),
            };
            push(&id, encode(&ended)?);
        }
        Ok(())
    }
}

/// Records that are not acknowledged, by number, and the client that sends them.
struct Sending {
    kafka: ClientSettings,
    producer: TrackedProducer,
    pending: BTreeMap<u64, (ContainerId, Vec<u8>)>,
    pushed: u64,
    sent: u64,
}

impl Sending {
    fn new(kafka: &ClientSettings) -> anyhow::Result<Self> {
        let producer = TrackedProducer::new(kafka)?;
        Ok(Self { kafka: kafka.clone(), producer, pending: BTreeMap::new(), pushed: 0, sent: 0 })
    }

    fn push(&mut self, id: &ContainerId, value: Vec<u8>) {
        self.pending.insert(self.pushed, (id.clone(), value));
        self.pushed += 1;
    }

    fn go_on(&mut self) -> anyhow::Result<()> {
        for (number, (id, value)) in self.pending.range(self.sent..) {
            if !self.producer.send(Topic::ExecEvents, id.as_str().as_bytes(), value, *number) {
                break;
            }
            self.sent = number + 1;
        }
        let reports = self.producer.reports();
        for report in reports.iter().filter(|report| report.outcome == Outcome::Acknowledged) {
            self.pending.remove(&report.sequence);
        }
        if reports.iter().any(|report| report.outcome != Outcome::Acknowledged) {
            eprintln!("load: a new client, after: {}", self.producer.last_failure());
            self.producer = TrackedProducer::new(&self.kafka)?;
            self.sent = self.pending.keys().next().copied().unwrap_or(self.pushed);
        }
        Ok(())
    }
}
