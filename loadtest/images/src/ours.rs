//! Our view: only the indexer and the merge of production.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use driftline_enricher_core::image::{NodeKind, merge};
use driftline_indexer::{Wanted, index_archive, index_layout, own_platform};
use driftline_schemas::layer::LayerManifest;
use driftline_schemas::{ImageId, Sha256};
use serde_json::json;

use crate::stack::Layer;
use crate::view::{View, ViewNode};

/// Layers read at once.
const LANES: usize = 2;

/// The manifest of one layer, or the reason why it is refused.
pub(crate) fn manifest(layer: &Layer) -> anyhow::Result<LayerManifest> {
    let tar = layer.tar();
    let diff_id = Sha256::of(&tar).to_digest();
    let config = json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).to_string();
    let names = json!([{"Config": "config.json", "RepoTags": [], "Layers": ["layer.tar"]}]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in
        [("layer.tar", tar.as_slice()), ("config.json", config.as_bytes()), ("manifest.json", names.as_bytes())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content)?;
    }
    let wanted = Wanted { image_id: None, platform: driftline_schemas::Platform::default() };
    let indexed = index_archive(archive.into_inner()?.as_slice(), &wanted)?;
    indexed.layers.into_iter().next().map(|layer| layer.manifest).context("the archive has no layer")
}

/// The manifests of an image in a layout, lowest first.
pub(crate) fn manifests(layout: &Path, image_id: &str) -> anyhow::Result<Vec<Arc<LayerManifest>>> {
    let wanted = Wanted { image_id: Some(ImageId::from(image_id)), platform: own_platform() };
    let indexed = index_layout(layout, &wanted, LANES)?;
    let layers: Vec<_> = indexed.layers.into_iter().map(|layer| (layer.diff_id, Arc::new(layer.manifest))).collect();
    let of = |diff_id| layers.iter().find(|(id, _)| id == diff_id).map(|(_, manifest)| Arc::clone(manifest));
    let found = indexed.image.diff_ids.iter().map(|diff_id| of(diff_id).ok_or_else(|| anyhow!("no layer {diff_id}")));
    found.collect()
}

/// The view of the merged layers, without the root itself.
pub(crate) fn view(manifests: &[Arc<LayerManifest>]) -> anyhow::Result<View> {
    let index = merge(manifests)?;
    let shown = index.entries().filter(|entry| entry.path != b"/").map(|entry| {
        let node = match (entry.kind, entry.sha256, entry.target) {
            (NodeKind::File, Some(sha256), _) => {
                ViewNode::File { mode: entry.mode, size_bytes: entry.size_bytes, sha256 }
            }
            (NodeKind::Symlink, _, Some(target)) => ViewNode::Symlink(target.to_vec()),
            (NodeKind::Directory, ..) => ViewNode::Directory { mode: entry.mode },
            (NodeKind::Device, ..) => ViewNode::Device,
            (kind, ..) => return Err(anyhow!("the index has a {kind:?} that is not whole")),
        };
        Ok((entry.path.to_vec(), node))
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{End, Stored};

    #[test]
    fn an_empty_layer_has_a_manifest() {
        assert_eq!(manifest(&Layer::new(Stored::Plain, End::Mark)).unwrap().entries().len(), 0);
    }
}
