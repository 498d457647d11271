//! Writes stacks to OCI layouts: one for us and podman as drawn, and one that umoci can read.

use std::path::{Path, PathBuf};

use driftline_schemas::Sha256;
use serde_json::{Value, json};

use crate::stack::{Stack, Stored};

/// A layout being written.
pub(crate) struct Layout {
    root: PathBuf,
    manifests: Vec<Value>,
    compression: Compression,
}

/// How layers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    AsDrawn,
    /// umoci of Debian 12 does not know zstd.
    WithoutZstd,
}

impl Layout {
    pub(crate) fn new(root: PathBuf, compression: Compression) -> std::io::Result<Self> {
        std::fs::create_dir_all(root.join("blobs/sha256"))?;
        Ok(Self { root, manifests: Vec::new(), compression })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Adds an image under a name; returns the digest of its config.
    pub(crate) fn add(&mut self, stack: &Stack, name: &str) -> std::io::Result<String> {
        let mut diff_ids = Vec::new();
        let mut layers = Vec::new();
        for layer in &stack.layers {
            let tar = layer.tar();
            diff_ids.push(Sha256::of(&tar).to_digest());
            let stored = match (layer.stored, self.compression) {
                (Stored::Zstd, Compression::WithoutZstd) => Stored::Gzip,
                (stored, _) => stored,
            };
            layers.push(self.blob(&stored.blob(&tar)?, stored.media_type())?);
        }
        let config = json!({
            "architecture": driftline_indexer::own_platform().architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json")?;
        let image_id = config.get("digest").and_then(Value::as_str).unwrap_or_default().to_owned();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
        });
        let mut manifest = self.blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json")?;
        if let Some(descriptor) = manifest.as_object_mut() {
            descriptor.insert("annotations".to_owned(), json!({"org.opencontainers.image.ref.name": name}));
        }
        self.manifests.push(manifest);
        Ok(image_id)
    }

    /// Writes the index of all images added.
    pub(crate) fn finish(&self) -> std::io::Result<()> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        std::fs::write(self.root.join("index.json"), index.to_string())?;
        std::fs::write(self.root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    fn blob(&self, content: &[u8], media_type: &str) -> std::io::Result<Value> {
        let digest = Sha256::of(content).to_digest();
        std::fs::write(self.root.join("blobs/sha256").join(digest.trim_start_matches("sha256:")), content)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": content.len()}))
    }
}
