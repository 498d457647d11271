//! What stands on the two image topics, each publisher's word beside the others'.

use anyhow::{Context as _, bail};
use std::collections::{BTreeMap, BTreeSet};

use driftline_enricher_core::image::ImageIndex;
use driftline_enricher_core::tables::{ImageTables, Lookup};
use driftline_kafka::{ClientSettings, ReadFrom, ReaderEvent, Record, TopicReader, admin};
use driftline_schemas::layer::LayerManifest;
use driftline_schemas::topics::Topic;
use driftline_schemas::{
    DiffId, Image, ImageId, LayerChunk, LayerEvent, LayerHead, Sha256, decode, is_verified_source,
};

/// Fewest characters of a digest that name an image.
const PREFIX_MIN: usize = 4;

/// Every record of the image topics that counts.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// By image, in the order in which they were published.
    pub(super) images: BTreeMap<ImageId, Vec<Image>>,
    heads: BTreeMap<DiffId, Vec<LayerHead>>,
    chunks: BTreeMap<Sha256, BTreeMap<i32, LayerChunk>>,
}

/// What can be done with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Complete,
    /// Layers that are not there whole.
    Incomplete(usize),
    Failed(String),
    /// Complete, and somebody contradicts it.
    Conflict(String),
}

impl State {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete(_) => "incomplete",
            Self::Failed(_) => "failed",
            Self::Conflict(_) => "conflict",
        }
    }

    /// More than the name says.
    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::Complete => None,
            Self::Incomplete(missing) => Some(format!("{missing} layers are not published whole")),
            Self::Failed(why) | Self::Conflict(why) => Some(why.clone()),
        }
    }
}

impl Catalogue {
    /// Reads both topics up to where they end now.
    pub(super) async fn read(settings: &ClientSettings) -> anyhow::Result<Self> {
        const TOPICS: [Topic; 2] = [Topic::Images, Topic::ImageLayers];
        admin::check(settings, &TOPICS).await?;
        let mut reader = TopicReader::start(settings, &TOPICS, ReadFrom::Beginning)?;
        let mut catalogue = Self::default();
        loop {
            match reader.next().await {
                Some(ReaderEvent::Record(record)) => catalogue.take(&record),
                Some(ReaderEvent::Failed(error)) => return Err(error.into()),
                Some(ReaderEvent::CaughtUp) | None => return Ok(catalogue),
            }
        }
    }

    /// Records that cannot be used are the enricher's to report.
    fn take(&mut self, record: &Record) {
        let Some(value) = &record.value else { return self.forget(record) };
        if record.topic == Topic::Images {
            if let Ok(image) = decode::<Image>(value) {
                self.image(image);
            }
            return;
        }
        match LayerEvent::decode(value) {
            Ok(LayerEvent::Head(head)) => self.head(head),
            Ok(LayerEvent::Chunk(chunk)) => {
                self.chunks.entry(chunk.manifest_sha256).or_default().insert(chunk.index, chunk);
            }
            Err(_) => {}
        }
    }

    fn image(&mut self, image: Image) {
        let published = self.images.entry(image.image_id.clone()).or_default();
        match published.iter_mut().find(|known| known.source == image.source) {
            Some(known) => *known = image,
            None => published.push(image),
        }
    }

    fn head(&mut self, head: LayerHead) {
        let published = self.heads.entry(head.diff_id.clone()).or_default();
        match published.iter_mut().find(|known| known.source == head.source) {
            Some(known) => *known = head,
            None => published.push(head),
        }
    }

    /// A tombstone takes away what one publisher said.
    fn forget(&mut self, record: &Record) {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        let Some((id, source)) = key.split_once('/') else { return };
        if record.topic == Topic::Images {
            if let Some(published) = self.images.get_mut(&ImageId::from(id)) {
                published.retain(|image| image.source != source);
            }
            self.images.retain(|_, published| !published.is_empty());
        } else if let Some(published) = self.heads.get_mut(&DiffId::from(id)) {
            published.retain(|head| head.source != source);
        }
    }

    /// The image that somebody means: by digest, its first characters, or a reference.
    pub(super) fn find(&self, name: &str) -> anyhow::Result<&ImageId> {
        let prefix = if name.starts_with("sha256:") { name.to_owned() } else { format!("sha256:{name}") };
        let is_prefix = prefix.len() >= "sha256:".len() + PREFIX_MIN;
        let meant = |(id, published): &(&ImageId, &Vec<Image>)| {
            let named = published.iter().any(|image| image.references.iter().any(|reference| reference == name));
            named || (is_prefix && id.as_str().starts_with(&prefix))
        };
        let found: Vec<&ImageId> = self.images.iter().filter(meant).map(|(id, _)| id).collect();
        match found.as_slice() {
            [only] => Ok(only),
            [] => bail!("no image is called {name}; `driftline images list` shows what is published"),
            [first, second, ..] => bail!("{name} could be {first} or {second}: give more characters of the digest"),
        }
    }

    /// What publishers say of an image; those that could read it first, in the order in which they said it.
    pub(super) fn published(&self, id: &ImageId) -> Vec<&Image> {
        let mut published: Vec<&Image> = self.images.get(id).into_iter().flatten().collect();
        published.sort_by_key(|image| image.failed.is_some());
        published
    }

    pub(super) fn heads(&self, diff_id: &DiffId) -> &[LayerHead] {
        self.heads.get(diff_id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_whole(&self, head: &LayerHead) -> bool {
        let chunks = self.chunks.get(&head.manifest_sha256);
        chunks.is_some_and(|chunks| (0..head.chunk_count).all(|index| chunks.contains_key(&index)))
    }

    /// The content of a layer as one publisher has it.
    pub(super) fn manifest(&self, head: &LayerHead) -> anyhow::Result<LayerManifest> {
        let chunks = self.chunks.get(&head.manifest_sha256).with_context(|| {
            format!("the manifest of layer {} by {} is not there; index the image again", head.diff_id, head.source)
        })?;
        Ok(LayerManifest::assemble(head, chunks.values().map(|chunk| chunk.data.as_slice()))?)
    }

    pub(super) fn state(&self, id: &ImageId) -> State {
        let published = self.published(id);
        let Some(first) = published.first() else { return State::Failed("nobody publishes it".to_owned()) };
        if let Some(why) = &first.failed {
            return State::Failed(why.clone());
        }
        let whole = |diff_id: &&DiffId| self.heads(diff_id).iter().any(|head| self.is_whole(head));
        let missing = first.diff_ids.len() - first.diff_ids.iter().filter(whole).count();
        if missing > 0 {
            return State::Incomplete(missing);
        }
        self.conflict(&published).map_or(State::Complete, State::Conflict)
    }

    fn conflict(&self, published: &[&Image]) -> Option<String> {
        let mut good = published.iter().filter(|image| image.failed.is_none());
        let first = good.next()?;
        if let Some(other) = good.find(|image| image.diff_ids != first.diff_ids) {
            return Some(format!("{} and {} list different layers", first.source, other.source));
        }
        first.diff_ids.iter().find_map(|diff_id| {
            let heads = self.heads(diff_id);
            let first = heads.first()?;
            let other = heads.iter().find(|head| head.manifest_sha256 != first.manifest_sha256)?;
            Some(format!("{} and {} differ about layer {diff_id}", first.source, other.source))
        })
    }

    /// The merged content, as the enricher has it.
    pub(super) fn index(&self, id: &ImageId) -> anyhow::Result<ImageIndex> {
        let mut tables = ImageTables::default();
        let published = self.published(id);
        let diff_ids: BTreeSet<&DiffId> = published.iter().flat_map(|image| &image.diff_ids).collect();
        for head in diff_ids.into_iter().flat_map(|diff_id| self.heads(diff_id)) {
            for chunk in self.chunks.get(&head.manifest_sha256).into_iter().flat_map(BTreeMap::values) {
                tables.layer(LayerEvent::Chunk(chunk.clone())).map_err(anyhow::Error::msg)?;
            }
            tables.layer(LayerEvent::Head(head.clone())).map_err(anyhow::Error::msg)?;
        }
        for image in published {
            tables.image(image.clone()).map_err(anyhow::Error::msg)?;
        }
        match tables.lookup(id) {
            Lookup::Complete { stored, .. } => Ok(stored.load(tables.chunks())?),
            _ => {
                let state = self.state(id);
                bail!("image {id} is {}: {}", state.name(), state.detail().unwrap_or_default())
            }
        }
    }
}

/// Whether more than a node's word stands for what a source publishes.
pub(super) fn trust(source: &str) -> &'static str {
    if is_verified_source(source) { "verified" } else { "node" }
}
