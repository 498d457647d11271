//! Mounts that are made inside a container of its own overlay: a bind mount of a directory of it, the root of a build sandbox.
//! They show the image's files at other paths. No runtime declares them, and they may be gone with the process that made them,
//! so they are taken from the kernel's record of the exec alone.

use driftline_schemas::limits::PATH_BYTES_MAX;
use driftline_schemas::{FileClass, Mount};

use crate::raw::RawExec;

/// The mount by which an executed file of the container's own overlay was reached, unless that mount shows the overlay where the
/// container's root does. Its source is the directory of the overlay that it shows. Replacement characters stand for what is not
/// UTF-8, and one for a name that is longer than a record may have it: such a name leads to no path.
#[must_use]
pub fn of(exec: &RawExec, class: FileClass) -> Option<Mount> {
    if !matches!(class, FileClass::Image | FileClass::New | FileClass::CopiedUp) || !exec.has_whole_path() {
        return None;
    }
    let below = usize::try_from(exec.below_mount_bytes).ok()?;
    let point = exec.path.get(..exec.path.len().checked_sub(below)?)?;
    if is_root(point) && exec.mount_root.is_empty() {
        return None;
    }
    let (point, source) = (text(point), text(&exec.mount_root));
    Some(Mount { point, fs_type: "overlay".to_owned(), source, read_only: false })
}

fn text(path: &[u8]) -> String {
    if is_root(path) {
        return "/".to_owned();
    }
    let text = String::from_utf8_lossy(path);
    if text.len() > PATH_BYTES_MAX { char::REPLACEMENT_CHARACTER.to_string() } else { text.into_owned() }
}

fn is_root(path: &[u8]) -> bool {
    matches!(path, b"" | b"/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::raw::tests::exec;

    #[test]
    fn a_mount_made_inside_the_container_is_told_from_its_root() {
        let check = |path: &str, below: usize, mount_root: &str, expect: Option<(&str, &str)>| {
            let below_mount_bytes = u32::try_from(below).unwrap();
            let raw = RawExec { path: path.into(), below_mount_bytes, mount_root: mount_root.into(), ..exec() };
            let found = of(&raw, FileClass::Image);
            assert_eq!(found.as_ref().map(|it| (it.point.as_str(), it.source.as_str())), expect, "{path} {below}");
        };
        check("/bin/busybox", 12, "", None);
        check("/srv/r/bin/busybox", 12, "", Some(("/srv/r", "/")));
        check("/mnt/busybox", 8, "/usr/bin", Some(("/mnt", "/usr/bin")));
        check("/mnt", 0, "/usr/bin/busybox", Some(("/mnt", "/usr/bin/busybox")));
        check("/bin/busybox", 12, "/jail", Some(("/", "/jail")));
        check("/x", usize::from(u16::MAX), "", None);
        let long = format!("/{}", "x".repeat(PATH_BYTES_MAX));
        check(&format!("{long}/y"), 2, "", Some(("\u{fffd}", "/")));
    }

    #[test]
    fn of_other_files_and_paths_that_are_not_whole_nothing_is_derived() {
        let raw = RawExec { path: b"/srv/r/x".to_vec(), below_mount_bytes: 2, ..exec() };
        assert!(of(&raw, FileClass::New).is_some());
        assert_eq!(of(&raw, FileClass::Volume), None);
        let cut = RawExec { flags: raw.flags & !layout::FLAG_PATH_COMPLETE, ..raw };
        assert_eq!(of(&cut, FileClass::New), None);
        assert_eq!(of(&RawExec { below_mount_bytes: u32::MAX, ..exec() }, FileClass::Image), None);
    }
}
