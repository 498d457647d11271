//! The node's access to an image of a Docker and of podman's API service, both of the tests' own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driftline_engines::{RuntimeSettings, Runtimes};
use driftline_indexer::node::index_image;
use driftline_indexer::{Indexed, index_layout};
use driftline_schemas::ImageId;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::oci::{Layout, Stored, archive_of, file, layer};
use crate::registry::server::{Auth, Registry};
use crate::registry::{index, settings};
use crate::sources::{check_same, write_image};
use crate::tools::{LANES, PODMAN, or_skip, podman, run, skip, wanted};

/// Longest wait for an engine to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine. It is stopped with the test, and waited for.
struct Engine(Child);

impl Engine {
    fn start(program: &str, arguments: &[&str], log: &Path) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let started = command.stderr(std::fs::File::create(log).unwrap()).spawn();
        started.map(Self).map_err(|error| format!("{program}: {error}"))
    }

    /// The runtimes, once this engine answers; its log if it ends instead.
    async fn answering(&mut self, settings: &RuntimeSettings, log: &Path) -> Result<Runtimes, String> {
        let answers = async {
            loop {
                let runtimes = Runtimes::detect(settings).await;
                if runtimes.answering().next().is_some() {
                    return Ok(runtimes);
                }
                if self.0.try_wait().unwrap().is_some() {
                    let log = std::fs::read_to_string(log).unwrap();
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
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

fn nowhere() -> RuntimeSettings {
    RuntimeSettings {
        containerd_socket: "/nowhere".into(),
        docker_socket: "/nowhere".into(),
        podman_socket: "/nowhere".into(),
        podman_command: "/nowhere".into(),
        ..RuntimeSettings::default()
    }
}

/// A Docker of the test's own that has the image `example:1`.
struct Docker {
    _engine: Engine,
    directory: TempDir,
    host: String,
    runtimes: Runtimes,
    config: ImageId,
    expect: Indexed,
}

impl Docker {
    async fn with_image() -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let (socket, log) = (at("docker.sock"), directory.path().join("log"));
        let host = format!("unix://{socket}");
        let own = ["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid"), "--host", &host];
        let quiet = ["--bridge=none", "--iptables=false", "--exec-opt", "native.cgroupdriver=cgroupfs"];
        let mut engine = Engine::start("dockerd", &[&own[..], &quiet[..]].concat(), &log)?;
        let settings = RuntimeSettings { docker_socket: socket.into(), ..nowhere() };
        let runtimes = engine.answering(&settings, &log).await?;
        let layout = directory.path().join("layout");
        let config = write_image(&Layout(&layout), Stored::Gzip);
        let expect = index_layout(&layout, &wanted(Some(&config)), LANES).unwrap();
        let from = format!("oci:{}:example:1", layout.display());
        let to = "docker-daemon:example:1";
        run("skopeo", &["--insecure-policy", "copy", "--quiet", "--dest-daemon-host", &host, &from, to])?;
        Ok(Self { _engine: engine, directory, host, runtimes, config, expect })
    }

    fn call(&self, arguments: &[&str]) -> String {
        let output = run("docker", &[&["--host", self.host.as_str()], arguments].concat()).unwrap();
        String::from_utf8(output).unwrap().trim().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_exports_is_the_image_of_the_layout() {
    let docker = match Docker::with_image().await {
        Ok(docker) => docker,
        Err(reason) => return skip("what_docker_exports_is_the_image_of_the_layout", &reason),
    };
    let found = index_image(&docker.runtimes, &docker.config).await.unwrap();
    check_same("docker", &found, &docker.expect);
    assert_eq!(found.image.references, ["example:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_pushes_into_a_registry_is_the_image_of_the_layout() {
    const NAME: &str = "what_docker_pushes_into_a_registry_is_the_image_of_the_layout";
    let Some(docker) = or_skip(NAME, Docker::with_image().await) else { return };
    let store = docker.directory.path().join("registry");
    std::fs::create_dir(&store).unwrap();
    let Some(registry) = or_skip(NAME, Registry::start(&store, &Auth::Nobody, None)) else { return };
    let reference = format!("127.0.0.1:{}/team/pushed:1", registry.port);
    docker.call(&["tag", "example:1", &reference]);
    docker.call(&["push", "--quiet", &reference]);
    let manifest = docker.call(&["image", "inspect", "--format", "{{index .RepoDigests 0}}", &reference]);
    let (access, wanted) = (settings(registry.port, &[]), docker.config.clone());
    let read = tokio::task::spawn_blocking(move || index(access, wanted.as_str(), &reference));
    let found = read.await.unwrap().unwrap();
    check_same("pushed", &found, &docker.expect);
    // Docker writes its own kind of manifest, and compresses the layers again.
    let (_, digest) = manifest.split_once('@').unwrap();
    let stored = store.join("docker/registry/v2/blobs/sha256").join(&digest[7..9]).join(&digest[7..]).join("data");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(stored).unwrap()).unwrap();
    assert_eq!(written["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_podman_s_service_exports_is_the_image_even_with_zstd_layers() {
    const NAME: &str = "what_podman_s_service_exports_is_the_image_even_with_zstd_layers";
    let directory = tempfile::tempdir().unwrap();
    let (socket, log) = (directory.path().join("podman.sock"), directory.path().join("log"));
    let address = format!("unix://{}", socket.display());
    let service = [&PODMAN[..], &["system", "service", "--time=0", &address]].concat();
    let mut engine = match Engine::start("podman", &service, &log) {
        Ok(engine) => engine,
        Err(reason) => return skip(NAME, &reason),
    };
    let settings = RuntimeSettings { podman_socket: socket, ..nowhere() };
    let Some(runtimes) = or_skip(NAME, engine.answering(&settings, &log).await) else { return };
    for how in [Stored::Gzip, Stored::Zstd] {
        let layout = tempfile::tempdir().unwrap();
        let nonce = format!("{} {}", how as u8, std::process::id());
        let (manifest, config) = Layout(layout.path()).image(&[(layer(&[file("nonce", nonce.as_bytes())]), how)]);
        Layout(layout.path()).index(&[(&manifest, "example:1")]);
        let expect = index_layout(layout.path(), &wanted(None), LANES).unwrap();
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), archive_of(layout.path())).unwrap();
        podman(&["load", "--quiet", "--input", &archive.path().to_string_lossy()]).unwrap();
        let found = index_image(&runtimes, &ImageId::from(config.as_str())).await;
        podman(&["rmi", "--force", config.trim_start_matches("sha256:")]).unwrap();
        check_same(&nonce, &found.unwrap(), &expect);
    }
}
