//! `driftline images add`: publishes an image's content before it ever runs.

use anyhow::Context as _;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use driftline_indexer::publish::Publisher;
use driftline_indexer::{Indexed, Wanted, index_archive, index_layout, own_platform};
use driftline_kafka::{ClientSettings, Producer, admin};
use driftline_runtime::clock;
use driftline_schemas::ImageId;
use driftline_schemas::topics::Topic;

use crate::output::out;

/// Layers read at once.
const LANES: usize = 4;

pub(crate) async fn add(
    settings: &ClientSettings,
    path: &Path,
    image_id: Option<&str>,
    source: &str,
) -> anyhow::Result<()> {
    admin::check(settings, &[Topic::Images, Topic::ImageLayers]).await?;
    let (owned, wanted) = (path.to_owned(), wanted(image_id));
    let indexed = tokio::task::spawn_blocking(move || index(&owned, &wanted)).await??;
    let mut publisher = Publisher::new(Producer::new(settings)?, source);
    publisher.publish(&indexed, clock::now_ns()).await?;
    let entries: usize = indexed.layers.iter().map(|layer| layer.manifest.entries().len()).sum();
    let (id, layers) = (&indexed.image.image_id, indexed.image.diff_ids.len());
    let names = indexed.image.references.join(" ");
    Ok(out(format!("{id}  {layers} layers  {entries} entries  {names}"))?)
}

fn wanted(image_id: Option<&str>) -> Wanted {
    Wanted { image_id: image_id.map(ImageId::from), platform: own_platform() }
}

/// A directory is an OCI layout; anything else an archive of `docker save`, `podman save` or in OCI form.
pub(super) fn index(path: &Path, wanted: &Wanted) -> anyhow::Result<Indexed> {
    let indexed = if path.is_dir() {
        index_layout(path, wanted, LANES)
    } else {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        index_archive(BufReader::new(file), wanted)
    };
    indexed.with_context(|| format!("{} cannot be indexed", path.display()))
}
