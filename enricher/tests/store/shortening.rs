//! The free space that collecting leaves in the file is released at the next start, also after a start that was killed
//! in between.

use std::fs;
use std::path::Path;
use std::time::Duration;

use driftline_enricher::store::{Opened, Row};
use driftline_kafka::OffsetRange;
use driftline_schemas::Sha256;

use crate::collection::{another, complete, manifest_of};
use crate::corpus::Corpus;
use crate::{FILE, opened, victim_at};

/// A file of this name in its directory marks a process of the test below as the one to be killed.
const SHORTENED: &str = "shorten-until-killed";

#[test]
fn a_store_that_was_killed_while_it_was_shortened_is_shortened_by_the_next_start() {
    const NAME: &str = "shortening::a_store_that_was_killed_while_it_was_shortened_is_shortened_by_the_next_start";
    if Path::new(SHORTENED).exists() {
        let extent = fs::read_to_string(SHORTENED).unwrap();
        let mut ends = extent.split(' ').map(|end| end.parse().unwrap());
        let extent = Corpus::default().extent();
        let extent: Vec<_> = extent.into_iter().map(|it| OffsetRange { end: ends.next().unwrap(), ..it }).collect();
        fs::write("shortening", "").unwrap();
        drop(opened(Path::new("."), &extent));
        fs::write("shortened", "").unwrap();
        return std::thread::park();
    }
    let before = tempfile::tempdir().unwrap();
    let Mostly { corpus, expected, .. } = mostly_free(before.path());
    let ends: Vec<String> = corpus.extent().iter().map(|range| range.end.to_string()).collect();
    let mut on_the_way = 0;
    for round in 0_u64..10 {
        let directory = tempfile::tempdir().unwrap();
        fs::copy(before.path().join(FILE), directory.path().join(FILE)).unwrap();
        fs::write(directory.path().join(SHORTENED), ends.join(" ")).unwrap();
        let mut child = victim_at("shortening", NAME, directory.path());
        // Each round kills at another point of the compaction.
        std::thread::sleep(Duration::from_millis(8 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        on_the_way += u32::from(!directory.path().join("shortened").exists());
        let store = opened(directory.path(), &corpus.extent());
        assert_eq!(store.rebuilt, None, "round {round}");
        assert!(used(&store) == expected, "round {round}");
        drop(store);
        assert!(length(directory.path()) < length(before.path()) / 4, "round {round}");
    }
    println!("{on_the_way} of 10 were killed before they were done");
    assert!(on_the_way > 0);
}

fn length(directory: &Path) -> u64 {
    fs::metadata(directory.join(FILE)).unwrap().len()
}

/// Number of images in the store, and number of those in use.
const CAME: usize = 150;
const USED: usize = 10;

/// The store's answers about the images in use.
fn used(store: &Opened) -> Vec<Vec<u8>> {
    let load = |number| store.store.load(&complete(store, number)).unwrap().0.as_bytes().to_vec();
    (CAME - USED..CAME).map(load).collect()
}

/// A store whose images were mostly collected.
struct Mostly {
    corpus: Corpus,
    manifests: Vec<Sha256>,
    expected: Vec<Vec<u8>>,
}

/// Fills a store with images of which the last are in use; the others are collected.
fn mostly_free(directory: &Path) -> Mostly {
    let mut corpus = Corpus::default();
    let mut rows: Vec<Row> = (0..CAME).flat_map(|number| another(&mut corpus, number)).map(Row::of).collect();
    let manifests: Vec<Sha256> = rows.iter().filter_map(manifest_of).collect();
    let store = opened(directory, &corpus.extent());
    rows.chunks_mut(10).for_each(|rows| store.store.write(rows).unwrap());
    drop(store);
    let store = opened(directory, &corpus.extent());
    let expected = used(&store);
    fs::remove_dir_all(directory.join("merged")).unwrap();
    store.store.collect(&manifests[..CAME - USED]).unwrap();
    Mostly { corpus, manifests, expected }
}

#[test]
fn a_file_that_is_mostly_free_is_shorter_after_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let Mostly { corpus, manifests, expected } = mostly_free(directory.path());
    let before = length(directory.path());
    for _ in 0..2 {
        let store = opened(directory.path(), &corpus.extent());
        assert_eq!((store.rebuilt, store.ranges.iter().all(|range| range.begin == range.end)), (None, true));
        assert!(used(&store) == expected);
        fs::remove_dir_all(directory.path().join("merged")).unwrap();
        assert_eq!(store.store.collected(&manifests.iter().copied().collect()).unwrap().len(), CAME - USED);
    }
    let after = length(directory.path());
    println!("{before} bytes, of which {USED} of {CAME} images are used: {after} bytes");
    assert!(before > 10_000_000 && after < before / 4, "{before} {after}");
}
