//! The spool on the disk: segments of records that Kafka has not acknowledged, and the checkpoint. Called by
//! [`crate::outbox`].
//!
//! Every record is one `write`. Nothing is synced: what a killed process has written is in the kernel's hands, and for
//! what goes with the whole machine [`limits::DIRTY_MAX`] is taken off the safe moment. A write that fails is undone, and
//! the next record begins another segment; so within a segment sequence numbers have no gaps but by damage.
//!
//! It is written to from the collector's task. A disk that hangs makes that wait, the rings fill, and the kernel counts.

use anyhow::{Context as _, bail};
use driftline_collector_core::limits;
use driftline_collector_core::spool::{Checkpoint, Frame, Gap, Kind, Ledger, Segment, Stamp, frame::Frames};
use driftline_schemas::ExecEvent;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

mod checkpoint;
mod scan;
use checkpoint::CheckpointFile;
use scan::Scanned;

/// Why a record is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The spool's share of the disk is used up.
    SpoolFull,
    /// The disk is full.
    DiskFull,
    /// The disk does not take it for another reason.
    DiskFailed,
    /// What was read back is not what was written.
    Damaged,
    /// Kafka does not take this record at all.
    Refused,
    /// The collector did not run, or was killed with what it had in memory.
    Restart,
}

impl Reason {
    /// As it stands in loss records and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::SpoolFull => "spool_full",
            Self::DiskFull => "disk_full",
            Self::DiskFailed => "disk_failed",
            Self::Damaged => "spool_damaged",
            Self::Refused => "refused",
            Self::Restart => "collector_restart",
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::DiskFailed,
        }
    }
}

/// What was given up since the last call of [`Spool::take_given_up`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// Records of any kind, by reason.
    pub records: BTreeMap<Reason, u64>,
    /// Records about containers are among them.
    pub containers: bool,
}

/// A record that was read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Unread {
    /// Sequence number.
    pub sequence: u64,
    /// Key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// The spool.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    /// Held as long as the spool is.
    lock: File,
    bytes_max: u64,
    run: String,
    ledger: Ledger,
    /// The last segment of the ledger, open for writing; nothing when the next record begins another.
    active: Option<File>,
    reading: Option<Reading>,
    frame: Vec<u8>,
    given_up: GivenUp,
    checkpoint: Checkpoint,
    checkpoints: CheckpointFile,
    is_failing: bool,
}

/// A segment that is being read.
#[derive(Debug)]
struct Reading {
    first: u64,
    salt: u32,
    bytes: Vec<u8>,
    /// How much of `bytes` has been read, and how much stood in the segment before `bytes`.
    at: usize,
    before: u64,
    last: u64,
    /// Frames read so far.
    frames: u64,
}

impl Spool {
    /// Opens the spool in `directory`, makes it if needed, and checks what stands in it. `run` is a unique id.
    ///
    /// # Errors
    /// When the directory cannot be used, or another collector uses it.
    pub fn open(directory: &Path, bytes_max: u64, run: &str) -> anyhow::Result<Self> {
        let shown = directory.display();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("cannot make the spool's directory {shown} (DRIFTLINE_SPOOL_DIR)"))?;
        let unusable = || format!("cannot use the spool's directory {shown} (DRIFTLINE_SPOOL_DIR)");
        let lock = private().create(true).truncate(false).open(directory.join("lock")).with_context(unusable)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another collector uses the spool {shown}; each needs a DRIFTLINE_SPOOL_DIR of its own");
        }
        let (checkpoints, checkpoint) = CheckpointFile::open(directory).with_context(unusable)?;
        let mut spool = Self {
            directory: directory.to_owned(),
            lock,
            bytes_max,
            run: run.to_owned(),
            ledger: Ledger::default(),
            active: None,
            reading: None,
            frame: Vec::new(),
            given_up: GivenUp::default(),
            checkpoint,
            checkpoints,
            is_failing: false,
        };
        let scanned = Scanned::of(directory, &spool.checkpoint).with_context(unusable)?;
        spool.take_scanned(scanned);
        Ok(spool)
    }

    fn take_scanned(&mut self, scanned: Scanned) {
        self.ledger.passed(self.checkpoint.done);
        for segment in scanned.segments {
            self.ledger.push(segment);
        }
        if scanned.damaged > 0 {
            let gap = Gap { lost: Some(scanned.damaged), from_ns: scanned.from_ns, to_ns: scanned.to_ns };
            self.miss(Reason::Damaged, gap, scanned.damaged);
            tracing::error!(records = scanned.damaged, "records of the spool are damaged");
        }
        let last = self.ledger.active().map_or(0, |segment| segment.last);
        self.checkpoint.spooled = self.checkpoint.spooled.max(last);
        self.forget_done(self.checkpoint.done);
    }

    /// The sequence number after the highest that was ever used and written down.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.checkpoint.spooled.max(self.checkpoint.done).saturating_add(1)
    }

    /// What the next start will know; written with [`Self::write_checkpoint`].
    pub fn checkpoint(&mut self) -> &mut Checkpoint {
        &mut self.checkpoint
    }

    /// When a checkpoint was last written that cannot be read, nanoseconds since 1970.
    #[must_use]
    pub fn unreadable_since_ns(&self) -> Option<i64> {
        self.checkpoints.unreadable_ns
    }

    /// Writes the checkpoint; that it cannot be written is logged once.
    pub fn write_checkpoint(&mut self) {
        self.checkpoint.number += 1;
        self.checkpoints.write(&self.checkpoint);
    }

    /// What was given up since the last call.
    pub fn take_given_up(&mut self) -> GivenUp {
        std::mem::take(&mut self.given_up)
    }

    /// Records in segments, acknowledged ones of the same segments among them.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.ledger.records()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ledger.bytes()
    }

    /// Records that have to be read before anything later is sent.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.ledger.unread()
    }

    /// Highest sequence number that has been in the window.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.ledger.read()
    }

    /// A record has come into the window past the disk.
    pub fn passed(&mut self, sequence: u64) {
        self.ledger.passed(sequence);
    }

    /// Counts a record as lost.
    pub fn lose(&mut self, stamp: Stamp, value: &[u8], reason: Reason) {
        let gap = Gap { lost: Some(1), from_ns: stamp.time_ns, to_ns: stamp.time_ns };
        match stamp.kind {
            Kind::Exec => self.miss(reason, gap, 1),
            Kind::Container => {
                self.given_up.containers = true;
                *self.given_up.records.entry(reason).or_default() += 1;
            }
            // The losses in it are not lost: they are reported again.
            Kind::Loss => self.take_back(value),
        }
    }

    /// Adds to what is missing, `records` of any kind.
    pub fn miss(&mut self, reason: Reason, gap: Gap, records: u64) {
        *self.given_up.records.entry(reason).or_default() += records;
        self.checkpoint.gaps.add(reason.label(), gap);
    }

    fn take_back(&mut self, value: &[u8]) {
        if let Ok(ExecEvent::Loss(loss)) = ExecEvent::decode(value) {
            self.checkpoint.gaps.add_record(&loss);
        }
    }

    /// Writes a record to the disk. At the bound, and while the disk is full, the oldest segment makes room.
    ///
    /// # Errors
    /// Why it does not stand there; what has to be done then depends on whether it is in memory.
    pub fn append(&mut self, frame: &Frame<'_>) -> Result<(), Reason> {
        let bytes = u64::try_from(frame.bytes()).unwrap_or(u64::MAX);
        while self.ledger.bytes().saturating_add(bytes) > self.bytes_max {
            if !self.give_up_oldest(Reason::SpoolFull) {
                return Err(Reason::SpoolFull);
            }
        }
        loop {
            match self.write(frame) {
                Ok(()) => {
                    self.ledger.wrote(frame);
                    self.checkpoint.spooled = frame.sequence;
                    self.is_failing = false;
                    return Ok(());
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::error!(%error, directory = %self.directory.display(), "the spool cannot be written");
                    }
                    let reason = Reason::of(&error);
                    if reason != Reason::DiskFull || !self.give_up_oldest(reason) {
                        self.active = None;
                        return Err(reason);
                    }
                }
            }
        }
    }

    fn write(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let follows = |segment: &Segment| {
            segment.last.saturating_add(1) == frame.sequence && segment.bytes < limits::SEGMENT_BYTES
        };
        if self.active.is_none() || !self.ledger.active().is_some_and(follows) {
            self.begin_segment(frame.sequence)?;
        }
        let (Some(file), Some(segment)) = (&mut self.active, self.ledger.active()) else {
            return Err(io::Error::other("no segment"));
        };
        self.frame.clear();
        if !frame.append_to(&mut self.frame, segment.salt) {
            return Err(io::Error::from(ErrorKind::InvalidInput));
        }
        file.write_all(&self.frame).inspect_err(|_| {
            let undone = file.set_len(segment.bytes).and_then(|()| file.seek(SeekFrom::Start(segment.bytes)));
            if let Err(error) = undone {
                tracing::error!(%error, "half a record stays in the spool; it is skipped when read");
            }
        })
    }

    fn begin_segment(&mut self, first: u64) -> io::Result<()> {
        self.active = None;
        if let Some(empty) = self.ledger.take_empty() {
            self.remove(&empty);
        }
        // Nobody who does not know the run's id knows the salt.
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.run.as_bytes());
        hasher.update(&first.to_le_bytes());
        let segment = Segment::new(first, hasher.finalize());
        let file = private().create(true).truncate(true).open(self.directory.join(segment.name()))?;
        self.ledger.push(segment);
        self.active = Some(file);
        Ok(())
    }

    /// `false`: there is none that may go.
    fn give_up_oldest(&mut self, reason: Reason) -> bool {
        let Some(segment) = self.ledger.give_up_oldest() else { return false };
        if segment.losses > 0 {
            self.take_back_all(&segment);
        }
        let records = segment.execs + segment.containers;
        if segment.execs > 0 {
            let gap = Gap { lost: Some(segment.execs), from_ns: segment.from_ns, to_ns: segment.to_ns };
            self.checkpoint.gaps.add(reason.label(), gap);
        }
        self.given_up.containers |= segment.containers > 0;
        *self.given_up.records.entry(reason).or_default() += records;
        tracing::error!(reason = reason.label(), records, "the oldest records of the spool are given up");
        // First, or a kill in between would leave them neither sent nor counted.
        self.write_checkpoint();
        self.remove(&segment);
        true
    }

    fn take_back_all(&mut self, segment: &Segment) {
        let bytes = fs::read(self.directory.join(segment.name())).unwrap_or_default();
        for frame in Frames::new(&bytes, segment.salt, segment.first.saturating_sub(1)) {
            if frame.stamp.kind == Kind::Loss {
                self.take_back(frame.value);
            }
        }
    }

    fn remove(&self, segment: &Segment) {
        if let Err(error) = fs::remove_file(self.directory.join(segment.name())) {
            tracing::error!(%error, segment = segment.name(), "a segment cannot be removed");
        }
    }

    /// Everything up to `done` is acknowledged: segments that hold nothing else go.
    pub fn forget_done(&mut self, done: u64) {
        self.checkpoint.done = self.checkpoint.done.max(done);
        let mut is_written = false;
        while let Some(segment) = self.ledger.take_done(done) {
            // First, or the next start would take what is gone for damage.
            if !std::mem::replace(&mut is_written, true) {
                self.write_checkpoint();
            }
            self.remove(&segment);
            if self.ledger.active().is_none() {
                (self.active, self.reading) = (None, None);
            }
        }
    }

    /// The next record that has not been in the window.
    pub fn next_unread(&mut self) -> Option<Unread> {
        while self.ledger.unread() > 0 {
            if let Some(unread) = self.read_on() {
                self.ledger.has_read(unread.sequence);
                return Some(unread);
            }
            if !self.read_further() {
                self.ledger.has_read_all();
            }
        }
        None
    }

    /// The next record of what is in memory.
    fn read_on(&mut self) -> Option<Unread> {
        let read = self.ledger.read();
        let reading = self.reading.as_mut()?;
        let mut frames = Frames::new(reading.bytes.get(reading.at..)?, reading.salt, reading.last);
        let begun = reading.at;
        while let Some(frame) = frames.next() {
            (reading.at, reading.last) = (begun + frames.at(), frame.sequence);
            reading.frames += 1;
            if frame.sequence > read {
                let (key, value) = (frame.key.to_vec(), frame.value.to_vec());
                return Some(Unread { sequence: frame.sequence, key, value });
            }
        }
        None
    }

    /// Gets more of the segment at hand, if it has grown, or the next one. `false`: there is nothing more.
    fn read_further(&mut self) -> bool {
        if let Some(mut reading) = self.reading.take() {
            let segment = self.ledger.segments().find(|segment| segment.first == reading.first).copied();
            let Some(segment) = segment else { return true };
            if segment.last > reading.last {
                let at = reading.before.saturating_add(u64::try_from(reading.at).unwrap_or(u64::MAX));
                let more = self.load(&segment, at);
                if !more.is_empty() && Frames::new(&more, reading.salt, reading.last).next().is_some() {
                    (reading.before, reading.at, reading.bytes) = (at, 0, more);
                    self.reading = Some(reading);
                    return true;
                }
            }
            self.count_unreadable(&segment, reading.frames);
            self.ledger.passed(segment.last);
        }
        let read = self.ledger.read();
        let Some(segment) = self.ledger.segments().find(|segment| segment.last > read).copied() else { return false };
        let bytes = self.load(&segment, 0);
        let (first, salt) = (segment.first, segment.salt);
        self.reading = Some(Reading { first, salt, bytes, at: 0, before: 0, last: first.saturating_sub(1), frames: 0 });
        true
    }

    /// What was there when it was written, or found, and is not any more.
    fn count_unreadable(&mut self, segment: &Segment, frames: u64) {
        let missing = segment.records().saturating_sub(frames);
        if missing > 0 {
            let gap = Gap { lost: Some(missing), from_ns: segment.from_ns, to_ns: segment.to_ns };
            self.miss(Reason::Damaged, gap, missing);
            tracing::error!(records = missing, segment = segment.name(), "records of the spool cannot be read");
        }
    }

    fn load(&self, segment: &Segment, from: u64) -> Vec<u8> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.directory.join(segment.name()))?;
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(segment.bytes.saturating_sub(from)).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().unwrap_or_else(|error| {
            tracing::error!(%error, segment = segment.name(), "a segment cannot be read");
            Vec::new()
        })
    }
}

/// Files that hold arguments of programs are readable by their owner only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl Drop for Spool {
    /// Not left to the closing of the file: a child that this process is starting holds it too, until it has become another
    /// program.
    fn drop(&mut self) {
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests;
