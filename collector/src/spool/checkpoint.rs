//! The file with the two slots of the checkpoint.

use driftline_collector_core::limits;
use driftline_collector_core::spool::Checkpoint;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::private;

const SLOTS: usize = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct CheckpointFile {
    file: File,
    is_failing: bool,
    /// When it was last written, if none of what stands in it can be read.
    pub(super) unreadable_ns: Option<i64>,
}

impl CheckpointFile {
    /// Opens it, and reads the newest checkpoint; an empty one when there is none.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Checkpoint)> {
        let file = private().create(true).truncate(false).open(directory.join("checkpoint"))?;
        let written = file.metadata()?;
        let mut slots = vec![0; SLOTS * limits::CHECKPOINT_SLOT_BYTES];
        let length = read_at(&file, &mut slots)?;
        slots.truncate(length);
        let checkpoint = Checkpoint::newest(&slots);
        let is_unreadable = checkpoint.is_none() && slots.iter().any(|byte| *byte != 0);
        let written_ns = written.mtime().saturating_mul(1_000_000_000).saturating_add(written.mtime_nsec());
        let mut opened = Self { file, is_failing: false, unreadable_ns: is_unreadable.then_some(written_ns) };
        if length < SLOTS * limits::CHECKPOINT_SLOT_BYTES {
            // Takes the room while there is some.
            slots.resize(SLOTS * limits::CHECKPOINT_SLOT_BYTES, 0);
            opened.put(&slots, 0);
        }
        Ok((opened, checkpoint.unwrap_or_default()))
    }

    /// Writes it over the older slot.
    pub(super) fn write(&mut self, checkpoint: &Checkpoint) {
        let Some(slot) = checkpoint.encode() else {
            tracing::error!("a checkpoint is longer than its slot");
            return;
        };
        let number = usize::try_from(checkpoint.number % 2).unwrap_or(0);
        self.put(&slot, number);
    }

    fn put(&mut self, bytes: &[u8], slot: usize) {
        let at = u64::try_from(slot * limits::CHECKPOINT_SLOT_BYTES).unwrap_or(0);
        match self.file.write_all_at(bytes, at) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "the checkpoint of the spool cannot be written");
                }
            }
        }
    }
}

fn read_at(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, u64::try_from(length).unwrap_or(u64::MAX))? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}
