//! `driftline-loadtest`: the workload behind `make demo`. Kafka and the services run already; see `deploy/dev/demo.sh`.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

use driftline_kafka::ClientSettings;
use driftline_loadtest::bench_collector::{self, Extent};
use driftline_loadtest::{chaos, demo};
use driftline_service::shutdown::exit_code;
use driftline_settings::Settings;

/// Workloads for driftline, and the comparison of what came of them with what was done.
#[derive(Debug, Parser)]
#[command(name = "driftline-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run programs in a fresh container and wait for the alerts
    Demo {
        #[command(flatten)]
        output: Output,
        /// Container engine to use instead of the first that works: podman or docker
        #[arg(long, env = "ENGINE", value_parser = ["podman", "docker", ""], default_value = "")]
        engine: String,
    },
    /// Wait for the alerts of a replayed recording
    DemoReplayed {
        /// What the recorded run did, as JSON
        expected: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Measure what an exec costs under the collector and under other observers of this machine
    BenchCollector {
        /// Rounds, in each of which every observer has its turn
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Execs in each turn
        #[arg(long, default_value_t = 20_000)]
        execs: u32,
        /// File for the figures as JSON
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Kill, freeze and cut off services and brokers under load; exit 1 when anything is lost or comes twice
    Chaos {
        #[command(flatten)]
        options: chaos::Options,
    },
    /// Delete the topics of the prefix
    DeleteTopics,
}

#[derive(Debug, Args)]
struct Output {
    /// Directory for findings.jsonl, alerts.jsonl, alerts.ocsf.jsonl and expected.json
    #[arg(long)]
    out: PathBuf,
}

fn kafka() -> anyhow::Result<ClientSettings> {
    let mut settings = Settings::of_environment();
    let kafka = driftline_service::settings::kafka(&mut settings, "loadtest");
    settings.finish()?;
    Ok(kafka)
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = run(Cli::parse()).await;
    done.unwrap_or_else(|error| exit_code("driftline-loadtest", Err::<(), _>(error)))
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Demo { output, engine } => demo::live(&kafka()?, &engine, &output.out).await?,
        Command::DemoReplayed { expected, output } => demo::replayed(&kafka()?, &expected, &output.out).await?,
        Command::BenchCollector { rounds, execs, json } => {
            bench_collector::run(&kafka()?, Extent { rounds, execs }, json.as_deref()).await?;
        }
        Command::Chaos { options } => return Ok(chaos::run(&options).await),
        Command::DeleteTopics => driftline_kafka::admin::delete_all(&kafka()?).await?,
    }
    Ok(ExitCode::SUCCESS)
}
