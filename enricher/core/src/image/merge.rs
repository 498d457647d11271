//! Merges layers into an [`ImageIndex`], lowest first, as overlayfs shows the directories that a runtime unpacks from
//! them.
//!
//! The state is a sorted map of every path except the root. Its invariant: every parent of a path in the map is a
//! directory in the map, so every path in it is a real path.
//!
//! Order within a layer: hard links are looked up, whiteouts and opaque marks are applied to the lower layers, entries
//! are added, hard links are added. An implied directory, which exists only because an entry is below it, replaces a
//! lower symlink of that name: a runtime unpacks each layer into a separate directory, which does not contain that
//! symlink. An implied directory does not change a lower directory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use driftline_schemas::Sha256;
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
use driftline_schemas::limits::{LAYERS_MAX, PATH_BYTES_MAX};

use super::resolve::{Last, parent, real_path};
use super::{ImageEntry, ImageIndex, NodeKind, block};

/// Mode of a directory that no layer describes: runtimes create it with this mode.
const IMPLIED_MODE: u16 = 0o755;

/// Most hard links followed in one layer; indexers write links to files, so one is the usual number.
const HARD_LINKS_MAX: usize = 8;

/// Most hard links of an image that must be walked through symlinks of lower layers. No known builder creates any; a
/// walk can take a millisecond, so this limits the cost of a hostile manifest to seconds.
const WALKS_MAX: usize = 4_096;

/// Why layers cannot be merged: manifests are untrusted input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// More layers than an overlay can have.
    #[error("{0} layers, at most {LAYERS_MAX} can be mounted")]
    Layers(usize),
    /// A path is not absolute and normalised, or is longer than the kernel allows.
    #[error("layer {layer} has a path that is not absolute and normalised")]
    Path {
        /// Number of the layer, 0 is the lowest.
        layer: u16,
    },
    /// A file lacks a digest, or a link lacks a target.
    #[error("layer {layer} has a file without digest or a link without target")]
    Incomplete {
        /// Number of the layer, 0 is the lowest.
        layer: u16,
    },
    /// There are more than [`WALKS_MAX`] walks.
    #[error("more than {WALKS_MAX} hard links go through symlinks of lower layers")]
    Walks,
    /// The paths exceed 4 GiB, or a symlink target is longer than a kernel follows.
    #[error("the paths of the image are too long together")]
    TooLarge,
}

/// Merges the layers of an image, lowest first.
///
/// # Errors
/// When a manifest contains something that no indexer writes, or the result is too large.
pub fn merge(layers: &[Arc<LayerManifest>]) -> Result<ImageIndex, MergeError> {
    if layers.len() > LAYERS_MAX {
        return Err(MergeError::Layers(layers.len()));
    }
    let mut merged = Merged::default();
    for (number, layer) in (0..).zip(layers) {
        merged.add(number, layer)?;
    }
    let entries = merged.nodes.iter().map(|(path, node)| node.entry(path));
    let block = block::write(entries).map_err(|_| MergeError::TooLarge)?;
    Ok(ImageIndex::of(Box::new(block.into_boxed_slice())))
}

/// The entry at a path.
#[derive(Debug, Clone, Copy)]
struct Node<'a> {
    content: Content<'a>,
    mode: u16,
    layer: u16,
}

#[derive(Debug, Clone, Copy)]
enum Content<'a> {
    File { sha256: [u8; 32], size_bytes: u64 },
    Directory,
    Link(&'a [u8]),
    Device,
}

#[derive(Debug, Default)]
struct Merged<'a> {
    nodes: BTreeMap<&'a [u8], Node<'a>>,
    walks: usize,
}

impl<'a> Merged<'a> {
    fn add(&mut self, layer: u16, manifest: &'a LayerManifest) -> Result<(), MergeError> {
        let entries = manifest.entries();
        if !entries.iter().all(|entry| is_normal(&entry.path)) {
            return Err(MergeError::Path { layer });
        }
        let mut hard_links = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Hardlink) {
            let target = entry.target.as_deref().ok_or(MergeError::Incomplete { layer })?;
            hard_links.push((entry, self.linked(layer, entries, target)?));
        }
        let mut directories = Directories::default();
        for entry in entries.iter().filter(|entry| is_mark(entry.kind) && !is_replaced_mark(entries, entry)) {
            self.make_parents(&mut directories, &entry.path, layer);
            match entry.kind {
                EntryKind::Opaque => self.make_directory(&entry.path, layer),
                _ => drop(self.nodes.remove(entry.path.as_slice())),
            }
            self.remove_below(&entry.path);
        }
        let mut directories = Directories::default();
        for entry in entries.iter().filter(|entry| !is_mark(entry.kind) && entry.kind != EntryKind::Hardlink) {
            self.make_parents(&mut directories, &entry.path, layer);
            self.put(&entry.path, node(layer, entry)?);
        }
        let mut directories = Directories::default();
        for (entry, target) in hard_links {
            self.make_parents(&mut directories, &entry.path, layer);
            // A hard link to a directory or to a missing path does not exist. Nor does the lower entry that it hides.
            let target = target.filter(|node| !node.is_directory());
            self.put(&entry.path, target.map(|node| Node { mode: entry.mode, layer, ..node }));
        }
        Ok(())
    }

    /// Replaces the entry at `path`; a directory keeps the entries below it.
    fn put(&mut self, path: &'a [u8], node: Option<Node<'a>>) {
        let before = match node {
            Some(node) => self.nodes.insert(path, node),
            None => self.nodes.remove(path),
        };
        let was_directory = before.is_none_or(Node::is_directory);
        if was_directory && !node.is_some_and(Node::is_directory) {
            self.remove_below(path);
        }
    }

    /// The entry that a hard link to `target` names: in its own layer, else in the lower layers before whiteouts are
    /// applied.
    fn linked(&mut self, layer: u16, own: &'a [LayerEntry], target: &'a [u8]) -> Result<Option<Node<'a>>, MergeError> {
        let mut target = target;
        for _ in 0..HARD_LINKS_MAX {
            match find(own, target) {
                Some(entry) if entry.kind == EntryKind::Hardlink => {
                    target = entry.target.as_deref().ok_or(MergeError::Incomplete { layer })?;
                }
                Some(entry) => return node(layer, entry),
                None => return self.lower(target),
            }
        }
        Ok(None)
    }

    fn lower(&mut self, path: &[u8]) -> Result<Option<Node<'a>>, MergeError> {
        if let Some(node) = self.nodes.get(path) {
            return Ok(Some(*node));
        }
        self.walks += 1;
        if self.walks > WALKS_MAX {
            return Err(MergeError::Walks);
        }
        let link = |at: &[u8]| match self.nodes.get(at) {
            Some(Node { content: Content::Link(target), .. }) => Some(*target),
            _ => None,
        };
        Ok(real_path(path, Last::Kept, link).and_then(|real| self.nodes.get(real.as_slice()).copied()))
    }

    /// Makes every parent of `path` a directory.
    fn make_parents(&mut self, directories: &mut Directories<'a>, path: &'a [u8], layer: u16) {
        directories.unseen_above(path).for_each(|directory| self.make_directory(directory, layer));
    }

    /// Makes `path` a directory; an existing directory keeps its mode.
    fn make_directory(&mut self, path: &'a [u8], layer: u16) {
        if path == b"/" {
            return;
        }
        let implied = Node { content: Content::Directory, mode: IMPLIED_MODE, layer };
        let node = self.nodes.entry(path).or_insert(implied);
        if !node.is_directory() {
            *node = implied;
        }
    }

    fn remove_below(&mut self, path: &[u8]) {
        let first = [path.strip_suffix(b"/").unwrap_or(path), b"/"].concat();
        // `0` is the byte after `/`.
        let after = [path.strip_suffix(b"/").unwrap_or(path), b"0"].concat();
        let below = (Bound::Included(first.as_slice()), Bound::Excluded(after.as_slice()));
        let gone: Vec<&[u8]> = self.nodes.range::<[u8], _>(below).map(|(path, _)| *path).collect();
        for path in gone {
            self.nodes.remove(path);
        }
    }
}

impl<'a> Node<'a> {
    fn is_directory(self) -> bool {
        matches!(self.content, Content::Directory)
    }

    fn entry(self, path: &'a [u8]) -> ImageEntry<'a> {
        let (kind, size_bytes, sha256, target) = match self.content {
            Content::File { sha256, size_bytes } => (NodeKind::File, size_bytes, Some(Sha256(sha256)), None),
            Content::Directory => (NodeKind::Directory, 0, None, None),
            Content::Link(target) => (NodeKind::Symlink, 0, None, Some(target)),
            Content::Device => (NodeKind::Device, 0, None, None),
        };
        ImageEntry { path, kind, mode: self.mode, size_bytes, sha256, target, layer: self.layer }
    }
}

/// Keeps the directories of the previous entry: sorted entries share most of them.
#[derive(Debug, Default)]
struct Directories<'a> {
    last: &'a [u8],
}

impl<'a> Directories<'a> {
    /// Parents of `path`, without the root, that the previous path did not have.
    fn unseen_above(&mut self, path: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let seen = std::mem::replace(&mut self.last, parent(path));
        std::iter::successors(Some(parent(path)), |directory| Some(parent(directory)))
            .take_while(move |directory| !directory.is_empty() && !is_at_or_below(seen, directory))
    }
}

fn is_at_or_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn is_mark(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::Whiteout | EntryKind::Opaque)
}

/// Whether a whiteout names a directory that its own layer describes. In the directory into which an engine unpacks a
/// layer, the whiteout is a device file that this directory replaces: nothing is left to hide the lower directory.
fn is_replaced_mark(own: &[LayerEntry], mark: &LayerEntry) -> bool {
    let is_directory = |entry: &LayerEntry| entry.kind == EntryKind::Directory;
    mark.kind == EntryKind::Whiteout && find(own, &mark.path).is_some_and(is_directory)
}

/// Whether a path is absolute, at most as long as the kernel allows, and without empty, `.` or `..` components; the
/// root is `/`.
fn is_normal(path: &[u8]) -> bool {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    path.len() <= PATH_BYTES_MAX
        && path.strip_prefix(b"/").is_some_and(|rest| rest.is_empty() || rest.split(|byte| *byte == b'/').all(is_name))
}

/// The entry of a layer at `path`, whiteouts and opaque marks excluded.
fn find<'a>(entries: &'a [LayerEntry], path: &[u8]) -> Option<&'a LayerEntry> {
    let first = entries.partition_point(|entry| entry.path.as_slice() < path);
    entries.get(first..)?.iter().take_while(|entry| entry.path == path).find(|entry| !is_mark(entry.kind))
}

/// The node that an entry adds at its path; `None` for kinds with rules of their own.
fn node(layer: u16, entry: &LayerEntry) -> Result<Option<Node<'_>>, MergeError> {
    let incomplete = MergeError::Incomplete { layer };
    let content = match entry.kind {
        EntryKind::File => Content::File { sha256: entry.sha256.ok_or(incomplete)?, size_bytes: entry.size_bytes },
        EntryKind::Symlink => Content::Link(entry.target.as_deref().ok_or(incomplete)?),
        EntryKind::Directory => Content::Directory,
        EntryKind::Device => Content::Device,
        EntryKind::Hardlink | EntryKind::Whiteout | EntryKind::Opaque => return Ok(None),
    };
    Ok(Some(Node { content, mode: entry.mode, layer }))
}
