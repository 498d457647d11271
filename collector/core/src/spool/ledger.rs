//! The segments that exist, which of them is dropped at the bound, and which are finished.

use std::collections::VecDeque;

use super::frame::{Frame, Kind};

/// What is known of a segment without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Lowest sequence number that may be in it.
    pub first: u64,
    /// What its checksums begin from.
    pub salt: u32,
    /// Highest sequence number in it; below `first` while there is none.
    pub last: u64,
    /// Its length.
    pub bytes: u64,
    /// How many execs are in it.
    pub execs: u64,
    /// How many records about containers.
    pub containers: u64,
    /// How many loss records.
    pub losses: u64,
    /// Earliest moment in it, nanoseconds since 1970.
    pub from_ns: i64,
    /// Latest moment in it.
    pub to_ns: i64,
}

impl Segment {
    /// An empty one.
    #[must_use]
    pub fn new(first: u64, salt: u32) -> Self {
        let last = first.saturating_sub(1);
        let (from_ns, to_ns) = (i64::MAX, i64::MIN);
        Self { first, salt, last, bytes: 0, execs: 0, containers: 0, losses: 0, from_ns, to_ns }
    }

    /// Accounts for a frame in it.
    pub fn take(&mut self, frame: &Frame<'_>) {
        self.last = frame.sequence;
        self.bytes = self.bytes.saturating_add(u64::try_from(frame.bytes()).unwrap_or(u64::MAX));
        self.from_ns = self.from_ns.min(frame.stamp.time_ns);
        self.to_ns = self.to_ns.max(frame.stamp.time_ns);
        match frame.stamp.kind {
            Kind::Exec => self.execs += 1,
            Kind::Container => self.containers += 1,
            Kind::Loss => self.losses += 1,
        }
    }

    /// How many records are in it.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.execs + self.containers + self.losses
    }

    /// Its file's name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{:020}-{:08x}.segment", self.first, self.salt)
    }

    /// The segment with this file name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (first, salt) = name.strip_suffix(".segment")?.split_once('-')?;
        let segment = Self::new(first.parse().ok()?, u32::from_str_radix(salt, 16).ok()?);
        (segment.name() == name).then_some(segment)
    }
}

/// The segments, oldest first. The last one is written to.
#[derive(Debug, Default)]
pub struct Ledger {
    segments: VecDeque<Segment>,
    bytes: u64,
    /// Highest sequence number that has been in the window.
    read: u64,
    /// Records that have not been in the window.
    unread: u64,
}

impl Ledger {
    /// The segments.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }

    /// The one that is written to.
    #[must_use]
    pub fn active(&self) -> Option<&Segment> {
        self.segments.back()
    }

    /// Bytes of all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records in all.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.segments.iter().map(Segment::records).sum()
    }

    /// Records that have not been in the window: while there are any, later ones have to wait behind them.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// Highest sequence number that has been in the window.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Takes a new segment, or one that was found, behind the others.
    pub fn push(&mut self, segment: Segment) {
        self.bytes = self.bytes.saturating_add(segment.bytes);
        if segment.last > self.read {
            self.unread += segment.records();
        }
        self.segments.push_back(segment);
    }

    /// Accounts for a frame that was written to the last segment.
    pub fn wrote(&mut self, frame: &Frame<'_>) {
        let bytes = u64::try_from(frame.bytes()).unwrap_or(u64::MAX);
        if let Some(active) = self.segments.back_mut() {
            active.take(frame);
            self.bytes = self.bytes.saturating_add(bytes);
            self.unread += u64::from(frame.sequence > self.read);
        }
    }

    /// A record has come into the window from a segment.
    pub fn has_read(&mut self, sequence: u64) {
        self.read = self.read.max(sequence);
        self.unread = self.unread.saturating_sub(1);
    }

    /// A record that is in no segment has come into the window.
    pub fn passed(&mut self, sequence: u64) {
        self.read = self.read.max(sequence);
    }

    /// Everything that can be read has been.
    pub fn has_read_all(&mut self) {
        self.unread = 0;
    }

    /// Gives up the oldest segment of which nothing has been read: what has been is on its way to Kafka. The last one
    /// stays, because it is written to.
    pub fn give_up_oldest(&mut self) -> Option<Segment> {
        let at = self.segments.iter().position(|segment| segment.first > self.read)?;
        if at + 1 >= self.segments.len() {
            return None;
        }
        let segment = self.segments.remove(at)?;
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        self.unread = self.unread.saturating_sub(segment.records());
        Some(segment)
    }

    /// Takes out the last segment if it is empty.
    pub fn take_empty(&mut self) -> Option<Segment> {
        self.segments.pop_back_if(|segment| segment.records() == 0)
    }

    /// Takes out the first segment if all of it is acknowledged.
    pub fn take_done(&mut self, done: u64) -> Option<Segment> {
        let segment = self.segments.pop_front_if(|segment| segment.last <= done)?;
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Stamp;
    use super::*;

    fn ledger(segments: u64) -> Ledger {
        let mut ledger = Ledger::default();
        for number in 0..segments {
            ledger.push(Segment::new(number * 10 + 1, 7));
            for sequence in number * 10 + 1..=number * 10 + 10 {
                let stamp = Stamp { kind: Kind::Exec, time_ns: i64::try_from(sequence).unwrap() };
                ledger.wrote(&Frame { sequence, stamp, key: b"k", value: b"value" });
            }
        }
        ledger
    }

    #[test]
    fn names_are_read_back_and_others_are_not_segments() {
        let segment = Segment::new(42, 0xabc);
        assert_eq!(segment.name(), "00000000000000000042-00000abc.segment");
        assert_eq!(Segment::of_name(&segment.name()), Some(segment));
        for name in ["x.segment", "42-abc.segment", "checkpoint", "00000000000000000042-00000abc.segment~"] {
            assert_eq!(Segment::of_name(name), None, "{name}");
        }
    }

    #[test]
    fn the_oldest_unread_segment_goes_first_and_the_last_never() {
        let mut ledger = ledger(4);
        assert_eq!((ledger.records(), ledger.unread()), (40, 40));
        ledger.has_read(1);
        let gone = ledger.give_up_oldest().unwrap();
        assert_eq!((gone.first, gone.execs, gone.from_ns, gone.to_ns), (11, 10, 11, 20));
        assert_eq!((ledger.records(), ledger.unread()), (30, 29));
        assert_eq!(ledger.give_up_oldest().unwrap().first, 21);
        assert_eq!(ledger.give_up_oldest(), None, "one is being read, one written");
    }

    #[test]
    fn a_segment_is_done_with_when_its_last_record_is() {
        let mut ledger = ledger(2);
        assert_eq!(ledger.take_done(9), None);
        assert_eq!(ledger.take_done(10).unwrap().first, 1);
        assert_eq!(ledger.take_done(10), None);
        assert_eq!(ledger.bytes(), ledger.segments().map(|segment| segment.bytes).sum::<u64>());
    }
}
