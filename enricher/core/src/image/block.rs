//! The bytes of an [`super::ImageIndex`]: how they are written and read, from memory or from a file.
//!
//! Header, records of the paths in order of bytes, two tables ([`table`]) that find records by path and files by content,
//! text, SHA-256 of all that. Numbers are little endian. Reading checks every offset, so bytes that a digest does not protect give wrong answers at worst.

use driftline_schemas::Sha256;

use super::table::{self, BYTES_PER_PLACE, Table};
use super::{ImageEntry, NodeKind};

const MAGIC: [u8; 8] = *b"dl-image";

/// Of the layout and of what [`super::merge`] makes of layers: changes with either, so that kept bytes are made anew.
pub const FORMAT_VERSION: u32 = 1;

/// Magic, version, number of records, number of files, length of the text.
const HEADER_BYTES: usize = 8 + 4 + 4 + 4 + 4;
const DIGEST_BYTES: usize = 32;
/// SHA-256, size, place and length of the path, length of the target that follows it, mode, layer, kind.
const RECORD_BYTES: usize = 32 + 8 + 4 + 2 + 2 + 2 + 2 + 1;

const _: () = assert!(RECORD_BYTES + 2 * BYTES_PER_PLACE <= 100, "what a file may cost beside its path");

/// Why bytes are not an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not an index, or cut off.
    #[error("not an image index, or not all of it")]
    Shape,
    /// Of another version of driftline.
    #[error("an image index of format {0}, this version reads {FORMAT_VERSION}")]
    Version(u32),
    /// The digest at the end is another.
    #[error("an image index with a wrong digest")]
    Digest,
}

/// The index does not fit: more than 4 GiB of paths, or a path or target that no kernel takes.
#[derive(Debug)]
pub(super) struct TooLarge;

/// The sections of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sections<'a> {
    records: &'a [[u8; RECORD_BYTES]],
    by_path: Table<'a>,
    by_content: Table<'a>,
    text: &'a [u8],
}

/// Writes the entries, which come in order of their paths.
pub(super) fn write<'a>(entries: impl Iterator<Item = ImageEntry<'a>>) -> Result<Vec<u8>, TooLarge> {
    let (mut records, mut text) = (Vec::new(), Vec::new());
    let (mut by_path, mut by_content) = (Vec::new(), Vec::new());
    let mut count: u32 = 0;
    for entry in entries {
        let target = entry.target.unwrap_or_default();
        records.extend_from_slice(&entry.sha256.map_or([0; 32], |sha256| sha256.0));
        records.extend_from_slice(&entry.size_bytes.to_le_bytes());
        records.extend_from_slice(&number(text.len())?.to_le_bytes());
        for len in [entry.path.len(), target.len()] {
            records.extend_from_slice(&u16::try_from(len).map_err(|_| TooLarge)?.to_le_bytes());
        }
        records.extend_from_slice(&entry.mode.to_le_bytes());
        records.extend_from_slice(&entry.layer.to_le_bytes());
        records.push(entry.kind.code());
        text.extend_from_slice(entry.path);
        text.extend_from_slice(target);
        by_path.push((Sha256::of(entry.path).0, count));
        by_content.extend(entry.sha256.map(|sha256| (sha256.0, count)));
        count = count.checked_add(1).ok_or(TooLarge)?;
    }
    let mut block = Vec::with_capacity(HEADER_BYTES + records.len() + text.len());
    block.extend_from_slice(&MAGIC);
    for value in [FORMAT_VERSION, count, number(by_content.len())?, number(text.len())?] {
        block.extend_from_slice(&value.to_le_bytes());
    }
    block.extend_from_slice(&records);
    table::write(by_path.into_iter(), &mut block)?;
    table::write(by_content.into_iter(), &mut block)?;
    block.extend_from_slice(&text);
    let digest = Sha256::of(&block);
    block.extend_from_slice(&digest.0);
    Ok(block)
}

/// Checks everything about a block that can be wrong.
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
    /// `None` when the lengths are not those that the header says.
    pub(super) fn of(block: &'a [u8]) -> Option<Self> {
        let (header, rest) = block.split_first_chunk::<HEADER_BYTES>()?;
        let (rest, _) = rest.split_last_chunk::<DIGEST_BYTES>()?;
        let count = |at| usize::try_from(u32::from_le_bytes(field(header, at)?)).ok();
        let (records, rest) = rest.split_at_checked(count(12)?.checked_mul(RECORD_BYTES)?)?;
        let (by_path, rest) = Table::split(rest, count(12)?)?;
        let (by_content, text) = Table::split(rest, count(16)?)?;
        (text.len() == count(20)?).then_some(())?;
        Some(Self { records: records.as_chunks().0, by_path, by_content, text })
    }

    /// Entries by path.
    pub(super) fn entries(self) -> impl Iterator<Item = ImageEntry<'a>> {
        self.records.iter().filter_map(move |record| self.entry(record))
    }

    /// The entry with this number, in the order of [`Self::entries`].
    pub(super) fn nth(self, number: usize) -> Option<ImageEntry<'a>> {
        self.entry(self.records.get(number)?)
    }

    /// How many files there are.
    pub(super) fn file_count(self) -> usize {
        self.by_content.count()
    }

    /// The entry at exactly this path.
    pub(super) fn find(self, path: &[u8]) -> Option<ImageEntry<'a>> {
        let mut numbers = self.by_path.find(&Sha256::of(path).0);
        let record = numbers.find_map(|number| self.records.get(number).filter(|it| self.path(it) == Some(path)))?;
        self.entry(record)
    }

    /// Files with this content, by path.
    pub(super) fn with_content(self, sha256: Sha256) -> impl Iterator<Item = ImageEntry<'a>> {
        let same = self.by_content.find(&sha256.0).filter_map(move |number| self.records.get(number));
        same.filter(move |record| field(*record, 0) == Some(sha256.0)).filter_map(move |record| self.entry(record))
    }

    fn path(self, record: &[u8; RECORD_BYTES]) -> Option<&'a [u8]> {
        self.text_at(u32::from_le_bytes(field(record, 40)?), 0, u16::from_le_bytes(field(record, 44)?))
    }

    fn entry(self, record: &[u8; RECORD_BYTES]) -> Option<ImageEntry<'a>> {
        let kind = NodeKind::of_code(u8::from_le_bytes(field(record, 52)?))?;
        let (at, path_len) = (u32::from_le_bytes(field(record, 40)?), u16::from_le_bytes(field(record, 44)?));
        let target = self.text_at(at, path_len, u16::from_le_bytes(field(record, 46)?))?;
        Some(ImageEntry {
            path: self.text_at(at, 0, path_len)?,
            kind,
            mode: u16::from_le_bytes(field(record, 48)?),
            size_bytes: u64::from_le_bytes(field(record, 32)?),
            sha256: (kind == NodeKind::File).then_some(Sha256(field(record, 0)?)),
            target: (kind == NodeKind::Symlink).then_some(target),
            layer: u16::from_le_bytes(field(record, 50)?),
        })
    }

    fn text_at(self, at: u32, skipped: u16, len: u16) -> Option<&'a [u8]> {
        let start = usize::try_from(at).ok()?.checked_add(usize::from(skipped))?;
        self.text.get(start..start.checked_add(usize::from(len))?)
    }
}

/// The bytes of a field, `None` beyond the end.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn number(value: usize) -> Result<u32, TooLarge> {
    u32::try_from(value).map_err(|_| TooLarge)
}
