//! `driftline-indexer`: indexes the images of the node it runs on.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use driftline_indexer::node::{self, NodeSettings};
use driftline_runtime::env::Settings;
use driftline_runtime::shutdown;
use driftline_runtime::telemetry::{self, Telemetry};

/// How long an indexing thread may take to notice the stop.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Indexes the images of the node it runs on: what its containers use, and what the enricher asks for.
///
/// Settings come from the environment: KAFKA_BOOTSTRAP (required), DRIFTLINE_TOPIC_PREFIX, DRIFTLINE_PARTITIONS,
/// DRIFTLINE_CLUSTER, DRIFTLINE_NODE, DRIFTLINE_INDEXER_PARALLEL, DRIFTLINE_SCAN_MS, DRIFTLINE_KAFKA_WAIT_S,
/// DRIFTLINE_TELEMETRY_ADDR, DRIFTLINE_LOG, DRIFTLINE_LOG_FORMAT, and where the runtimes are: DRIFTLINE_DOCKER_SOCKET,
/// DRIFTLINE_PODMAN_SOCKET, DRIFTLINE_PODMAN_COMMAND.
#[derive(Debug, Parser)]
#[command(name = "driftline-indexer", version)]
struct Arguments {}

fn main() -> ExitCode {
    Arguments::parse();
    shutdown::exit_code("driftline-indexer", start())
}

fn start() -> anyhow::Result<()> {
    let mut settings = Settings::of_process();
    telemetry::start_logs(&mut settings);
    let node = NodeSettings::read(&mut settings);
    let address = settings.telemetry_address();
    settings.finish()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(async {
        let stop = shutdown::signalled()?;
        let telemetry = Telemetry::new("indexer");
        let bound = telemetry.serve(address).await?;
        tracing::info!(%bound, "telemetry served");
        node::run(node, &telemetry, stop).await
    });
    // A blocked export must not keep the process.
    runtime.shutdown_timeout(STOP_MAX);
    ended
}
