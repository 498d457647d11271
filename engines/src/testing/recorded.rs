//! Answers of a CRI runtime, read from files in the form in which `crictl` prints them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::cri::messages::{
    CONTAINER_CREATED, CONTAINER_RUNNING, ContainerMetadata, ContainerStatus, ContainerStatusResponse, CriImage,
    ImageSpec, LinuxPodSandboxStatus, Mount, NODE, Namespace, NamespaceOption, PodSandboxMetadata, PodSandboxStatus,
    PodSandboxStatusResponse,
};

/// The answers of a runtime about a pod with one container.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) version: String,
    pub(super) container: ContainerStatusResponse,
    /// The JSON part of an answer about the container before it has a process.
    pub(super) info_without_process: String,
    pub(super) sandbox: PodSandboxStatusResponse,
    pub(super) image: Option<CriImage>,
    /// Everything by which the image service knows the image.
    pub(super) image_names: Vec<String>,
}

impl Recorded {
    pub(super) fn read(testdata: &Path) -> Result<Self, String> {
        let read = |name: &str| -> Result<Value, String> {
            let path = testdata.join(format!("crio-{name}.json"));
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
        };
        let (container, pod, image) = (read("container")?, read("pod")?, read("image")?);
        let mut without_process = container.pointer("/info").cloned().unwrap_or_default();
        if let Some(pid) = without_process.get_mut("pid") {
            *pid = 0.into();
        }
        let image = image.pointer("/status").cloned().unwrap_or_default();
        let names = ["repoTags", "repoDigests"].into_iter().flat_map(|list| texts(&image, list));
        Ok(Self {
            version: "1.28.11".to_owned(),
            info_without_process: without_process.to_string(),
            image_names: names.chain([text(&image, "id")]).collect(),
            image: Some(CriImage { id: text(&image, "id") }),
            container: container_status(&container)?,
            sandbox: sandbox_status(&pod),
        })
    }
}

fn container_status(answer: &Value) -> Result<ContainerStatusResponse, String> {
    let status = answer.get("status").cloned().unwrap_or_default();
    let started: jiff::Timestamp = text(&status, "startedAt").parse().map_err(super::text)?;
    let metadata = status.get("metadata").cloned().unwrap_or_default();
    let image = status.get("image").cloned().unwrap_or_default();
    let mounts = status.get("mounts").and_then(Value::as_array).cloned().unwrap_or_default();
    let status = ContainerStatus {
        id: text(&status, "id"),
        metadata: Some(ContainerMetadata { name: text(&metadata, "name"), attempt: number(&metadata, "attempt") }),
        state: if text(&status, "state") == "CONTAINER_RUNNING" { CONTAINER_RUNNING } else { CONTAINER_CREATED },
        started_at: i64::try_from(started.as_nanosecond()).map_err(super::text)?,
        image: Some(ImageSpec {
            image: text(&image, "image"),
            user_specified_image: text(&image, "userSpecifiedImage"),
        }),
        image_ref: text(&status, "imageRef"),
        labels: map(&status, "labels"),
        mounts: mounts.iter().map(mount).collect(),
        image_id: text(&status, "imageId"),
    };
    Ok(ContainerStatusResponse { status: Some(status), info: info(answer) })
}

fn mount(mount: &Value) -> Mount {
    Mount {
        container_path: text(mount, "containerPath"),
        host_path: text(mount, "hostPath"),
        readonly: mount.get("readonly").and_then(Value::as_bool).unwrap_or_default(),
    }
}

fn sandbox_status(answer: &Value) -> PodSandboxStatusResponse {
    let status = answer.get("status").cloned().unwrap_or_default();
    let metadata = status.get("metadata").cloned().unwrap_or_default();
    let options = status.pointer("/linux/namespaces/options").cloned().unwrap_or_default();
    let mode = |name: &str| if text(&options, name) == "NODE" { NODE } else { 0 };
    let options = NamespaceOption { network: mode("network"), pid: mode("pid"), ipc: mode("ipc") };
    let status = PodSandboxStatus {
        id: text(&status, "id"),
        metadata: Some(PodSandboxMetadata {
            name: text(&metadata, "name"),
            uid: text(&metadata, "uid"),
            namespace: text(&metadata, "namespace"),
        }),
        linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options: Some(options) }) }),
        labels: map(&status, "labels"),
        annotations: map(&status, "annotations"),
        runtime_handler: text(&status, "runtimeHandler"),
    };
    PodSandboxStatusResponse { status: Some(status), info: info(answer) }
}

/// `crictl` prints the JSON text under the key `info` as the object that it is.
fn info(answer: &Value) -> BTreeMap<String, String> {
    answer.get("info").map(|info| ("info".to_owned(), info.to_string())).into_iter().collect()
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, name: &str) -> u32 {
    value.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

fn texts(value: &Value, name: &str) -> Vec<String> {
    let list = value.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn map(value: &Value, name: &str) -> BTreeMap<String, String> {
    let entries = value.get(name).and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
