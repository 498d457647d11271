//! OCI image layouts: a directory with `index.json` and `blobs/sha256/`. Only the image asked for is read.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use driftline_schemas::{ImageId, Sha256};

use crate::Indexed;
use crate::archive::{check_name, digest_in};
use crate::decode::{StoredDigest, peek};
use crate::documents::{Candidate, Documents, choose};
use crate::error::{IndexError, Limit};
use crate::layer::read_layer;
use crate::limits::JSON_BYTES_MAX;

/// Indexes an image of an OCI layout: the one with config digest `want`, else the only one. Source and time of the
/// [`Image`](driftline_schemas::Image) are left for the caller.
///
/// # Errors
/// When a file cannot be read, a limit is exceeded, the image is not there, or anything is not what its digest says.
pub fn index_layout(path: &Path, want: Option<&ImageId>) -> Result<Indexed, IndexError> {
    let mut layout = Layout { root: path.to_owned() };
    let Candidate { image, layer_paths } = choose(&mut layout, want)?;
    let mut layers = Vec::new();
    for ((number, diff_id), path) in image.diff_ids.iter().enumerate().zip(&layer_paths) {
        if layers.iter().any(|(known, _)| known == diff_id) {
            continue;
        }
        let missing = || IndexError::LayerMissing(diff_id.as_str().to_owned());
        let file = layout.open(path)?.ok_or_else(missing)?;
        let layer = read_layer(peek(file)?, StoredDigest::Wanted, path)?;
        check_name(path, layer.stored)?;
        if layer.diff_id != *diff_id {
            let (expected, actual) = (diff_id.as_str().to_owned(), layer.diff_id.as_str().to_owned());
            return Err(IndexError::DiffId { number, expected, actual });
        }
        layers.push((layer.diff_id, layer.manifest));
    }
    Ok(Indexed { image, layers })
}

struct Layout {
    root: PathBuf,
}

impl Layout {
    /// A regular file of the layout; a device or fifo in its place must not hold the indexer up.
    fn open(&self, path: &str) -> Result<Option<File>, IndexError> {
        let path = self.root.join(path);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(File::open(path)?)),
            Ok(_) => Err(IndexError::document(&path.to_string_lossy(), "not a regular file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Documents for Layout {
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        // `manifest.json` names its config by a path of its own choice; in a layout there is nothing but blobs.
        if path != "index.json" && digest_in(path).is_none() {
            return Ok(None);
        }
        let Some(file) = self.open(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if crate::tar_stream::as_u64(bytes.len()) > JSON_BYTES_MAX {
            return Err(Limit::JsonBytes.into());
        }
        check_name(path, Sha256::of(&bytes))?;
        Ok(Some(bytes))
    }
}
