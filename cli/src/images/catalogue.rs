//! The content of the two image topics as the enricher sees it, through the same tables.

use anyhow::bail;
use clap::Args;

use driftline_enricher_core::image::ImageIndex;
use driftline_enricher_core::tables::{ImageTables, Lookup, assemble};
use driftline_enricher_core::{ImageView, Trust};
use driftline_kafka::{ClientSettings, ReadFrom, ReaderEvent, Record, TopicReader, admin};
use driftline_schemas::layer::LayerManifest;
use driftline_schemas::topics::Topic;
use driftline_schemas::{DiffId, Image, ImageId, LayerEvent, LayerHead, decode, is_verified_source};
use driftline_settings::Settings;

use crate::options::TrustOption;

/// Fewest characters of a digest that name an image.
const PREFIX_MIN: usize = 4;

/// Which publications count, and for which node: those that an enricher with these settings would use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Viewpoint {
    trust: Trust,
    node: Option<String>,
}

/// The same, as options.
#[derive(Debug, Args)]
pub(crate) struct ViewpointOptions {
    #[command(flatten)]
    trust: TrustOption,
    /// With the trust same-node: for containers of this node; those of every node count unless set
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

impl ViewpointOptions {
    /// The settings, with the options of the command line in their place.
    pub(crate) fn read(&self, settings: &mut Settings) -> Viewpoint {
        Viewpoint { trust: self.trust.read(settings), node: self.node.clone() }
    }
}

/// Every record of the image topics that counts.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) tables: ImageTables,
    node: Option<String>,
}

/// The usability of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageState {
    Complete,
    /// Number of layers that are incomplete.
    Incomplete(usize),
    Failed(String),
    /// None of its publishers is trusted.
    Untrusted(Trust),
    /// Complete, but another publisher contradicts it.
    Conflict(String),
}

impl ImageState {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete(_) => "incomplete",
            Self::Failed(_) => "failed",
            Self::Untrusted(_) => "untrusted",
            Self::Conflict(_) => "conflict",
        }
    }

    /// Details beyond the name.
    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::Complete => None,
            Self::Incomplete(missing) => Some(format!("{missing} layers are not published whole")),
            Self::Failed(why) | Self::Conflict(why) => Some(why.clone()),
            Self::Untrusted(trust) => Some(format!("with the trust {} none of its publishers counts", trust.name())),
        }
    }
}

impl Catalogue {
    pub(super) fn new(viewpoint: &Viewpoint) -> Self {
        let node = viewpoint.node.clone().filter(|_| viewpoint.trust == Trust::SameNode);
        Self { tables: ImageTables::new(viewpoint.trust), node }
    }

    /// Reads both topics up to their present ends.
    pub(super) async fn read(settings: &ClientSettings, viewpoint: &Viewpoint) -> anyhow::Result<Self> {
        const TOPICS: [Topic; 2] = [Topic::Images, Topic::ImageLayers];
        admin::check(settings, &TOPICS).await?;
        let mut reader = TopicReader::start(settings, &TOPICS, ReadFrom::Beginning).await?;
        let mut catalogue = Self::new(viewpoint);
        loop {
            match reader.next().await {
                Some(ReaderEvent::Record(record)) => catalogue.take(&record),
                Some(ReaderEvent::Failed(error)) => return Err(error.into()),
                Some(ReaderEvent::CaughtUp) | None => return Ok(catalogue),
            }
        }
    }

    /// Ignores records that cannot be used: the enricher reports them.
    fn take(&mut self, record: &Record) {
        let key = || String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        match (record.topic, &record.value) {
            (Topic::Images, Some(value)) => {
                let _ = decode::<Image>(value).map(|image| self.tables.image(image));
            }
            (Topic::Images, None) => self.tables.forget_image(&key()),
            (_, Some(value)) => {
                let _ = LayerEvent::decode(value).map(|event| self.tables.layer(event));
            }
            (_, None) => self.tables.forget_layer(&key()),
        }
    }

    /// Finds an image by its digest, the digest's first characters, or a reference.
    pub(super) fn find(&self, name: &str) -> anyhow::Result<&ImageId> {
        let prefix = if name.starts_with("sha256:") { name.to_owned() } else { format!("sha256:{name}") };
        let is_prefix = prefix.len() >= "sha256:".len() + PREFIX_MIN;
        let meant = |(id, published): &(&ImageId, &[Image])| {
            let named = published.iter().any(|image| image.references.iter().any(|reference| reference == name));
            named || (is_prefix && id.as_str().starts_with(&prefix))
        };
        let found: Vec<&ImageId> = self.tables.images().filter(meant).map(|(id, _)| id).collect();
        match found.as_slice() {
            [only] => Ok(only),
            [] => bail!("no image is called {name}; `driftline images list` shows what is published"),
            [first, second, ..] => bail!("{name} could be {first} or {second}: give more characters of the digest"),
        }
    }

    /// The records of an image's publishers: first those that could read the image, in order of publication.
    pub(super) fn published(&self, id: &ImageId) -> Vec<&Image> {
        let mut published: Vec<&Image> = self.tables.publications_of(id).iter().collect();
        published.sort_by_key(|image| image.failed.is_some());
        published
    }

    pub(super) fn heads(&self, diff_id: &DiffId) -> &[LayerHead] {
        self.tables.heads(diff_id)
    }

    pub(super) fn is_whole(&self, head: &LayerHead) -> bool {
        self.tables.is_whole(head)
    }

    /// The content of a layer according to one publisher.
    pub(super) fn manifest(&self, head: &LayerHead) -> anyhow::Result<LayerManifest> {
        if !self.is_whole(head) {
            bail!("the manifest of layer {} by {} is not there; index the image again", head.diff_id, head.source);
        }
        Ok(assemble(head, self.tables.chunks())?)
    }

    pub(super) fn state(&self, id: &ImageId) -> ImageState {
        let view = self.view(id);
        match self.tables.lookup(&view) {
            Lookup::Complete { conflict, .. } => conflict.map_or(ImageState::Complete, ImageState::Conflict),
            Lookup::Failed { reason, .. } => ImageState::Failed(reason),
            Lookup::Missing | Lookup::Collected(_) => match self.tables.missing_layers(&view) {
                Some(missing) => ImageState::Incomplete(missing),
                None => ImageState::Untrusted(self.tables.trust()),
            },
        }
    }

    /// The merged content, as the enricher would compute it.
    pub(super) fn index(&self, id: &ImageId) -> anyhow::Result<ImageIndex> {
        match self.tables.lookup(&self.view(id)) {
            Lookup::Complete { stored, .. } => Ok(stored.load(self.tables.chunks())?),
            _ => {
                let state = self.state(id);
                bail!("image {id} is {}: {}", state.name(), state.detail().unwrap_or_default())
            }
        }
    }

    fn view(&self, id: &ImageId) -> ImageView {
        ImageView { image: id.clone(), node: self.node.clone() }
    }
}

/// Whether a source's publications are verified or only a node's.
pub(super) fn trust(source: &str) -> &'static str {
    if is_verified_source(source) { "verified" } else { "node" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_schemas::LayerBasis;

    fn image(source: &str, diff_ids: &[&str]) -> Image {
        Image {
            image_id: ImageId::from("sha256:i"),
            diff_ids: diff_ids.iter().map(|id| DiffId::from(*id)).collect(),
            source: source.to_owned(),
            ..Image::default()
        }
    }

    /// The listed state when these sources have published an image of one layer, each with a manifest of so many bytes
    /// in its path.
    fn state(viewpoint: &Viewpoint, images: &[Image], layers: &[(&str, LayerBasis, usize)]) -> &'static str {
        let mut catalogue = Catalogue::new(viewpoint);
        for image in images {
            catalogue.tables.image(image.clone()).unwrap();
        }
        for (source, basis, length) in layers {
            let entry = driftline_schemas::layer::LayerEntry {
                path: vec![b'/'; *length],
                kind: driftline_schemas::layer::EntryKind::Directory,
                mode: 0o755,
                size_bytes: 0,
                sha256: None,
                target: None,
            };
            let mut layer = LayerManifest::new(vec![entry]).publish(&DiffId::from("sha256:a"), source, 0).unwrap();
            layer.head.basis = *basis;
            layer.chunks.into_iter().for_each(|it| drop(catalogue.tables.layer(LayerEvent::Chunk(it)).unwrap()));
            catalogue.tables.layer(LayerEvent::Head(layer.head)).unwrap();
        }
        catalogue.state(&ImageId::from("sha256:i")).name()
    }

    #[test]
    fn an_image_is_listed_as_the_enricher_sees_it() {
        use LayerBasis::{Blob, Snapshot};
        let any = Viewpoint::default();
        let of = |source: &str| image(source, &["sha256:a"]);
        assert_eq!(state(&any, &[of("node:a")], &[]), "incomplete");
        assert_eq!(state(&any, &[of("node:a")], &[("node:a", Blob, 1), ("node:b", Blob, 1)]), "complete");
        assert_eq!(state(&any, &[of("node:a")], &[("node:a", Blob, 1), ("node:b", Blob, 2)]), "conflict");
        assert_eq!(state(&any, &[of("node:a")], &[("node:a", Blob, 1), ("node:b", Snapshot, 2)]), "complete");
        let on = |source: &str, config: &str| Image { config_digest: config.into(), ..of(source) };
        let platforms = [on("node:a", "sha256:amd64"), on("node:b", "sha256:arm64")];
        assert_eq!(state(&any, &platforms, &[("node:a", Blob, 1)]), "failed");

        let verified = Viewpoint { trust: Trust::VerifiedOnly, node: None };
        assert_eq!(state(&verified, &[of("node:a")], &[("node:a", Blob, 1)]), "untrusted");
        assert_eq!(state(&verified, &[of("node:a"), of("ci:x")], &[("node:a", Blob, 1)]), "incomplete");
        let same = |node: &str| Viewpoint { trust: Trust::SameNode, node: Some(node.to_owned()) };
        assert_eq!(state(&same("a"), &[of("node:a")], &[("node:a", Blob, 1), ("node:b", Blob, 2)]), "complete");
        assert_eq!(state(&same("b"), &[of("node:a")], &[("node:a", Blob, 1)]), "untrusted");
    }
}
