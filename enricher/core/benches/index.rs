//! Measures what one exec looks up in the merged index of an image with 100,000 files: by path, and by content.
#![allow(
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark fails by panicking; criterion's macros are undocumented"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use driftline_enricher_core::image::{ImageIndex, merge};
use driftline_schemas::Sha256;
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};

const FILES: usize = 100_000;

/// Distance between successive lookups: a prime, so that consecutive lookups are not neighbours in memory.
const STRIDE: usize = 7_919;

fn path(number: usize) -> Vec<u8> {
    format!("/usr/share/package-{}/files/{number:06}.so", number % 997).into_bytes()
}

fn image() -> ImageIndex {
    let file = |number: usize| LayerEntry {
        path: path(number),
        kind: EntryKind::File,
        mode: 0o755,
        size_bytes: 1_000,
        sha256: Some(Sha256::of(&number.to_le_bytes()).0),
        target: None,
    };
    let link = LayerEntry {
        path: b"/lib".to_vec(),
        kind: EntryKind::Symlink,
        mode: 0o777,
        size_bytes: 0,
        sha256: None,
        target: Some(b"usr/share".to_vec()),
    };
    let entries = (0..FILES).map(file).chain([link]).collect();
    merge(&[Arc::new(LayerManifest::new(entries))]).unwrap_or_else(|error| unreachable!("{error}"))
}

fn lookups(criterion: &mut Criterion) {
    let index = image();
    let asked: Vec<(Vec<u8>, Sha256)> = (0..FILES)
        .map(|number| number.wrapping_mul(STRIDE) % FILES)
        .map(|number| (path(number), Sha256::of(&number.to_le_bytes())))
        .collect();
    let linked: Vec<Vec<u8>> = asked.iter().map(|(path, _)| [b"/lib", &path[b"/usr/share".len()..]].concat()).collect();
    let mut group = criterion.benchmark_group("index of 100,000 files");
    let mut next = asked.iter().cycle();
    group.bench_function("by path", |b| b.iter(|| next.next().map(|(path, _)| black_box(index.file(path).is_some()))));
    let mut next = asked.iter().cycle();
    group.bench_function("by content", |b| {
        b.iter(|| next.next().map(|(_, sha)| black_box(index.path_of(sha).is_some())))
    });
    let mut next = linked.iter().cycle();
    group.bench_function("through a symlink", |b| b.iter(|| next.next().map(|p| black_box(index.file(p).is_some()))));
    group.bench_function("a path it lacks", |b| {
        b.iter(|| black_box(index.file(black_box(b"/usr/bin/not-there")).is_none()))
    });
    group.finish();
}

criterion_group!(benches, lookups);
criterion_main!(benches);
