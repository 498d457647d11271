//! Blocks of an Avro object container file: count, length, records, marker. Written by hand, because resuming and
//! merging need the position of each block in the file, and the errors of the file system.

use std::io::{self, Read, Seek, SeekFrom};

use super::{BLOCK_BYTES_MAX, RecordingError};

pub(super) const MARKER_BYTES: usize = 16;
pub(super) type Marker = [u8; MARKER_BYTES];

/// Most bytes of a number: 64 bits, seven in each.
const LONG_BYTES_MAX: u32 = 10;

/// A block as it is in the file.
#[derive(Debug)]
pub(super) struct Block {
    /// Position of its first byte.
    pub position: u64,
    /// Number of its records.
    pub count: u64,
    pub records: Vec<u8>,
}

/// Input that counts the bytes read.
#[derive(Debug)]
pub(super) struct Input<R> {
    inner: R,
    position: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, position: 0 }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The next block, `None` at the end of the file.
    pub(super) fn block(&mut self, marker: &Marker) -> Result<Option<Block>, RecordingError> {
        let position = self.position;
        let mut first = [0];
        if self.inner.read(&mut first)? == 0 {
            return Ok(None);
        }
        self.position += 1;
        let count = self.long_after(position, first)?;
        let records = self.bytes(position, BLOCK_BYTES_MAX)?;
        let mut found = [0; MARKER_BYTES];
        self.read_exact(&mut found).map_err(|error| self.damaged(position, &error))?;
        match u64::try_from(count) {
            Ok(count) if found == *marker => Ok(Some(Block { position, count, records })),
            _ => Err(RecordingError::Damaged { position, why: "the block does not end with its marker".to_owned() }),
        }
    }

    /// Reads a zigzag number of the block at `block`.
    pub(super) fn long(&mut self, block: u64) -> Result<i64, RecordingError> {
        let mut byte = [0];
        self.read_exact(&mut byte).map_err(|error| self.damaged(block, &error))?;
        self.long_after(block, byte)
    }

    /// Like [`Self::long`], with the first byte already read.
    fn long_after(&mut self, block: u64, mut byte: [u8; 1]) -> Result<i64, RecordingError> {
        let mut value = 0_u64;
        for index in 0..LONG_BYTES_MAX {
            let [bits] = byte;
            value |= u64::from(bits & 0x7f) << (7 * index);
            if bits & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
            self.read_exact(&mut byte).map_err(|error| self.damaged(block, &error))?;
        }
        Err(RecordingError::Damaged { position: block, why: "a number is too long".to_owned() })
    }

    /// Reads a length and that many bytes. Memory is allocated as bytes arrive, so a wrong length cannot allocate much.
    pub(super) fn bytes(&mut self, block: u64, max: u64) -> Result<Vec<u8>, RecordingError> {
        let length = self.long(block)?;
        let Some(length) = u64::try_from(length).ok().filter(|length| *length <= max) else {
            return Err(RecordingError::Damaged { position: block, why: format!("a length of {length} bytes") });
        };
        let mut bytes = Vec::new();
        let read = (&mut self.inner).take(length).read_to_end(&mut bytes)?;
        self.position += read as u64;
        if (read as u64) < length {
            return Err(self.damaged(block, &io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    /// Converts an error of a read: the end of the file within a block is damage, any other error stays an I/O error.
    pub(super) fn damaged(&self, block: u64, error: &io::Error) -> RecordingError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => RecordingError::Damaged {
                position: block,
                why: format!("it ends at byte {}, in the middle of a block", self.position),
            },
            kind => RecordingError::Io(error.raw_os_error().map_or(kind.into(), io::Error::from_raw_os_error)),
        }
    }
}

impl<R: Read + Seek> Input<R> {
    pub(super) fn seek(&mut self, position: u64) -> io::Result<()> {
        self.inner.seek(SeekFrom::Start(position))?;
        self.position = position;
        Ok(())
    }
}

/// Appends a zigzag number.
pub(super) fn push_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    loop {
        let bits = (rest & 0x7f).to_le_bytes()[0];
        rest >>= 7;
        if rest == 0 {
            out.push(bits);
            return;
        }
        out.push(bits | 0x80);
    }
}
