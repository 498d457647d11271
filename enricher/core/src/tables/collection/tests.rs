//! Which manifests are collected and when, and that nothing else changes.

use super::*;
use crate::chunks::ChunkStore as _;
use crate::tables::{Lookup, Trust};
use crate::trust::ImageView;
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest, PublishedLayer};
use driftline_schemas::{Image, LayerEvent};

const KEEP: i64 = 100;

fn image_id(number: usize) -> ImageId {
    ImageId::from(format!("sha256:{number}").as_str())
}

fn layer(diff_id: &str, path: &str, source: &str) -> PublishedLayer {
    let entry = LayerEntry {
        path: path.into(),
        kind: EntryKind::Directory,
        mode: 0,
        size_bytes: 0,
        sha256: None,
        target: None,
    };
    LayerManifest::new(vec![entry]).publish(&DiffId::from(diff_id), source, 0).unwrap()
}

struct Bench {
    tables: ImageTables<KnownChunks>,
    collection: Collection,
    used: Vec<ImageId>,
}

impl Bench {
    fn new() -> Self {
        let tables = ImageTables::with_chunks(Trust::AnyNode, KnownChunks::default());
        Self { tables, collection: Collection::new(KEEP), used: Vec::new() }
    }

    /// Publishes the layer; returns the digest of its manifest.
    fn layer(&mut self, layer: PublishedLayer) -> Sha256 {
        let manifest = layer.head.manifest_sha256;
        layer.chunks.into_iter().for_each(|chunk| drop(self.tables.layer(LayerEvent::Chunk(chunk)).unwrap()));
        self.tables.layer(LayerEvent::Head(layer.head)).unwrap();
        manifest
    }

    fn image(&mut self, number: usize, diff_ids: &[&str]) {
        let diff_ids = diff_ids.iter().map(|id| DiffId::from(*id)).collect();
        let image = Image { image_id: image_id(number), diff_ids, source: "node:a".into(), ..Image::default() };
        self.tables.image(image).unwrap();
    }

    /// Steps until each manifest was examined, as the shell does.
    fn collect(&mut self, now_ns: i64) -> Vec<Sha256> {
        let mut all = Vec::new();
        loop {
            let due = self.collection.step(now_ns, &self.tables, |id| self.used.contains(id));
            due.iter().for_each(|manifest| self.tables.chunks_mut().collect(manifest));
            all.extend(due);
            if self.collection.at.is_none() {
                return all;
            }
        }
    }

    fn lookup(&self, number: usize) -> Lookup {
        self.tables.lookup(&ImageView::of_all(&image_id(number)))
    }
}

#[test]
fn what_an_image_in_use_names_stays_and_the_rest_goes_after_a_while() {
    let mut bench = Bench::new();
    let base = bench.layer(layer("sha256:base", "/base", "node:a"));
    let used = bench.layer(layer("sha256:used", "/used", "node:a"));
    let other = bench.layer(layer("sha256:other", "/other", "node:a"));
    bench.image(1, &["sha256:base", "sha256:used"]);
    bench.image(2, &["sha256:base", "sha256:other"]);
    bench.used.push(image_id(1));
    assert_eq!(bench.collect(0), []);
    assert_eq!(bench.collect(KEEP - 1), []);
    assert_eq!(bench.collect(KEEP), [other]);
    assert_eq!(bench.collect(5 * KEEP), []);
    assert!(matches!(bench.lookup(1), Lookup::Complete { .. }));
    let Lookup::Collected(missing) = bench.lookup(2) else { panic!("collected") };
    assert_eq!(missing, [other].into());

    // The image is used again: the chunk arrives, and from then on it is kept.
    bench.used.push(image_id(2));
    bench.tables.chunks_mut().put(other, 0, Vec::new());
    assert!(matches!(bench.lookup(2), Lookup::Complete { .. }));
    assert_eq!(bench.collect(9 * KEEP), []);
    bench.used.clear();
    assert_eq!(bench.collect(10 * KEEP), []);
    let mut all = bench.collect(11 * KEEP);
    all.sort();
    let mut expected = [base, used, other];
    expected.sort();
    assert_eq!(all, expected);
}

#[test]
fn a_layer_that_comes_before_its_image_and_an_image_before_its_container_are_kept_for_a_while() {
    let mut bench = Bench::new();
    let early = bench.layer(layer("sha256:a", "/a", "node:a"));
    assert_eq!(bench.collect(0), []);
    bench.image(1, &["sha256:a"]);
    assert_eq!(bench.collect(KEEP - 1), []);
    bench.used.push(image_id(1));
    assert_eq!(bench.collect(KEEP), [], "it is needed now");
    bench.used.clear();
    assert_eq!(bench.collect(KEEP + 1), [], "the time begins anew");
    assert_eq!(bench.collect(2 * KEEP + 1), [early]);
}

#[test]
fn nobody_takes_the_place_of_a_publisher_whose_chunks_were_collected() {
    let mut bench = Bench::new();
    let good = bench.layer(layer("sha256:a", "/true", "registry:x"));
    bench.image(1, &["sha256:a"]);
    bench.collect(0);
    assert_eq!(bench.collect(KEEP), [good]);
    bench.layer(layer("sha256:a", "/lie", "node:evil"));
    let Lookup::Collected(missing) = bench.lookup(1) else { panic!("collected") };
    assert_eq!(missing, [good].into());
    // The topic no longer has the manifest: then the remaining publisher counts.
    bench.tables.chunks_mut().forget_collected(&good);
    assert!(matches!(bench.lookup(1), Lookup::Complete { conflict: Some(_), .. }));
}

#[test]
fn a_manifest_that_two_layers_share_stays_while_one_of_them_is_needed() {
    let mut bench = Bench::new();
    let shared = bench.layer(layer("sha256:a", "/same", "node:a"));
    assert_eq!(bench.layer(layer("sha256:b", "/same", "node:a")), shared);
    bench.image(1, &["sha256:a"]);
    bench.image(2, &["sha256:b"]);
    bench.used.push(image_id(2));
    bench.collect(0);
    assert_eq!(bench.collect(KEEP), []);
    bench.tables.forget_image(&format!("{}/node:a", image_id(2)));
    bench.collect(2 * KEEP);
    assert_eq!(bench.collect(3 * KEEP), [shared], "its record was deleted, so nobody names it");
}

#[test]
fn records_that_are_deleted_or_replaced_leave_nothing_behind() {
    let mut bench = Bench::new();
    for round in 0..3 {
        bench.layer(layer("sha256:a", &format!("/{round}"), "node:a"));
        bench.image(1, &["sha256:a", &format!("sha256:{round}")]);
    }
    assert_eq!((bench.tables.layers_of.len(), bench.tables.named_by.len()), (1, 2));
    bench.tables.forget_layer("sha256:a/node:a");
    bench.tables.forget_image(&format!("{}/node:a", image_id(1)));
    assert!(bench.tables.layers_of.is_empty() && bench.tables.named_by.is_empty() && bench.tables.heads.is_empty());
    bench.collect(0);
    assert_eq!(bench.collect(KEEP).len(), 3);
    let mut at = None;
    while let Some((manifest, is_here)) = bench.tables.chunks().next(at.as_ref()) {
        assert!(!is_here);
        bench.tables.forget_layer(&format!("{manifest}/0"));
        at = Some(manifest);
    }
    assert_eq!(bench.tables.chunks().next(None), None);
    assert!(bench.collection.unneeded_since.is_empty());
}

#[test]
fn a_step_is_bounded_and_the_next_goes_on() {
    let mut bench = Bench::new();
    for number in 0..3 * COLLECTED_PER_STEP {
        bench.layer(layer("sha256:a", &format!("/{number}"), "node:a"));
    }
    bench.collect(0);
    let first = bench.collection.step(KEEP, &bench.tables, |_| false);
    assert_eq!(first.len(), COLLECTED_PER_STEP);
    first.iter().for_each(|manifest| bench.tables.chunks_mut().collect(manifest));
    assert_eq!(bench.collect(KEEP).len(), 2 * COLLECTED_PER_STEP);

    let mut bench = Bench::new();
    for number in 0..VISITED_PER_STEP {
        bench.layer(layer("sha256:a", &format!("/{number}"), "node:a"));
        bench.image(number, &["sha256:a"]);
    }
    let visited = std::cell::Cell::new(0);
    bench.collection.step(0, &bench.tables, |_| {
        visited.set(visited.get() + 1);
        false
    });
    assert!(visited.get() <= VISITED_PER_STEP, "{}", visited.get());
}
