//! One attempt at one image: the runtime exports it, a blocking thread indexes the stream, the result is published.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use driftline_collector_runtimes::{ArchiveFormat, ImageExport, PODMAN, RuntimeError, Runtimes};
use driftline_runtime::clock;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::plan::Job;
use crate::limits::{NAME_BYTES_MAX, NAMES_MAX};
use crate::publish::{PublishError, Publisher};
use crate::{IndexError, Indexed, Wanted, index_archive};
use driftline_schemas::ImageFailure;

/// Longest wait for the next bytes of an export. podman writes whole layers to a temporary file before it sends them,
/// at some 200 MB/s; ten minutes let a layer of 100 GB pass.
const STALL_MAX: Duration = Duration::from_secs(600);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error("no runtime of this node holds the image")]
    NotHere,
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("the indexing thread failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl JobError {
    /// What kind of failure it is.
    pub(super) fn failure(&self) -> ImageFailure {
        match self {
            Self::Publish(PublishError::Manifest(_)) => ImageFailure::Unsupported,
            Self::Index(error) => error.failure(),
            _ => ImageFailure::Unavailable,
        }
    }

    /// Kafka's refusal concerns every image.
    pub(super) fn is_kafka(&self) -> bool {
        matches!(self, Self::Publish(PublishError::Kafka(_)))
    }
}

/// What an attempt achieved.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) layers: usize,
    pub(super) fresh_layers: usize,
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

/// Indexes and publishes an image.
pub(super) async fn perform(
    job: Job,
    runtimes: Arc<Runtimes>,
    publisher: Arc<Mutex<Publisher>>,
    stop: Arc<AtomicBool>,
) -> Result<Done, JobError> {
    let (runtime, references) = find(&job, &runtimes).await?;
    let read = read_export(&job, runtime, &runtimes, ArchiveFormat::Docker, &stop).await;
    let (mut indexed, bytes) = match read {
        // podman cannot write every image in its faster format, and says so at the end of the stream.
        Err(JobError::Index(IndexError::Read(error))) if runtime == PODMAN && !stop.load(Ordering::Acquire) => {
            tracing::info!(image = %job.image_id, %error, "exporting again as an OCI archive");
            read_export(&job, runtime, &runtimes, ArchiveFormat::Oci, &stop).await?
        }
        read => read?,
    };
    add_references(&mut indexed, references, job.reference);
    let fresh_layers = publisher.lock().await.publish(&indexed, clock::now_ns()).await?;
    let entries = indexed.layers.iter().map(|layer| layer.manifest.entries().len()).sum();
    Ok(Done { layers: indexed.layers.len(), fresh_layers, entries, bytes })
}

/// One export, read to its end: the image, and how many bytes it was.
async fn read_export(
    job: &Job,
    runtime: &str,
    runtimes: &Runtimes,
    format: ArchiveFormat,
    stop: &Arc<AtomicBool>,
) -> Result<(Indexed, u64), JobError> {
    let export = runtimes.export_image(runtime, &job.image_id, format).await?;
    let mut source = Blocking { export, handle: Handle::current(), stop: Arc::clone(stop), bytes: 0 };
    let wanted = Wanted::id(&job.image_id);
    let read = tokio::task::spawn_blocking(move || {
        let indexed = index_archive(&mut source, &wanted)?;
        Ok((indexed, source.bytes))
    });
    read.await?
}

/// The runtime that holds the image, with the references it knows it by.
async fn find(job: &Job, runtimes: &Runtimes) -> Result<(&'static str, Vec<String>), JobError> {
    let (named, others): (Vec<_>, Vec<_>) = runtimes.answering().partition(|runtime| *runtime == job.runtime);
    for runtime in named.into_iter().chain(others) {
        if let Some(references) = runtimes.image_references(runtime, &job.image_id).await? {
            return Ok((runtime, references));
        }
    }
    Err(JobError::NotHere)
}

fn add_references(indexed: &mut Indexed, known: Vec<String>, deployed: String) {
    let references = &mut indexed.image.references;
    let is_name =
        |text: &String| !text.is_empty() && text.len() <= NAME_BYTES_MAX && !driftline_schemas::is_digest(text);
    references.extend(known.into_iter().chain([deployed]).filter(is_name));
    references.sort();
    references.dedup();
    references.truncate(NAMES_MAX);
}

/// The export as the indexing thread reads it.
struct Blocking {
    export: ImageExport,
    handle: Handle,
    stop: Arc<AtomicBool>,
    bytes: u64,
}

impl Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Acquire) {
            return Err(io::Error::other("the indexer stops"));
        }
        let read = self.handle.block_on(tokio::time::timeout(STALL_MAX, self.export.read(buffer)));
        let read = read.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the runtime stopped sending"))??;
        self.bytes = self.bytes.saturating_add(crate::tar_stream::as_u64(read));
        Ok(read)
    }
}
