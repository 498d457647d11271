//! A record of the image topics in the form that the store takes, with its decoded content.

use driftline_enricher_core::chunks::check_chunk;
use driftline_kafka::Record;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, LayerEvent, LayerHead, Sha256, decode};

/// A record with its decoded content.
#[derive(Debug)]
pub struct Row {
    /// Its topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When it was produced.
    pub timestamp_ms: i64,
    /// Its value, verbatim.
    pub value: Option<Vec<u8>>,
    /// Decoded content.
    pub news: News,
}

/// Decoded content of a record, without the bytes of a chunk, which stay in the store.
#[derive(Debug)]
pub enum News {
    /// A publisher's record of an image.
    Image(Image),
    /// The record of an image with this key was deleted.
    ImageGone(String),
    /// A publisher's head of a layer.
    Head(LayerHead),
    /// A chunk of a manifest.
    Chunk {
        /// Digest of the manifest.
        manifest: Sha256,
        /// Number of the chunk.
        index: u32,
    },
    /// A chunk of a manifest whose bytes are not stored, only its offset on the topic.
    CollectedChunk {
        /// Digest of the manifest.
        manifest: Sha256,
        /// Number of the chunk.
        index: u32,
    },
    /// The head or chunk with this key was deleted.
    LayerGone(String),
    /// A record without effect: a deleted record without a key.
    Nothing,
    /// A record that cannot be used, with the reason.
    Refused(String),
}

impl Row {
    /// Decodes a record.
    #[must_use]
    pub fn of(record: Record) -> Self {
        let Record { topic, partition, offset, timestamp_ms, key, value, .. } = record;
        let news = match (&value, topic) {
            (Some(value), Topic::Images) => {
                decode::<Image>(value).map_or_else(|error| News::Refused(error.to_string()), News::Image)
            }
            (Some(value), _) => layer(value).unwrap_or_else(News::Refused),
            (None, _) => {
                let gone = if topic == Topic::Images { News::ImageGone } else { News::LayerGone };
                key.and_then(|key| String::from_utf8(key).ok()).map_or(News::Nothing, gone)
            }
        };
        Self { topic, partition, offset, timestamp_ms, value, news }
    }

    /// Bytes that the record will take in the store.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Vec::len)
    }
}

fn layer(value: &[u8]) -> Result<News, String> {
    match LayerEvent::decode(value).map_err(|error| error.to_string())? {
        LayerEvent::Head(head) => Ok(News::Head(head)),
        LayerEvent::Chunk(chunk) => {
            let index = check_chunk(&chunk)?;
            Ok(News::Chunk { manifest: chunk.manifest_sha256, index })
        }
    }
}
