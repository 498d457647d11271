//! What publishers say of an image or a layer, beside each other: who takes whose place, and who contradicts whom.

use driftline_schemas::{Image, ImageFailure, LayerBasis, LayerHead};

use crate::trust::Rank;

/// What a publisher says of something.
pub trait Publication {
    /// Who says it.
    fn source(&self) -> &str;
    /// Whether it says the same, at whatever time.
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

/// Puts what a publisher says in the place of what it said before; who says something else than before comes last. When
/// there are too many, the last of those that count least goes. Returns what is not said any more.
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

/// Whether the id is that of an index, and nodes of several platforms have published what each of them runs. Nobody lies
/// then, and nobody can say which one a container has.
pub(super) fn names_several(candidates: &[&Image]) -> bool {
    let mut configs = candidates.iter().map(|image| image.config_digest.as_str());
    let first = configs.next().unwrap_or_default();
    candidates.iter().all(|image| !image.config_digest.is_empty()) && configs.any(|config| config != first)
}

/// Who contradicts whom about the list of layers: a config digest decides it, so there is one.
pub(super) fn contradicted_list(candidates: &[&Image]) -> Option<String> {
    let (first, others) = candidates.split_first()?;
    let other = others.iter().find(|image| image.diff_ids != first.diff_ids)?;
    let claim = |image: &Image| format!("{} says {} layers", image.source, image.diff_ids.len());
    Some(format!("different lists of layers: {}, {}", claim(first), claim(other)))
}

/// What a failure says of the image rather than of who failed: the more, the higher.
pub(super) fn severity(failure: ImageFailure) -> u8 {
    match failure {
        ImageFailure::Unavailable => 0,
        ImageFailure::Unsupported => 1,
        ImageFailure::Mismatch => 2,
    }
}
