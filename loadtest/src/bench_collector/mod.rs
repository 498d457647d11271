//! `driftline-loadtest bench-collector`: measures the cost of an exec under the node collector and under the other
//! observers that a distribution offers, in turn, in one run. Kafka runs already; see `deploy/dev/bench-collector.sh`.
//!
//! Kernel time is the kernel's own count of the time of BPF programs (`kernel.bpf_stats_enabled`), user time that of
//! all threads of the observer: both are meaningful on a noisy machine, where wall times do not resolve microseconds.

mod container;
mod measurement;
mod observer;
mod report;

use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use driftline_kafka::{ClientSettings, admin};
use driftline_schemas::{EventId, Exec};
use driftline_service::clock;

use crate::collect::{Collected, Collector};
use crate::services;
use container::Workload;
use measurement::{Latencies, Measurement, Seen, Usage};
use observer::usage;
use report::Report;

/// How long the last record may take to arrive. Throttled execs of a container are reported every ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Execs whose latency to Kafka is measured, and the pause after each, so that nothing else runs meanwhile.
const PACED: u32 = 200;
const PAUSE: Duration = Duration::from_millis(17);

/// The extent of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds, in each of which every contender has its turn.
    pub rounds: usize,
    /// Execs in each turn.
    pub execs: u32,
}

/// How long a container's first execs wait for its description: equal to the collector's limit of this name.
const DESCRIPTION_WAIT_NS: i64 = 300_000_000;

/// The executed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    /// A file of the image.
    Image,
    /// A file that is not in the image, always the same.
    Drifted,
    /// The same file, changed before each exec, so that its digest is always new.
    Changed,
}

/// Runs all contenders, prints a table, and writes JSON when a file is named.
///
/// # Errors
/// When a part cannot run, or an exec was not seen.
pub async fn run(kafka: &ClientSettings, extent: Extent, json: Option<&Path>) -> anyhow::Result<()> {
    let _statistics = observer::Statistics::enable()?;
    let workload = Arc::new(Workload::build()?);
    let mut measurements: BTreeMap<(usize, Program), Vec<Measurement>> = BTreeMap::new();
    let mut not_run = Vec::new();
    for round in 1..=extent.rounds {
        anstream::eprintln!("==> round {round} of {}", extent.rounds);
        for program in [Program::Image, Program::Drifted, Program::Changed] {
            let bare = workload.run(extent.execs, program)?;
            measurements.entry((0, program)).or_default().push(Measurement::bare(bare.wall_ns));
            let ours = driftline(kafka, &workload, extent, program).await?;
            measurements.entry((1, program)).or_default().push(ours);
        }
        for (number, peer) in observer::PEERS.iter().enumerate() {
            match peer.measure(|| workload.run(extent.execs, Program::Image)) {
                Ok(measured) => measurements.entry((number + 2, Program::Image)).or_default().push(measured),
                Err(error) if round == 1 => not_run.push(format!("{}: {error:#}", peer.name)),
                Err(_) => {}
            }
        }
    }
    let report = Report::of(extent, measurements, not_run);
    anstream::println!("{report}");
    if let Some(path) = json {
        std::fs::write(path, report.json()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    report.check()
}

/// One turn of the collector, from its start on topics of its own to the last record that is readable.
async fn driftline(
    kafka: &ClientSettings,
    workload: &Arc<Workload>,
    extent: Extent,
    program: Program,
) -> anyhow::Result<Measurement> {
    let kafka = ClientSettings { prefix: format!("{}-{}", kafka.prefix, clock::now_ns()), ..kafka.clone() };
    admin::create(&kafka, 1).await?;
    let logs = tempfile::tempdir()?;
    let spool = logs.path().join("spool");
    let settings = [("DRIFTLINE_SPOOL_DIR", spool.to_str().unwrap_or_default())];
    let collector = services::start("collector", &kafka, &settings, logs.path()).await?;
    let mut reader = Collector::start(&kafka).await?;
    let paced = Arc::clone(workload);
    // On a thread of its own: records are read, and their arrival times taken, while the execs run.
    let paced = tokio::task::spawn_blocking(move || paced.run_paced(PACED, PAUSE, program));
    let mut counter = Counter::new(workload.path(program));
    let seen = counter.until(&mut reader, usize::try_from(PACED)?).await?;
    paced.await??;
    let latencies_ns = latencies(&reader.collected, workload.path(program));
    let start_peak_bytes = usage(collector.pid())?.peak_bytes;
    observer::forget_peak(collector.pid())?;
    let before = usage(collector.pid())?;
    let turn = workload.run(extent.execs, program)?;
    let made = usize::try_from(extent.execs)?;
    let after_paced = counter.until(&mut reader, made + seen.all()).await?;
    let after = usage(collector.pid())?;
    anyhow::ensure!(collector.terminate().await?.success(), "the collector did not end well");
    admin::delete_all(&kafka).await?;
    Ok(Measurement::of(turn.wall_ns, Usage::between(&before, &after)).with_seen(Seen {
        reported: after_paced.reported - seen.reported,
        left_out: after_paced.left_out - seen.left_out,
        latencies_ns: Latencies::of(latencies_ns),
        start_peak_bytes,
    }))
}

/// The records of the workload's execs so far.
#[derive(Debug, Clone, Copy)]
struct Count {
    /// Execs with a record of their own.
    reported: usize,
    /// Execs counted in a throttle record.
    left_out: usize,
}

impl Count {
    fn all(self) -> usize {
        self.reported + self.left_out
    }
}

/// Counts the execs of a program. An exec whose digest arrived late is reported twice.
struct Counter {
    path: &'static str,
    counted: usize,
    reported: BTreeSet<EventId>,
}

impl Counter {
    fn new(path: &'static str) -> Self {
        Self { path, counted: 0, reported: BTreeSet::new() }
    }

    /// Reads until so many execs are accounted for, or the time limit passes.
    async fn until(&mut self, reader: &mut Collector, made: usize) -> anyhow::Result<Count> {
        reader.until(PATIENCE, |collected| self.count(collected).all() >= made).await?;
        Ok(self.count(&reader.collected))
    }

    fn count(&mut self, collected: &Collected) -> Count {
        let path = self.path.as_bytes();
        let new = collected.execs.iter().skip(self.counted).filter(|exec| exec.path == path);
        self.reported.extend(new.map(|exec| exec.event_id.clone()));
        self.counted = collected.execs.len();
        let left_out = collected.throttled.iter().map(|throttled| {
            let of_file = throttled.examples.iter().filter(|file| file.path == path);
            // Throttle records do not list the files of ordinary execs; the workload's container executes little else.
            of_file.map(|file| file.execs).sum::<i64>() + throttled.ordinary
        });
        Count { reported: self.reported.len(), left_out: usize::try_from(left_out.sum::<i64>()).unwrap_or(0) }
    }
}

/// Latencies from the exec to the moment at which its record was readable. A container's first execs wait for its
/// description, which never arrives here (no engine's service runs): they are left out.
fn latencies(collected: &Collected, path: &str) -> Vec<u64> {
    let first_ns = collected.execs.iter().map(|exec| exec.time_ns).min().unwrap_or(0);
    let is_later = |exec: &Exec| exec.time_ns.saturating_sub(first_ns) > DESCRIPTION_WAIT_NS;
    let arrived = collected.execs.iter().zip(&collected.exec_arrivals_ns);
    let of_workload = arrived.filter(|(exec, _)| exec.path == path.as_bytes() && is_later(exec));
    of_workload.map(|(exec, arrived_ns)| u64::try_from(arrived_ns.saturating_sub(exec.time_ns)).unwrap_or(0)).collect()
}
