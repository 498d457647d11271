//! `driftline images list`: a line for each image.

use comfy_table::{Table, presets};
use serde::Serialize;

use driftline_kafka::ClientSettings;
use driftline_schemas::text::{printable, terminal_json};
use driftline_schemas::{Image, ImageId};

use super::catalogue::{Catalogue, Viewpoint, trust};
use crate::output::out;
use crate::{progress, render};

/// Characters of a digest that suffice to distinguish images at a glance.
const SHORT_ID: usize = 12;

#[derive(Debug, Serialize)]
struct ImageRow {
    image_id: ImageId,
    state: &'static str,
    detail: Option<String>,
    references: Vec<String>,
    platform: String,
    layers: usize,
    entries: i64,
    manifest_bytes: i64,
    sources: Vec<String>,
    trust: &'static str,
    indexed_ns: i64,
}

pub(crate) async fn list(
    settings: &ClientSettings,
    viewpoint: &Viewpoint,
    which: Which,
    json: bool,
) -> anyhow::Result<()> {
    let catalogue = Catalogue::read(settings, viewpoint).await?;
    let rows = catalogue.tables.images().filter_map(|(id, _)| row(&catalogue, id));
    let rows: Vec<ImageRow> = rows.filter(|row| which == Which::All || row.state == "failed").collect();
    if json {
        for row in &rows {
            out(terminal_json(&serde_json::to_string(row)?))?;
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "IMAGE",
        "STATE",
        "REFERENCES",
        "PLATFORM",
        "LAYERS",
        "ENTRIES",
        "MANIFEST",
        "SOURCES",
        "TRUST",
        "INDEXED",
    ]);
    for row in &rows {
        table.add_row(cells(row));
    }
    Ok(out(table.trim_fmt())?)
}

/// Which images are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    Failed,
}

fn row(catalogue: &Catalogue, id: &ImageId) -> Option<ImageRow> {
    let published = catalogue.published(id);
    let first = published.first()?;
    let state = catalogue.state(id);
    let heads: Vec<_> = first.diff_ids.iter().filter_map(|diff_id| catalogue.heads(diff_id).first()).collect();
    let platform = [first.platform.os.as_str(), &first.platform.architecture, &first.platform.variant];
    let parts: Vec<&str> = platform.into_iter().filter(|part| !part.is_empty()).collect();
    // A publisher that could not read an image has verified nothing of it.
    let read = |image: &&&Image| image.failed.is_none();
    let verified = published.iter().filter(read).any(|image| trust(&image.source) == "verified");
    let mut references: Vec<String> = published.iter().flat_map(|image| image.references.iter().cloned()).collect();
    references.sort();
    references.dedup();
    Some(ImageRow {
        image_id: id.clone(),
        state: state.name(),
        detail: state.detail(),
        references,
        platform: parts.join("/"),
        layers: first.diff_ids.len(),
        entries: heads.iter().map(|head| head.entry_count).sum(),
        manifest_bytes: heads.iter().map(|head| head.size_bytes).sum(),
        sources: published.iter().map(|image| image.source.clone()).collect(),
        trust: if verified { "verified" } else { "node" },
        indexed_ns: first.indexed_ns,
    })
}

fn cells(row: &ImageRow) -> Vec<String> {
    let safe = |text: &str| printable(text.as_bytes()).text;
    let id = row.image_id.as_str().trim_start_matches("sha256:");
    vec![
        safe(&id.chars().take(SHORT_ID).collect::<String>()),
        row.state.to_owned(),
        safe(&row.references.join(" ")),
        safe(&row.platform),
        row.layers.to_string(),
        row.entries.to_string(),
        progress::bytes(u64::try_from(row.manifest_bytes).unwrap_or(0)),
        safe(&row.sources.join(" ")),
        row.trust.to_owned(),
        render::full_time(row.indexed_ns),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_could_not_read_an_image_has_not_verified_it() {
        let of = |source: &str, failed: Option<&str>| Image {
            image_id: ImageId::from("sha256:i"),
            source: source.to_owned(),
            failed: failed.map(str::to_owned),
            ..Image::default()
        };
        let listed = |images: &[Image]| {
            let mut catalogue = Catalogue::new(&Viewpoint::default());
            images.iter().for_each(|image| drop(catalogue.tables.image(image.clone()).unwrap()));
            row(&catalogue, &ImageId::from("sha256:i")).unwrap().trust
        };
        assert_eq!(listed(&[of("node:a", None), of("registry:r", Some("denied"))]), "node");
        assert_eq!(listed(&[of("registry:r", Some("denied"))]), "node");
        assert_eq!(listed(&[of("registry:q", None), of("registry:r", Some("denied"))]), "verified");
    }
}
