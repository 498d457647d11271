//! Clients of the container runtimes of one node: what a container is, and what its image contains.
//!
//! Used by the collector, which describes containers, and by the indexer, which reads their images. Docker is used over
//! its socket, podman over its socket or by its command, containerd and CRI-O over the Container Runtime Interface (CRI);
//! images come from Docker, podman and containerd. What only the cluster knows of a pod comes from the Kubernetes API
//! (feature `kubernetes`). Everything in their answers about a container was chosen by somebody who may start containers:
//! it is text, bounded, and never becomes an argument, a path or a query.
//!
//! What is deliberately absent: any change to a container, and any decision about what it does.

mod command;
mod containerd;
mod coverage;
mod cri;
mod docker;
mod events;
mod grpc;
mod http;
mod inspect;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod limits;
mod mounts;
mod one_by_one;
mod podman;
#[cfg(feature = "testing")]
pub mod testing;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use driftline_schemas::{Container, ContainerId, ImageId, Mount, is_digest};
use driftline_settings::{Settings, table};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, ReadBuf};

use command::CommandReader;
use containerd::Containerd;
pub use containerd::{BlobStream, StoredImage};
pub use coverage::Coverage;
use cri::Cri;
use docker::Docker;
pub use events::{EventCounts, Listener};
use http::BodyReader;
use inspect::Inspected;
use one_by_one::OneByOne as _;
use podman::Podman;

/// Runtime name of containerd in container records.
pub const CONTAINERD: &str = "containerd";
/// Runtime name of CRI-O in container records.
pub const CRIO: &str = "crio";
/// How a runtime is named that answers over CRI and is neither.
pub const CRI: &str = "cri";
/// Runtime name of Docker in container records.
pub const DOCKER: &str = "docker";
/// Runtime name of podman in container records.
pub const PODMAN: &str = "podman";

/// Where the runtimes of this node are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// containerd's socket.
    pub containerd_socket: PathBuf,
    /// Sockets of runtimes that implement CRI; all of them are used.
    pub cri_sockets: Vec<PathBuf>,
    /// Docker's API socket.
    pub docker_socket: PathBuf,
    /// Socket of podman's API service, which is optional.
    pub podman_socket: PathBuf,
    /// podman's command, for when there is no service.
    pub podman_command: String,
    /// Pod annotations that container records may carry: names, or beginnings of names with a `*` after them.
    pub annotations: Vec<String>,
    /// Where the node's process file system is mounted.
    pub proc: PathBuf,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self::read(&mut Settings::of_values::<&str, &str>([]))
    }
}

impl RuntimeSettings {
    /// Reads the settings; what is not given has the default of Linux distributions. Annotations are the collector's to read.
    #[must_use]
    pub fn read(settings: &mut Settings) -> Self {
        let containerd_socket = settings.get(&table::CONTAINERD_SOCKET);
        let mut cri_sockets = settings.get(&table::CRI_SOCKET);
        if settings.optional(&table::CRI_SOCKET).is_none() {
            cri_sockets.insert(0, containerd_socket.clone());
        }
        Self {
            cri_sockets: cri_sockets.into_iter().map(PathBuf::from).collect(),
            containerd_socket: containerd_socket.into(),
            annotations: Vec::new(),
            docker_socket: settings.get(&table::DOCKER_SOCKET).into(),
            podman_socket: settings.get(&table::PODMAN_SOCKET).into(),
            podman_command: settings.get(&table::PODMAN_COMMAND),
            proc: settings.get(&table::PROC).into(),
        }
    }
}

/// Why a runtime did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// It took too long.
    #[error("{0} did not answer in time")]
    Slow(&'static str),
    /// It cannot be reached, or answered with an error or with something else than expected.
    #[error("{runtime}: {why}")]
    Failed {
        /// Which runtime.
        runtime: &'static str,
        /// Its error.
        why: String,
    },
    /// No runtime of this name answers here.
    #[error("no runtime {0:?} answers on this node")]
    Unknown(String),
    /// An id that is not of the form every runtime gives.
    #[error("{0:?} is not an image id")]
    BadImageId(String),
}

impl RuntimeError {
    fn failed(runtime: &'static str, why: impl fmt::Display) -> Self {
        Self::Failed { runtime, why: text::shortened(&why.to_string(), limits::ERROR_BYTES_MAX) }
    }
}

/// A container as its runtime and the kernel describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// The record.
    pub container: Container,
    /// Its mounts without its root, longest point first, at most [`driftline_schemas::limits::MOUNTS_MAX`].
    pub mounts: Vec<Mount>,
    /// Its first process on the host; nothing when it does not run.
    pub init_pid: Option<i32>,
    /// It ran, and does not run any more.
    pub has_ended: bool,
    /// It only holds a pod's namespaces.
    pub sandbox: bool,
    /// How often it was restarted in its pod, as the kubelet counts.
    pub attempt: i32,
    /// Annotations of its pod, as far as the settings allow.
    pub annotations: BTreeMap<String, String>,
    /// Name of the runtime class or program that runs it; empty when the runtime does not name it.
    pub handler: String,
    /// Whether its execs can be seen.
    pub coverage: Coverage,
}

/// Running containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Their ids.
    pub ids: Vec<ContainerId>,
    /// No runtime failed to answer, so what is missing does not run.
    pub is_whole: bool,
}

impl Listed {
    fn take(&mut self, answer: Result<Vec<ContainerId>, RuntimeError>) {
        self.is_whole &= answer.is_ok();
        self.ids.extend(or_logged(answer));
    }
}

/// Whether a runtime answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeState {
    /// Which.
    pub runtime: &'static str,
    /// How it is reached, or why it is not.
    pub state: Result<String, RuntimeError>,
}

/// The runtimes of this node that answer.
#[derive(Debug)]
pub struct Runtimes {
    settings: RuntimeSettings,
    containerd: Option<Containerd>,
    cri: Vec<Cri>,
    docker: Option<Docker>,
    podman: Option<Podman>,
    states: Vec<RuntimeState>,
}

impl Runtimes {
    /// Finds out which runtimes answer; [`Self::states`] has the reason for the others.
    pub async fn detect(settings: &RuntimeSettings) -> Self {
        let (docker, podman, containerd, cri) = tokio::join!(
            Docker::detect(settings),
            Podman::detect(settings),
            Containerd::detect(settings),
            Cri::detect(settings)
        );
        let (cri, cri_state) = split(cri);
        let (containerd, containerd_state) = split(containerd);
        let (docker, docker_state) = split(docker);
        let (podman, podman_state) = split(podman);
        let states = vec![
            RuntimeState { runtime: DOCKER, state: docker_state },
            RuntimeState { runtime: PODMAN, state: podman_state },
            RuntimeState { runtime: CONTAINERD, state: containerd_state },
            RuntimeState { runtime: CRI, state: cri_state },
        ];
        Self { settings: settings.clone(), containerd, cri: cri.unwrap_or_default(), docker, podman, states }
    }

    /// What was found out about each runtime.
    #[must_use]
    pub fn states(&self) -> &[RuntimeState] {
        &self.states
    }

    /// Names of the runtimes that answer.
    pub fn answering(&self) -> impl Iterator<Item = &'static str> {
        self.states.iter().filter(|state| state.state.is_ok()).map(|state| state.runtime)
    }

    /// Names of the runtimes that answer and give images. CRI gives none; containerd does beside it.
    pub fn with_images(&self) -> impl Iterator<Item = &'static str> {
        self.answering().filter(|runtime| *runtime != CRI)
    }

    /// Describes a container; nothing when no runtime knows it.
    ///
    /// # Errors
    /// When no runtime knows it and one did not answer.
    pub async fn describe(&self, id: &ContainerId) -> Result<Option<Described>, RuntimeError> {
        if !is_hex_id(id.as_str()) {
            return Ok(None);
        }
        let mut failed = None;
        let mut known = |answer: Result<Option<Inspected>, RuntimeError>| {
            answer.unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        };
        let mut found = None;
        for cri in &self.cri {
            found = if found.is_none() { known(cri.inspect(id).await) } else { found };
        }
        if let (None, Some(docker)) = (&found, &self.docker) {
            found = known(docker.inspect(id).await);
        }
        // Last: its command takes a hundred times as long as a socket.
        if let (None, Some(podman)) = (&found, &self.podman) {
            found = known(podman.inspect(id).await);
        }
        match (found, failed) {
            (Some(found), _) => Ok(Some(self.described(found).await)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Describes all running containers. A runtime that fails is logged and left out.
    pub async fn running(&self) -> Vec<Described> {
        let mut found = Vec::new();
        for cri in &self.cri {
            found.extend(or_logged(cri.running().await));
        }
        if let Some(docker) = &self.docker {
            found.extend(or_logged(docker.running().await));
        }
        if let Some(podman) = &self.podman {
            found.extend(or_logged(podman.running().await));
        }
        let mut described = Vec::with_capacity(found.len());
        for inspected in found {
            described.push(self.described(inspected).await);
        }
        described
    }

    /// Ids of all running containers, sandboxes included: cheaper than [`Self::running`], to see what is new. A runtime
    /// that fails is logged and left out.
    pub async fn running_ids(&self) -> Vec<ContainerId> {
        let mut ids = self.running_ids_of_sockets().await.ids;
        if let Some(podman) = self.podman.as_ref().filter(|podman| !podman.has_socket()) {
            ids.extend(or_logged(podman.running_ids().await));
        }
        ids
    }

    /// The same without runtimes that have no socket: cheap enough to be polled.
    pub async fn running_ids_of_sockets(&self) -> Listed {
        let mut listed = Listed { ids: Vec::new(), is_whole: true };
        for cri in &self.cri {
            listed.take(cri.running_ids().await);
        }
        if let Some(docker) = &self.docker {
            listed.take(docker.running_ids().await);
        }
        if let Some(podman) = self.podman.as_ref().filter(|podman| podman.has_socket()) {
            listed.take(podman.running_ids().await);
        }
        listed
    }

    /// Whether a runtime holds an image.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn has_image(&self, runtime: &str, image_id: &ImageId) -> Result<bool, RuntimeError> {
        self.image_references(runtime, image_id).await.map(|found| found.is_some())
    }

    /// References under which a runtime knows an image; nothing when it does not hold it.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn image_references(
        &self,
        runtime: &str,
        image_id: &ImageId,
    ) -> Result<Option<Vec<String>>, RuntimeError> {
        match self.holder(runtime, image_id)? {
            Holder::Containerd(containerd) => containerd.references(image_id).await,
            Holder::Docker(docker) => docker.references(image_id).await,
            Holder::Podman(podman) => podman.references(image_id).await,
        }
    }

    /// The image, to be read. The end of an archive is an error when the runtime could not finish it. Docker knows one
    /// format of its own and ignores `format`; containerd writes no archive, its store is read as it is.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn open_image(
        &self,
        runtime: &str,
        image_id: &ImageId,
        format: ArchiveFormat,
        now_ns: i64,
    ) -> Result<ImageContent, RuntimeError> {
        match self.holder(runtime, image_id)? {
            Holder::Containerd(containerd) => containerd.open(image_id, now_ns).await.map(ImageContent::Stored),
            Holder::Docker(docker) => docker.export(image_id).await.map(ImageContent::Archive),
            Holder::Podman(podman) => podman.export(image_id, format).await.map(ImageContent::Archive),
        }
    }

    fn holder(&self, runtime: &str, image_id: &ImageId) -> Result<Holder<'_>, RuntimeError> {
        if !is_digest(image_id.as_str()) {
            return Err(RuntimeError::BadImageId(image_id.as_str().to_owned()));
        }
        let docker = self.docker.as_ref().filter(|_| runtime == DOCKER).map(Holder::Docker);
        let podman = self.podman.as_ref().filter(|_| runtime == PODMAN).map(Holder::Podman);
        let containerd = self.containerd.as_ref().filter(|_| runtime == CONTAINERD).map(Holder::Containerd);
        docker.or(podman).or(containerd).ok_or_else(|| RuntimeError::Unknown(runtime.to_owned()))
    }

    async fn described(&self, inspected: Inspected) -> Described {
        let Inspected { container, init_pid, has_ended, sandbox, declared, attempt, annotations, handler, coverage } =
            inspected;
        let mountinfo = match init_pid {
            Some(pid) => mounts::read_mountinfo(&self.settings.proc, pid).await,
            None => None,
        };
        let mounts = mounts::table(declared, mountinfo.as_deref());
        Described { container, mounts, init_pid, has_ended, sandbox, attempt, annotations, handler, coverage }
    }
}

/// The archives podman can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// As `docker save` writes it: layers as they are in podman's store, so nothing is compressed on the way. podman
    /// refuses images that came with zstd layers.
    Docker,
    /// An OCI layout in a tar stream: every image, but podman compresses the layers for it.
    Oci,
}

impl ArchiveFormat {
    /// podman's name of it.
    fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker-archive",
            Self::Oci => "oci-archive",
        }
    }
}

enum Holder<'a> {
    Containerd(&'a Containerd),
    Docker(&'a Docker),
    Podman(&'a Podman),
}

/// An image as its runtime gives it.
#[derive(Debug)]
pub enum ImageContent {
    /// In one stream.
    Archive(ImageExport),
    /// Blob by blob.
    Stored(StoredImage),
}

/// An image as its runtime writes it out.
pub struct ImageExport(Source);

enum Source {
    Body(BodyReader),
    Command(CommandReader),
}

impl ImageExport {
    fn of_body(body: BodyReader) -> Self {
        Self(Source::Body(body))
    }

    fn of_command(command: CommandReader) -> Self {
        Self(Source::Command(command))
    }
}

impl fmt::Debug for ImageExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageExport").finish_non_exhaustive()
    }
}

impl AsyncRead for ImageExport {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Source::Body(body) => Pin::new(body).poll_read(context, out),
            Source::Command(command) => Pin::new(command).poll_read(context, out),
        }
    }
}

fn split<T>(found: Result<(T, String), RuntimeError>) -> (Option<T>, Result<String, RuntimeError>) {
    match found {
        Ok((runtime, how)) => (Some(runtime), Ok(how)),
        Err(error) => (None, Err(error)),
    }
}

fn or_logged<T>(found: Result<Vec<T>, RuntimeError>) -> Vec<T> {
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "running containers cannot be listed");
        Vec::new()
    })
}

/// Whether an id is what every runtime gives, 64 lower-case hex digits: safe in a path and as an argument.
fn is_hex_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn parse<T: DeserializeOwned>(runtime: &'static str, bytes: &[u8]) -> Result<T, RuntimeError> {
    serde_json::from_slice(bytes)
        .map_err(|error| RuntimeError::failed(runtime, format_args!("its answer cannot be read: {error}")))
}
