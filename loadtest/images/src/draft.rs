//! A stack of layers while it is drawn: the members that a layer may have, and the entries below them.

use driftline_sim::Rng;

use crate::member::{Kind, Member};
use crate::ours;
use crate::rule::{Hits, Rule};
use crate::stack::Layer;
use crate::unpackers::{LeftOut, Unpackers};
use crate::view::{View, ViewNode};

/// A stack being drawn.
pub(crate) struct Draft {
    pub(crate) rng: Rng,
    /// The view of the layers below.
    pub(crate) below: View,
    pub(crate) layer: Layer,
    pub(crate) unpackers: Unpackers,
    pub(crate) left_out: LeftOut,
    /// Members that were refused, as required.
    pub(crate) refused: Hits,
    pub(crate) numbered: u64,
}

impl Draft {
    /// Adds a member, unless an unpacker is known to reject it or the layer would be one that nobody should unpack.
    pub(crate) fn push(&mut self, member: Member) -> bool {
        if let Some(limitation) = self.unpackers.objection(&self.layer.members, &self.below, &member) {
            *self.left_out.entry(limitation).or_default() += 1;
            return false;
        }
        self.layer.members.push(member);
        let is_fine = ours::manifest(&self.layer).is_ok();
        if !is_fine {
            self.layer.members.pop();
        }
        is_fine
    }

    /// Tries a member that must be refused. If it is accepted, it stays in the layer, and the comparison with the tools
    /// shows the difference.
    pub(crate) fn refuse(&mut self, member: Member, rule: Rule) {
        if self.unpackers.objection(&self.layer.members, &self.below, &member).is_some() {
            return;
        }
        self.layer.members.push(member);
        if ours::manifest(&self.layer).is_err() {
            self.layer.members.pop();
            self.refused.count(rule);
        }
    }

    /// A number that is new in this stack.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// One of a few paths, so that layers touch the same paths.
    pub(crate) fn path(&mut self) -> Vec<u8> {
        let directories = ["usr", "usr/bin", "usr/lib", "etc", "opt", "opt/a", "opt/a/b", "var/log", "srv/x/y"];
        let names = ["a", "b", "c", "sh", "run", "conf"];
        format!("{}/{}", self.rng.one_of(directories), self.rng.one_of(names)).into_bytes()
    }

    /// A path of the layers below whose node satisfies `is_wanted`, without its leading slash.
    pub(crate) fn lower(&mut self, is_wanted: impl Fn(&ViewNode) -> bool) -> Option<Vec<u8>> {
        let paths: Vec<&Vec<u8>> =
            self.below.iter().filter(|(path, node)| path.len() > 1 && is_wanted(node)).map(|(path, _)| path).collect();
        self.rng.pick(&paths)?.strip_prefix(b"/").map(<[u8]>::to_vec)
    }

    /// Content: mostly new, sometimes that of other files.
    pub(crate) fn content(&mut self) -> Vec<u8> {
        let length = self.rng.one_of([3_usize, 3, 40, 700, 5_000]);
        let number = self.number();
        format!("content {number} ").into_bytes().into_iter().cycle().take(length.max(16)).collect()
    }

    /// A new file.
    pub(crate) fn file(&mut self, path: &[u8]) -> Member {
        let content = self.content();
        let mode = self.rng.one_of([0o644, 0o755, 0o600, 0o755]);
        Member::new(path, Kind::File(content)).mode(mode)
    }
}

/// The mark that hides a path.
pub(crate) fn whiteout(path: &[u8]) -> Option<Member> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (directory, name) = path.split_at_checked(at)?;
    Some(Member::new(&[directory, b".wh.", name].concat(), Kind::File(Vec::new())))
}
