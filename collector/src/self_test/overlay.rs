//! An overlay of the self-test's own, in a mount namespace of its own: no other process sees it, and it goes with the process.

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where its memory file system is put over; one of these is on every system.
const PLACES: [&str; 3] = ["/tmp", "/run", "/dev"];

/// Programs that are in the lower layer.
pub(super) const UNTOUCHED: &str = "untouched";
pub(super) const CHANGED: &str = "changed";
/// A directory of the lower layer with such a program, which is bind mounted.
pub(super) const DIRECTORY: &str = "directory";
/// What a program that is added is called.
pub(super) const NEW: &str = "new";
pub(super) const UNLINKED: &str = "unlinked";
pub(super) const SCRIPT: &str = "script";

/// The overlay.
#[derive(Debug)]
pub(super) struct Overlay {
    root: PathBuf,
}

impl Overlay {
    /// Makes it, with these bytes as programs.
    ///
    /// # Errors
    /// Mostly that the process may not mount.
    pub(super) fn mount(program: &[u8]) -> io::Result<Self> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("none of {PLACES:?} is a directory"));
        let root = PLACES.iter().map(Path::new).find(|place| place.is_dir()).ok_or_else(missing)?;
        own_mount_namespace()?;
        mount("none", root, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?;
        for directory in ["lower", "upper", "work", "merged", "bound"] {
            fs::create_dir(root.join(directory))?;
        }
        fs::create_dir(root.join("lower").join(DIRECTORY))?;
        write_program(&root.join("lower").join(DIRECTORY).join(UNTOUCHED), program)?;
        let overlay = Self { root: root.to_owned() };
        for name in [UNTOUCHED, CHANGED] {
            write_program(&root.join("lower").join(name), program)?;
        }
        let at = |directory: &str| root.join(directory).display().to_string();
        let layers = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        let layers = CString::new(layers).map_err(io::Error::other)?;
        mount("overlay", root.join("merged"), "overlay", MountFlags::empty(), Some(layers.as_c_str()))?;
        overlay.change(program)?;
        mount_bind(overlay.path(DIRECTORY), root.join("bound"))?;
        Ok(overlay)
    }

    /// What a process in a container would do.
    fn change(&self, program: &[u8]) -> io::Result<()> {
        write_program(&self.path(NEW), program)?;
        write_program(&self.path(UNLINKED), program)?;
        fs::set_permissions(self.path(CHANGED), fs::Permissions::from_mode(0o711))?;
        let script = format!("#!{}\n", self.path(UNTOUCHED).display());
        write_program(&self.path(SCRIPT), script.as_bytes())
    }

    /// A file as programs see it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join("merged").join(name)
    }

    /// A file of the directory as programs see it through the bind mount.
    pub(super) fn bound(&self, name: &str) -> PathBuf {
        self.root.join("bound").join(name)
    }

    /// Its upper part, which is there once it was changed.
    pub(super) fn upper(&self, name: &str) -> PathBuf {
        self.root.join("upper").join(name)
    }
}

/// Mounts made from here on are seen by this process and its children only.
fn own_mount_namespace() -> io::Result<()> {
    #[expect(deprecated, reason = "unsafe only where file descriptors are unshared, which they are not here")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS)?;
    Ok(mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?)
}

fn write_program(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
