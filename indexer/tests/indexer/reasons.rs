//! Provokes every reason for which an image is refused. None is forgotten: [`name`] has no wildcard.

use std::collections::BTreeSet;
use std::io::{self, Read};

use driftline_indexer::{IndexError, Limit, index_archive, index_layout, limits};
use driftline_schemas::{ImageId, Sha256};
use serde_json::json;

use crate::oci::{Layout, Stored, archive_of, file, layer, stored};
use crate::tools::{LANES, wanted};

/// Reasons that no archive or layout of a size fit for a test can provoke, and where they are tested instead.
const ELSEWHERE: [(&str, &str); 7] = [
    ("Registry", "tests/indexer/registry.rs, by a registry that misbehaves"),
    ("Manifest", "schemas/src/layer.rs; Limit::ManifestBytes comes first"),
    ("LayerTime", "src/decode.rs, with a deadline in the past"),
    ("ManifestBytes", "src/tree/tests.rs, by 120 MB of paths"),
    ("Entries", "src/tree/tests.rs, by a million entries"),
    ("ArchiveEntries", "nowhere: three million entries in several layers take minutes"),
    ("Ratio", "tests/indexer/hostile.rs, by a bomb of 1.2 GB"),
];

/// The name of the variant.
fn name(error: &IndexError) -> &'static str {
    match error {
        IndexError::Read(_) => "Read",
        IndexError::Compression(_) => "Compression",
        IndexError::Tar(_) => "Tar",
        IndexError::Path { .. } => "Path",
        IndexError::Limit(limit) => limit_name(*limit),
        IndexError::Document { .. } => "Document",
        IndexError::NoImage => "NoImage",
        IndexError::NotFound { .. } => "NotFound",
        IndexError::Several(_) => "Several",
        IndexError::Digest { .. } => "Digest",
        IndexError::DiffId { .. } => "DiffId",
        IndexError::Size { .. } => "Size",
        IndexError::Schema1 => "Schema1",
        IndexError::LayerMissing(_) => "LayerMissing",
        IndexError::UnknownCompression(_) => "UnknownCompression",
        IndexError::Registry(_) => "Registry",
        IndexError::Manifest(_) => "Manifest",
    }
}

fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Entries => "Entries",
        Limit::ArchiveEntries => "ArchiveEntries",
        Limit::ManifestBytes => "ManifestBytes",
        Limit::LayerBytes => "LayerBytes",
        Limit::Ratio => "Ratio",
        Limit::ExtensionBytes => "ExtensionBytes",
        Limit::SparseParts => "SparseParts",
        Limit::JsonBytes => "JsonBytes",
        Limit::JsonTotalBytes => "JsonTotalBytes",
        Limit::Members => "Members",
        Limit::Manifests => "Manifests",
        Limit::LayerTime => "LayerTime",
        Limit::Layers => "Layers",
        Limit::PathBytes => "PathBytes",
    }
}

/// Every name that [`name`] and [`limit_name`] can return.
const ALL: [&str; 30] = [
    "ArchiveEntries",
    "Compression",
    "DiffId",
    "Digest",
    "Document",
    "Entries",
    "ExtensionBytes",
    "JsonBytes",
    "JsonTotalBytes",
    "LayerBytes",
    "LayerMissing",
    "LayerTime",
    "Layers",
    "Manifest",
    "ManifestBytes",
    "Manifests",
    "Members",
    "NoImage",
    "NotFound",
    "Path",
    "PathBytes",
    "Ratio",
    "Read",
    "Registry",
    "Schema1",
    "Several",
    "Size",
    "SparseParts",
    "Tar",
    "UnknownCompression",
];

/// A member with a header that `tar`'s builder would not write.
fn member(kind: u8, size: u64, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[0] = b'a';
    header.as_old_mut().linkflag = [kind];
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    [header.as_bytes(), data, &vec![0; data.len().next_multiple_of(512) - data.len()]].concat()
}

/// The error of a layout.
fn layout(write: impl Fn(&Layout<'_>) -> Option<ImageId>) -> IndexError {
    let directory = tempfile::tempdir().unwrap();
    let want = write(&Layout(directory.path()));
    index_layout(directory.path(), &wanted(want.as_ref()), LANES).unwrap_err()
}

/// The error of a layout of one image with this one plain layer.
fn of_layer(tar: &[u8]) -> IndexError {
    layout(|layout| {
        let (manifest, _) = layout.image(&[(tar.to_vec(), Stored::Plain)]);
        layout.index(&[(&manifest, "x")]);
        None
    })
}

/// The error of a layout of one image whose one layer is this blob, of this size by its manifest.
fn of_blob(blob: &[u8], size: usize) -> IndexError {
    layout(|layout| {
        let config = layout.json(&json!({"rootfs": {"diff_ids": [Sha256::of(b"").to_digest()]}}));
        let layers = json!([{"digest": layout.blob(blob), "size": size}]);
        let manifest = layout.json(&json!({"config": {"digest": config}, "layers": layers}));
        layout.index(&[(&manifest, "x")]);
        None
    })
}

/// The error of a layout with this index.
fn of_index(index: &str) -> IndexError {
    layout(|layout| {
        std::fs::write(layout.0.join("index.json"), index).unwrap();
        None
    })
}

fn of_archive(archive: impl Read) -> IndexError {
    index_archive(archive, &wanted(None)).unwrap_err()
}

fn repeated(member: &[u8], times: usize) -> Repeated<'_> {
    Repeated { member, times, at: 0 }
}

/// Repeated members, never in memory together.
struct Repeated<'a> {
    member: &'a [u8],
    times: usize,
    at: usize,
}

impl Read for Repeated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.member.len() {
            (self.at, self.times) = (0, self.times - 1);
        }
        if self.times == 0 {
            return Ok(0);
        }
        let read = (&self.member[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

fn wrong_content(blobs: &Layout<'_>, diff_ids: &[String]) {
    let (manifest, _) = blobs.image_with(&[(layer(&[file("a", b"a")]), Stored::Gzip)], diff_ids);
    blobs.index(&[(&manifest, "x")]);
}

fn documents() -> Vec<IndexError> {
    let digest = Sha256::of(b"").to_digest();
    let absent = json!({"digest": digest}).to_string();
    let many = format!(r#"{{"manifests":[{}]}}"#, vec![absent; limits::MANIFESTS_MAX + 1].join(","));
    let other = ImageId::from(digest.as_str());
    vec![
        of_index(r#"{"manifests":7}"#),
        of_index(r#"{"schemaVersion":1}"#),
        of_index(&many),
        of_index(&" ".repeat(5 << 20)),
        layout(|_| None),
        layout(|layout| {
            wrong_content(layout, std::slice::from_ref(&digest));
            Some(other.clone())
        }),
        layout(|layout| {
            let image = |name| layout.image(&[(layer(&[file(name, b"")]), Stored::Plain)]).0;
            layout.index(&[(&image("a"), "x"), (&image("b"), "y")]);
            None
        }),
        layout(|layout| {
            wrong_content(layout, &vec![digest.clone(); 501]);
            None
        }),
    ]
}

fn contents() -> Vec<IndexError> {
    let good = layer(&[file("a", b"a")]);
    let mut gzip = stored(&good, Stored::Gzip);
    gzip[12] ^= 0xff;
    vec![
        layout(|layout| {
            wrong_content(layout, &[Sha256::of(b"").to_digest()]);
            None
        }),
        layout(|layout| {
            let (manifest, _) = layout.image(&[(good.clone(), Stored::Plain)]);
            layout.index(&[(&manifest, "x")]);
            layout.blob_as(&Sha256::of(&good).to_digest(), &layer(&[file("a", b"b")]));
            None
        }),
        layout(|layout| {
            let (manifest, _) = layout.image(&[(good.clone(), Stored::Plain)]);
            layout.index(&[(&manifest, "x")]);
            std::fs::remove_file(layout.path(&Sha256::of(&good).to_digest())).unwrap();
            None
        }),
        of_blob(&good, good.len() + 1),
        of_blob(&gzip, gzip.len()),
        of_blob(b"BZh91AY&SY", 10),
    ]
}

fn layers() -> Vec<IndexError> {
    let holes = member(b'S', 0, &[]);
    let sparse = |size: u64| {
        let mut header = tar::Header::from_byte_slice(&holes).clone();
        let in_binary = [[0x80, 0, 0, 0].as_slice(), &size.to_be_bytes()].concat();
        header.as_gnu_mut().unwrap().realsize.copy_from_slice(&in_binary);
        header.set_cksum();
        header
    };
    let mut parts = sparse(0);
    parts.as_gnu_mut().unwrap().isextended = [1];
    parts.set_cksum();
    // Each block of the map has 21 parts, here all of them empty, and announces another block.
    let mut block = [b'0'; 512];
    block[504] = 1;
    let map = block.repeat(limits::SPARSE_PARTS_MAX / 21 + 1);
    vec![
        of_layer(&layer(&[file("d/.wh.", b"")])),
        of_layer(&layer(&[file(&"n/".repeat(2_100), b"")])),
        of_layer(&member(b'M', 0, &[])),
        of_layer(&member(b'x', limits::EXTENSION_BYTES_MAX + 1, &[])),
        of_layer(sparse(limits::LAYER_BYTES_MAX + 1).as_bytes()),
        // The members are too long together, though each of them is not.
        of_layer(&[member(b'0', 1, b"a").as_slice(), sparse(limits::LAYER_BYTES_MAX).as_bytes()].concat()),
        of_layer(&[parts.as_bytes().as_slice(), &map].concat()),
    ]
}

fn archives() -> Vec<IndexError> {
    let good = archive_of(tempfile::tempdir().unwrap().path());
    let json = [b"[", " ".repeat((4 << 20) - 2).as_bytes(), b"]"].concat();
    vec![
        of_archive(&member(b'0', 5_000, &good)[..700]),
        of_archive(repeated(&member(b'5', 0, &[]), limits::MEMBERS_MAX + 1)),
        of_archive(repeated(&member(b'0', json.len() as u64, &json), 17)),
    ]
}

#[test]
fn every_reason_is_provoked_by_an_image() {
    let errors = Vec::from_iter([documents(), contents(), layers(), archives()].into_iter().flatten());
    let provoked: BTreeSet<&str> = errors.iter().map(name).collect();
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(name, _)| *name).collect();
    assert!(provoked.is_disjoint(&elsewhere), "{provoked:?}");
    let both: Vec<&str> = provoked.union(&elsewhere).copied().collect();
    assert_eq!(both, ALL, "{errors:#?}");
}
