//! The input of one attempt to index an image, and its result.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use driftline_engines::RuntimeError;
use driftline_schemas::{DiffId, Image, ImageFailure, is_verified_source};

use super::plan::{Job, Outcome};
use crate::limits::{LAYERS_KNOWN_MAX, NAME_BYTES_MAX, NAMES_MAX};
use crate::publish::PublishError;
use crate::{IndexError, Indexed};

/// The input of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) job: Job,
    /// Layers that need not be read.
    pub(crate) known: Arc<KnownLayers>,
    /// Set when the service stops; reading must stop as well.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Task {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// An image that was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) indexed: Indexed,
    /// Bytes read for it, as stored.
    pub(crate) bytes: u64,
}

/// Layers that a verified source has published. The record of an image is written after all of its layers, so image
/// records suffice, and the layer records need not be read.
#[derive(Debug, Default)]
pub(crate) struct KnownLayers(RwLock<BTreeSet<DiffId>>);

impl KnownLayers {
    /// Adds the layers of an image record.
    pub(crate) fn note(&self, image: &Image) {
        if image.failed.is_some() || !is_verified_source(&image.source) {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len().saturating_add(image.diff_ids.len()) > LAYERS_KNOWN_MAX {
            known.clear();
        }
        known.extend(image.diff_ids.iter().cloned());
    }

    /// Forgets all layers. A layer that is not known is published once more, which is harmless.
    pub(crate) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn contains(&self, diff_id: &DiffId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(diff_id)
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error("no runtime of this node holds the image")]
    NotHere,
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("the indexing thread failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl JobError {
    /// The kind of failure.
    pub(crate) fn failure(&self) -> ImageFailure {
        match self {
            Self::Publish(PublishError::Manifest(_)) => ImageFailure::Unsupported,
            Self::Index(error) => error.failure(),
            _ => ImageFailure::Unavailable,
        }
    }

    /// The outcome for the plan.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Index(IndexError::Registry(error)) if error.pause().is_some() => {
                let pause = error.pause().unwrap_or_default();
                Outcome::Postponed { pause_ns: i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX) }
            }
            _ => Outcome::Failed(self.failure()),
        }
    }

    /// Whether Kafka refused a record, which concerns every image.
    pub(crate) fn is_kafka(&self) -> bool {
        matches!(self, Self::Publish(PublishError::Kafka(_)))
    }
}

/// The result of a successful attempt.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) layers: usize,
    pub(crate) fresh_layers: usize,
    pub(crate) entries: usize,
    pub(crate) bytes: u64,
}

/// Adds names under which the image is known.
pub(crate) fn add_references(indexed: &mut Indexed, known: impl IntoIterator<Item = String>) {
    let references = &mut indexed.image.references;
    let is_name =
        |text: &String| !text.is_empty() && text.len() <= NAME_BYTES_MAX && !driftline_schemas::is_digest(text);
    references.extend(known.into_iter().filter(is_name));
    references.sort();
    references.dedup();
    references.truncate(NAMES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_known_from_verified_sources_only() {
        let known = KnownLayers::default();
        let image = |source: &str, diff_id: &str, failed: Option<&str>| Image {
            source: source.to_owned(),
            diff_ids: vec![DiffId::from(diff_id)],
            failed: failed.map(str::to_owned),
            ..Image::default()
        };
        for (source, failed, expect) in [
            ("registry:central", None, true),
            ("ci:build", None, true),
            ("node:worker-1", None, false),
            ("registry:central", Some("gone"), false),
        ] {
            let diff_id = format!("{source}{failed:?}");
            known.note(&image(source, &diff_id, failed));
            assert_eq!(known.contains(&DiffId::from(diff_id.as_str())), expect, "{source} {failed:?}");
        }
    }
}
