//! The store on a real file system: restarts, kills, damage.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests; clippy excepts only their own functions"
)]

mod collection;
mod corpus;
mod full_disk;
mod shortening;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use corpus::{Corpus, Size, image_id, own_path, view};
use driftline_enricher::store::blocks::Made;
use driftline_enricher::store::{Opened, Origin, Rebuilt, Row, StoreError, open};
use driftline_enricher_core::Trust;
use driftline_enricher_core::tables::Lookup;
use driftline_kafka::OffsetRange;

const SMALL: Size = Size { images: 6, bases: 2, files_of_base: 300, files_of_image: 40 };
const FILE: &str = "images.redb";

fn origin() -> Origin {
    Origin { cluster: "cluster".into(), prefix: "driftline".into() }
}

fn opened(directory: &Path, extent: &[OffsetRange]) -> Opened {
    open(directory, &origin(), Trust::default(), extent).unwrap()
}

/// A process that runs one of these tests in a directory with the file that marks it as the one to be killed.
fn victim(test: &str, directory: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).current_dir(directory).stdout(Stdio::null()).spawn().unwrap()
}

/// A process that has begun the work during which it is killed: the file `begun` exists.
fn victim_at(begun: &str, test: &str, directory: &Path) -> Child {
    let mut child = victim(test, directory);
    while !directory.join(begun).exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    child
}

/// Writes the unread records, `at_once` at a time; returns their number.
fn fill(opened: &Opened, corpus: &Corpus, at_once: usize) -> usize {
    let is_unread = |topic, offset| opened.ranges.iter().any(|it| it.topic == topic && offset >= it.begin);
    let unread: Vec<_> = corpus.records.iter().filter(|it| is_unread(it.topic, it.offset)).cloned().collect();
    for records in unread.chunks(at_once) {
        let mut rows: Vec<Row> = records.iter().cloned().map(Row::of).collect();
        opened.store.write(&mut rows).unwrap();
    }
    unread.len()
}

/// The store's answer about every image: the bytes of its index.
fn answers(opened: &Opened) -> Vec<Option<Vec<u8>>> {
    (0..SMALL.images)
        .map(|number| match opened.tables.lookup(&view(number)) {
            Lookup::Complete { stored, .. } => {
                let (index, _) = opened.store.load(&stored).unwrap();
                assert!(index.file(own_path(number).as_bytes()).is_some());
                Some(index.as_bytes().to_vec())
            }
            _ => None,
        })
        .collect()
}

/// A filled store, and its answers.
fn filled(directory: &Path) -> (Corpus, Vec<Option<Vec<u8>>>) {
    let corpus = Corpus::new(SMALL);
    let extent = corpus.extent();
    fill(&opened(directory, &extent), &corpus, 5);
    let expected = answers(&opened(directory, &extent));
    assert!(expected.iter().all(Option::is_some));
    (corpus, expected)
}

fn names_of(directory: &Path, part: &str) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(part)).collect()
}

#[test]
fn a_restart_reads_no_record_twice_and_merges_nothing_again() {
    let directory = tempfile::tempdir().unwrap();
    let (corpus, expected) = filled(directory.path());
    let again = opened(directory.path(), &corpus.extent());
    assert_eq!(again.rebuilt, None);
    assert_eq!(fill(&again, &corpus, 5), 0);
    assert_eq!(answers(&again), expected);
    let Lookup::Complete { stored, .. } = again.tables.lookup(&view(0)) else { panic!("complete") };
    assert_eq!(again.store.load(&stored).unwrap().1, Made::Before);
}

/// A file of this name in its directory marks a process of the test below as the one to be killed.
const VICTIM: &str = "fill-until-killed";

fn fill_until_killed() {
    let corpus = Corpus::new(SMALL);
    let store = opened(Path::new("."), &corpus.extent());
    fill(&store, &corpus, 1);
    fs::write("filled", "").unwrap();
    std::thread::park();
}

#[test]
fn a_store_whose_writer_was_killed_goes_on_to_what_one_from_scratch_has() {
    const NAME: &str = "a_store_whose_writer_was_killed_goes_on_to_what_one_from_scratch_has";
    if Path::new(VICTIM).exists() {
        return fill_until_killed();
    }
    let scratch = tempfile::tempdir().unwrap();
    let (corpus, expected) = filled(scratch.path());
    let mut torn = 0;
    for round in 0_u64..6 {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(VICTIM), "").unwrap();
        let mut child = victim(NAME, directory.path());
        // The kill depends on the file's size, so that each round kills at another point of the filling.
        let enough = 20_000 + round * 40_000;
        let size = || fs::metadata(directory.path().join(FILE)).map_or(0, |it| it.len());
        while size() < enough && !directory.path().join("filled").exists() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let store = opened(directory.path(), &corpus.extent());
        let unread = fill(&store, &corpus, 5);
        torn += usize::from(unread > 0 && unread < corpus.records.len());
        drop(store);
        let store = opened(directory.path(), &corpus.extent());
        assert_eq!((store.rebuilt, fill(&store, &corpus, 5)), (None, 0), "round {round}");
        assert_eq!(answers(&store), expected, "round {round}");
    }
    println!("{torn} of 6 were killed with some of the records written");
}

#[test]
fn a_damaged_file_is_set_aside_or_answers_as_before() {
    let directory = tempfile::tempdir().unwrap();
    let (corpus, expected) = filled(directory.path());
    let good = fs::read(directory.path().join(FILE)).unwrap();
    let mut rebuilt = 0;
    let mut check = |bytes: &[u8], what: &str| {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), bytes).unwrap();
        let store = opened(directory.path(), &corpus.extent());
        if let Some(reason) = store.rebuilt {
            // A changed bit in the library's own version number means that another version wrote the file.
            assert!(matches!(reason, Rebuilt::Damaged | Rebuilt::Format), "{what}: {reason:?}");
            assert_eq!(names_of(directory.path(), "aside").len(), 1, "{what}");
            rebuilt += 1;
        }
        fill(&store, &corpus, 100);
        drop(store);
        assert_eq!(answers(&opened(directory.path(), &corpus.extent())), expected, "{what}");
    };
    for number in 0..120 {
        let at = if number < 40 { number * 8 } else { (number - 40) * good.len() / 80 + number % 7 };
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (number % 8);
        check(&bytes, &format!("bit {} of byte {at}", number % 8));
    }
    for number in 1..12 {
        let len = number * good.len() / 12;
        check(&good[..len], &format!("cut to {len}"));
    }
    check(&[], "empty");
    check(&[b'x'; 5_000], "something else");
    println!("{rebuilt} of 133 damaged files of {} bytes were set aside, the others gave the same answers", good.len());
    assert!(rebuilt > 20);
}

#[test]
fn what_is_not_of_these_topics_is_set_aside_and_two_of_them_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (corpus, expected) = filled(directory.path());
    let shorter: Vec<_> = corpus.extent().into_iter().map(|range| OffsetRange { end: 1, ..range }).collect();
    assert_eq!(opened(directory.path(), &shorter).rebuilt, Some(Rebuilt::Position), "made anew");
    fill(&opened(directory.path(), &corpus.extent()), &corpus, 100);
    let later: Vec<_> = corpus.extent().into_iter().map(|it| OffsetRange { begin: 90, end: 99, ..it }).collect();
    assert_eq!(opened(directory.path(), &later).rebuilt, Some(Rebuilt::Position), "deleted before it was read");

    let other = Origin { cluster: "another".into(), ..origin() };
    let store = open(directory.path(), &other, Trust::default(), &corpus.extent()).unwrap();
    assert_eq!(store.rebuilt, Some(Rebuilt::Origin));
    drop(store);
    let store = opened(directory.path(), &corpus.extent());
    assert_eq!(store.rebuilt, Some(Rebuilt::Origin));
    fill(&store, &corpus, 100);
    drop(store);
    assert_eq!(answers(&opened(directory.path(), &corpus.extent())), expected);
    assert!(names_of(directory.path(), "aside").len() <= 2);
}

#[test]
fn a_file_of_another_format_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let (corpus, _) = filled(directory.path());
    let database = redb::Database::create(directory.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("format", "0").unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(opened(directory.path(), &corpus.extent()).rebuilt, Some(Rebuilt::Format));
}

#[test]
fn a_damaged_merged_image_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (corpus, expected) = filled(directory.path());
    let merged = directory.path().join("merged");
    for (number, name) in names_of(&merged, "").iter().enumerate() {
        let mut bytes = fs::read(merged.join(name)).unwrap();
        let at = number * 997 % bytes.len();
        bytes[at] ^= 1;
        fs::write(merged.join(name), bytes).unwrap();
    }
    let store = opened(directory.path(), &corpus.extent());
    let Lookup::Complete { stored, .. } = store.tables.lookup(&view(0)) else { panic!("complete") };
    assert_eq!(store.store.load(&stored).unwrap().1, Made::Now);
    assert_eq!(answers(&store), expected);
}

#[test]
fn a_directory_that_cannot_be_used_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let extent = Corpus::default().extent();
    let first = opened(directory.path(), &extent);
    let second = open(directory.path(), &origin(), Trust::default(), &extent);
    assert!(matches!(second, Err(StoreError::Locked(_))), "{second:?}");
    let message = second.unwrap_err().to_string();
    assert!(message.contains("every instance needs a DRIFTLINE_STORE_DIR of its own"), "{message}");
    drop(first);
    let below_a_file = open(&directory.path().join(FILE), &origin(), Trust::default(), &extent);
    assert!(matches!(below_a_file, Err(StoreError::Io { .. })), "{below_a_file:?}");
}

#[test]
fn who_published_first_is_first_after_a_restart() {
    use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
    use driftline_schemas::{DiffId, Image, topics::Topic};
    let directory = tempfile::tempdir().unwrap();
    let diff_id = DiffId::from("sha256:a");
    let mut rows = Vec::new();
    let mut offset = 0;
    let mut push = |topic, value: Vec<u8>| {
        let (key, headers) = (None, Vec::new());
        rows.push(Row::of(driftline_kafka::Record {
            topic,
            partition: 0,
            offset,
            timestamp_ms: 0,
            key,
            value: Some(value),
            headers,
        }));
        offset += 1;
    };
    let image =
        Image { image_id: image_id(0), diff_ids: vec![diff_id.clone()], source: "node:z".into(), ..Image::default() };
    push(Topic::Images, driftline_schemas::encode(&image).unwrap());
    // node:z is the first publisher, also after it has repeated its publication.
    for (source, path) in [("node:z", "/true"), ("node:a", "/lie"), ("node:z", "/true")] {
        let entry = LayerEntry {
            path: path.into(),
            kind: EntryKind::File,
            mode: 0o755,
            size_bytes: 1,
            sha256: Some([1; 32]),
            target: None,
        };
        let layer = LayerManifest::new(vec![entry]).publish(&diff_id, source, 0).unwrap();
        push(Topic::ImageLayers, driftline_schemas::encode(&layer.chunks[0]).unwrap());
        push(Topic::ImageLayers, driftline_schemas::encode(&layer.head).unwrap());
    }
    let extent: Vec<_> = Corpus::default().extent().into_iter().map(|it| OffsetRange { end: 7, ..it }).collect();
    opened(directory.path(), &extent).store.write(&mut rows).unwrap();
    let store = opened(directory.path(), &extent);
    let Lookup::Complete { stored, conflict } = store.tables.lookup(&view(0)) else { panic!("complete") };
    assert!(conflict.is_some());
    assert!(Arc::new(store.store).load(&stored).unwrap().0.file(b"/true").is_some());
}
