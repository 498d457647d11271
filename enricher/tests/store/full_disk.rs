//! A store directory on a disk without room, a small tmpfs, which only root may mount; and a store that has reached its
//! bound.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use driftline_enricher::store::{Failure, News, Opened, Rebuilt, Row, StoreError};
use driftline_enricher_core::tables::Lookup;

use super::corpus::{Corpus, Size, view};
use super::{SMALL, answers, fill, filled, names_of, opened};

/// A mounted tmpfs; dropping it unmounts it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts the disk; `None` where mounting is not possible.
    fn mount(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|it| it.status.success()).then(|| Self(at.to_owned()))
    }

    fn fill(&self) {
        assert!(fs::write(self.0.join("filler"), vec![1; 1 << 20]).is_err(), "more than there is room for");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Writes all records again from the beginning, and then puts back the chunks that the images need.
fn read_again(opened: &mut Opened, corpus: &Corpus) {
    let mut rows: Vec<Row> = corpus.records.iter().cloned().map(Row::of).collect();
    opened.store.write(&mut rows).unwrap();
    let chunk = |row: &Row| match row.news {
        News::CollectedChunk { manifest, index } => Some((manifest, index)),
        _ => None,
    };
    let places: Vec<_> = rows.iter().filter_map(chunk).collect();
    let is_chunk = |row: &Row| matches!(row.news, News::Chunk { .. });
    let chunks: Vec<Row> = corpus.records.iter().cloned().map(Row::of).filter(is_chunk).collect();
    assert_eq!(places.len(), chunks.len(), "memory holds no bytes that nobody needs");
    let manifests: BTreeSet<_> = places.iter().map(|(manifest, _)| *manifest).collect();
    assert_eq!(opened.store.collected(&manifests).unwrap().len(), chunks.len(), "and knows where they are");
    assert_eq!(opened.store.put_back(chunks).unwrap().len(), places.len());
    assert_eq!(opened.store.forget_collected(&manifests).unwrap(), BTreeSet::new());
}

/// The index of every image from the store `of`, looked up in the tables of `tables`.
fn indexes(of: &Opened, tables: &Opened) -> Vec<Option<Vec<u8>>> {
    let load = |number| match tables.tables.lookup(&view(number)) {
        Lookup::Complete { stored, .. } => Some(of.store.load(&stored).unwrap().0.as_bytes().to_vec()),
        _ => None,
    };
    (0..SMALL.images).map(load).collect()
}

#[test]
fn a_start_on_a_full_disk_answers_from_memory() {
    let (scratch, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(disk) = SmallDisk::mount(directory.path()) else {
        println!("not run: mounting a tmpfs needs root");
        return;
    };
    disk.fill();
    let (corpus, expected) = filled(scratch.path());
    for start in 0..2 {
        let mut store = opened(directory.path(), &corpus.extent());
        assert_eq!((store.store.failure(), store.rebuilt), (Some(Failure::NoRoom), None), "start {start}");
        assert_eq!(store.ranges, corpus.extent(), "everything is read from the topics");
        read_again(&mut store, &corpus);
        assert_eq!(indexes(&store, &opened(scratch.path(), &corpus.extent())), expected);
        assert!(
            names_of(directory.path(), "images.redb").is_empty(),
            "a part of a file would be taken for a damaged one"
        );
    }
    drop(disk);
}

#[test]
fn a_store_that_fails_goes_on_in_memory_and_the_next_start_fills_a_new_one() {
    let (scratch, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (corpus, expected) = filled(scratch.path());
    for (error, failure) in [
        (StoreError::Limit(1), Failure::Limit),
        (StoreError::Stopped("it stopped".into()), Failure::Unwritable),
        (StoreError::Unusable { rebuilt: Rebuilt::Damaged, why: "nonsense".into() }, Failure::Damaged),
    ] {
        let mut store = opened(directory.path(), &corpus.extent());
        fill(&store, &corpus, 5);
        assert_eq!(store.store.leave_disk(&error).unwrap(), failure);
        read_again(&mut store, &corpus);
        assert_eq!(indexes(&store, &opened(scratch.path(), &corpus.extent())), expected);
        drop(store);
        let next = opened(directory.path(), &corpus.extent());
        assert_eq!((next.store.failure(), next.rebuilt), (None, None));
        assert_eq!(fill(&next, &corpus, 5), corpus.records.len(), "a new file");
        assert_eq!(answers(&next).len(), SMALL.images);
    }
    assert_eq!(names_of(directory.path(), "aside").len(), 1, "the damaged one is kept to be looked at");
}

#[test]
fn beyond_its_bound_a_store_takes_places_only_and_what_images_need_has_it_leave_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let corpus = Corpus::new(SMALL);
    let Opened { store, tables, ranges, rebuilt } = opened(directory.path(), &corpus.extent());
    let mut bounded = Opened { store: store.bounded(1), tables, ranges, rebuilt };
    let mut rows: Vec<Row> = corpus.records.iter().cloned().map(Row::of).collect();
    bounded.store.write(&mut rows).unwrap();
    assert!(!rows.iter().any(|row| matches!(row.news, News::Chunk { .. })), "no bytes of chunks");
    let chunks = corpus.records.iter().cloned().map(Row::of).filter(|row| matches!(row.news, News::Chunk { .. }));
    let refused = bounded.store.put_back(chunks.collect()).unwrap_err();
    assert!(refused.to_string().contains("DRIFTLINE_STORE_MAX_MB"), "{refused}");
    assert_eq!(bounded.store.leave_disk(&refused).unwrap(), Failure::Limit);
    read_again(&mut bounded, &corpus);
}

#[test]
fn at_its_bound_a_store_uses_what_was_collected() {
    let directory = tempfile::tempdir().unwrap();
    let size = Size { images: 40, bases: 1, files_of_base: 10, files_of_image: 4_000 };
    let corpus = Corpus::new(size);
    let store = opened(directory.path(), &corpus.extent());
    fill(&store, &corpus, 5);
    let bytes = store.store.disk_bytes().unwrap();
    assert!(bytes > 8 << 20, "{bytes}: shorter files stay as they are");
    let bounded = store.store.bounded(bytes);
    let rows = || corpus.records.iter().cloned().map(Row::of);
    let manifests: Vec<_> = rows().filter_map(|row| crate::collection::manifest_of(&row)).collect();
    let gone: Vec<_> = manifests.iter().copied().collect::<BTreeSet<_>>().into_iter().take(30).collect();
    bounded.collect(&gone).unwrap();
    assert!(bounded.disk_bytes().unwrap() >= bytes, "the file is as long as before");
    let needed = |row: &Row| crate::collection::manifest_of(row).is_some_and(|it| gone[..5].contains(&it));
    assert!(!bounded.put_back(rows().filter(needed).collect()).unwrap().is_empty());
    let shorter = bounded.disk_bytes().unwrap();
    println!("{bytes} bytes at the bound, {shorter} after room was made");
    assert!(shorter < bytes / 2, "{shorter}");
}
