//! For tests: a containerd of their own with CRI, and pods in it, requested as a kubelet does; a socket that answers like
//! CRI-O; and an API server ([`api`]). The first needs root, containerd with runc, umoci and a static busybox; where one is
//! missing, starting fails with the reason.

pub mod api;
mod crio;
mod messages;
mod recorded;
mod registry;

pub use crio::{Crio, Events};
pub use registry::Registry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driftline_schemas::{ContainerId, ImageId};

use crate::cri::messages::{
    ContainerMetadata, ImageSpec, ImageStatusRequest, Mount, NamespaceOption, PodSandboxMetadata,
};
use crate::grpc::Grpc;
use crate::{CRI, RuntimeSettings};
use messages::{
    ContainerConfig, ContainerSecurity, CreateContainer, ExecSync, LinuxContainer, LinuxSandbox, PullImage,
    RemovePodSandbox, RunPodSandbox, SandboxConfig, SandboxSecurity, StartContainer, StopPodSandbox,
};

/// The image of pods' containers: busybox alone.
pub const IMAGE: &str = "localhost/driftline-pods/app:1";
/// Of sandboxes: the same, which sleeps.
const PAUSE: &str = "localhost/driftline-pods/pause:1";
/// A runtime class that is named like Kata's and is runc's, so that its name can be tried where there is no Kata.
pub const KATA: &str = "kata-test";
/// How long containerd may take to start, or to see an image.
const PATIENCE_TRIES: u32 = 200;
/// How long a command in a container may take: a little less than an answer.
const EXEC_SECONDS: i64 = 14;
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// The request for a pod with one container.
#[derive(Debug, Clone, Default)]
pub struct PodSpec {
    /// Name, namespace and uid.
    pub name: String,
    /// See [`Self::name`].
    pub namespace: String,
    /// See [`Self::name`].
    pub uid: String,
    /// The pod's own labels.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its container's name.
    pub container: String,
    /// How often that was started before.
    pub attempt: u32,
    /// Paths on the node and in the container, mounted read-only.
    pub mounts: Vec<(PathBuf, String)>,
    /// The same, writable.
    pub volumes: Vec<(PathBuf, String)>,
    /// With all rights.
    pub privileged: bool,
    /// With a terminal.
    pub tty: bool,
    /// In the node's process namespace; the network is the node's always.
    pub host_pid: bool,
    /// Runtime class, empty for the default.
    pub runtime_handler: String,
    /// The image as it is requested; by default [`IMAGE`], by its id as the kubelet does.
    pub image: Option<String>,
}

/// How containerd stores layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshotter {
    /// Roots are overlays, as by default.
    Overlayfs,
    /// Roots are plain directories, each a copy.
    Native,
}

impl Snapshotter {
    fn name(self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs",
            Self::Native => "native",
        }
    }
}

/// A pod that runs.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its sandbox.
    pub sandbox: ContainerId,
    /// Its container.
    pub container: ContainerId,
}

/// containerd with CRI; ends with all its pods when dropped.
#[derive(Debug)]
pub struct Pods {
    directory: tempfile::TempDir,
    process: Child,
    grpc: Grpc,
    image_id: ImageId,
}

impl Pods {
    /// Starts it, with the images.
    ///
    /// # Errors
    /// What is missing here, or what went wrong.
    pub async fn start() -> Result<Self, String> {
        Self::start_with(Snapshotter::Overlayfs).await
    }

    /// The same with layers stored in this way.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(snapshotter: Snapshotter) -> Result<Self, String> {
        let busybox = static_busybox()?;
        let directory = tempfile::tempdir().map_err(text)?;
        let socket = directory.path().join("containerd.sock");
        std::fs::write(directory.path().join("config.toml"), config(directory.path(), snapshotter)).map_err(text)?;
        let log = std::fs::File::create(directory.path().join("log")).map_err(text)?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(directory.path().join("config.toml"));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let process = process.map_err(|error| format!("containerd: {error}"))?;
        let grpc = Grpc::new(CRI, &socket).map_err(text)?;
        let mut pods = Self { directory, process, grpc, image_id: ImageId::default() };
        pods.import(&busybox, PAUSE, &["/bin/busybox", "sleep", "86400"]).await?;
        pods.image_id = pods.import(&busybox, IMAGE, &["/bin/sleep", "86400"]).await?;
        Ok(pods)
    }

    /// Settings with which only this containerd is found.
    #[must_use]
    pub fn settings(&self) -> RuntimeSettings {
        RuntimeSettings {
            containerd_socket: self.socket(),
            cri_sockets: vec![self.socket()],
            docker_socket: "/nowhere".into(),
            podman_socket: "/nowhere".into(),
            podman_command: "/nowhere".into(),
            ..RuntimeSettings::default()
        }
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("containerd.sock")
    }

    /// Config digest of [`IMAGE`].
    #[must_use]
    pub fn image_id(&self) -> &ImageId {
        &self.image_id
    }

    /// Runs a pod as a kubelet does.
    ///
    /// # Errors
    /// The error of containerd.
    pub async fn run(&self, spec: &PodSpec) -> Result<Pod, String> {
        let pid = if spec.host_pid { crate::cri::messages::NODE } else { 1 };
        let namespaces = Some(NamespaceOption { network: crate::cri::messages::NODE, pid, ipc: 0 });
        let own = [("io.kubernetes.pod.name", &spec.name), ("io.kubernetes.pod.namespace", &spec.namespace)];
        let kubelet: BTreeMap<String, String> = own
            .into_iter()
            .chain([("io.kubernetes.pod.uid", &spec.uid)])
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
        let PodSpec { name, namespace, uid, .. } = spec.clone();
        let sandbox_config = SandboxConfig {
            metadata: Some(PodSandboxMetadata { name, uid, namespace }),
            log_directory: self.directory.path().join("logs").display().to_string(),
            labels: kubelet.clone().into_iter().chain(spec.labels.clone()).collect(),
            annotations: spec.annotations.clone(),
            linux: Some(LinuxSandbox { security: Some(SandboxSecurity { namespaces, privileged: spec.privileged }) }),
        };
        let run = RunPodSandbox { config: Some(sandbox_config.clone()), runtime_handler: spec.runtime_handler.clone() };
        let sandbox = self.grpc.call(run, &[]).await.map_err(text)?.unwrap_or_default().id;
        let name = ("io.kubernetes.container.name".to_owned(), spec.container.clone());
        let mounts = [(&spec.mounts, true), (&spec.volumes, false)].into_iter().flat_map(|(mounts, readonly)| {
            mounts.iter().map(move |(host, inside)| Mount {
                container_path: inside.clone(),
                host_path: host.display().to_string(),
                readonly,
            })
        });
        let image = spec.image.clone().unwrap_or_else(|| self.image_id.as_str().to_owned());
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: spec.container.clone(), attempt: spec.attempt }),
            image: Some(ImageSpec { image, ..ImageSpec::default() }),
            command: Vec::new(),
            mounts: mounts.collect(),
            labels: kubelet.into_iter().chain([name]).collect(),
            tty: spec.tty,
            linux: Some(LinuxContainer {
                security: Some(ContainerSecurity { privileged: spec.privileged, namespaces }),
            }),
        };
        let create = CreateContainer {
            pod_sandbox_id: sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let container = self.grpc.call(create, &[]).await.map_err(text)?.unwrap_or_default().id;
        self.grpc.call(StartContainer { container_id: container.clone() }, &[]).await.map_err(text)?;
        Ok(Pod { sandbox: ContainerId::from(sandbox.as_str()), container: ContainerId::from(container.as_str()) })
    }

    /// Pulls an image; returns the name by which the kubelet then requests it.
    ///
    /// # Errors
    /// The error of containerd.
    pub async fn pull(&self, reference: &str) -> Result<String, String> {
        let image = Some(ImageSpec { image: reference.to_owned(), ..ImageSpec::default() });
        let pulled = self.grpc.call(PullImage { image }, &[]).await.map_err(text)?;
        Ok(pulled.unwrap_or_default().image_ref)
    }

    /// Runs a command in a container; what it printed.
    ///
    /// # Errors
    /// The error of containerd or of the command.
    pub async fn exec(&self, container: &ContainerId, command: &[&str]) -> Result<String, String> {
        let cmd = command.iter().map(|part| (*part).to_owned()).collect();
        let question = ExecSync { container_id: container.as_str().to_owned(), cmd, timeout: EXEC_SECONDS };
        let done = self.grpc.call(question, &[]).await.map_err(text)?.unwrap_or_default();
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if done.exit_code == 0 { Ok(text_of(&done.stdout)) } else { Err(text_of(&done.stderr)) }
    }

    /// Stops and removes a pod.
    ///
    /// # Errors
    /// The error of containerd.
    pub async fn remove(&self, pod: &Pod) -> Result<(), String> {
        let id = pod.sandbox.as_str().to_owned();
        self.grpc.call(StopPodSandbox { pod_sandbox_id: id.clone() }, &[]).await.map_err(text)?;
        self.grpc.call(RemovePodSandbox { pod_sandbox_id: id }, &[]).await.map_err(text)?;
        Ok(())
    }

    /// Builds an image of busybox and imports it; waits until CRI knows it, and returns its id.
    async fn import(&mut self, busybox: &Path, name: &str, command: &[&str]) -> Result<ImageId, String> {
        let work = tempfile::tempdir().map_err(text)?;
        let archive = build(work.path(), busybox, name, command)?;
        let (base, _) = name.rsplit_once(':').ok_or("no tag")?;
        let mut tries = 0;
        // Until it answers.
        while let Err(error) = self.ctr(&["images", "import", "--base-name", base, &archive]) {
            let ended = self.process.try_wait().map_err(text)?;
            if ended.is_some() || tries >= PATIENCE_TRIES {
                return Err(format!("{error} {}", self.last_words()));
            }
            tries += 1;
            tokio::time::sleep(TRY_AGAIN).await;
        }
        self.id_of(name).await
    }

    /// Imports an image from an archive that names it so, and returns its id.
    ///
    /// # Errors
    /// The error of containerd.
    pub async fn load(&self, archive: &Path, name: &str) -> Result<ImageId, String> {
        self.ctr(&["images", "import", &archive.display().to_string()])?;
        self.id_of(name).await
    }

    /// The id of an image, once CRI sees it.
    async fn id_of(&self, name: &str) -> Result<ImageId, String> {
        for _ in 0..PATIENCE_TRIES {
            let image = Some(ImageSpec { image: name.to_owned(), ..ImageSpec::default() });
            let answer = self.grpc.call(ImageStatusRequest { image }, &[]).await;
            if let Ok(Some(image)) = answer.map(|answer| answer.and_then(|answer| answer.image)) {
                return Ok(ImageId::from(image.id.as_str()));
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        Err(format!("containerd's CRI does not see {name}: {}", self.last_words()))
    }

    fn ctr(&self, arguments: &[&str]) -> Result<String, String> {
        let socket = self.socket().display().to_string();
        run("ctr", &[&["--address", &socket, "--namespace", "k8s.io"], arguments].concat())
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines().rev().take(3).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        // By its own command, because a panicking test has no runtime to wait in.
        for task in self.ctr(&["tasks", "ls", "--quiet"]).unwrap_or_default().lines() {
            let _ = self.ctr(&["tasks", "delete", "--force", task]);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let own = self.directory.path().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&own)) {
            let _ = run("umount", &["--lazy", point]);
        }
    }
}

fn config(directory: &Path, snapshotter: Snapshotter) -> String {
    let snapshotter = snapshotter.name();
    let at = |name: &str| directory.join(name).display().to_string();
    format!(
        r#"version = 2
root = {:?}
state = {:?}
[grpc]
address = {:?}
[plugins."io.containerd.internal.v1.opt"]
path = {:?}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {PAUSE:?}
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = {snapshotter:?}
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{KATA}]
runtime_type = "io.containerd.runc.v2"
"#,
        at("root"),
        at("state"),
        at("containerd.sock"),
        at("opt"),
    )
}

/// Makes an image with umoci, as an archive.
fn build(work: &Path, busybox: &Path, name: &str, command: &[&str]) -> Result<String, String> {
    let at = |part: &str| work.join(part).display().to_string();
    let (_, tag) = name.rsplit_once(':').ok_or("no tag")?;
    let image = format!("{}:{tag}", at("layout"));
    std::fs::create_dir_all(work.join("bin")).map_err(text)?;
    // Its own content in each run, so that nothing is taken for another image.
    let nonce = std::fs::read("/proc/sys/kernel/random/uuid").map_err(text)?;
    let content = [std::fs::read(busybox).map_err(text)?, nonce].concat();
    std::fs::write(work.join("bin/busybox"), content).map_err(text)?;
    run("chmod", &["755", &at("bin/busybox")])?;
    for applet in ["sleep", "sh", "true", "cp"] {
        std::os::unix::fs::symlink("busybox", work.join("bin").join(applet)).map_err(text)?;
    }
    run("umoci", &["init", "--layout", &at("layout")])?;
    run("umoci", &["new", "--image", &image])?;
    run("umoci", &["insert", "--image", &image, &at("bin"), "/bin"])?;
    let entry: Vec<&str> = command.iter().flat_map(|part| ["--config.entrypoint", part]).collect();
    run("umoci", &[&["config", "--image", &image], entry.as_slice()].concat())?;
    run("tar", &["-C", &at("layout"), "-cf", &at("image.tar"), "."])?;
    Ok(at("image.tar"))
}

fn static_busybox() -> Result<PathBuf, String> {
    let found = ["/usr/bin/busybox", "/bin/busybox"].into_iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| "no busybox; install busybox-static".to_owned())
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text_of(&output.stdout))
    } else {
        Err(format!("{program}: {}", text_of(&output.stderr)))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
