//! `driftline images remove`: deletes what is published of an image, so that the topics and every enricher forget it.

use std::collections::BTreeSet;

use driftline_kafka::{ClientSettings, Producer};
use driftline_schemas::topics::{Topic, partition_of};
use driftline_schemas::{DiffId, ImageId, LayerHead, Sha256};

use super::catalogue::{Catalogue, Eyes};
use crate::output::out;

pub(crate) async fn remove(settings: &ClientSettings, name: &str) -> anyhow::Result<()> {
    let catalogue = Catalogue::read(settings, &Eyes::default()).await?;
    let id = catalogue.find(name)?;
    let layers = only_of(&catalogue, id);
    let producer = Producer::new(settings)?;
    for diff_id in &layers {
        let partition = partition_of(diff_id.as_str().as_bytes(), settings.partition_count(Topic::ImageLayers));
        for key in keys(&catalogue, diff_id, &layers) {
            producer.send_to(Topic::ImageLayers, partition, key.as_bytes(), None, &[]).await?;
        }
    }
    producer.settled().await?;
    // Last, so that who was interrupted can say it again.
    let published = catalogue.published(id);
    for image in &published {
        let key = image.key();
        let partition = partition_of(key.as_bytes(), settings.partition_count(Topic::Images));
        producer.send_to(Topic::Images, partition, key.as_bytes(), None, &[]).await?;
    }
    producer.settled().await?;
    Ok(out(format!("{id}  {} publications and {} layers removed", published.len(), layers.len()))?)
}

/// Layers that this image names and no other.
fn only_of(catalogue: &Catalogue, id: &ImageId) -> BTreeSet<DiffId> {
    let others = catalogue.tables.images().filter(|(other, _)| *other != id).flat_map(|(_, said)| said);
    let named: BTreeSet<&DiffId> = others.flat_map(|image| &image.diff_ids).collect();
    let own = catalogue.published(id).into_iter().flat_map(|image| &image.diff_ids);
    own.filter(|diff_id| !named.contains(diff_id)).cloned().collect()
}

/// Keys of a layer's heads, and of their chunks unless a layer that stays has the same content.
fn keys(catalogue: &Catalogue, diff_id: &DiffId, removed: &BTreeSet<DiffId>) -> Vec<String> {
    let images = catalogue.tables.images().flat_map(|(_, said)| said);
    let staying = images.flat_map(|image| &image.diff_ids).filter(|diff_id| !removed.contains(diff_id));
    let needed: BTreeSet<Sha256> =
        staying.flat_map(|diff_id| catalogue.heads(diff_id)).map(|head| head.manifest_sha256).collect();
    let heads = catalogue.heads(diff_id);
    let chunks = |head: &LayerHead| {
        let manifest = head.manifest_sha256;
        (0..head.chunk_count).map(move |index| format!("{manifest}/{index}"))
    };
    let unneeded = heads.iter().filter(|head| !needed.contains(&head.manifest_sha256)).flat_map(chunks);
    heads.iter().map(|head| format!("{diff_id}/{}", head.source)).chain(unneeded).collect()
}
