//! The image tables in memory: records as they stand on the topics, decoded into an index only on demand.
//!
//! Owned by whoever answers [`crate::Ask::Image`]: the enricher's shell, `driftline analyze`, the simulation. A layer
//! counts only when every chunk of a head is there and their digest is the head's; so half a layer is never used.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline_schemas::layer::{LayerManifest, ManifestError, check_chunk_count};
use driftline_schemas::limits::{CHUNK_BYTES, CHUNKS_MAX, LAYERS_MAX};
use driftline_schemas::{DiffId, Image, ImageFailure, ImageId, LayerChunk, LayerEvent, LayerHead, Sha256};

use crate::image::{ImageIndex, MergeError, merge};

/// Most publishers of one layer that are remembered; the first few agree, or somebody lies.
const SOURCES_MAX: usize = 16;

/// Content of the images and image-layers topics.
#[derive(Debug, Default)]
pub struct ImageTables {
    images: BTreeMap<ImageId, Image>,
    /// Heads of a layer in the order in which they were published.
    heads: BTreeMap<DiffId, Vec<LayerHead>>,
    chunks: BTreeMap<Sha256, BTreeMap<u32, Arc<[u8]>>>,
    /// Who contradicted the list of layers of an image first.
    contradicted: BTreeMap<ImageId, String>,
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
    /// The publisher gave up.
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

/// The encoded layers of an image, lowest first.
#[derive(Debug)]
pub struct Stored(Vec<StoredLayer>);

#[derive(Debug)]
struct StoredLayer {
    head: LayerHead,
    chunks: Vec<Arc<[u8]>>,
}

/// A published image that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A layer's manifest is not what its head says.
    #[error("layer {0}: {1}")]
    Layer(DiffId, ManifestError),
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
            Self::Layer(..) | Self::Merge(_) => ImageFailure::Unsupported,
        }
    }
}

impl ImageTables {
    /// How many images there are.
    #[must_use]
    pub fn image_count(&self) -> usize {
        self.images.len()
    }

    /// Takes an image record.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn image(&mut self, image: Image) -> Result<Change, String> {
        if image.diff_ids.len() > LAYERS_MAX {
            return Err(format!("{} layers, allowed are {LAYERS_MAX}", image.diff_ids.len()));
        }
        let id = image.image_id.clone();
        match self.images.get(&id) {
            // A failed attempt of one node does not hide what another published.
            Some(known) if known.failed.is_none() && image.failed.is_some() => {}
            // A config digest decides the list of layers; the first list is kept.
            Some(known) if known.failed.is_none() && known.diff_ids != image.diff_ids => {
                let said = |image: &Image| format!("{} says {} layers", image.source, image.diff_ids.len());
                let text = || format!("different lists of layers: {}, {}", said(known), said(&image));
                self.contradicted.entry(id.clone()).or_insert_with(text);
                return Ok(Change::Conflict(id.to_string()));
            }
            _ => drop(self.images.insert(id.clone(), image)),
        }
        Ok(Change::Image(id))
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
        let heads = self.heads.entry(head.diff_id.clone()).or_default();
        let conflict = heads.iter().any(|known| known.manifest_sha256 != head.manifest_sha256);
        let diff_id = head.diff_id.clone();
        if let Some(known) = heads.iter_mut().find(|known| known.source == head.source) {
            *known = head;
        } else if heads.len() < SOURCES_MAX {
            heads.push(head);
        }
        Ok(if conflict { Change::Conflict(diff_id.to_string()) } else { Change::Layer })
    }

    fn chunk(&mut self, chunk: LayerChunk) -> Result<Change, String> {
        let index = u32::try_from(chunk.index).ok().filter(|index| *index < CHUNKS_MAX);
        let index = index.ok_or_else(|| format!("chunk {} of at most {CHUNKS_MAX}", chunk.index))?;
        if chunk.data.len() > CHUNK_BYTES {
            return Err(format!("a chunk of {} bytes, allowed are {CHUNK_BYTES}", chunk.data.len()));
        }
        self.chunks.entry(chunk.manifest_sha256).or_default().insert(index, chunk.data.into());
        Ok(Change::Layer)
    }

    /// What is known of an image.
    #[must_use]
    pub fn lookup(&self, id: &ImageId) -> Lookup {
        let Some(image) = self.images.get(id) else { return Lookup::Missing };
        if let Some(reason) = &image.failed {
            return Lookup::Failed { reason: reason.clone(), failure: image.failure, retry_ns: image.retry_ns };
        }
        let layers: Option<Vec<_>> = image.diff_ids.iter().map(|diff_id| self.stored(diff_id)).collect();
        layers.map_or(Lookup::Missing, |layers| Lookup::Complete {
            stored: Stored(layers),
            conflict: self.conflict(image),
        })
    }

    /// Who contradicts whom about a layer of an image.
    fn conflict(&self, image: &Image) -> Option<String> {
        if let Some(conflict) = self.contradicted.get(&image.image_id) {
            return Some(conflict.clone());
        }
        image.diff_ids.iter().find_map(|diff_id| {
            let heads = self.heads.get(diff_id)?;
            let first = heads.first()?;
            let other = heads.iter().find(|head| head.manifest_sha256 != first.manifest_sha256)?;
            let said = |head: &LayerHead| format!("{} says {}", head.source, head.manifest_sha256);
            Some(format!("layer {diff_id}: {}, {}", said(first), said(other)))
        })
    }

    /// The first complete manifest that was published for a layer.
    fn stored(&self, diff_id: &DiffId) -> Option<StoredLayer> {
        self.heads.get(diff_id)?.iter().find_map(|head| {
            let known = self.chunks.get(&head.manifest_sha256)?;
            let count = check_chunk_count(head.chunk_count).ok()?;
            let chunks: Option<Vec<_>> = (0..count).map(|index| known.get(&index).cloned()).collect();
            Some(StoredLayer { head: head.clone(), chunks: chunks? })
        })
    }
}

impl Stored {
    /// Verifies, decodes and merges the layers; takes milliseconds to seconds, so not on the loop's task.
    ///
    /// # Errors
    /// When a manifest is not what its head says, or the layers cannot be merged.
    pub fn load(&self) -> Result<ImageIndex, LoadError> {
        let layers: Vec<Arc<LayerManifest>> = self
            .0
            .iter()
            .map(|layer| {
                LayerManifest::assemble(&layer.head, layer.chunks.iter().map(AsRef::as_ref))
                    .map(Arc::new)
                    .map_err(|error| LoadError::Layer(layer.head.diff_id.clone(), error))
            })
            .collect::<Result<_, _>>()?;
        Ok(merge(&layers)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_schemas::layer::{EntryKind, LayerEntry, PublishedLayer};

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
        assert!(stored.load().unwrap().file(b"/b").is_some());
    }

    #[test]
    fn the_first_publisher_wins_and_a_second_opinion_is_noticed() {
        let mut tables = ImageTables::default();
        tables.image(image(&["sha256:a"], None)).unwrap();
        assert_eq!(put(&mut tables, layer("sha256:a", "/true", "node:a")), Change::Layer);
        assert_eq!(put(&mut tables, layer("sha256:a", "/true", "node:b")), Change::Layer);
        let conflict = put(&mut tables, layer("sha256:a", "/lie", "node:c"));
        assert_eq!(conflict, Change::Conflict("sha256:a".to_owned()));
        let Lookup::Complete { stored, conflict } = tables.lookup(&ImageId::from("sha256:i")) else {
            panic!("complete")
        };
        assert!(stored.load().unwrap().file(b"/true").is_some());
        let conflict = conflict.unwrap();
        assert!(conflict.contains("layer sha256:a: node:a says ") && conflict.contains("node:c says "), "{conflict}");
    }

    #[test]
    fn a_chunk_that_is_not_the_head_s_fails_the_load() {
        let mut tables = ImageTables::default();
        tables.image(image(&["sha256:a"], None)).unwrap();
        let mut forged = layer("sha256:a", "/a", "node:a");
        forged.chunks[0].data = layer("sha256:a", "/b", "node:a").chunks[0].data.clone();
        put(&mut tables, forged);
        let Lookup::Complete { stored, .. } = tables.lookup(&ImageId::from("sha256:i")) else { panic!("complete") };
        assert!(matches!(stored.load(), Err(LoadError::Layer(_, ManifestError::Digest { .. }))));
    }

    #[test]
    fn a_second_list_of_layers_for_one_image_is_a_conflict_and_not_taken() {
        let mut tables = ImageTables::default();
        tables.image(image(&["sha256:a"], None)).unwrap();
        let conflict = tables.image(image(&["sha256:a", "sha256:evil"], None)).unwrap();
        assert_eq!(conflict, Change::Conflict("sha256:i".to_owned()));
        put(&mut tables, layer("sha256:a", "/true", "node:a"));
        let Lookup::Complete { conflict: Some(conflict), .. } = tables.lookup(&ImageId::from("sha256:i")) else {
            panic!("complete, and contradicted")
        };
        assert_eq!(conflict, "different lists of layers: node:a says 1 layers, node:a says 2 layers");
    }

    #[test]
    fn a_failed_attempt_does_not_hide_a_published_image() {
        let mut tables = ImageTables::default();
        let id = ImageId::from("sha256:i");
        tables.image(image(&[], Some("no engine"))).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Failed { .. }));
        tables.image(image(&[], None)).unwrap();
        tables.image(image(&[], Some("no engine"))).unwrap();
        assert!(matches!(tables.lookup(&id), Lookup::Complete { .. }));
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
