//! `driftline images add`: publishes an image's content before it ever runs.

use clap::Args;
use serde_json::json;

use driftline_indexer::publish::Publisher;
use driftline_kafka::{ClientSettings, Producer, admin};
use driftline_schemas::text::printable;
use driftline_schemas::topics::Topic;
use driftline_service::clock;
use driftline_settings::Settings;

use super::source::{index, wanted};
use crate::output::out;

/// Prefixes of a source.
const KINDS: [&str; 3] = ["ci:", "registry:", "node:"];

/// What is published, and by whom.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// An OCI layout directory, an archive made by `docker save`, `podman save` or skopeo, or docker://REFERENCE for a
    /// registry, which is asked as DRIFTLINE_REGISTRY_* says
    source: String,
    /// Digest of the image to take, when there are several: of its config, manifest or index
    #[arg(long, value_name = "SHA256")]
    image_id: Option<String>,
    /// Platform to take when an index has several, as os/architecture[/variant]; this machine's unless set
    #[arg(long)]
    platform: Option<String>,
    /// Who publishes: ci:NAME and registry:NAME count as verified, node:NAME as the word of a node
    #[arg(long = "source", default_value = "ci:local", value_name = "KIND:NAME", value_parser = publisher)]
    publisher: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Parses a source in the form that the indexers write; any other prefix would be trusted by nobody, or would name a
/// node that does not exist.
fn publisher(text: &str) -> Result<String, String> {
    let name = KINDS.iter().find_map(|kind| text.strip_prefix(kind));
    match name {
        Some(name) if !name.trim().is_empty() && !name.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err("write it as ci:NAME, registry:NAME or node:NAME".to_owned()),
    }
}

/// `registry` is read only if the source is a registry.
pub(crate) async fn add(settings: &ClientSettings, registry: Settings, add: &Add) -> anyhow::Result<()> {
    admin::check(settings, &[Topic::Images, Topic::ImageLayers]).await?;
    let indexed = index(&add.source, wanted(add.image_id.as_deref(), add.platform.as_deref())?, registry).await?;
    let mut publisher = Publisher::new(Producer::new(settings)?, &add.publisher);
    publisher.publish(&indexed, clock::now_ns()).await?;
    let entries: usize = indexed.layers.iter().map(|layer| layer.manifest.entries().len()).sum();
    let image = &indexed.image;
    let (id, layers, references) = (image.image_id.as_str(), image.diff_ids.len(), &image.references);
    if add.json {
        let shown = json!({
            "image_id": id, "layers": layers, "entries": entries, "references": references, "source": add.publisher,
        });
        return Ok(out(shown)?);
    }
    let names = printable(references.join(" ").as_bytes()).text;
    Ok(out(format!("{id}  {layers} layers  {entries} entries  {names}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_kind_and_a_name() {
        for text in ["ci:build", "registry:registry.example:5000", "node:worker-1"] {
            assert_eq!(publisher(text), Ok(text.to_owned()));
        }
        for text in ["", "ci", "ci:", "ci: ", "registry:", "node:", "build", "CI:build", "vci:build", "ci:a\nb"] {
            assert!(publisher(text).unwrap_err().contains("ci:NAME"), "{text:?}");
        }
    }
}
