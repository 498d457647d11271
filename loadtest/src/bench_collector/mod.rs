//! `driftline-loadtest bench-collector`: what an exec costs under the node collector and under what else a distribution offers,
//! in turn, in one run. Kafka runs already; see `deploy/dev/bench-collector.sh`.
//!
//! Kernel time is the kernel's own count of what BPF programs took (`kernel.bpf_stats_enabled`), user time that of all threads
//! of the observer: both hold on a noisy machine, where wall times do not resolve microseconds.

mod container;
mod observer;
mod report;

use anyhow::Context as _;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use driftline_kafka::{ClientSettings, admin};
use driftline_runtime::clock;

use crate::collect::Collector;
use crate::services;
use container::Workload;
use observer::{Usage, usage};
use report::{Report, Row};

/// How long the last record may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much is run.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds, in each of which every contender has its turn.
    pub rounds: usize,
    /// Execs in each turn.
    pub execs: u32,
}

/// Which file is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    Image,
    Drifted,
}

/// Runs all, prints a table, and writes JSON when a file is named.
///
/// # Errors
/// When a part cannot run, or an exec was not seen.
pub async fn run(kafka: &ClientSettings, extent: Extent, json: Option<&Path>) -> anyhow::Result<()> {
    let _statistics = observer::Statistics::enable()?;
    let workload = Workload::build()?;
    let mut rows: BTreeMap<(usize, Program), Vec<Row>> = BTreeMap::new();
    let mut not_run = Vec::new();
    for round in 1..=extent.rounds {
        anstream::eprintln!("==> round {round} of {}", extent.rounds);
        for program in [Program::Image, Program::Drifted] {
            let bare = workload.run(extent.execs, program)?;
            rows.entry((0, program)).or_default().push(Row::bare(bare.wall_ns));
            let ours = driftline(kafka, &workload, extent, program).await?;
            rows.entry((1, program)).or_default().push(ours);
        }
        for (number, peer) in observer::PEERS.iter().enumerate() {
            match peer.measure(|| workload.run(extent.execs, Program::Image)) {
                Ok(row) => rows.entry((number + 2, Program::Image)).or_default().push(row),
                Err(error) if round == 1 => not_run.push(format!("{}: {error:#}", peer.name)),
                Err(_) => {}
            }
        }
    }
    let report = Report::of(extent, rows, not_run);
    anstream::println!("{report}");
    if let Some(path) = json {
        std::fs::write(path, report.json()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    report.check()
}

/// One turn of the collector, from its start on topics of its own to the last record that can be read.
async fn driftline(
    kafka: &ClientSettings,
    workload: &Workload,
    extent: Extent,
    program: Program,
) -> anyhow::Result<Row> {
    let kafka = ClientSettings { prefix: format!("{}-{}", kafka.prefix, clock::now_ns()), ..kafka.clone() };
    admin::create(&kafka, 1).await?;
    let logs = tempfile::tempdir()?;
    let spool = logs.path().join("spool");
    let settings = [("DRIFTLINE_SPOOL_DIR", spool.to_str().unwrap_or_default())];
    let collector = services::start("collector", &kafka, &settings, logs.path()).await?;
    let mut reader = Collector::start(&kafka)?;
    let before = usage(collector.pid())?;
    let turn = workload.run(extent.execs, program)?;
    let made = usize::try_from(extent.execs)?;
    let is_of_workload = |path: &[u8]| path == workload.path(program).as_bytes();
    reader.until(PATIENCE, |seen| seen.execs.iter().filter(|exec| is_of_workload(&exec.path)).count() >= made).await?;
    let after = usage(collector.pid())?;
    let seen = reader.collected.execs.iter().filter(|exec| is_of_workload(&exec.path)).count();
    anyhow::ensure!(collector.terminate().await?.success(), "the collector did not end well");
    admin::delete_all(&kafka).await?;
    Ok(Row::of(turn.wall_ns, Usage::between(&before, &after)).with_seen(seen))
}
