//! Compares what we show of an image with what a tool shows.
//!
//! Not compared is the mode of a directory that the uppermost layer with something in it does not describe: podman makes
//! it anew, containerd keeps the lower one's, and both let it inherit setgid from the directory above.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftline_schemas::layer::{EntryKind, LayerManifest};

use crate::stack::shown;
use crate::view::{View, ViewNode};

const SETGID: u16 = 0o2000;

/// Which tool a view is of.
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

/// Directories that are there because something lies in them, or was hidden in them, in the uppermost layer that has to
/// do with them.
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

/// Where two opinions differ, path by path.
pub(crate) fn differences(tool: Tool, ours: &View, theirs: &View, implied: &BTreeSet<Vec<u8>>) -> Vec<String> {
    let paths: BTreeSet<&Vec<u8>> = ours.keys().chain(theirs.keys()).collect();
    let agree = |path: &Vec<u8>| match (ours.get(path), theirs.get(path)) {
        (Some(ViewNode::Directory { mode: our }), Some(ViewNode::Directory { mode: their }))
            if implied.contains(path) =>
        {
            tool == Tool::Podman || our & !SETGID == their & !SETGID
        }
        // umoci makes no directory for a mark alone.
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
