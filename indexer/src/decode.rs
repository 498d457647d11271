//! Recognises the compression of a stream by its first bytes, decompresses it, and counts and hashes both sides.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::time::Instant;

use driftline_schemas::Sha256;
use driftline_service::clock;
use sha2::{Digest as _, Sha256 as Hasher};

use crate::error::{IndexError, Limit};
use crate::limits::{BUFFER_BYTES, LAYER_BYTES_MAX, LAYER_TIME_MAX, RATIO_FREE_BYTES, RATIO_MAX, ZSTD_WINDOW_LOG_MAX};
use crate::tar_stream::{as_u64, looks_like_tar};

/// Number of first bytes that are inspected: a tar header.
const HEAD_BYTES: usize = 512;

/// The format of a stream, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Tar,
    Gzip,
    Zstd,
    Json,
    Other,
}

/// A stream whose first bytes are known.
pub(crate) struct Peeked<R> {
    pub(crate) format: Format,
    pub(crate) reader: io::Chain<Cursor<Vec<u8>>, R>,
}

/// Reads the first bytes.
pub(crate) fn peek<R: Read>(mut reader: R) -> io::Result<Peeked<R>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    reader.by_ref().take(as_u64(HEAD_BYTES)).read_to_end(&mut head)?;
    Ok(Peeked { format: format_of(&head), reader: Cursor::new(head).chain(reader) })
}

fn format_of(head: &[u8]) -> Format {
    match head {
        [0x1f, 0x8b, ..] => Format::Gzip,
        // A zstd stream may begin with a skippable frame.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        _ if looks_like_tar(head) => Format::Tar,
        _ if head.trim_ascii_start().starts_with(b"{") || head.trim_ascii_start().starts_with(b"[") => Format::Json,
        _ => Format::Other,
    }
}

/// Digests of a stream that was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    /// Of the bytes as stored.
    pub(crate) stored: Sha256,
    /// Of the decompressed bytes; for a layer, its diff_id.
    pub(crate) content: Sha256,
}

/// Whether the digest of the compressed bytes is required as well; it costs a pass over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredDigest {
    Wanted,
    NotWanted,
}

/// Passes the decompressed content to `take`, then reads what `take` left, so that the digests are those of the whole
/// stream. Without compression the stored digest is the content's. When it was not required, the stored digest has no
/// meaning.
pub(crate) fn decoded<R: Read, T>(
    peeked: Peeked<R>,
    stored: StoredDigest,
    take: impl FnOnce(&mut dyn Read) -> Result<T, IndexError>,
) -> Result<(T, Digests), IndexError> {
    decoded_by(clock::monotonic() + LAYER_TIME_MAX, peeked, stored, take)
}

fn decoded_by<R: Read, T>(
    deadline: Instant,
    peeked: Peeked<R>,
    stored: StoredDigest,
    take: impl FnOnce(&mut dyn Read) -> Result<T, IndexError>,
) -> Result<(T, Digests), IndexError> {
    let is_compressed = matches!(peeked.format, Format::Gzip | Format::Zstd);
    let stored_bytes = Cell::new(0);
    let stored_hash = RefCell::new(Hasher::new());
    let raw = Counted {
        inner: peeked.reader,
        bytes: &stored_bytes,
        hash: Some(&stored_hash).filter(|_| is_compressed && stored == StoredDigest::Wanted),
    };
    let raw = BufReader::with_capacity(BUFFER_BYTES, raw);
    let content = open(peeked.format, raw)?;
    let mut content =
        DecodedContent { inner: content, stored_bytes: &stored_bytes, bytes: 0, hash: Hasher::new(), deadline };
    let taken = take(&mut content)?;
    let mut rest = vec![0; BUFFER_BYTES];
    while content.read(&mut rest)? > 0 {}
    let content_digest = Sha256(content.hash.finalize().into());
    let stored = if is_compressed { Sha256(stored_hash.take().finalize().into()) } else { content_digest };
    Ok((taken, Digests { stored, content: content_digest }))
}

fn open<'a>(format: Format, raw: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>, IndexError> {
    Ok(match format {
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
        Format::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(raw)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Format::Tar | Format::Json | Format::Other => Box::new(raw),
    })
}

/// Counts the bytes that are read, and hashes them if required.
struct Counted<'a, R> {
    inner: R,
    bytes: &'a Cell<u64>,
    hash: Option<&'a RefCell<Hasher>>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get().saturating_add(as_u64(read)));
        if let Some(hash) = self.hash {
            hash.borrow_mut().update(buffer.get(..read).unwrap_or_default());
        }
        Ok(read)
    }
}

/// The decompressed side: hashes, and stops a stream that exceeds the limits.
struct DecodedContent<'a> {
    inner: Box<dyn Read + 'a>,
    stored_bytes: &'a Cell<u64>,
    bytes: u64,
    hash: Hasher,
    deadline: Instant,
}

impl Read for DecodedContent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes = self.bytes.saturating_add(as_u64(read));
        if self.bytes > LAYER_BYTES_MAX {
            return Err(io::Error::other(Limit::LayerBytes));
        }
        if self.bytes > RATIO_FREE_BYTES && self.bytes / RATIO_MAX > self.stored_bytes.get() {
            return Err(io::Error::other(Limit::Ratio));
        }
        if clock::monotonic() > self.deadline {
            return Err(io::Error::other(Limit::LayerTime));
        }
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_takes_too_long_is_given_up() {
        let read = |deadline| {
            let peeked = peek([7; 2_000].as_slice()).unwrap();
            decoded_by(deadline, peeked, StoredDigest::NotWanted, |content| Ok(io::copy(content, &mut io::sink())?))
        };
        let now = clock::monotonic();
        assert!(matches!(read(now), Err(IndexError::Limit(Limit::LayerTime))));
        assert_eq!(read(now + LAYER_TIME_MAX).unwrap().0, 2_000);
    }
}
