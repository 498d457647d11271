//! A real containerd with a root of the tests' own: its store, its snapshots and the imported layout are the same
//! image.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driftline_engines::{RuntimeSettings, Runtimes};
use driftline_indexer::node::index_image;
use driftline_indexer::{Indexed, IndexedLayer, index_layout};
use driftline_schemas::layer::{EntryKind, LayerEntry};
use driftline_schemas::{ImageId, LayerBasis};
use driftline_service::clock;
use serde_json::{Value, json};

use crate::oci::{Layout, Stored, archive_of, directory, file, layer};
use crate::sources::{check_same, merged_files, write_image};
use crate::tools::{LANES, or_skip, run, wanted};

/// Longest wait for containerd to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A containerd with a root of its own; it ends with the test.
struct Containerd {
    directory: tempfile::TempDir,
    process: Child,
}

impl Containerd {
    /// `more` is added to its configuration.
    fn start(more: &str) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\naddress = {:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n{more}\n",
            at("root"),
            at("state"),
            at("containerd.sock"),
            at("opt"),
        );
        std::fs::write(at("config.toml"), config).unwrap();
        let mut command = Command::new("containerd");
        command.args(["--config", &at("config.toml")]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(at("log")).unwrap());
        let process = command.spawn().map_err(|error| format!("containerd: {error}"))?;
        let mut started = Self { directory, process };
        let deadline = clock::monotonic() + PATIENCE;
        while let Err(reason) = started.ctr("k8s.io", &["version"]) {
            let ended = started.process.try_wait().unwrap();
            if ended.is_some() || clock::monotonic() > deadline {
                let log = std::fs::read_to_string(started.directory.path().join("log")).unwrap();
                return Err(format!("{reason}: {}", log.lines().last().unwrap_or_default()));
            }
            poll();
        }
        Ok(started)
    }

    fn ctr(&self, namespace: &str, arguments: &[&str]) -> Result<String, String> {
        let socket = self.socket();
        let output = run("ctr", &[&["--address", &socket, "--namespace", namespace], arguments].concat())?;
        Ok(String::from_utf8(output).unwrap())
    }

    fn socket(&self) -> String {
        self.directory.path().join("containerd.sock").display().to_string()
    }

    /// Imports a layout.
    fn import(&self, namespace: &str, layout: &Path, options: &[&str]) {
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), archive_of(layout)).unwrap();
        let path = archive.path().to_string_lossy();
        self.ctr(namespace, &[&["images", "import"], options, &[&path]].concat()).unwrap();
    }

    async fn runtimes(&self) -> Runtimes {
        let settings = RuntimeSettings {
            containerd_socket: self.socket().into(),
            docker_socket: "/nowhere".into(),
            podman_socket: "/nowhere".into(),
            podman_command: "/nowhere".into(),
            ..RuntimeSettings::default()
        };
        let runtimes = Runtimes::detect(&settings).await;
        assert_eq!(runtimes.answering().collect::<Vec<_>>(), ["containerd"], "{:?}", runtimes.states());
        runtimes
    }

    /// Checks that no object of ours is left behind.
    fn check_tidy(&self, namespace: &str) {
        assert_eq!(self.ctr(namespace, &["leases", "ls", "--quiet"]).unwrap(), "");
        let snapshots = self.ctr(namespace, &["snapshots", "ls"]).unwrap();
        assert!(!snapshots.contains("driftline"), "{snapshots}");
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn poll() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(20));
    drop(sender);
}

/// Digests of the layers' blobs of the only manifest that a layout's index names.
fn layer_blobs(layout: &Path) -> Vec<String> {
    let read = |path: &Path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let index = read(&layout.join("index.json"));
    let manifest = read(&Layout(layout).path(index["manifests"][0]["digest"].as_str().unwrap()));
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

/// Checks that an unpacked layer equals its blob, except for directories that the blob only implies, and whiteouts of a
/// path at which the layer has an entry itself.
#[track_caller]
fn check_unpacked(found: &Indexed, expect: &Indexed) {
    assert_eq!(found.layers.len(), expect.layers.len());
    for (found, expect) in found.layers.iter().zip(&expect.layers) {
        assert_eq!((&found.diff_id, found.basis), (&expect.diff_id, LayerBasis::Snapshot));
        let has = |layer: &IndexedLayer, path: &[u8]| layer.manifest.entries().iter().any(|entry| entry.path == path);
        let implied = |entry: &&LayerEntry| entry.kind == EntryKind::Directory && !has(expect, &entry.path);
        let replaced = |entry: &&LayerEntry| {
            let beside = |other: &LayerEntry| other.path == entry.path && other.kind != entry.kind;
            entry.kind == EntryKind::Whiteout && expect.manifest.entries().iter().any(beside)
        };
        let known: Vec<_> = found.manifest.entries().iter().filter(|entry| !implied(entry)).collect();
        let expected: Vec<_> = expect.manifest.entries().iter().filter(|entry| !replaced(entry)).collect();
        assert_eq!(known, expected, "{}", found.diff_id);
    }
    assert_eq!(merged_files(found), merged_files(expect));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_and_the_snapshots_are_the_image_of_the_layout() {
    const NAME: &str = "the_store_and_the_snapshots_are_the_image_of_the_layout";
    let Some(containerd) = or_skip(NAME, Containerd::start("")) else { return };
    let layout = tempfile::tempdir().unwrap();
    let config = write_image(&Layout(layout.path()), Stored::Zstd);
    let expect = index_layout(layout.path(), &wanted(Some(&config)), LANES).unwrap();
    // Without a name of the form that containerd knows, nothing would protect the image from removal.
    containerd.import("k8s.io", layout.path(), &["--index-name", "docker.io/library/example:1"]);
    let runtimes = containerd.runtimes().await;

    let stored = index_image(&runtimes, &config).await.unwrap();
    check_same("content store", &stored, &expect);
    assert!(stored.layers.iter().all(|layer| layer.basis == LayerBasis::Blob));
    containerd.check_tidy("k8s.io");

    for blob in layer_blobs(layout.path()) {
        containerd.ctr("k8s.io", &["content", "rm", &blob]).unwrap();
    }
    let unpacked = index_image(&runtimes, &config).await.unwrap();
    assert_eq!(unpacked.image.diff_ids, expect.image.diff_ids);
    check_unpacked(&unpacked, &expect);
    containerd.check_tidy("k8s.io");
}

/// An image of one layer for an architecture: returns digest and size of its manifest, and its config's digest.
fn image_for(layout: &Layout<'_>, architecture: &str) -> (Value, String) {
    let tar = layer(&[directory("bin"), file("bin/arch", architecture.as_bytes())]);
    let (manifest, _) = layout.image(&[(tar, Stored::Gzip)]);
    let read = |digest: &str| serde_json::from_slice::<Value>(&std::fs::read(layout.path(digest)).unwrap()).unwrap();
    let mut manifest = read(&manifest);
    let mut config = read(manifest["config"]["digest"].as_str().unwrap());
    config["architecture"] = architecture.into();
    let (config, size) = (layout.json(&config), config.to_string().len());
    manifest["config"]["digest"] = config.as_str().into();
    manifest["config"]["size"] = size.into();
    let size = manifest.to_string().len();
    let descriptor = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": layout.json(&manifest), "size": size,
        "platform": {"os": "linux", "architecture": architecture},
    });
    (descriptor, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_found_by_config_manifest_and_index_in_whatever_namespace() {
    const NAME: &str = "an_image_is_found_by_config_manifest_and_index_in_whatever_namespace";
    let Some(containerd) = or_skip(NAME, Containerd::start("")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout(directory.path());
    let images = ["amd64", "arm64"].map(|architecture| image_for(&layout, architecture));
    let manifests: Vec<&Value> = images.iter().map(|(manifest, _)| manifest).collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = layout.json(&json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}));
    let size = std::fs::metadata(layout.path(&index)).unwrap().len();
    let named = json!({
        "mediaType": media_type, "digest": index, "size": size,
        "annotations": {"org.opencontainers.image.ref.name": "1"},
    });
    std::fs::write(directory.path().join("index.json"), json!({"schemaVersion": 2, "manifests": [named]}).to_string())
        .unwrap();
    std::fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    containerd.import(
        "moby",
        directory.path(),
        &["--all-platforms", "--no-unpack", "--base-name", "docker.io/library/example"],
    );
    let runtimes = containerd.runtimes().await;

    let own = images.iter().position(|(manifest, _)| {
        manifest["platform"]["architecture"] == driftline_indexer::own_platform().architecture.as_str()
    });
    let mut cases = vec![];
    for (manifest, config) in &images {
        cases.extend([(config.as_str(), config), (manifest["digest"].as_str().unwrap(), config)]);
    }
    cases.extend(own.map(|own| (index.as_str(), &images[own].1)));
    for (received, config) in cases {
        let received = ImageId::from(received);
        let found = index_image(&runtimes, &received).await.unwrap();
        let expect = index_layout(directory.path(), &wanted(Some(&received)), LANES).unwrap();
        check_same(received.as_str(), &found, &expect);
        let digest = Some(found.image.config_digest.as_str()).filter(|digest| !digest.is_empty());
        assert_eq!((&found.image.image_id, digest.unwrap_or(received.as_str())), (&received, config.as_str()));
        assert_eq!(found.image.references, ["docker.io/library/example:1"]);
    }
    let missing = ImageId::from(format!("sha256:{}", "0".repeat(64)).as_str());
    let error = index_image(&runtimes, &missing).await.unwrap_err();
    assert_eq!(error.to_string(), "no runtime of this node holds the image");
    containerd.check_tidy("moby");
}
