//! The clients against a real podman and a real containerd with pods, and against sockets that answer like Docker, CRI-O
//! and Kubernetes.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod crio;
mod events;
mod kubernetes;
mod pods;

use std::path::Path;
use std::process::Command;

use driftline_engines::{ArchiveFormat, ImageContent, ImageExport, RuntimeError, RuntimeSettings, Runtimes};
use driftline_schemas::{ContainerId, ImageId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ENGINE: [&str; 2] = ["--runtime=runc", "--cgroup-manager=cgroupfs"];

fn podman(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("podman").args(ENGINE).args(arguments).output().map_err(|error| error.to_string())?;
    let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text_of(&output.stdout)) } else { Err(text_of(&output.stderr)) }
}

/// Names a test that could not run in the file that collects them.
fn skip(name: &str, reason: &str) {
    println!("skipped {name}: {reason}");
    #[expect(clippy::disallowed_methods, reason = "set by make test, for tests only")]
    let Ok(list) = std::env::var("DRIFTLINE_SKIPPED") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
    std::io::Write::write_all(&mut file, format!("{name}\t{}\n", reason.replace(['\n', '\t'], " ")).as_bytes())
        .unwrap();
}

/// The archive of an image that its runtime exports.
async fn export(
    runtimes: &Runtimes,
    runtime: &str,
    id: &ImageId,
    format: ArchiveFormat,
) -> Result<ImageExport, RuntimeError> {
    match runtimes.open_image(runtime, id, format, 0).await? {
        ImageContent::Archive(archive) => Ok(archive),
        ImageContent::Stored(_) => unreachable!("only containerd's store is read as it is"),
    }
}

/// A container of a fresh image, removed at the end.
struct Sandbox {
    tag: String,
    container: String,
}

impl Sandbox {
    fn start() -> Result<Self, String> {
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.ok_or("no busybox; install busybox-static")?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let root = directory.path().join("bin");
        std::fs::create_dir(&root)
            .and_then(|()| std::fs::copy(busybox, root.join("busybox")))
            .map_err(|e| e.to_string())?;
        let archive = directory.path().join("rootfs.tar");
        let tar = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(directory.path()).arg("bin").status();
        tar.map_err(|error| error.to_string())?;
        let tag = format!("localhost/driftline-test-runtimes:{}", std::process::id());
        podman(&["import", &archive.to_string_lossy(), &tag])?;
        let mut sandbox = Self { tag, container: String::new() };
        sandbox.container = podman(&[
            "run",
            "--detach",
            "--network=none",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1000:1000",
            "--pid=host",
            "--tmpfs=/scratch",
            "--label=io.kubernetes.pod.name=p",
            &sandbox.tag,
            "/bin/busybox",
            "sleep",
            "600",
        ])?;
        Ok(sandbox)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = podman(&["rm", "--force", "--time=0", &self.container]);
        let _ = podman(&["rmi", "--force", &self.tag]);
    }
}

#[tokio::test]
async fn a_podman_container_is_described_and_its_image_exported() {
    let sandbox = match Sandbox::start() {
        Ok(sandbox) => sandbox,
        Err(reason) => return skip("a_podman_container_is_described_and_its_image_exported", &reason),
    };
    let settings = RuntimeSettings { docker_socket: "/nowhere".into(), ..RuntimeSettings::default() };
    let runtimes = Runtimes::detect(&settings).await;
    let states = runtimes.states();
    assert!(states[0].state.is_err() && states[1].state.is_ok(), "{states:?}");

    let id = ContainerId::from(sandbox.container.as_str());
    let described = runtimes.describe(&id).await.unwrap().unwrap();
    assert_eq!(described.container.image_ref, sandbox.tag);
    assert_eq!(described.container.host_namespaces, ["pid"]);
    assert_eq!(described.container.pod.as_ref().unwrap().name, "p");
    assert!(described.container.started_ns > 0 && described.init_pid.is_some());
    let mount = |point: &str| described.mounts.iter().find(|mount| mount.point == point).unwrap().fs_type.as_str();
    assert_eq!((mount("/dev/shm"), mount("/scratch")), ("tmpfs", "tmpfs"));
    assert!(runtimes.running().await.contains(&described));

    let image_id = &described.container.image_id;
    assert_eq!(runtimes.image_references("podman", image_id).await.unwrap(), Some(vec![sandbox.tag.clone()]));
    let mut archive = Vec::new();
    export(&runtimes, "podman", image_id, ArchiveFormat::Docker)
        .await
        .unwrap()
        .read_to_end(&mut archive)
        .await
        .unwrap();
    assert!(archive.len() > 1 << 20);

    let unknown = ImageId::from(format!("sha256:{}", "0".repeat(64)).as_str());
    assert!(!runtimes.has_image("podman", &unknown).await.unwrap());
    let cut =
        export(&runtimes, "podman", &unknown, ArchiveFormat::Docker).await.unwrap().read_to_end(&mut Vec::new()).await;
    assert!(cut.is_err(), "a failed export does not end like a whole one");
    assert_eq!(runtimes.describe(&ContainerId::from("0".repeat(64).as_str())).await, Ok(None));
    assert_eq!(runtimes.describe(&ContainerId::from("--help")).await, Ok(None));
}

/// Answers each connection by what stands for its path, like an engine.
async fn engine(socket: &Path, answers: &'static [(&'static str, &'static str)]) {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let answer = answers.iter().find(|(known, _)| *known == path);
            let (status, body) = answer.map_or(("404 Not Found", "{}"), |(_, body)| ("200 OK", *body));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).await;
        }
    });
}

#[tokio::test]
async fn docker_is_used_over_its_socket() {
    const ID: &str = "ab00000000000000000000000000000000000000000000000000000000000000";
    const IMAGE: &str = "sha256:cd00000000000000000000000000000000000000000000000000000000000000";
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    engine(
        &socket,
        &[
            ("/version", r#"{"Version":"20.10.24","Components":[{"Name":"Engine"}]}"#),
            ("/containers/json", r#"[{"Id":"ab00000000000000000000000000000000000000000000000000000000000000"}]"#),
            (
                "/containers/ab00000000000000000000000000000000000000000000000000000000000000/json",
                r#"{"Id":"ab00000000000000000000000000000000000000000000000000000000000000","Name":"/web","Image":"sha256:cd00000000000000000000000000000000000000000000000000000000000000","Driver":"overlay2"}"#,
            ),
            ("/images/sha256:cd00000000000000000000000000000000000000000000000000000000000000/json", r#"{"RepoTags":["web:1"]}"#),
            ("/images/sha256:cd00000000000000000000000000000000000000000000000000000000000000/get", "archive"),
        ],
    )
    .await;
    let settings = RuntimeSettings {
        docker_socket: socket,
        podman_socket: "/nowhere".into(),
        podman_command: "/nowhere".into(),
        ..RuntimeSettings::default()
    };
    let runtimes = Runtimes::detect(&settings).await;
    let described = runtimes.describe(&ContainerId::from(ID)).await.unwrap().unwrap();
    assert_eq!((described.container.name.as_str(), described.container.image_id.as_str()), ("web", IMAGE));
    assert_eq!(runtimes.running().await, [described]);
    let image_id = ImageId::from(IMAGE);
    assert_eq!(runtimes.image_references("docker", &image_id).await, Ok(Some(vec!["web:1".to_owned()])));
    let mut archive = String::new();
    export(&runtimes, "docker", &image_id, ArchiveFormat::Docker)
        .await
        .unwrap()
        .read_to_string(&mut archive)
        .await
        .unwrap();
    assert_eq!(archive, "archive");
    let unknown = export(&runtimes, "podman", &image_id, ArchiveFormat::Docker).await.unwrap_err();
    assert_eq!(unknown, RuntimeError::Unknown("podman".to_owned()));
    assert!(export(&runtimes, "docker", &ImageId::from("../x"), ArchiveFormat::Docker).await.is_err());
}
