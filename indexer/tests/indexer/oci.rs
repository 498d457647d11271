//! Writes OCI layouts, valid and invalid ones.

use std::io::Write as _;
use std::path::Path;

use driftline_schemas::Sha256;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

/// A member of a layer: path, type byte, mode, content or link target.
pub(crate) struct Entry(pub(crate) Vec<u8>, pub(crate) u8, pub(crate) u32, pub(crate) Vec<u8>);

pub(crate) fn file(path: &str, content: &[u8]) -> Entry {
    Entry(path.into(), b'0', 0o755, content.to_vec())
}

pub(crate) fn directory(path: &str) -> Entry {
    Entry(path.into(), b'5', 0o755, Vec::new())
}

pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    Entry(path.into(), b'2', 0o777, target.into())
}

pub(crate) fn hard_link(path: &str, target: &str) -> Entry {
    Entry(path.into(), b'1', 0o755, target.into())
}

pub(crate) fn whiteout(path: &str) -> Entry {
    let (directory, name) = path.rsplit_once('/').map_or(("", path), |(directory, name)| (directory, name));
    Entry(format!("{directory}/.wh.{name}").trim_start_matches('/').into(), b'0', 0o644, Vec::new())
}

/// A tar stream.
pub(crate) fn layer(entries: &[Entry]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut tar = Builder::new(Vec::new());
    for Entry(path, kind, mode, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(*kind));
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        if matches!(kind, b'1' | b'2') {
            header.set_size(0);
            tar.append_link(&mut header, path, std::ffi::OsStr::from_bytes(content)).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_slice()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

/// How a layer is stored.
#[derive(Clone, Copy)]
pub(crate) enum Stored {
    Plain,
    Gzip,
    Zstd,
}

pub(crate) fn stored(tar: &[u8], how: Stored) -> Vec<u8> {
    match how {
        Stored::Plain => tar.to_vec(),
        Stored::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(tar).unwrap();
            gzip.finish().unwrap()
        }
        Stored::Zstd => zstd::encode_all(tar, 1).unwrap(),
    }
}

/// A layout being written.
pub(crate) struct Layout<'a>(pub(crate) &'a Path);

impl Layout<'_> {
    /// Writes a blob; returns its digest.
    pub(crate) fn blob(&self, content: &[u8]) -> String {
        let digest = Sha256::of(content).to_digest();
        self.blob_as(&digest, content);
        digest
    }

    /// Writes a blob under a digest that may not be its own.
    pub(crate) fn blob_as(&self, digest: &str, content: &[u8]) {
        let blobs = self.0.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), content).unwrap();
    }

    pub(crate) fn json(&self, value: &Value) -> String {
        self.blob(value.to_string().as_bytes())
    }

    /// Writes an image of these layers; returns the digests of its manifest and config.
    pub(crate) fn image(&self, layers: &[(Vec<u8>, Stored)]) -> (String, String) {
        let diff_ids: Vec<String> = layers.iter().map(|(tar, _)| Sha256::of(tar).to_digest()).collect();
        self.image_with(layers, &diff_ids)
    }

    /// Writes an image whose config lists arbitrary diff_ids.
    pub(crate) fn image_with(&self, layers: &[(Vec<u8>, Stored)], diff_ids: &[String]) -> (String, String) {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Volumes": {"/data": {}}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.json(&config);
        let descriptors: Vec<Value> = layers.iter().map(|(tar, how)| self.layer_descriptor(tar, *how)).collect();
        let config_size = std::fs::metadata(self.path(&config)).unwrap().len();
        let manifest = self.json(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
            "layers": descriptors,
        }));
        (manifest, config)
    }

    fn layer_descriptor(&self, tar: &[u8], how: Stored) -> Value {
        let blob = stored(tar, how);
        let suffix = match how {
            Stored::Plain => "",
            Stored::Gzip => "+gzip",
            Stored::Zstd => "+zstd",
        };
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        json!({"mediaType": media_type, "digest": self.blob(&blob), "size": blob.len()})
    }

    pub(crate) fn path(&self, digest: &str) -> std::path::PathBuf {
        self.0.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// Writes the index of manifests, each with its reference.
    pub(crate) fn index(&self, manifests: &[(&str, &str)]) {
        let manifests: Vec<Value> = manifests
            .iter()
            .map(|(digest, name)| {
                let size = std::fs::metadata(self.path(digest)).unwrap().len();
                json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
                    "annotations": {"org.opencontainers.image.ref.name": name},
                })
            })
            .collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        std::fs::write(self.0.join("index.json"), index.to_string()).unwrap();
        std::fs::write(self.0.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

/// The directory as a tar stream, like an OCI archive.
pub(crate) fn archive_of(directory: &Path) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    tar.append_dir_all(".", directory).unwrap();
    tar.into_inner().unwrap()
}
