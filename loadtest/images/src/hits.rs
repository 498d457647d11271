//! Counts the rules that a stack hit: a member counts when the image without it has another view.

use std::sync::Arc;

use driftline_schemas::layer::LayerManifest;

use crate::ours;
use crate::rule::{Hits, Rule};
use crate::stack::{Layer, Stack};
use crate::view::View;

/// The hits of a stack whose layers have these manifests and this common view.
pub(crate) fn of(stack: &Stack, manifests: &[Arc<LayerManifest>], view: &View) -> Hits {
    let mut hits = Hits::default();
    let mut without = manifests.to_vec();
    for (number, layer) in stack.layers.iter().enumerate() {
        let mut decides = |instead: LayerManifest| {
            let Some(slot) = without.get_mut(number) else { return false };
            let before = std::mem::replace(slot, Arc::new(instead));
            let decides = ours::view(&without).is_ok_and(|shown| shown != *view);
            if let Some(slot) = without.get_mut(number) {
                *slot = before;
            }
            decides
        };
        for rule in &layer.rules {
            // The storage form of a layer does not change a correct result, so there is nothing to compare.
            if *rule != Rule::SameLayerTwice || decides(LayerManifest::default()) {
                hits.count(*rule);
            }
        }
        for (at, member) in layer.members.iter().enumerate().filter(|(_, member)| !member.rules.is_empty()) {
            let mut shorter: Layer = layer.clone();
            shorter.members.remove(at);
            if ours::manifest(&shorter).map_or(true, &mut decides) {
                member.rules.iter().for_each(|rule| hits.count(*rule));
            }
        }
    }
    hits
}
