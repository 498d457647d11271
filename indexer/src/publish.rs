//! Writes an indexed image to the topics: chunks, then their head, then, when all of these are acknowledged, the image.
//! A reader that finds an image or a head has already seen the records that it names.
//!
//! All records of a layer are in the partition of its diff_id, so that one reader gets all of them, in order.

use std::collections::BTreeSet;

use driftline_kafka::{KafkaError, Producer};
use driftline_schemas::layer::{ManifestError, PublishedLayer};
use driftline_schemas::limits::FAILURE_BYTES_MAX;
use driftline_schemas::text::printable_start;
use driftline_schemas::topics::{Topic, partition_of};
use driftline_schemas::{DiffId, EncodeError, Image, ImageFailure, ImageId, LayerHead, encode};

use crate::{Indexed, IndexedLayer};

/// Most layers remembered as published; beyond it they are published again, which is harmless.
const REMEMBERED_MAX: usize = 100_000;

/// Why an image could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A layer's manifest is too long.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A record cannot be encoded, which is a defect.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Kafka did not accept a record.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

/// Publishes for one source.
#[derive(Debug)]
pub struct Publisher {
    producer: Producer,
    source: String,
    /// Layers published in this run: images share their lower layers.
    done: BTreeSet<DiffId>,
}

impl Publisher {
    /// `source` names the publisher, for example `node:worker-1`.
    #[must_use]
    pub fn new(producer: Producer, source: &str) -> Self {
        Self { producer, source: source.to_owned(), done: BTreeSet::new() }
    }

    /// Publishes an image with its layers. Returns the number of layers that were not published before, once Kafka has
    /// acknowledged every record.
    ///
    /// # Errors
    /// When a manifest does not fit, before any record of that layer is sent; or when Kafka does not accept a record,
    /// in which case the image record has not been sent.
    pub async fn publish(&mut self, indexed: &Indexed, now_ns: i64) -> Result<usize, PublishError> {
        let fresh: Vec<_> = indexed.layers.iter().filter(|layer| !self.done.contains(&layer.diff_id)).collect();
        for layer in &fresh {
            self.send_layer(layer, now_ns).await?;
        }
        self.producer.settled().await?;
        let image = Image { source: self.source.clone(), indexed_ns: now_ns, ..indexed.image.clone() };
        self.send_image(&image).await?;
        if self.done.len() + fresh.len() > REMEMBERED_MAX {
            self.done.clear();
        }
        let count = fresh.len();
        self.done.extend(fresh.into_iter().map(|layer| layer.diff_id.clone()));
        Ok(count)
    }

    /// Marks layers as not published, so that they are published again.
    pub fn forget(&mut self, diff_ids: &[DiffId]) {
        for diff_id in diff_ids {
            self.done.remove(diff_id);
        }
    }

    /// Marks every layer as not published.
    pub fn forget_all(&mut self) {
        self.done.clear();
    }

    /// Publishes that an image could not be indexed, and the time of the next attempt.
    ///
    /// # Errors
    /// When Kafka does not accept the record.
    pub async fn publish_failure(
        &mut self,
        image_id: &ImageId,
        reason: &str,
        failure: ImageFailure,
        retry_ns: i64,
        now_ns: i64,
    ) -> Result<(), PublishError> {
        let image = Image {
            image_id: image_id.clone(),
            source: self.source.clone(),
            indexed_ns: now_ns,
            failed: Some(printable_start(reason, FAILURE_BYTES_MAX)),
            failure,
            retry_ns,
            ..Image::default()
        };
        self.send_image(&image).await
    }

    async fn send_layer(&self, layer: &IndexedLayer, now_ns: i64) -> Result<(), PublishError> {
        let IndexedLayer { diff_id, basis, manifest } = layer;
        let PublishedLayer { head, chunks } = manifest.publish(diff_id, &self.source, now_ns)?;
        let head = LayerHead { basis: *basis, ..head };
        let count = self.producer.settings().partition_count(Topic::ImageLayers);
        let partition = partition_of(diff_id.as_str().as_bytes(), count);
        for chunk in &chunks {
            let key = format!("{}/{}", chunk.manifest_sha256, chunk.index);
            let value = encode(chunk)?;
            self.producer.send_to(Topic::ImageLayers, partition, key.as_bytes(), Some(&value), &[]).await?;
        }
        let key = format!("{diff_id}/{}", self.source);
        let value = encode(&head)?;
        self.producer.send_to(Topic::ImageLayers, partition, key.as_bytes(), Some(&value), &[]).await?;
        Ok(())
    }

    async fn send_image(&self, image: &Image) -> Result<(), PublishError> {
        let value = encode(image)?;
        self.producer.send(Topic::Images, image.key().as_bytes(), &value, &[]).await?;
        self.producer.settled().await?;
        Ok(())
    }
}
