//! Images whose blobs can be opened one by one: OCI layouts, content stores, registries. Layers are streamed, several
//! in parallel. Layers that are known already are not read.

use std::cmp::Reverse;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use driftline_schemas::layer::LayerManifest;
use driftline_schemas::{DiffId, LayerBasis};

use crate::decode::{StoredDigest, peek};
use crate::documents::{Candidate, Documents, Entry, LayerBlob, Wanted, check_digest, choose};
use crate::error::IndexError;
use crate::layer::{digest, read_layer};
use crate::limits::BUFFER_BYTES;
use crate::{Indexed, IndexedLayer};

/// The source of blobs. Several threads call it at once; all methods may block.
pub(crate) trait Blobs: Sync {
    /// A document by path, `blobs/sha256/<hex>` or a name of the layout, its digest verified; `None` when there is
    /// none.
    fn document(&self, path: &str) -> Result<Option<Vec<u8>>, IndexError>;

    /// Like [`Self::document`], for an image's config, which some sources keep elsewhere than manifests.
    fn config(&self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        self.document(path)
    }

    /// The content of a layer as stored; `None` when it is not there. The caller verifies digest and size.
    fn open(&self, layer: &LayerBlob) -> Result<Option<Box<dyn Read + Send + '_>>, IndexError>;

    /// An unpacked layer of an image's layers, lowest first, for a layer whose blob is not there; `None` when it was
    /// not unpacked either.
    fn unpacked(
        &self,
        _diff_ids: &[DiffId],
        _number: usize,
        _stop: &[&AtomicBool],
    ) -> Result<Option<LayerManifest>, IndexError> {
        Ok(None)
    }
}

/// Options for reading an image.
#[derive(Clone, Copy)]
pub(crate) struct Options<'a> {
    /// Number of layers read at once.
    pub(crate) lanes: usize,
    /// Whether a layer is known already and need not be read.
    pub(crate) known: &'a (dyn Fn(&DiffId) -> bool + Sync),
    /// Set by the caller to stop all reading soon.
    pub(crate) stop: &'a AtomicBool,
}

/// Indexes an image. The caller fills in source and time of the [`Image`](driftline_schemas::Image).
pub(crate) fn index_blobs(
    blobs: &impl Blobs,
    entry: &Entry,
    wanted: &Wanted,
    options: Options<'_>,
) -> Result<Indexed, IndexError> {
    let Candidate { image, layers, .. } = choose(&mut Shared(blobs), entry, wanted)?;
    let mut todo: Vec<Todo<'_>> = Vec::new();
    for ((number, diff_id), blob) in image.diff_ids.iter().enumerate().zip(&layers) {
        if !todo.iter().any(|known| known.diff_id == diff_id) && !(options.known)(diff_id) {
            todo.push(Todo { number, diff_ids: &image.diff_ids, diff_id, blob });
        }
    }
    todo.sort_by_key(|layer| Reverse(layer.blob.size_bytes));
    let read = read_all(blobs, &todo, options)?;
    Ok(Indexed { image, layers: read })
}

/// A layer to be read.
struct Todo<'a> {
    number: usize,
    /// diff_ids of all layers of the image.
    diff_ids: &'a [DiffId],
    diff_id: &'a DiffId,
    blob: &'a LayerBlob,
}

/// Reads layers, the longest first, on as many threads as there are lanes; the first error ends all of them.
fn read_all(blobs: &impl Blobs, todo: &[Todo<'_>], options: Options<'_>) -> Result<Vec<IndexedLayer>, IndexError> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let done = Mutex::new((Vec::with_capacity(todo.len()), None));
    let lane = || {
        while let Some(layer) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Acquire) {
                return;
            }
            let read = read_one(blobs, layer, &[options.stop, &failed]);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Ok(read) => done.0.push((layer.number, read)),
                Err(error) => {
                    // Errors of the other lanes after this one are consequences.
                    failed.store(true, Ordering::Release);
                    done.1.get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 1..options.lanes.min(todo.len()) {
            threads.spawn(lane);
        }
        lane();
    });
    let (mut layers, error) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error);
    }
    layers.sort_unstable_by_key(|(number, _)| *number);
    Ok(layers.into_iter().map(|(_, layer)| layer).collect())
}

fn read_one(blobs: &impl Blobs, layer: &Todo<'_>, stop: &[&AtomicBool]) -> Result<IndexedLayer, IndexError> {
    let Todo { number, diff_ids, diff_id, blob } = layer;
    let Some(content) = blobs.open(blob)? else {
        let manifest = blobs.unpacked(diff_ids, *number, stop)?;
        let manifest = manifest.ok_or_else(|| IndexError::LayerMissing(diff_id.as_str().to_owned()))?;
        return Ok(IndexedLayer { diff_id: (*diff_id).clone(), basis: LayerBasis::Snapshot, manifest });
    };
    let mut content = Sized::new(content, blob, stop);
    let read = peek(&mut content).map_err(IndexError::from);
    let read = match read.and_then(|peeked| read_layer(peeked, StoredDigest::Wanted, &blob.path)) {
        Err(error) if !content.has_failed => return Err(unreadable(blobs, blob, stop, error)),
        read => read?,
    };
    content.check()?;
    check_digest(&blob.path, read.stored)?;
    if read.diff_id != **diff_id {
        let (expected, actual) = (diff_id.as_str().to_owned(), read.diff_id.as_str().to_owned());
        return Err(IndexError::DiffId { number: *number, expected, actual });
    }
    Ok(IndexedLayer { diff_id: read.diff_id, basis: LayerBasis::Blob, manifest: read.manifest })
}

/// The reason why a layer that was there cannot be read. A decoder fails on a changed byte long before the digest is
/// known, so the blob is read again; if it does not match its digest, that is the error.
fn unreadable(blobs: &impl Blobs, blob: &LayerBlob, stop: &[&AtomicBool], error: IndexError) -> IndexError {
    if matches!(error, IndexError::Limit(_)) {
        return error;
    }
    let check = || -> Result<(), IndexError> {
        let Some(content) = blobs.open(blob)? else { return Ok(()) };
        let mut content = Sized::new(content, blob, stop);
        let actual = digest(&mut content, &mut vec![0; BUFFER_BYTES])?;
        content.check()?;
        check_digest(&blob.path, actual)
    };
    match (check(), error) {
        (Err(mismatch), _) => mismatch,
        (Ok(()), IndexError::Read(error)) => IndexError::Compression(error),
        (Ok(()), error) => error,
    }
}

/// A blob whose reading can be stopped, checked against the length in its manifest if there is one.
struct Sized<'a, R> {
    inner: R,
    stated: Option<u64>,
    bytes: u64,
    /// Whether the source failed, as opposed to the reader.
    has_failed: bool,
    stop: &'a [&'a AtomicBool],
}

impl<'a, R> Sized<'a, R> {
    fn new(inner: R, blob: &LayerBlob, stop: &'a [&'a AtomicBool]) -> Self {
        Self { inner, stated: blob.size_bytes, bytes: 0, has_failed: false, stop }
    }

    fn check(&self) -> Result<(), IndexError> {
        match self.stated {
            Some(stated_bytes) if stated_bytes != self.bytes => {
                Err(IndexError::Size { what: "a layer", stated_bytes, actual_bytes: self.bytes })
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Sized<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        go_on(self.stop).inspect_err(|_| self.has_failed = true)?;
        let read = self.inner.read(buffer).inspect_err(|_| self.has_failed = true)?;
        self.bytes = self.bytes.saturating_add(crate::tar_stream::as_u64(read));
        // A blob that is too long is not read further: its end may never come.
        if self.stated.is_some_and(|stated| self.bytes > stated) {
            self.has_failed = true;
            return Err(io::Error::other(self.check().err().unwrap_or(IndexError::NoImage)));
        }
        Ok(read)
    }
}

/// Fails when any of the flags is set.
pub(crate) fn go_on(stop: &[&AtomicBool]) -> io::Result<()> {
    if stop.iter().any(|stop| stop.load(Ordering::Acquire)) {
        return Err(io::Error::other("the indexer stops"));
    }
    Ok(())
}

struct Shared<'a, B>(&'a B);

impl<B: Blobs> Documents for Shared<'_, B> {
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        self.0.document(path)
    }

    fn config(&mut self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        self.0.config(path)
    }
}
