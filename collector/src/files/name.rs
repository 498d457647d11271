//! Since when a name leads to the file that it leads to now. Called for a file that is known by its name only, after it was
//! hashed.
//!
//! An entry of a directory can lead to another file only by an operation that sets the change times of both the directory and
//! what the entry leads to from then on. So an entry is as old as the older of the two: neither a busy directory nor a file
//! whose mode changes makes it young. Mounts have no times, and are not seen.
//!
//! The first write below a directory of the image makes that directory, and those above it, anew in the container's own layer, with
//! what the image has in them. So a directory makes no name young, if what is looked up in it is older than the directory itself:
//! everything else was put into it since, and has got a change time then. (An overlay that can rename directories of the image,
//! `redirect_dir`, could put such a directory in the place of another.)

use driftline_collector_core::Crossing;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags, openat2, readlinkat, statx,
};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{dev_of, facts, mount_of, nanoseconds};

/// Entries that are looked up, symbolic links included: the kernel follows 40 links of a path.
const STEPS: usize = 256;

struct Walk {
    /// From the root down to where the walk is.
    way: Vec<Directory>,
    crossing: Crossing,
    /// What changed then or later may not have been so at the exec.
    meanwhile_ns: i64,
    /// When the youngest entry changed.
    changed_ns: i64,
}

/// When the name last changed, on the file system's clock: `path` in the directory `root`, which has to be the root of the mount
/// with this number, as it was at the exec. What changed at `meanwhile_ns` or later changed too late. `None` when that is not known, or when it leads to another file than `file`.
pub(super) fn changed_ns(
    root: OwnedFd,
    root_mnt_id: u32,
    path: &[u8],
    crossing: Crossing,
    meanwhile_ns: i64,
    file: &Statx,
) -> Option<i64> {
    if !is_root_of(&root, root_mnt_id) {
        return None;
    }
    let mut walk =
        Walk { way: vec![Directory { handle: root, born_ns: None }], crossing, meanwhile_ns, changed_ns: i64::MIN };
    let mut rest = parts(path);
    let mut last = None;
    for _ in 0..STEPS {
        let Some(name) = rest.pop() else {
            return last
                .filter(|found: &Statx| (dev_of(found), found.stx_ino) == (dev_of(file), file.stx_ino))
                .map(|_| walk.changed_ns);
        };
        last = Some(walk.step(&name, &mut rest)?);
    }
    None
}

/// Names to look up, the first last.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.rev().map(<[u8]>::to_vec).collect()
}

fn is_root_of(directory: &OwnedFd, mnt_id: u32) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(facts) = statx(directory, c"", flags, StatxFlags::MNT_ID) else { return false };
    mount_of(&facts) == Some(mnt_id) && facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}

/// A directory on the way.
struct Directory {
    handle: OwnedFd,
    /// When it was born, where its name is young: what is looked up in it has to be older.
    born_ns: Option<i64>,
}

impl Walk {
    /// Looks up one name; of a link, what it contains comes next.
    fn step(&mut self, name: &[u8], rest: &mut Vec<Vec<u8>>) -> Option<Statx> {
        if name == b".." {
            return self.up();
        }
        let Directory { handle: directory, born_ns } = self.way.last()?;
        let born_ns = *born_ns;
        let mut resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH;
        if self.crossing == Crossing::Stay {
            resolve |= ResolveFlags::NO_XDEV;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat2(directory, Path::new(OsStr::from_bytes(name)), flags, Mode::empty(), resolve).ok()?;
        // Both after the lookup: what changed the entry before it has left its time there.
        let (found, above) = (facts(&handle)?, facts(directory)?);
        let found_born_ns = self.note(born_ns, &above, &found);
        if FileType::from_raw_mode(u32::from(found.stx_mode)) == FileType::Symlink {
            let target = readlinkat(&handle, c"", Vec::new()).ok()?.into_bytes();
            if target.starts_with(b"/") {
                self.way.truncate(1);
            }
            rest.extend(parts(&target));
        } else {
            self.way.push(Directory { handle, born_ns: found_born_ns });
        }
        Some(found)
    }

    /// The directory above, which for the root is the root.
    fn up(&mut self) -> Option<Statx> {
        let below = facts(&self.way.last()?.handle)?;
        if self.way.len() > 1 {
            self.way.pop();
        }
        let above = facts(&self.way.last()?.handle)?;
        self.note(None, &above, &below);
        Some(above)
    }

    /// Notes the entry that leads from a directory, born at `born_ns` if its own name is young, to what was found. Returns when
    /// that was born, if it is a directory whose name is young.
    fn note(&mut self, born_ns: Option<i64>, above: &Statx, found: &Statx) -> Option<i64> {
        let found_ns = nanoseconds(found.stx_ctime);
        let (since_ns, limit_ns) = match born_ns {
            Some(born_ns) => (found_ns, born_ns.min(self.meanwhile_ns)),
            None => (found_ns.min(nanoseconds(above.stx_ctime)), self.meanwhile_ns),
        };
        let is_young = since_ns >= limit_ns;
        let is_directory = FileType::from_raw_mode(u32::from(found.stx_mode)) == FileType::Directory;
        let has_birth = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        if is_young && is_directory && has_birth {
            return Some(nanoseconds(found.stx_btime));
        }
        self.changed_ns = self.changed_ns.max(if is_young { i64::MAX } else { since_ns });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, open};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    fn root() -> OwnedFd {
        open("/proc/self/root", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn facts_of(path: &Path) -> Statx {
        statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS).unwrap()
    }

    /// Nothing was born after the exec.
    const NEVER: i64 = i64::MAX;

    fn changed_since(meanwhile_ns: i64, path: &Path) -> i64 {
        let mnt_id = mount_of(&facts(root()).unwrap()).unwrap();
        let name = path.as_os_str().as_bytes();
        changed_ns(root(), mnt_id, name, Crossing::Cross, meanwhile_ns, &facts_of(path)).unwrap()
    }

    fn changed(path: &Path) -> i64 {
        changed_since(NEVER, path)
    }

    /// A script in a directory in another, all of them older than what a test does to them; and the time of this.
    fn old_script() -> (tempfile::TempDir, i64) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("app")).unwrap();
        fs::write(directory.path().join("app/x.sh"), "#!/bin/sh\n").unwrap();
        symlink("app/../app/x.sh", directory.path().join("link")).unwrap();
        let made_ns = nanoseconds(facts_of(&directory.path().join("app/x.sh")).stx_ctime);
        // A file system's clock has no other way to go on.
        std::thread::sleep(Duration::from_millis(30));
        (directory, made_ns + 20_000_000)
    }

    #[test]
    fn neither_a_busy_directory_nor_a_new_mode_makes_a_name_young() {
        let (directory, before_ns) = old_script();
        let path = directory.path().join("app/x.sh");
        fs::write(directory.path().join("app/other"), "").unwrap();
        assert!(changed(&path) < before_ns);
        assert!(changed(&directory.path().join("link")) < before_ns);
    }

    #[test]
    fn a_name_that_was_turned_to_another_file_is_young() {
        let is_young = |turn: fn(&Path), name: &str| {
            let (directory, before_ns) = old_script();
            turn(directory.path());
            assert!(changed(&directory.path().join(name)) > before_ns, "{name}");
        };
        let turned = |at: &Path| {
            fs::remove_file(at.join("link")).unwrap();
            symlink("app/x.sh", at.join("link")).unwrap();
        };
        is_young(turned, "link");
        is_young(|at| fs::rename(at.join("app/x.sh"), at.join("app/y.sh")).unwrap(), "app/y.sh");
        is_young(|at| fs::hard_link(at.join("app/x.sh"), at.join("app/y.sh")).unwrap(), "app/y.sh");
        is_young(|at| fs::rename(at.join("app"), at.join("new")).unwrap(), "new/x.sh");
        let by_link = |at: &Path| {
            fs::rename(at.join("app"), at.join("new")).unwrap();
            symlink("new", at.join("app")).unwrap();
        };
        is_young(by_link, "app/x.sh");
    }

    #[test]
    fn a_directory_that_was_born_meanwhile_makes_no_name_young_and_what_was_put_into_it_does() {
        let (directory, before_ns) = old_script();
        let new = directory.path().join("new");
        fs::create_dir(&new).unwrap();
        assert!(changed(&new) > before_ns);
        assert!(changed_since(before_ns, &new) < before_ns);
        fs::create_dir(new.join("in")).unwrap();
        assert!(changed_since(before_ns, &new.join("in")) < before_ns);
        fs::rename(directory.path().join("app/x.sh"), new.join("x.sh")).unwrap();
        assert!(changed_since(before_ns, &new.join("x.sh")) > before_ns);
        symlink("x.sh", new.join("link")).unwrap();
        assert!(changed_since(before_ns, &new.join("link")) > before_ns);
    }

    #[test]
    fn a_directory_that_was_prepared_and_takes_the_place_of_another_makes_names_young() {
        let (directory, before_ns) = old_script();
        fs::rename(directory.path().join("app"), directory.path().join("new")).unwrap();
        assert!(changed_since(before_ns, &directory.path().join("new/x.sh")) > before_ns);
    }

    #[test]
    fn a_name_is_of_no_use_in_another_root_or_for_another_file() {
        let (directory, _) = old_script();
        let path = directory.path().join("app/x.sh");
        let app = open(directory.path().join("app"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mnt_id = mount_of(&facts(root()).unwrap()).unwrap();
        let check = |root, mnt_id, path: &Path, file: &Path| {
            changed_ns(root, mnt_id, path.as_os_str().as_bytes(), Crossing::Cross, NEVER, &facts_of(file)).is_some()
        };
        assert!(check(root(), mnt_id, &path, &path));
        assert!(!check(root(), mnt_id.wrapping_add(1), &path, &path));
        assert!(!check(app, mnt_id, Path::new("/x.sh"), &path));
        assert!(!check(root(), mnt_id, &path, directory.path()));
        assert!(!check(root(), mnt_id, Path::new("/proc/self/exe"), &path));
    }
}
