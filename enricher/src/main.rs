//! `driftline-enricher`: reads exec-events, joins them with image manifests, writes findings.
//!
//! This file wires the service: settings → tables caught up → the loop. Decisions are in `driftline-enricher-core`; I/O
//! on its behalf (loading an image, reading the image tables) is in [`shell`].

mod shell;

use anyhow::Context as _;
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use driftline_enricher::store::{self, Feed, Opened, Origin, Rebuilt};
use driftline_enricher_core::{Enricher, Settings as CoreSettings, Trust};
use driftline_kafka::{ClientSettings, OffsetRange, TopicReader, admin, persist};
use driftline_schemas::topics::Topic;
use driftline_service::service::{Membership, Service};
use driftline_service::settings::{Identity, kafka};
use driftline_service::telemetry::{Telemetry, start_logs};
use driftline_service::{clock, shutdown};
use driftline_settings::{Program, Settings, document, table};
use shell::{EnricherShell, ShellSettings};

/// Decides for every exec in a container whether its program belongs to the image.
///
/// Settings come from the environment and from a configuration file.
#[derive(Debug, Parser)]
#[command(name = "driftline-enricher", version, after_help = document::help(Program::Enricher))]
struct Arguments {
    /// Configuration file, TOML [env: DRIFTLINE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Topics that must exist.
const TOPICS: [Topic; 7] = [
    Topic::ExecEvents,
    Topic::Images,
    Topic::ImageLayers,
    Topic::ImageRequests,
    Topic::Findings,
    Topic::DeadLetters,
    Topic::EnricherState,
];

/// All settings, validated.
struct Configuration {
    kafka: ClientSettings,
    kafka_wait: Duration,
    identity: Identity,
    cluster: String,
    park: Duration,
    shell: ShellSettings,
    trust: Trust,
    store: PathBuf,
    store_bytes_max: u64,
    images_bytes_max: u64,
    telemetry: std::net::SocketAddr,
}

impl Configuration {
    /// Reads the settings; `settings` collects the errors.
    fn read(settings: &mut Settings) -> Self {
        Self {
            kafka: kafka(settings, "enricher"),
            kafka_wait: settings.get(&table::KAFKA_WAIT_S),
            identity: Identity::read(settings),
            cluster: settings.get(&table::CLUSTER),
            park: settings.get(&table::PARK_MS),
            shell: ShellSettings {
                cache_bytes: settings.get(&table::IMAGE_CACHE_MIB),
                keep: settings.get(&table::IMAGE_KEEP_S),
            },
            trust: settings.choice(&table::TRUST, &Trust::NAMES).unwrap_or_default(),
            store: settings.get(&table::STORE_DIR).into(),
            store_bytes_max: settings.get(&table::STORE_MAX_MB),
            images_bytes_max: settings.get(&table::IMAGES_MAX_MB),
            telemetry: settings.get(&table::TELEMETRY_ADDR),
        }
    }
}

fn configuration(config: Option<&Path>) -> anyhow::Result<Configuration> {
    let mut settings = Settings::of_process(Program::Enricher, config);
    start_logs(&mut settings);
    let configuration = Configuration::read(&mut settings);
    settings.finish()?;
    Ok(configuration)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    shutdown::exit_code("driftline-enricher", run(arguments.config.as_deref()).await)
}

async fn run(config: Option<&Path>) -> anyhow::Result<()> {
    let configuration = configuration(config)?;
    let mut stop = std::pin::pin!(shutdown::signalled().context("cannot handle signals")?);
    let telemetry = Telemetry::new("enricher");
    let address = telemetry.serve(configuration.telemetry).await?;
    tracing::info!(%address, "telemetry");
    let service = tokio::select! {
        service = join(&configuration, &telemetry) => service?,
        _ = &mut stop => return Ok(()),
    };
    Ok(service.run(stop).await?)
}

/// Waits for Kafka, reads the tables, and joins the group.
async fn join(configuration: &Configuration, telemetry: &Telemetry) -> anyhow::Result<Service<EnricherShell>> {
    let kafka = &configuration.kafka;
    admin::wait(kafka, configuration.kafka_wait).await?;
    persist(configuration.kafka_wait, "topics", || admin::check(kafka, &TOPICS)).await?;
    let began = clock::monotonic();
    let opened = open_store(configuration, telemetry).await?;
    let store = Arc::new(opened.store.bounded(configuration.store_bytes_max));
    let unread = unread(&opened.ranges);
    let feed = Feed::start(TopicReader::follow(kafka, &opened.ranges)?, Arc::clone(&store), kafka.clone());
    let mut shell = EnricherShell::new(feed, store, opened.tables, configuration.shell, telemetry)?;
    tracing::info!(images = shell.image_count(), unread, "image store open");
    shell.catch_up().await?;
    tracing::info!(seconds = began.elapsed().as_secs_f64(), images = shell.image_count(), "image tables caught up");

    let park_ns = i64::try_from(configuration.park.as_nanos()).unwrap_or(i64::MAX);
    let core = Enricher::new(CoreSettings {
        cluster: configuration.cluster.clone(),
        partitions: kafka.partition_count(Topic::ExecEvents),
        park_ns,
        trust: configuration.trust,
        versions: CoreSettings::versions(park_ns, configuration.trust),
    });
    let core = core.bounded(usize::try_from(configuration.images_bytes_max).unwrap_or(usize::MAX));
    let membership = Membership {
        service: "enricher",
        input: Topic::ExecEvents,
        state: Topic::EnricherState,
        identity: configuration.identity.clone(),
        kafka_wait: configuration.kafka_wait,
    };
    Ok(Service::join(membership, shell, core, kafka, telemetry).await?)
}

/// Opens the store; creates a new one in place of one with unusable content.
async fn open_store(configuration: &Configuration, telemetry: &Telemetry) -> anyhow::Result<Opened> {
    let kafka = &configuration.kafka;
    let rebuilt = telemetry.counters(
        "enricher_store_rebuilt_total",
        "Image stores set aside and filled anew from the topics, by reason",
        &["reason"],
    )?;
    Rebuilt::ALL.into_iter().for_each(|reason| drop(rebuilt.with_label_values(&[reason.label()])));
    let wait = configuration.kafka_wait;
    let cluster = persist(wait, "the cluster's id", || admin::cluster_id(kafka)).await?;
    let origin = Origin { cluster, prefix: kafka.prefix.clone() };
    let extent = persist(wait, "ends of the tables", || TopicReader::extent(kafka, &store::TABLES)).await?;
    let (directory, trust) = (configuration.store.clone(), configuration.trust);
    let opened = tokio::task::spawn_blocking(move || store::open(&directory, &origin, trust, &extent)).await??;
    if let Some(reason) = opened.rebuilt {
        rebuilt.with_label_values(&[reason.label()]).inc();
    }
    Ok(opened)
}

/// Number of offsets to read until the tables are caught up.
fn unread(ranges: &[OffsetRange]) -> i64 {
    ranges.iter().map(|range| range.end.saturating_sub(range.begin)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_the_enricher_is_read_and_no_other() {
        let mut settings = Settings::of_values([("KAFKA_BOOTSTRAP", "a:1")]);
        start_logs(&mut settings);
        let _ = Configuration::read(&mut settings);
        settings.finish().unwrap();
        assert_eq!(settings.names_read(), table::names_of(Program::Enricher));
    }
}
