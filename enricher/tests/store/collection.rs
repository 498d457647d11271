//! Collecting chunks and reading them again, on a real file system: restarts, kills, and the length of the file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use driftline_enricher::store::blocks::Swept;
use driftline_enricher::store::{Opened, Row};
use driftline_enricher_core::tables::Lookup;
use driftline_kafka::{OffsetRange, Record};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, LayerEvent, Sha256, decode};

use crate::corpus::{Corpus, view};
use crate::{FILE, SMALL, answers, fill, filled, names_of, opened, victim_at};

/// The manifests of all layers on the topic.
fn manifests(corpus: &Corpus) -> Vec<Sha256> {
    let heads = corpus.records.iter().filter_map(|record| match LayerEvent::decode(record.value.as_deref()?) {
        Ok(LayerEvent::Head(head)) => Some(head.manifest_sha256),
        _ => None,
    });
    heads.collect()
}

/// The records on the topic that the store reads again for these manifests.
fn again(store: &Opened, corpus: &Corpus, manifests: &BTreeSet<Sha256>) -> Vec<Row> {
    let places = store.store.collected(manifests).unwrap();
    let is_wanted = |it: &&Record| it.topic == Topic::ImageLayers && places.contains(&(it.partition, it.offset));
    corpus.records.iter().filter(is_wanted).cloned().map(Row::of).collect()
}

/// Number of complete images, and number of images with collected chunks.
fn states(store: &Opened) -> (usize, usize) {
    let lookups: Vec<Lookup> = (0..SMALL.images).map(|number| store.tables.lookup(&view(number))).collect();
    let complete = lookups.iter().filter(|lookup| matches!(lookup, Lookup::Complete { .. })).count();
    (complete, lookups.iter().filter(|lookup| matches!(lookup, Lookup::Collected(_))).count())
}

#[test]
fn what_was_collected_is_remembered_over_a_restart_and_can_be_had_again() {
    let directory = tempfile::tempdir().unwrap();
    let (corpus, expected) = filled(directory.path());
    let all = manifests(&corpus);
    let bytes = opened(directory.path(), &corpus.extent()).store.collect(&all).unwrap();
    assert!(bytes > 10_000, "{bytes}");
    let store = opened(directory.path(), &corpus.extent());
    assert_eq!((store.rebuilt, fill(&store, &corpus, 5)), (None, 0), "positions are as they were");
    assert_eq!(states(&store), (0, SMALL.images));
    assert_eq!(store.store.collect(&all).unwrap(), 0, "there is nothing left to collect");

    let Lookup::Collected(needed) = store.tables.lookup(&view(0)) else { panic!("collected") };
    assert_eq!(needed.len(), 2, "its base and its own layer");
    let rows = again(&store, &corpus, &needed);
    let count = rows.len();
    assert_eq!(store.store.put_back(rows).unwrap().len(), count);
    assert_eq!(store.store.put_back(again(&store, &corpus, &needed)).unwrap().len(), 0, "it is here already");
    assert_eq!(store.store.forget_collected(&needed).unwrap(), BTreeSet::new());
    drop(store);
    let store = opened(directory.path(), &corpus.extent());
    assert_eq!(states(&store), (1, SMALL.images - 1));
    let others: BTreeSet<Sha256> = all.iter().copied().collect();
    store.store.put_back(again(&store, &corpus, &others)).unwrap();
    drop(store);
    // The merged files would answer in place of the store's file.
    fs::remove_dir_all(directory.path().join("merged")).unwrap();
    let store = opened(directory.path(), &corpus.extent());
    assert_eq!((answers(&store), fill(&store, &corpus, 5)), (expected, 0));
}

#[test]
fn what_the_topic_does_not_have_any_more_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let (corpus, _) = filled(directory.path());
    let all = manifests(&corpus);
    let store = opened(directory.path(), &corpus.extent());
    // A chunk deleted on the topic while it is stored stays until it is collected. A chunk deleted after its
    // collection, or not found on the topic, is forgotten.
    store.store.write(&mut [deleted(Topic::ImageLayers, format!("{}/0", all[0]))]).unwrap();
    assert!(store.store.load(&complete(&store, 0)).is_ok());
    store.store.collect(&all).unwrap();
    assert_eq!(store.store.collected(&[all[0]].into()).unwrap(), BTreeSet::new());
    store.store.write(&mut [deleted(Topic::ImageLayers, format!("{}/0", all[1]))]).unwrap();
    assert_eq!(store.store.collected(&[all[1]].into()).unwrap(), BTreeSet::new());
    let lost = BTreeSet::from([all[1], all[2]]);
    assert_eq!(store.store.forget_collected(&lost).unwrap(), [all[2]].into());
    assert_eq!(store.store.collected(&lost).unwrap(), BTreeSet::new());
    let keys = corpus.records.iter().filter(|it| it.topic == Topic::ImageLayers);
    let keys = keys.map(|it| deleted(it.topic, key_of(it.topic, it.value.as_deref().unwrap())));
    store.store.write(&mut keys.collect::<Vec<_>>()).unwrap();
    drop(store);
    let extent: Vec<_> = corpus.extent().into_iter().map(|it| OffsetRange { end: 1_001, ..it }).collect();
    let store = opened(directory.path(), &extent);
    assert_eq!((store.rebuilt, states(&store)), (None, (0, 0)), "no layer has a head");
}

pub(crate) fn complete(store: &Opened, number: usize) -> driftline_enricher_core::tables::Stored {
    let Lookup::Complete { stored, .. } = store.tables.lookup(&view(number)) else { panic!("complete") };
    stored
}

/// A file of this name in its directory marks a process of the test below as the one to be killed.
const VICTIM: &str = "collect-until-killed";

/// Collects manifests and puts them back, one after the other.
fn collect_until_killed() {
    let corpus = Corpus::new(SMALL);
    let store = opened(Path::new("."), &corpus.extent());
    let all = manifests(&corpus);
    fs::write("collecting", "").unwrap();
    for number in 0.. {
        let manifest = all[number % all.len()];
        store.store.collect(&[manifest]).unwrap();
        if number % 3 > 0 {
            let again = again(&store, &corpus, &[all[number / 2 % all.len()]].into());
            store.store.put_back(again).unwrap();
        }
    }
}

#[test]
fn a_store_whose_collector_was_killed_has_every_chunk_or_knows_its_place() {
    const NAME: &str = "collection::a_store_whose_collector_was_killed_has_every_chunk_or_knows_its_place";
    if Path::new(VICTIM).exists() {
        return collect_until_killed();
    }
    let (mut collected, mut complete) = (0, 0);
    let directory = tempfile::tempdir().unwrap();
    let (corpus, expected) = filled(directory.path());
    fs::write(directory.path().join(VICTIM), "").unwrap();
    for round in 0_u64..8 {
        let _ = fs::remove_file(directory.path().join("collecting"));
        let mut child = victim_at("collecting", NAME, directory.path());
        // Each round kills at another point of the collection.
        std::thread::sleep(Duration::from_micros(1_700 * (round + 1)));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = opened(directory.path(), &corpus.extent());
        assert_eq!((store.rebuilt, fill(&store, &corpus, 5)), (None, 0), "round {round}");
        let (here, away) = states(&store);
        assert_eq!(here + away, SMALL.images, "round {round}");
        complete += here;
        collected += away;
        let all: BTreeSet<Sha256> = manifests(&corpus).into_iter().collect();
        store.store.put_back(again(&store, &corpus, &all)).unwrap();
        drop(store);
        let _ = fs::remove_dir_all(directory.path().join("merged"));
        assert_eq!(answers(&opened(directory.path(), &corpus.extent())), expected, "round {round}");
    }
    println!("after 8 kills {collected} images had something collected, {complete} had not");
    assert!(collected > 0);
}

/// Whether the topics' records of an image are deleted some time after its last use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Topics {
    Keep,
    Delete,
}

/// The records of one more image with a separate layer.
pub(crate) fn another(corpus: &mut Corpus, number: usize) -> Vec<Record> {
    let before = corpus.records.len();
    let own = corpus.layer(&format!("/opt/another-{number}/lib/module"), 2_000);
    corpus.image(number, vec![own]);
    corpus.records.split_off(before)
}

/// The length of the file after each round, in which an image of 2,000 files is added and then no longer used; and the
/// number of bytes added.
fn come_and_go(topics: Topics, rounds: usize) -> (Vec<u64>, u64) {
    /// Rounds until the records of an image are deleted.
    const LATER: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let extent = Corpus::default().extent();
    let extent: Vec<_> = extent.into_iter().map(|it| OffsetRange { end: 1_000_000, ..it }).collect();
    let store = opened(directory.path(), &extent);
    let mut corpus = Corpus::default();
    let (mut keys, mut sizes, mut written) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let records = another(&mut corpus, round);
        keys.push(
            records.iter().map(|it| (it.topic, key_of(it.topic, it.value.as_deref().unwrap()))).collect::<Vec<_>>(),
        );
        let mut rows: Vec<Row> = records.into_iter().map(Row::of).collect();
        let manifests: Vec<Sha256> = rows.iter().filter_map(manifest_of).collect();
        written += rows.iter().map(Row::value_bytes).sum::<usize>();
        store.store.write(&mut rows).unwrap();
        store.store.collect(&manifests).unwrap();
        if topics == Topics::Delete && round >= LATER {
            let gone = keys[round - LATER].iter().map(|(topic, key)| deleted(*topic, key.clone()));
            store.store.write(&mut gone.collect::<Vec<_>>()).unwrap();
        }
        sizes.push(fs::metadata(directory.path().join(FILE)).unwrap().len());
    }
    (sizes, u64::try_from(written).unwrap())
}

#[test]
fn the_file_stays_as_large_as_what_is_in_use_while_images_come_and_go() {
    const ROUNDS: usize = 400;
    let (sizes, written) = come_and_go(Topics::Delete, ROUNDS);
    let (early, late) = (sizes[ROUNDS / 8], sizes[ROUNDS - 1]);
    println!(
        "{written} bytes came and went: the file has {early} bytes after {} images, {late} after {ROUNDS}",
        ROUNDS / 8
    );
    assert_eq!(late, early);
    // While the topics have the records, the publishers of each image and layer stay known: some KiB for each.
    let (sizes, written) = come_and_go(Topics::Keep, ROUNDS);
    let remaining = sizes[ROUNDS - 1] - early;
    println!("with their records still on the topics it has {remaining} bytes more, of {written}");
    assert!(remaining < u64::try_from(ROUNDS).unwrap() * 8 * 1024, "{remaining}");
}

fn deleted(topic: Topic, key: String) -> Row {
    let key = Some(key.into_bytes());
    Row::of(Record { topic, partition: 0, offset: 1_000, timestamp_ms: 0, key, value: None, headers: vec![] })
}

fn key_of(topic: Topic, value: &[u8]) -> String {
    if topic == Topic::Images {
        return decode::<Image>(value).unwrap().key();
    }
    match LayerEvent::decode(value).unwrap() {
        LayerEvent::Head(head) => format!("{}/{}", head.diff_id, head.source),
        LayerEvent::Chunk(chunk) => format!("{}/{}", chunk.manifest_sha256, chunk.index),
    }
}

pub(crate) fn manifest_of(row: &Row) -> Option<Sha256> {
    match &row.news {
        driftline_enricher::store::News::Chunk { manifest, .. } => Some(*manifest),
        _ => None,
    }
}

#[test]
fn merged_images_that_nothing_uses_are_removed_after_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let (corpus, _) = filled(directory.path());
    let merged = directory.path().join("merged");
    fs::write(merged.join("0123.partial"), "cut off").unwrap();
    let store = opened(directory.path(), &corpus.extent());
    let in_use = BTreeSet::from([complete(&store, 0).name()]);
    assert_eq!(names_of(&merged, "").len(), SMALL.images + 1);
    assert_eq!(store.store.sweep_merged(&in_use, Duration::from_secs(60)).unwrap(), Swept::default());
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for name in names_of(&merged, "") {
        fs::File::options().write(true).open(merged.join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    // Every loaded image counts as needed at that time.
    store.store.load(&complete(&store, 1)).unwrap();
    let swept = store.store.sweep_merged(&in_use, Duration::from_secs(60)).unwrap();
    assert_eq!(swept.files, u64::try_from(SMALL.images + 1 - 2).unwrap());
    assert!(swept.bytes > 1_000);
    let mut left = names_of(&merged, "");
    left.sort();
    let mut expected = [0, 1].map(|number| complete(&store, number).name().to_string());
    expected.sort();
    assert_eq!(left, expected);
    let nothing = tempfile::tempdir().unwrap();
    let store = opened(nothing.path(), &corpus.extent());
    assert_eq!(store.store.sweep_merged(&in_use, Duration::ZERO).unwrap(), Swept::default());
}
