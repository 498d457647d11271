//! The events of the runtimes: each start and each end sends one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driftline_engines::testing::{Crio, Events, PodSpec, Pods};
use driftline_engines::{Listener, RuntimeSettings, Runtimes};
use tempfile::TempDir;

use crate::{ENGINE, skip};

/// Longest wait for an engine to start, or for its event.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing answers there.
fn nowhere() -> RuntimeSettings {
    RuntimeSettings {
        containerd_socket: "/nowhere".into(),
        cri_sockets: vec![],
        docker_socket: "/nowhere".into(),
        podman_socket: "/nowhere".into(),
        podman_command: "/nowhere".into(),
        ..RuntimeSettings::default()
    }
}

/// Waits until every runtime sends events.
async fn listening(runtimes: &Runtimes) -> Listener {
    let mut listener = runtimes.listen();
    let all = async {
        while listener.counts().silent > 0 {
            listener.changed().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, all).await;
    assert!(waited.is_ok(), "not every runtime sends events");
    listener
}

/// Waits for more events than there were before.
async fn received(listener: &mut Listener, before: u64, what: &str) {
    let more = async {
        while listener.counts().received == before {
            listener.changed().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, more).await;
    assert!(waited.is_ok(), "no event of {what}");
    assert_eq!(listener.counts().silent, 0);
}

#[tokio::test]
async fn containerd_sends_events_of_a_pod_s_start_and_end() {
    let pods = match Pods::start().await {
        Ok(pods) => pods,
        Err(reason) => return skip("containerd_sends_events_of_a_pod_s_start_and_end", &reason),
    };
    let runtimes = Runtimes::detect(&pods.settings()).await;
    let mut listener = listening(&runtimes).await;
    let spec = PodSpec { name: "web".into(), uid: "u".into(), container: "web".into(), ..PodSpec::default() };
    let before = listener.counts().received;
    let pod = pods.run(&spec).await.unwrap();
    received(&mut listener, before, "the start").await;
    let before = listener.counts().received;
    pods.remove(&pod).await.unwrap();
    received(&mut listener, before, "the end").await;
}

/// An engine with a socket; it is ended with the test, and waited for.
struct Engine {
    process: Child,
    directory: TempDir,
}

impl Engine {
    fn start(program: &str, arguments: impl FnOnce(&Path) -> Vec<String>) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(arguments(directory.path())).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(directory.path().join("log")).unwrap());
        let process = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        Ok(Self { process, directory })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// The runtimes, once this engine answers; its error when it ends instead.
    async fn answering(&mut self, settings: &RuntimeSettings) -> Result<Runtimes, String> {
        let answers = async {
            loop {
                let runtimes = Runtimes::detect(settings).await;
                if runtimes.answering().next().is_some() {
                    return Ok(runtimes);
                }
                if self.process.try_wait().unwrap().is_some() {
                    let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
                    return Err(log.lines().last().unwrap_or_default().to_owned());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.process.wait();
    }
}

/// A file tree with a static busybox, as an archive.
fn root_archive(directory: &Path) -> Option<PathBuf> {
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists())?;
    let archive = directory.join("rootfs.tar");
    std::fs::create_dir(directory.join("bin")).unwrap();
    std::fs::copy(busybox, directory.join("bin/busybox")).unwrap();
    let tar = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(directory).arg("bin").status().unwrap();
    tar.success().then_some(archive)
}

fn call(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text_of(&output.stdout)) } else { Err(text_of(&output.stderr)) }
}

/// An image in an engine, and a container of it; removed at the end, however that comes.
struct Sleeper<'a> {
    program: &'a str,
    options: &'a [&'a str],
    /// Tag of the image.
    tag: String,
    /// Name of the container.
    name: String,
}

impl<'a> Sleeper<'a> {
    fn import(program: &'a str, options: &'a [&'a str]) -> Self {
        let name = format!("driftline-test-events-{}", std::process::id());
        let sleeper = Self { program, options, tag: format!("localhost/{name}:1"), name };
        let directory = tempfile::tempdir().unwrap();
        let archive = root_archive(directory.path()).unwrap().display().to_string();
        sleeper.call(&["import", &archive, &sleeper.tag]).unwrap();
        sleeper
    }

    fn call(&self, arguments: &[&str]) -> Result<String, String> {
        call(self.program, &[self.options, arguments].concat())
    }

    fn start(&self) {
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000", "--network=none"];
        let what = [self.tag.as_str(), "/bin/busybox", "sleep", "600"];
        self.call(&[&["run", "--detach", "--name", &self.name][..], &limits, &what].concat()).unwrap();
    }

    fn end(&self) {
        self.call(&["kill", &self.name]).unwrap();
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        let _ = self.call(&["rm", "--force", &self.name]);
        let _ = self.call(&["rmi", "--force", &self.tag]);
    }
}

/// Runs a container with an engine's command, and ends it; both have to send an event.
async fn check_engine(listener: &mut Listener, program: &str, options: &[&str]) {
    let sleeper = Sleeper::import(program, options);
    let before = listener.counts().received;
    sleeper.start();
    received(listener, before, "the start").await;
    let before = listener.counts().received;
    sleeper.end();
    received(listener, before, "the end").await;
}

#[tokio::test]
async fn docker_sends_events_of_a_container_s_start_and_end() {
    const NAME: &str = "docker_sends_events_of_a_container_s_start_and_end";
    let started = Engine::start("dockerd", |directory| {
        let at = |name: &str| directory.join(name).display().to_string();
        let host = format!("unix://{}", at("socket"));
        let own = ["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid"), "--host", &host];
        let quiet = ["--bridge=none", "--iptables=false", "--exec-opt", "native.cgroupdriver=cgroupfs"];
        own.into_iter().chain(quiet).map(str::to_owned).collect()
    });
    let mut engine = match started {
        Ok(engine) => engine,
        Err(reason) => return skip(NAME, &reason),
    };
    let settings = RuntimeSettings { docker_socket: engine.socket(), ..nowhere() };
    let runtimes = match engine.answering(&settings).await {
        Ok(runtimes) => runtimes,
        Err(reason) => return skip(NAME, &reason),
    };
    let host = format!("unix://{}", engine.socket().display());
    let mut listener = listening(&runtimes).await;
    check_engine(&mut listener, "docker", &["--host", &host]).await;
}

#[tokio::test]
async fn podman_s_service_sends_events_of_a_container_that_its_command_starts_and_ends() {
    const NAME: &str = "podman_s_service_sends_events_of_a_container_that_its_command_starts_and_ends";
    let started = Engine::start("podman", |directory| {
        let address = format!("unix://{}", directory.join("socket").display());
        ENGINE.into_iter().chain(["system", "service", "--time=0", &address]).map(str::to_owned).collect()
    });
    let mut engine = match started {
        Ok(engine) => engine,
        Err(reason) => return skip(NAME, &reason),
    };
    let settings = RuntimeSettings { podman_socket: engine.socket(), ..nowhere() };
    let runtimes = match engine.answering(&settings).await {
        Ok(runtimes) => runtimes,
        Err(reason) => return skip(NAME, &reason),
    };
    let mut listener = listening(&runtimes).await;
    check_engine(&mut listener, "podman", &ENGINE).await;
}

#[tokio::test]
async fn a_runtime_without_events_stays_silent_and_one_that_goes_becomes_silent() {
    let (sending, silent) = (Crio::start(Events::Sent).unwrap(), Crio::start(Events::Off).unwrap());
    let settings = RuntimeSettings { cri_sockets: vec![sending.socket(), silent.socket()], ..nowhere() };
    let mut listener = Runtimes::detect(&settings).await.listen();
    assert_eq!(listener.counts().silent, 2);
    listener.changed().await;
    let counts = listener.counts();
    assert_eq!((counts.silent, counts.received), (1, 1), "events before the stream were missed");
    assert_eq!(sending.listeners(), 1);
    sending.start_container(0);
    listener.changed().await;
    assert_eq!(listener.counts().received, 2);
    drop(sending);
    listener.changed().await;
    assert_eq!(listener.counts().silent, 2);
}
