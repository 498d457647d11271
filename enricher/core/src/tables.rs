//! The image tables in memory: records as they stand on the topics, decoded into an index only on demand.
//!
//! Owned by whoever answers [`crate::Ask::Image`]: the enricher's shell, `driftline analyze`, the simulation. A layer
//! counts only when every chunk of a head is there and their digest is the head's; so half a layer is never used.
//!
//! What each publisher says of an image or layer stands beside what others say. Which of them counts is decided when it
//! is asked for: see [`Trust`].

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline_schemas::layer::{LayerManifest, ManifestError, check_chunk_count};
use driftline_schemas::limits::LAYERS_MAX;
use driftline_schemas::{DiffId, Image, ImageFailure, ImageId, LayerBasis, LayerChunk, LayerEvent, LayerHead, Sha256};

use crate::chunks::{ChunkSource, ChunkStore, MemoryChunks, check_chunk};
use crate::image::{ImageIndex, MergeError, merge};
use crate::trust::Trust;

/// Most publishers of one image or layer that are remembered; the first few agree, or somebody lies. One that counts
/// more takes the place of one that counts less, so that nodes cannot keep a verified source out.
const SOURCES_MAX: usize = 16;

/// Longest description of a conflict: two publishers and two digests with room, as much as a finding carries of a reason.
const CONFLICT_BYTES_MAX: usize = crate::limits::REASON_BYTES_MAX;

/// Content of the images and image-layers topics.
#[derive(Debug)]
pub struct ImageTables<C = MemoryChunks> {
    trust: Trust,
    /// What is said of an image, in the order in which it was.
    images: BTreeMap<ImageId, Vec<Image>>,
    /// Heads of a layer, in the order in which they were published.
    heads: BTreeMap<DiffId, Vec<LayerHead>>,
    chunks: C,
}

/// What a new record means for the images that use it.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// This image may look different now.
    Image(ImageId),
    /// A layer has news; any image may use it.
    Layer,
    /// Two publications of this image or layer contradict each other: one of the publishers lies.
    Conflict(String),
}

/// An image as the tables know it.
#[derive(Debug)]
pub enum Lookup {
    /// Not published, or not all of its layers.
    Missing,
    /// Every publisher gave up.
    Failed {
        /// Why.
        reason: String,
        /// What kind of failure that is.
        failure: ImageFailure,
        /// When it makes sense to ask again, nanoseconds since 1970.
        retry_ns: i64,
    },
    /// Everything is there.
    Complete {
        /// What the verdicts are made with.
        stored: Stored,
        /// How publishers contradict each other about it, when they do.
        conflict: Option<String>,
    },
}

/// The heads of the layers of an image, lowest first; all their chunks are there.
#[derive(Debug)]
pub struct Stored(Vec<LayerHead>);

/// A published image that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A layer's manifest is not what its head says.
    #[error("layer {0}: {1}")]
    Layer(DiffId, ManifestError),
    /// What was there cannot be read.
    #[error("layer {0}: {1}")]
    Unread(DiffId, String),
    /// The layers contradict each other.
    #[error("layers do not merge: {0}")]
    Merge(#[from] MergeError),
}

impl LoadError {
    /// What kind of failure it is: content that is not what its digest says, or that cannot be used.
    #[must_use]
    pub fn failure(&self) -> ImageFailure {
        match self {
            Self::Layer(_, ManifestError::Digest { .. }) => ImageFailure::Mismatch,
            Self::Unread(..) => ImageFailure::Unavailable,
            Self::Layer(..) | Self::Merge(_) => ImageFailure::Unsupported,
        }
    }
}

impl ImageTables {
    /// Empty tables that use what these publishers say.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self::with_chunks(trust, MemoryChunks::default())
    }
}

impl Default for ImageTables {
    fn default() -> Self {
        Self::new(Trust::default())
    }
}

impl<C: ChunkStore> ImageTables<C> {
    /// Tables without images and heads, beside the chunks that are there.
    #[must_use]
    pub fn with_chunks(trust: Trust, chunks: C) -> Self {
        Self { trust, images: BTreeMap::new(), heads: BTreeMap::new(), chunks }
    }

    /// The chunks, for [`Stored::load`].
    #[must_use]
    pub fn chunks(&self) -> &C {
        &self.chunks
    }

    /// How many images there are.
    #[must_use]
    pub fn image_count(&self) -> usize {
        self.images.len()
    }

    /// Takes an image record. It replaces what its publisher said before, never what another says.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn image(&mut self, image: Image) -> Result<Change, String> {
        if image.diff_ids.len() > LAYERS_MAX {
            return Err(format!("{} layers, allowed are {LAYERS_MAX}", image.diff_ids.len()));
        }
        let (id, trust) = (image.image_id.clone(), self.trust);
        put(self.images.entry(id.clone()).or_default(), image, |image| {
            (trust.rank(&image.source, LayerBasis::Blob).is_none(), image.failed.is_some(), image_rank(image))
        });
        let is_contradicted = contradicted_list(&self.candidates(&id)).is_some();
        Ok(if is_contradicted { Change::Conflict(id.to_string()) } else { Change::Image(id) })
    }

    /// Forgets what a publisher said of an image: the record with this key, `image id/source`, was deleted. Layers that
    /// were published stay.
    pub fn forget_image(&mut self, key: &str) {
        let Some((id, source)) = key.split_once('/') else { return };
        let id = ImageId::from(id);
        let Some(known) = self.images.get_mut(&id) else { return };
        known.retain(|image| image.source != source);
        if known.is_empty() {
            self.images.remove(&id);
        }
    }

    /// Takes a head or a chunk.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn layer(&mut self, event: LayerEvent) -> Result<Change, String> {
        match event {
            LayerEvent::Head(head) => self.head(head),
            LayerEvent::Chunk(chunk) => self.chunk(chunk),
        }
    }

    fn head(&mut self, head: LayerHead) -> Result<Change, String> {
        check_chunk_count(head.chunk_count).map_err(|error| error.to_string())?;
        let diff_id = head.diff_id.clone();
        put(self.heads.entry(diff_id.clone()).or_default(), head, |head| Trust::AnyNode.rank(&head.source, head.basis));
        let is_contradicted = self.contradicted_layer(&diff_id).is_some();
        Ok(if is_contradicted { Change::Conflict(diff_id.to_string()) } else { Change::Layer })
    }

    fn chunk(&mut self, chunk: LayerChunk) -> Result<Change, String> {
        let index = check_chunk(&chunk)?;
        self.chunks.put(chunk.manifest_sha256, index, chunk.data);
        Ok(Change::Layer)
    }

    /// What is known of an image.
    #[must_use]
    pub fn lookup(&self, id: &ImageId) -> Lookup {
        let candidates = self.candidates(id);
        if names_several(&candidates) {
            let reason = "it is the digest of an index with several platforms; the runtime does not say which one runs";
            return Lookup::Failed {
                reason: reason.to_owned(),
                failure: ImageFailure::Unsupported,
                retry_ns: i64::MAX,
            };
        }
        let complete = candidates.iter().find_map(|image| {
            let layers: Option<Vec<_>> = image.diff_ids.iter().map(|diff_id| self.stored(diff_id)).collect();
            layers.map(|layers| (image, layers))
        });
        if let Some((image, layers)) = complete {
            let layer = || image.diff_ids.iter().find_map(|diff_id| self.contradicted_layer(diff_id));
            let conflict = contradicted_list(&candidates).or_else(layer).map(bounded);
            return Lookup::Complete { stored: Stored(layers), conflict };
        }
        if !candidates.is_empty() {
            return Lookup::Missing;
        }
        let failed = self.trusted(id).max_by_key(|image| severity(image.failure));
        failed.map_or(Lookup::Missing, |image| Lookup::Failed {
            reason: image.failed.clone().unwrap_or_default(),
            failure: image.failure,
            retry_ns: image.retry_ns,
        })
    }

    /// What counts of what is said of an image, who failed included.
    fn trusted(&self, id: &ImageId) -> impl Iterator<Item = &Image> {
        let counts = |image: &&Image| self.trust.rank(&image.source, LayerBasis::Blob).is_some();
        self.images.get(id).into_iter().flatten().filter(counts)
    }

    /// The lists of layers that count, who counts most first.
    fn candidates(&self, id: &ImageId) -> Vec<&Image> {
        let mut candidates: Vec<&Image> = self.trusted(id).filter(|image| image.failed.is_none()).collect();
        candidates.sort_by_key(|image| image_rank(image));
        candidates
    }

    /// The heads of a layer that count, who counts most first.
    fn ranked(&self, diff_id: &DiffId) -> Vec<&LayerHead> {
        let rank = |head: &LayerHead| self.trust.rank(&head.source, head.basis);
        let mut heads: Vec<&LayerHead> =
            self.heads.get(diff_id).into_iter().flatten().filter(|head| rank(head).is_some()).collect();
        heads.sort_by_key(|head| rank(head));
        heads
    }

    /// Who contradicts whom about a layer. What was unpacked on a node may differ from its blob without a lie.
    fn contradicted_layer(&self, diff_id: &DiffId) -> Option<String> {
        let mut heads = self.ranked(diff_id).into_iter().filter(|head| head.basis == LayerBasis::Blob);
        let first = heads.next()?;
        let other = heads.find(|head| head.manifest_sha256 != first.manifest_sha256)?;
        let said = |head: &LayerHead| format!("{} says {}", head.source, head.manifest_sha256);
        Some(format!("layer {diff_id}: {}, {}", said(first), said(other)))
    }

    /// The complete manifest of a layer that counts most.
    fn stored(&self, diff_id: &DiffId) -> Option<LayerHead> {
        let is_whole = |head: &&LayerHead| {
            let count = check_chunk_count(head.chunk_count).unwrap_or_default();
            count > 0 && (0..count).all(|index| self.chunks.has(&head.manifest_sha256, index))
        };
        self.ranked(diff_id).into_iter().find(is_whole).cloned()
    }
}

/// What a publisher says of something.
pub trait Said {
    /// Who says it.
    fn source(&self) -> &str;
    /// Whether it says the same, at whatever time.
    fn agrees(&self, other: &Self) -> bool;
}

impl Said for Image {
    fn source(&self) -> &str {
        &self.source
    }

    fn agrees(&self, other: &Self) -> bool {
        self.diff_ids == other.diff_ids && self.failed.is_some() == other.failed.is_some()
    }
}

impl Said for LayerHead {
    fn source(&self) -> &str {
        &self.source
    }

    fn agrees(&self, other: &Self) -> bool {
        self.manifest_sha256 == other.manifest_sha256 && self.basis == other.basis
    }
}

/// Puts what a publisher says in the place of what it said before; who says something else than before comes last. When
/// there are too many, the last of those that count least goes.
fn put<T: Said, R: Ord>(known: &mut Vec<T>, new: T, rank: impl Fn(&T) -> R) {
    if let Some(old) = known.iter_mut().find(|old| old.source() == new.source() && old.agrees(&new)) {
        *old = new;
        return;
    }
    known.retain(|old| old.source() != new.source());
    known.push(new);
    if known.len() > SOURCES_MAX {
        let least = known.iter().enumerate().max_by_key(|(_, said)| rank(said)).map(|(at, _)| at);
        least.into_iter().for_each(|at| drop(known.remove(at)));
    }
}

fn image_rank(image: &Image) -> Option<crate::trust::Rank> {
    Trust::AnyNode.rank(&image.source, LayerBasis::Blob)
}

/// Whether the id is that of an index, and nodes of several platforms have published what each of them runs. Nobody lies
/// then, and nobody can say which one a container has.
fn names_several(candidates: &[&Image]) -> bool {
    let mut configs = candidates.iter().map(|image| image.config_digest.as_str());
    let first = configs.next().unwrap_or_default();
    candidates.iter().all(|image| !image.config_digest.is_empty()) && configs.any(|config| config != first)
}

/// Who contradicts whom about the list of layers: a config digest decides it, so there is one.
fn contradicted_list(candidates: &[&Image]) -> Option<String> {
    let (first, others) = candidates.split_first()?;
    let other = others.iter().find(|image| image.diff_ids != first.diff_ids)?;
    let said = |image: &Image| format!("{} says {} layers", image.source, image.diff_ids.len());
    Some(format!("different lists of layers: {}, {}", said(first), said(other)))
}

/// What a failure says of the image rather than of who failed: the more, the higher.
fn severity(failure: ImageFailure) -> u8 {
    match failure {
        ImageFailure::Unavailable => 0,
        ImageFailure::Unsupported => 1,
        ImageFailure::Mismatch => 2,
    }
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(CONFLICT_BYTES_MAX));
    text
}

impl Stored {
    /// The digests of the layers' manifests, lowest layer first: they decide what [`Self::load`] gives.
    pub fn manifests(&self) -> impl Iterator<Item = &Sha256> {
        self.0.iter().map(|head| &head.manifest_sha256)
    }

    /// Verifies, decodes and merges the layers; takes milliseconds to seconds, so not on the loop's task.
    ///
    /// # Errors
    /// When a manifest is not what its head says, or the layers cannot be merged.
    pub fn load(&self, chunks: &impl ChunkSource) -> Result<ImageIndex, LoadError> {
        let layers: Vec<Arc<LayerManifest>> =
            self.0.iter().map(|head| assemble(head, chunks).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(merge(&layers)?)
    }
}

fn assemble(head: &LayerHead, chunks: &impl ChunkSource) -> Result<LayerManifest, LoadError> {
    let count = check_chunk_count(head.chunk_count).map_err(|error| LoadError::Layer(head.diff_id.clone(), error))?;
    let chunks: Vec<_> = (0..count)
        .map(|index| chunks.chunk(&head.manifest_sha256, index))
        .collect::<Result<_, _>>()
        .map_err(|why| LoadError::Unread(head.diff_id.clone(), why))?;
    LayerManifest::assemble(head, chunks.iter().map(AsRef::as_ref))
        .map_err(|error| LoadError::Layer(head.diff_id.clone(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_schemas::layer::{EntryKind, LayerEntry, PublishedLayer};
    use driftline_schemas::limits::{CHUNK_BYTES, CHUNKS_MAX};

    fn image(diff_ids: &[&str], failed: Option<&str>) -> Image {
        Image {
            image_id: ImageId::from("sha256:i"),
            diff_ids: diff_ids.iter().map(|id| DiffId::from(*id)).collect(),
            source: "node:a".into(),
            failed: failed.map(str::to_owned),
            ..Image::default()
        }
    }

    fn layer(diff_id: &str, path: &str, source: &str) -> PublishedLayer {
        let entry = LayerEntry {
            path: path.into(),
            kind: EntryKind::File,
            mode: 0o755,
            size_bytes: 1,
            sha256: Some([1; 32]),
            target: None,
        };
        LayerManifest::new(vec![entry]).publish(&DiffId::from(diff_id), source, 0).unwrap()
    }

    fn put(tables: &mut ImageTables, layer: PublishedLayer) -> Change {
        for chunk in layer.chunks {
            tables.layer(LayerEvent::Chunk(chunk)).unwrap();
        }
        tables.layer(LayerEvent::Head(layer.head)).unwrap()
    }

    #[test]
    fn an_image_is_complete_only_with_every_chunk_of_every_layer() {
        let mut tables = ImageTables::default();
        let id = ImageId::from("sha256:i");
        tables.image(image(&["sha256:a", "sha256:b"], None)).unwrap();
        put(&mut tables, layer("sha256:a", "/a", "node:a"));
        assert!(matches!(tables.lookup(&id), Lookup::Missing));
        let second = layer("sha256:b", "/b", "node:a");
        tables.layer(LayerEvent::Head(second.head.clone())).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Missing), "a head without its chunk");
        put(&mut tables, second);
        let Lookup::Complete { stored, .. } = tables.lookup(&id) else { panic!("complete") };
        assert!(stored.load(tables.chunks()).unwrap().file(b"/b").is_some());
    }

    #[test]
    fn the_first_publisher_wins_and_a_second_opinion_is_noticed() {
        let mut tables = ImageTables::default();
        tables.image(image(&["sha256:a"], None)).unwrap();
        assert_eq!(put(&mut tables, layer("sha256:a", "/true", "node:a")), Change::Layer);
        assert_eq!(put(&mut tables, layer("sha256:a", "/true", "node:b")), Change::Layer);
        let conflict = put(&mut tables, layer("sha256:a", "/lie", "node:c"));
        assert_eq!(conflict, Change::Conflict("sha256:a".to_owned()));
        let Lookup::Complete { stored, .. } = tables.lookup(&ImageId::from("sha256:i")) else { panic!("complete") };
        assert!(stored.load(tables.chunks()).unwrap().file(b"/true").is_some());
    }

    #[test]
    fn a_chunk_that_is_not_the_head_s_fails_the_load() {
        let mut tables = ImageTables::default();
        tables.image(image(&["sha256:a"], None)).unwrap();
        let mut forged = layer("sha256:a", "/a", "node:a");
        forged.chunks[0].data = layer("sha256:a", "/b", "node:a").chunks[0].data.clone();
        put(&mut tables, forged);
        let Lookup::Complete { stored, .. } = tables.lookup(&ImageId::from("sha256:i")) else { panic!("complete") };
        assert!(matches!(stored.load(tables.chunks()), Err(LoadError::Layer(_, ManifestError::Digest { .. }))));
    }

    #[test]
    fn an_index_that_nodes_of_two_platforms_published_names_no_image() {
        let mut tables = ImageTables::default();
        let id = ImageId::from("sha256:i");
        let of = |source: &str, config: &str, layer: &str| Image {
            source: source.to_owned(),
            config_digest: config.to_owned(),
            ..image(&[layer], None)
        };
        tables.image(of("node:a", "sha256:amd64", "sha256:a")).unwrap();
        put(&mut tables, layer("sha256:a", "/true", "node:a"));
        assert!(matches!(tables.lookup(&id), Lookup::Complete { conflict: None, .. }));
        tables.image(of("node:b", "sha256:arm64", "sha256:b")).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Failed { failure: ImageFailure::Unsupported, .. }));
        // Who says that it is the config's own digest cannot mean an index: then somebody lies.
        tables.image(of("node:c", "", "sha256:c")).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Complete { conflict: Some(_), .. }));
    }

    #[test]
    fn a_second_list_of_layers_for_one_image_is_a_conflict_and_not_taken() {
        let mut tables = ImageTables::default();
        tables.image(image(&["sha256:a"], None)).unwrap();
        let evil = Image { source: "node:evil".into(), ..image(&["sha256:a", "sha256:evil"], None) };
        let conflict = tables.image(evil).unwrap();
        assert_eq!(conflict, Change::Conflict("sha256:i".to_owned()));
        put(&mut tables, layer("sha256:a", "/true", "node:a"));
        assert!(matches!(tables.lookup(&ImageId::from("sha256:i")), Lookup::Complete { .. }));
    }

    #[test]
    fn a_failed_attempt_does_not_hide_a_published_image() {
        let mut tables = ImageTables::default();
        let id = ImageId::from("sha256:i");
        tables.image(image(&[], Some("no engine"))).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Failed { .. }));
        tables.image(Image { source: "node:b".into(), ..image(&[], None) }).unwrap();
        tables.image(image(&[], Some("no engine"))).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Complete { .. }));
    }

    /// What wins of two publications of one layer, the first of them first on the topic, and whether they conflict.
    #[track_caller]
    fn check(trust: Trust, said: [(&str, LayerBasis); 2], winner: Option<usize>, is_conflict: bool) {
        let mut tables = ImageTables::new(trust);
        for source in ["node:a", "ci:x"] {
            tables.image(Image { source: source.into(), ..image(&["sha256:a"], None) }).unwrap();
        }
        let paths = ["/0", "/1"];
        for ((source, basis), path) in said.into_iter().zip(paths) {
            let mut layer = layer("sha256:a", path, source);
            layer.head.basis = basis;
            put(&mut tables, layer);
        }
        match tables.lookup(&ImageId::from("sha256:i")) {
            Lookup::Complete { stored, conflict } => {
                let index = stored.load(tables.chunks()).unwrap();
                let won = paths.iter().position(|path| index.file(path.as_bytes()).is_some());
                assert_eq!((won, conflict.is_some()), (winner, is_conflict), "{trust:?} {said:?}: {conflict:?}");
            }
            other => assert!(winner.is_none() && matches!(other, Lookup::Missing), "{trust:?} {said:?}: {other:?}"),
        }
    }

    #[test]
    fn trust_decides_which_publication_counts() {
        use LayerBasis::{Blob, Snapshot};
        use Trust::{AnyNode, VerifiedOnly};
        check(AnyNode, [("node:a", Blob), ("node:b", Blob)], Some(0), true);
        check(AnyNode, [("node:a", Blob), ("ci:x", Blob)], Some(1), true);
        check(AnyNode, [("node:a", Blob), ("registry:x", Blob)], Some(1), true);
        check(AnyNode, [("registry:x", Blob), ("ci:x", Blob)], Some(0), true);
        check(AnyNode, [("node:a", Snapshot), ("node:b", Blob)], Some(1), false);
        check(AnyNode, [("node:a", Blob), ("ci:x", Snapshot)], Some(1), false);
        check(AnyNode, [("node:ci:x", Blob), ("node:registry:", Blob)], Some(0), true);
        check(VerifiedOnly, [("node:a", Blob), ("ci:x", Blob)], Some(1), false);
        check(VerifiedOnly, [("ci:y", Blob), ("ci:x", Blob)], Some(0), true);
        check(VerifiedOnly, [("node:a", Blob), ("node:b", Blob)], None, false);
    }

    #[test]
    fn a_publisher_replaces_what_it_said_itself_only() {
        let id = ImageId::from("sha256:i");
        let from = |source: &str, failed| Image { source: source.into(), ..image(&[], failed) };
        let mut tables = ImageTables::default();
        tables.image(from("node:a", None)).unwrap();
        tables.image(from("node:b", Some("no engine"))).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Complete { .. }));
        tables.image(from("node:a", Some("gone"))).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Failed { .. }));
        tables.image(from("node:b", None)).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Complete { .. }));
        tables.forget_image("sha256:i/node:b");
        assert!(matches!(tables.lookup(&id), Lookup::Failed { .. }));
        tables.forget_image("sha256:i/node:a");
        assert!(matches!(tables.lookup(&id), Lookup::Missing));
        assert_eq!(tables.image_count(), 0);
    }

    #[test]
    fn of_many_failures_the_one_that_says_most_of_the_image_is_told() {
        let mut tables = ImageTables::default();
        for (source, failure) in [
            ("node:a", ImageFailure::Unavailable),
            ("node:b", ImageFailure::Mismatch),
            ("node:c", ImageFailure::Unsupported),
        ] {
            tables.image(Image { source: source.into(), failure, ..image(&[], Some(source)) }).unwrap();
        }
        let Lookup::Failed { reason, failure, .. } = tables.lookup(&ImageId::from("sha256:i")) else {
            panic!("failed")
        };
        assert_eq!((reason.as_str(), failure), ("node:b", ImageFailure::Mismatch));
    }

    #[test]
    fn nodes_cannot_keep_a_verified_source_out() {
        let mut tables = ImageTables::default();
        tables.image(image(&["sha256:a"], None)).unwrap();
        for number in 0..2 * SOURCES_MAX {
            put(&mut tables, layer("sha256:a", "/lie", &format!("node:{number}")));
        }
        put(&mut tables, layer("sha256:a", "/true", "registry:x"));
        let Lookup::Complete { stored, conflict } = tables.lookup(&ImageId::from("sha256:i")) else {
            panic!("complete")
        };
        assert!(stored.load(tables.chunks()).unwrap().file(b"/true").is_some());
        let conflict = conflict.unwrap();
        assert!(conflict.contains("registry:x says ") && conflict.contains("node:0 says "), "{conflict}");
        assert_eq!(tables.heads.values().next().unwrap().len(), SOURCES_MAX);
    }

    #[test]
    fn numbers_beyond_the_limits_are_refused() {
        let mut tables = ImageTables::default();
        let digest = Sha256::of(b"");
        let chunk =
            |index, length| LayerEvent::Chunk(LayerChunk { manifest_sha256: digest, index, data: vec![0; length] });
        assert!(tables.layer(chunk(-1, 1)).is_err());
        assert!(tables.layer(chunk(i32::try_from(CHUNKS_MAX).unwrap(), 1)).is_err());
        assert!(tables.layer(chunk(0, CHUNK_BYTES + 1)).is_err());
        assert!(tables.image(image(&["sha256:a"; LAYERS_MAX + 1], None)).is_err());
    }
}
