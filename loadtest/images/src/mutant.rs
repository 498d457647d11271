//! Mutants: bugs planted on purpose in the input of the merge, never in its code. Each must be noticed; otherwise the
//! comparison covers less than it claims.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};

use crate::member::{Form, Kind};
use crate::ours;
use crate::stack::{Layer, Stack};
use crate::unpackers::clean;
use crate::view::View;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    OpaqueIgnored,
    WhiteoutIgnored,
    WhiteoutHidesItsOwnLayer,
    WhiteoutEmptiesItsOwnDirectory,
    OpaqueHidesItsOwnLayer,
    HardLinkAfterWhiteouts,
    DirectoryReplacesDirectory,
    FirstDuplicateWins,
    SymlinkedParentNotFollowed,
    PaxSizeIgnored,
    SameLayerOnce,
}

impl Mutant {
    /// All mutants, with their names on the command line.
    pub(crate) const ALL: [(&'static str, Self); 11] = [
        ("opaque-ignored", Self::OpaqueIgnored),
        ("whiteout-ignored", Self::WhiteoutIgnored),
        ("whiteout-hides-its-own-layer", Self::WhiteoutHidesItsOwnLayer),
        ("whiteout-empties-its-own-directory", Self::WhiteoutEmptiesItsOwnDirectory),
        ("opaque-hides-its-own-layer", Self::OpaqueHidesItsOwnLayer),
        ("hard-link-after-whiteouts", Self::HardLinkAfterWhiteouts),
        ("directory-replaces-directory", Self::DirectoryReplacesDirectory),
        ("first-duplicate-wins", Self::FirstDuplicateWins),
        ("symlinked-parent-not-followed", Self::SymlinkedParentNotFollowed),
        ("pax-size-ignored", Self::PaxSizeIgnored),
        ("same-layer-once", Self::SameLayerOnce),
    ];

    /// The view with the bug; an error is noticed as well.
    pub(crate) fn view(self, stack: &Stack) -> Result<View> {
        let mut seen = BTreeSet::new();
        let mut manifests = Vec::new();
        for layer in &stack.layers {
            if self == Self::SameLayerOnce && !seen.insert(layer.tar()) {
                continue;
            }
            let manifest = ours::manifest(&self.layer(layer))?;
            manifests.push(Arc::new(LayerManifest::new(self.entries(manifest.entries()))));
        }
        ours::view(&manifests)
    }

    /// The layer as read with the bug.
    fn layer(self, layer: &Layer) -> Layer {
        let mut layer = layer.clone();
        match self {
            Self::FirstDuplicateWins => {
                let mut paths = BTreeSet::new();
                layer.members.retain(|member| paths.insert(clean(&member.path)));
            }
            // An entry written through a symlink is then in a directory that replaces the symlink.
            Self::SymlinkedParentNotFollowed => {
                layer.members.sort_by_key(|member| matches!(member.kind, Kind::Symlink(_)));
            }
            Self::PaxSizeIgnored => {
                for member in layer.members.iter_mut().filter(|member| member.form == Form::PaxSize) {
                    member.kind = Kind::File(Vec::new());
                }
            }
            _ => {}
        }
        layer
    }

    fn entries(self, entries: &[LayerEntry]) -> Vec<LayerEntry> {
        let marked = |kind| entries.iter().filter(move |entry: &&LayerEntry| entry.kind == kind);
        let is_below = |path: &[u8], above: &[u8]| path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"));
        let is_hidden =
            |path: &[u8]| marked(EntryKind::Whiteout).any(|mark| mark.path == path || is_below(path, &mark.path));
        let is_mark = |entry: &LayerEntry| matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque);
        let is_retained = |entry: &&LayerEntry| match self {
            Self::OpaqueIgnored => entry.kind != EntryKind::Opaque,
            Self::WhiteoutIgnored => entry.kind != EntryKind::Whiteout,
            Self::WhiteoutHidesItsOwnLayer => is_mark(entry) || !is_hidden(&entry.path),
            Self::OpaqueHidesItsOwnLayer => {
                is_mark(entry) || !marked(EntryKind::Opaque).any(|mark| is_below(&entry.path, &mark.path))
            }
            Self::HardLinkAfterWhiteouts => {
                entry.kind != EntryKind::Hardlink || !entry.target.as_deref().is_some_and(is_hidden)
            }
            _ => true,
        };
        let mut retained: Vec<LayerEntry> = entries.iter().filter(is_retained).cloned().collect();
        let is_emptied = |directory: &&LayerEntry| match self {
            Self::DirectoryReplacesDirectory => true,
            Self::WhiteoutEmptiesItsOwnDirectory => is_hidden(&directory.path),
            _ => false,
        };
        let opaque = |entry: &LayerEntry| LayerEntry { kind: EntryKind::Opaque, mode: 0, ..entry.clone() };
        retained.extend(marked(EntryKind::Directory).filter(is_emptied).map(opaque));
        retained
    }
}
