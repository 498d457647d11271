//! Container engines of the tests' own, which end with them: podman, Docker, and containerd by CRI with pods, all requested
//! the same in the same words.

use driftline_engines::RuntimeSettings;
use driftline_engines::testing::{Pod, PodSpec, Pods, Snapshotter};
use driftline_schemas::{ContainerId, ImageId};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

use crate::image::TestImage;

/// How long an engine may take to answer.
const PATIENCE_TRIES: u32 = 300;
const TRY_AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Engine {
    Podman,
    Docker,
    Containerd,
}

/// How an engine keeps images, and so what a container's root is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    Overlay,
    /// A directory of its own for each container: podman's and Docker's vfs, containerd's native.
    Plain,
}

pub(crate) const ENGINES: [Engine; 3] = [Engine::Podman, Engine::Docker, Engine::Containerd];

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::Containerd => "containerd",
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub(crate) fn start(self, storage: Storage) -> Result<Running, String> {
        let directory = tempfile::tempdir().map_err(text)?;
        let driver = match self {
            Self::Podman => Commanded::podman(directory.path(), storage).map(Driver::Commanded)?,
            Self::Docker => Commanded::docker(directory.path(), storage).map(Driver::Commanded)?,
            Self::Containerd => {
                let runtime = tokio::runtime::Runtime::new().map_err(text)?;
                let snapshotter = match storage {
                    Storage::Overlay => Snapshotter::Overlayfs,
                    Storage::Plain => Snapshotter::Native,
                };
                Driver::Pods(Box::new(runtime.block_on(Pods::start_with(snapshotter))?), runtime)
            }
        };
        Ok(Running { engine: self, driver, directory })
    }
}

/// The request for a container; beside it, all run without a network, without a seccomp profile as in most
/// clusters, and do nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spec {
    /// Files and directories of the node, and where they are in the container.
    pub(crate) binds: Vec<(PathBuf, String)>,
    /// Where file systems in memory are, from which programs may run.
    pub(crate) memory: Vec<String>,
    pub(crate) power: Power,
    /// More options of podman's or Docker's `run`.
    pub(crate) run_options: Vec<String>,
}

/// What a container may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Power {
    /// What engines allow by default.
    #[default]
    Usual,
    /// Everything, and it sees the processes of the node.
    All,
}

/// An engine that runs.
pub(crate) struct Running {
    pub(crate) engine: Engine,
    driver: Driver,
    directory: TempDir,
}

enum Driver {
    Commanded(Commanded),
    Pods(Box<Pods>, tokio::runtime::Runtime),
}

/// A container that runs, until its engine ends.
#[derive(Debug, Clone)]
pub(crate) struct Contained {
    pub(crate) id: ContainerId,
    pod: Option<Pod>,
}

impl Running {
    /// Adds how to reach it to the settings of a collector or indexer.
    pub(crate) fn describe_to(&self, settings: &mut RuntimeSettings) {
        match (&self.driver, self.engine) {
            (Driver::Pods(pods, _), _) => {
                settings.containerd_socket = pods.socket();
                settings.cri_sockets = vec![pods.socket()];
            }
            (Driver::Commanded(commanded), Engine::Docker) => settings.docker_socket = commanded.socket.clone(),
            (Driver::Commanded(commanded), _) => settings.podman_socket = commanded.socket.clone(),
        }
    }

    /// Takes an image from its archive.
    pub(crate) fn load(&self, image: &TestImage) {
        match &self.driver {
            Driver::Commanded(commanded) => {
                commanded.call(&["load", "--quiet", "--input", &image.archive().display().to_string()]).unwrap();
            }
            Driver::Pods(pods, runtime) => {
                assert_eq!(&runtime.block_on(pods.load(image.archive(), image.name())).unwrap(), image.id());
            }
        }
    }

    /// Runs a container of an image.
    pub(crate) fn run(&self, image: &TestImage, spec: &Spec) -> Contained {
        match &self.driver {
            Driver::Commanded(commanded) => Contained { id: commanded.run(image, spec), pod: None },
            Driver::Pods(pods, runtime) => {
                let pod = runtime.block_on(pods.run(&self.pod_of(image.id(), spec))).unwrap();
                Contained { id: pod.container.clone(), pod: Some(pod) }
            }
        }
    }

    /// A file system in memory is a directory of the node's, as a kubelet makes one.
    fn pod_of(&self, image: &ImageId, spec: &Spec) -> PodSpec {
        let memory = spec.memory.iter().map(|inside| {
            let host = tempfile::Builder::new().prefix("driftline-memory").tempdir_in("/dev/shm").unwrap().keep();
            fs::write(self.directory.path().join(host.file_name().unwrap()), "").unwrap();
            (host, inside.clone())
        });
        let name = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned();
        PodSpec {
            uid: name.clone(),
            name,
            namespace: "table".to_owned(),
            container: "case".to_owned(),
            volumes: spec.binds.iter().cloned().chain(memory).collect(),
            image: Some(image.as_str().to_owned()),
            privileged: spec.power == Power::All,
            host_pid: spec.power == Power::All,
            ..PodSpec::default()
        }
    }

    /// Runs a program in a container; what it printed.
    ///
    /// # Errors
    /// What it complained of.
    pub(crate) fn exec(&self, container: &Contained, command: &[&str]) -> Result<String, String> {
        match &self.driver {
            Driver::Commanded(commanded) => commanded.call(&[&["exec", container.id.as_str()], command].concat()),
            Driver::Pods(pods, runtime) => runtime.block_on(pods.exec(&container.id, command)),
        }
    }

    /// Ends a container.
    pub(crate) fn remove(&self, container: &Contained) {
        match (&self.driver, &container.pod) {
            (Driver::Pods(pods, runtime), Some(pod)) => runtime.block_on(pods.remove(pod)).unwrap(),
            (Driver::Commanded(commanded), _) => {
                commanded.call(&["rm", "--force", container.id.as_str()]).unwrap();
            }
            (Driver::Pods(..), None) => unreachable!("its containers are in pods"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Driver::Commanded(commanded) = &mut self.driver {
            commanded.end();
        }
        unmount_below(self.directory.path());
        // Markers of what lies in the node's memory.
        for entry in fs::read_dir(self.directory.path()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("driftline-memory") {
                let _ = fs::remove_dir_all(Path::new("/dev/shm").join(entry.file_name()));
            }
        }
    }
}

/// podman or Docker: a service, and the command that is given its options.
struct Commanded {
    program: &'static str,
    options: Vec<String>,
    /// What `run` needs on machines whose limits are low.
    run_options: &'static [&'static str],
    all_power: &'static [&'static str],
    socket: PathBuf,
    service: Child,
}

/// Docker gives a privileged container what the machine may not have to give; podman and containerd give what there is.
const DOCKER_ALL: &[&str] = &["--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "--pid=host"];
const PODMAN_ALL: &[&str] = &["--privileged", "--pid=host"];

impl Commanded {
    fn podman(directory: &Path, storage: Storage) -> Result<Self, String> {
        let at = |name: &str| directory.join(name).display().to_string();
        let (root, run, temporary) = (at("root"), at("run"), at("tmp"));
        let mut options = vec!["--root", &root, "--runroot", &run, "--tmpdir", &temporary];
        options.extend(["--runtime=runc", "--cgroup-manager=cgroupfs"]);
        options.extend(
            match storage {
                Storage::Overlay => "--storage-driver=overlay",
                Storage::Plain => "--storage-driver=vfs",
            }
            .lines(),
        );
        let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
        let socket = directory.join("podman.sock");
        let address = format!("unix://{}", socket.display());
        let service = [options.clone(), ["system", "service", "--time=0", &address].map(str::to_owned).into()].concat();
        let run_options = &["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"];
        Self::start("podman", "podman", &service, options, run_options, socket, directory)
    }

    fn docker(directory: &Path, storage: Storage) -> Result<Self, String> {
        let at = |name: &str| directory.join(name).display().to_string();
        let socket = directory.join("docker.sock");
        let host = format!("unix://{}", socket.display());
        let driver = match storage {
            Storage::Overlay => "overlay2",
            Storage::Plain => "vfs",
        };
        let service = [
            ["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid"), "--host", &host],
            [
                "--bridge=none",
                "--iptables=false",
                "--exec-opt",
                "native.cgroupdriver=cgroupfs",
                "--storage-driver",
                driver,
                "--default-ulimit",
                "nofile=1024:1024",
            ],
        ];
        let service: Vec<String> = service.concat().into_iter().map(str::to_owned).collect();
        Self::start("docker", "dockerd", &service, vec!["--host".to_owned(), host], &[], socket, directory)
    }

    fn start(
        program: &'static str,
        daemon: &str,
        service: &[String],
        options: Vec<String>,
        run_options: &'static [&'static str],
        socket: PathBuf,
        directory: &Path,
    ) -> Result<Self, String> {
        let log = directory.join("log");
        let mut command = Command::new(daemon);
        command.args(service).stdin(Stdio::null()).stdout(Stdio::null());
        let service = command.stderr(File::create(&log).map_err(text)?).spawn();
        let service = service.map_err(|error| format!("{daemon}: {error}"))?;
        let all_power = if program == "docker" { DOCKER_ALL } else { PODMAN_ALL };
        let mut started = Self { program, options, run_options, all_power, socket, service };
        for _ in 0..PATIENCE_TRIES {
            if started.socket.exists() && started.call(&["version"]).is_ok() {
                return Ok(started);
            }
            if started.service.try_wait().map_err(text)?.is_some() {
                break;
            }
            std::thread::sleep(TRY_AGAIN);
        }
        started.end();
        let log = fs::read_to_string(log).unwrap_or_default();
        Err(format!("{daemon} does not answer: {}", log.lines().last().unwrap_or_default()))
    }

    fn run(&self, image: &TestImage, spec: &Spec) -> ContainerId {
        let mut options: Vec<String> = ["run", "--detach", "--network=none", "--security-opt=seccomp=unconfined"]
            .iter()
            .chain(self.run_options)
            .map(|option| (*option).to_owned())
            .collect();
        options.extend(spec.binds.iter().map(|(host, inside)| format!("--volume={}:{inside}", host.display())));
        options.extend(spec.memory.iter().map(|inside| format!("--tmpfs={inside}:rw,exec")));
        if spec.power == Power::All {
            options.extend(self.all_power.iter().map(|option| (*option).to_owned()));
        }
        options.extend(spec.run_options.iter().cloned());
        options.push(image.name().to_owned());
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        ContainerId::from(self.call(&options).unwrap().trim())
    }

    fn call(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(self.program).args(&self.options).args(arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", self.program))?;
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let complaint =
            || format!("{} {arguments:?}: {}{}", self.program, text_of(&output.stdout), text_of(&output.stderr));
        if output.status.success() { Ok(text_of(&output.stdout)) } else { Err(complaint()) }
    }

    fn end(&mut self) {
        let containers = self.call(&["ps", "--all", "--quiet"]).unwrap_or_default();
        let containers: Vec<&str> = containers.split_whitespace().collect();
        if !containers.is_empty() {
            let _ = self.call(&[&["rm", "--force", "--volumes"], containers.as_slice()].concat());
        }
        let _ = kill_process(Pid::from_child(&self.service), Signal::TERM);
        let _ = self.service.wait();
    }
}

fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| Path::new(point).starts_with(directory));
    for point in points {
        let _ = Command::new("umount").args(["--lazy", point]).output();
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
