//! The JSON documents of an image: Docker's `manifest.json`, OCI indexes and manifests, and the config.
//!
//! The caller provides the documents ([`Documents`]): kept members of an archive, files of a layout, blobs of a content
//! store or registry.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use driftline_schemas::limits::LAYERS_MAX;
use driftline_schemas::{DiffId, Image, ImageId, Platform, Sha256};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{IndexError, Limit};
use crate::limits::{INDEX_DEPTH_MAX, MANIFESTS_MAX, NAME_BYTES_MAX, NAMES_MAX};
use crate::tar_stream::as_u64;

/// Annotations that carry a reference, the fuller one first.
const REFERENCE_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// Marks manifests that describe another image instead of being one.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Documents by path; content under `blobs/sha256/` has been verified against its name.
pub(crate) trait Documents {
    /// A document, or `None` when there is none at that path.
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>, IndexError>;

    /// Like [`Self::document`], for an image's config.
    fn config(&mut self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        self.document(path)
    }
}

/// The document to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The documents that archives and layouts have: `manifest.json` and `index.json`.
    Names,
    /// The manifest or index with this digest.
    Digest(String),
}

/// The image to index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its digest under any of the names that runtimes use: of its config, its manifest or an index that names it.
    /// Without a digest, the only image there is.
    pub image_id: Option<ImageId>,
    /// Selects one of the images of an index, and nothing else. Empty parts match everything.
    pub platform: Platform,
}

impl Wanted {
    /// The image with this digest, for the platform of this machine where none is given.
    #[must_use]
    pub fn id(image_id: &ImageId) -> Self {
        Self { image_id: Some(image_id.clone()), platform: own_platform() }
    }
}

/// The platform of this machine, as image configs name it.
#[must_use]
pub fn own_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: String::new() }
}

/// An image that the documents name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) image: Image,
    /// Blobs of its layers, lowest first, in the order of the manifest.
    pub(crate) layers: Vec<LayerBlob>,
    /// Digests of the manifest and the indexes that lead to it.
    also_called: BTreeSet<String>,
}

/// The location of a layer's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LayerBlob {
    /// Path in an archive or layout; for a blob, `blobs/sha256/<hex>`.
    pub(crate) path: String,
    /// Length as stored, if the manifest contains it.
    pub(crate) size_bytes: Option<u64>,
    /// Media type, if the manifest contains it.
    pub(crate) media_type: String,
    /// Other locations of a foreign layer.
    pub(crate) urls: Vec<String>,
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
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    config: Option<Descriptor>,
    /// An index has manifests instead of layers.
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
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
    size: Option<u64>,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<StatedPlatform>,
}

/// A manifest's platform according to the index; the config decides.
#[derive(Deserialize, Default)]
#[serde(default)]
struct StatedPlatform {
    os: String,
    architecture: String,
    variant: String,
}

impl From<&StatedPlatform> for Platform {
    fn from(stated: &StatedPlatform) -> Self {
        let StatedPlatform { os, architecture, variant } = stated;
        Self { os: os.clone(), architecture: architecture.clone(), variant: variant.clone() }
    }
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

/// The requested image, or the only one.
pub(crate) fn choose(documents: &mut dyn Documents, entry: &Entry, wanted: &Wanted) -> Result<Candidate, IndexError> {
    let mut found = Found::default();
    match entry {
        Entry::Names => {
            found.read_docker(documents, wanted.image_id.as_ref())?;
            found.read_manifest(documents, "index.json", &[], &[])?;
        }
        Entry::Digest(digest) => {
            // Each manifest of an index is a request to a registry, and registries limit the number of requests.
            found.until = wanted.image_id.clone();
            found.first = Some(wanted.platform.clone());
            found.read_manifest(documents, &blob_path(digest)?, &[], &[])?;
        }
    }
    if !found.any_document {
        return Err(IndexError::NoImage);
    }
    pick(found.candidates, wanted)
}

/// Selects by config digest; else by another digest of the image, and of several such images the one for the platform;
/// else the only image.
fn pick(mut candidates: BTreeMap<ImageId, Candidate>, wanted: &Wanted) -> Result<Candidate, IndexError> {
    let ids = |candidates: &BTreeMap<ImageId, Candidate>| {
        candidates.keys().take(NAMES_MAX).map(|id| id.as_str().to_owned()).collect()
    };
    let all = ids(&candidates);
    if let Some(id) = &wanted.image_id {
        if let Some(candidate) = candidates.remove(id) {
            return Ok(candidate);
        }
        candidates.retain(|_, candidate| candidate.also_called.contains(id.as_str()));
    }
    if candidates.len() > 1 {
        let right: Vec<ImageId> = candidates
            .iter()
            .filter(|(_, candidate)| fits(&candidate.image.platform, &wanted.platform))
            .map(|(id, _)| id.clone())
            .collect();
        match right.as_slice() {
            [only] => candidates.retain(|id, _| id == only),
            _ => return Err(IndexError::Several(ids(&candidates))),
        }
    }
    match (candidates.pop_first(), &wanted.image_id) {
        (Some((config_digest, mut candidate)), Some(id)) => {
            candidate.image.config_digest = config_digest.as_str().to_owned();
            candidate.image.image_id = id.clone();
            Ok(candidate)
        }
        (Some((_, candidate)), None) => Ok(candidate),
        (None, Some(id)) => Err(IndexError::NotFound { wanted: id.as_str().to_owned(), found: all }),
        (None, None) => Err(IndexError::NoImage),
    }
}

/// Whether the platforms match. An empty part of the wanted platform matches everything, and an image without a variant
/// runs on every variant.
fn fits(have: &Platform, want: &Platform) -> bool {
    let same = |have: &str, want: &str| want.is_empty() || have == want;
    same(&have.os, &want.os)
        && same(&have.architecture, &want.architecture)
        && (have.variant.is_empty() || same(&have.variant, &want.variant))
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
    descriptors: usize,
    /// The config at which the search ends.
    until: Option<ImageId>,
    /// The platform whose manifests in an index are read first.
    first: Option<Platform>,
}

impl Found {
    /// Reads `manifest.json`, as written by `docker save` and `podman save`.
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
            let layers = manifest.layers.into_iter().map(|path| LayerBlob { path, ..LayerBlob::default() }).collect();
            self.add(&manifest.config, &config, layers, &manifest.repo_tags.unwrap_or_default(), &[])?;
        }
        Ok(())
    }

    /// Reads an OCI or Docker index and what it names, or a manifest. An index may name platforms whose blobs were not
    /// copied: those are skipped. `called` are the digests that lead to it, the outermost first.
    fn read_manifest(
        &mut self,
        documents: &mut dyn Documents,
        path: &str,
        references: &[String],
        called: &[String],
    ) -> Result<(), IndexError> {
        let Some(bytes) = documents.document(path)? else { return Ok(()) };
        self.any_document = true;
        let manifest: Manifest = parse(path, &bytes)?;
        let own = digest_in(path).map(|digest| digest.to_digest());
        let called: Vec<String> = called.iter().cloned().chain(own).collect();
        match (manifest.manifests, manifest.config) {
            (Some(named), _) => self.read_named(documents, path, named, references, &called),
            (None, Some(config)) => {
                let config_path = blob_path(&config.digest)?;
                let Some(bytes) = documents.config(&config_path)? else { return Ok(()) };
                check_size("the config", config.size, bytes.len())?;
                let layers = manifest.layers.into_iter().map(LayerBlob::try_from).collect::<Result<_, _>>()?;
                self.add(&config_path, &bytes, layers, references, &called)
            }
            (None, None) if manifest.schema_version == 1 => Err(IndexError::Schema1),
            (None, None) => Err(IndexError::document(path, "neither an index nor a manifest")),
        }
    }

    fn read_named(
        &mut self,
        documents: &mut dyn Documents,
        path: &str,
        mut named: Vec<Descriptor>,
        references: &[String],
        called: &[String],
    ) -> Result<(), IndexError> {
        if called.len() > INDEX_DEPTH_MAX {
            return Err(IndexError::document(path, "indexes are nested too deeply"));
        }
        if let Some(first) = &self.first {
            named.sort_by_key(|descriptor| !descriptor.platform.as_ref().is_some_and(|have| fits(&have.into(), first)));
        }
        for descriptor in named {
            if self.until.as_ref().is_some_and(|until| self.candidates.contains_key(until)) {
                break;
            }
            let annotations = descriptor.annotations.unwrap_or_default();
            if annotations.contains_key(ATTESTATION) {
                continue;
            }
            self.descriptors += 1;
            if self.descriptors > MANIFESTS_MAX {
                return Err(Limit::Manifests.into());
            }
            let name = REFERENCE_ANNOTATIONS.iter().find_map(|name| annotations.get(*name));
            let references: Vec<String> = references.iter().chain(name).cloned().collect();
            self.read_manifest(documents, &blob_path(&descriptor.digest)?, &references, called)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        path: &str,
        config: &[u8],
        layers: Vec<LayerBlob>,
        references: &[String],
        called: &[String],
    ) -> Result<(), IndexError> {
        let image_id = ImageId::from(Sha256::of(config).to_digest().as_str());
        let candidate = match self.candidates.entry(image_id.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(candidate(image_id, parse(path, config)?, layers)?)
            }
        };
        let names = &mut candidate.image.references;
        names.extend(references.iter().filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX).cloned());
        names.sort();
        names.dedup();
        names.truncate(NAMES_MAX);
        candidate.also_called.extend(called.iter().cloned());
        Ok(())
    }
}

fn candidate(image_id: ImageId, config: Config, layers: Vec<LayerBlob>) -> Result<Candidate, IndexError> {
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() > LAYERS_MAX {
        return Err(Limit::Layers.into());
    }
    if let Some(odd) = diff_ids.iter().find(|diff_id| !driftline_schemas::is_digest(diff_id)) {
        return Err(IndexError::document(image_id.as_str(), format_args!("diff_id {odd:?} is not a sha256 digest")));
    }
    if diff_ids.len() != layers.len() {
        let why = format_args!("the config has {} layers, the manifest {}", diff_ids.len(), layers.len());
        return Err(IndexError::document(image_id.as_str(), why));
    }
    let volumes = config.config.and_then(|config| config.volumes).unwrap_or_default();
    let volumes = volumes.into_keys().filter(|path| path.len() <= NAME_BYTES_MAX).take(NAMES_MAX).collect();
    let image = Image {
        image_id,
        diff_ids: diff_ids.iter().map(|diff_id| DiffId::from(diff_id.as_str())).collect(),
        platform: Platform { os: config.os, architecture: config.architecture, variant: config.variant },
        volumes,
        ..Image::default()
    };
    Ok(Candidate { image, layers, also_called: BTreeSet::new() })
}

impl TryFrom<Descriptor> for LayerBlob {
    type Error = IndexError;

    fn try_from(descriptor: Descriptor) -> Result<Self, IndexError> {
        Ok(Self {
            path: blob_path(&descriptor.digest)?,
            size_bytes: descriptor.size,
            media_type: descriptor.media_type,
            urls: descriptor.urls.unwrap_or_default(),
        })
    }
}

/// The digest that a blob's path contains.
pub(crate) fn digest_in(path: &str) -> Option<Sha256> {
    path.strip_prefix("blobs/sha256/").and_then(|hex| Sha256::from_str(hex).ok())
}

/// Fails unless the content has the digest of its path.
pub(crate) fn check_digest(path: &str, actual: Sha256) -> Result<(), IndexError> {
    match digest_in(path) {
        Some(expected) if expected != actual => {
            Err(IndexError::Digest { what: "a blob", expected: expected.to_digest(), actual })
        }
        _ => Ok(()),
    }
}

fn check_size(what: &'static str, stated: Option<u64>, actual: usize) -> Result<(), IndexError> {
    let actual_bytes = as_u64(actual);
    match stated {
        Some(stated_bytes) if stated_bytes != actual_bytes => {
            Err(IndexError::Size { what, stated_bytes, actual_bytes })
        }
        _ => Ok(()),
    }
}

/// Whether a path contains the config's digest. Engines name a config `<hex>.json`, or store it as a blob.
fn is_named_after(path: &str, image_id: &ImageId) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    image_id.as_str().strip_prefix("sha256:") == Some(name.strip_suffix(".json").unwrap_or(name))
}

fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, IndexError> {
    serde_json::from_slice(bytes).map_err(|error| IndexError::document(path, error))
}
