//! Merged images in files, so that a restart does not merge them again.
//!
//! A file's name is derived from everything that determines its content ([`Stored::name`]). Reading checks the file's
//! own digest; a file that fails the check is rebuilt. Files of unused images are removed after a while
//! ([`Store::sweep_merged`]).

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

/// Origin of an index's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// The index was merged before and read from its file.
    Before,
    /// The index was merged now.
    Now,
}

/// Most files removed in one sweep: a tenth of a second's work of the disk.
const SWEPT_MAX: usize = 256;

/// The result of a sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Number of removed files.
    pub files: u64,
    /// Sum of their bytes.
    pub bytes: u64,
}

impl Store {
    /// Returns the merged image of these layers, from its file when there is one. Blocks for milliseconds to seconds.
    ///
    /// # Errors
    /// When the layers cannot be read or merged. A failure to write the file is not an error: the next start merges
    /// again.
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

    /// Removes files of merged images that are not in use and have not been for this long, and partial files that a
    /// killed process left. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be read or a file cannot be removed.
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

    /// Whether a merged image is kept on disk: not after the store has left the disk, nor beyond its bound.
    fn keeps(&self, index: &ImageIndex) -> Result<bool, StoreError> {
        let bytes = u64::try_from(index.as_bytes().len()).unwrap_or(u64::MAX);
        Ok(self.failure().is_none() && self.has_room_for(bytes)?)
    }

    /// Writes a file completely or not at all. A stop of the machine can leave a partial file, which fails its digest
    /// check.
    fn keep(&self, path: &PathBuf, index: &ImageIndex) -> std::io::Result<()> {
        fs::create_dir_all(self.directory.join(DIRECTORY))?;
        let partial = path.with_extension("partial");
        let written = fs::write(&partial, index.as_bytes()).and_then(|()| fs::rename(&partial, path));
        // On a full disk a partial file would take the space that others lack.
        written.inspect_err(|_| drop(fs::remove_file(&partial)))
    }
}

/// Updates the time of last use of a file. If the update fails, the file is removed and rebuilt sooner.
fn touch(path: &Path) {
    let touched = fs::File::options().write(true).open(path).and_then(|file| file.set_modified(now()));
    if let Err(error) = touched {
        tracing::debug!(path = %path.display(), %error, "the time of a merged image cannot be set");
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(clock::now_ns().unsigned_abs())
}
