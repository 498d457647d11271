//! The merged content of an image: which regular file a path names, and where a content lies.
//!
//! Made once per image by [`merge`], then shared by all containers of the image; asked at every exec that has to be
//! judged. Immutable: sorted tables over one block of text, found by binary search.
//!
//! What is deliberately absent: directories and devices. A directory exists because something lies below it, and
//! neither can be executed.

mod merge;
mod resolve;
#[cfg(test)]
mod tests;

use driftline_schemas::Sha256;

pub use merge::{MergeError, merge};
pub use resolve::{LINKS_MAX, Last, real_path};

/// The merged files of an image. 60 bytes per file and 12 per symlink, beside the text of paths and targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIndex {
    /// Paths and symlink targets, one after the other.
    text: Box<[u8]>,
    /// Regular files by path. No file's path goes through a symlink or another file: [`merge`] keeps it so.
    files: Box<[FileSlot]>,
    /// Symlinks by path.
    links: Box<[LinkSlot]>,
    /// Numbers in `files`, by content, then path.
    by_content: Box<[u32]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileSlot {
    sha256: [u8; 32],
    size_bytes: u64,
    path_at: u32,
    path_len: u16,
    mode: u16,
    layer: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LinkSlot {
    path_at: u32,
    target_at: u32,
    path_len: u16,
    target_len: u16,
}

const _: () = assert!(size_of::<FileSlot>() + size_of::<u32>() <= 60 && size_of::<LinkSlot>() == 12);

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
    /// Number of the layer it comes from, 0 is the lowest.
    pub layer: u16,
}

impl ImageIndex {
    /// The regular file that `path` names inside the image.
    ///
    /// A path that the kernel has resolved is answered by one search, and that answer is final: a file is in the index
    /// under its real path only. Any other path is walked as the kernel walks it with the image as its root: symlinks
    /// in every component, the last one included, at most [`LINKS_MAX`] of them; `..` stops at the root; `.` and
    /// repeated `/` mean nothing. `None` when there is no such file, when the path is relative or ends in `/`, or when
    /// walking exceeds a limit. A component that does not exist or is a file is not noticed when `..` leaves it: who
    /// executed the path has proven that it can be walked.
    #[must_use]
    pub fn file(&self, path: &[u8]) -> Option<ImageFile<'_>> {
        self.exact(path).or_else(|| self.exact(&real_path(path, Last::Followed, |at| self.link(at))?))
    }

    /// The first path, in order of bytes, of a file with this content.
    #[must_use]
    pub fn path_of(&self, sha256: &Sha256) -> Option<&[u8]> {
        let content = |number: &u32| self.slot(*number).map(|slot| slot.sha256);
        let first = self.by_content.partition_point(|number| content(number) < Some(sha256.0));
        let slot = self.slot(*self.by_content.get(first)?)?;
        (slot.sha256 == sha256.0).then(|| self.text_at(slot.path_at, slot.path_len))
    }

    /// How many regular files the image has.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Memory this index holds, for the weigher of a cache.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val::<[u8]>(&self.text)
            + size_of_val::<[FileSlot]>(&self.files)
            + size_of_val::<[LinkSlot]>(&self.links)
            + size_of_val::<[u32]>(&self.by_content)
    }

    /// All files by path.
    pub fn files(&self) -> impl Iterator<Item = ImageFile<'_>> {
        self.files.iter().map(|slot| self.show(slot))
    }

    fn exact(&self, path: &[u8]) -> Option<ImageFile<'_>> {
        let found = self.files.binary_search_by(|slot| self.text_at(slot.path_at, slot.path_len).cmp(path)).ok()?;
        self.files.get(found).map(|slot| self.show(slot))
    }

    fn link(&self, path: &[u8]) -> Option<&[u8]> {
        let found = self.links.binary_search_by(|link| self.text_at(link.path_at, link.path_len).cmp(path)).ok()?;
        self.links.get(found).map(|link| self.text_at(link.target_at, link.target_len))
    }

    fn slot(&self, number: u32) -> Option<&FileSlot> {
        self.files.get(usize::try_from(number).ok()?)
    }

    fn show(&self, slot: &FileSlot) -> ImageFile<'_> {
        ImageFile {
            path: self.text_at(slot.path_at, slot.path_len),
            sha256: Sha256(slot.sha256),
            size_bytes: slot.size_bytes,
            mode: slot.mode,
            layer: slot.layer,
        }
    }

    /// The text of a slot; slots are made together with the text, so they never point outside of it.
    fn text_at(&self, at: u32, len: u16) -> &[u8] {
        usize::try_from(at)
            .ok()
            .and_then(|start| self.text.get(start..start.saturating_add(usize::from(len))))
            .unwrap_or_default()
    }
}
