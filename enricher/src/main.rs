//! `driftline-enricher`: reads exec-events, joins them with image manifests, writes findings.
//!
//! This file wires: settings → tables caught up → the loop. Decisions are in `driftline-enricher-core`; what is done
//! for it (load an image, read the image tables) is in [`shell`].

mod shell;

use anyhow::Context as _;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use driftline_enricher::store::{self, Feed, Opened, Origin, Rebuilt};
use driftline_enricher_core::{Enricher, Settings as CoreSettings, Trust};
use driftline_kafka::{ClientSettings, OffsetRange, TopicReader, admin, persist};
use driftline_schemas::topics::Topic;
use driftline_service::env::{Identity, Settings};
use driftline_service::service::{Membership, Service};
use driftline_service::telemetry::{Telemetry, start_logs};
use driftline_service::{clock, shutdown};
use shell::{EnricherShell, ShellSettings};

/// Decides of every exec in a container whether its program belongs to the image.
///
/// Settings come from the environment: KAFKA_BOOTSTRAP (required), DRIFTLINE_TOPIC_PREFIX, DRIFTLINE_PARTITIONS,
/// DRIFTLINE_INSTANCE, DRIFTLINE_DELIVERY, DRIFTLINE_CLUSTER, DRIFTLINE_PARK_MS, DRIFTLINE_IMAGE_CACHE_MIB, DRIFTLINE_IMAGE_KEEP_S,
/// DRIFTLINE_IMAGES_MAX_MB, DRIFTLINE_TRUST, DRIFTLINE_STORE_DIR, DRIFTLINE_STORE_MAX_MB, DRIFTLINE_KAFKA_WAIT_S,
/// DRIFTLINE_TELEMETRY_ADDR, DRIFTLINE_LOG, DRIFTLINE_LOG_FORMAT.
#[derive(Debug, Parser)]
#[command(name = "driftline-enricher", version)]
struct Arguments {}

/// Topics that must be there.
const TOPICS: [Topic; 7] = [
    Topic::ExecEvents,
    Topic::Images,
    Topic::ImageLayers,
    Topic::ImageRequests,
    Topic::Findings,
    Topic::DeadLetters,
    Topic::EnricherState,
];

/// How long content of images is kept on disk that no container uses, unless set: a cron job's image is used again within
/// it, and findings are amended for as long.
const KEEP_S: i64 = 3_600;
/// A month; who wants more has the disk for a store of each instance without collection.
const KEEP_S_MAX: i64 = 31 * 86_400;

/// Most of the disk that the image store has, unless set: chunks and merged images of 1,000 images of 10,000 files, which
/// have some 250 bytes a file together, and half as much again.
const STORE_MB_MAX: i64 = 4_000;
/// Most memory of the merged images of running containers, unless set: 500 images of 10,000 files at 200 bytes, which is
/// what a file of a distribution takes with its path.
const IMAGES_MB_MAX: i64 = 1_000;
/// As large as disks are; a bound that is never reached.
const STORE_MB_MOST: i64 = 1_000_000_000;

/// Everything configurable, validated.
struct Configuration {
    kafka: ClientSettings,
    kafka_wait: Duration,
    identity: Identity,
    cluster: String,
    park_ms: i64,
    shell: ShellSettings,
    trust: Trust,
    store: PathBuf,
    store_mb_max: i64,
    images_mb_max: i64,
    telemetry: std::net::SocketAddr,
}

fn configuration() -> anyhow::Result<Configuration> {
    let mut settings = Settings::of_process();
    start_logs(&mut settings);
    let configuration = Configuration {
        kafka: settings.kafka("enricher"),
        kafka_wait: settings.kafka_wait(),
        identity: settings.identity(),
        cluster: settings.cluster(),
        park_ms: settings.number("DRIFTLINE_PARK_MS", 5_000, 0..=60_000),
        shell: ShellSettings {
            cache_mib: settings.number("DRIFTLINE_IMAGE_CACHE_MIB", 256, 16..=65_536),
            keep: Duration::from_secs(settings.number("DRIFTLINE_IMAGE_KEEP_S", KEEP_S, 1..=KEEP_S_MAX).unsigned_abs()),
        },
        trust: settings.choice("DRIFTLINE_TRUST", &Trust::NAMES, Trust::default()),
        store: PathBuf::from(settings.text("DRIFTLINE_STORE_DIR", "/var/lib/driftline/enricher")),
        store_mb_max: settings.number("DRIFTLINE_STORE_MAX_MB", STORE_MB_MAX, 64..=STORE_MB_MOST),
        images_mb_max: settings.number("DRIFTLINE_IMAGES_MAX_MB", IMAGES_MB_MAX, 1..=1_000_000),
        telemetry: settings.telemetry_address(),
    };
    settings.finish()?;
    Ok(configuration)
}

#[tokio::main]
async fn main() -> ExitCode {
    Arguments::parse();
    shutdown::exit_code("driftline-enricher", run().await)
}

async fn run() -> anyhow::Result<()> {
    let configuration = configuration()?;
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

/// Waits for Kafka, reads the tables, joins the group.
async fn join(configuration: &Configuration, telemetry: &Telemetry) -> anyhow::Result<Service<EnricherShell>> {
    let kafka = &configuration.kafka;
    admin::wait(kafka, configuration.kafka_wait).await?;
    persist(configuration.kafka_wait, "topics", || admin::check(kafka, &TOPICS)).await?;
    let began = clock::monotonic();
    let opened = open_store(configuration, telemetry).await?;
    let bytes_max = configuration.store_mb_max.unsigned_abs().saturating_mul(1_000_000);
    let (store, unread) = (Arc::new(opened.store.bounded(bytes_max)), unread(&opened.ranges));
    let feed = Feed::start(TopicReader::follow(kafka, &opened.ranges)?, Arc::clone(&store), kafka.clone());
    let mut shell = EnricherShell::new(feed, store, opened.tables, configuration.shell, telemetry)?;
    tracing::info!(images = shell.image_count(), unread, "image store open");
    shell.catch_up().await?;
    tracing::info!(seconds = began.elapsed().as_secs_f64(), images = shell.image_count(), "image tables caught up");

    let park_ns = configuration.park_ms.saturating_mul(1_000_000);
    let core = Enricher::new(CoreSettings {
        cluster: configuration.cluster.clone(),
        partitions: kafka.partition_count(Topic::ExecEvents),
        park_ns,
        trust: configuration.trust,
        versions: CoreSettings::versions(park_ns, configuration.trust),
    });
    let images_bytes_max = configuration.images_mb_max.unsigned_abs().saturating_mul(1_000_000);
    let core = core.bounded(usize::try_from(images_bytes_max).unwrap_or(usize::MAX));
    let membership = Membership {
        service: "enricher",
        input: Topic::ExecEvents,
        state: Topic::EnricherState,
        identity: configuration.identity.clone(),
        kafka_wait: configuration.kafka_wait,
    };
    Ok(Service::join(membership, shell, core, kafka, telemetry).await?)
}

/// Opens the store; of many things that can be wrong with it, a new one is the answer.
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

/// How many offsets are to be read until the tables are caught up.
fn unread(ranges: &[OffsetRange]) -> i64 {
    ranges.iter().map(|range| range.end.saturating_sub(range.begin)).sum()
}
