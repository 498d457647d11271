//! Images of two layers, and the ways in which their records reach the topics: at once, in pieces, late, failed, never.

use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
use driftline_schemas::topics::Topic;
use driftline_schemas::{
    DiffId, IMAGE_CONFLICT, IMAGE_MISMATCH, Image, ImageFailure, ImageId, LayerChunk, LayerHead, Sha256, encode,
};

use super::{Action, Clarity, Planner};
use crate::fault::Fault;
use crate::world::{MILLISECOND_NS, SECOND_NS};

/// An image.
#[derive(Debug)]
pub(super) struct ImagePlan {
    pub(super) id: ImageId,
    /// The files of a container of it: path and content.
    pub(super) files: Vec<(String, Sha256)>,
    layers: [(DiffId, LayerManifest); 2],
}

pub(super) fn id(seed: u64, number: usize) -> ImageId {
    ImageId::from(Sha256::of(format!("image {seed} {number}").as_bytes()).to_digest().as_str())
}

/// The size of every file; contents differ.
pub(super) const FILE_BYTES: u64 = 1_000;

fn content(image: &ImageId, path: &str, version: u32) -> Sha256 {
    Sha256::of(format!("{image} {path} {version}").as_bytes())
}

fn entry(path: &str, kind: EntryKind, sha256: Option<Sha256>) -> LayerEntry {
    let size_bytes = if sha256.is_some() { FILE_BYTES } else { 0 };
    LayerEntry { path: path.into(), kind, mode: 0o755, size_bytes, sha256: sha256.map(|digest| digest.0), target: None }
}

impl ImagePlan {
    pub(super) fn new(seed: u64, number: i64) -> Self {
        let number = usize::try_from(number).unwrap_or(0);
        let id = id(seed, number);
        let file = |path: &str, version| entry(path, EntryKind::File, Some(content(&id, path, version)));
        let lower = ["/bin/sh", "/bin/ls", "/bin/gone", "/usr/bin/tool"].map(|path| file(path, 1)).to_vec();
        let app = format!("/opt/app-{number}");
        let upper = vec![file("/bin/ls", 2), file(&app, 1), entry("/bin/gone", EntryKind::Whiteout, None)];
        let diff_id = |layer: &str| DiffId::from(Sha256::of(format!("{id} {layer}").as_bytes()).to_digest().as_str());
        let files = [("/bin/sh", 1), ("/bin/ls", 2), ("/usr/bin/tool", 1), (app.as_str(), 1)];
        Self {
            files: files.map(|(path, version)| (path.to_owned(), content(&id, path, version))).to_vec(),
            layers: [(diff_id("lower"), LayerManifest::new(lower)), (diff_id("upper"), LayerManifest::new(upper))],
            id,
        }
    }

    fn record(&self, failed: Option<&str>, at_ns: i64) -> Image {
        Image {
            image_id: self.id.clone(),
            diff_ids: self.layers.iter().map(|(diff_id, _)| diff_id.clone()).collect(),
            source: "node:node-0".to_owned(),
            indexed_ns: at_ns,
            failed: failed.map(str::to_owned),
            ..Image::default()
        }
    }
}

impl Planner {
    /// Draws the fate of an image: how much is determined about its containers, and the flaw of the image.
    pub(super) fn publish(&mut self, image: &ImagePlan, first_use_ns: i64) -> (Clarity, Option<&'static str>) {
        let early_ns = first_use_ns - 4 * SECOND_NS;
        match self.rng.below(14) {
            0 => {
                self.hit(Fault::ImageMissing);
                (Clarity::Vague, None)
            }
            1 => {
                self.hit(Fault::ImageFailed);
                (self.failed(image, ImageFailure::Unavailable, first_use_ns), None)
            }
            2 => {
                self.hit(Fault::ImageMismatch);
                (self.failed(image, ImageFailure::Mismatch, first_use_ns), Some(IMAGE_MISMATCH))
            }
            3 => {
                self.hit(Fault::ImageConflict);
                self.in_pieces(image, early_ns, SECOND_NS);
                let late_ns = self.rng.between(0, 10) * SECOND_NS;
                self.contradict(image, first_use_ns + late_ns);
                (Clarity::Exact, Some(IMAGE_CONFLICT))
            }
            4 => {
                self.hit(Fault::TableLate);
                let late_ns = self.rng.between(8, 40) * SECOND_NS;
                self.in_pieces(image, first_use_ns + late_ns, 6 * SECOND_NS);
                (Clarity::InTheEnd, None)
            }
            5..=7 => {
                self.hit(Fault::TableLate);
                let late_ns = self.rng.between(100, 2_500) * MILLISECOND_NS;
                self.in_pieces(image, first_use_ns + late_ns, SECOND_NS);
                (Clarity::Exact, None)
            }
            8 => {
                // All of it arrives early except a piece of a layer.
                self.in_pieces(image, early_ns, first_use_ns - early_ns + 4 * SECOND_NS);
                (Clarity::Exact, None)
            }
            _ => {
                self.in_pieces(image, early_ns, SECOND_NS);
                (Clarity::Exact, None)
            }
        }
    }

    /// A failure that lasts for a while or for ever, and the records published after it.
    fn failed(&mut self, image: &ImagePlan, failure: ImageFailure, first_use_ns: i64) -> Clarity {
        let early_ns = first_use_ns - 4 * SECOND_NS;
        let retry_ns = self.rng.one_of([i64::MAX, first_use_ns + 2 * SECOND_NS, first_use_ns + 20 * SECOND_NS]);
        let record = Image { failure, retry_ns, ..image.record(Some("no engine here"), early_ns) };
        self.image_record(&record, early_ns);
        if self.rng.one_in(3) {
            return Clarity::Vague;
        }
        let later_ns = first_use_ns + self.rng.between(SECOND_NS, 40 * SECOND_NS);
        self.layers(image, later_ns, 2 * SECOND_NS);
        self.image_record(&image.record(None, later_ns), later_ns);
        Clarity::InTheEnd
    }

    /// Another node publishes different content for a layer.
    fn contradict(&mut self, image: &ImagePlan, at_ns: i64) {
        let [(diff_id, _), _] = &image.layers;
        let lie = LayerManifest::new(vec![entry("/bin/lie", EntryKind::File, Some(Sha256::of(b"a lie")))]);
        let Ok(published) = lie.publish(diff_id, "node:node-9", at_ns) else { return };
        for chunk in &published.chunks {
            let key = format!("{}/{}", chunk.manifest_sha256, chunk.index).into_bytes();
            self.layer_record(diff_id, key, encode(chunk).unwrap_or_default(), at_ns);
        }
        let key = format!("{diff_id}/{}", published.head.source).into_bytes();
        self.layer_record(diff_id, key, encode(&published.head).unwrap_or_default(), at_ns);
    }

    fn in_pieces(&mut self, image: &ImagePlan, from_ns: i64, spread_ns: i64) {
        let at_ns = from_ns + self.rng.between(0, spread_ns);
        self.image_record(&image.record(None, at_ns), at_ns);
        self.layers(image, from_ns, spread_ns);
    }

    fn image_record(&mut self, image: &Image, at_ns: i64) {
        let key = image.key().into_bytes();
        let value = encode(image).unwrap_or_default();
        self.at(at_ns, Action::Table { topic: Topic::Images, by: key.clone(), key, value });
    }

    /// Heads and chunks in any order: a head before its chunks, and chunks before their head.
    fn layers(&mut self, image: &ImagePlan, from_ns: i64, spread_ns: i64) {
        self.hit(Fault::HalfLayer);
        for (diff_id, manifest) in &image.layers {
            let Ok(published) = manifest.publish(diff_id, "node:node-0", from_ns) else { continue };
            let bytes: Vec<u8> = published.chunks.iter().flat_map(|chunk| chunk.data.iter().copied()).collect();
            let pieces: Vec<&[u8]> = bytes.chunks(bytes.len() / 3 + 1).collect();
            let manifest_sha256 = published.head.manifest_sha256;
            let chunk_count = i32::try_from(pieces.len()).unwrap_or(i32::MAX);
            let head = LayerHead { chunk_count, ..published.head };
            let at_ns = from_ns + self.rng.between(0, spread_ns);
            let key = format!("{diff_id}/{}", head.source).into_bytes();
            self.layer_record(diff_id, key, encode(&head).unwrap_or_default(), at_ns);
            for (index, data) in (0..).zip(pieces) {
                let chunk = LayerChunk { manifest_sha256, index, data: data.to_vec() };
                let at_ns = from_ns + self.rng.between(0, spread_ns);
                let key = format!("{manifest_sha256}/{index}").into_bytes();
                self.layer_record(diff_id, key, encode(&chunk).unwrap_or_default(), at_ns);
            }
        }
    }

    fn layer_record(&mut self, diff_id: &DiffId, key: Vec<u8>, value: Vec<u8>, at_ns: i64) {
        let by = diff_id.as_str().as_bytes().to_vec();
        self.at(at_ns, Action::Table { topic: Topic::ImageLayers, by, key, value });
    }
}
