//! Merged images in files, so that a restart does not merge them again.
//!
//! A file is named after what decides its content: the version of merging and the digests of the manifests, in order. Its
//! own digest is checked when it is read; one that does not pass is made anew.

use std::fs;
use std::path::PathBuf;

use driftline_enricher_core::image::{FORMAT_VERSION, ImageIndex};
use driftline_enricher_core::tables::{LoadError, Stored};
use driftline_schemas::Sha256;

use super::Store;

const DIRECTORY: &str = "merged";

/// Where the content of an index comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was merged before.
    Before,
    /// It was merged just now.
    Now,
}

/// Name of the merged image of these layers.
#[must_use]
pub fn name(stored: &Stored) -> Sha256 {
    let mut content = FORMAT_VERSION.to_le_bytes().to_vec();
    stored.manifests().for_each(|manifest| content.extend_from_slice(&manifest.0));
    Sha256::of(&content)
}

impl Store {
    /// The merged image of these layers, from its file when there is one. Blocks for milliseconds to seconds.
    ///
    /// # Errors
    /// When the layers cannot be read or merged. A file that cannot be written is none: the next start merges again.
    pub fn load(&self, stored: &Stored) -> Result<(ImageIndex, Made), LoadError> {
        let path = self.block_path(&name(stored));
        if let Ok(bytes) = fs::read(&path) {
            match ImageIndex::from_bytes(Box::new(bytes)) {
                Ok(index) => return Ok((index, Made::Before)),
                Err(error) => tracing::warn!(path = %path.display(), %error, "a merged image is made anew"),
            }
        }
        let index = stored.load(self)?;
        if let Err(error) = self.keep(&path, &index) {
            tracing::warn!(path = %path.display(), %error, "a merged image is not kept");
        }
        Ok((index, Made::Now))
    }

    fn block_path(&self, name: &Sha256) -> PathBuf {
        self.directory.join(DIRECTORY).join(name.to_string())
    }

    /// Whole or not at all, unless the machine stops; then its digest tells.
    fn keep(&self, path: &PathBuf, index: &ImageIndex) -> std::io::Result<()> {
        fs::create_dir_all(self.directory.join(DIRECTORY))?;
        let partial = path.with_extension("partial");
        fs::write(&partial, index.as_bytes())?;
        fs::rename(partial, path)
    }
}
