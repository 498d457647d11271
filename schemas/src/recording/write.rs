//! Writes a recording, from its beginning or from the end of an interrupted one.

use std::io::Write;

use super::frame::{MARKER_BYTES, Marker, push_long};
use super::{BLOCK_BYTES, Info, Recorded, RecordingError};
use crate::codec::write_current;

/// Longest count and length before a block.
const BLOCK_HEAD_BYTES: usize = 20;

/// Writes records; the parent module documents the order that they must have.
#[derive(Debug)]
pub struct RecordingWriter<W> {
    out: W,
    marker: Marker,
    records: Vec<u8>,
    count: i64,
    written: u64,
}

impl<W: Write> RecordingWriter<W> {
    /// Writes the head.
    ///
    /// # Errors
    /// When the output fails.
    pub fn begin(mut out: W, info: &Info) -> Result<Self, RecordingError> {
        let head = info.head()?;
        out.write_all(&head)?;
        Ok(Self { written: head.len() as u64, ..Self::resume(out, info)? })
    }

    /// Resumes after the last whole block, at the current position of `out`.
    ///
    /// # Errors
    /// When `info` cannot be encoded, which is a defect.
    pub fn resume(out: W, info: &Info) -> Result<Self, RecordingError> {
        Ok(Self { out, marker: info.marker()?, records: Vec::new(), count: 0, written: 0 })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// When the output fails. Everything written before is a whole recording except its last block.
    pub fn append(&mut self, record: &Recorded) -> Result<(), RecordingError> {
        write_current(record, &mut self.records)?;
        self.count += 1;
        if self.records.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Ends a partition: the next record starts a block.
    ///
    /// # Errors
    /// When the output fails.
    pub fn end_section(&mut self) -> Result<(), RecordingError> {
        if self.count == 0 { Ok(()) } else { self.end_block() }
    }

    /// Bytes written by this writer, without the block in memory.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Ends the last partition and returns the output.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self) -> Result<W, RecordingError> {
        self.end_section()?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn end_block(&mut self) -> Result<(), RecordingError> {
        let mut block = Vec::with_capacity(BLOCK_HEAD_BYTES + self.records.len() + MARKER_BYTES);
        push_long(&mut block, self.count);
        push_long(&mut block, i64::try_from(self.records.len()).unwrap_or(i64::MAX));
        block.append(&mut self.records);
        block.extend(self.marker);
        self.count = 0;
        self.out.write_all(&block)?;
        self.written += block.len() as u64;
        Ok(())
    }
}
