//! The byte format of an [`super::ImageIndex`]: writes it, and reads it from memory or from a file.
//!
//! A block consists of a header, records in byte order of their paths, two tables ([`table`]) that find records by path
//! and files by content, and a SHA-256 of all of these. A record's text follows it directly, because random lookups
//! miss every cache and the text is then fetched along with the record. Numbers are little endian. Reading checks every
//! offset, so bytes that a digest does not protect give wrong answers at worst.

use driftline_schemas::Sha256;

use super::table::{self, BYTES_PER_PLACE, Table, TooLarge, field, number};
use super::{ImageEntry, NodeKind};

const MAGIC: [u8; 8] = *b"dl-image";

/// Version of the layout and of the result of [`super::merge`]: it changes with either, so that stored blocks are
/// rebuilt.
pub const FORMAT_VERSION: u32 = 2;

/// Magic, version, number of records, number of files, length of all records.
const HEADER_BYTES: usize = 8 + 4 + 4 + 4 + 4;
const DIGEST_BYTES: usize = 32;
/// SHA-256, size, lengths of the path and of the target that follow the record, mode, layer, kind.
const RECORD_BYTES: usize = 32 + 8 + 2 + 2 + 2 + 2 + 1;

const _: () = assert!(RECORD_BYTES + 2 * BYTES_PER_PLACE <= 100, "what a file may cost beside its path");

/// Why bytes are not an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The bytes are not an index, or are truncated.
    #[error("not an image index, or not all of it")]
    Shape,
    /// Another version of driftline wrote the bytes.
    #[error("an image index of format {0}, this version reads {FORMAT_VERSION}")]
    Version(u32),
    /// The digest at the end does not match the bytes.
    #[error("an image index with a wrong digest")]
    Digest,
}

/// The sections of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sections<'a> {
    records: &'a [u8],
    by_path: Table<'a>,
    by_content: Table<'a>,
}

/// Writes the entries, which must be in order of their paths.
pub(super) fn write<'a>(entries: impl Iterator<Item = ImageEntry<'a>>) -> Result<Vec<u8>, TooLarge> {
    let mut records = Vec::new();
    let (mut by_path, mut by_content) = (Vec::new(), Vec::new());
    for entry in entries {
        let at = number(records.len())?;
        let target = entry.target.filter(|_| entry.kind == NodeKind::Symlink).unwrap_or_default();
        records.extend_from_slice(&entry.sha256.map_or([0; 32], |sha256| sha256.0));
        records.extend_from_slice(&entry.size_bytes.to_le_bytes());
        for len in [entry.path.len(), target.len()] {
            records.extend_from_slice(&u16::try_from(len).map_err(|_| TooLarge)?.to_le_bytes());
        }
        records.extend_from_slice(&entry.mode.to_le_bytes());
        records.extend_from_slice(&entry.layer.to_le_bytes());
        records.push(entry.kind.code());
        records.extend_from_slice(entry.path);
        records.extend_from_slice(target);
        by_path.push((Sha256::of(entry.path).0, at));
        by_content.extend(entry.sha256.map(|sha256| (sha256.0, at)));
    }
    let mut block = Vec::with_capacity(HEADER_BYTES + records.len());
    block.extend_from_slice(&MAGIC);
    for value in [FORMAT_VERSION, number(by_path.len())?, number(by_content.len())?, number(records.len())?] {
        block.extend_from_slice(&value.to_le_bytes());
    }
    block.extend_from_slice(&records);
    table::write(by_path.into_iter(), &mut block)?;
    table::write(by_content.into_iter(), &mut block)?;
    let digest = Sha256::of(&block);
    block.extend_from_slice(&digest.0);
    Ok(block)
}

/// Checks the magic, version, lengths and digest of a block.
pub(super) fn check(block: &[u8]) -> Result<(), OpenError> {
    let (header, _) = block.split_first_chunk::<HEADER_BYTES>().ok_or(OpenError::Shape)?;
    if !header.starts_with(&MAGIC) {
        return Err(OpenError::Shape);
    }
    match field(header, 8).map(u32::from_le_bytes) {
        Some(FORMAT_VERSION) => {}
        other => return Err(OpenError::Version(other.unwrap_or_default())),
    }
    Sections::of(block).ok_or(OpenError::Shape)?;
    let (content, digest) = block.split_last_chunk::<DIGEST_BYTES>().ok_or(OpenError::Shape)?;
    if Sha256::of(content).0 == *digest { Ok(()) } else { Err(OpenError::Digest) }
}

impl<'a> Sections<'a> {
    /// Splits a block; `None` when its length does not match the header.
    pub(super) fn of(block: &'a [u8]) -> Option<Self> {
        let (header, rest) = block.split_first_chunk::<HEADER_BYTES>()?;
        let (rest, _) = rest.split_last_chunk::<DIGEST_BYTES>()?;
        let count = |at| usize::try_from(u32::from_le_bytes(field(header, at)?)).ok();
        let (records, rest) = rest.split_at_checked(count(20)?)?;
        let (by_path, rest) = Table::split(rest, count(12)?)?;
        let (by_content, rest) = Table::split(rest, count(16)?)?;
        rest.is_empty().then_some(Self { records, by_path, by_content })
    }

    /// Entries by path, each with its place for [`Self::at`].
    pub(super) fn entries(self) -> impl Iterator<Item = (usize, ImageEntry<'a>)> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let at = next;
            let entry = self.at(at)?;
            next += RECORD_BYTES + entry.path.len() + entry.target.map_or(0, <[u8]>::len);
            Some((at, entry))
        })
    }

    /// The entry at this place.
    pub(super) fn at(self, at: usize) -> Option<ImageEntry<'a>> {
        let (record, text) = self.records.get(at..)?.split_first_chunk::<RECORD_BYTES>()?;
        let len = |at| Some(usize::from(u16::from_le_bytes(field(record, at)?)));
        let (path, text) = text.split_at_checked(len(40)?)?;
        let target = text.get(..len(42)?)?;
        let kind = NodeKind::of_code(u8::from_le_bytes(field(record, 48)?))?;
        Some(ImageEntry {
            path,
            kind,
            mode: u16::from_le_bytes(field(record, 44)?),
            size_bytes: u64::from_le_bytes(field(record, 32)?),
            sha256: (kind == NodeKind::File).then_some(Sha256(field(record, 0)?)),
            target: (kind == NodeKind::Symlink).then_some(target),
            layer: u16::from_le_bytes(field(record, 46)?),
        })
    }

    /// Number of files.
    pub(super) fn file_count(self) -> usize {
        self.by_content.count()
    }

    /// The entry at exactly this path.
    pub(super) fn find(self, path: &[u8]) -> Option<ImageEntry<'a>> {
        let mut same = self.by_path.find(&Sha256::of(path).0).filter_map(move |at| self.at(at));
        same.find(|entry| entry.path == path)
    }

    /// Files with this content, by path.
    pub(super) fn with_content(self, sha256: Sha256) -> impl Iterator<Item = ImageEntry<'a>> {
        let same = self.by_content.find(&sha256.0).filter_map(move |at| self.at(at));
        same.filter(move |entry| entry.sha256 == Some(sha256))
    }
}
