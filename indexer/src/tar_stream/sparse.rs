//! Sparse files: the old GNU header, and GNU's three PAX forms (0.0, 0.1, 1.0).

use std::io::Read;

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::pax::{Pax, number};
use super::{TarStream, cut_off};
use crate::error::{IndexError, Limit};
use crate::limits::{LAYER_BYTES_MAX, SPARSE_PARTS_MAX};

const MALFORMED: IndexError = IndexError::Tar("malformed sparse file");

/// A part of a sparse file that is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(super) at: u64,
    pub(super) length: u64,
}

impl Part {
    pub(super) fn end(self) -> u64 {
        self.at.saturating_add(self.length)
    }
}

/// The positions of the parts of a sparse file.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// Real name, where the header contains a placeholder.
    pub(super) name: Option<Vec<u8>>,
    pub(super) parts: Vec<Part>,
    pub(super) size_bytes: u64,
}

impl Map {
    fn push(&mut self, at: u64, length: u64) -> Result<(), IndexError> {
        if self.parts.len() == SPARSE_PARTS_MAX {
            return Err(Limit::SparseParts.into());
        }
        self.parts.push(Part { at, length });
        Ok(())
    }

    /// Fails unless the parts are in order, do not overlap, are inside the file, and add up to the bytes in the stream.
    pub(super) fn check(&self, stored_bytes: u64) -> Result<(), IndexError> {
        if self.size_bytes > LAYER_BYTES_MAX {
            return Err(Limit::LayerBytes.into());
        }
        let mut end = 0;
        let mut stored = 0_u64;
        for part in &self.parts {
            if part.at < end || part.at.checked_add(part.length).is_none_or(|end| end > self.size_bytes) {
                return Err(MALFORMED);
            }
            end = part.end();
            stored = stored.saturating_add(part.length);
        }
        if stored == stored_bytes { Ok(()) } else { Err(MALFORMED) }
    }
}

/// The map in an old GNU header and in the blocks that continue it.
pub(super) fn of_gnu_header<R: Read>(stream: &mut TarStream<R>, header: &Header) -> Result<Map, IndexError> {
    let gnu = header.as_gnu().ok_or(MALFORMED)?;
    let mut map = Map { size_bytes: gnu.real_size().map_err(|_| MALFORMED)?, ..Map::default() };
    push_all(&mut map, &gnu.sparse)?;
    let mut is_extended = gnu.is_extended();
    while is_extended {
        let mut block = GnuExtSparseHeader::new();
        stream.reader.read_exact(block.as_mut_bytes())?;
        push_all(&mut map, &block.sparse)?;
        is_extended = block.is_extended();
    }
    Ok(map)
}

fn push_all(map: &mut Map, blocks: &[GnuSparseHeader]) -> Result<(), IndexError> {
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        let length = block.length().map_err(|_| MALFORMED)?;
        map.push(block.offset().map_err(|_| MALFORMED)?, length)?;
    }
    Ok(())
}

/// The map in PAX records, or at the beginning of the data. As in Go, records that do not form a known version have no
/// effect.
pub(super) fn of_pax<R: Read>(
    stream: &mut TarStream<R>,
    pax: &Pax,
    size_bytes: u64,
) -> Result<Option<Map>, IndexError> {
    let in_data = match (pax.sparse_value("major"), pax.sparse_value("minor")) {
        (b"1", b"0") => true,
        (b"0", b"0" | b"1") => false,
        (b"", b"") if !pax.sparse_value("map").is_empty() || !pax.sparse_value("offset").is_empty() => false,
        _ => return Ok(None),
    };
    let stated = [pax.sparse_value("size"), pax.sparse_value("realsize")].into_iter().find(|size| !size.is_empty());
    let name = Some(pax.sparse_value("name").to_vec()).filter(|name| !name.is_empty());
    let mut map = Map { name, size_bytes: stated.map_or(Ok(size_bytes), number)?, parts: Vec::new() };
    if in_data {
        of_data(stream, &mut map)?;
    } else {
        of_records(pax, &mut map)?;
    }
    Ok(Some(map))
}

/// Version 0.1 has `map=OFFSET,LENGTH,…`, 0.0 one record for each offset and each length.
fn of_records(pax: &Pax, map: &mut Map) -> Result<(), IndexError> {
    let is_part = |key: &[u8]| key == b"offset" || key == b"numbytes";
    let mut numbers: Vec<&[u8]> =
        pax.sparse.iter().filter(|(key, _)| is_part(key)).map(|(_, value)| value.as_slice()).collect();
    if numbers.is_empty() {
        numbers = pax.sparse_value("map").split(|byte| *byte == b',').filter(|number| !number.is_empty()).collect();
    }
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(MALFORMED);
    }
    pairs.iter().try_for_each(|[at, length]| map.push(number(at)?, number(length)?))
}

/// Version 1.0: decimal numbers, one per line, padded to a block; the first is the number of parts.
fn of_data<R: Read>(stream: &mut TarStream<R>, map: &mut Map) -> Result<(), IndexError> {
    let mut lines = Lines { stream, block: [0; 512], at: 512 };
    let count = usize::try_from(lines.next_number()?).map_err(|_| Limit::SparseParts)?;
    for _ in 0..count {
        let at = lines.next_number()?;
        map.push(at, lines.next_number()?)?;
    }
    Ok(())
}

/// Lines of numbers at the beginning of a member's data, read by whole blocks.
struct Lines<'a, R> {
    stream: &'a mut TarStream<R>,
    block: [u8; 512],
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn next_number(&mut self) -> Result<u64, IndexError> {
        let mut digits = Vec::new();
        loop {
            match self.next_byte()? {
                b'\n' => return number(&digits),
                digit if digits.len() < 20 => digits.push(digit),
                _ => return Err(MALFORMED),
            }
        }
    }

    fn next_byte(&mut self) -> Result<u8, IndexError> {
        if self.at == self.block.len() {
            let mut filled = 0;
            while let Some(rest) = self.block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match self.stream.read_stored(rest)? {
                    0 => return Err(cut_off().into()),
                    read => filled += read,
                }
            }
            self.at = 0;
        }
        let byte = self.block.get(self.at).copied().ok_or(MALFORMED)?;
        self.at += 1;
        Ok(byte)
    }
}
