//! The answer of `inspect`, which is the same JSON for Docker and podman but for a few fields, made into a record.

use std::collections::BTreeMap;

use driftline_schemas::{Container, ContainerId, ImageId, Pod, is_digest};
use serde::Deserialize;

use crate::coverage::{Coverage, coverage};
use crate::limits::{LABEL_BYTES_MAX, LABELS_MAX, TEXT_BYTES_MAX};
use crate::mounts::Declared;
use crate::text::shortened;

const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Labels under this prefix are the kubelet's own and no pod labels.
const KUBELET_PREFIX: &str = "io.kubernetes.";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspect {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    /// podman: the resolved reference.
    #[serde(default)]
    image_name: String,
    /// podman: id of its pod.
    #[serde(default)]
    pub(crate) pod: String,
    /// podman: this holds a pod's namespaces.
    #[serde(default)]
    is_infra: bool,
    /// Docker with containerd's image store: what `Image` names is not the config.
    #[serde(default)]
    image_manifest_descriptor: Option<ManifestDescriptor>,
    /// podman: the OCI runtime that runs it.
    #[serde(default, rename = "OCIRuntime")]
    oci_runtime: String,
    #[serde(default)]
    driver: String,
    #[serde(default)]
    state: InspectState,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    host_config: HostConfig,
    #[serde(default)]
    mounts: Option<Vec<InspectMount>>,
}

/// The manifest of an image.
#[derive(Debug, Deserialize)]
pub(crate) struct ManifestDescriptor {
    #[serde(default)]
    digest: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct InspectState {
    status: String,
    pid: i32,
    started_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: String,
    tty: bool,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    privileged: bool,
    pid_mode: String,
    network_mode: String,
    ipc_mode: String,
    /// Docker: the name of the OCI runtime; podman has `oci` for all.
    runtime: String,
    tmpfs: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectMount {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    source: String,
    destination: String,
    #[serde(default, rename = "RW")]
    writable: bool,
}

/// A container as its runtime describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inspected {
    pub(crate) container: Container,
    pub(crate) init_pid: Option<i32>,
    /// It ran, and does not run any more.
    pub(crate) has_ended: bool,
    pub(crate) sandbox: bool,
    pub(crate) declared: Vec<Declared>,
    pub(crate) attempt: i32,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Name of the runtime handler that runs it; empty when the runtime does not name it.
    pub(crate) handler: String,
    pub(crate) coverage: Coverage,
}

impl Inspect {
    /// Makes the record. `pod_name` is the name of the podman pod it is in.
    pub(crate) fn into_inspected(self, runtime: &'static str, pod_name: Option<String>) -> Inspected {
        let labels = self.config.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map(|text| shortened(text, TEXT_BYTES_MAX)).unwrap_or_default();
        let sandbox = self.is_infra
            || label(CONTAINER_NAME) == "POD"
            || label("io.kubernetes.docker.type") == "podsandbox"
            || label("io.cri-containerd.kind") == "sandbox";
        let declared = declared(self.mounts.unwrap_or_default(), self.host_config.tmpfs.unwrap_or_default());
        let reference = if self.image_name.is_empty() { &self.config.image } else { &self.image_name };
        let (image_id, image_id_source) = image_id(runtime, &self.image, self.image_manifest_descriptor.as_ref());
        let own_name = self.name.trim_start_matches('/');
        let name = labels.get(CONTAINER_NAME).map_or(own_name, String::as_str);
        let host = [
            ("pid", &self.host_config.pid_mode),
            ("network", &self.host_config.network_mode),
            ("ipc", &self.host_config.ipc_mode),
        ];
        let container = Container {
            id: ContainerId::from(self.id.as_str()),
            name: shortened(name, TEXT_BYTES_MAX),
            runtime: runtime.to_owned(),
            image_ref: shortened(reference, TEXT_BYTES_MAX),
            image_id,
            image_id_source,
            pod: pod(&labels, pod_name),
            owner: None,
            service_account: String::new(),
            rootfs: shortened(&self.driver, TEXT_BYTES_MAX),
            privileged: self.host_config.privileged,
            host_namespaces: host
                .iter()
                .filter(|(_, mode)| *mode == "host")
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            tty: self.config.tty,
            started_ns: nanoseconds(&self.state.started_at),
        };
        let init_pid = Some(self.state.pid).filter(|pid| *pid > 0);
        // Docker's states, and podman's.
        let has_ended = matches!(self.state.status.as_str(), "exited" | "dead" | "removing" | "stopped");
        let handler = if self.oci_runtime.is_empty() { self.host_config.runtime } else { self.oci_runtime };
        let coverage = coverage("", &handler);
        Inspected { container, init_pid, has_ended, sandbox, declared, handler, coverage, ..Inspected::default() }
    }
}

/// The config digest, which Docker writes as `sha256:<hex>`, podman as `<hex>`. A Docker that stores images in containerd
/// has the digest of an index there, and beside it the manifest that runs: that one identifies the platform, too, and the
/// indexer publishes the image under it.
fn image_id(runtime: &str, image: &str, manifest: Option<&ManifestDescriptor>) -> (ImageId, String) {
    let prefixed = if image.starts_with("sha256:") { image.to_owned() } else { format!("sha256:{image}") };
    let (digest, how) = manifest.map_or((prefixed, "inspect"), |manifest| (manifest.digest.clone(), "manifest"));
    if is_digest(&digest) {
        (ImageId::from(digest.as_str()), format!("{runtime}-{how}"))
    } else {
        (ImageId::default(), format!("{runtime}-unknown"))
    }
}

/// The Kubernetes pod that the labels name, else the podman pod, which has no namespace.
fn pod(labels: &BTreeMap<String, String>, podman_pod: Option<String>) -> Option<Pod> {
    let text = |name: &str| labels.get(name).map(|text| shortened(text, TEXT_BYTES_MAX)).unwrap_or_default();
    let name = Some(text(POD_NAME)).filter(|name| !name.is_empty()).or(podman_pod)?;
    Some(Pod { namespace: text(POD_NAMESPACE), name, uid: text(POD_UID), labels: pod_labels(labels) })
}

/// The labels of a pod's own.
pub(crate) fn pod_labels(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = labels.iter().filter(|(key, _)| !key.starts_with(KUBELET_PREFIX)).take(LABELS_MAX);
    own.map(|(key, value)| (shortened(key, LABEL_BYTES_MAX), shortened(value, LABEL_BYTES_MAX))).collect()
}

fn declared(mounts: Vec<InspectMount>, tmpfs: BTreeMap<String, String>) -> Vec<Declared> {
    let listed = mounts.into_iter().map(|mount| Declared {
        source: if mount.r#type == "volume" && !mount.name.is_empty() { mount.name } else { mount.source },
        point: mount.destination,
        kind: mount.r#type,
        read_only: !mount.writable,
    });
    let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
    let tmpfs = tmpfs.into_iter().map(|(point, options)| Declared {
        point,
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        read_only: is_read_only(&options),
    });
    listed.chain(tmpfs).collect()
}

/// RFC 3339 to nanoseconds since 1970; 0 when it is no time, or none yet (year 1).
fn nanoseconds(text: &str) -> i64 {
    let time: Option<jiff::Timestamp> = text.parse().ok();
    time.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).filter(|ns| *ns > 0).unwrap_or(0)
}

/// Annotations that the settings allow to be reported: names, or beginnings of names with a `*` after them.
pub(crate) fn allowed(patterns: &[String], annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let matches = |name: &str, pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    let allowed = annotations.iter().filter(|(name, _)| patterns.iter().any(|pattern| matches(name, pattern)));
    let allowed = allowed.take(LABELS_MAX);
    allowed.map(|(name, value)| (shortened(name, LABEL_BYTES_MAX), shortened(value, LABEL_BYTES_MAX))).collect()
}

#[cfg(test)]
mod tests;
