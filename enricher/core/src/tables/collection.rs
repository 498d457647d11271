//! Selects the manifests that need not be kept: those of layers that no image in use has named for a while.
//!
//! Only the bytes of chunks are dropped. The publishers of a layer and their manifests stay known for as long as the
//! topic has the records: an indexer does not publish again what the topic has, and no publisher may take the place of
//! one whose bytes were dropped. [`super::Lookup::Collected`] names the manifests that must be read again.

use std::collections::BTreeMap;

use driftline_schemas::{DiffId, ImageId, Sha256};

use super::ImageTables;
use crate::chunks::KnownChunks;

/// Manifests that one step selects: each is at most 128 MiB of chunks in the store, and most are one chunk.
pub const COLLECTED_PER_STEP: usize = 16;

/// Manifests and images examined in one step: about a millisecond. With a step a second, 100,000 manifests take less
/// than two minutes, little compared with the hour that they are kept.
const VISITED_PER_STEP: usize = 1_000;

/// Cycles through the manifests, and records since when no image in use needs each of them.
#[derive(Debug)]
pub struct Collection {
    /// How long an unneeded manifest is kept: a layer is published before its image, an image before its container
    /// starts, and a container of the same image may start again.
    keep_ns: i64,
    /// The manifest examined last.
    at: Option<Sha256>,
    unneeded_since: BTreeMap<Sha256, i64>,
}

impl Collection {
    /// A collection that keeps manifests for this long after they were needed last.
    #[must_use]
    pub fn new(keep_ns: i64) -> Self {
        Self { keep_ns, at: None, unneeded_since: BTreeMap::new() }
    }

    /// The next manifests whose chunks need not be kept; `is_used` decides which images are in use.
    pub fn step(
        &mut self,
        now_ns: i64,
        tables: &ImageTables<KnownChunks>,
        is_used: impl Fn(&ImageId) -> bool,
    ) -> Vec<Sha256> {
        let (mut due, mut visited) = (Vec::new(), 0);
        while visited < VISITED_PER_STEP && due.len() < COLLECTED_PER_STEP {
            let Some((manifest, is_here)) = tables.chunks().next(self.at.as_ref()) else {
                self.at = None;
                break;
            };
            self.at = Some(manifest);
            visited += 1;
            let mut needed = |id: &ImageId| {
                visited += 1;
                is_used(id)
            };
            if !is_here || tables.images_with(&manifest).any(&mut needed) {
                self.unneeded_since.remove(&manifest);
            } else if now_ns.saturating_sub(*self.unneeded_since.entry(manifest).or_insert(now_ns)) >= self.keep_ns {
                self.unneeded_since.remove(&manifest);
                due.push(manifest);
            }
        }
        due
    }
}

impl ImageTables<KnownChunks> {
    /// Images that name a layer with this manifest.
    fn images_with(&self, manifest: &Sha256) -> impl Iterator<Item = &ImageId> {
        let layers = self.layers_of.get(manifest).into_iter().flatten();
        layers.flat_map(|diff_id: &DiffId| self.named_by.get(diff_id).into_iter().flatten())
    }
}

#[cfg(test)]
mod tests;
