//! Where an executed file lives, judged against the root of its own container. See `docs/architecture.md`.

use driftline_schemas::{FileClass, Mount, MountNamespace};

use crate::container_root::ContainerRoot;
use crate::mounts::Mounts;
use crate::raw::{Dev, RawExec, magic};
use crate::subject::Subject;

/// What the shell found out about a subject that is known by name only, and of which the kernel has no record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedFacts {
    /// Absolute path in the container, symbolic links resolved.
    pub path: Vec<u8>,
    /// Superblock as `stat` shows it.
    pub dev: Dev,
    /// Inode number.
    pub ino: u64,
    /// Size.
    pub size_bytes: i64,
    /// Mode with type bits.
    pub mode: u16,
    /// Links.
    pub nlink: u32,
    /// Modification time since 1970.
    pub mtime_ns: i64,
    /// Change time since 1970.
    pub ctime_ns: i64,
    /// File system.
    pub fs_magic: u64,
    /// Mount, where the kernel reports it (5.8 and later).
    pub mnt_id: Option<u32>,
    /// Of an overlay: the mount that shows a part of it, or shows it elsewhere than at the root of its mount namespace.
    pub overlay_mount: Option<Mount>,
    /// When its name last began to lead to it, since 1970: the latest time at which that may be; 0 where the kernel showed the file
    /// itself.
    pub name_changed_ns: i64,
}

impl NamedFacts {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }
}

/// Whose mount namespace a process runs in.
#[must_use]
pub fn mount_namespace(exec: &RawExec, root: &ContainerRoot, host_mnt_ns: u32) -> MountNamespace {
    if host_mnt_ns != 0 && exec.mnt_ns == host_mnt_ns {
        MountNamespace::Host
    } else if exec.mnt_ns == root.mount_ns {
        MountNamespace::Own
    } else {
        MountNamespace::Other
    }
}

/// Whether an exec is the runtime's own, on its way into the container (runc, which joins the cgroup first): the process
/// still sees the host, and neither it nor an ancestor was ever in the container's mount namespace or stands on its root.
/// Such execs are ignored, and counted. `root` is `None` while the container's root is not known.
#[must_use]
pub fn is_runtime_helper(exec: &RawExec, root: Option<&ContainerRoot>, host_mnt_ns: u32) -> bool {
    let in_host_mnt_ns = host_mnt_ns != 0 && exec.mnt_ns == host_mnt_ns;
    match root {
        None => in_host_mnt_ns && exec.outer_mnt_ns == 0,
        Some(root) => {
            (in_host_mnt_ns || exec.is_in_host_pid_ns())
                && exec.mnt_ns != root.mount_ns
                && exec.outer_mnt_ns != root.mount_ns
                && !stands_on(exec, root)
        }
    }
}

/// Whether a process has the container's root, or an ancestor runs a program of it: also in a mount namespace made inside,
/// whose maker is gone or was entered from the node.
fn stands_on(exec: &RawExec, root: &ContainerRoot) -> bool {
    (root.overlay && exec.root_dev == root.dev) || root.is_of_an_ancestor(exec)
}

/// Class of the executed file, and the mount it is on when that is not the root.
#[must_use]
pub fn class<'a>(exec: &RawExec, root: &ContainerRoot, mounts: &'a Mounts) -> (FileClass, Option<&'a Mount>) {
    if is_memfd(exec) {
        return (FileClass::Memfd, None);
    }
    let on_root_superblock = exec.file.dev == root.dev;
    if root.overlay && exec.is_overlay() && on_root_superblock {
        return (overlay_class(exec), None);
    }
    // A plain root and a bind mount may share a superblock; the mount distinguishes them.
    let on_root_mount = root.mnt_id.is_none_or(|id| id == exec.file.mnt_id);
    let mount = mounts.of_file(&exec.path, Some(exec.file.mnt_id), exec.file.dev);
    if !root.overlay && on_root_superblock && (on_root_mount || mount.is_none()) {
        return (FileClass::RootfsPlain, None);
    }
    let class = match mount {
        Some(_) => FileClass::Volume,
        None if exec.is_overlay() => FileClass::Foreign,
        None => FileClass::OtherFs,
    };
    (class, mount)
}

/// With a tmpfs as the upper file system a copied-up file may count no lower part after a remount; it is then `New`
/// like any other written file, and its digest decides.
fn overlay_class(exec: &RawExec) -> FileClass {
    match (exec.has_upper(), exec.file.lower_count) {
        (false, _) => FileClass::Image,
        (true, 0) => FileClass::New,
        (true, _) => FileClass::CopiedUp,
    }
}

/// A memfd lies in no directory. Its name has this beginning, which any other file may have, too.
fn is_memfd(exec: &RawExec) -> bool {
    exec.is_anonymous()
        && matches!(exec.file.fs_magic, magic::TMPFS | magic::HUGETLBFS)
        && exec.path.starts_with(b"memfd:")
}

/// Class of a subject that is known by name only. User space cannot read in which layer it lies, so one on the
/// container's root is [`FileClass::RootfsPlain`]: judged by its digest.
#[must_use]
pub fn class_of_named<'a>(
    named: &NamedFacts,
    root: &ContainerRoot,
    mounts: &'a Mounts,
) -> (FileClass, Option<&'a Mount>) {
    if is_named_memfd(named) {
        return (FileClass::Memfd, None);
    }
    let on_root = match (named.mnt_id, root.mnt_id) {
        (Some(of_named), Some(of_root)) => of_named == of_root,
        _ => named.dev == root.dev,
    };
    if on_root {
        return (FileClass::RootfsPlain, None);
    }
    let mount = mounts.of_file(&named.path, named.mnt_id, named.dev);
    let class = match mount {
        Some(_) => FileClass::Volume,
        None if named.dev == root.dev => FileClass::RootfsPlain,
        None if named.fs_magic == magic::OVERLAY => FileClass::Foreign,
        None => FileClass::OtherFs,
    };
    (class, mount)
}

/// A memfd as its link in `/proc` reads: it never has a link, and its name is the only one in its file system.
fn is_named_memfd(named: &NamedFacts) -> bool {
    named.nlink == 0 && matches!(named.fs_magic, magic::TMPFS | magic::HUGETLBFS) && named.path.starts_with(b"/memfd:")
}

/// Class of a subject that could not be opened, of which only the path is known.
#[must_use]
pub fn class_by_path<'a>(path: &[u8], mounts: &'a Mounts) -> (FileClass, Option<&'a Mount>) {
    let mount = mounts.above(path);
    (if mount.is_some() { FileClass::Volume } else { FileClass::Unknown }, mount)
}

/// Whether the digest must be known: an untouched image file is judged by its path alone.
#[must_use]
pub fn needs_digest(exec: &RawExec, class: FileClass) -> bool {
    class != FileClass::Image || Subject::of(exec, class) != Subject::Executable
}

#[cfg(test)]
mod tests;
