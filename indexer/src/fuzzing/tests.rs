//! Replays `loadtest/fuzz/corpus/`, and checks that some inputs are accepted beyond the first byte.

use std::path::Path;

use super::{Candidate, Entry, Pieces, Wanted, choose};

/// The inputs of a target by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadtest/fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{}", directory.display());
    inputs
}

#[test]
fn every_layer_of_the_corpus_is_read_to_its_end() {
    for (name, input) in corpus("tar") {
        let read = super::read(&input);
        assert!(read.is_ok_and(|(_, manifest)| !manifest.entries().is_empty()), "{name}");
        super::tar(&input);
    }
    let (_, posix) = corpus("tar").into_iter().find(|(name, _)| name == "posix").unwrap();
    assert_eq!(super::files_by_the_crate(&posix).unwrap().len(), 2, "the second reader finds files");
}

#[test]
fn every_way_to_name_an_image_is_in_the_corpus() {
    let mut chosen = Vec::new();
    for (name, input) in corpus("documents") {
        let found = choose(&mut Pieces::of(&input), &Entry::Names, &Wanted::default());
        chosen.extend(found.map(|Candidate { layers, .. }| (name, layers.len())));
        super::documents(&input);
    }
    let names: Vec<_> = chosen.iter().map(|(name, layers)| (name.as_str(), *layers)).collect();
    assert_eq!(names, [("docker", 1), ("nested", 1), ("oci", 1)]);
}

#[test]
fn the_corpus_holds_for_chunks_and_registries() {
    corpus("chunks").iter().for_each(|(_, input)| super::chunks(input));
    corpus("registry").iter().for_each(|(_, input)| super::registry(input));
}
