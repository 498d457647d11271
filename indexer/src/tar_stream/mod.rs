//! Reads a tar stream once, forward, in constant memory, in the way of Go's `archive/tar`, which unpacks nearly all
//! images.
//!
//! The `tar` crate decodes the header block itself. Its iterator is not used: it reads long names and sparse maps of
//! any length into memory, splits PAX records at newlines (which binary attribute values contain), and takes the data
//! of links into account where Go does not. Each of these would let an image show the indexer other files than the
//! runtime.

mod header;
mod pax;
pub(crate) mod sparse;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use driftline_schemas::layer::EntryKind;
use tar::{EntryType, Header};

use crate::error::{IndexError, Limit};
use crate::limits::EXTENSION_BYTES_MAX;
use pax::Pax;
use sparse::Part;

const BLOCK_BYTES: u64 = 512;

/// One member of a tar stream. Its data is read through [`TarStream::data`].
#[derive(Debug)]
pub(crate) struct Member {
    /// Path as written.
    pub(crate) path: Vec<u8>,
    /// Its kind. Whiteouts are files by name and left to the caller.
    pub(crate) kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u16,
    /// Length of a regular file, holes included.
    pub(crate) size_bytes: u64,
    /// Target of a link as written.
    pub(crate) target: Option<Vec<u8>>,
    /// Parts of a sparse file that are in the stream; everything else is zeros.
    pub(crate) parts: Option<Vec<Part>>,
}

/// A tar stream, positioned after the header of the member last returned.
#[derive(Debug)]
pub(crate) struct TarStream<R> {
    reader: R,
    /// Data of the current member still in the stream.
    left: u64,
    /// Zeros after the data, up to the next block.
    padding: u64,
}

/// Extension headers that describe the member after them.
#[derive(Debug, Default)]
struct Extensions {
    pax: Pax,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, left: 0, padding: 0 }
    }

    /// The next member; unread data of the previous one is skipped. `None` at the end mark or the end of input.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>, IndexError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            let Some(header) = self.read_header()? else { return Ok(None) };
            let size = header::size(&header).ok_or(IndexError::Tar("a size is not a number"))?;
            match header.entry_type() {
                EntryType::XHeader => extensions.pax = Pax::parse(&self.read_extension(size)?)?,
                // To Go a global header is a member of its own, so extensions before it are lost.
                EntryType::XGlobalHeader => {
                    drop(self.read_extension(size)?);
                    extensions = Extensions::default();
                }
                EntryType::GNULongName => extensions.long_name = until_nul(self.read_extension(size)?),
                EntryType::GNULongLink => extensions.long_link = until_nul(self.read_extension(size)?),
                _ => return self.member(&header, size, extensions).map(Some),
            }
        }
    }

    /// The data of the member last returned, holes filled with zeros.
    pub(crate) fn data<'a>(&'a mut self, member: &'a Member) -> Data<'a, R> {
        Data { stream: self, parts: member.parts.as_deref(), at: 0, size_bytes: member.size_bytes }
    }

    /// The input after the tar stream; it must be read to its end for the digest.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    fn member(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Member, IndexError> {
        let Extensions { mut pax, long_name, long_link } = extensions;
        let path = long_name.or(pax.path.take()).unwrap_or_else(|| header::path(header));
        let target = long_link.or(pax.target.take()).or_else(|| header::link_name(header));
        let kind = kind(header::type_flag(header), &path)?;
        let in_stream = if kind == EntryKind::File { pax.size_bytes.unwrap_or(size) } else { 0 };
        self.left = in_stream;
        self.padding = in_stream.next_multiple_of(BLOCK_BYTES) - in_stream;
        let mode = header::mode(header).ok_or(IndexError::Tar("a mode is not a number"))?;
        let mut member = Member {
            path,
            kind,
            mode: u16::try_from(mode & 0o7777).unwrap_or_default(),
            size_bytes: in_stream,
            target: target.filter(|_| matches!(kind, EntryKind::Symlink | EntryKind::Hardlink)),
            parts: None,
        };
        if kind == EntryKind::File {
            self.read_sparse(header, &pax, &mut member)?;
        }
        Ok(member)
    }

    fn read_sparse(&mut self, header: &Header, pax: &Pax, member: &mut Member) -> Result<(), IndexError> {
        let map = if header.entry_type() == EntryType::GNUSparse {
            Some(sparse::of_gnu_header(self, header)?)
        } else {
            sparse::of_pax(self, pax, member.size_bytes)?
        };
        if let Some(map) = map {
            map.check(self.left)?;
            member.path = map.name.unwrap_or_else(|| std::mem::take(&mut member.path));
            member.size_bytes = map.size_bytes;
            member.parts = Some(map.parts);
        }
        Ok(())
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, IndexError> {
        if size > EXTENSION_BYTES_MAX {
            return Err(Limit::ExtensionBytes.into());
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.reader.read_exact(&mut bytes)?;
        self.padding = size.next_multiple_of(BLOCK_BYTES) - size;
        Ok(bytes)
    }

    /// A header block, or `None` at the end: two blocks of zeros, or no more input.
    fn read_header(&mut self) -> Result<Option<Header>, IndexError> {
        let Some(header) = self.read_block()? else { return Ok(None) };
        if !is_zero(header.as_bytes()) {
            return if header::checksum_fits(&header) {
                Ok(Some(header))
            } else {
                Err(IndexError::Tar("checksum mismatch"))
            };
        }
        match self.read_block()? {
            Some(second) if !is_zero(second.as_bytes()) => Err(IndexError::Tar("a lone block of zeros")),
            _ => Ok(None),
        }
    }

    /// A block, or `None` when there is no more input at all.
    fn read_block(&mut self) -> Result<Option<Header>, IndexError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut_off().into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(header))
    }

    fn skip_data(&mut self) -> Result<(), IndexError> {
        let (data, padding) = (self.left, self.padding);
        (self.left, self.padding) = (0, 0);
        if data > 0 && io::copy(&mut self.reader.by_ref().take(data), &mut io::sink())? < data {
            return Err(cut_off().into());
        }
        // The last member of a stream may lack its padding.
        io::copy(&mut self.reader.by_ref().take(padding), &mut io::sink())?;
        Ok(())
    }

    /// Reads the current member's data as stored in the stream.
    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.reader.read(buffer)?;
        if read == 0 {
            return Err(cut_off());
        }
        self.left = self.left.saturating_sub(as_u64(read));
        Ok(read)
    }
}

/// The data of one member.
#[derive(Debug)]
pub(crate) struct Data<'a, R> {
    stream: &'a mut TarStream<R>,
    parts: Option<&'a [Part]>,
    at: u64,
    size_bytes: u64,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(parts) = self.parts else { return self.stream.read_stored(buffer) };
        let part = parts.iter().find(|part| part.end() > self.at);
        let (is_stored, end) = match part {
            Some(part) if part.at <= self.at => (true, part.end()),
            Some(part) => (false, part.at),
            None => (false, self.size_bytes),
        };
        let wanted = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        let read = if is_stored {
            self.stream.read_stored(buffer)?
        } else {
            buffer.fill(0);
            buffer.len()
        };
        self.at = self.at.saturating_add(as_u64(read));
        if let Some(parts) = self.parts {
            // Parts are in order; those already passed are not visited again.
            let passed = parts.iter().take_while(|part| part.end() <= self.at).count();
            self.parts = parts.get(passed..);
        }
        Ok(read)
    }
}

fn kind(type_flag: u8, path: &[u8]) -> Result<EntryKind, IndexError> {
    match type_flag {
        // Before POSIX, a directory was a file whose name ends in a slash.
        b'\0' if path.ends_with(b"/") => Ok(EntryKind::Directory),
        b'\0' | b'0' | b'7' | b'S' => Ok(EntryKind::File),
        b'1' => Ok(EntryKind::Hardlink),
        b'2' => Ok(EntryKind::Symlink),
        b'3' | b'4' | b'6' => Ok(EntryKind::Device),
        b'5' => Ok(EntryKind::Directory),
        _ => Err(IndexError::Tar("a member has a type that no runtime unpacks")),
    }
}

/// Whether a block could begin a tar stream: a header, or the zeros of an empty one.
pub(crate) fn looks_like_tar(block: &[u8]) -> bool {
    block.len() == 512 && (is_zero(block) || header::checksum_fits(Header::from_byte_slice(block)))
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn until_nul(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the tar stream is cut off")
}

pub(crate) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
