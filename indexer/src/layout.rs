//! OCI image layouts: a directory with `index.json` and `blobs/sha256/`. Only the requested image is read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use driftline_schemas::Sha256;

use crate::Indexed;
use crate::blobs::{Blobs, Options, index_blobs};
use crate::documents::{Entry, LayerBlob, Wanted, check_digest, digest_in};
use crate::error::{IndexError, Limit};
use crate::limits::JSON_BYTES_MAX;

/// Indexes the wanted image of an OCI layout, `lanes` layers at once. The caller fills in source and time of the
/// [`Image`](driftline_schemas::Image).
///
/// # Errors
/// When a file cannot be read, a limit is exceeded, the image is not there, or any content does not match its digest.
pub fn index_layout(path: &Path, wanted: &Wanted, lanes: usize) -> Result<Indexed, IndexError> {
    let layout = Layout { root: path.to_owned() };
    let options = Options { lanes, known: &|_| false, stop: &AtomicBool::new(false) };
    index_blobs(&layout, &Entry::Names, wanted, options)
}

struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Opens a regular file of the layout; a device or fifo in its place must not block the indexer.
    fn file(&self, path: &str) -> Result<Option<File>, IndexError> {
        let path = self.root.join(path);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(File::open(path)?)),
            Ok(_) => Err(IndexError::document(&path.to_string_lossy(), "not a regular file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Blobs for Layout {
    fn document(&self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        // `manifest.json` names its config by an arbitrary path; a layout contains only blobs.
        if path != "index.json" && digest_in(path).is_none() {
            return Ok(None);
        }
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if crate::tar_stream::as_u64(bytes.len()) > JSON_BYTES_MAX {
            return Err(Limit::JsonBytes.into());
        }
        check_digest(path, Sha256::of(&bytes))?;
        Ok(Some(bytes))
    }

    fn open(&self, layer: &LayerBlob) -> Result<Option<Box<dyn Read + Send + '_>>, IndexError> {
        Ok(self.file(&layer.path)?.map(|file| Box::new(file) as Box<dyn Read + Send>))
    }
}
