//! The state of images in the tables, by layer and publisher.

use super::*;
use crate::enricher::ImageAnswer;
use driftline_schemas::layer::{EntryKind, LayerEntry, PublishedLayer};
use driftline_schemas::layer::{LayerManifest, ManifestError};
use driftline_schemas::limits::{CHUNK_BYTES, CHUNKS_MAX};

fn view() -> ImageView {
    ImageView::of_all(&ImageId::from("sha256:i"))
}

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

fn put<C: ChunkStore>(tables: &mut ImageTables<C>, layer: PublishedLayer) -> Change {
    for chunk in layer.chunks {
        tables.layer(LayerEvent::Chunk(chunk)).unwrap();
    }
    tables.layer(LayerEvent::Head(layer.head)).unwrap()
}

#[test]
fn an_image_is_complete_only_with_every_chunk_of_every_layer() {
    let mut tables = ImageTables::default();
    tables.image(image(&["sha256:a", "sha256:b"], None)).unwrap();
    put(&mut tables, layer("sha256:a", "/a", "node:a"));
    assert!(matches!(tables.lookup(&view()), Lookup::Missing));
    let second = layer("sha256:b", "/b", "node:a");
    tables.layer(LayerEvent::Head(second.head.clone())).unwrap();
    assert!(matches!(tables.lookup(&view()), Lookup::Missing), "a head without its chunk");
    put(&mut tables, second);
    let Lookup::Complete { stored, .. } = tables.lookup(&view()) else { panic!("complete") };
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
    let Lookup::Complete { stored, .. } = tables.lookup(&view()) else { panic!("complete") };
    assert!(stored.load(tables.chunks()).unwrap().file(b"/true").is_some());
}

#[test]
fn a_chunk_that_is_not_the_head_s_fails_the_load() {
    let mut tables = ImageTables::default();
    tables.image(image(&["sha256:a"], None)).unwrap();
    let mut forged = layer("sha256:a", "/a", "node:a");
    forged.chunks[0].data = layer("sha256:a", "/b", "node:a").chunks[0].data.clone();
    put(&mut tables, forged);
    let Lookup::Complete { stored, .. } = tables.lookup(&view()) else { panic!("complete") };
    assert!(matches!(stored.load(tables.chunks()), Err(LoadError::Layer(_, ManifestError::Digest { .. }))));
}

#[test]
fn an_index_that_nodes_of_two_platforms_published_names_no_image() {
    let mut tables = ImageTables::default();
    let of = |source: &str, config: &str, layer: &str| Image {
        source: source.to_owned(),
        config_digest: config.to_owned(),
        ..image(&[layer], None)
    };
    tables.image(of("node:a", "sha256:amd64", "sha256:a")).unwrap();
    put(&mut tables, layer("sha256:a", "/true", "node:a"));
    assert!(matches!(tables.lookup(&view()), Lookup::Complete { conflict: None, .. }));
    tables.image(of("node:b", "sha256:arm64", "sha256:b")).unwrap();
    assert!(matches!(tables.lookup(&view()), Lookup::Failed { failure: ImageFailure::Unsupported, .. }));
    // A publication without a config digest claims that the id is the config's own digest, so the id cannot be that of
    // an index: one of the publishers lies.
    tables.image(of("node:c", "", "sha256:c")).unwrap();
    assert!(matches!(tables.lookup(&view()), Lookup::Complete { conflict: Some(_), .. }));
}

#[test]
fn a_second_list_of_layers_for_one_image_is_a_conflict_and_not_taken() {
    let mut tables = ImageTables::default();
    tables.image(image(&["sha256:a"], None)).unwrap();
    let evil = Image { source: "node:evil".into(), ..image(&["sha256:a", "sha256:evil"], None) };
    let conflict = tables.image(evil).unwrap();
    assert_eq!(conflict, Change::Conflict("sha256:i".to_owned()));
    put(&mut tables, layer("sha256:a", "/true", "node:a"));
    assert!(matches!(tables.lookup(&view()), Lookup::Complete { .. }));
}

#[test]
fn a_failed_attempt_does_not_hide_a_published_image() {
    let mut tables = ImageTables::default();
    tables.image(image(&[], Some("no engine"))).unwrap();
    assert!(matches!(tables.lookup(&view()), Lookup::Failed { .. }));
    tables.image(Image { source: "node:b".into(), ..image(&[], None) }).unwrap();
    tables.image(image(&[], Some("no engine"))).unwrap();
    assert!(matches!(tables.lookup(&view()), Lookup::Complete { .. }));
}

/// Checks which of two publications of one layer wins, the first of them first on the topic, and whether they conflict.
#[track_caller]
fn check(trust: Trust, claims: [(&str, LayerBasis); 2], winner: Option<usize>, is_conflict: bool) {
    check_on(trust, None, claims, winner, is_conflict);
}

/// The same for containers of a node.
#[track_caller]
fn check_on(
    trust: Trust,
    node: Option<&str>,
    claims: [(&str, LayerBasis); 2],
    winner: Option<usize>,
    is_conflict: bool,
) {
    let mut tables = ImageTables::new(trust);
    for source in ["node:a", "ci:x"] {
        tables.image(Image { source: source.into(), ..image(&["sha256:a"], None) }).unwrap();
    }
    let paths = ["/0", "/1"];
    for ((source, basis), path) in claims.into_iter().zip(paths) {
        let mut layer = layer("sha256:a", path, source);
        layer.head.basis = basis;
        put(&mut tables, layer);
    }
    match tables.lookup(&ImageView { node: node.map(str::to_owned), ..view() }) {
        Lookup::Complete { stored, conflict } => {
            let index = stored.load(tables.chunks()).unwrap();
            let won = paths.iter().position(|path| index.file(path.as_bytes()).is_some());
            assert_eq!((won, conflict.is_some()), (winner, is_conflict), "{trust:?} {claims:?}: {conflict:?}");
        }
        other => assert!(winner.is_none() && matches!(other, Lookup::Missing), "{trust:?} {claims:?}: {other:?}"),
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
fn with_same_node_only_the_own_node_and_verified_sources_count() {
    use LayerBasis::{Blob, Snapshot};
    let check = |node, claims, winner, is_conflict| check_on(Trust::SameNode, Some(node), claims, winner, is_conflict);
    check("a", [("node:a", Blob), ("node:b", Blob)], Some(0), false);
    check("b", [("node:a", Blob), ("node:b", Blob)], Some(1), false);
    check("c", [("node:a", Blob), ("node:b", Blob)], None, false);
    check("a", [("node:a", Blob), ("ci:x", Blob)], Some(1), true);
    check("b", [("node:a", Blob), ("ci:x", Blob)], Some(1), false);
    check("a", [("node:b", Blob), ("node:a", Snapshot)], Some(1), false);
    check("", [("node:a", Blob), ("node:b", Blob)], None, false);
    check("b", [("node:a/node:b", Blob), ("node:ab", Blob)], None, false);
    // All nodes together, as `driftline images` shows them.
    check_on(Trust::SameNode, None, [("node:a", Blob), ("node:b", Blob)], Some(0), true);
}

#[test]
fn with_same_node_the_list_of_layers_and_failures_are_the_own_node_s_too() {
    let mut tables = ImageTables::new(Trust::SameNode);
    let of = |node: &str| ImageView { node: Some(node.to_owned()), ..view() };
    tables.image(image(&["sha256:a"], None)).unwrap();
    put(&mut tables, layer("sha256:a", "/true", "node:a"));
    tables.image(Image { source: "node:b".into(), ..image(&[], Some("no engine")) }).unwrap();
    assert!(matches!(tables.lookup(&of("a")), Lookup::Complete { .. }));
    assert!(matches!(tables.lookup(&of("b")), Lookup::Failed { .. }));
    assert!(matches!(tables.lookup(&of("c")), Lookup::Missing));
    // The list is the node's own, so every layer must be as well.
    tables.image(Image { source: "node:c".into(), ..image(&["sha256:a"], None) }).unwrap();
    assert!(matches!(tables.lookup(&of("c")), Lookup::Missing));
    put(&mut tables, layer("sha256:a", "/true", "node:c"));
    let name = |view: &ImageView| match tables.lookup(view) {
        Lookup::Complete { stored, conflict: None } => stored.name(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(&of("c")), name(&of("a")), "equal manifests are one merged image, whoever published them");
    assert!(matches!(tables.lookup(&view()), Lookup::Complete { .. }), "for all nodes together it is complete");
}

#[test]
fn every_node_of_a_cluster_can_publish_for_itself() {
    let mut tables = ImageTables::new(Trust::SameNode);
    for number in 0..100 {
        tables.image(Image { source: format!("node:{number}"), ..image(&["sha256:a"], None) }).unwrap();
        put(&mut tables, layer("sha256:a", "/true", &format!("node:{number}")));
    }
    let first = ImageView { node: Some("0".to_owned()), ..view() };
    assert!(matches!(tables.lookup(&first), Lookup::Complete { .. }));
}

fn ready(conflict: Option<&str>) -> ImageAnswer {
    ImageAnswer::Ready { index: crate::fixtures::image(), conflict: conflict.map(str::to_owned) }
}

#[test]
fn the_core_is_told_of_an_image_until_it_has_the_content_and_then_of_a_contradiction() {
    let mut tables = ImageTables::default();
    let mut following = Following::default();
    let of = |n: &str| ImageView::of_all(&ImageId::from(n));
    let lie = || layer("sha256:a", "/lie", "node:evil");
    following.ask(view());
    following.ask(of("sha256:other"));
    let change = tables.image(image(&["sha256:a"], None)).unwrap();
    assert_eq!(following.concerned(&[change], &tables), BTreeSet::from([view()]));
    assert_eq!(following.concerned(&[Change::Layer], &tables), BTreeSet::new(), "it is not complete");
    let change = put(&mut tables, layer("sha256:a", "/true", "node:a"));
    assert_eq!(following.concerned(&[change], &tables), BTreeSet::from([view()]));
    following.answered(&view(), &ImageAnswer::Missing);
    assert_eq!(following.concerned(&[Change::Layer], &tables), BTreeSet::from([view()]));
    following.answered(&view(), &ready(None));
    assert_eq!(following.concerned(&[Change::Layer, Change::Image(view().image)], &tables), BTreeSet::new());
    let change = put(&mut tables, lie());
    assert_eq!(following.concerned(&[change], &tables), BTreeSet::from([view()]));
    following.answered(&view(), &ready(Some("they differ")));
    assert_eq!(following.concerned(&[Change::Conflict(String::new())], &tables), BTreeSet::new(), "it was told");
    assert!(following.uses(&view().image) && following.uses(&ImageId::from("sha256:other")));
    following.forget(&view());
    assert!(!following.uses(&view().image));
    following.answered(&view(), &ready(None));
    assert!(!following.uses(&view().image), "an answer that comes late does not bring it back");
}

#[test]
fn an_image_is_used_while_a_container_of_any_node_uses_it() {
    let mut following = Following::default();
    let on = |node: &str| ImageView { node: Some(node.to_owned()), ..view() };
    for node in ["a", "b"] {
        following.ask(on(node));
        following.answered(&on(node), &ready(None));
    }
    following.forget(&on("a"));
    assert!(following.uses(&view().image));
    following.forget(&on("b"));
    assert!(!following.uses(&view().image) && !following.uses(&ImageId::from("sha256:")));
}

#[test]
fn a_publisher_replaces_what_it_said_itself_only() {
    let from = |source: &str, failed| Image { source: source.into(), ..image(&[], failed) };
    let mut tables = ImageTables::default();
    tables.image(from("node:a", None)).unwrap();
    tables.image(from("node:b", Some("no engine"))).unwrap();
    assert!(matches!(tables.lookup(&view()), Lookup::Complete { .. }));
    tables.image(from("node:a", Some("gone"))).unwrap();
    assert!(matches!(tables.lookup(&view()), Lookup::Failed { .. }));
    tables.image(from("node:b", None)).unwrap();
    assert!(matches!(tables.lookup(&view()), Lookup::Complete { .. }));
    tables.forget_image("sha256:i/node:b");
    assert!(matches!(tables.lookup(&view()), Lookup::Failed { .. }));
    tables.forget_image("sha256:i/node:a");
    assert!(matches!(tables.lookup(&view()), Lookup::Missing));
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
    let Lookup::Failed { reason, failure, .. } = tables.lookup(&view()) else { panic!("failed") };
    assert_eq!((reason.as_str(), failure), ("node:b", ImageFailure::Mismatch));
}

#[test]
fn nodes_cannot_keep_a_verified_source_out() {
    let mut tables = ImageTables::default();
    tables.image(image(&["sha256:a"], None)).unwrap();
    for number in 0..2 * Trust::AnyNode.sources_max() {
        put(&mut tables, layer("sha256:a", "/lie", &format!("node:{number}")));
    }
    put(&mut tables, layer("sha256:a", "/true", "registry:x"));
    let Lookup::Complete { stored, conflict } = tables.lookup(&view()) else { panic!("complete") };
    assert!(stored.load(tables.chunks()).unwrap().file(b"/true").is_some());
    let conflict = conflict.unwrap();
    assert!(conflict.contains("registry:x says ") && conflict.contains("node:0 says "), "{conflict}");
    assert_eq!(tables.heads.values().next().unwrap().len(), Trust::AnyNode.sources_max());
}

#[test]
fn numbers_beyond_the_limits_are_refused() {
    let mut tables = ImageTables::default();
    let digest = Sha256::of(b"");
    let chunk = |index, length| LayerEvent::Chunk(LayerChunk { manifest_sha256: digest, index, data: vec![0; length] });
    assert!(tables.layer(chunk(-1, 1)).is_err());
    assert!(tables.layer(chunk(i32::try_from(CHUNKS_MAX).unwrap(), 1)).is_err());
    assert!(tables.layer(chunk(0, CHUNK_BYTES + 1)).is_err());
    assert!(tables.image(image(&["sha256:a"; LAYERS_MAX + 1], None)).is_err());
}
