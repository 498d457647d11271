//! `driftline images verify`: indexes an image again and lists every difference from its publications.

use anyhow::bail;

use driftline_indexer::{Indexed, Wanted, own_platform};
use driftline_kafka::ClientSettings;
use driftline_schemas::layer::LayerManifest;
use driftline_schemas::text::printable;
use driftline_schemas::{DiffId, ImageId, LayerHead};
use driftline_settings::Settings;

use super::catalogue::{Catalogue, Viewpoint};
use super::source::index;
use crate::output::out;

/// Differences that are named for one layer and publisher; more are counted.
const NAMED_MAX: usize = 20;

/// The image could not be compared at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot verify the image: {0:#}")]
pub(crate) struct Unverifiable(anyhow::Error);

/// `registry` is read only if the image is compared with one of a registry.
pub(crate) async fn verify(
    settings: &ClientSettings,
    registry: Settings,
    name: &str,
    against: &str,
) -> anyhow::Result<()> {
    let (id, differences) = compare(settings, registry, name, against).await.map_err(Unverifiable)?;
    for difference in &differences {
        out(printable(difference.as_bytes()).text)?;
    }
    match differences.len() {
        0 => Ok(out(format!("{id} is as published"))?),
        count => {
            bail!("{id} is not as published: {count} differences; `driftline images show {id}` shows the publishers")
        }
    }
}

async fn compare(
    settings: &ClientSettings,
    registry: Settings,
    name: &str,
    against: &str,
) -> anyhow::Result<(ImageId, Vec<String>)> {
    let catalogue = Catalogue::read(settings, &Viewpoint::default()).await?;
    let id = catalogue.find(name)?.clone();
    let wanted = Wanted { image_id: Some(id.clone()), platform: own_platform() };
    let indexed = index(against, wanted, registry).await?;
    let differences = differences(&catalogue, &id, &indexed)?;
    Ok((id, differences))
}

pub(super) fn differences(catalogue: &Catalogue, id: &ImageId, indexed: &Indexed) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let published = catalogue.published(id);
    for image in published.iter().filter(|image| image.failed.is_none()) {
        if image.diff_ids != indexed.image.diff_ids {
            let (theirs, ours) = (image.diff_ids.len(), indexed.image.diff_ids.len());
            found.push(format!("{} lists other layers: {theirs}, in the image are {ours}", image.source));
        }
    }
    if published.iter().all(|image| image.failed.is_some()) {
        found.push("nobody has published its content".to_owned());
    }
    for layer in &indexed.layers {
        let ours = layer.manifest.publish(&layer.diff_id, "", 0)?.head.manifest_sha256;
        let heads = catalogue.heads(&layer.diff_id);
        if heads.is_empty() {
            found.push(format!("layer {} is not published", layer.diff_id));
        }
        for head in heads.iter().filter(|head| head.manifest_sha256 != ours) {
            match catalogue.manifest(head) {
                Ok(theirs) => name_entries(&mut found, head, &theirs, &layer.manifest),
                Err(error) => found.push(format!("{}: {error}", label(head, &layer.diff_id))),
            }
        }
    }
    Ok(found)
}

fn label(head: &LayerHead, diff_id: &DiffId) -> String {
    format!("layer {diff_id} by {}", head.source)
}

/// Lists the entries that only one of two manifests has; a changed file is on both sides.
fn name_entries(found: &mut Vec<String>, head: &LayerHead, theirs: &LayerManifest, ours: &LayerManifest) {
    let layer = label(head, &head.diff_id);
    let only = |of: &LayerManifest, not: &LayerManifest, what: &str| -> Vec<String> {
        let missing = of.entries().iter().filter(|entry| not.entries().binary_search(entry).is_err());
        missing.map(|entry| format!("{layer}: {what} {}", printable(&entry.path).text)).collect()
    };
    let mut all = only(theirs, ours, "published only is");
    all.extend(only(ours, theirs, "in the image only is"));
    let more = all.len().saturating_sub(NAMED_MAX);
    found.extend(all.into_iter().take(NAMED_MAX));
    if more > 0 {
        found.push(format!("{layer}: {more} more entries differ"));
    }
}
