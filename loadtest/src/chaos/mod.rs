//! Injects faults into the real services on three real brokers. An oracle reports lost and duplicate records.
//! `make chaos` runs it.
//!
//! * [`plan`]: the faults of a seed.
//! * [`rig`]: one batch of faults on a fresh cluster.
//! * [`faults`]: injects and undoes each fault.
//! * [`cluster`], [`wire`]: the brokers.
//! * [`network`]: the connections between nodes.
//! * [`supervisor`]: the services, restarted when they end.
//! * [`load`]: execs at a steady rate.
//! * [`steady`]: memory without faults.
//! * [`watch`]: the time until output flows again.
//! * [`oracle`]: the expected records.
//! * [`dump`]: topics as text, kept after a violation.
//! * [`progress`]: seeds of failed batches, and resumed runs.
//! * [`report`]: the table.
//!
//! What is deliberately absent: any knowledge of how the services recover. Faults are injected from outside, and only
//! topics, exits and logs are inspected.

mod cluster;
mod dump;
mod faults;
mod load;
mod network;
pub mod oracle;
pub mod plan;
mod progress;
pub mod report;
pub mod rig;
pub mod steady;
mod supervisor;
mod watch;
mod wire;

use anyhow::Context as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use driftline_service::shutdown::signalled;

pub use cluster::Installation;
use oracle::Verdict;
use plan::Kind;
use progress::Progress;
use report::Report;
use rig::Setting;
pub use supervisor::Exit;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Seed of the first batch; the next batch's is one more
    #[arg(long)]
    seed: u64,
    /// Faults in all
    #[arg(long, default_value_t = 200)]
    faults: usize,
    /// Faults of a batch, which has a fresh cluster
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Only faults of these kinds
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Minutes of steady load before the faults of each batch, in which memory is watched; with --faults 0, nothing else
    #[arg(long, default_value_t = 0)]
    steady_minutes: u64,
    /// Execs per second
    #[arg(long, default_value_t = 350)]
    rate: u32,
    /// Java, 17 or newer
    #[arg(long, default_value = "java")]
    java: PathBuf,
    /// Directory of Kafka's jars
    #[arg(long)]
    jars: PathBuf,
    /// Directory for logs and results
    #[arg(long)]
    out: PathBuf,
    /// What is tested, for example a commit: a run that was stopped goes on only with the same
    #[arg(long, default_value = "")]
    build: String,
    /// File of the seeds of failed batches; those of this run are appended
    #[arg(long)]
    failed_seeds: Option<PathBuf>,
    /// Begin with the seed that failed last, for half of the faults at most
    #[arg(long, requires = "failed_seeds")]
    failed_first: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// The exit code when the rig failed, which is not a result about the services.
const NOT_TESTED: u8 = 2;

/// Runs the requested batches and prints the report; fails when the services violate a rule.
pub async fn run(options: &Options) -> ExitCode {
    match until_stopped(options).await {
        Ok(verdict) if verdict.is_good() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(NOT_TESTED)
        }
    }
}

async fn until_stopped(options: &Options) -> anyhow::Result<Verdict> {
    let stopped = signalled()?;
    tokio::select! {
        verdict = batches(options) => verdict,
        signal = stopped => anyhow::bail!("stopped by {signal}; the same command goes on after the last whole batch"),
    }
}

async fn batches(options: &Options) -> anyhow::Result<Verdict> {
    network::make(cluster::NODES.into_iter().chain(supervisor::nodes(faults::INSTANCES + 1)))?;
    let own = std::env::current_exe()?;
    let setting = Setting {
        installation: Installation { java: options.java.clone(), jars: options.jars.clone() },
        binaries: own.parent().context("the program is in no directory")?.to_owned(),
        rate: options.rate,
        kinds: options.kinds.clone(),
        steady: Duration::from_mins(options.steady_minutes),
    };
    let first = match (&options.failed_seeds, options.failed_first) {
        (Some(file), true) => progress::last_failed(file, options.faults / 2),
        _ => None,
    };
    let tasks = progress::tasks(options.seed, options.faults, options.batch, first);
    let file = options.out.join(format!("{}.json", options.seed));
    let mut progress = Progress::read(&file, &format!("{} {:?}", options.build, options.kinds), tasks);
    while let Some(task) = progress.next() {
        let directory = options.out.join(format!("{}", task.seed));
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        eprintln!("seed {}: {} faults, logs in {}", task.seed, task.faults, directory.display());
        let batch = rig::run(&setting, &task, &directory).await?;
        if !batch.verdict.is_good() {
            eprintln!("seed {}: something is wrong; logs and topics are kept in {}", task.seed, directory.display());
            if let Some(file) = &options.failed_seeds {
                progress::append_failed(file, &task, &batch)?;
            }
        }
        progress.batches.push(batch);
        progress.write(&file)?;
    }
    let report = Report::of(options.seed, &progress.batches);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(report.verdict)
}
