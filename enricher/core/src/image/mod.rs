//! The merged content of an image: the entry at every path, and the paths of every content.
//!
//! Built once per image by [`merge`], then shared by all containers of the image; queried for every exec that must be
//! judged. Immutable: one block of bytes, see [`block`]. The same bytes can be stored in a file.

mod block;
mod links;
mod merge;
mod resolve;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use driftline_schemas::Sha256;

use block::Sections;
pub use block::{FORMAT_VERSION, OpenError};
use links::{LinkLookup, Links};
pub use merge::{MergeError, merge};
pub use resolve::{LINKS_MAX, Last, real_path};

/// The owner of an index's bytes: memory, or a mapped file.
pub type Bytes = Box<dyn AsRef<[u8]> + Send + Sync>;

/// The merged paths of an image. An index takes at most 73 bytes a file, 77 a symlink and 61 any other path, plus the
/// text of paths and targets.
///
/// No path of the index passes through a symlink, a file or a device: [`merge`] guarantees it.
pub struct ImageIndex {
    block: Bytes,
    links: Links,
}

/// Kind of the entry at a path of a merged image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A device, fifo or socket.
    Device,
}

/// The entry at a path of a merged image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageEntry<'a> {
    /// Real path, no symlinks in it.
    pub path: &'a [u8],
    /// Kind of the entry.
    pub kind: NodeKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Length of a file's content, else 0.
    pub size_bytes: u64,
    /// Content of a file.
    pub sha256: Option<Sha256>,
    /// Target of a symlink, as written.
    pub target: Option<&'a [u8]>,
    /// Number of the entry's layer; 0 is the lowest.
    pub layer: u16,
}

/// A regular file of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFile<'a> {
    /// Real path, no symlinks in it.
    pub path: &'a [u8],
    /// Content.
    pub sha256: Sha256,
    /// Length of the content.
    pub size_bytes: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Number of the file's layer; 0 is the lowest.
    pub layer: u16,
}

impl NodeKind {
    fn code(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Directory => 1,
            Self::Symlink => 2,
            Self::Device => 3,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::File, Self::Directory, Self::Symlink, Self::Device].into_iter().find(|kind| kind.code() == code)
    }
}

impl<'a> ImageEntry<'a> {
    fn file(self) -> Option<ImageFile<'a>> {
        let Self { path, mode, size_bytes, layer, .. } = self;
        Some(ImageFile { path, sha256: self.sha256?, size_bytes, mode, layer })
    }
}

impl ImageIndex {
    /// Opens the bytes of [`Self::as_bytes`], wherever they were stored.
    ///
    /// # Errors
    /// When the bytes are not whole, or of another version.
    pub fn from_bytes(block: Bytes) -> Result<Self, OpenError> {
        block::check((*block).as_ref())?;
        Ok(Self::of(block))
    }

    /// The index of bytes that were checked.
    fn of(block: Bytes) -> Self {
        let links = Sections::of((*block).as_ref()).map(Links::of).unwrap_or_default();
        Self { block, links }
    }

    /// All bytes of the index, for [`Self::from_bytes`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        (*self.block).as_ref()
    }

    /// The digest at the end of the bytes: equal for equal content.
    pub(crate) fn digest(&self) -> Sha256 {
        Sha256(self.as_bytes().last_chunk().copied().unwrap_or_default())
    }

    /// The regular file that `path` names inside the image.
    ///
    /// A path is resolved by one search after its symlinks are found in a small table; most paths of execs have none. A
    /// path that the table cannot resolve is walked as the kernel walks it with the image as its root: it follows
    /// symlinks in every component, the last one included, at most [`LINKS_MAX`] of them; `..` stops at the root; `.`
    /// and repeated `/` mean nothing. Returns `None` when there is no such file, when the path is relative or ends in
    /// `/`, or when the walk exceeds a limit. The walk does not check that a component that `..` leaves exists and is a
    /// directory: the exec has proven that the path can be walked.
    #[must_use]
    pub fn file(&self, path: &[u8]) -> Option<ImageFile<'_>> {
        self.at(path, Last::Followed)?.file()
    }

    /// The entry at `path`, resolved through symlinked directories as in [`Self::file`]; a symlink in the last
    /// component is returned, not followed.
    #[must_use]
    pub fn entry(&self, path: &[u8]) -> Option<ImageEntry<'_>> {
        self.at(path, Last::Kept)
    }

    /// The first path, in order of bytes, of a file with this content.
    #[must_use]
    pub fn path_of(&self, sha256: &Sha256) -> Option<&[u8]> {
        self.paths_of(sha256).next()
    }

    /// The paths of all files with this content, in order of bytes.
    pub fn paths_of(&self, sha256: &Sha256) -> impl Iterator<Item = &[u8]> {
        let sha256 = *sha256;
        self.sections().into_iter().flat_map(move |sections| sections.with_content(sha256)).map(|entry| entry.path)
    }

    /// Number of regular files in the image.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.sections().map_or(0, Sections::file_count)
    }

    /// Memory of this index, for the weigher of a cache.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.as_bytes().len() + self.links.memory_bytes()
    }

    /// Every entry of the image, by path. The root is included when a layer has it.
    pub fn entries(&self) -> impl Iterator<Item = ImageEntry<'_>> {
        self.sections().into_iter().flat_map(Sections::entries).map(|(_, entry)| entry)
    }

    /// All files by path.
    pub fn files(&self) -> impl Iterator<Item = ImageFile<'_>> {
        self.entries().filter_map(ImageEntry::file)
    }

    fn at(&self, path: &[u8], last: Last) -> Option<ImageEntry<'_>> {
        let sections = self.sections()?;
        match self.links.find(sections, path, last) {
            LinkLookup::Entry(entry) => return Some(entry),
            LinkLookup::Nothing => return None,
            LinkLookup::Unknown => {}
        }
        // A file is in the index under its real path only, so an entry found under the path as given is the result.
        let direct = sections.find(path).filter(|entry| last == Last::Kept || entry.kind == NodeKind::File);
        direct.or_else(|| sections.find(&real_path(path, last, |at| sections.find(at)?.target)?))
    }

    fn sections(&self) -> Option<Sections<'_>> {
        Sections::of(self.as_bytes())
    }
}

impl fmt::Debug for ImageIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

impl PartialEq for ImageIndex {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}
