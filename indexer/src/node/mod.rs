//! The indexer of one node: indexes the images of its containers and answers the requests that concern it.

mod job;
mod scan;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use driftline_engines::{RuntimeSettings, Runtimes};
use driftline_enricher_core::Trust;
use driftline_schemas::{ImageId, ImageRequest};
use driftline_service::telemetry::Telemetry;
use driftline_settings::{Settings, table};
use tokio::sync::{mpsc, watch};

use crate::Indexed;
use crate::service::attempt::{JobError, Read, Task};
use crate::service::plan::Job;
use crate::service::{self, Origin, ServiceSettings, Turn};
use scan::{Scanner, log_states};

/// Most images found by the scanner that wait to be taken.
const FOUND_MAX: usize = 256;

/// Settings of the node's indexer.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Settings of every indexer.
    pub service: ServiceSettings,
    /// Name of this node in requests and as the source of manifests.
    pub node: String,
    /// The locations of the runtimes.
    pub runtimes: RuntimeSettings,
    /// Pause between scans of the running containers.
    pub scan_pause: Duration,
}

impl NodeSettings {
    /// Reads the settings; records problems in `settings`.
    #[must_use]
    pub fn read(settings: &mut Settings) -> Self {
        Self {
            service: ServiceSettings::read(settings),
            node: settings.get(&table::NODE),
            runtimes: RuntimeSettings::read(settings),
            scan_pause: settings.get(&table::SCAN_MS),
        }
    }
}

/// Indexes one image from whichever engine of this node holds it, without the service and without Kafka.
///
/// # Errors
/// When no engine holds it, an engine does not answer, or the image cannot be indexed.
pub async fn index_image(runtimes: &Runtimes, image_id: &ImageId) -> anyhow::Result<Indexed> {
    let job = Job { image_id: image_id.clone(), runtime: String::new(), reference: String::new() };
    let task = Task { job, known: Arc::default(), stop: Arc::default() };
    Ok(job::read_image(&task, runtimes).await?.indexed)
}

/// Runs until `stop` resolves.
///
/// # Errors
/// When Kafka cannot be used at start, or stops taking records.
pub async fn run(
    settings: NodeSettings,
    telemetry: &Telemetry,
    stop: impl Future<Output = &'static str>,
) -> anyhow::Result<()> {
    service::kafka_ready(&settings.service).await?;
    let runtimes = Arc::new(Runtimes::detect(&settings.runtimes).await);
    log_states(&runtimes);
    let (sender, runtimes) = watch::channel(runtimes);
    let (found_sender, found) = mpsc::channel(FOUND_MAX);
    let scanner = Scanner {
        settings: settings.runtimes,
        pause: settings.scan_pause,
        runtimes: sender,
        found: found_sender,
        answering: telemetry.gauge("indexer_runtimes", "container runtimes that answer")?,
    };
    let scanner = tokio::spawn(scanner.run());
    let node = Node { name: settings.node, runtimes };
    let ended = service::run(settings.service, node, found, telemetry, stop).await;
    scanner.abort();
    ended
}

/// The engines of a node as the origin of images.
struct Node {
    name: String,
    runtimes: watch::Receiver<Arc<Runtimes>>,
}

impl Origin for Node {
    fn source(&self) -> String {
        format!("node:{}", self.name)
    }

    fn turn(&self, request: &ImageRequest) -> Turn {
        if request.node == self.name { Turn::After { pause_ns: 0 } } else { Turn::Never }
    }

    fn suffices(&self, source: &str, trust: Trust) -> bool {
        trust.counts(source, Some(&self.name))
    }

    async fn read(&self, task: &Task) -> Result<Read, JobError> {
        let runtimes = Arc::clone(&self.runtimes.borrow());
        job::read_image(task, &runtimes).await
    }
}
