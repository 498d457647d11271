//! Reports every exec in every container of a node to Kafka.

use clap::Parser;
use driftline_collector::collector;
use driftline_collector::settings::CollectorSettings;
use driftline_runtime::env::Settings;
use driftline_runtime::{shutdown, telemetry};
use std::process::ExitCode;

/// Reports every exec in every container of this node to Kafka. Needs root (or `CAP_BPF`, `CAP_PERFMON`, `CAP_SYS_PTRACE`
/// and `CAP_DAC_READ_SEARCH`) and a kernel with BTF. All settings come from the environment.
#[derive(Parser)]
#[command(version, after_help = driftline_collector::settings::HELP)]
struct Arguments {}

#[tokio::main]
async fn main() -> ExitCode {
    Arguments::parse();
    shutdown::exit_code("driftline-collector", run().await)
}

async fn run() -> anyhow::Result<()> {
    let mut settings = Settings::of_process();
    telemetry::start_logs(&mut settings);
    let collector = CollectorSettings::read(&mut settings);
    settings.finish()?;
    collector::run(collector).await
}
