//! What a start finds in the spool.

use driftline_collector_core::spool::{Checkpoint, Segment, frame};
use std::fs;
use std::io;
use std::path::Path;

/// What is known of the last record of a segment.
#[derive(Debug)]
enum End {
    /// It was written, according to the checkpoint.
    Written(u64),
    /// It came before the first of the next segment.
    Before(u64),
}

/// The segments, oldest first, and what of them is damaged.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) segments: Vec<Segment>,
    /// Records that were written and cannot be read.
    pub(super) damaged: u64,
    /// Moments of the records around them.
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
}

impl Scanned {
    /// Reads all segments once, one in memory at a time. Files that are no segments are left alone.
    pub(super) fn of(directory: &Path, checkpoint: &Checkpoint) -> io::Result<Self> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(directory)? {
            segments.extend(entry?.file_name().to_str().and_then(Segment::of_name));
        }
        segments.sort_by_key(|segment| segment.first);
        let mut scanned = Self { segments: Vec::new(), damaged: 0, from_ns: i64::MAX, to_ns: i64::MIN };
        let mut ends = segments.iter().skip(1).map(|next| End::Before(next.first)).collect::<Vec<_>>();
        ends.push(End::Written(checkpoint.spooled));
        for (mut segment, end) in segments.into_iter().zip(ends) {
            scanned.take(directory, &mut segment, &end, checkpoint.done)?;
            scanned.segments.push(segment);
        }
        let safe_ns = checkpoint.safe_ns;
        if scanned.from_ns == i64::MAX {
            scanned.from_ns = safe_ns;
        }
        scanned.to_ns = scanned.to_ns.max(scanned.from_ns);
        Ok(scanned)
    }

    /// Counts what of a segment is there. Records up to `done` need not be.
    fn take(&mut self, directory: &Path, segment: &mut Segment, end: &End, done: u64) -> io::Result<()> {
        let bytes = fs::read(directory.join(segment.name()))?;
        let mut frames = frame::Frames::new(&bytes, segment.salt, segment.first.saturating_sub(1));
        let mut last_ns = i64::MAX;
        for frame in frames.by_ref() {
            let missing = frame.sequence.saturating_sub(segment.last.max(done)).saturating_sub(1);
            self.note(missing, last_ns.min(frame.stamp.time_ns), frame.stamp.time_ns);
            last_ns = frame.stamp.time_ns;
            segment.take(&frame);
        }
        let rest = u64::try_from(bytes.len() - frames.at()).unwrap_or(u64::MAX);
        let reached = segment.last.max(done);
        let missing = match end {
            End::Written(last) => last.saturating_sub(reached),
            // Segments between the two may have been given up. No more are missing than find room in what cannot be read.
            End::Before(next) => next.saturating_sub(1).saturating_sub(reached).min(rest / frame::HEADER_BYTES as u64),
        };
        let missing = missing.max(u64::from(rest > 0));
        self.note(missing, last_ns, if last_ns == i64::MAX { i64::MIN } else { last_ns });
        // Its length on the disk, whatever stands in it.
        segment.bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn note(&mut self, missing: u64, from_ns: i64, to_ns: i64) {
        if missing > 0 {
            self.damaged += missing;
            self.from_ns = self.from_ns.min(from_ns);
            self.to_ns = self.to_ns.max(to_ns);
        }
    }
}
