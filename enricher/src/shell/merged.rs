//! Merged images in memory. Containers of one image start together, when a node starts or a deployment is rolled out:
//! the first request reads the image from the store and merges it, and the others wait for the result.

use moka::future::Cache;
use prometheus::IntCounter;
use std::sync::Arc;
use tokio::sync::Semaphore;

use driftline_enricher::store::Store;
use driftline_enricher_core::ImageAnswer;
use driftline_enricher_core::image::ImageIndex;
use driftline_enricher_core::tables::{LoadError, Stored};
use driftline_schemas::{ImageFailure, Sha256};
use driftline_service::clock;
use driftline_service::telemetry::Telemetry;

/// Validity of a failed read of the store: afterwards the image is looked up again.
const UNREAD_NS: i64 = 30_000_000_000;

/// Images loaded at once. Merging holds the entries of every layer in addition to its result, and uses one core. More
/// images at once would each take that memory, which the allocator may keep, and would not be ready sooner.
const LOADING_MAX: usize = 4;

/// The cache of merged images, see the module. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Merged {
    store: Arc<Store>,
    /// Merged images by name, weighed in KiB.
    images: Cache<Sha256, Arc<ImageIndex>>,
    /// Limits the images that are loaded at once.
    loading: Arc<Semaphore>,
    loaded: IntCounter,
}

impl Merged {
    pub(super) fn new(store: Arc<Store>, bytes_max: u64, telemetry: &Telemetry) -> Result<Self, prometheus::Error> {
        let images = Cache::builder()
            .weigher(|_, index: &Arc<ImageIndex>| u32::try_from(index.memory_bytes() / 1024 + 1).unwrap_or(u32::MAX))
            .max_capacity(bytes_max / 1024)
            .build();
        let loaded = telemetry.counter("enricher_images_loaded_total", "Images read from the store into memory")?;
        Ok(Self { store, images, loading: Arc::new(Semaphore::new(LOADING_MAX)), loaded })
    }

    /// Returns the merged image. One of several concurrent requests loads it.
    pub(super) async fn get(&self, stored: Arc<Stored>) -> Result<Arc<ImageIndex>, Arc<ImageAnswer>> {
        self.images.try_get_with(stored.name(), self.load(stored)).await
    }

    async fn load(&self, stored: Arc<Stored>) -> Result<Arc<ImageIndex>, ImageAnswer> {
        // The semaphore is never closed, so acquiring always succeeds.
        let _permit = self.loading.acquire().await.ok();
        self.loaded.inc();
        let store = Arc::clone(&self.store);
        let loaded = tokio::task::spawn_blocking(move || store.load(&stored)).await.map_err(crashed)?;
        loaded.map(|(index, _)| Arc::new(index)).map_err(|error| match &error {
            LoadError::Unread(..) => ImageAnswer::Failed {
                reason: error.to_string(),
                failure: error.failure(),
                retry_ns: clock::now_ns().saturating_add(UNREAD_NS),
            },
            LoadError::Layer(..) | LoadError::Merge(_) => ImageAnswer::unusable(&error),
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn crashed(error: tokio::task::JoinError) -> ImageAnswer {
    ImageAnswer::Failed { reason: error.to_string(), failure: ImageFailure::Unsupported, retry_ns: i64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_enricher::store::{Opened, Origin, Row, open};
    use driftline_enricher_core::tables::Lookup;
    use driftline_enricher_core::{ImageView, Trust};
    use driftline_kafka::{OffsetRange, Record};
    use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
    use driftline_schemas::topics::Topic;
    use driftline_schemas::{DiffId, Image, ImageId, encode};
    use tokio::task::JoinSet;

    const ID: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

    /// A store with one image of 5,000 files.
    fn filled(directory: &std::path::Path) -> Opened {
        let entries = (0..5_000_u32).map(|number| LayerEntry {
            path: format!("/usr/lib/part-{number}").into(),
            kind: EntryKind::File,
            mode: 0o755,
            size_bytes: 9,
            sha256: Some(Sha256::of(&number.to_le_bytes()).0),
            target: None,
        });
        let diff_id = DiffId::from(ID);
        let layer = LayerManifest::new(entries.collect()).publish(&diff_id, "node:a", 0).unwrap();
        let image =
            Image { image_id: ImageId::from(ID), diff_ids: vec![diff_id], source: "node:a".into(), ..Image::default() };
        let mut records: Vec<_> =
            layer.chunks.iter().map(|chunk| (Topic::ImageLayers, encode(chunk).unwrap())).collect();
        records.push((Topic::ImageLayers, encode(&layer.head).unwrap()));
        records.push((Topic::Images, encode(&image).unwrap()));
        let mut rows: Vec<Row> = records
            .into_iter()
            .zip(0..)
            .map(|((topic, value), offset)| Record {
                topic,
                partition: 0,
                offset,
                timestamp_ms: 0,
                key: None,
                value: Some(value),
                headers: Vec::new(),
            })
            .map(Row::of)
            .collect();
        let end = i64::try_from(rows.len()).unwrap();
        let range = |topic| OffsetRange { topic, partition: 0, begin: 0, end };
        let extent = [range(Topic::Images), range(Topic::ImageLayers)];
        let origin = Origin { cluster: "test".into(), prefix: "test".into() };
        open(directory, &origin, Trust::default(), &extent).unwrap().store.write(&mut rows).unwrap();
        open(directory, &origin, Trust::default(), &extent).unwrap()
    }

    #[tokio::test]
    async fn however_many_ask_for_an_image_at_once_it_is_read_and_merged_once() {
        let directory = tempfile::tempdir().unwrap();
        let Opened { store, tables, .. } = filled(directory.path());
        let stored = || match tables.lookup(&ImageView::of_all(&ImageId::from(ID))) {
            Lookup::Complete { stored, .. } => Arc::new(stored),
            _ => panic!("the image is complete"),
        };
        let merged = Merged::new(Arc::new(store), 16 << 20, &Telemetry::new("enricher")).unwrap();
        let mut asking = JoinSet::new();
        for _ in 0..64 {
            let (merged, stored) = (merged.clone(), stored());
            asking.spawn(async move { merged.get(stored).await.unwrap() });
        }
        let found = asking.join_all().await;
        assert!(found.iter().all(|index| Arc::ptr_eq(index, &found[0]) && index.file(b"/usr/lib/part-4999").is_some()));
        assert_eq!(merged.loaded.get(), 1);
        assert!(Arc::ptr_eq(&merged.get(stored()).await.unwrap(), &found[0]));
        assert_eq!(merged.loaded.get(), 1, "who comes later finds it");
    }
}
