//! Reads a layer that overlayfs has unpacked in a directory, for layers whose blob the runtime has discarded. The
//! result equals that of the blob, except for the changes of unpacking: directories that the blob only implies exist, a
//! hard link into a lower layer is a file, and a whiteout is gone if the layer has an entry at the same path. The
//! diff_id cannot be verified, so the result is marked ([`LayerBasis::Snapshot`](driftline_schemas::LayerBasis)).
//!
//! The image's author chose everything below the directory. No symlink is followed: each path is opened below the
//! directory, on its file system, without symlinks, and only regular files and directories are opened at all.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use driftline_schemas::layer::{EntryKind, LayerManifest};
use driftline_schemas::limits::PATH_BYTES_MAX;
use driftline_schemas::{DiffId, Sha256};
use driftline_service::clock;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat, openat2, readlinkat, statat,
};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use crate::blobs::go_on;
use crate::error::{IndexError, Limit};
use crate::layer::digest;
use crate::limits::{BUFFER_BYTES, ENTRIES_MAX, ENTRY_BYTES, LAYER_BYTES_MAX, LAYER_TIME_MAX, MANIFEST_BYTES_MAX};
use crate::tar_stream::{Member, as_u64};
use crate::tree::{OPAQUE, Tree, WHITEOUT, split};

/// Hides a directory's lower children when its value is `y`. The value `x` announces another form of whiteouts, which
/// no snapshotter writes.
const XATTR_OPAQUE: &str = "trusted.overlay.opaque";
/// Attributes of a renamed directory, and of a file of which only the attributes were copied: in both cases the content
/// is elsewhere. A layer that was unpacked and not modified has neither.
const XATTRS_REFUSED: [&str; 2] = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];
/// Longest known value of these attributes; a longer value has an unknown form.
const XATTR_BYTES_MAX: usize = 16;

/// A layer that was read from its directory.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) manifest: LayerManifest,
    /// Bytes of its regular files.
    pub(crate) bytes: u64,
}

/// Name of the snapshot with these layers, lowest first.
pub(crate) fn chain_id(diff_ids: &[DiffId]) -> String {
    let mut layers = diff_ids.iter().map(DiffId::as_str);
    let lowest = layers.next().unwrap_or_default().to_owned();
    layers.fold(lowest, |below, diff_id| Sha256::of(format!("{below} {diff_id}").as_bytes()).to_digest())
}

/// Reads the directory of a layer.
pub(crate) fn read_directory(directory: &Path, stop: &[&AtomicBool]) -> Result<Unpacked, IndexError> {
    // Without this capability the kernel hides the attributes, and an opaque directory would look like any other.
    let capable = capabilities(None).map_err(io::Error::from)?.effective.contains(CapabilitySet::SYS_ADMIN);
    if !capable {
        let why = "reading unpacked layers needs the capability CAP_SYS_ADMIN";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why).into());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat2(CWD, directory, flags, Mode::empty(), ResolveFlags::empty()).map_err(|error| {
        let why = format!("{}: {error}; containerd's root has to be here at the same path", directory.display());
        io::Error::new(io::Error::from(error).kind(), why)
    })?;
    let root = Root { root, stop, started: clock::monotonic() };
    let mut listed = root.list()?;
    listed.found.sort_unstable_by(|a, b| by_name(&a.path).cmp(by_name(&b.path)));
    root.read(listed)
}

/// The directory of a layer.
struct Root<'a> {
    root: OwnedFd,
    stop: &'a [&'a AtomicBool],
    started: Instant,
}

/// The entries below a directory, contents unread.
#[derive(Default)]
struct Listed {
    found: Vec<Found>,
    /// Opaque directories; the root of the layer is the empty path.
    opaque: Vec<Vec<u8>>,
    /// Bytes of paths and targets, with [`ENTRY_BYTES`] for each.
    bytes: usize,
}

/// The entry at a path.
struct Found {
    /// Relative to the layer's directory.
    path: Vec<u8>,
    mode: u16,
    what: What,
}

enum What {
    File { inode: u64, names: Names, size_bytes: u64 },
    Directory,
    Symlink(Vec<u8>),
    Whiteout,
    Device,
}

/// How many names a file has.
#[derive(PartialEq, Eq)]
enum Names {
    One,
    Several,
}

impl Root<'_> {
    /// Lists everything, one open directory at a time.
    fn list(&self) -> Result<Listed, IndexError> {
        let mut listed = Listed::default();
        let mut directories = vec![Vec::new()];
        while let Some(path) = directories.pop() {
            let directory = self.open(&path, OFlags::DIRECTORY)?;
            refuse_attributes(&directory, &path)?;
            match attribute(&directory, XATTR_OPAQUE)?.as_deref() {
                Some(b"y") => listed.opaque.push(path.clone()),
                Some(_) => return Err(IndexError::path("whiteouts of an unknown form", &path)),
                None => {}
            }
            for entry in Dir::read_from(&directory).map_err(io::Error::from)? {
                let entry = entry.map_err(io::Error::from)?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                self.go_on()?;
                let found = stat(&directory, &path, name)?;
                if matches!(found.what, What::Directory) {
                    directories.push(found.path.clone());
                }
                listed.add(found)?;
            }
        }
        Ok(listed)
    }

    /// Hashes the files. If a file has several names, the first gets the content and the others are links to it.
    fn read(&self, listed: Listed) -> Result<Unpacked, IndexError> {
        let mut tree = Tree::default();
        let mut first_names: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut bytes = 0_u64;
        let mut buffer = vec![0; BUFFER_BYTES];
        for path in listed.opaque {
            tree.add(&member([path.as_slice(), b"/", OPAQUE].concat(), EntryKind::File, 0), None)?;
        }
        for Found { path, mode, what } in listed.found {
            self.go_on()?;
            let (member, sha256) = match what {
                What::Directory => (member(path, EntryKind::Directory, mode), None),
                What::Symlink(target) => {
                    (Member { target: Some(target), ..member(path, EntryKind::Symlink, mode) }, None)
                }
                What::Whiteout => {
                    let (parent, name) = split(&path);
                    (member([parent, b"/", WHITEOUT, name].concat(), EntryKind::File, 0), None)
                }
                What::Device => (member(path, EntryKind::Device, mode), None),
                What::File { inode, names, size_bytes } => match first_names.get(&inode) {
                    Some(first) => {
                        (Member { target: Some(first.clone()), ..member(path, EntryKind::Hardlink, mode) }, None)
                    }
                    None => {
                        bytes = bytes.saturating_add(size_bytes);
                        if bytes > LAYER_BYTES_MAX {
                            return Err(Limit::LayerBytes.into());
                        }
                        let sha256 = self.hash(&path, inode, size_bytes, &mut buffer)?;
                        if names == Names::Several {
                            first_names.insert(inode, path.clone());
                        }
                        (Member { size_bytes, ..member(path, EntryKind::File, mode) }, Some(sha256))
                    }
                },
            };
            tree.add(&member, sha256)?;
        }
        Ok(Unpacked { manifest: tree.finish(), bytes })
    }

    /// Digest of a file, provided that it is still the listed one.
    fn hash(&self, path: &[u8], inode: u64, size_bytes: u64, buffer: &mut [u8]) -> Result<Sha256, IndexError> {
        let file = self.open(path, OFlags::NONBLOCK)?;
        let stat = fstat(&file).map_err(io::Error::from)?;
        let is_same = stat.st_ino == inode && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        refuse_attributes(&file, path)?;
        let mut content =
            Stoppable { inner: File::from(file).take(size_bytes.saturating_add(1)), root: self, bytes: 0 };
        let sha256 = digest(&mut content, buffer)?;
        if is_same && content.bytes == size_bytes {
            Ok(sha256)
        } else {
            Err(io::Error::other(format!("{} changed while it was read", path.escape_ascii())).into())
        }
    }

    fn open(&self, path: &[u8], more: OFlags) -> Result<OwnedFd, IndexError> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), resolve).map_err(io::Error::from)?)
    }

    /// Checks the stop flags between two entries.
    fn go_on(&self) -> io::Result<()> {
        go_on(self.stop)?;
        if self.started.elapsed() > LAYER_TIME_MAX { Err(io::Error::other(Limit::LayerTime)) } else { Ok(()) }
    }
}

impl Listed {
    fn add(&mut self, found: Found) -> Result<(), IndexError> {
        let target = match &found.what {
            What::Symlink(target) => target.len(),
            _ => 0,
        };
        self.bytes += found.path.len() + target + ENTRY_BYTES;
        if self.found.len() >= ENTRIES_MAX {
            return Err(Limit::Entries.into());
        }
        if found.path.len() >= PATH_BYTES_MAX {
            return Err(Limit::PathBytes.into());
        }
        if self.bytes > MANIFEST_BYTES_MAX {
            return Err(Limit::ManifestBytes.into());
        }
        self.found.push(found);
        Ok(())
    }
}

/// The entry of a directory with this name.
fn stat(directory: &OwnedFd, parent: &[u8], name: &CStr) -> Result<Found, IndexError> {
    let bytes = name.to_bytes();
    let path = if parent.is_empty() { bytes.to_vec() } else { [parent, b"/", bytes].concat() };
    // In an archive this would be a whiteout; no runtime unpacks an entry under this name.
    if bytes.starts_with(WHITEOUT) {
        return Err(IndexError::path("an unpacked layer has a file with the name of a whiteout", &path));
    }
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from)?;
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => file(&stat),
        FileType::Directory => What::Directory,
        FileType::Symlink => {
            What::Symlink(readlinkat(directory, name, Vec::new()).map_err(io::Error::from)?.into_bytes())
        }
        FileType::CharacterDevice if stat.st_rdev == 0 => What::Whiteout,
        _ => What::Device,
    };
    Ok(Found { path, mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or_default(), what })
}

fn file(stat: &Stat) -> What {
    let names = if stat.st_nlink > 1 { Names::Several } else { Names::One };
    What::File { inode: stat.st_ino, names, size_bytes: u64::try_from(stat.st_size).unwrap_or_default() }
}

fn refuse_attributes(file: &OwnedFd, path: &[u8]) -> Result<(), IndexError> {
    for name in XATTRS_REFUSED {
        if attribute(file, name)?.is_some() {
            return Err(IndexError::path("not a layer as it was unpacked: overlayfs has worked in it", path));
        }
    }
    Ok(())
}

/// An extended attribute; `None` when it is not set, or the file system has none.
fn attribute(file: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, IndexError> {
    let mut value = vec![0; XATTR_BYTES_MAX];
    match fgetxattr(file, name, value.as_mut_slice()) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        // The value is longer than any known one.
        Err(Errno::RANGE) => Ok(Some(value)),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

fn member(path: Vec<u8>, kind: EntryKind, mode: u16) -> Member {
    Member { path, kind, mode, size_bytes: 0, target: None, parts: None }
}

/// Order of the entries in an archive: a directory with everything below it before the next name.
fn by_name(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// A file whose reading can be stopped.
struct Stoppable<'a> {
    inner: io::Take<File>,
    root: &'a Root<'a>,
    bytes: u64,
}

impl io::Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.root.go_on()?;
        let read = self.inner.read(buffer)?;
        self.bytes = self.bytes.saturating_add(as_u64(read));
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
