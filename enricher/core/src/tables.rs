//! The image tables in memory: records as on the topics, decoded into an index only on demand.
//!
//! Owned by the component that answers [`crate::ImageCommand::Load`]: the enricher's shell, `driftline analyze`, or the
//! simulation. `driftline images` owns them as well, to print the publications of an image. A layer counts only when
//! every chunk of a head is stored and the digest of the chunks matches the head; so a partial layer is never used.
//!
//! The tables keep the records of all publishers of an image or layer. A lookup decides which of them counts, by the
//! [`Trust`] and, for some settings, by the node of the container: see [`ImageView`].
//!
//! Related types: [`Following`] selects the images that a change concerns, and [`Collection`] selects the manifests
//! whose bytes need not be kept.

mod collection;
mod following;
mod publications;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use driftline_schemas::layer::check_chunk_count;
use driftline_schemas::limits::LAYERS_MAX;
use driftline_schemas::{DiffId, Image, ImageFailure, ImageId, LayerBasis, LayerChunk, LayerEvent, LayerHead, Sha256};

use crate::chunks::{ChunkLocation, ChunkStore, MemoryChunks, check_chunk};
use crate::trust::{ImageView, Rank, Trust};
pub use collection::{COLLECTED_PER_STEP, Collection};
pub use following::Following;
pub use publications::Publication;
use publications::{contradicted_list, image_rank, names_several, put, severity};
pub use stored::{LoadError, Stored, assemble};

/// Longest description of a conflict: two publishers and two digests with some room, equal to the longest reason of a
/// finding.
const CONFLICT_BYTES_MAX: usize = crate::limits::REASON_BYTES_MAX;

/// Content of the images and image-layers topics.
#[derive(Debug)]
pub struct ImageTables<C = MemoryChunks> {
    trust: Trust,
    /// The records of an image, in order of publication.
    images: BTreeMap<ImageId, Vec<Image>>,
    /// The heads of a layer, in order of publication.
    heads: BTreeMap<DiffId, Vec<LayerHead>>,
    /// Images that name a layer.
    named_by: BTreeMap<DiffId, BTreeSet<ImageId>>,
    /// Layers with a head that names this manifest.
    layers_of: BTreeMap<Sha256, BTreeSet<DiffId>>,
    chunks: C,
}

/// Effect of a new record on the images that use it.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// The state of this image may have changed.
    Image(ImageId),
    /// The state of a layer changed; any image may use it.
    Layer,
    /// Two publications of this image or layer contradict each other: one of the publishers lies.
    Conflict(String),
}

/// State of an image in the tables.
#[derive(Debug)]
pub enum Lookup {
    /// The image, or one of its layers, is not published.
    Missing,
    /// Every publisher failed to index the image.
    Failed {
        /// The reason.
        reason: String,
        /// Kind of the failure.
        failure: ImageFailure,
        /// When a new request makes sense, nanoseconds since 1970.
        retry_ns: i64,
    },
    /// The image and all of its layers are published.
    Complete {
        /// The layers that verdicts use.
        stored: Stored,
        /// How publishers contradict each other about the image, when they do.
        conflict: Option<String>,
    },
    /// The image is published completely, but the chunks of these manifests were collected: they must be read from the
    /// topic again.
    Collected(BTreeSet<Sha256>),
}

impl ImageTables {
    /// Empty tables with this trust setting.
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
    /// Tables without images and heads, with these chunks.
    #[must_use]
    pub fn with_chunks(trust: Trust, chunks: C) -> Self {
        Self {
            trust,
            images: BTreeMap::new(),
            heads: BTreeMap::new(),
            named_by: BTreeMap::new(),
            layers_of: BTreeMap::new(),
            chunks,
        }
    }

    /// The chunks, for [`Stored::load`].
    #[must_use]
    pub fn chunks(&self) -> &C {
        &self.chunks
    }

    /// The chunks, to record changes of their location.
    pub fn chunks_mut(&mut self) -> &mut C {
        &mut self.chunks
    }

    /// The publishers that count.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Every image with its records, in order of publication.
    pub fn images(&self) -> impl Iterator<Item = (&ImageId, &[Image])> {
        self.images.iter().map(|(id, records)| (id, records.as_slice()))
    }

    /// The records of an image, whether they count or not, in order of publication.
    #[must_use]
    pub fn publications_of(&self, id: &ImageId) -> &[Image] {
        self.images.get(id).map_or(&[], Vec::as_slice)
    }

    /// The heads of a layer, whether they count or not, in order of publication.
    #[must_use]
    pub fn heads(&self, diff_id: &DiffId) -> &[LayerHead] {
        self.heads.get(diff_id).map_or(&[], Vec::as_slice)
    }

    /// Number of images.
    #[must_use]
    pub fn image_count(&self) -> usize {
        self.images.len()
    }

    /// Stores an image record. It replaces the publisher's earlier record, never another publisher's.
    ///
    /// # Errors
    /// `Err` holds the reason why the record is refused.
    pub fn image(&mut self, image: Image) -> Result<Change, String> {
        if image.diff_ids.len() > LAYERS_MAX {
            return Err(format!("{} layers, allowed are {LAYERS_MAX}", image.diff_ids.len()));
        }
        let (id, trust) = (image.image_id.clone(), self.trust);
        for diff_id in &image.diff_ids {
            if !self.named_by.get(diff_id).is_some_and(|images| images.contains(&id)) {
                self.named_by.entry(diff_id.clone()).or_default().insert(id.clone());
            }
        }
        let replaced = put(self.images.entry(id.clone()).or_default(), image, trust.sources_max(), |image| {
            (!trust.counts(&image.source, None), image.failed.is_some(), image_rank(image))
        });
        self.unname(&id, &replaced);
        let candidates = self.candidates(&id, None);
        let is_contradicted = !names_several(&candidates) && contradicted_list(&candidates).is_some();
        Ok(if is_contradicted { Change::Conflict(id.to_string()) } else { Change::Image(id) })
    }

    /// Removes a publisher's record of an image after the record with this key, `image id/source`, was deleted.
    /// Published layers stay.
    pub fn forget_image(&mut self, key: &str) {
        let Some((id, source)) = key.split_once('/') else { return };
        let id = ImageId::from(id);
        let Some(known) = self.images.get_mut(&id) else { return };
        let gone: Vec<Image> = known.extract_if(.., |image| image.source == source).collect();
        if known.is_empty() {
            self.images.remove(&id);
        }
        self.unname(&id, &gone);
    }

    /// Removes the layers of an image that only these records named.
    fn unname(&mut self, id: &ImageId, gone: &[Image]) {
        for diff_id in gone.iter().flat_map(|image| &image.diff_ids) {
            let is_named = |image: &Image| image.diff_ids.contains(diff_id);
            if self.images.get(id).is_some_and(|records| records.iter().any(is_named)) {
                continue;
            }
            if let Some(images) = self.named_by.get_mut(diff_id) {
                images.remove(id);
                if images.is_empty() {
                    self.named_by.remove(diff_id);
                }
            }
        }
    }

    /// Stores a head or a chunk.
    ///
    /// # Errors
    /// `Err` holds the reason why the record is refused.
    pub fn layer(&mut self, event: LayerEvent) -> Result<Change, String> {
        match event {
            LayerEvent::Head(head) => self.head(head),
            LayerEvent::Chunk(chunk) => self.chunk(chunk),
        }
    }

    /// Removes a head, `diff_id/source`, or a chunk, `manifest digest/number`, after the record with this key was
    /// deleted. Stored bytes stay for as long as images in use need them.
    pub fn forget_layer(&mut self, key: &str) {
        let Some((subject, rest)) = key.split_once('/') else { return };
        if let Some((manifest, index)) = subject.parse().ok().zip(rest.parse().ok()) {
            return self.chunks.forget(&manifest, index);
        }
        let diff_id = DiffId::from(subject);
        let Some(known) = self.heads.get_mut(&diff_id) else { return };
        let gone: Vec<LayerHead> = known.extract_if(.., |head| head.source == rest).collect();
        if known.is_empty() {
            self.heads.remove(&diff_id);
        }
        self.unlink(&diff_id, &gone);
    }

    fn head(&mut self, head: LayerHead) -> Result<Change, String> {
        check_chunk_count(head.chunk_count).map_err(|error| error.to_string())?;
        let diff_id = head.diff_id.clone();
        self.layers_of.entry(head.manifest_sha256).or_default().insert(diff_id.clone());
        let sources_max = self.trust.sources_max();
        let rank = |head: &LayerHead| Rank::of(&head.source, head.basis);
        let replaced = put(self.heads.entry(diff_id.clone()).or_default(), head, sources_max, rank);
        self.unlink(&diff_id, &replaced);
        let is_contradicted = self.contradicted_layer(&diff_id, None).is_some();
        Ok(if is_contradicted { Change::Conflict(diff_id.to_string()) } else { Change::Layer })
    }

    /// Removes the manifests of a layer that only these heads named.
    fn unlink(&mut self, diff_id: &DiffId, gone: &[LayerHead]) {
        for manifest in gone.iter().map(|head| head.manifest_sha256) {
            if self.heads(diff_id).iter().any(|head| head.manifest_sha256 == manifest) {
                continue;
            }
            if let Some(layers) = self.layers_of.get_mut(&manifest) {
                layers.remove(diff_id);
                if layers.is_empty() {
                    self.layers_of.remove(&manifest);
                }
            }
        }
    }

    fn chunk(&mut self, chunk: LayerChunk) -> Result<Change, String> {
        let index = check_chunk(&chunk)?;
        self.chunks.put(chunk.manifest_sha256, index, chunk.data);
        Ok(Change::Layer)
    }

    /// The state of an image for containers of a node.
    #[must_use]
    pub fn lookup(&self, view: &ImageView) -> Lookup {
        let node = view.node.as_deref();
        let candidates = self.candidates(&view.image, node);
        if names_several(&candidates) {
            let reason =
                "it is the digest of an index with several platforms; the runtime does not tell which one runs";
            return Lookup::Failed {
                reason: reason.to_owned(),
                failure: ImageFailure::Unsupported,
                retry_ns: i64::MAX,
            };
        }
        let whole = candidates.iter().find_map(|image| {
            let layers: Option<Vec<_>> = image.diff_ids.iter().map(|diff_id| self.whole(diff_id, node)).collect();
            layers.map(|layers| (image, layers))
        });
        if let Some((image, layers)) = whole {
            let collected = layers.iter().filter(|head| self.location(head) == ChunkLocation::Collected);
            let collected: BTreeSet<Sha256> = collected.map(|head| head.manifest_sha256).collect();
            if !collected.is_empty() {
                return Lookup::Collected(collected);
            }
            let layer = || image.diff_ids.iter().find_map(|diff_id| self.contradicted_layer(diff_id, node));
            let conflict = contradicted_list(&candidates).or_else(layer).map(bounded);
            return Lookup::Complete { stored: Stored::new(layers.into_iter().cloned().collect()), conflict };
        }
        if !candidates.is_empty() {
            return Lookup::Missing;
        }
        let failed = self.trusted(&view.image, node).max_by_key(|image| severity(image.failure));
        failed.map_or(Lookup::Missing, |image| Lookup::Failed {
            reason: image.failed.clone().unwrap_or_default(),
            failure: image.failure,
            retry_ns: image.retry_ns,
        })
    }

    /// Number of missing layers in the highest-ranked list; `None` when no list counts.
    #[must_use]
    pub fn missing_layers(&self, view: &ImageView) -> Option<usize> {
        let node = view.node.as_deref();
        let candidates = self.candidates(&view.image, node);
        let list = candidates.first()?;
        Some(list.diff_ids.iter().filter(|diff_id| self.whole(diff_id, node).is_none()).count())
    }

    /// Whether all chunks of a head have been published.
    #[must_use]
    pub fn is_whole(&self, head: &LayerHead) -> bool {
        self.location(head) != ChunkLocation::Nowhere
    }

    /// The records of an image that count, including failures.
    fn trusted(&self, id: &ImageId, node: Option<&str>) -> impl Iterator<Item = &Image> {
        self.images.get(id).into_iter().flatten().filter(move |image| self.trust.counts(&image.source, node))
    }

    /// The lists of layers that count, highest rank first.
    fn candidates(&self, id: &ImageId, node: Option<&str>) -> Vec<&Image> {
        let mut candidates: Vec<&Image> = self.trusted(id, node).filter(|image| image.failed.is_none()).collect();
        candidates.sort_by_key(|image| image_rank(image));
        candidates
    }

    /// The heads of a layer that count, highest rank first.
    fn ranked(&self, diff_id: &DiffId, node: Option<&str>) -> Vec<&LayerHead> {
        let rank = |head: &LayerHead| self.trust.rank(&head.source, head.basis, node);
        let mut heads: Vec<&LayerHead> = self.heads(diff_id).iter().filter(|head| rank(head).is_some()).collect();
        heads.sort_by_key(|head| rank(head));
        heads
    }

    /// The conflict between publishers about a layer. Content unpacked on a node may differ from its blob without a
    /// lie.
    fn contradicted_layer(&self, diff_id: &DiffId, node: Option<&str>) -> Option<String> {
        let mut heads = self.ranked(diff_id, node).into_iter().filter(|head| head.basis == LayerBasis::Blob);
        let first = heads.next()?;
        let other = heads.find(|head| head.manifest_sha256 != first.manifest_sha256)?;
        let claim = |head: &LayerHead| format!("{} says {}", head.source, head.manifest_sha256);
        Some(format!("layer {diff_id}: {}, {}", claim(first), claim(other)))
    }

    /// The highest-ranked complete manifest of a layer. A manifest whose chunks were collected keeps its rank: no other
    /// takes its place because of that.
    fn whole(&self, diff_id: &DiffId, node: Option<&str>) -> Option<&LayerHead> {
        self.ranked(diff_id, node).into_iter().find(|head| self.is_whole(head))
    }

    /// Location of the chunks of a head: the worst of them.
    fn location(&self, head: &LayerHead) -> ChunkLocation {
        let count = check_chunk_count(head.chunk_count).unwrap_or_default();
        let places = (0..count).map(|index| self.chunks.location(&head.manifest_sha256, index));
        places.max().unwrap_or(ChunkLocation::Nowhere)
    }
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(CONFLICT_BYTES_MAX));
    text
}
