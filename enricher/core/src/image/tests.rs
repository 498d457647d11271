//! Every rule of merging and resolving, each through one [`check`].

use std::sync::Arc;

use driftline_schemas::Sha256;
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};

use super::links::{LinkLookup, Links};
use super::{ImageIndex, LINKS_MAX, Last, MergeError, NodeKind, OpenError, merge, real_path};

/// Parses one entry a line: `f PATH BYTE` a file whose digest is that byte repeated, `d PATH` a directory,
/// `l PATH TARGET` a symlink, `h PATH TARGET` a hard link, `c PATH` a device, `w PATH` a whiteout, `o PATH` an opaque
/// mark.
fn layer(text: &str) -> Arc<LayerManifest> {
    Arc::new(LayerManifest::new(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(entry).collect()))
}

fn entry(line: &str) -> LayerEntry {
    let words: Vec<&str> = line.split(' ').collect();
    let kind = match words[0] {
        "f" => EntryKind::File,
        "d" => EntryKind::Directory,
        "l" => EntryKind::Symlink,
        "h" => EntryKind::Hardlink,
        "c" => EntryKind::Device,
        "w" => EntryKind::Whiteout,
        "o" => EntryKind::Opaque,
        other => unreachable!("{other}"),
    };
    let argument = words.get(2).copied();
    let is_file = kind == EntryKind::File;
    LayerEntry {
        path: words[1].into(),
        kind,
        mode: 0o755,
        size_bytes: if is_file { 9 } else { 0 },
        sha256: is_file.then(|| [argument.unwrap().parse().unwrap(); 32]),
        target: argument.filter(|_| !is_file).map(Into::into),
    }
}

fn merged(layers: &[&str]) -> ImageIndex {
    merge(&layers.iter().map(|text| layer(text)).collect::<Vec<_>>()).unwrap()
}

/// `expect` is the real path, the digest's byte and the layer.
#[track_caller]
fn check(layers: &[&str], path: &str, expect: Option<(&str, u8, u16)>) {
    let index = merged(layers);
    let found = index
        .file(path.as_bytes())
        .map(|file| (String::from_utf8(file.path.to_vec()).unwrap(), file.sha256, file.layer));
    let expect = expect.map(|(path, byte, layer)| (path.to_owned(), Sha256([byte; 32]), layer));
    assert_eq!(found, expect, "{path} in {layers:#?}");
    for file in index.files() {
        assert_eq!(index.file(file.path), Some(file), "every file is found under its real path");
        assert!(index.paths_of(&file.sha256).any(|path| path == file.path), "every content is found");
    }
    for entry in index.entries().filter(|entry| entry.path != b"/") {
        assert_eq!(index.entry(entry.path), Some(entry), "everything is found under its real path");
        let above = &entry.path[..entry.path.iter().rposition(|byte| *byte == b'/').unwrap()];
        let kind = index.entry(above).map(|entry| entry.kind);
        assert!(above.is_empty() || kind == Some(NodeKind::Directory), "{above:?} is a directory");
    }
}

#[test]
fn one_layer_answers_its_files_and_nothing_else() {
    let image = &["d /bin\nf /bin/ls 1\nc /dev/null\nl /bin/dir ls"][..];
    check(image, "/bin/ls", Some(("/bin/ls", 1, 0)));
    check(image, "/bin/dir", Some(("/bin/ls", 1, 0)));
    check(image, "/bin", None);
    check(image, "/dev/null", None);
    check(image, "/bin/nothing", None);
    check(&[], "/bin/ls", None);
}

#[test]
fn an_upper_file_replaces_a_lower_one() {
    check(&["f /a 1", "f /a 2"], "/a", Some(("/a", 2, 1)));
    check(&["f /a 1", "f /a 2", "f /a 1"], "/a", Some(("/a", 1, 2)));
}

#[test]
fn a_whiteout_hides_a_file_or_a_whole_directory_of_lower_layers() {
    check(&["f /a 1", "w /a"], "/a", None);
    check(&["f /d/x/y 1", "w /d"], "/d/x/y", None);
    check(&["f /d/x 1\nf /dx 2\nf /d-x 3", "w /d"], "/dx", Some(("/dx", 2, 0)));
    check(&["f /d/x 1\nf /d-x 3", "w /d"], "/d-x", Some(("/d-x", 3, 0)));
    check(&["f /a 1", "w /a", "f /a 2"], "/a", Some(("/a", 2, 2)));
    check(&["f /a 1", "w /b"], "/a", Some(("/a", 1, 0)));
}

#[test]
fn a_whiteout_does_not_hide_what_its_own_layer_brings() {
    check(&["f /a 1", "w /a\nf /a 2"], "/a", Some(("/a", 2, 1)));
    check(&["f /d/x 1\nf /d/y 2", "w /d\nf /d/y 3"], "/d/y", Some(("/d/y", 3, 1)));
    check(&["f /d/x 1\nf /d/y 2", "w /d\nf /d/y 3"], "/d/x", None);
}

#[test]
fn a_whiteout_of_a_directory_that_its_own_layer_describes_hides_nothing() {
    let image = &["f /d/x 1", "w /d\nd /d\nf /d/y 2"][..];
    check(image, "/d/x", Some(("/d/x", 1, 0)));
    check(image, "/d/y", Some(("/d/y", 2, 1)));
    check(&["f /d/e/x 1", "w /d\nd /d/e"], "/d/e/x", None);
    check(&["f /d 1", "w /d\nd /d"], "/d", None);
}

#[test]
fn an_opaque_directory_hides_lower_children_but_not_siblings_of_its_own_layer() {
    let image = &["f /d/a 1\nf /d/s/b 2\nf /e 3", "o /d\nd /d\nf /d/new 4"][..];
    check(image, "/d/a", None);
    check(image, "/d/s/b", None);
    check(image, "/d/new", Some(("/d/new", 4, 1)));
    check(image, "/e", Some(("/e", 3, 0)));
    check(&["f /a 1\nf /d/b 2", "o /\nf /c 3"], "/a", None);
    check(&["f /a 1\nf /d/b 2", "o /\nf /c 3"], "/c", Some(("/c", 3, 1)));
}

#[test]
fn a_layer_that_occurs_twice_counts_twice() {
    let image = &["f /a 1", "w /a", "f /a 1"][..];
    check(image, "/a", Some(("/a", 1, 2)));
}

#[test]
fn directories_merge_and_anything_else_replaces() {
    check(&["d /d\nf /d/a 1", "d /d\nf /d/b 2"], "/d/a", Some(("/d/a", 1, 0)));
    check(&["f /d/a 1", "f /d 2"], "/d/a", None);
    check(&["f /d/a 1", "f /d 2"], "/d", Some(("/d", 2, 1)));
    check(&["f /d/a 1", "c /d"], "/d/a", None);
    check(&["f /d/a 1\nf /e/a 2", "l /d e"], "/d/a", Some(("/e/a", 2, 0)));
    check(&["f /d/a 1", "f /d 2", "d /d"], "/d/a", None);
    check(&["f /d 1", "d /d"], "/d", None);
    check(&["f /d 1", "d /d\nf /d/a 2"], "/d/a", Some(("/d/a", 2, 1)));
    check(&["f /a 1", "c /a"], "/a", None);
}

#[test]
fn a_directory_that_only_its_content_implies_replaces_too() {
    check(&["f /d 1", "f /d/a 2"], "/d/a", Some(("/d/a", 2, 1)));
    check(&["f /d 1", "f /d/a 2"], "/d", None);
    check(&["f /usr/lib/x 1\nl /lib usr/lib", "f /lib/y 2"], "/lib/y", Some(("/lib/y", 2, 1)));
    check(&["f /usr/lib/x 1\nl /lib usr/lib", "f /lib/y 2"], "/lib/x", None);
    check(&["f /usr/lib/x 1\nl /lib usr/lib", "w /lib/z"], "/lib/x", None);
    check(&["f /usr/lib/x 1\nl /lib usr/lib", "d /lib"], "/lib/x", None);
}

#[test]
fn hard_links_bring_their_target_s_content() {
    check(&["f /a 1\nh /b /a"], "/b", Some(("/b", 1, 0)));
    check(&["f /b 1\nh /a /b"], "/a", Some(("/a", 1, 0)));
    check(&["f /a 1\nh /b /a\nh /c /b"], "/c", Some(("/c", 1, 0)));
    check(&["f /a 1", "h /b /a"], "/b", Some(("/b", 1, 1)));
    check(&["f /a 1", "f /a 2\nh /b /a"], "/b", Some(("/b", 2, 1)));
    check(&["f /a 1", "h /b /a", "w /a"], "/b", Some(("/b", 1, 1)));
    check(&["f /a 1", "h /b /a\nw /a"], "/b", Some(("/b", 1, 1)));
    check(&["f /usr/lib/a 1\nl /lib usr/lib", "h /b /lib/a"], "/b", Some(("/b", 1, 1)));
    check(&["f /x 1\nl /a x", "h /b /a"], "/b", Some(("/x", 1, 0)));
    check(&["d /d\nf /d/a 1", "h /b /d"], "/b", None);
    check(&["h /b /nothing"], "/b", None);
    check(&["f /a 1\nf /b/c 2", "h /b /a"], "/b/c", None);
}

#[test]
fn symlinks_are_followed_in_every_component() {
    let image = &["f /usr/bin/busybox 1\nl /bin usr/bin\nl /usr/bin/sh busybox\nl /usr/bin/ash /bin/sh\nl /self /"][..];
    check(image, "/bin/busybox", Some(("/usr/bin/busybox", 1, 0)));
    check(image, "/bin/sh", Some(("/usr/bin/busybox", 1, 0)));
    check(image, "/bin/ash", Some(("/usr/bin/busybox", 1, 0)));
    check(image, "/self/bin/ash", Some(("/usr/bin/busybox", 1, 0)));
    check(image, "/self/self/self/bin/../bin/ash", Some(("/usr/bin/busybox", 1, 0)));
    check(image, "/bin", None);
    check(image, "/self", None);
    check(&["f /a/x 1\nl /l a", "f /b/x 2\nl /l b"], "/l/x", Some(("/b/x", 2, 1)));
    check(
        &["f /etc/alternatives/x 1\nl /usr/bin/x ../../etc/alternatives/x"],
        "/usr/bin/x",
        Some(("/etc/alternatives/x", 1, 0)),
    );
}

#[test]
fn dots_and_slashes_mean_what_the_kernel_says() {
    let image = &["f /bin/ls 1\nd /usr/share\nl /share usr/share"][..];
    for path in ["//bin//ls", "/./bin/./ls", "/usr/../bin/ls", "/../../bin/ls", "/usr/share/../../bin/ls"] {
        check(image, path, Some(("/bin/ls", 1, 0)));
    }
    check(image, "/share/../../bin/ls", Some(("/bin/ls", 1, 0)));
    for path in ["", "/", "bin/ls", "/bin/ls/", "/bin/ls/.", "/bin/ls/..", "/..", "/."] {
        check(image, path, None);
    }
}

#[test]
fn loops_and_absurd_depth_end() {
    check(&["l /a b\nl /b a"], "/a", None);
    check(&["l /a a/a/a"], "/a/x", None);
    check(&["l /a /a/x\nf /x 1"], "/a", None);
    check(&["l /a /"], &"/a".repeat(LINKS_MAX as usize + 1), None);
    check(&["f /x 1"], &"/..".repeat(9_000), None);
    check(&["f /x 1"], &format!("{}/x", "/a".repeat(3_000)), None);
    check(&[&format!("f /x 1\nl /a {}/a", "/.".repeat(2_000))], "/a", None);
}

#[test]
fn as_many_links_as_the_kernel_follows_are_followed() {
    let chain = |length: u32| {
        let links: Vec<String> = (1..length).map(|n| format!("l /l{n} l{}", n + 1)).collect();
        format!("{}\nl /l{length} file\nf /file 1", links.join("\n"))
    };
    check(&[&chain(LINKS_MAX)], "/l1", Some(("/file", 1, 0)));
    check(&[&chain(LINKS_MAX + 1)], "/l1", None);
}

#[test]
fn the_first_path_with_a_content_is_found() {
    let index = merged(&["f /z 1\nf /b 2\nf /y 3", "f /a 1\nw /y"]);
    assert_eq!(index.path_of(&Sha256([1; 32])), Some(&b"/a"[..]));
    assert_eq!(index.path_of(&Sha256([2; 32])), Some(&b"/b"[..]));
    assert_eq!(index.path_of(&Sha256([3; 32])), None);
    assert_eq!(index.path_of(&Sha256([0; 32])), None);
    assert_eq!(index.file_count(), 3);
}

#[test]
fn what_no_indexer_writes_is_refused() {
    let refused = |entry: LayerEntry| merge(&[Arc::new(LayerManifest::new(vec![entry]))]).unwrap_err();
    for path in ["bin/ls", "", "//", "/a//b", "/a/", "/a/./b", "/a/../b", "/a\0b"] {
        let entry = LayerEntry { path: path.into(), ..entry("f /a 1") };
        assert_eq!(refused(entry), MergeError::Path { layer: 0 }, "{path:?}");
    }
    let long = LayerEntry { path: format!("/{}", "a".repeat(4_096)).into(), ..entry("f /a 1") };
    assert_eq!(refused(long), MergeError::Path { layer: 0 });
    assert_eq!(refused(LayerEntry { sha256: None, ..entry("f /a 1") }), MergeError::Incomplete { layer: 0 });
    assert_eq!(refused(LayerEntry { target: None, ..entry("l /a b") }), MergeError::Incomplete { layer: 0 });
    assert_eq!(refused(LayerEntry { target: None, ..entry("h /a b") }), MergeError::Incomplete { layer: 0 });
    assert_eq!(merge(&vec![layer("f /a 1"); 501]), Err(MergeError::Layers(501)));
}

#[test]
fn contradictory_layers_end_in_a_consistent_index() {
    check(&["f /a 1\nf /a/b 2"], "/a/b", Some(("/a/b", 2, 0)));
    check(&["f /a 1\nf /a/b 2"], "/a", None);
    check(&["f / 1\nf /b 2"], "/b", Some(("/b", 2, 0)));
    check(&["f /b 2", "f / 1"], "/b", None);
    check(&["f /a 1\nl /a b\nf /b 2"], "/a", Some(("/b", 2, 0)));
    check(&["h /a /b\nh /b /a"], "/a", None);
    check(&["f /a 1", "w /a/b"], "/a", None);
}

#[test]
fn walks_through_lower_symlinks_are_bounded() {
    let links: String = (0..5_000).map(|n| format!("h /{n} /lib/x\n")).collect();
    let layers = [layer("l /lib usr/lib\nf /usr/lib/x 1"), layer(&links)];
    assert_eq!(merge(&layers), Err(MergeError::Walks));
}

#[test]
fn memory_stays_below_a_hundred_bytes_a_file_beside_the_paths() {
    let files: String = (0..10_000).map(|n| format!("f /usr/share/doc/{n} {}\n", n % 250)).collect();
    let index = merged(&[&files]);
    let path_bytes: usize = index.files().map(|file| file.path.len()).sum();
    assert!(index.memory_bytes() < path_bytes + 100 * index.file_count());
}

/// Every entry of the image: kind, path, mode, layer and target.
fn listed(layers: &[Arc<LayerManifest>]) -> String {
    let index = merge(layers).unwrap();
    let line = |entry: super::ImageEntry<'_>| {
        let target = entry.target.map_or(String::new(), |target| format!(" {}", String::from_utf8_lossy(target)));
        let path = String::from_utf8_lossy(entry.path).into_owned();
        format!("{:?} {path} {:o} {}{target}", entry.kind, entry.mode, entry.layer)
    };
    index.entries().map(line).collect::<Vec<_>>().join("\n")
}

fn with_mode(line: &str, mode: u16) -> Arc<LayerManifest> {
    Arc::new(LayerManifest::new(vec![LayerEntry { mode, ..entry(line) }]))
}

#[test]
fn every_path_is_listed_with_its_kind() {
    let list = listed(&[layer("f /a/f 1\nl /a/l f\nc /a/c\nd /d\nh /a/h /a/c")]);
    let expect = "Directory /a 755 0\nDevice /a/c 755 0\nFile /a/f 755 0\nDevice /a/h 755 0\nSymlink /a/l 755 0 f\n\
                  Directory /d 755 0";
    assert_eq!(list, expect);
}

#[test]
fn a_directory_has_the_mode_of_the_highest_layer_that_describes_it() {
    assert_eq!(listed(&[with_mode("d /d", 0o700), with_mode("d /d", 0o1777)]), "Directory /d 1777 1");
    let implied = listed(&[with_mode("d /d", 0o700), layer("f /d/x 1")]);
    assert_eq!(implied, "Directory /d 700 0\nFile /d/x 755 1");
    assert_eq!(listed(&[with_mode("d /d", 0o700), layer("o /d")]), "Directory /d 700 0");
    assert_eq!(listed(&[with_mode("f /d 1", 0o600), layer("w /d/x")]), "Directory /d 755 1");
    assert_eq!(
        listed(&[with_mode("d /d", 0o700), layer("w /d"), layer("f /d/x 1")]),
        "Directory /d 755 2\nFile /d/x 755 2"
    );
    assert_eq!(listed(&[layer("f /d/x 1"), layer("h /e /d")]), "Directory /d 755 0\nFile /d/x 755 0");
    assert_eq!(listed(&[layer("f /x 1"), layer("o /")]), "");
}

#[test]
fn all_paths_of_a_content_are_found() {
    let index = merged(&["f /z 1\nf /b 2\nf /y 1", "f /a 1\nw /y"]);
    assert_eq!(index.paths_of(&Sha256([1; 32])).collect::<Vec<_>>(), [b"/a", b"/z"]);
    assert_eq!(index.paths_of(&Sha256([9; 32])).count(), 0);
}

#[test]
fn kept_bytes_give_the_same_index() {
    let index = merged(&["f /bin/a 1\nl /lib usr/lib\nf /usr/lib/b 2\nc /dev/null"]);
    let reopened = ImageIndex::from_bytes(Box::new(index.as_bytes().to_vec())).unwrap();
    assert_eq!(reopened, index);
    assert_eq!(reopened.file(b"/lib/b"), index.file(b"/usr/lib/b"));
}

#[test]
fn bytes_that_are_not_whole_are_refused_and_never_panic() {
    let index = merged(&["f /bin/a 1\nl /lib usr/lib\nf /usr/lib/b 2\nc /dev/null"]);
    let open = |bytes: &[u8]| ImageIndex::from_bytes(Box::new(bytes.to_vec()));
    for at in 0..index.as_bytes().len() {
        assert!(open(&index.as_bytes()[..at]).is_err(), "cut at {at}");
        let mut bytes = index.as_bytes().to_vec();
        bytes[at] ^= 0xff;
        assert!(open(&bytes).is_err(), "flipped at {at}");
        // A block that the digest check would have refused must still be safe to query.
        let forged = ImageIndex::of(Box::new(bytes));
        let _ = (forged.file(b"/lib/b"), forged.entry(b"/lib"));
        for entry in forged.entries() {
            let _ = forged.paths_of(&entry.sha256.unwrap_or(Sha256([0; 32]))).count();
        }
    }
    let mut newer = index.as_bytes().to_vec();
    newer[8] = 99;
    assert_eq!(open(&newer).unwrap_err(), OpenError::Version(99));
}

/// The next number of a fixed sequence, from 0 to below `below`.
fn chance(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

/// A path of a few components out of few names, including dots and empty components.
fn some_path(seed: &mut u64, plain: bool) -> String {
    let names = if plain { &["a", "b", "c", "dd"][..] } else { &["a", "b", "c", "dd", "a", "b", "..", ".", ""][..] };
    (0..=chance(seed, 4))
        .map(|_| format!("/{}", names[usize::try_from(chance(seed, names.len() as u64)).unwrap()]))
        .collect()
}

#[test]
fn a_path_found_without_walking_is_the_one_that_walking_finds() {
    let (mut seed, mut known, mut found) = (7, 0, 0);
    for _ in 0..400 {
        let mut text = String::new();
        for number in 0..12 {
            let path = some_path(&mut seed, true);
            let line = match chance(&mut seed, 3) {
                0 => format!("f {path} {number}"),
                1 => format!("l {path} {}", some_path(&mut seed, false)),
                _ => format!("l {path} {}", some_path(&mut seed, false).trim_start_matches('/')),
            };
            if !line.ends_with(' ') {
                text.push_str(&line);
                text.push('\n');
            }
        }
        let Ok(index) = merge(&[layer(&text)]) else { continue };
        let sections = index.sections().unwrap();
        for _ in 0..100 {
            let path = some_path(&mut seed, false).into_bytes();
            for last in [Last::Followed, Last::Kept] {
                let walked = real_path(&path, last, |at| sections.find(at)?.target);
                let walked = walked.and_then(|path| sections.find(&path));
                let quick = index.links.find(sections, &path, last);
                known += usize::from(quick != LinkLookup::Unknown);
                found += usize::from(matches!(quick, LinkLookup::Entry(_)));
                match quick {
                    LinkLookup::Entry(entry) => assert_eq!(walked, Some(entry), "{path:?} {last:?} in\n{text}"),
                    LinkLookup::Nothing => assert_eq!(walked, None, "{path:?} {last:?} in\n{text}"),
                    LinkLookup::Unknown => {}
                }
            }
        }
    }
    assert!(known > 10_000 && found > 1_000, "{known} {found}");
}

#[test]
fn without_a_table_of_symlinks_paths_are_walked() {
    let few: String = (0..100).map(|number| format!("l /{number} /usr/{number}\n")).collect();
    let index = merged(&[&few, "f /usr/7/x 1"]);
    assert!(index.links.memory_bytes() > 0 && index.file(b"/7/x").is_some());
    let without = ImageIndex { links: Links::default(), ..index };
    assert_eq!(without.links.find(without.sections().unwrap(), b"/7/x", Last::Followed), LinkLookup::Unknown);
    assert!(without.file(b"/7/x").is_some(), "it is walked");
}
