//! Judging an exec against an image index.

use driftline_detection::{Evidence, FileContent, ImageLookup, Verdict};
use driftline_schemas::{Exec, Sha256};

use crate::image::ImageIndex;

impl ImageLookup for ImageIndex {
    fn file(&self, path: &[u8]) -> Option<FileContent> {
        Self::file(self, path).map(|file| FileContent { sha256: file.sha256, size_bytes: file.size_bytes })
    }

    fn path_of(&self, sha256: &Sha256) -> Option<&[u8]> {
        Self::path_of(self, sha256)
    }
}

/// The drift verdict of an exec; `Err` holds the reason why its container's image is not known.
#[must_use]
pub fn judge(exec: &Exec, image: Result<&ImageIndex, &str>) -> Verdict {
    driftline_detection::judge(&Evidence::of(exec, image))
}
