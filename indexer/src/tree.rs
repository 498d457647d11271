//! The entries of one layer while its tar stream is read: the content of the layer's directory after a runtime has
//! unpacked it.
//!
//! Rules, as engines unpack: the last entry of a path counts; a directory over a directory merges, any other entry
//! replaces what was there with everything below it; an entry behind a symlink of its own layer is placed at the
//! symlink's target; a hard link shares content and mode. Whiteouts are kept apart, as a set: they affect lower layers
//! only.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use driftline_enricher_core::image::{Last, real_path};
use driftline_schemas::Sha256;
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
use driftline_schemas::limits::PATH_BYTES_MAX;

use crate::error::{IndexError, Limit};
use crate::limits::{ENTRIES_MAX, ENTRY_BYTES, MANIFEST_BYTES_MAX};
use crate::tar_stream::Member;

/// Prefix of the name of an entry that hides a lower one.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// Name of an entry that hides everything below its directory in lower layers.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bookkeeping of aufs in the root of old layers; engines do not unpack it, but hard links may point into it.
const AUFS: &[u8] = b"/.wh..wh.";

/// The entry at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File {
        sha256: [u8; 32],
        size_bytes: u64,
    },
    Directory,
    Symlink(Vec<u8>),
    /// Link to a file of this layer, or to a path that this layer does not have.
    Hardlink(Vec<u8>),
    Device,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    mode: u16,
    node: Node,
}

/// A layer while it is read.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    slots: BTreeMap<Vec<u8>, Slot>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    /// Hard links by their target: in this layer or, where it has no such path yet, in lower layers.
    links: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    /// Directory of the previous entry, as written and as resolved; the entries of a directory follow each other.
    last_parent: Option<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Tree {
    /// Adds a member; `sha256` is the digest of a regular file's content.
    pub(crate) fn add(&mut self, member: &Member, sha256: Option<Sha256>) -> Result<(), IndexError> {
        let path = normal(&member.path)?;
        let (parent, name) = split(&path);
        if parent.is_empty() && name.is_empty() {
            return self.add_root(member);
        }
        let path = self.placed(parent, name)?;
        self.charge(&path, member.target.as_deref())?;
        let (parent, name) = split(&path);
        if name == OPAQUE {
            let directory = if parent.is_empty() { b"/" } else { parent };
            self.opaque.insert(directory.to_vec());
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|_| !path.starts_with(AUFS)) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(IndexError::path("a whiteout hides nothing", &member.path));
            }
            self.whiteouts.insert([parent, b"/", hidden].concat());
        } else {
            let (path, slot) = self.slot(path, member, sha256)?;
            if self.is_linked_below(&path) {
                return Err(IndexError::path("a hard link comes before its target", &member.path));
            }
            self.put(path, slot);
        }
        Ok(())
    }

    /// The finished layer.
    pub(crate) fn finish(self) -> LayerManifest {
        let Self { mut slots, whiteouts, opaque, links, .. } = self;
        for (target, names) in &links {
            let Some(mode) = slots.get(target).map(|slot| slot.mode) else { continue };
            for name in names {
                if let Some(slot) = slots.get_mut(name).filter(|slot| slot.node == Node::Hardlink(target.clone())) {
                    slot.mode = mode;
                }
            }
        }
        let marks = [(whiteouts, EntryKind::Whiteout), (opaque, EntryKind::Opaque)];
        let marks = marks.into_iter().flat_map(|(paths, kind)| paths.into_iter().map(move |path| mark(path, kind)));
        let entries = slots.into_iter().filter(|(path, _)| !path.starts_with(AUFS)).map(entry);
        LayerManifest::new(entries.chain(marks).collect())
    }

    fn charge(&mut self, path: &[u8], target: Option<&[u8]>) -> Result<(), IndexError> {
        if path.len() > PATH_BYTES_MAX || target.is_some_and(|target| target.len() > PATH_BYTES_MAX) {
            return Err(Limit::PathBytes.into());
        }
        self.bytes += path.len() + target.map_or(0, <[u8]>::len) + ENTRY_BYTES;
        if self.bytes > MANIFEST_BYTES_MAX {
            return Err(Limit::ManifestBytes.into());
        }
        if self.slots.len() + self.whiteouts.len() + self.opaque.len() >= ENTRIES_MAX {
            return Err(Limit::Entries.into());
        }
        Ok(())
    }

    fn add_root(&mut self, member: &Member) -> Result<(), IndexError> {
        if member.kind != EntryKind::Directory {
            return Err(IndexError::path("the root is not a directory", &member.path));
        }
        self.slots.insert(b"/".to_vec(), Slot { mode: member.mode, node: Node::Directory });
        Ok(())
    }

    /// The real path of an entry: symlinks of this layer in its directory are followed.
    fn placed(&mut self, parent: &[u8], name: &[u8]) -> Result<Vec<u8>, IndexError> {
        if parent.len() + name.len() >= PATH_BYTES_MAX {
            return Err(Limit::PathBytes.into());
        }
        if let Some((written, real)) = &self.last_parent
            && written == parent
        {
            return Ok([real, &b"/"[..], name].concat());
        }
        let path = [parent, b"/", name].concat();
        let real = real_path(&path, Last::Kept, |at| match &self.slots.get(at)?.node {
            Node::Symlink(target) => Some(target.as_slice()),
            _ => None,
        });
        let real = real.ok_or_else(|| IndexError::path("a path leads nowhere", &path))?;
        let real_parent = split(&real).0.to_vec();
        let mut above = real_parent.as_slice();
        while !above.is_empty() {
            if self.slots.get(above).is_some_and(|slot| slot.node != Node::Directory) {
                return Err(IndexError::path("a path lies below a file", &path));
            }
            above = split(above).0;
        }
        self.last_parent = Some((parent.to_vec(), real_parent));
        Ok(real)
    }

    fn slot(&mut self, path: Vec<u8>, member: &Member, sha256: Option<Sha256>) -> Result<(Vec<u8>, Slot), IndexError> {
        let target = || member.target.clone().ok_or(IndexError::path("a link has no target", &member.path));
        let node = match member.kind {
            EntryKind::File => {
                let sha256 = sha256.ok_or(IndexError::Tar("a file has no digest"))?.0;
                Node::File { sha256, size_bytes: member.size_bytes }
            }
            EntryKind::Directory => Node::Directory,
            EntryKind::Symlink => Node::Symlink(target()?),
            EntryKind::Hardlink => self.hard_link(&path, &target()?, member)?,
            EntryKind::Device | EntryKind::Whiteout | EntryKind::Opaque => Node::Device,
        };
        Ok((path, Slot { mode: member.mode, node }))
    }

    /// The node that a hard link creates: a link to a file of this layer, a copy of any other entry of this layer, or a
    /// link into lower layers.
    fn hard_link(&mut self, path: &[u8], target: &[u8], member: &Member) -> Result<Node, IndexError> {
        let target = normal(target)?;
        let (parent, name) = split(&target);
        let target = self.placed(parent, name)?;
        let refuse = |why| Err(IndexError::path(why, &member.path));
        if target == path {
            return refuse("a hard link points to itself");
        }
        // An engine removes the old entry first; another name of the old file keeps its content.
        self.forget(path);
        self.remove_below(path);
        let (target, shared) = match self.slots.get(&target) {
            None => (target, None),
            Some(Slot { node: Node::Directory, .. }) => return refuse("a hard link points to a directory"),
            Some(Slot { node: Node::Hardlink(first), .. }) => (first.clone(), self.slots.get(first)),
            Some(slot) => (target, Some(slot)),
        };
        match shared.map(|slot| &slot.node) {
            Some(Node::File { .. }) if !target.starts_with(AUFS) => {}
            Some(node) => return Ok(node.clone()),
            None => {}
        }
        // All names share one inode, so the last mode applies to all.
        if let Some(file) = self.slots.get_mut(&target) {
            file.mode = member.mode;
        }
        self.links.entry(target.clone()).or_default().push(path.to_vec());
        Ok(Node::Hardlink(target))
    }

    /// Whether a hard link into lower layers names this path, where this layer has nothing so far. An entry added there
    /// would be taken for the link's target: a manifest cannot express that an engine has linked the lower file.
    fn is_linked_below(&self, path: &[u8]) -> bool {
        let names_it = |name: &Vec<u8>| {
            let slot = self.slots.get(name);
            slot.is_some_and(|slot| matches!(&slot.node, Node::Hardlink(target) if target == path))
        };
        !self.slots.contains_key(path) && self.links.get(path).is_some_and(|names| names.iter().any(names_it))
    }

    fn put(&mut self, path: Vec<u8>, slot: Slot) {
        let is_directory = slot.node == Node::Directory;
        let merges = is_directory && self.slots.get(&path).is_some_and(|before| before.node == Node::Directory);
        if !merges {
            self.forget(&path);
        }
        if !is_directory {
            self.remove_below(&path);
            let is_parent = self.last_parent.as_ref().is_some_and(|(_, real)| real.starts_with(&path));
            if is_parent || matches!(slot.node, Node::Symlink(_)) {
                self.last_parent = None;
            }
        }
        self.slots.insert(path, slot);
    }

    fn remove_below(&mut self, path: &[u8]) {
        let first = [path, b"/"].concat();
        // `0` is the byte after `/`.
        let after = [path, b"0"].concat();
        let below = (Bound::Included(first.as_slice()), Bound::Excluded(after.as_slice()));
        let gone: Vec<Vec<u8>> = self.slots.range::<[u8], _>(below).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.forget(&path);
        }
    }

    /// Removes a path; links to it become separate files.
    fn forget(&mut self, path: &[u8]) {
        let Some(slot) = self.slots.remove(path) else { return };
        if matches!(slot.node, Node::Symlink(_)) {
            self.last_parent = None;
        }
        for name in self.links.remove(path).unwrap_or_default() {
            if let Some(link) = self.slots.get_mut(&name)
                && matches!(&link.node, Node::Hardlink(target) if target == path)
            {
                *link = slot.clone();
            }
        }
    }
}

/// The absolute, normalised path; the root is `/`.
fn normal(path: &[u8]) -> Result<Vec<u8>, IndexError> {
    let mut normal = Vec::with_capacity(path.len() + 1);
    for name in path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        if name == b".." {
            return Err(IndexError::path("a path contains '..'", path));
        }
        if name.contains(&0) {
            return Err(IndexError::path("a path contains NUL", path));
        }
        normal.push(b'/');
        normal.extend_from_slice(name);
    }
    if normal.is_empty() {
        normal.push(b'/');
    }
    Ok(normal)
}

/// Directory, without the slash at its end, and name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let (parent, name) = path.split_at_checked(at).unwrap_or_default();
    (parent, name.strip_prefix(b"/").unwrap_or(name))
}

fn entry((path, slot): (Vec<u8>, Slot)) -> LayerEntry {
    let Slot { mode, node } = slot;
    let (kind, size_bytes, sha256, target) = match node {
        Node::File { sha256, size_bytes } => (EntryKind::File, size_bytes, Some(sha256), None),
        Node::Directory => (EntryKind::Directory, 0, None, None),
        Node::Symlink(target) => (EntryKind::Symlink, 0, None, Some(target)),
        Node::Hardlink(target) => (EntryKind::Hardlink, 0, None, Some(target)),
        Node::Device => (EntryKind::Device, 0, None, None),
    };
    LayerEntry { path, kind, mode, size_bytes, sha256, target }
}

fn mark(path: Vec<u8>, kind: EntryKind) -> LayerEntry {
    LayerEntry { path, kind, mode: 0, size_bytes: 0, sha256: None, target: None }
}

#[cfg(test)]
mod tests;
