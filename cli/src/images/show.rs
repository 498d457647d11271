//! `driftline images show`: shows the publications of one image, and its entry at a path or with a content.

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use driftline_enricher_core::image::{ImageFile, ImageIndex};
use driftline_kafka::ClientSettings;
use driftline_schemas::text::{printable, terminal_json};
use driftline_schemas::{DiffId, Image, ImageId, LayerHead, Sha256};

use super::catalogue::{Catalogue, Viewpoint, ViewpointOptions, trust};
use crate::output::out;
use crate::{progress, render};

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Image id, its first characters, or a reference
    image: String,
    /// List the files of the merged image, those below this path
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "/")]
    files: Option<String>,
    /// Say which file this path names, through symlinks
    #[arg(long, conflicts_with = "files")]
    path: Option<String>,
    /// Say where the image has this content
    #[arg(long, value_name = "DIGEST", conflicts_with_all = ["files", "path"])]
    sha256: Option<String>,
    #[command(flatten)]
    pub(crate) viewpoint: ViewpointOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct File {
    path: String,
    sha256: Sha256,
    size_bytes: u64,
    mode: String,
    layer: u16,
}

#[derive(Debug, Serialize)]
struct Layer<'a> {
    diff_id: &'a DiffId,
    published: &'a [LayerHead],
}

#[derive(Debug, Serialize)]
struct Whole<'a> {
    image_id: &'a ImageId,
    state: &'static str,
    detail: Option<String>,
    published: &'a [&'a Image],
    layers: Vec<Layer<'a>>,
}

pub(crate) async fn show(settings: &ClientSettings, viewpoint: &Viewpoint, arguments: &Show) -> anyhow::Result<()> {
    let catalogue = Catalogue::read(settings, viewpoint).await?;
    let id = catalogue.find(&arguments.image)?;
    if arguments.files.is_none() && arguments.path.is_none() && arguments.sha256.is_none() {
        return whole(&catalogue, id, arguments);
    }
    let index = catalogue.index(id)?;
    let found = files(&index, arguments)?;
    for file in &found {
        let line = if arguments.json { terminal_json(&serde_json::to_string(file)?) } else { line(file) };
        out(line)?;
    }
    if found.is_empty() {
        anyhow::bail!("the image has no such file");
    }
    Ok(())
}

fn files(index: &ImageIndex, arguments: &Show) -> anyhow::Result<Vec<File>> {
    if let Some(path) = &arguments.path {
        return Ok(index.file(path.as_bytes()).map(file).into_iter().collect());
    }
    if let Some(digest) = &arguments.sha256 {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        let wanted: Sha256 = hex.parse().context("--sha256")?;
        return Ok(index.files().filter(|found| found.sha256 == wanted).map(file).collect());
    }
    let below = arguments.files.as_deref().unwrap_or("/").trim_end_matches('/').as_bytes();
    let is_below = |path: &[u8]| path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
    Ok(index.files().filter(|found| is_below(found.path)).map(file).collect())
}

fn file(found: ImageFile<'_>) -> File {
    File {
        path: printable(found.path).text,
        sha256: found.sha256,
        size_bytes: found.size_bytes,
        mode: format!("{:04o}", found.mode),
        layer: found.layer,
    }
}

fn line(file: &File) -> String {
    format!(
        "{}  {:>10}  layer {:<3}  {}  {}",
        file.mode,
        progress::bytes(file.size_bytes),
        file.layer,
        file.sha256,
        file.path
    )
}

fn whole(catalogue: &Catalogue, id: &ImageId, arguments: &Show) -> anyhow::Result<()> {
    let published = catalogue.published(id);
    let first = published.first().context("nobody publishes it")?;
    let state = catalogue.state(id);
    let layer = |diff_id| Layer { diff_id, published: catalogue.heads(diff_id) };
    let layers: Vec<Layer<'_>> = first.diff_ids.iter().map(layer).collect();
    if arguments.json {
        let (state, detail) = (state.name(), state.detail());
        let whole = Whole { image_id: id, state, detail, published: &published, layers };
        return Ok(out(terminal_json(&serde_json::to_string_pretty(&whole)?))?);
    }
    fact("image", id.as_str())?;
    let detail = state.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    fact("state", &format!("{}{detail}", state.name()))?;
    for image in &published {
        publication(image)?;
    }
    for (number, layer) in layers.iter().enumerate() {
        fact(&format!("layer {number}"), layer.diff_id.as_str())?;
        for head in layer.published {
            let whole = if catalogue.is_whole(head) { "" } else { ", chunks are missing" };
            let bytes = progress::bytes(u64::try_from(head.size_bytes).unwrap_or(0));
            let manifest = format!("{:?} manifest {}", head.basis, head.manifest_sha256).to_lowercase();
            let text = format!("{}: {} entries, {bytes}, {manifest}{whole}", head.source, head.entry_count);
            fact("", &text)?;
        }
    }
    Ok(())
}

fn publication(image: &Image) -> std::io::Result<()> {
    let by = format!("{} ({}), {}", image.source, trust(&image.source), render::full_time(image.indexed_ns));
    fact("published by", &by)?;
    if let Some(why) = &image.failed {
        let kind = format!("{:?}", image.failure).to_lowercase();
        return fact("failed", &format!("{kind}: {why}; tried again {}", render::full_time(image.retry_ns)));
    }
    let platform = &image.platform;
    let parts = [platform.os.as_str(), &platform.architecture, &platform.variant];
    let present: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    for (name, value) in [
        ("config", image.config_digest.clone()),
        ("platform", present.join("/")),
        ("references", image.references.join(" ")),
        ("volumes", image.volumes.join(" ")),
    ] {
        if !value.is_empty() {
            fact(name, &value)?;
        }
    }
    Ok(())
}

/// Text of publishers is escaped for the terminal.
fn fact(name: &str, value: &str) -> std::io::Result<()> {
    out(format!("{name:<12}  {}", printable(value.as_bytes()).text))
}
