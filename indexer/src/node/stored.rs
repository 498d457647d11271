//! An image of containerd's store, as the lanes read it: each lane blocks its own thread on the socket.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Buf as _, Bytes};
use driftline_engines::{BlobStream, StoredImage};
use driftline_schemas::layer::LayerManifest;
use driftline_schemas::{DiffId, Sha256};
use tokio::runtime::Handle;

use crate::blobs::Blobs;
use crate::documents::{LayerBlob, check_digest, digest_in};
use crate::error::{IndexError, Limit};
use crate::limits::JSON_BYTES_MAX;
use crate::snapshot::{chain_id, read_directory};
use crate::tar_stream::as_u64;

/// The blobs of an image in containerd's store.
pub(super) struct Store<'a> {
    image: &'a StoredImage,
    handle: Handle,
    /// Bytes read so far, of blobs and unpacked files.
    bytes: AtomicU64,
    /// Directories of the unpacked layers, once containerd has answered.
    unpacked: Mutex<Option<Vec<PathBuf>>>,
}

impl<'a> Store<'a> {
    pub(super) fn new(image: &'a StoredImage, handle: Handle) -> Self {
        Self { image, handle, bytes: AtomicU64::new(0), unpacked: Mutex::new(None) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn blob(&self, path: &str) -> Result<Option<Blob<'_>>, IndexError> {
        // A store contains only blobs.
        let Some(digest) = digest_in(path) else { return Ok(None) };
        let stream = self.handle.block_on(self.image.blob(&digest.to_digest())).map_err(io::Error::other)?;
        Ok(stream.map(|stream| Blob { stream, rest: Bytes::new(), store: self }))
    }

    /// Directory of a layer; `None` when containerd has not unpacked the image to a readable place.
    fn directory(&self, diff_ids: &[DiffId], number: usize) -> Result<Option<PathBuf>, IndexError> {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let directories = match &mut *unpacked {
            Some(directories) => directories,
            none => {
                let answer = self.handle.block_on(self.image.unpacked(&chain_id(diff_ids)));
                let Some(directories) = answer.map_err(io::Error::other)? else { return Ok(None) };
                none.insert(directories)
            }
        };
        if directories.len() != diff_ids.len() {
            let why = format!("{} layers are unpacked as {} directories", diff_ids.len(), directories.len());
            return Err(io::Error::other(why).into());
        }
        Ok(directories.get(number).cloned())
    }
}

impl Blobs for Store<'_> {
    fn document(&self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let Some(blob) = self.blob(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        blob.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if as_u64(bytes.len()) > JSON_BYTES_MAX {
            return Err(Limit::JsonBytes.into());
        }
        check_digest(path, Sha256::of(&bytes))?;
        Ok(Some(bytes))
    }

    fn open(&self, layer: &LayerBlob) -> Result<Option<Box<dyn Read + Send + '_>>, IndexError> {
        Ok(self.blob(&layer.path)?.map(|blob| Box::new(blob) as Box<dyn Read + Send>))
    }

    fn unpacked(
        &self,
        diff_ids: &[DiffId],
        number: usize,
        stop: &[&AtomicBool],
    ) -> Result<Option<LayerManifest>, IndexError> {
        let Some(directory) = self.directory(diff_ids, number)? else { return Ok(None) };
        let read = read_directory(&directory, stop)?;
        self.bytes.fetch_add(read.bytes, Ordering::Relaxed);
        Ok(Some(read.manifest))
    }
}

/// A blob that is streamed over the socket.
struct Blob<'a> {
    stream: BlobStream,
    rest: Bytes,
    store: &'a Store<'a>,
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.store.handle.block_on(self.stream.next()).map_err(io::Error::other)? {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        if let Some(buffer) = buffer.get_mut(..length) {
            self.rest.copy_to_slice(buffer);
        }
        self.store.bytes.fetch_add(as_u64(length), Ordering::Relaxed);
        Ok(length)
    }
}
