//! Mounts that are made inside a container of its own overlay: a bind mount of a directory of it, the root of a build sandbox.
//! They show the image's files at other paths. No runtime declares them, and they may be gone with the process that made them,
//! so they are taken from the kernel's record of the exec alone.

use driftline_schemas::limits::PATH_BYTES_MAX;
use driftline_schemas::{FileClass, Mount};

use crate::class::NamedFacts;
use crate::mounts::place_of;
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

/// The same of a subject that is known by name only and lies on the container's own overlay: such a file has class `RootfsPlain`.
#[must_use]
pub fn of_named(facts: &NamedFacts, class: FileClass) -> Option<Mount> {
    facts.overlay_mount.clone().filter(|_| class == FileClass::RootfsPlain)
}

/// The mount with a number in a process's `/proc/PID/mountinfo`, whose root directory is at `process_root` in its mount namespace.
/// `None` for one that shows its whole file system at the root of the namespace.
#[must_use]
pub fn in_table(mountinfo: &str, process_root: &[u8], mnt_id: u32) -> Option<Mount> {
    let (shown, point) = place_of(mountinfo, mnt_id)?;
    let above = process_root.strip_suffix(b"/").unwrap_or(process_root);
    let point = if point == "/" { above.to_vec() } else { [above, point.as_bytes()].concat() };
    let is_all = is_root(shown.as_bytes());
    if is_all && is_root(&point) {
        return None;
    }
    let (point, source) = (text(&point), text(shown.as_bytes()));
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
    fn in_a_table_a_mount_is_found_by_its_number_and_named_from_the_namespace_s_root() {
        const TABLE: &str = "5 1 0:41 / / rw - overlay o rw\n6 5 0:41 /opt /srv/r rw - overlay o rw\n";
        let check = |root: &str, id: u32, expect: Option<(&str, &str)>| {
            let found = in_table(TABLE, root.as_bytes(), id);
            assert_eq!(found.as_ref().map(|it| (it.point.as_str(), it.source.as_str())), expect, "{root} {id}");
        };
        check("/", 5, None);
        check("/", 6, Some(("/srv/r", "/opt")));
        check("/jail", 5, Some(("/jail", "/")));
        check("/jail", 6, Some(("/jail/srv/r", "/opt")));
        check("/", 7, None);
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
