//! Members that the tools are known to reject, or to unpack in another way than engines on overlayfs. Such a member is
//! left out of a stack that the tool unpacks, and counted by its reason; other stacks contain it.

use std::collections::BTreeMap;

use driftline_enricher_core::image::{Last, real_path};

use crate::member::{Kind, Member};
use crate::view::{View, ViewNode};

const OPAQUE: &[u8] = b"/.wh..wh..opq";

/// The tools that unpack a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpackers {
    Both,
    Podman,
    Umoci,
}

/// Why a member is withheld from a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limitation {
    PathTwice,
    LowerHardLink,
    MarkOnOwn,
    MarkOnOwnDirectory,
    MarkOnFilled,
    ThroughUnmade,
    ThroughLower,
    HardLinkMode,
    HardLinkToHidden,
    KindTwice,
    DirectoryReplaced,
    HardLinkToNothing,
}

/// How often members were left out, by reason.
pub(crate) type LeftOut = BTreeMap<Limitation, u64>;

impl Limitation {
    /// The name as printed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PathTwice => "podman refuses a path twice in a layer",
            Self::LowerHardLink => "podman refuses a hard link into a lower layer",
            Self::MarkOnOwn => "podman refuses a whiteout of what its layer has, and what lies below a whiteout",
            Self::MarkOnOwnDirectory => "umoci hides a directory that the same layer describes, engines merge it",
            Self::MarkOnFilled => "umoci keeps the mode of a directory hidden after its layer has filled it",
            Self::ThroughUnmade => "podman refuses a path through a symlink to what its layer does not have",
            Self::ThroughLower => "umoci follows symlinks of lower layers, overlayfs does not",
            Self::HardLinkMode => "umoci ignores the mode of a hard link, engines do not",
            Self::HardLinkToHidden => "umoci refuses a hard link to what its layer has hidden before",
            Self::KindTwice => "umoci forgets the lower directory when its layer has a file there for a time",
            Self::DirectoryReplaced => "podman refuses to replace a directory that the same layer has filled",
            Self::HardLinkToNothing => {
                "all refuse a hard link to a directory or to what is not there, or gone once its place is free"
            }
        }
    }
}

impl Unpackers {
    pub(crate) fn has_podman(self) -> bool {
        self != Self::Umoci
    }

    pub(crate) fn has_umoci(self) -> bool {
        self != Self::Podman
    }

    /// The reason why this member cannot follow `own` on top of `below`, if there is one.
    pub(crate) fn objection(self, own: &[Member], below: &View, member: &Member) -> Option<Limitation> {
        let layer = Own { own, below };
        let path = layer.real(&member.path);
        if let Kind::HardLink(target) = &member.kind {
            let target = layer.real(target);
            let is_below = below.get(&target).is_some_and(|node| !matches!(node, ViewNode::Directory { .. }));
            let is_there = layer.at(&target).next().is_some() || is_below;
            if !is_there || is_at_or_below(&target, &path) {
                return Some(Limitation::HardLinkToNothing);
            }
        }
        let podman = || layer.podman(&path, member);
        let umoci = || layer.umoci(&path, member);
        let of_podman = if self.has_podman() { podman() } else { None };
        of_podman.or_else(|| if self.has_umoci() { umoci() } else { None })
    }
}

/// A layer while it is drawn, and the view below it.
struct Own<'a> {
    own: &'a [Member],
    below: &'a View,
}

impl Own<'_> {
    /// The real path once symlinks of the layer itself are followed.
    fn real(&self, written: &[u8]) -> Vec<u8> {
        let path = clean(written);
        real_path(&path, Last::Kept, |at| self.symlink(at)).unwrap_or(path)
    }

    /// The target of the symlink at a path, which may be a hard link to a symlink.
    fn symlink(&self, at: &[u8]) -> Option<&[u8]> {
        let mut at = at.to_vec();
        let mut earlier = self.own.iter().rev();
        loop {
            match &earlier.find(|own| clean(&own.path) == at)?.kind {
                Kind::Symlink(target) => return Some(target),
                Kind::HardLink(target) => at = clean(target),
                _ => return None,
            }
        }
    }

    /// The paths that the whiteouts of the layer hide.
    fn hidden(&self) -> impl Iterator<Item = Vec<u8>> {
        self.own.iter().filter_map(|own| hidden_by(&self.real(&own.path)))
    }

    /// The directories that the opaque marks of the layer empty.
    fn emptied(&self) -> impl Iterator<Item = Vec<u8>> {
        self.own.iter().filter_map(|own| self.real(&own.path).strip_suffix(OPAQUE).map(<[u8]>::to_vec))
    }

    fn at(&self, path: &[u8]) -> impl Iterator<Item = &Member> {
        self.own.iter().filter(move |member| self.real(&member.path) == path)
    }

    fn has_directory(&self, path: &[u8]) -> bool {
        self.at(path).any(|member| member.kind == Kind::Directory)
    }

    fn podman(&self, path: &[u8], member: &Member) -> Option<Limitation> {
        if self.at(path).next().is_some() {
            return Some(Limitation::PathTwice);
        }
        if let Kind::HardLink(target) = &member.kind
            && self.at(&self.real(target)).next().is_none()
        {
            return Some(Limitation::LowerHardLink);
        }
        let own_at_or_below = |hidden: &[u8]| self.own.iter().any(|own| is_at_or_below(&self.real(&own.path), hidden));
        let is_in = |hidden: Vec<u8>| is_below(path, &hidden) && !self.has_directory(&hidden);
        if hidden_by(path).is_some_and(|hidden| own_at_or_below(&hidden)) || self.hidden().any(is_in) {
            return Some(Limitation::MarkOnOwn);
        }
        if member.kind != Kind::Directory && self.own.iter().any(|own| is_below(&self.real(&own.path), path)) {
            return Some(Limitation::DirectoryReplaced);
        }
        let is_through = path != clean(&member.path) && !self.has_directory(ancestors(path).last().unwrap_or_default());
        is_through.then_some(Limitation::ThroughUnmade)
    }

    fn umoci(&self, path: &[u8], member: &Member) -> Option<Limitation> {
        if self.is_below_lower_file(path) {
            return Some(Limitation::ThroughLower);
        }
        let is_replaced = |hidden: Vec<u8>| path == hidden && member.kind == Kind::Directory;
        if hidden_by(path).is_some_and(|hidden| self.has_directory(&hidden)) || self.hidden().any(is_replaced) {
            return Some(Limitation::MarkOnOwnDirectory);
        }
        let is_filled = |hidden: Vec<u8>| self.own.iter().any(|own| is_below(&self.real(&own.path), &hidden));
        let is_filled_below = |directory: &[u8]| {
            let keeps = |at: &[u8]| is_below(at, directory) && self.below.contains_key(at) && !self.has_directory(at);
            self.own.iter().any(|own| ancestors(&self.real(&own.path)).any(keeps))
        };
        if hidden_by(path).is_some_and(is_filled) || path.strip_suffix(OPAQUE).is_some_and(is_filled_below) {
            return Some(Limitation::MarkOnFilled);
        }
        if let Kind::HardLink(target) = &member.kind {
            let target = self.real(target);
            if self.hidden().any(|hidden| is_at_or_below(&target, &hidden))
                || self.emptied().any(|directory| is_below(&target, &directory))
            {
                return Some(Limitation::HardLinkToHidden);
            }
            if self.is_below_lower_file(&target) {
                return Some(Limitation::ThroughLower);
            }
            if self.mode_of_file(&target).is_some_and(|mode| mode != member.mode) {
                return Some(Limitation::HardLinkMode);
            }
        }
        let was_other = |own: &Member| (own.kind == Kind::Directory) != (member.kind == Kind::Directory);
        (self.below.contains_key(path) && self.at(path).any(was_other)).then_some(Limitation::KindTwice)
    }

    /// Whether the lower layers have a symlink or file where this layer needs a directory without having an entry for
    /// it.
    fn is_below_lower_file(&self, path: &[u8]) -> bool {
        let is_directory = |node: &ViewNode| matches!(node, ViewNode::Directory { .. });
        ancestors(path)
            .any(|above| self.below.get(above).is_some_and(|node| !is_directory(node)) && !self.has_directory(above))
    }

    /// The mode of a file of the layer itself, else of those below.
    fn mode_of_file(&self, path: &[u8]) -> Option<u32> {
        let own = self.at(path).filter(|own| !matches!(own.kind, Kind::Symlink(_))).last().map(|own| own.mode);
        own.or_else(|| match self.below.get(path) {
            Some(ViewNode::File { mode, .. }) => Some(u32::from(*mode)),
            _ => None,
        })
    }
}

/// The path in absolute form, without empty and `.` components.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.flat_map(|name| [b"/", name].concat()).collect()
}

/// The path that a whiteout hides.
fn hidden_by(path: &[u8]) -> Option<Vec<u8>> {
    let at = path.iter().rposition(|byte| *byte == b'/')? + 1;
    let (directory, name) = path.split_at_checked(at)?;
    let hidden = name.strip_prefix(b".wh.").filter(|hidden| !hidden.starts_with(b".wh."))?;
    Some([directory, hidden].concat())
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

fn is_at_or_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The directories above a path, without the root.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0).filter_map(|(at, _)| path.get(..at))
}
