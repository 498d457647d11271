//! Measures how long a restarted enricher takes to load its images: 200 images of 10,000 files on shared base layers.
//!
//! Prints text and one line of JSON. Run by `cargo bench -p driftline-enricher --bench store`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement: whatever fails ends it"
)]

#[path = "../tests/store/corpus.rs"]
mod corpus;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use corpus::{Corpus, Size, own_path, view};
use driftline_enricher::store::blocks::Made;
use driftline_enricher::store::{News, Origin, Row, open};
use driftline_enricher_core::Trust;
use driftline_enricher_core::image::ImageIndex;
use driftline_enricher_core::tables::Lookup;
use driftline_schemas::Sha256;
use driftline_service::clock;

const SIZE: Size = Size { images: 200, bases: 10, files_of_base: 9_000, files_of_image: 1_000 };
/// Records of one write: as many as the feed reads at once.
const AT_ONCE: usize = 64;

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// Cost of opening the store, loading every image and querying it.
struct Restart {
    /// Seconds until the store was open.
    open_s: f64,
    /// Seconds until every image was loaded and queried.
    all_s: f64,
    /// Memory of the images at the end, for each file, by their own estimate.
    said_bytes: usize,
    /// Memory at the end, for each file, by the system's measurement.
    resident_bytes: usize,
}

/// Resident memory of this process.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

/// Retains every image, as the enricher does while containers use all of them. Several threads load images.
fn restart(directory: &Path, corpus: &Corpus, expected: Made) -> Restart {
    const THREADS: usize = 4;
    let before = resident();
    let began = clock::monotonic();
    let origin = Origin { cluster: "bench".into(), prefix: "driftline".into() };
    let opened = open(directory, &origin, Trust::default(), &corpus.extent()).unwrap();
    let open_s = seconds(began);
    let load = |number| {
        let Lookup::Complete { stored, .. } = opened.tables.lookup(&view(number)) else { panic!("complete") };
        let (index, made) = opened.store.load(&stored).unwrap();
        assert_eq!(made, expected);
        assert!(index.file(own_path(number).as_bytes()).is_some());
        index
    };
    let every = |first: usize| (first..SIZE.images).step_by(THREADS).map(load).collect::<Vec<ImageIndex>>();
    let images: Vec<ImageIndex> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || every(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let all_s = seconds(began);
    let files = SIZE.images * (SIZE.files_of_base + SIZE.files_of_image);
    let said_bytes = images.iter().map(ImageIndex::memory_bytes).sum::<usize>() / files;
    Restart { open_s, all_s, said_bytes, resident_bytes: resident().saturating_sub(before) / files }
}

/// Drops two of three layers and reopens the store, which releases the free space. Returns the seconds that reopening
/// took, and the length of the file afterwards.
fn restart_after_collection(directory: &Path, corpus: &Corpus) -> (f64, u64) {
    let origin = Origin { cluster: "bench".into(), prefix: "driftline".into() };
    let reopened = || open(directory, &origin, Trust::default(), &corpus.extent()).unwrap();
    let rows = corpus.records.iter().cloned().map(Row::of);
    let chunks = rows.filter_map(|row| match row.news {
        News::Chunk { manifest, .. } => Some(manifest),
        _ => None,
    });
    let manifests: BTreeSet<Sha256> = chunks.collect();
    let collected: Vec<Sha256> =
        manifests.into_iter().enumerate().filter(|(at, _)| at % 3 > 0).map(|it| it.1).collect();
    reopened().store.collect(&collected).unwrap();
    let began = clock::monotonic();
    let opened = reopened();
    assert!(opened.rebuilt.is_none());
    (seconds(began), length(directory))
}

fn length(directory: &Path) -> u64 {
    fs::metadata(directory.join("images.redb")).unwrap().len()
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let corpus = Corpus::new(SIZE);
    let origin = Origin { cluster: "bench".into(), prefix: "driftline".into() };
    let store = open(directory.path(), &origin, Trust::default(), &corpus.extent()).unwrap().store;
    let began = clock::monotonic();
    for records in corpus.records.chunks(AT_ONCE) {
        let mut rows: Vec<Row> = records.iter().cloned().map(Row::of).collect();
        store.write(&mut rows).unwrap();
    }
    let fill_s = seconds(began);
    drop(store);
    let merged = restart(directory.path(), &corpus, Made::Now);
    let reopened = restart(directory.path(), &corpus, Made::Before);
    let (merge_s, restart_s, open_s) = (merged.all_s, reopened.all_s, reopened.open_s);
    let store_bytes = length(directory.path());
    let (given_back_s, shorter_bytes) = restart_after_collection(directory.path(), &corpus);
    println!("{} images of {} files", SIZE.images, SIZE.files_of_base + SIZE.files_of_image);
    println!("fill                         {fill_s:7.3} s   {store_bytes} bytes");
    println!("restart, merging anew        {merge_s:7.3} s");
    println!("restart, with merged images  {restart_s:7.3} s   (of it opening {open_s:.3} s)");
    println!(
        "memory of an image's file    {} bytes, resident {} after merging",
        reopened.said_bytes, merged.resident_bytes
    );
    println!("opening, with two of three layers collected {given_back_s:.3} s, then {shorter_bytes} bytes");
    println!(
        "{{\"bench\":\"store\",\"file_bytes\":{},\"merged_resident_bytes\":{},\"fill_s\":{fill_s:.3},\"merge_s\":{merge_s:.3},\"restart_s\":{restart_s:.3},\"open_s\":{open_s:.3},\"store_bytes\":{store_bytes},\"given_back_s\":{given_back_s:.3},\"shorter_bytes\":{shorter_bytes}}}",
        reopened.said_bytes, merged.resident_bytes
    );
}
