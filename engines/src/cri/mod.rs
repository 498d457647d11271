//! The Container Runtime Interface, version 1: what the kubelet's runtime (containerd, CRI-O) knows of pods and their
//! containers. Nothing is changed through it.

mod info;
pub(crate) mod messages;

use std::path::Path;

use driftline_schemas::{Container, ContainerId, ImageId, Pod, is_digest};

use crate::coverage::coverage;
use crate::events::EventSource;
use crate::grpc::Grpc;
use crate::inspect::{Inspected, allowed, pod_labels};
use crate::limits::{CONTAINERS_MAX, LABEL_BYTES_MAX, START_WAITS, TEXT_BYTES_MAX};
use crate::mounts::Declared;
use crate::one_by_one::OneByOne;
use crate::text::shortened;
use crate::{CONTAINERD, CRI, CRIO, RuntimeError, RuntimeSettings, is_hex_id};
use info::Info;
use messages::{
    CONTAINER_CREATED, CONTAINER_EXITED, CONTAINER_RUNNING, ContainerStatus, ContainerStatusRequest, ImageSpec,
    ImageStatusRequest, ListContainersRequest, ListPodSandboxRequest, Mount, NODE, NamespaceOption, PodSandboxStatus,
    PodSandboxStatusRequest, SANDBOX_READY, VersionRequest,
};

/// Before a volume's kind and name in its path on the node, as the kubelet lays volumes out.
const KUBELET_VOLUME: &str = "/volumes/kubernetes.io~";

/// A runtime at one socket.
#[derive(Debug)]
pub(crate) struct Cri {
    /// Name of the runtime in container records.
    runtime: &'static str,
    grpc: Grpc,
    /// Pod annotations that may be reported; a name, or its beginning with `*`.
    annotations: Vec<String>,
}

impl Cri {
    /// Connects to all sockets that answer.
    pub(crate) async fn detect(settings: &RuntimeSettings) -> Result<(Vec<Self>, String), RuntimeError> {
        let mut found = Vec::new();
        let mut hows = Vec::new();
        let mut first_error = None;
        for socket in &settings.cri_sockets {
            match Self::connect(socket, settings.annotations.clone()).await {
                Ok((cri, version)) => {
                    hows.push(format!("{} {version} at {}", cri.runtime, socket.display()));
                    found.push(cri);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let nothing = || RuntimeError::failed(CRI, "no socket is set");
        if found.is_empty() { Err(first_error.unwrap_or_else(nothing)) } else { Ok((found, hows.join(", "))) }
    }

    async fn connect(socket: &Path, annotations: Vec<String>) -> Result<(Self, String), RuntimeError> {
        let version = Grpc::new(CRI, socket)?.call(VersionRequest {}, &[]).await?.unwrap_or_default();
        let runtime = match version.runtime_name.as_str() {
            "containerd" => CONTAINERD,
            "cri-o" => CRIO,
            _ => CRI,
        };
        Ok((Self { runtime, grpc: Grpc::new(runtime, socket)?, annotations }, version.runtime_version))
    }

    /// The source of its events, if it has one.
    pub(crate) fn source(&self) -> Option<EventSource> {
        match self.runtime {
            CONTAINERD => Some(EventSource::Containerd(self.grpc.clone())),
            CRIO => Some(EventSource::Cri(self.grpc.clone())),
            _ => None,
        }
    }

    async fn container(&self, status: ContainerStatus, info: Info) -> Result<Inspected, RuntimeError> {
        let sandbox = self.sandbox_status(&info.sandbox_id).await?.unwrap_or_default();
        let (image_id, image_id_source) = self.image_id(&status, &info).await?;
        let metadata = status.metadata.clone().unwrap_or_default();
        let declared = info.mounts().chain(status.mounts.iter().map(declared)).collect();
        let container = Container {
            id: ContainerId::from(status.id.as_str()),
            name: shortened(&metadata.name, TEXT_BYTES_MAX),
            runtime: self.runtime.to_owned(),
            image_ref: shortened(image_ref(&status, &info), TEXT_BYTES_MAX),
            image_id,
            image_id_source,
            pod: pod(&sandbox),
            rootfs: shortened(info.rootfs(), TEXT_BYTES_MAX),
            privileged: info.is_privileged(),
            host_namespaces: host_namespaces(&sandbox),
            tty: info.has_terminal(),
            started_ns: status.started_at.max(0),
            ..Container::default()
        };
        Ok(Inspected {
            container,
            init_pid: info.init_pid(),
            has_ended: status.state == CONTAINER_EXITED,
            declared,
            attempt: i32::try_from(metadata.attempt).unwrap_or(i32::MAX),
            annotations: allowed(&self.annotations, &sandbox.annotations),
            ..with_handler(&sandbox, &info)
        })
    }

    async fn sandbox(&self, id: &str) -> Result<Option<Inspected>, RuntimeError> {
        let question = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let answer = self.grpc.call(question, &[]).await?.unwrap_or_default();
        let Some(sandbox) = answer.status.filter(|status| status.id == id) else { return Ok(None) };
        let info = Info::read(self.runtime, &answer.info)?;
        let container = Container {
            id: ContainerId::from(id),
            runtime: self.runtime.to_owned(),
            pod: pod(&sandbox),
            host_namespaces: host_namespaces(&sandbox),
            ..Container::default()
        };
        let declared = info.mounts().collect();
        let described = with_handler(&sandbox, &info);
        Ok(Some(Inspected { container, init_pid: info.init_pid(), sandbox: true, declared, ..described }))
    }

    async fn sandbox_status(&self, id: &str) -> Result<Option<PodSandboxStatus>, RuntimeError> {
        if !is_hex_id(id) {
            return Ok(None);
        }
        let question = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        Ok(self.grpc.call(question, &[]).await?.and_then(|answer| answer.status))
    }

    /// The config digest, and how it was found. A status names the image by that digest (newer runtimes always, older
    /// ones an imported image) or by a manifest's, which the image service knows. A tag is not looked up: it may have
    /// moved since the container was made.
    async fn image_id(&self, status: &ContainerStatus, info: &Info) -> Result<(ImageId, String), RuntimeError> {
        let source = |how: &str| format!("{}-{how}", self.runtime);
        let own = [&status.image_id, &status.image_ref].into_iter().find_map(|text| config_digest(text));
        if let Some(id) = own {
            return Ok((id, source("container-status")));
        }
        if status.image_ref.contains("@sha256:") {
            let image = ImageSpec { image: status.image_ref.clone(), ..ImageSpec::default() };
            let answer = self.grpc.call(ImageStatusRequest { image: Some(image) }, &[]).await?.unwrap_or_default();
            if let Some(id) = answer.image.and_then(|image| config_digest(&image.id)) {
                return Ok((id, source("image-status")));
            }
        }
        // The kubelet requests containers by it, and it stays when the image is removed.
        let requested = config_digest(info.requested_image()).map(|id| (id, source("container-config")));
        Ok(requested.unwrap_or_else(|| (ImageId::default(), source("unknown"))))
    }
}

impl OneByOne for Cri {
    async fn inspect(&self, id: &ContainerId) -> Result<Option<Inspected>, RuntimeError> {
        let mut waits = START_WAITS.into_iter();
        loop {
            let question = ContainerStatusRequest { container_id: id.as_str().to_owned(), verbose: true };
            let answer = self.grpc.call(question, &[]).await?.unwrap_or_default();
            // Both complete the beginning of an id.
            let Some(status) = answer.status.filter(|status| status.id == id.as_str()) else {
                return self.sandbox(id.as_str()).await;
            };
            match waits.next().filter(|_| status.state == CONTAINER_CREATED) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return self.container(status, Info::read(self.runtime, &answer.info)?).await.map(Some),
            }
        }
    }

    async fn running_ids(&self) -> Result<Vec<ContainerId>, RuntimeError> {
        let containers = self.grpc.call(ListContainersRequest {}, &[]).await?.unwrap_or_default().containers;
        let sandboxes = self.grpc.call(ListPodSandboxRequest {}, &[]).await?.unwrap_or_default().items;
        let containers =
            containers.into_iter().filter(|listed| listed.state == CONTAINER_RUNNING).map(|listed| listed.id);
        let sandboxes = sandboxes.into_iter().filter(|listed| listed.state == SANDBOX_READY).map(|listed| listed.id);
        let ids = containers.chain(sandboxes).filter(|id| is_hex_id(id)).take(CONTAINERS_MAX);
        Ok(ids.map(|id| ContainerId::from(id.as_str())).collect())
    }
}

/// `sha256:<hex>` in containerd, `<hex>` in CRI-O.
fn config_digest(text: &str) -> Option<ImageId> {
    let digest = if is_hex_id(text) { format!("sha256:{text}") } else { text.to_owned() };
    is_digest(&digest).then(|| ImageId::from(digest.as_str()))
}

/// The most useful name: the one that the pod requests, else a name of the image, else name and digest, else its id.
fn image_ref<'a>(status: &'a ContainerStatus, info: &'a Info) -> &'a str {
    let image = status.image.as_ref();
    let requested = image.map_or("", |image| image.user_specified_image.as_str());
    let named = image.map_or("", |image| image.image.as_str());
    let names = [requested, info.named_image(), named, &status.image_ref];
    names.into_iter().find(|name| !name.is_empty() && config_digest(name).is_none()).unwrap_or(named)
}

fn pod(sandbox: &PodSandboxStatus) -> Option<Pod> {
    let metadata = sandbox.metadata.as_ref()?;
    Some(Pod {
        namespace: shortened(&metadata.namespace, TEXT_BYTES_MAX),
        name: shortened(&metadata.name, TEXT_BYTES_MAX),
        uid: shortened(&metadata.uid, TEXT_BYTES_MAX),
        labels: pod_labels(&sandbox.labels),
    })
}

/// A container's namespaces are its pod's where that has the host's; the specification only names the pause process.
fn host_namespaces(sandbox: &PodSandboxStatus) -> Vec<String> {
    let options = sandbox.linux.as_ref().and_then(|linux| linux.namespaces.as_ref()).and_then(|it| it.options);
    let NamespaceOption { network, pid, ipc } = options.unwrap_or_default();
    let modes = [("pid", pid), ("network", network), ("ipc", ipc)];
    modes.into_iter().filter(|(_, mode)| *mode == NODE).map(|(name, _)| name.to_owned()).collect()
}

/// The runtime class, and the shim.
fn with_handler(sandbox: &PodSandboxStatus, info: &Info) -> Inspected {
    let (shim, class) = (info.runtime_type.as_str(), sandbox.runtime_handler.as_str());
    let handler = if class.is_empty() { shim } else { class };
    Inspected { handler: shortened(handler, LABEL_BYTES_MAX), coverage: coverage(shim, class), ..Inspected::default() }
}

/// A requested mount. The path of a kubelet's volume shows its kind.
fn declared(mount: &Mount) -> Declared {
    let volume = mount.host_path.split_once(KUBELET_VOLUME).and_then(|(_, rest)| rest.split('/').next());
    Declared {
        point: mount.container_path.clone(),
        kind: volume.unwrap_or("bind").to_owned(),
        source: mount.host_path.clone(),
        read_only: mount.readonly,
    }
}
