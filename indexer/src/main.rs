//! `driftline-indexer`: indexes the images of the node it runs on, or those that registries have.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use driftline_indexer::node::{self, NodeSettings};
use driftline_indexer::registry::{self, RegistrySettings};
use driftline_service::env::Settings;
use driftline_service::shutdown;
use driftline_service::telemetry::{self, Telemetry};

/// How long an indexing thread may take to notice the stop.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Indexes images: of the node it runs on, what its containers use and what the enricher asks for; or, as a central service,
/// what the enricher asks for and a registry has.
///
/// Settings come from the environment: KAFKA_BOOTSTRAP (required), DRIFTLINE_INDEXER_MODE (node or registry),
/// DRIFTLINE_TOPIC_PREFIX, DRIFTLINE_PARTITIONS, DRIFTLINE_CLUSTER, DRIFTLINE_INDEXER_PARALLEL, DRIFTLINE_TRUST (as of the enricher),
/// DRIFTLINE_KAFKA_WAIT_S, DRIFTLINE_TELEMETRY_ADDR, DRIFTLINE_LOG, DRIFTLINE_LOG_FORMAT.
///
/// In node mode: DRIFTLINE_NODE, DRIFTLINE_SCAN_MS, and where the runtimes are: DRIFTLINE_DOCKER_SOCKET,
/// DRIFTLINE_PODMAN_SOCKET, DRIFTLINE_PODMAN_COMMAND.
///
/// In registry mode: DRIFTLINE_REGISTRY_ALLOW (required: host[:port] or *.domain, comma-separated),
/// DRIFTLINE_REGISTRY_AUTH_FILE (Docker's config.json), DRIFTLINE_REGISTRY_CA_FILE (PEM),
/// DRIFTLINE_REGISTRY_CLIENT_CERTS (host=file.pem, certificates and key), DRIFTLINE_REGISTRY_PLAIN_HTTP (host[:port]),
/// DRIFTLINE_REGISTRY_MIRRORS (registry=host[:port][/prefix]), DRIFTLINE_REGISTRY_PROXY, DRIFTLINE_REGISTRY_NO_PROXY,
/// DRIFTLINE_REGISTRY_LAYERS, DRIFTLINE_REGISTRY_IDLE_S, DRIFTLINE_REGISTRY_SHARE (2/3: the second of three instances),
/// DRIFTLINE_INSTANCE.
#[derive(Debug, Parser)]
#[command(name = "driftline-indexer", version)]
struct Arguments {}

/// Where images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Node,
    Registry,
}

enum Chosen {
    Node(Box<NodeSettings>),
    Registry(Box<RegistrySettings>),
}

fn main() -> ExitCode {
    Arguments::parse();
    shutdown::exit_code("driftline-indexer", start())
}

fn start() -> anyhow::Result<()> {
    let mut settings = Settings::of_process();
    telemetry::start_logs(&mut settings);
    let modes = [("node", Mode::Node), ("registry", Mode::Registry)];
    let chosen = match settings.choice("DRIFTLINE_INDEXER_MODE", &modes, Mode::Node) {
        Mode::Node => Chosen::Node(Box::new(NodeSettings::read(&mut settings))),
        Mode::Registry => Chosen::Registry(Box::new(RegistrySettings::read(&mut settings))),
    };
    let address = settings.telemetry_address();
    settings.finish()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(async {
        let stop = shutdown::signalled()?;
        let telemetry = Telemetry::new("indexer");
        let bound = telemetry.serve(address).await?;
        tracing::info!(%bound, "telemetry served");
        match chosen {
            Chosen::Node(settings) => node::run(*settings, &telemetry, stop).await,
            Chosen::Registry(settings) => registry::run(*settings, &telemetry, stop).await,
        }
    });
    // A blocked read must not keep the process.
    runtime.shutdown_timeout(STOP_MAX);
    ended
}
