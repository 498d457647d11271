//! A record of the image topics as the store takes it, and what it says.

use driftline_enricher_core::chunks::check_chunk;
use driftline_kafka::Record;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, LayerEvent, LayerHead, Sha256, decode};

/// A record, and what it says.
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
    /// What it says.
    pub news: News,
}

/// What a record says. The bytes of a chunk stay in the store.
#[derive(Debug)]
pub enum News {
    /// Something of an image.
    Image(Image),
    /// The record of an image with this key was deleted.
    ImageGone(String),
    /// Who says what of a layer.
    Head(LayerHead),
    /// A piece of a manifest.
    Chunk {
        /// Digest of the manifest.
        manifest: Sha256,
        /// Number of the piece.
        index: u32,
    },
    /// A piece of a manifest whose bytes are left on the topic.
    CollectedChunk {
        /// Digest of the manifest.
        manifest: Sha256,
        /// Number of the piece.
        index: u32,
    },
    /// The head or chunk with this key was deleted.
    LayerGone(String),
    /// Nothing that counts: a deleted record without a key.
    Nothing,
    /// Cannot be used, and why.
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

    /// Bytes it will take in the store.
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
