//! The image tables in memory: records as they stand on the topics, decoded into an index only on demand.
//!
//! Owned by whoever answers [`crate::ImageCommand::Load`]: the enricher's shell, `driftline analyze`, the simulation; and by
//! `driftline images`, which says what they say. A layer counts only when every chunk of a head is there and their digest
//! is the head's; so half a layer is never used.
//!
//! What each publisher says of an image or layer stands beside what others say. Which of them counts is decided when it
//! is asked for, by the [`Trust`] and, for some settings, by the node of the container: see [`ImageView`].
//!
//! Beside them: whom news concern ([`Following`]), and whose bytes need not be kept ([`Collection`]).

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
    /// Images that name a layer.
    named_by: BTreeMap<DiffId, BTreeSet<ImageId>>,
    /// Layers that a publisher says to have this manifest.
    layers_of: BTreeMap<Sha256, BTreeSet<DiffId>>,
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
    /// Everything is published, and the chunks of these manifests were collected: they have to be read from the topic
    /// again.
    Collected(BTreeSet<Sha256>),
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

    /// The chunks, to be told what became of them.
    pub fn chunks_mut(&mut self) -> &mut C {
        &mut self.chunks
    }

    /// Whose publications count.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Every image with what is said of it, in the order in which it was.
    pub fn images(&self) -> impl Iterator<Item = (&ImageId, &[Image])> {
        self.images.iter().map(|(id, records)| (id, records.as_slice()))
    }

    /// What is said of an image, whether it counts or not, in the order in which it was.
    #[must_use]
    pub fn publications_of(&self, id: &ImageId) -> &[Image] {
        self.images.get(id).map_or(&[], Vec::as_slice)
    }

    /// The heads of a layer, whether they count or not, in the order in which they were published.
    #[must_use]
    pub fn heads(&self, diff_id: &DiffId) -> &[LayerHead] {
        self.heads.get(diff_id).map_or(&[], Vec::as_slice)
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

    /// Forgets what a publisher said of an image: the record with this key, `image id/source`, was deleted. Layers that
    /// were published stay.
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

    /// Forgets that an image names layers which only these records of it said.
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

    /// Forgets a head, `diff_id/source`, or a chunk, `manifest digest/number`: the record with this key was deleted.
    /// Bytes that are here stay for as long as images in use need them.
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

    /// Forgets that a layer has a manifest which only these heads of it said.
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

    /// What is known of an image, as containers of a node see it.
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

    /// Layers that are missing of the list that counts most; `None` when no list counts.
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

    /// What counts of what is said of an image, who failed included.
    fn trusted(&self, id: &ImageId, node: Option<&str>) -> impl Iterator<Item = &Image> {
        self.images.get(id).into_iter().flatten().filter(move |image| self.trust.counts(&image.source, node))
    }

    /// The lists of layers that count, who counts most first.
    fn candidates(&self, id: &ImageId, node: Option<&str>) -> Vec<&Image> {
        let mut candidates: Vec<&Image> = self.trusted(id, node).filter(|image| image.failed.is_none()).collect();
        candidates.sort_by_key(|image| image_rank(image));
        candidates
    }

    /// The heads of a layer that count, who counts most first.
    fn ranked(&self, diff_id: &DiffId, node: Option<&str>) -> Vec<&LayerHead> {
        let rank = |head: &LayerHead| self.trust.rank(&head.source, head.basis, node);
        let mut heads: Vec<&LayerHead> = self.heads(diff_id).iter().filter(|head| rank(head).is_some()).collect();
        heads.sort_by_key(|head| rank(head));
        heads
    }

    /// Who contradicts whom about a layer. What was unpacked on a node may differ from its blob without a lie.
    fn contradicted_layer(&self, diff_id: &DiffId, node: Option<&str>) -> Option<String> {
        let mut heads = self.ranked(diff_id, node).into_iter().filter(|head| head.basis == LayerBasis::Blob);
        let first = heads.next()?;
        let other = heads.find(|head| head.manifest_sha256 != first.manifest_sha256)?;
        let claim = |head: &LayerHead| format!("{} says {}", head.source, head.manifest_sha256);
        Some(format!("layer {diff_id}: {}, {}", claim(first), claim(other)))
    }

    /// The whole manifest of a layer that counts most. One whose chunks were collected counts as it did before: nobody
    /// takes its place because of that.
    fn whole(&self, diff_id: &DiffId, node: Option<&str>) -> Option<&LayerHead> {
        self.ranked(diff_id, node).into_iter().find(|head| self.is_whole(head))
    }

    /// Where the chunks of a head are, all together.
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
