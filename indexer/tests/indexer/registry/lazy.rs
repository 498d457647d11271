//! Layers that can be fetched in parts, written by the tools that invented them: read whole, they equal the layers they
//! were made from.

use driftline_indexer::index_layout;
use driftline_schemas::Sha256;
use driftline_schemas::layer::EntryKind;
use serde_json::Value;

use super::server::{Auth, Registry};
use super::{check_same, index, noise, settings};
use crate::oci::{Layout, Stored, directory, file, layer, symlink, whiteout};
use crate::sources::merged_files;
use crate::tools::{LANES, or_skip, run, wanted};

/// skopeo 1.9.3 writes such layers. It hangs on streams without an end mark or with hard links.
#[test]
fn zstd_chunked_as_skopeo_makes_it_is_the_layer_it_was_made_of() {
    const NAME: &str = "zstd_chunked_as_skopeo_makes_it_is_the_layer_it_was_made_of";
    let (store, source, made) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let layout = Layout(source.path());
    let lower = layer(&[directory("usr"), file("usr/noise", &noise(300_000)), symlink("usr/link", "noise")]);
    let upper = layer(&[file("usr/upper", b"upper"), whiteout("usr/link"), file("empty", b"")]);
    let (manifest, _) = layout.image(&[(lower, Stored::Plain), (upper, Stored::Plain)]);
    layout.index(&[(&manifest, "app")]);
    let (from, to) = (format!("oci:{}:app", source.path().display()), format!("oci:{}:app", made.path().display()));
    let compress = ["--dest-compress", "--dest-compress-format", "zstd:chunked", &from, &to];
    let copied = run("timeout", &[&["60", "skopeo", "--insecure-policy", "copy", "--quiet"], &compress[..]].concat());
    let registry = copied.and_then(|_| Registry::start(store.path(), &Auth::Nobody, None)).and_then(|registry| {
        registry.fill(made.path(), "app", "chunked:1", &["--preserve-digests"]).map(|()| registry)
    });
    let Some(registry) = or_skip(NAME, registry) else { return };

    let read = |digest: &str| -> Value {
        serde_json::from_slice(&std::fs::read(Layout(made.path()).path(digest)).unwrap()).unwrap()
    };
    let top: Value = serde_json::from_slice(&std::fs::read(made.path().join("index.json")).unwrap()).unwrap();
    let manifest = read(top["manifests"][0]["digest"].as_str().unwrap());
    for stored in manifest["layers"].as_array().unwrap() {
        assert_eq!(stored["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
        assert!(stored["annotations"]["io.containers.zstd-chunked.manifest-position"].is_string(), "{stored}");
    }
    let config = manifest["config"]["digest"].as_str().unwrap();
    let reference = format!("127.0.0.1:{}/chunked:1", registry.port);
    let found = index(settings(registry.port, &[]), config, &reference).unwrap();
    check_same("zstd:chunked", &found, &index_layout(source.path(), &wanted(None), LANES).unwrap());
}

/// Example layer; see `testdata/README.md`.
const ESTARGZ: &[u8] = include_bytes!("../../testdata/estargz.tar.gz");
const ESTARGZ_DIFF_ID: &str = "sha256:ca88dfa2756a9a5aeb4e7be287c523364a57e273721db4b76c3b282cb0db5b6c";

#[test]
fn estargz_as_its_own_library_makes_it_is_read_as_gzip() {
    const NAME: &str = "estargz_as_its_own_library_makes_it_is_read_as_gzip";
    let (store, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let layout = Layout(source.path());
    let config = layout.json(&serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [ESTARGZ_DIFF_ID]},
    }));
    let manifest = layout.json(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config,
                   "size": std::fs::metadata(layout.path(&config)).unwrap().len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layout.blob(ESTARGZ),
                    "size": ESTARGZ.len()}],
    }));
    layout.index(&[(&manifest, "app")]);
    let registry = Registry::start(store.path(), &Auth::Nobody, None).and_then(|registry| {
        registry.fill(source.path(), "app", "estargz:1", &["--preserve-digests"]).map(|()| registry)
    });
    let Some(registry) = or_skip(NAME, registry) else { return };
    let reference = format!("127.0.0.1:{}/estargz:1", registry.port);
    let found = index(settings(registry.port, &[]), &config, &reference).unwrap();
    let entries = found.layers[0].manifest.entries();
    let of = |path: &[u8]| entries.iter().find(|entry| entry.path == path).unwrap();
    let large = Sha256::of(&b"0123456789abcdef".repeat(8_192));
    assert_eq!((of(b"/usr/bin/large").sha256, of(b"/usr/bin/large").size_bytes), (Some(large.0), 131_072));
    assert_eq!(of(b"/etc/config").sha256, Some(Sha256::of(b"config").0));
    assert_eq!(of(b"/usr/gone").kind, EntryKind::Whiteout);
    let kinds = [b"/usr/bin/link".as_slice(), b"/usr/bin/hard"].map(|path| of(path).kind);
    assert_eq!(kinds, [EntryKind::Symlink, EntryKind::Hardlink]);
    // Its landmark and its list of contents are files of the layer: a runtime that unpacks it has them, too.
    let files: Vec<_> = merged_files(&found).into_iter().map(|file| String::from_utf8(file.0).unwrap()).collect();
    for path in ["/.no.prefetch.landmark", "/stargz.index.json", "/usr/bin/hard"] {
        assert!(files.iter().any(|file| file == path), "{path} in {files:?}");
    }
}
