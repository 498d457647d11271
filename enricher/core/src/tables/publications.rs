//! The publications of an image or a layer: which of them replaces another, and which contradict each other.

use driftline_schemas::{Image, ImageFailure, LayerBasis, LayerHead};

use crate::trust::Rank;

/// One publisher's record of an image or a layer.
pub trait Publication {
    /// The publisher.
    fn source(&self) -> &str;
    /// Whether both records have the same content, whatever their times.
    fn agrees(&self, other: &Self) -> bool;
}

impl Publication for Image {
    fn source(&self) -> &str {
        &self.source
    }

    fn agrees(&self, other: &Self) -> bool {
        self.diff_ids == other.diff_ids && self.failed.is_some() == other.failed.is_some()
    }
}

impl Publication for LayerHead {
    fn source(&self) -> &str {
        &self.source
    }

    fn agrees(&self, other: &Self) -> bool {
        self.manifest_sha256 == other.manifest_sha256 && self.basis == other.basis
    }
}

/// Stores a publication. One that repeats its publisher's earlier publication replaces it in place; one with other
/// content replaces it and is appended last. When there are too many, the last of the lowest-ranked publications is
/// removed. Returns the removed publications.
pub(super) fn put<T: Publication, R: Ord>(known: &mut Vec<T>, new: T, max: usize, rank: impl Fn(&T) -> R) -> Vec<T> {
    if let Some(old) = known.iter_mut().find(|old| old.source() == new.source() && old.agrees(&new)) {
        *old = new;
        return Vec::new();
    }
    let mut gone: Vec<T> = known.extract_if(.., |old| old.source() == new.source()).collect();
    known.push(new);
    if known.len() > max {
        let least = known.iter().enumerate().max_by_key(|(_, record)| rank(record)).map(|(at, _)| at);
        gone.extend(least.map(|at| known.remove(at)));
    }
    gone
}

pub(super) fn image_rank(image: &Image) -> Rank {
    Rank::of(&image.source, LayerBasis::Blob)
}

/// Whether the id is that of an index, and nodes of several platforms have published the image that each of them runs.
/// Then no publisher lies, and nothing determines which of these images a container has.
pub(super) fn names_several(candidates: &[&Image]) -> bool {
    let mut configs = candidates.iter().map(|image| image.config_digest.as_str());
    let first = configs.next().unwrap_or_default();
    candidates.iter().all(|image| !image.config_digest.is_empty()) && configs.any(|config| config != first)
}

/// The conflict between publishers about the list of layers: a config digest determines it, so there is only one.
pub(super) fn contradicted_list(candidates: &[&Image]) -> Option<String> {
    let (first, others) = candidates.split_first()?;
    let other = others.iter().find(|image| image.diff_ids != first.diff_ids)?;
    let claim = |image: &Image| format!("{} says {} layers", image.source, image.diff_ids.len());
    Some(format!("different lists of layers: {}, {}", claim(first), claim(other)))
}

/// Rank of a failure: higher when it depends more on the image and less on the publisher.
pub(super) fn severity(failure: ImageFailure) -> u8 {
    match failure {
        ImageFailure::Unavailable => 0,
        ImageFailure::Unsupported => 1,
        ImageFailure::Mismatch => 2,
    }
}
