//! Draws a stack of layers from a seed. The entries of lower layers guide the drawing of a layer, so that its marks and
//! links mostly hit something. The tools decide the expected result.

use std::sync::Arc;

use driftline_schemas::layer::LayerManifest;
use driftline_sim::Rng;

use crate::draft::{Draft, whiteout};
use crate::member::{Kind, Member};
use crate::operations;
use crate::ours;
use crate::rule::{Hits, Rule};
use crate::stack::{End, Layer, Stack, Stored};
use crate::unpackers::{LeftOut, Unpackers};
use crate::view::View;

/// Most layers drawn; the repetition of a layer adds two.
const LAYERS_DRAWN_MAX: i64 = 6;

/// Fewest operations of a layer: enough that they interact, few enough that a difference is readable.
const OPERATIONS_MIN: i64 = 3;
const OPERATIONS_MAX: i64 = 9;

/// The result of drawing a seed.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) stack: Stack,
    pub(crate) unpackers: Unpackers,
    /// Members that an unpacker is known to reject.
    pub(crate) left_out: LeftOut,
    /// Members that were refused, as required.
    pub(crate) refused: Hits,
}

/// Draws the stack of a seed.
pub(crate) fn draw(seed: u64) -> Drawn {
    let mut rng = Rng::new(seed);
    let choices = [Unpackers::Both, Unpackers::Both, Unpackers::Podman, Unpackers::Umoci];
    let mut draft = Draft {
        unpackers: rng.pick(&choices).unwrap_or(Unpackers::Both),
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
    let Draft { unpackers, left_out, refused, .. } = draft;
    Drawn { stack, unpackers, left_out, refused }
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
            for _ in 0..self.rng.between(OPERATIONS_MIN, OPERATIONS_MAX) {
                operations::one(self);
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

    /// Adds a layer that hides something of an earlier layer, then the earlier layer again, which restores it.
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
        // Members are checked again: the layers below them have changed.
        let end = std::mem::replace(&mut self.layer, Layer::new(again.stored, again.end));
        if again.members.iter().all(|member| self.push(member.clone())) {
            self.stack_up(stack, manifests, again);
        }
        self.layer = end;
    }
}

/// Whether a member is a file and not a mark.
fn is_plain(member: &Member) -> bool {
    let is_mark = member.path.split(|byte| *byte == b'/').any(|name| name.starts_with(b".wh."));
    matches!(member.kind, Kind::File(_)) && !is_mark
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
