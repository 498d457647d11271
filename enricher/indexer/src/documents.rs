//! The JSON documents of an image: Docker's `manifest.json`, OCI indexes and manifests, and the config.
//!
//! Where they come from is the caller's affair ([`Documents`]): kept members of an archive, or files of a layout.

use std::collections::BTreeMap;

use driftline_schemas::limits::LAYERS_MAX;
use driftline_schemas::{DiffId, Image, ImageId, Platform, Sha256};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{IndexError, Limit};
use crate::limits::{INDEX_DEPTH_MAX, NAME_BYTES_MAX, NAMES_MAX};

/// Annotations that carry a reference, the fuller one first.
const REFERENCE_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// Marks manifests that describe another image instead of being one.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Documents by path; content under `blobs/sha256/` has been verified against its name.
pub(crate) trait Documents {
    /// A document, or nothing when there is none of that path.
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>, IndexError>;
}

/// An image that the documents name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) image: Image,
    /// Paths of the layers' blobs, lowest first, as the manifest has them.
    pub(crate) layer_paths: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    config: Option<ConfigOfContainer>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigOfContainer {
    #[serde(default)]
    volumes: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// The image asked for, or the only one.
pub(crate) fn choose(documents: &mut dyn Documents, want: Option<&ImageId>) -> Result<Candidate, IndexError> {
    let mut found = Found::default();
    found.read_docker(documents, want)?;
    found.read_index(documents, "index.json", 0, &[])?;
    if !found.any_document {
        return Err(IndexError::NoImage);
    }
    let mut candidates = found.candidates;
    let ids = || candidates.keys().take(NAMES_MAX).map(|id| id.as_str().to_owned()).collect();
    match want {
        Some(want) => {
            let missing = IndexError::NotFound { wanted: want.as_str().to_owned(), found: ids() };
            candidates.remove(want).ok_or(missing)
        }
        None if candidates.len() > 1 => Err(IndexError::Several(ids())),
        None => candidates.pop_first().map(|(_, candidate)| candidate).ok_or(IndexError::NoImage),
    }
}

/// Path of the blob with this digest.
pub(crate) fn blob_path(digest: &str) -> Result<String, IndexError> {
    digest
        .strip_prefix("sha256:")
        .filter(|_| driftline_schemas::is_digest(digest))
        .map(|hex| format!("blobs/sha256/{hex}"))
        .ok_or_else(|| IndexError::document(digest, "not a sha256 digest, the only kind that is accepted"))
}

#[derive(Default)]
struct Found {
    candidates: BTreeMap<ImageId, Candidate>,
    any_document: bool,
}

impl Found {
    /// `manifest.json`, of `docker save` and `podman save`.
    fn read_docker(&mut self, documents: &mut dyn Documents, want: Option<&ImageId>) -> Result<(), IndexError> {
        const PATH: &str = "manifest.json";
        let Some(bytes) = documents.document(PATH)? else { return Ok(()) };
        self.any_document = true;
        for manifest in parse::<Vec<DockerManifest>>(PATH, &bytes)? {
            let config = documents.document(&manifest.config)?;
            let config = config.ok_or_else(|| IndexError::document(&manifest.config, "the config is missing"))?;
            let digest = Sha256::of(&config).to_digest();
            if let Some(want) = want
                && is_named_after(&manifest.config, want)
                && digest != want.as_str()
            {
                let actual = Sha256::of(&config);
                return Err(IndexError::Digest { what: "the config", expected: want.as_str().to_owned(), actual });
            }
            self.add(&manifest.config, &config, manifest.layers, manifest.repo_tags.unwrap_or_default())?;
        }
        Ok(())
    }

    /// An OCI index and those it names.
    fn read_index(
        &mut self,
        documents: &mut dyn Documents,
        path: &str,
        depth: usize,
        references: &[String],
    ) -> Result<(), IndexError> {
        let Some(bytes) = documents.document(path)? else { return Ok(()) };
        self.any_document = true;
        if depth == INDEX_DEPTH_MAX {
            return Err(IndexError::document(path, "indexes are nested too deeply"));
        }
        for descriptor in parse::<Index>(path, &bytes)?.manifests {
            let annotations = descriptor.annotations.unwrap_or_default();
            if annotations.contains_key(ATTESTATION) {
                continue;
            }
            let named = REFERENCE_ANNOTATIONS.iter().find_map(|name| annotations.get(*name));
            let references: Vec<String> = references.iter().chain(named).cloned().collect();
            let path = blob_path(&descriptor.digest)?;
            if is_index(&descriptor.media_type) {
                self.read_index(documents, &path, depth + 1, &references)?;
            } else {
                self.read_manifest(documents, &path, references)?;
            }
        }
        Ok(())
    }

    /// An OCI or Docker schema 2 manifest. An index may name platforms whose blobs were not copied: those are passed.
    fn read_manifest(
        &mut self,
        documents: &mut dyn Documents,
        path: &str,
        references: Vec<String>,
    ) -> Result<(), IndexError> {
        let Some(bytes) = documents.document(path)? else { return Ok(()) };
        let manifest: Manifest = parse(path, &bytes)?;
        let config_path = blob_path(&manifest.config.digest)?;
        let Some(config) = documents.document(&config_path)? else { return Ok(()) };
        let layers = manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect::<Result<_, _>>()?;
        self.add(&config_path, &config, layers, references)
    }

    fn add(
        &mut self,
        path: &str,
        config: &[u8],
        layer_paths: Vec<String>,
        references: Vec<String>,
    ) -> Result<(), IndexError> {
        let image_id = ImageId::from(Sha256::of(config).to_digest().as_str());
        let candidate = match self.candidates.entry(image_id.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(candidate(image_id, parse(path, config)?, layer_paths)?)
            }
        };
        let names = &mut candidate.image.references;
        names.extend(references.into_iter().filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX));
        names.sort();
        names.dedup();
        names.truncate(NAMES_MAX);
        Ok(())
    }
}

fn candidate(image_id: ImageId, config: Config, layer_paths: Vec<String>) -> Result<Candidate, IndexError> {
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() > LAYERS_MAX {
        return Err(Limit::Layers.into());
    }
    if let Some(odd) = diff_ids.iter().find(|diff_id| !driftline_schemas::is_digest(diff_id)) {
        return Err(IndexError::document(image_id.as_str(), format_args!("diff_id {odd:?} is not a sha256 digest")));
    }
    if diff_ids.len() != layer_paths.len() {
        let why = format_args!("the config has {} layers, the manifest {}", diff_ids.len(), layer_paths.len());
        return Err(IndexError::document(image_id.as_str(), why));
    }
    let volumes = config.config.and_then(|config| config.volumes).unwrap_or_default();
    let volumes = volumes.into_keys().filter(|path| path.len() <= NAME_BYTES_MAX).take(NAMES_MAX).collect();
    let image = Image {
        image_id,
        diff_ids: diff_ids.iter().map(|diff_id| DiffId::from(diff_id.as_str())).collect(),
        platform: Platform { os: config.os, architecture: config.architecture, variant: config.variant },
        references: Vec::new(),
        volumes,
        source: String::new(),
        indexed_ns: 0,
        failed: None,
        retry_ns: 0,
    };
    Ok(Candidate { image, layer_paths })
}

fn is_index(media_type: &str) -> bool {
    media_type == "application/vnd.oci.image.index.v1+json"
        || media_type == "application/vnd.docker.distribution.manifest.list.v2+json"
}

/// Engines name a config after its digest: `<hex>.json`, or as a blob.
fn is_named_after(path: &str, image_id: &ImageId) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    image_id.as_str().strip_prefix("sha256:") == Some(name.strip_suffix(".json").unwrap_or(name))
}

fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, IndexError> {
    serde_json::from_slice(bytes).map_err(|error| IndexError::document(path, error))
}
