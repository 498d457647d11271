//! Merged images in files, so that a restart does not merge them again.
//!
//! A file is named after what decides its content ([`Stored::name`]). Its own digest is checked when it is read; one that
//! does not pass is made anew. Files of images that nothing uses are removed after a while ([`Store::sweep_merged`]).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use driftline_enricher_core::image::ImageIndex;
use driftline_enricher_core::tables::{LoadError, Stored};
use driftline_schemas::Sha256;
use driftline_service::clock;

use super::{Store, StoreError};

const DIRECTORY: &str = "merged";

/// Where the content of an index comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was merged before.
    Before,
    /// It was merged just now.
    Now,
}

/// Files removed in one sweep: a tenth of a second's work of the disk.
const SWEPT_MAX: usize = 256;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// The merged image of these layers, from its file when there is one. Blocks for milliseconds to seconds.
    ///
    /// # Errors
    /// When the layers cannot be read or merged. A file that cannot be written is none: the next start merges again.
    pub fn load(&self, stored: &Stored) -> Result<(ImageIndex, Made), LoadError> {
        let path = self.block_path(&stored.name());
        if let Ok(bytes) = fs::read(&path) {
            match ImageIndex::from_bytes(Box::new(bytes)) {
                Ok(index) => {
                    touch(&path);
                    return Ok((index, Made::Before));
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "a merged image is made anew"),
            }
        }
        let index = stored.load(self)?;
        match self.keeps(&index) {
            Ok(false) => tracing::debug!(path = %path.display(), "a merged image is not kept: there is no room"),
            Ok(true) => {
                if let Err(error) = self.keep(&path, &index) {
                    tracing::warn!(path = %path.display(), %error, "a merged image is not kept");
                }
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "a merged image is not kept"),
        }
        Ok((index, Made::Now))
    }

    /// Removes files of merged images that are not among those in use and were not for this long, and what a kill left.
    /// Blocks.
    ///
    /// # Errors
    /// When the directory cannot be read or a file not be removed.
    pub fn sweep_merged(&self, in_use: &BTreeSet<Sha256>, keep: Duration) -> std::io::Result<Swept> {
        let mut swept = Swept::default();
        let directory = match fs::read_dir(self.directory.join(DIRECTORY)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(swept),
            directory => directory?,
        };
        let (mut left, now) = (SWEPT_MAX, now());
        for file in directory {
            let file = file?;
            let is_used =
                file.file_name().to_str().and_then(|name| name.parse().ok()).is_some_and(|name| in_use.contains(&name));
            let about = file.metadata()?;
            let age = now.duration_since(about.modified()?).unwrap_or_default();
            if is_used || age < keep || !about.is_file() {
                continue;
            }
            fs::remove_file(file.path())?;
            swept.files += 1;
            swept.bytes = swept.bytes.saturating_add(about.len());
            left -= 1;
            if left == 0 {
                break;
            }
        }
        Ok(swept)
    }

    fn block_path(&self, name: &Sha256) -> PathBuf {
        self.directory.join(DIRECTORY).join(name.to_string())
    }

    /// Whether a merged image is kept on disk: not within a store that left it, nor beyond the bound.
    fn keeps(&self, index: &ImageIndex) -> Result<bool, StoreError> {
        let bytes = u64::try_from(index.as_bytes().len()).unwrap_or(u64::MAX);
        Ok(self.failure().is_none() && self.has_room_for(bytes)?)
    }

    /// Whole or not at all, unless the machine stops; then its digest tells.
    fn keep(&self, path: &PathBuf, index: &ImageIndex) -> std::io::Result<()> {
        fs::create_dir_all(self.directory.join(DIRECTORY))?;
        let partial = path.with_extension("partial");
        let written = fs::write(&partial, index.as_bytes()).and_then(|()| fs::rename(&partial, path));
        // On a full disk the rest of it is what others lack.
        written.inspect_err(|_| drop(fs::remove_file(&partial)))
    }
}

/// Notes that a file was needed. One whose time cannot be set is made anew the sooner.
fn touch(path: &Path) {
    let touched = fs::File::options().write(true).open(path).and_then(|file| file.set_modified(now()));
    if let Err(error) = touched {
        tracing::debug!(path = %path.display(), %error, "the time of a merged image cannot be set");
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(clock::now_ns().unsigned_abs())
}
