//! Draws a stack of layers from a seed. What layers below have guides what a layer does, so that its marks and links
//! mostly meet something; what comes of it is for the tools to say.

use std::sync::Arc;

use driftline_schemas::layer::LayerManifest;
use driftline_sim::Rng;

use crate::audience::{Audience, LeftOut};
use crate::episodes;
use crate::member::{Kind, Member};
use crate::ours;
use crate::rule::{Hits, Rule};
use crate::seen::{Node, View};
use crate::stack::{End, Layer, Stack, Stored};

/// Most layers drawn; what repeats a layer adds two.
const LAYERS_DRAWN_MAX: i64 = 6;

/// Episodes of a layer: enough that they meet, few enough that a difference can be read.
const EPISODES_MIN: i64 = 3;
const EPISODES_MAX: i64 = 9;

/// A stack being drawn.
pub(crate) struct Draft {
    pub(crate) rng: Rng,
    /// What the layers below show.
    pub(crate) below: View,
    layer: Layer,
    audience: Audience,
    left_out: LeftOut,
    /// What was refused, and had to be.
    refused: Hits,
    numbered: u64,
}

/// What was drawn from a seed.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) stack: Stack,
    pub(crate) audience: Audience,
    /// Members that the audience is known not to take.
    pub(crate) left_out: LeftOut,
    /// Members that we refused, and had to.
    pub(crate) refused: Hits,
}

/// The stack of a seed.
pub(crate) fn draw(seed: u64) -> Drawn {
    let mut rng = Rng::new(seed);
    let audiences = [Audience::Both, Audience::Both, Audience::Podman, Audience::Umoci];
    let mut draft = Draft {
        audience: rng.pick(&audiences).unwrap_or(Audience::Both),
        rng,
        below: View::new(),
        layer: Layer::new(Stored::Plain, End::Mark),
        left_out: LeftOut::new(),
        refused: Hits::default(),
        numbered: 0,
    };
    let mut stack = Stack::default();
    let mut manifests: Vec<Arc<LayerManifest>> = Vec::new();
    let wanted = draft.rng.between(1, LAYERS_DRAWN_MAX);
    for _ in 0..wanted {
        let layer = draft.draw();
        draft.stack_up(&mut stack, &mut manifests, layer);
    }
    if draft.rng.one_in(4) {
        draft.repeat(&mut stack, &mut manifests);
    }
    let Draft { audience, left_out, refused, .. } = draft;
    Drawn { stack, audience, left_out, refused }
}

impl Draft {
    fn draw(&mut self) -> Layer {
        let ways = [
            (Stored::Plain, Rule::Plain),
            (Stored::Gzip, Rule::Gzip),
            (Stored::GzipMembers, Rule::GzipMembers),
            (Stored::Zstd, Rule::Zstd),
        ];
        let (stored, rule) = self.rng.pick(&ways).unwrap_or((Stored::Plain, Rule::Plain));
        let ends =
            [(End::Mark, None), (End::MarkAndMore, Some(Rule::BehindTheEnd)), (End::Nothing, Some(Rule::NoEndMark))];
        let (end, rule_of_end) = self.rng.pick(&ends).unwrap_or((End::Mark, None));
        self.layer = Layer::new(stored, end);
        self.layer.rules.push(rule);
        self.layer.rules.extend(rule_of_end);
        if self.rng.one_in(12) {
            self.layer.rules.push(Rule::EmptyLayer);
        } else {
            for _ in 0..self.rng.between(EPISODES_MIN, EPISODES_MAX) {
                episodes::one(self);
            }
        }
        self.layer.clone()
    }

    fn stack_up(&mut self, stack: &mut Stack, manifests: &mut Vec<Arc<LayerManifest>>, layer: Layer) {
        let Ok(manifest) = ours::manifest(&layer) else { return };
        manifests.push(Arc::new(manifest));
        stack.layers.push(layer);
        self.below = ours::view(manifests).unwrap_or_default();
    }

    /// A layer that hides something of an earlier one, then that one again: its second coming brings it back.
    fn repeat(&mut self, stack: &mut Stack, manifests: &mut Vec<Arc<LayerManifest>>) {
        let Some(mut again) = self.rng.pick(&stack.layers) else { return };
        let files: Vec<&Member> = again.members.iter().filter(|member| is_plain(member)).collect();
        let Some(path) = self.rng.pick(&files).map(|member| member.path.clone()) else { return };
        self.layer = Layer::new(Stored::Plain, End::Mark);
        let Some(whiteout) = whiteout(&path) else { return };
        if !self.push(whiteout) {
            return;
        }
        let layer = self.layer.clone();
        self.stack_up(stack, manifests, layer);
        again.rules = vec![Rule::SameLayerTwice];
        // Members are judged again: what is below them has changed.
        let end = std::mem::replace(&mut self.layer, Layer::new(again.stored, again.end));
        if again.members.iter().all(|member| self.push(member.clone())) {
            self.stack_up(stack, manifests, again);
        }
        self.layer = end;
    }

    /// Adds a member, unless the audience is known not to take it or the layer would be one that nobody should unpack.
    pub(crate) fn push(&mut self, member: Member) -> bool {
        if let Some(known) = self.audience.objection(&self.layer.members, &self.below, &member) {
            *self.left_out.entry(known).or_default() += 1;
            return false;
        }
        self.layer.members.push(member);
        let is_fine = ours::manifest(&self.layer).is_ok();
        if !is_fine {
            self.layer.members.pop();
        }
        is_fine
    }

    /// Tries a member that we have to refuse; where we do not, it stays, and the tools show what they make of it.
    pub(crate) fn refuse(&mut self, member: Member, rule: Rule) {
        if self.audience.objection(&self.layer.members, &self.below, &member).is_some() {
            return;
        }
        self.layer.members.push(member);
        if ours::manifest(&self.layer).is_err() {
            self.layer.members.pop();
            self.refused.count(rule);
        }
    }

    /// A number not used before in this stack.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// A path among few, so that layers meet.
    pub(crate) fn path(&mut self) -> Vec<u8> {
        let directories = ["usr", "usr/bin", "usr/lib", "etc", "opt", "opt/a", "opt/a/b", "var/log", "srv/x/y"];
        let names = ["a", "b", "c", "sh", "run", "conf"];
        format!("{}/{}", self.rng.one_of(directories), self.rng.one_of(names)).into_bytes()
    }

    /// A path of the layers below that is of this kind, without its leading slash.
    pub(crate) fn lower(&mut self, is_wanted: impl Fn(&Node) -> bool) -> Option<Vec<u8>> {
        let paths: Vec<&Vec<u8>> =
            self.below.iter().filter(|(path, node)| path.len() > 1 && is_wanted(node)).map(|(path, _)| path).collect();
        self.rng.pick(&paths)?.strip_prefix(b"/").map(<[u8]>::to_vec)
    }

    /// Content: mostly new, sometimes one that other files have too.
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

/// Whether a member is a file and no mark.
fn is_plain(member: &Member) -> bool {
    let is_mark = member.path.split(|byte| *byte == b'/').any(|name| name.starts_with(b".wh."));
    matches!(member.kind, Kind::File(_)) && !is_mark
}

/// The mark that hides a path.
pub(crate) fn whiteout(path: &[u8]) -> Option<Member> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (directory, name) = path.split_at_checked(at)?;
    Some(Member::new(&[directory, b".wh.", name].concat(), Kind::File(Vec::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_stack() {
        assert_eq!(draw(7).stack.to_string(), draw(7).stack.to_string());
        assert_ne!(draw(7).stack.to_string(), draw(8).stack.to_string());
    }

    #[test]
    fn every_layer_drawn_can_be_indexed_and_what_has_dot_dot_is_refused() {
        let drawn: Vec<Drawn> = (1..60).map(draw).collect();
        for layer in drawn.iter().flat_map(|drawn| &drawn.stack.layers) {
            assert!(ours::manifest(layer).is_ok());
        }
        let mut refused = Hits::default();
        drawn.iter().for_each(|drawn| refused.add(&drawn.refused));
        assert!(refused.of(Rule::DotDot) > 0);
        let dots = |member: &Member| member.path.split(|byte| *byte == b'/').any(|name| name == b"..");
        assert!(!drawn.iter().flat_map(|drawn| &drawn.stack.layers).flat_map(|layer| &layer.members).any(dots));
    }
}
