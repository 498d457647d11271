//! Images whose content contradicts their digests, or is too large: each is refused with its reason.

use std::path::Path;

use driftline_indexer::{IndexError, Indexed, Limit, index_archive, index_layout};
use driftline_schemas::{ImageId, Sha256};
use serde_json::json;

use crate::oci::{Layout, Stored, archive_of, file, layer};
use crate::tools::{LANES, wanted};

/// Writes a layout, then indexes it as directory and as archive: both must give the same result.
#[track_caller]
fn check(write: impl Fn(&Layout<'_>) -> Option<ImageId>, why: &str) {
    let directory = tempfile::tempdir().unwrap();
    let want = write(&Layout(directory.path()));
    let refused = |form: &str, found: Result<Indexed, IndexError>| {
        let error = found.map(|_| ()).expect_err(form).to_string();
        assert!(error.contains(why), "{form}: {why} in {error}");
    };
    refused("layout", index_layout(directory.path(), &wanted(want.as_ref()), LANES));
    refused("archive", index_archive(archive_of(directory.path()).as_slice(), &wanted(want.as_ref())));
}

fn one_file() -> Vec<u8> {
    layer(&[file("a", b"a")])
}

#[test]
fn a_blob_that_is_not_what_its_name_says_is_refused() {
    check(
        |layout| {
            let (manifest, _) = layout.image(&[(one_file(), Stored::Plain)]);
            layout.index(&[(&manifest, "x")]);
            layout.blob_as(&Sha256::of(&one_file()).to_digest(), &layer(&[file("a", b"b")]));
            None
        },
        "a blob has digest",
    );
    check(
        |layout| {
            let (manifest, config) = layout.image(&[(one_file(), Stored::Gzip)]);
            layout.index(&[(&manifest, "x")]);
            layout.blob_as(&config, br#"{"rootfs":{"diff_ids":[]}}"#);
            None
        },
        "a blob has digest",
    );
}

#[test]
fn a_layer_that_is_not_the_config_s_is_refused() {
    check(
        |layout| {
            let wrong = Sha256::of(b"wrong").to_digest();
            let (manifest, config) = layout.image_with(&[(one_file(), Stored::Gzip)], &[wrong]);
            layout.index(&[(&manifest, "x")]);
            Some(ImageId::from(config.as_str()))
        },
        "layer 0 has diff_id",
    );
    check(
        |layout| {
            let (manifest, _) = layout.image_with(&[(one_file(), Stored::Gzip)], &[]);
            layout.index(&[(&manifest, "x")]);
            None
        },
        "the config has 0 layers, the manifest 1",
    );
}

#[test]
fn an_image_that_is_not_there_is_not_found() {
    let other = ImageId::from(Sha256::of(b"other").to_digest().as_str());
    check(
        |layout| {
            let (manifest, _) = layout.image(&[(one_file(), Stored::Plain)]);
            layout.index(&[(&manifest, "x")]);
            Some(other.clone())
        },
        "is not in it, but sha256:",
    );
    check(
        |layout| {
            let first = layout.image(&[(one_file(), Stored::Plain)]).0;
            let second = layout.image(&[(layer(&[file("b", b"b")]), Stored::Plain)]).0;
            layout.index(&[(&first, "x"), (&second, "y")]);
            None
        },
        "name the image that is meant",
    );
    check(
        |layout| {
            std::fs::create_dir_all(layout.0).unwrap();
            None
        },
        "no image in it",
    );
}

#[test]
fn one_of_several_images_is_chosen_by_its_id() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout(directory.path());
    let first = layout.image(&[(one_file(), Stored::Plain)]);
    let second = layout.image(&[(layer(&[file("b", b"b")]), Stored::Zstd)]);
    layout.index(&[(&first.0, "x"), (&second.0, "y"), (&second.0, "z")]);
    let want = ImageId::from(second.1.as_str());
    let archive = archive_of(directory.path());
    for found in [
        index_layout(directory.path(), &wanted(Some(&want)), LANES),
        index_archive(archive.as_slice(), &wanted(Some(&want))),
    ] {
        let found = found.unwrap();
        assert_eq!(found.image.references, ["y", "z"]);
        assert_eq!(found.layers[0].manifest.entries()[0].path, b"/b");
    }
}

#[test]
fn a_missing_layer_is_named() {
    check(
        |layout| {
            let (manifest, _) = layout.image(&[(one_file(), Stored::Plain)]);
            layout.index(&[(&manifest, "x")]);
            std::fs::remove_file(layout.path(&Sha256::of(&one_file()).to_digest())).unwrap();
            None
        },
        "is not in it",
    );
}

#[test]
fn odd_layers_are_refused_with_their_reason() {
    let refused = |content: &[u8], why: &str| {
        check(
            |layout| {
                let tar = (content.to_vec(), Stored::Plain);
                let (manifest, config) = layout.image(&[tar]);
                layout.index(&[(&manifest, "x")]);
                Some(ImageId::from(config.as_str()))
            },
            why,
        );
    };
    refused(b"BZh91AY&SY, or anything else", "neither tar nor gzip nor zstd");
    refused(&layer(&[file("d/.wh.", b"")]), "a whiteout hides nothing");
    refused(&layer(&[file("a", b""), file("a/b", b"")]), "below a file");
    let mut cut = layer(&[file("a", &[1; 10_000])]);
    cut.truncate(5_000);
    refused(&cut, "cut off");
    let mut wrong = one_file();
    wrong[600] ^= 1;
    wrong.truncate(1_024);
    wrong.extend_from_slice(&[7; 512]);
    refused(&wrong, "checksum mismatch");
}

/// The tar crate cannot write a member whose path leaves the layer.
#[test]
fn paths_that_leave_the_layer_are_refused() {
    let mut tar = one_file();
    tar[..8].copy_from_slice(b"../../xy");
    let sum: u32 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(tar[at]) }).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    check(
        |layout| {
            let (manifest, _) = layout.image(&[(tar.clone(), Stored::Gzip)]);
            layout.index(&[(&manifest, "x")]);
            None
        },
        "'..'",
    );
}

#[test]
fn a_decompression_bomb_is_stopped() {
    let zeros = zstd::Encoder::new(Vec::new(), 1).and_then(|mut encoder| {
        let header = layer(&[file("a", &[])]);
        std::io::Write::write_all(&mut encoder, &header[..512])?;
        let block = vec![0; 1 << 20];
        for _ in 0..1_200 {
            std::io::Write::write_all(&mut encoder, &block)?;
        }
        encoder.finish()
    });
    let bomb = zeros.unwrap();
    assert!(bomb.len() < 1 << 20);
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout(directory.path());
    let blob = layout.blob(&bomb);
    let config = layout.json(&json!({"rootfs": {"diff_ids": [Sha256::of(b"").to_digest()]}}));
    let manifest = layout.json(&json!({"config": {"digest": config}, "layers": [{"digest": blob}]}));
    layout.index(&[(&manifest, "x")]);
    let error = index_layout(directory.path(), &wanted(None), LANES).unwrap_err();
    assert!(matches!(error, IndexError::Limit(Limit::Ratio)), "{error}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with(PEAK)).unwrap());
}

/// The kernel's name for the peak memory of a process.
const PEAK: &str = "VmHWM:";

/// Runs alone in a process, so that no other test uses its memory.
#[test]
fn a_decompression_bomb_takes_no_memory() {
    let mut bomb = std::process::Command::new(std::env::current_exe().unwrap());
    bomb.args(["--exact", "hostile::a_decompression_bomb_is_stopped", "--nocapture"]);
    let output = bomb.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let peak = text.lines().find_map(|line| line.split_once(PEAK)?.1.trim().strip_suffix(" kB"));
    let peak_kib: u64 = peak.and_then(|peak| peak.parse().ok()).expect(&text);
    assert!(output.status.success() && peak_kib < 64 * 1024, "{peak_kib} KiB");
    println!("peak {peak_kib} KiB");
}

#[test]
fn documents_that_are_too_long_nested_or_odd_are_refused() {
    check(
        |layout| {
            std::fs::write(layout.0.join("index.json"), format!("{{\"x\":\"{}\"}}", "y".repeat(5 << 20))).unwrap();
            None
        },
        "longer than 4194304",
    );
    check(
        |layout| {
            let mut inner = layout.json(&json!({"manifests": []}));
            for _ in 0..6 {
                let media_type = "application/vnd.oci.image.index.v1+json";
                inner = layout.json(&json!({"manifests": [{"mediaType": media_type, "digest": inner}]}));
            }
            std::fs::copy(layout.path(&inner), layout.0.join("index.json")).unwrap();
            None
        },
        "nested too deeply",
    );
    for (index, why) in [
        (r#"{"manifests":[{"digest":"sha256:../../../etc/passwd"}]}"#, "not a sha256 digest"),
        (r#"{"manifests":[{"digest":"md5:00"}]}"#, "not a sha256 digest"),
        (r#"{"manifests":7}"#, "index.json"),
        (r#"{"manifests":[]}"#, "no image in it"),
    ] {
        check(
            |layout| {
                std::fs::write(layout.0.join("index.json"), index).unwrap();
                None
            },
            why,
        );
    }
}

#[test]
fn a_docker_archive_whose_config_was_changed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let good = json!({"rootfs": {"diff_ids": []}}).to_string();
    let want = ImageId::from(Sha256::of(good.as_bytes()).to_digest().as_str());
    let name = format!("{}.json", want.as_str().trim_start_matches("sha256:"));
    std::fs::write(directory.path().join(&name), good.replace("[]", "[ ]")).unwrap();
    let manifest = json!([{"Config": name, "RepoTags": null, "Layers": []}]);
    std::fs::write(directory.path().join("manifest.json"), manifest.to_string()).unwrap();
    let error = index_archive(archive_of(directory.path()).as_slice(), &wanted(Some(&want))).unwrap_err();
    assert!(error.to_string().contains("the config has digest"), "{error}");
}

#[test]
fn a_layout_with_something_else_in_place_of_a_file_is_refused() {
    check_layout(|root| std::fs::create_dir(root.join("index.json")).unwrap(), "not a regular file");
    check_layout(
        |root| std::os::unix::fs::symlink("/dev/zero", root.join("index.json")).unwrap(),
        "not a regular file",
    );
}

#[track_caller]
fn check_layout(write: impl Fn(&Path), why: &str) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path());
    let error = index_layout(directory.path(), &wanted(None), LANES).unwrap_err().to_string();
    assert!(error.contains(why), "{why} in {error}");
}
