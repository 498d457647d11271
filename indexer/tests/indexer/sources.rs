//! The same image in every form, and the merged index compared with the result of independent unpackers.

use std::path::Path;
use std::sync::Arc;

use driftline_enricher_core::image::merge;
use driftline_indexer::{Indexed, IndexedLayer, index_archive, index_layout};
use driftline_schemas::ImageId;

use crate::oci::{Entry, Layout, Stored, archive_of, directory, file, hard_link, layer, symlink, whiteout};
use crate::tools::{File, LANES, files_below, find, podman, run, skip, wanted};

/// An image that uses every rule of merging about which all unpackers agree.
pub(crate) fn write_image(layout: &Layout<'_>, middle_stored: Stored) -> ImageId {
    let noise: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let long = format!("opt/{}/{}", "n".repeat(120), "m".repeat(200));
    let lowest = layer(&[
        directory("usr"),
        directory("usr/bin"),
        file("usr/bin/busybox", &noise),
        hard_link("usr/bin/sh", "usr/bin/busybox"),
        symlink("bin", "usr/bin"),
        Entry("usr/bin/su".into(), b'0', 0o4755, b"setuid".to_vec()),
        file("etc/config", b"lowest"),
        file("etc/removed", b"removed"),
        file("opt/a/b/c", b"below the opaque directory"),
        file("opt/file-then-directory", b"file"),
        file("opt/directory-then-file/x", b"directory"),
        file("opt/whole/tree/gone", b"gone"),
        file(&long, b"long name"),
        Entry(b"opt/not-utf8-\xff\xfe".to_vec(), b'0', 0o600, b"name".to_vec()),
        Entry("dev/fifo".into(), b'6', 0o644, Vec::new()),
    ]);
    let twice = layer(&[file("twice", b"twice")]);
    let middle = layer(&[
        whiteout("etc/removed"),
        file("etc/config", b"middle"),
        directory("opt"),
        directory("opt/a"),
        Entry("opt/a/.wh..wh..opq".into(), b'0', 0o644, Vec::new()),
        file("opt/a/new", b"beside the opaque mark"),
        whiteout("opt/whole"),
        directory("opt/file-then-directory"),
        file("opt/file-then-directory/x", b"now below"),
        file("opt/directory-then-file", b"now a file"),
        file("opt/hard", b"hard"),
        hard_link("opt/linked", "opt/hard"),
    ]);
    let undone = layer(&[whiteout("twice")]);
    let highest = layer(&[
        directory("usr"),
        directory("usr/bin"),
        file("usr/bin/su", b"now without the bit"),
        whiteout("bin"),
        directory("bin"),
        file("bin/own", b"own"),
    ]);
    let (manifest, config) = layout.image(&[
        (lowest, Stored::Gzip),
        (twice.clone(), Stored::Plain),
        (middle, middle_stored),
        (undone, Stored::Gzip),
        (twice, Stored::Plain),
        (highest, Stored::Gzip),
    ]);
    layout.index(&[(&manifest, "example:1")]);
    ImageId::from(config.as_str())
}

fn open(path: &Path) -> std::fs::File {
    std::fs::File::open(path).unwrap()
}

pub(crate) fn merged_files(indexed: &Indexed) -> Vec<File> {
    let manifest = |diff_id: &driftline_schemas::DiffId| {
        indexed.layers.iter().find(|layer| layer.diff_id == *diff_id).unwrap().manifest.clone()
    };
    let layers: Vec<_> = indexed.image.diff_ids.iter().map(|diff_id| Arc::new(manifest(diff_id))).collect();
    let index = merge(&layers).unwrap();
    index.files().map(|file| (file.path.to_vec(), file.mode, file.sha256.to_string())).collect()
}

/// Both results describe the same content, to the byte.
#[track_caller]
pub(crate) fn check_same(form: &str, found: &Indexed, expect: &Indexed) {
    assert_eq!(found.image.image_id, expect.image.image_id, "{form}");
    assert_eq!(found.image.diff_ids, expect.image.diff_ids, "{form}");
    assert_eq!(found.image.volumes, ["/data"], "{form}");
    assert_eq!(found.layers.len(), expect.layers.len(), "{form}");
    for (found, expect) in found.layers.iter().zip(&expect.layers) {
        let bytes = |layer: &IndexedLayer| layer.manifest.publish(&layer.diff_id, "s", 0);
        assert_eq!(bytes(found), bytes(expect), "{form} {}", found.diff_id);
    }
}

#[test]
fn a_layout_and_its_archive_are_the_same_image() {
    let directory = tempfile::tempdir().unwrap();
    let want = write_image(&Layout(directory.path()), Stored::Zstd);
    let from_layout = index_layout(directory.path(), &wanted(Some(&want)), LANES).unwrap();
    assert_eq!((from_layout.image.diff_ids.len(), from_layout.layers.len()), (6, 5), "one layer occurs twice");
    assert_eq!(from_layout.image.references, ["example:1"]);
    assert_eq!(from_layout.image.platform.architecture, "amd64");
    check_same("without saying which", &index_layout(directory.path(), &wanted(None), LANES).unwrap(), &from_layout);
    let archive = archive_of(directory.path());
    check_same("archive", &index_archive(archive.as_slice(), &wanted(Some(&want))).unwrap(), &from_layout);
    let compressed = crate::oci::stored(&archive, Stored::Gzip);
    check_same("compressed archive", &index_archive(compressed.as_slice(), &wanted(None)).unwrap(), &from_layout);
}

#[test]
fn every_form_that_skopeo_writes_is_the_same_image() {
    const NAME: &str = "every_form_that_skopeo_writes_is_the_same_image";
    if let Err(reason) = find("skopeo") {
        return skip(NAME, &reason);
    }
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let want = write_image(&Layout(&layout), Stored::Gzip);
    let expect = index_layout(&layout, &wanted(Some(&want)), LANES).unwrap();
    let copy = |options: &[&str], to: &str| {
        let from = format!("oci:{}:example:1", layout.display());
        run("skopeo", &[&["--insecure-policy", "copy", "--quiet"], options, &[from.as_str(), to]].concat()).unwrap();
    };
    let at = |name: &str| directory.path().join(name);

    copy(&[], &format!("oci-archive:{}:example:1", at("oci.tar").display()));
    check_same("oci-archive", &index_archive(open(&at("oci.tar")), &wanted(Some(&want))).unwrap(), &expect);

    copy(&[], &format!("docker-archive:{}:example:1", at("docker.tar").display()));
    let docker = index_archive(open(&at("docker.tar")), &wanted(None)).unwrap();
    let plain = |indexed: &Indexed| indexed.image.diff_ids.clone();
    assert_eq!(plain(&docker), plain(&expect), "docker-archive");
    assert_eq!(docker.layers, expect.layers);
    assert_eq!(docker.image.references.len(), 1, "{:?}", docker.image.references);

    for format in ["gzip", "zstd"] {
        let to = at(format);
        let options = ["--dest-compress", "--dest-compress-format", format];
        copy(&options, &format!("oci:{}:example:1", to.display()));
        assert_eq!(index_layout(&to, &wanted(None), LANES).unwrap().layers, expect.layers, "{format}");
    }
}

#[test]
fn the_merged_index_is_what_umoci_unpacks() {
    const NAME: &str = "the_merged_index_is_what_umoci_unpacks";
    if let Err(reason) = find("umoci") {
        return skip(NAME, &reason);
    }
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let want = write_image(&Layout(&layout), Stored::Gzip);
    let bundle = directory.path().join("bundle");
    // umoci of Debian 12 reads gzip and plain layers only.
    let readable = directory.path().join("gzip");
    let (from, to) = (format!("oci:{}:example:1", layout.display()), format!("oci:{}:1", readable.display()));
    let copied = run(
        "skopeo",
        &["--insecure-policy", "copy", "--quiet", "--dest-compress", "--dest-compress-format", "gzip", &from, &to],
    );
    if let Err(reason) = copied {
        return skip(NAME, &reason);
    }
    let image = format!("{}:1", readable.display());
    if let Err(reason) = run("umoci", &["unpack", "--image", &image, &bundle.to_string_lossy()]) {
        return skip(NAME, &reason);
    }
    let indexed = index_layout(&layout, &wanted(Some(&want)), LANES).unwrap();
    assert_eq!(merged_files(&indexed), files_below(&bundle.join("rootfs")));
}

/// Removes an image of podman's store at the end.
struct Loaded(String);

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = podman(&["image", "unmount", &self.0]);
        let _ = podman(&["rmi", "--force", &self.0]);
    }
}

#[test]
fn the_merged_index_is_what_podman_mounts_and_its_export_the_same_image() {
    const NAME: &str = "the_merged_index_is_what_podman_mounts_and_its_export_the_same_image";
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let want = write_image(&Layout(&layout), Stored::Gzip);
    let expect = index_layout(&layout, &wanted(Some(&want)), LANES).unwrap();
    let archive = directory.path().join("oci.tar");
    std::fs::write(&archive, archive_of(&layout)).unwrap();
    let id = want.as_str().trim_start_matches("sha256:");
    if let Err(reason) = podman(&["load", "--quiet", "--input", &archive.to_string_lossy()]) {
        return skip(NAME, &reason);
    }
    let loaded = Loaded(id.to_owned());
    match podman(&["image", "mount", id]) {
        Ok(mounted) => assert_eq!(merged_files(&expect), files_below(Path::new(&mounted))),
        Err(reason) => skip(NAME, &reason),
    }
    for format in ["docker-archive", "oci-archive"] {
        let saved = run("podman", &["image", "save", "--quiet", "--format", format, id]).unwrap();
        let found = index_archive(saved.as_slice(), &wanted(None)).unwrap();
        assert_eq!(found.image.diff_ids, expect.image.diff_ids, "{format}");
        assert_eq!(found.layers, expect.layers, "{format}");
    }
    let saved = run("podman", &["image", "save", "--quiet", "--format", "docker-archive", id]).unwrap();
    check_same("podman's export", &index_archive(saved.as_slice(), &wanted(Some(&want))).unwrap(), &expect);
    drop(loaded);
}

/// podman pulls images with zstd layers but cannot write them as docker-archive.
#[test]
fn an_image_with_zstd_layers_is_read_from_podman_s_oci_archive() {
    const NAME: &str = "an_image_with_zstd_layers_is_read_from_podman_s_oci_archive";
    let directory = tempfile::tempdir().unwrap();
    let own = Layout(directory.path());
    let (manifest, config) = own.image(&[(layer(&[file("only/in/zstd", b"zstd")]), Stored::Zstd)]);
    own.index(&[(&manifest, "zstd:1")]);
    let expect = index_layout(directory.path(), &wanted(None), LANES).unwrap();
    let archive = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(archive.path(), archive_of(directory.path())).unwrap();
    if let Err(reason) = podman(&["load", "--quiet", "--input", &archive.path().to_string_lossy()]) {
        return skip(NAME, &reason);
    }
    let loaded = Loaded(config.trim_start_matches("sha256:").to_owned());
    let saved = run("podman", &["image", "save", "--quiet", "--format", "oci-archive", &loaded.0]).unwrap();
    let want = ImageId::from(config.as_str());
    check_same("oci-archive", &index_archive(saved.as_slice(), &wanted(Some(&want))).unwrap(), &expect);
}
