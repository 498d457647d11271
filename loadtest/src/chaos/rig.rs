//! One batch: a fresh cluster and fresh services under load, one fault after the other, then the oracle. Called by
//! [`super`].

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftline_kafka::{ClientSettings, Producer, TopicReader, admin};
use driftline_schemas::topics::Topic;
use driftline_service::clock;

use crate::workload::Workload;

use super::cluster::{Cluster, Installation};
use super::faults::{INSTANCES, Rig};
use super::load::Load;
use super::oracle::{self, Verdict, Violation};
use super::plan::{Fault, Kind, Role, Task, plan};
use super::steady::{self, Memory};
use super::supervisor::{Exit, Supervisor};
use super::watch::Watch;
use super::wire::{self, Coordinator};
use super::{dump, network};

/// Partitions of the shared topics: two for each of three instances.
const PARTITIONS: i32 = 6;
const REPLICATION: i32 = 3;
/// Output must appear again this long after a fault is undone: the sum of all time limits of the services and of Kafka.
const RECOVERY_MAX: Duration = Duration::from_secs(120);
/// Faults in a row without output afterwards, before a batch ends.
const STALLED_MAX: usize = 1;
/// Output has ended when none appeared for this long: sessions are final after 3 s.
const QUIET: Duration = Duration::from_secs(5);
/// How long missing output may take at the end.
const DRAIN_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// The settings of a batch.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Kafka.
    pub installation: Installation,
    /// Directory of the service binaries.
    pub binaries: PathBuf,
    /// Execs per second.
    pub rate: u32,
    /// Kinds of faults to choose from; all if the list is empty.
    pub kinds: Vec<Kind>,
    /// How long the load is steady before the faults.
    pub steady: Duration,
}

/// The effect of one fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its kind.
    pub kind: Kind,
    /// Whether a service was killed during the fault.
    pub overlapped: bool,
    /// Ends of services that the rig did not cause, until output flowed again.
    pub exits: usize,
    /// From the fault until every partition had a finding of a later exec.
    pub findings_ms: Option<u64>,
    /// The same for alerts.
    pub alerts_ms: Option<u64>,
    /// Longest time in which a partition of one of the topics had no output.
    pub standstill_ms: u64,
}

/// The result of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its seed.
    pub seed: u64,
    /// Faults, in order.
    pub outcomes: Vec<Outcome>,
    /// Ends of services that the rig did not cause.
    pub exits: Vec<Exit>,
    /// Longest time without a finding of any partition.
    pub findings_silence_ms: u64,
    /// Longest time without an alert of any partition.
    pub alerts_silence_ms: u64,
    /// Execs made.
    pub execs: u64,
    /// Used kilobytes of the fullest disk at the end.
    pub disk_kbytes: u64,
    /// From the start of the cluster to the verdict.
    pub seconds: u64,
    /// Memory of the services under steady load.
    #[serde(default)]
    pub memory: Vec<Memory>,
    /// The oracle's verdict.
    pub verdict: Verdict,
}

/// Runs a batch.
///
/// # Errors
/// When the rig itself fails, which is not a result about the services.
pub async fn run(setting: &Setting, task: &Task, directory: &Path) -> anyhow::Result<Batch> {
    let began = clock::monotonic();
    let cluster = Cluster::start(&setting.installation, directory).await?;
    let kafka = ClientSettings {
        bootstrap: cluster.bootstrap(),
        prefix: "chaos".to_owned(),
        partitions: PARTITIONS,
        client_id: "driftline-chaos".to_owned(),
    };
    admin::create(&kafka, REPLICATION).await?;
    Workload::new(0, 0, clock::now_ns()).publish_image(&Producer::new(&kafka)?).await?;
    let supervisor = Supervisor::start(&kafka, &setting.binaries, directory, INSTANCES);
    let mut running = Running {
        rig: Rig { cluster, supervisor, watch: Watch::start(&kafka), prefix: kafka.prefix.clone() },
        load: Load::start(&kafka, setting.rate)?,
        kafka,
        verdict: Verdict::default(),
        outcomes: Vec::new(),
        memory: Vec::new(),
    };
    let flows = running.wait_until_it_flows().await;
    anyhow::ensure!(flows.is_some(), "nothing comes of the load, see the logs in {}", directory.display());
    eprintln!("  output flows after {} s", began.elapsed().as_secs());
    running.memory = steady::sample(&running.rig.supervisor, setting.steady, &mut running.verdict).await;
    running.rig.watch.begin();
    let mut faults = plan(task.seed, task.planned, &setting.kinds);
    faults.truncate(task.faults);
    running.run_faults(&faults).await?;
    running.rig.watch.end();
    let mut batch = running.finish(task.seed, directory).await?;
    batch.seconds = began.elapsed().as_secs();
    Ok(batch)
}

struct Running {
    rig: Rig,
    load: Load,
    kafka: ClientSettings,
    verdict: Verdict,
    outcomes: Vec<Outcome>,
    memory: Vec<Memory>,
}

impl Running {
    /// Waits for output of execs that are made from now on; `None` when there is none in time.
    async fn wait_until_it_flows(&mut self) -> Option<Duration> {
        let mark = self.rig.watch.mark();
        let began = clock::monotonic();
        while !self.rig.flows(mark) {
            if began.elapsed() > RECOVERY_MAX {
                return None;
            }
            tokio::time::sleep(POLL).await;
            self.start_ended_brokers();
        }
        Some(began.elapsed())
    }

    /// Restarts brokers that ended by themselves, as their operator would.
    fn start_ended_brokers(&mut self) {
        for id in self.rig.cluster.ended() {
            eprintln!("  broker {id} ended by itself");
            if let Err(error) = self.rig.cluster.start_node(id) {
                eprintln!("  broker {id} cannot be started: {error:#}");
            }
        }
    }

    async fn run_faults(&mut self, faults: &[Fault]) -> anyhow::Result<()> {
        let mut stalled = 0;
        for (number, fault) in faults.iter().enumerate() {
            let before = self.rig.supervisor.exit_count();
            let name = fault.kind.as_str();
            self.rig.supervisor.during(format!("fault {} ({name})", number + 1));
            let mark = self.rig.run_fault(fault).await?;
            let flows = self.wait_until_it_flows().await;
            let [findings_ms, alerts_ms] = self.rig.recoveries(mark).map(|time| time.map(milliseconds));
            let standstill_ms = milliseconds(self.rig.watch.standstill(mark));
            let exits = self.rig.supervisor.exit_count() - before;
            let overlapped = fault.also.is_some();
            eprintln!(
                "  {:>4}/{} {name:<28} {} exits {exits}  findings {:>7}  alerts {:>7}  standstill {:>7}",
                number + 1,
                faults.len(),
                if overlapped { "+ kill" } else { "      " },
                in_seconds(findings_ms),
                in_seconds(alerts_ms),
                in_seconds(Some(standstill_ms)),
            );
            let kind = fault.kind;
            self.outcomes.push(Outcome { kind, overlapped, exits, findings_ms, alerts_ms, standstill_ms });
            if self.rig.supervisor.has_broken_invariant() {
                eprintln!("  an invariant is broken: no more faults");
                break;
            }
            stalled = if flows.is_some() { 0 } else { stalled + 1 };
            if flows.is_none() {
                let what = || format!("fault {} ({name}): nothing for {} s", number + 1, RECOVERY_MAX.as_secs());
                self.verdict.note(Violation::Stalled, what);
            }
            // A fault may restart what the previous one has stopped.
            if stalled > STALLED_MAX {
                break;
            }
        }
        Ok(())
    }

    /// Waits until all output has been written, and compares.
    async fn finish(mut self, seed: u64, directory: &Path) -> anyhow::Result<Batch> {
        self.rig.supervisor.during("the end".to_owned());
        self.rig.restore()?;
        self.rig.cluster.whole().await?;
        let execs = self.load.execs();
        self.load.finish().await?;
        let began = clock::monotonic();
        let mut verdict = loop {
            wait_until_quiet(&self.rig.watch).await;
            let verdict = compare(&self.rig.cluster, &self.kafka).await?;
            if !verdict.is_incomplete() || began.elapsed() > DRAIN_MAX {
                break verdict;
            }
        };
        for line in self.rig.supervisor.broken_invariants() {
            verdict.note(Violation::InvariantBroken, || line);
        }
        for (wrong, examples) in std::mem::take(&mut self.verdict.examples) {
            examples.into_iter().for_each(|example| verdict.note(wrong, || example));
        }
        if !verdict.is_good() {
            dump::write(&self.kafka, &oracle::READ, directory).await?;
            dump::keep_logs(&self.kafka.topic(Topic::Findings), &self.rig.cluster.disks(), directory)?;
        }
        Ok(Batch {
            seed,
            outcomes: self.outcomes,
            exits: self.rig.supervisor.exits(),
            findings_silence_ms: milliseconds(self.rig.watch.silence(Topic::Findings)),
            alerts_silence_ms: milliseconds(self.rig.watch.silence(Topic::Alerts)),
            execs,
            disk_kbytes: self.rig.cluster.used_kbytes(),
            seconds: 0,
            memory: self.memory,
            verdict,
        })
    }
}

/// Reads the topics and the groups' committed offsets.
async fn compare(cluster: &Cluster, kafka: &ClientSettings) -> anyhow::Result<Verdict> {
    let mut ledger = oracle::read(kafka).await?;
    for (topic, role) in [(Topic::ExecEvents, Role::Enricher), (Topic::Findings, Role::Correlator)] {
        let group = format!("{}.{}", kafka.prefix, role.as_str());
        let broker = network::address(cluster.coordinator(Coordinator::Group(&group)).await?);
        let committed = wire::committed(broker, &group, &kafka.topic(topic), PARTITIONS).await?;
        ledger.compare_offsets(&group, &TopicReader::extent(kafka, &[topic]).await?, &committed);
    }
    Ok(ledger.verdict())
}

async fn wait_until_quiet(watch: &Watch) {
    let (mut count, mut since) = (watch.count(), clock::monotonic());
    while since.elapsed() < QUIET {
        tokio::time::sleep(POLL).await;
        if watch.count() != count {
            (count, since) = (watch.count(), clock::monotonic());
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time, formatted for people.
pub(super) fn in_seconds(ms: Option<u64>) -> String {
    ms.map_or_else(|| "never".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))
}
