//! `driftline-correlator`: reads findings, groups those of a container that belong together, writes alerts.
//!
//! This file wires settings and the loop. The rules of alerts are in `driftline-correlator-core`, the SIEM formats in
//! `driftline-formats`.

mod configuration;

use anyhow::Context as _;
use clap::Parser;
use prometheus::IntGauge;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use driftline_correlator_core::{Command, Correlator, Input};
use driftline_kafka::{admin, persist};
use driftline_schemas::topics::Topic;
use driftline_service::service::{Backlog, Membership, Service, ServiceError, Shell};
use driftline_service::shutdown;
use driftline_service::telemetry::Telemetry;
use driftline_settings::{Program, document};

/// Groups the findings of each container over time into severity-scored alerts.
///
/// Settings come from the environment and from a configuration file.
#[derive(Debug, Parser)]
#[command(name = "driftline-correlator", version, after_help = document::help(Program::Correlator))]
struct Arguments {
    /// Configuration file, TOML [env: DRIFTLINE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    shutdown::exit_code("driftline-correlator", run(arguments.config.as_deref()).await)
}

async fn run(config: Option<&Path>) -> anyhow::Result<()> {
    let configuration = configuration::read(config)?;
    let mut stop = std::pin::pin!(shutdown::signalled().context("cannot handle signals")?);
    let telemetry = Telemetry::new("correlator");
    let address = telemetry.serve(configuration.telemetry).await?;
    tracing::info!(%address, "telemetry");
    let service = tokio::select! {
        service = join(configuration, &telemetry) => service?,
        _ = &mut stop => return Ok(()),
    };
    Ok(service.run(stop).await?)
}

/// Waits for Kafka and joins the group.
async fn join(
    configuration: configuration::Configuration,
    telemetry: &Telemetry,
) -> anyhow::Result<Service<CorrelatorShell>> {
    let kafka = &configuration.kafka;
    admin::wait(kafka, configuration.kafka_wait).await?;
    let topics = configuration.topics();
    persist(configuration.kafka_wait, "topics", || admin::check(kafka, &topics)).await?;
    let membership = Membership {
        service: "correlator",
        input: Topic::Findings,
        state: Topic::CorrelatorState,
        identity: configuration.identity.clone(),
        kafka_wait: configuration.kafka_wait,
    };
    let core = Correlator::new(configuration.core, kafka.partition_count(Topic::Findings));
    let sessions_bytes = telemetry.gauge("sessions_bytes", "Estimate of the memory that sessions take")?;
    Ok(Service::join(membership, CorrelatorShell { sessions_bytes }, core, kafka, telemetry).await?)
}

/// The correlator needs only its input.
struct CorrelatorShell {
    sessions_bytes: IntGauge,
}

impl Shell for CorrelatorShell {
    type Stage = Correlator;

    /// A session must not become quiet while findings that belong to it are still being read.
    fn tick(&mut self, backlog: Backlog) -> Option<Input> {
        (backlog == Backlog::None).then_some(Input::Tick)
    }

    fn command(&mut self, command: Command) {
        match command {}
    }

    fn observe(&mut self, core: &Correlator) {
        self.sessions_bytes.set(i64::try_from(core.sessions_bytes()).unwrap_or(i64::MAX));
    }

    async fn next(&mut self) -> Result<Input, ServiceError> {
        std::future::pending().await
    }
}
