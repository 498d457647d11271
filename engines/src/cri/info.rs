//! The part of a verbose answer that is JSON: no contract, but what `crictl inspect` shows, and the only place for the
//! first process. containerd and CRI-O name things alike where they have the same thing; what one lacks stays at its
//! default.

use serde::Deserialize;
use std::collections::BTreeMap;

use crate::RuntimeError;
use crate::mounts::Declared;

/// Under this key both put one JSON text.
const INFO: &str = "info";
/// Where containerd stores the volumes that an image declares, within its own root.
const IMAGE_VOLUMES: &str = "/io.containerd.grpc.v1.cri/containers/";

/// The part that is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Info {
    #[serde(rename = "sandboxID")]
    pub(super) sandbox_id: String,
    pub(super) pid: i32,
    snapshotter: String,
    /// containerd: the shim, for example `io.containerd.runc.v2`.
    pub(super) runtime_type: String,
    /// CRI-O; containerd has it in the configuration.
    privileged: bool,
    config: Config,
    runtime_spec: Spec,
}

/// containerd: the configuration in the request for the container, in the names of the interface.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    image: ConfigImage,
    linux: ConfigLinux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigImage {
    image: String,
    user_specified_image: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigLinux {
    security_context: SecurityContext,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SecurityContext {
    privileged: bool,
}

/// The OCI runtime's specification.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    process: SpecProcess,
    root: SpecRoot,
    mounts: Option<Vec<SpecMount>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SpecProcess {
    terminal: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SpecRoot {
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SpecMount {
    destination: String,
    r#type: String,
    source: String,
    options: Option<Vec<String>>,
}

impl Info {
    /// Reads it; an answer without it has all defaults.
    pub(super) fn read(runtime: &'static str, info: &BTreeMap<String, String>) -> Result<Self, RuntimeError> {
        info.get(INFO).map_or(Ok(Self::default()), |text| crate::parse(runtime, text.as_bytes()))
    }

    pub(super) fn init_pid(&self) -> Option<i32> {
        Some(self.pid).filter(|pid| *pid > 0)
    }

    pub(super) fn is_privileged(&self) -> bool {
        self.privileged || self.config.linux.security_context.privileged
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.runtime_spec.process.terminal
    }

    /// The snapshotter; for CRI-O, which does not name its driver, the one in its storage's path.
    pub(super) fn rootfs(&self) -> &str {
        let is_overlay = || self.runtime_spec.root.path.split('/').any(|part| part == "overlay");
        if self.snapshotter.is_empty() && is_overlay() { "overlay" } else { &self.snapshotter }
    }

    /// The image as the pod names it; the kubelet requests an image by its id, so it is known from nothing else.
    pub(super) fn named_image(&self) -> &str {
        &self.config.image.user_specified_image
    }

    /// The image as it was requested.
    pub(super) fn requested_image(&self) -> &str {
        &self.config.image.image
    }

    /// Binds and memory file systems, among them those of the runtime itself, which a status does not list.
    pub(super) fn mounts(&self) -> impl Iterator<Item = Declared> {
        let mounts = self.runtime_spec.mounts.iter().flatten();
        mounts.filter(|mount| matches!(mount.r#type.as_str(), "bind" | "tmpfs")).map(|mount| Declared {
            point: mount.destination.clone(),
            kind: if mount.source.contains(IMAGE_VOLUMES) { "volume" } else { mount.r#type.as_str() }.to_owned(),
            source: mount.source.clone(),
            read_only: mount.options.iter().flatten().any(|option| option == "ro"),
        })
    }
}
