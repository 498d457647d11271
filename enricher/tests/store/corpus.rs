//! Records of the image topics as an indexer publishes them: images that share base layers.

use driftline_enricher_core::ImageView;
use driftline_kafka::{OffsetRange, Record};
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
use driftline_schemas::topics::Topic;
use driftline_schemas::{DiffId, Image, ImageId, Sha256, encode};

/// Size of the corpus.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) images: usize,
    /// Number of base layers; an image consists of one of them and a layer of its own.
    pub(crate) bases: usize,
    pub(crate) files_of_base: usize,
    pub(crate) files_of_image: usize,
}

/// Records in the order of their topics, one partition each.
#[derive(Debug, Default)]
pub(crate) struct Corpus {
    images: i64,
    layers: i64,
    pub(crate) records: Vec<Record>,
}

pub(crate) fn image_id(number: usize) -> ImageId {
    ImageId::from(Sha256::of(format!("image {number}").as_bytes()).to_digest().as_str())
}

/// The image as seen when every node's publications count.
pub(crate) fn view(number: usize) -> ImageView {
    ImageView::of_all(&image_id(number))
}

/// A path that only this image has.
pub(crate) fn own_path(number: usize) -> String {
    format!("/opt/app-{number}/lib/module-0")
}

impl Corpus {
    pub(crate) fn new(size: Size) -> Self {
        let mut corpus = Self::default();
        let bases: Vec<DiffId> = (0..size.bases)
            .map(|base| corpus.layer(&format!("/usr/lib/base-{base}/part"), size.files_of_base))
            .collect();
        for number in 0..size.images {
            let own = corpus.layer(&format!("/opt/app-{number}/lib/module"), size.files_of_image);
            corpus.image(number, vec![bases[number % bases.len()].clone(), own]);
        }
        corpus
    }

    /// The range of offsets on the topics.
    pub(crate) fn extent(&self) -> Vec<OffsetRange> {
        let range = |topic, end| OffsetRange { topic, partition: 0, begin: 0, end };
        vec![range(Topic::Images, self.images), range(Topic::ImageLayers, self.layers)]
    }

    pub(crate) fn layer(&mut self, stem: &str, files: usize) -> DiffId {
        let entry = |number| {
            let path = format!("{stem}-{number}");
            let sha256 = Some(Sha256::of(path.as_bytes()).0);
            LayerEntry { path: path.into(), kind: EntryKind::File, mode: 0o755, size_bytes: 9, sha256, target: None }
        };
        let diff_id = DiffId::from(Sha256::of(stem.as_bytes()).to_digest().as_str());
        let layer = LayerManifest::new((0..files).map(entry).collect()).publish(&diff_id, "node:a", 0).unwrap();
        for chunk in &layer.chunks {
            self.push(Topic::ImageLayers, encode(chunk).unwrap());
        }
        self.push(Topic::ImageLayers, encode(&layer.head).unwrap());
        diff_id
    }

    pub(crate) fn image(&mut self, number: usize, diff_ids: Vec<DiffId>) {
        let image =
            Image { image_id: image_id(number), diff_ids, source: "node:a".into(), indexed_ns: 1, ..Image::default() };
        self.push(Topic::Images, encode(&image).unwrap());
    }

    fn push(&mut self, topic: Topic, value: Vec<u8>) {
        let next = if topic == Topic::Images { &mut self.images } else { &mut self.layers };
        let offset = *next;
        *next += 1;
        let record = Record {
            topic,
            partition: 0,
            offset,
            timestamp_ms: offset,
            key: None,
            value: Some(value),
            headers: vec![],
        };
        self.records.push(record);
    }
}
