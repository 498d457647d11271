use std::os::unix::fs::symlink;

use driftline_schemas::layer::LayerEntry;
use rustix::fs::{XattrFlags, makedev, mkfifoat, mknodat, setxattr};

use super::*;

/// A directory as overlayfs has it. Where devices cannot be created, returns `None` and records the test as skipped.
fn directory(test: &str) -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir().unwrap();
    let device = directory.path().join("device");
    if let Err(error) = mknodat(CWD, &device, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)) {
        println!("skipped {test}: whiteouts cannot be made: {error}");
        return None;
    }
    std::fs::remove_file(device).unwrap();
    Some(directory)
}

fn read(root: &Path) -> Result<Unpacked, IndexError> {
    read_directory(root, &[])
}

fn set(path: &Path, name: &str, value: &str) {
    setxattr(path, name, value.as_bytes(), XattrFlags::empty()).unwrap();
}

fn shown(entry: &LayerEntry) -> String {
    let target = entry.target.as_deref().map(|target| format!(" > {}", target.escape_ascii())).unwrap_or_default();
    format!("{:?} {}{target}", entry.kind, entry.path.escape_ascii())
}

#[test]
fn everything_a_layer_can_have_is_seen_and_nothing_is_followed() {
    let Some(layer) = directory("everything_a_layer_can_have_is_seen_and_nothing_is_followed") else { return };
    let at = |path: &str| layer.path().join(path);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"outside").unwrap();
    for path in ["a", "a-b", "opaque"] {
        std::fs::create_dir(at(path)).unwrap();
    }
    std::fs::write(at("a/z"), b"linked").unwrap();
    std::fs::hard_link(at("a/z"), at("a-b/first-by-bytes-only")).unwrap();
    std::fs::write(at("file"), b"file").unwrap();
    symlink(outside.path(), at("out")).unwrap();
    symlink(outside.path().join("secret"), at("secret")).unwrap();
    mkfifoat(CWD, at("fifo"), Mode::RUSR).unwrap();
    mknodat(CWD, at("gone"), FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
    mknodat(CWD, at("null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    set(&at("opaque"), XATTR_OPAQUE, "y");

    let read = read(layer.path()).unwrap();
    let out = outside.path().to_str().unwrap();
    let found: Vec<String> = read.manifest.entries().iter().map(shown).collect();
    let expect = [
        "Directory /a".to_owned(),
        "Directory /a-b".to_owned(),
        "Hardlink /a-b/first-by-bytes-only > /a/z".to_owned(),
        "File /a/z".to_owned(),
        "Device /fifo".to_owned(),
        "File /file".to_owned(),
        "Whiteout /gone".to_owned(),
        "Device /null".to_owned(),
        "Directory /opaque".to_owned(),
        "Opaque /opaque".to_owned(),
        format!("Symlink /out > {out}"),
        format!("Symlink /secret > {out}/secret"),
        "Device /socket".to_owned(),
    ];
    assert_eq!(found, expect);
    let file = read.manifest.entries().iter().find(|entry| entry.path == b"/file").unwrap();
    assert_eq!((file.size_bytes, file.sha256), (4, Some(Sha256::of(b"file").0)));
    assert_eq!(read.bytes, 10);
}

#[test]
fn what_was_worked_in_or_cannot_be_told_is_refused() {
    let Some(layer) = directory("what_was_worked_in_or_cannot_be_told_is_refused") else { return };
    let refused = |root: &Path| read(root).unwrap_err().to_string();
    let cases = [
        (XATTR_OPAQUE, "x", "whiteouts of an unknown form: \"a\""),
        ("trusted.overlay.redirect", "/elsewhere", "not a layer as it was unpacked: overlayfs has worked in it: \"a\""),
    ];
    for (name, value, expect) in cases {
        let root = layer.path().join(value.trim_start_matches('/'));
        std::fs::create_dir_all(root.join("a")).unwrap();
        set(&root.join("a"), name, value);
        assert_eq!(refused(&root), expect);
    }
    let root = layer.path().join("copied-up");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("b"), b"").unwrap();
    set(&root.join("b"), "trusted.overlay.metacopy", "");
    assert_eq!(refused(&root), "not a layer as it was unpacked: overlayfs has worked in it: \"b\"");
    let root = layer.path().join("named");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join(".wh.c"), b"").unwrap();
    assert_eq!(refused(&root), "an unpacked layer has a file with the name of a whiteout: \".wh.c\"");
    let missing = refused(&layer.path().join("missing"));
    assert!(missing.contains("containerd's root has to be here at the same path"), "{missing}");
    let stopped = read_directory(layer.path(), &[&AtomicBool::new(true)]).unwrap_err().to_string();
    assert_eq!(stopped, "cannot read the image: the indexer stops");
}

/// The example of the OCI image specification's rule: the digest of the chain below and the diff_id, with a space.
#[test]
fn a_chain_id_is_that_of_the_chain_below_and_the_layer() {
    let (a, b) = (DiffId::from("sha256:aa"), DiffId::from("sha256:bb"));
    assert_eq!(chain_id(std::slice::from_ref(&a)), "sha256:aa");
    assert_eq!(chain_id(&[a, b]), Sha256::of(b"sha256:aa sha256:bb").to_digest());
}
