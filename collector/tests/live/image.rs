//! Images of the tests' own, written as the archive that `docker load`, `podman load` and `ctr images import` all take.

use driftline_schemas::{ImageId, Sha256};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use tar::{Builder, EntryType, Header};
use tempfile::NamedTempFile;

/// One layer being written.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(crate) fn directory(mut self, path: &str) -> Self {
        self.add(EntryType::Directory, path, 0o755, &[], None);
        self
    }

    /// A program.
    pub(crate) fn program(mut self, path: &str, content: &[u8]) -> Self {
        self.add(EntryType::Regular, path, 0o755, content, None);
        self
    }

    /// A file that nobody executes.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.add(EntryType::Regular, path, 0o644, content, None);
    }

    pub(crate) fn symlink(mut self, path: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, path, 0o777, &[], Some(target));
        self
    }

    pub(crate) fn hard_link(mut self, path: &str, target: &str) -> Self {
        self.add(EntryType::Link, path, 0o755, &[], Some(target));
        self
    }

    /// Hides a path of lower layers.
    pub(crate) fn whiteout(mut self, directory: &str, name: &str) -> Self {
        self.file(&format!("{directory}/.wh.{name}"), &[]);
        self
    }

    /// Hides everything that lower layers have in a directory.
    pub(crate) fn opaque(mut self, directory: &str) -> Self {
        self.file(&format!("{directory}/.wh..wh..opq"), &[]);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn add(&mut self, kind: EntryType, path: &str, mode: u32, content: &[u8], target: Option<&str>) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(1);
        match target {
            Some(target) => self.0.append_link(&mut header, path, target).unwrap(),
            None => self.0.append_data(&mut header, path, content).unwrap(),
        }
    }
}

/// An image in an archive.
pub(crate) struct TestImage {
    archive: NamedTempFile,
    id: ImageId,
    name: String,
}

impl TestImage {
    /// Puts layers together, lowest first; one may occur more than once. `volumes` are declared to be such.
    pub(crate) fn write(name: &str, layers: &[&[u8]], volumes: &[&str]) -> Self {
        let digests: Vec<String> = layers.iter().map(|layer| Sha256::of(layer).to_string()).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {
                "Cmd": ["/bin/sleep", "600"],
                "Volumes": volumes.iter().map(|point| ((*point).to_owned(), json!({}))).collect::<serde_json::Map<_, _>>(),
            },
            "rootfs": { "type": "layers", "diff_ids": digests.iter().map(|hex| format!("sha256:{hex}")).collect::<Vec<_>>() },
            "history": layers.iter().map(|_| json!({ "created_by": "a test" })).collect::<Vec<_>>(),
        });
        let config = serde_json::to_vec(&config).unwrap();
        let config_digest = Sha256::of(&config).to_string();
        let layer_path = |digest: &String| format!("{digest}/layer.tar");
        let manifest = json!([{
            "Config": format!("{config_digest}.json"),
            "RepoTags": [name],
            "Layers": digests.iter().map(layer_path).collect::<Vec<_>>(),
        }]);
        let archive = NamedTempFile::new().unwrap();
        let mut tar = Builder::new(File::create(archive.path()).unwrap());
        let mut add = |path: &str, content: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content).unwrap();
        };
        add(&format!("{config_digest}.json"), &config);
        let mut written = BTreeSet::new();
        for (digest, layer) in digests.iter().zip(layers) {
            if written.insert(digest) {
                add(&layer_path(digest), layer);
            }
        }
        add("manifest.json", &serde_json::to_vec(&manifest).unwrap());
        tar.finish().unwrap();
        Self { archive, id: ImageId::from(format!("sha256:{config_digest}").as_str()), name: name.to_owned() }
    }

    pub(crate) fn archive(&self) -> &Path {
        self.archive.path()
    }

    /// Digest of its config.
    pub(crate) fn id(&self) -> &ImageId {
        &self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
