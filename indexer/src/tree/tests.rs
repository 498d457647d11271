//! Tests every rule of unpacking one layer, through one [`check`].

use driftline_schemas::Sha256;
use driftline_schemas::layer::EntryKind;

use super::Tree;
use crate::error::{IndexError, Limit};
use crate::limits::ENTRIES_MAX;
use crate::tar_stream::Member;

/// One member per line: `f PATH BYTE` a file whose digest is that byte repeated, `d PATH`, `l PATH TARGET` a symlink,
/// `h PATH TARGET` a hard link, `c PATH` a device; an octal mode may follow.
fn tree(text: &str) -> Result<Tree, IndexError> {
    let mut tree = Tree::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let kind = match words[0] {
            "f" => EntryKind::File,
            "d" => EntryKind::Directory,
            "l" => EntryKind::Symlink,
            "h" => EntryKind::Hardlink,
            _ => EntryKind::Device,
        };
        let is_link = matches!(kind, EntryKind::Symlink | EntryKind::Hardlink);
        let member = Member {
            path: words[1].into(),
            kind,
            mode: words.get(3).map_or(0o755, |mode| u16::from_str_radix(mode, 8).unwrap()),
            size_bytes: 0,
            target: is_link.then(|| words[2].into()),
            parts: None,
        };
        let digest = (kind == EntryKind::File).then(|| Sha256([words[2].parse().unwrap(); 32]));
        tree.add(&member, digest)?;
    }
    Ok(tree)
}

/// Entries as lines: kind, path, digest's byte or target; the mode when it is not 755.
#[track_caller]
fn check(layer: &str, expect: &[&str]) {
    let manifest = tree(layer).unwrap().finish();
    let lines: Vec<String> = manifest
        .entries()
        .iter()
        .map(|entry| {
            let kind = ["f", "d", "l", "h", "c", "w", "o"][entry.kind as usize];
            let path = String::from_utf8_lossy(&entry.path);
            let digest = entry.sha256.map(|digest| format!(" {}", digest[0]));
            let target = entry.target.as_ref().map(|target| format!(" {}", String::from_utf8_lossy(target)));
            let mode = (![0, 0o755].contains(&entry.mode)).then(|| format!(" {:o}", entry.mode));
            [Some(format!("{kind} {path}")), digest, target, mode].into_iter().flatten().collect()
        })
        .collect();
    assert_eq!(lines, expect, "{layer}");
}

#[track_caller]
fn check_refused(layer: &str, why: &str) {
    let error = tree(layer).unwrap_err().to_string();
    assert!(error.contains(why), "{why} in {error}");
}

#[test]
fn paths_are_made_absolute_and_sorted() {
    check("d ./\nf ./b 1\nf /a 2\nf c//./d/ 3", &["d /", "f /a 2", "f /b 1", "f /c/d 3"]);
    check_refused("f a/../b 1", "'..'");
    check_refused("f ../b 1", "'..'");
    check_refused("f . 1", "the root is not a directory");
    check_refused(&format!("f {} 1", "a".repeat(4_096)), "longer than 4096");
    check_refused("f a\0b 1", "NUL");
}

#[test]
fn whiteouts_and_opaque_marks_are_a_set_whatever_comes_first() {
    check("f d/.wh.a 0\nf d/a 1\nf d/.wh..wh..opq 0", &["o /d", "f /d/a 1", "w /d/a"]);
    check("f d/.wh..wh..opq 0\nf d/a 1\nf d/.wh.a 0", &["o /d", "f /d/a 1", "w /d/a"]);
    check("f .wh..wh..opq 0\nf .wh.a 0", &["o /", "w /a"]);
    check("c .wh.a\nh .wh.b x", &["w /a", "w /b"]);
    for bare in ["f .wh. 0", "f d/.wh. 0", "f .wh... 0", "f .wh.. 0"] {
        check_refused(bare, "a whiteout hides nothing");
    }
    check("f d/.wh..wh.x 0", &["w /d/.wh.x"]);
}

#[test]
fn of_a_path_that_comes_twice_the_last_entry_counts() {
    check("f a 1\nf a 2", &["f /a 2"]);
    check("f a 1\nl a b", &["l /a b"]);
    check("f a 1\nd a", &["d /a"]);
    check("d a x 700\nd a", &["d /a"]);
    check("f d/a 1\nf d/b/c 2\nf d 3", &["f /d 3"]);
    check("f d/a 1\nd d", &["d /d", "f /d/a 1"]);
    check("f d/a 1\nf d-x 3\nl d e", &["l /d e", "f /d-x 3"]);
}

#[test]
fn hard_links_share_content_and_mode_with_a_file_of_their_layer() {
    check("f a 1\nh b a", &["f /a 1", "h /b /a"]);
    check("f a 1\nh b ./a\nh c b", &["f /a 1", "h /b /a", "h /c /a"]);
    check("f a 1 644\nh b a 4755", &["f /a 1 4755", "h /b /a 4755"]);
    check("f a 1\nh b a\nf a 2", &["f /a 2", "f /b 1"]);
    check("f a 1\nh b a\nh c b\nf a 2\nf b 3", &["f /a 2", "f /b 3", "f /c 1"]);
    check("f a 1\nh b a\nf b 2\nf a 3", &["f /a 3", "f /b 2"]);
    check("f d/a 1\nh b d/a\nf d 2", &["f /b 1", "f /d 2"]);
    check("f a 1\nh b a\nh a b", &["h /a /b", "f /b 1"]);
    check("l a x\nh b a", &["l /a x", "l /b x"]);
    check("c a\nh b a", &["c /a", "c /b"]);
}

#[test]
fn hard_links_into_lower_layers_stay_links() {
    check("h b usr/a", &["h /b /usr/a"]);
    check_refused("h a a", "points to itself");
    check_refused("d d\nh a d", "points to a directory");
    check_refused("h a ../b", "'..'");
}

#[test]
fn what_a_hard_link_names_in_lower_layers_is_not_replaced_by_its_layer() {
    for replaced in ["f a 1", "d a", "l a x", "h a c", "f ./a 1"] {
        check_refused(&format!("h b a\n{replaced}"), "a hard link comes before its target");
    }
    check_refused("h b a\nh c b\nf b 1\nf a 2", "a hard link comes before its target");
    check("h b a\nf b 1\nf a 2", &["f /a 2", "f /b 1"]);
    check("h b a\nf .wh.a 0", &["w /a", "h /b /a"]);
    check("h b a\nf a/x 1", &["f /a/x 1", "h /b /a"]);
}

#[test]
fn entries_behind_a_symlink_of_their_layer_lie_where_it_points() {
    check("l lib usr/lib\nf lib/a 1\nf lib/b 2", &["l /lib usr/lib", "f /usr/lib/a 1", "f /usr/lib/b 2"]);
    check("l lib /usr/lib\nd lib/x\nf lib/x/b 2", &["l /lib /usr/lib", "d /usr/lib/x", "f /usr/lib/x/b 2"]);
    check("f usr/lib/a 1\nl lib usr/lib\nh b lib/a", &["h /b /usr/lib/a", "l /lib usr/lib", "f /usr/lib/a 1"]);
    check("l lib usr/lib\nf lib/.wh.a 0", &["l /lib usr/lib", "w /usr/lib/a"]);
    check("f lib/a 1\nl lib usr/lib\nf lib/b 2", &["l /lib usr/lib", "f /usr/lib/b 2"]);
    check("l l a\nf l/x 1\nl l b\nf l/y 2", &["f /a/x 1", "f /b/y 2", "l /l b"]);
    check("l l a\nf l/x 1\nd l\nf l/y 2", &["f /a/x 1", "d /l", "f /l/y 2"]);
    check("l self .\nf self/a 1", &["f /a 1", "l /self ."]);
    check_refused("l a b\nl b a\nf a/x 1", "leads nowhere");
}

#[test]
fn nothing_lies_below_a_file() {
    check_refused("f a 1\nf a/b 2", "below a file");
    check_refused("f a/b 1\nf a 2\nf a/b 3", "below a file");
    check_refused("f a/.wh.b 1\nc a\nf a/b/c 3", "below a file");
    check_refused("f x/a 1\nl l x/a\nf l/b 3", "below a file");
}

#[test]
fn the_bookkeeping_of_aufs_is_not_unpacked_but_may_be_linked_to() {
    check("d .wh..wh.plnk\nf .wh..wh.plnk/1.2 7\nh a .wh..wh.plnk/1.2\nf .wh..wh.aufs 0", &["f /a 7"]);
}

#[test]
fn paths_of_a_layer_are_bounded_together() {
    let mut tree = Tree::default();
    let name = "n".repeat(4_000);
    let refused = (0..40_000).find_map(|n| {
        let path = format!("{n:06}{name}").into_bytes();
        let member = Member { path, kind: EntryKind::Device, mode: 0, size_bytes: 0, target: None, parts: None };
        tree.add(&member, None).err()
    });
    assert!(matches!(refused, Some(IndexError::Limit(Limit::ManifestBytes))));
}

#[test]
fn a_layer_has_at_most_so_many_entries() {
    let mut tree = Tree::default();
    let mut add = |number: usize| {
        let path = format!("{}/{number}", number / 1_000).into_bytes();
        let member = Member { path, kind: EntryKind::Device, mode: 0o644, size_bytes: 0, target: None, parts: None };
        tree.add(&member, None)
    };
    assert!((0..ENTRIES_MAX).all(|number| add(number).is_ok()));
    assert!(matches!(add(ENTRIES_MAX), Err(IndexError::Limit(Limit::Entries))));
}
