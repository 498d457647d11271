//! `driftline-correlator`: reads findings, groups those of a container that belong together, writes alerts.
//!
//! This file wires settings and the loop; what makes an alert is in `driftline-correlator-core`, what it looks like to a
//! SIEM in `driftline-formats`.

mod configuration;

use anyhow::Context as _;
use clap::Parser;
use prometheus::IntGauge;
use std::process::ExitCode;

use driftline_correlator_core::{Ask, Correlator, Input};
use driftline_kafka::{admin, persist};
use driftline_schemas::topics::Topic;
use driftline_service::service::{Backlog, Membership, Service, ServiceError, Shell};
use driftline_service::shutdown;
use driftline_service::telemetry::Telemetry;

/// Groups the findings of each container over time into severity-scored alerts.
///
/// Settings come from the environment: KAFKA_BOOTSTRAP (required), DRIFTLINE_TOPIC_PREFIX, DRIFTLINE_PARTITIONS,
/// DRIFTLINE_INSTANCE, DRIFTLINE_DELIVERY, DRIFTLINE_SESSION_GAP_S, DRIFTLINE_SESSION_CAP_S,
/// DRIFTLINE_SESSION_RETENTION_S, DRIFTLINE_SESSIONS_MAX_MB, DRIFTLINE_ALERT_THRESHOLD, DRIFTLINE_ALERT_FORMATS,
/// DRIFTLINE_KAFKA_WAIT_S, DRIFTLINE_TELEMETRY_ADDR, DRIFTLINE_LOG, DRIFTLINE_LOG_FORMAT.
#[derive(Debug, Parser)]
#[command(name = "driftline-correlator", version)]
struct Arguments {}

#[tokio::main]
async fn main() -> ExitCode {
    Arguments::parse();
    shutdown::exit_code("driftline-correlator", run().await)
}

async fn run() -> anyhow::Result<()> {
    let configuration = configuration::read()?;
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

/// The correlator needs nothing beside its input.
struct CorrelatorShell {
    sessions_bytes: IntGauge,
}

impl Shell for CorrelatorShell {
    type Stage = Correlator;

    /// A session must not be called quiet while findings that belong to it are still being read.
    fn tick(&mut self, backlog: Backlog) -> Option<Input> {
        (backlog == Backlog::None).then_some(Input::Tick)
    }

    fn command(&mut self, command: Ask) {
        match command {}
    }

    fn observe(&mut self, core: &Correlator) {
        self.sessions_bytes.set(i64::try_from(core.sessions_bytes()).unwrap_or(i64::MAX));
    }

    async fn next(&mut self) -> Result<Input, ServiceError> {
        std::future::pending().await
    }
}
