//! Indexes one image of the node: a runtime exports it and a blocking thread indexes the stream, or containerd's store
//! is read.

use std::io;
use std::time::Duration;

use driftline_engines::{ArchiveFormat, ImageContent, ImageExport, PODMAN, RuntimeError, Runtimes, StoredImage};
use driftline_service::clock;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;

use super::stored::Store;
use crate::blobs::{Options, go_on, index_blobs};
use crate::documents::Entry;
use crate::limits::STORED_LAYERS;
use crate::service::attempt::{JobError, Read, Task, add_references};
use crate::service::plan::Job;
use crate::{IndexError, Wanted, index_archive};

/// Longest wait for the next bytes of an export. podman writes whole layers to a temporary file before it sends them,
/// at some 200 MB/s; ten minutes let a layer of 100 GB pass.
const STALL_MAX: Duration = Duration::from_secs(600);

/// Reads an image from the runtime that holds it.
pub(super) async fn read_image(task: &Task, runtimes: &Runtimes) -> Result<Read, JobError> {
    let (runtime, references) = find(&task.job, runtimes).await?;
    let read = read_content(task, runtime, runtimes, ArchiveFormat::Docker).await;
    let mut read = match read {
        Err(error) if runtime == PODMAN && may_do_better(&error) && !task.is_stopped() => {
            tracing::info!(image = %task.job.image_id, %error, "exporting again as an OCI archive");
            read_content(task, runtime, runtimes, ArchiveFormat::Oci).await?
        }
        read => read?,
    };
    add_references(&mut read.indexed, references);
    Ok(read)
}

/// Whether podman may succeed with its other format. podman cannot write every image in its faster format; its command
/// reports that at the end of the stream, its service before the stream begins.
fn may_do_better(error: &JobError) -> bool {
    matches!(error, JobError::Index(IndexError::Read(_)) | JobError::Runtime(RuntimeError::Failed { .. }))
}

async fn read_content(
    task: &Task,
    runtime: &str,
    runtimes: &Runtimes,
    format: ArchiveFormat,
) -> Result<Read, JobError> {
    match runtimes.open_image(runtime, &task.job.image_id, format, clock::now_ns()).await? {
        ImageContent::Archive(export) => read_export(task, export).await,
        ImageContent::Stored(image) => read_stored(task, image).await,
    }
}

/// One export, read to its end.
async fn read_export(task: &Task, export: ImageExport) -> Result<Read, JobError> {
    let mut source = Blocking { export, handle: Handle::current(), task: task.clone(), bytes: 0 };
    let wanted = Wanted::id(&task.job.image_id);
    let read = tokio::task::spawn_blocking(move || {
        let indexed = index_archive(&mut source, &wanted)?;
        Ok(Read { indexed, bytes: source.bytes })
    });
    read.await?
}

/// Reads the layers of an image in a store that are not known yet.
async fn read_stored(task: &Task, image: StoredImage) -> Result<Read, JobError> {
    let (task, handle) = (task.clone(), Handle::current());
    let read = tokio::task::spawn_blocking(move || {
        let store = Store::new(&image, handle);
        let options =
            Options { lanes: STORED_LAYERS, known: &|diff_id| task.known.contains(diff_id), stop: &task.stop };
        let start = Entry::Digest(image.start().to_owned());
        let indexed = index_blobs(&store, &start, &Wanted::id(&task.job.image_id), options);
        let read = indexed.map(|indexed| Read { indexed, bytes: store.bytes() });
        (read, image)
    });
    let (read, image) = read.await?;
    image.close().await;
    Ok(read?)
}

/// The runtime that holds the image, and the references under which the runtime knows it.
async fn find(job: &Job, runtimes: &Runtimes) -> Result<(&'static str, Vec<String>), JobError> {
    let (named, others): (Vec<_>, Vec<_>) = runtimes.with_images().partition(|runtime| *runtime == job.runtime);
    for runtime in named.into_iter().chain(others) {
        if let Some(references) = runtimes.image_references(runtime, &job.image_id).await? {
            return Ok((runtime, references));
        }
    }
    Err(JobError::NotHere)
}

/// The export as a blocking reader for the indexing thread.
struct Blocking {
    export: ImageExport,
    handle: Handle,
    task: Task,
    bytes: u64,
}

impl io::Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        go_on(&[&self.task.stop])?;
        let read = self.handle.block_on(tokio::time::timeout(STALL_MAX, self.export.read(buffer)));
        let read = read.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the runtime stopped sending"))??;
        self.bytes = self.bytes.saturating_add(crate::tar_stream::as_u64(read));
        Ok(read)
    }
}
