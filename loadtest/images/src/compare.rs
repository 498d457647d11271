//! Compares our view of an image with a tool's view.
//!
//! The mode of a directory is not compared when the uppermost layer that has entries in it does not describe it: podman
//! creates it again, containerd keeps the lower one's, and both let it inherit setgid from the directory above.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftline_schemas::layer::{EntryKind, LayerManifest};

use crate::stack::shown;
use crate::view::{View, ViewNode};

const SETGID: u16 = 0o2000;

/// The tool of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Podman,
    Umoci,
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Umoci => "umoci",
        }
    }
}

/// Directories that exist because the uppermost layer that concerns them has entries in them, or hides entries in them.
pub(crate) fn implied(manifests: &[Arc<LayerManifest>]) -> BTreeSet<Vec<u8>> {
    let mut implied = BTreeSet::new();
    for manifest in manifests {
        for entry in manifest.entries() {
            let end = entry.path.len() + usize::from(entry.kind == EntryKind::Opaque);
            let slashes = entry.path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0);
            let cuts = slashes.map(|(at, _)| at).chain([end.min(entry.path.len())]).filter(|cut| *cut < end);
            implied.extend(cuts.filter_map(|cut| entry.path.get(..cut)).map(<[u8]>::to_vec));
        }
        for entry in manifest.entries().iter().filter(|entry| entry.kind == EntryKind::Directory) {
            implied.remove(&entry.path);
        }
    }
    implied
}

/// The differences between two views, path by path.
pub(crate) fn differences(tool: Tool, ours: &View, theirs: &View, implied: &BTreeSet<Vec<u8>>) -> Vec<String> {
    let paths: BTreeSet<&Vec<u8>> = ours.keys().chain(theirs.keys()).collect();
    let agree = |path: &Vec<u8>| match (ours.get(path), theirs.get(path)) {
        (Some(ViewNode::Directory { mode: our }), Some(ViewNode::Directory { mode: their }))
            if implied.contains(path) =>
        {
            tool == Tool::Podman || our & !SETGID == their & !SETGID
        }
        // umoci creates no directory for a mark alone.
        (Some(ViewNode::Directory { .. }), None) if implied.contains(path) && tool == Tool::Umoci => {
            let below = [path, &b"/"[..]].concat();
            !theirs.keys().any(|other| other.starts_with(&below))
        }
        (our, their) => our == their,
    };
    let text = |node: Option<&ViewNode>| node.map_or("nothing".to_owned(), ToString::to_string);
    let differ = paths.into_iter().filter(|path| !agree(path));
    differ
        .map(|path| format!("{}: ours {}, theirs {}", shown(path), text(ours.get(path)), text(theirs.get(path))))
        .collect()
}
