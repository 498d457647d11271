//! How a record is written in a segment. A segment is frames one after another and nothing else; a frame is, little-endian,
//!
//! | bytes | |
//! | --- | --- |
//! | 4 | magic |
//! | 8 | sequence number, higher than that of the frame before |
//! | 8 | moment of the event, nanoseconds since 1970 |
//! | 1 | [`Kind`] |
//! | 2, 4 | lengths of key and value |
//! | 4 | CRC-32 of key and value |
//! | 4 | CRC-32 of the 31 bytes before |
//!
//! and then key and value. The header has a checksum of its own, so that a damaged value costs that record only. Where the
//! header is damaged, reading goes on at the next whole frame. Both checksums begin from a salt in the segment's name: what
//! a container puts into its arguments cannot be taken for a frame.

use driftline_schemas::ExecEvent;
use driftline_schemas::limits::{ID_BYTES_MAX, RECORD_BYTES_MAX};

const MAGIC: [u8; 4] = *b"DSP1";
/// Bytes of a frame before its key.
pub const HEADER_BYTES: usize = 35;
/// Where the header's own checksum stands.
const HEADER_SUM_AT: usize = 31;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An exec.
    Exec,
    /// Something about a container, which can be emitted again.
    Container,
    /// A loss of execs.
    Loss,
}

/// What has to be known of a record when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// What it is about.
    pub kind: Kind,
    /// The moment of its event, nanoseconds since 1970.
    pub time_ns: i64,
}

impl Stamp {
    /// The stamp of a value of exec-events. A value that cannot be decoded, which would be a defect, counts as an exec of `now_ns`.
    #[must_use]
    pub fn of(value: &[u8], now_ns: i64) -> Self {
        let (kind, time_ns) = match ExecEvent::decode(value) {
            Ok(ExecEvent::Exec(exec)) => (Kind::Exec, exec.time_ns),
            // It counts execs that were left out: without it they would be lost and not reported.
            Ok(ExecEvent::Throttled(throttled)) => (Kind::Exec, throttled.to_ns),
            Ok(ExecEvent::Seen(seen)) => (Kind::Container, seen.seen_ns),
            Ok(ExecEvent::Ended(ended)) => (Kind::Container, ended.ended_ns),
            Ok(ExecEvent::Loss(loss)) => (Kind::Loss, loss.to_ns),
            Err(_) => (Kind::Exec, now_ns),
        };
        Self { kind, time_ns }
    }
}

/// A record in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Sequence number.
    pub sequence: u64,
    /// What it is about, and its moment.
    pub stamp: Stamp,
    /// Key.
    pub key: &'a [u8],
    /// Value.
    pub value: &'a [u8],
}

impl Frame<'_> {
    /// How long it is in a segment.
    #[must_use]
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.key.len() + self.value.len()
    }

    /// Appends it. `false`: it is longer than a record may be, and nothing was appended.
    pub fn append_to(&self, segment: &mut Vec<u8>, salt: u32) -> bool {
        let (Ok(key), Ok(value)) = (u16::try_from(self.key.len()), u32::try_from(self.value.len())) else {
            return false;
        };
        if !lengths_fit(self.key.len(), self.value.len()) {
            return false;
        }
        let kind = match self.stamp.kind {
            Kind::Exec => 1,
            Kind::Container => 2,
            Kind::Loss => 3,
        };
        let begin = segment.len();
        segment.reserve(self.bytes());
        segment.extend_from_slice(&MAGIC);
        segment.extend_from_slice(&self.sequence.to_le_bytes());
        segment.extend_from_slice(&self.stamp.time_ns.to_le_bytes());
        segment.push(kind);
        segment.extend_from_slice(&key.to_le_bytes());
        segment.extend_from_slice(&value.to_le_bytes());
        segment.extend_from_slice(&checksum(salt, &[self.key, self.value]).to_le_bytes());
        let header_sum = checksum(salt, &[segment.get(begin..).unwrap_or_default()]);
        segment.extend_from_slice(&header_sum.to_le_bytes());
        segment.extend_from_slice(self.key);
        segment.extend_from_slice(self.value);
        true
    }
}

fn checksum(salt: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn lengths_fit(key: usize, value: usize) -> bool {
    key <= 2 * ID_BYTES_MAX && value <= RECORD_BYTES_MAX
}

/// Reads the frames of a segment that are whole.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    salt: u32,
    at: usize,
    last: u64,
}

/// A header whose checksum is right.
struct Header {
    sequence: u64,
    stamp: Stamp,
    key: usize,
    value: usize,
    sum: u32,
}

impl<'a> Frames<'a> {
    /// Reads `bytes`; the frame before them had the sequence number `last`.
    #[must_use]
    pub fn new(bytes: &'a [u8], salt: u32, last: u64) -> Self {
        Self { bytes, salt, at: 0, last }
    }

    /// How many bytes have been read. After the last frame, what is behind it is damaged or not written to its end.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    fn header(&self, at: usize) -> Option<Header> {
        let header: &[u8; HEADER_BYTES] = self.bytes.get(at..)?.first_chunk()?;
        let (body, sum) = header.split_at(HEADER_SUM_AT);
        if body.strip_prefix(&MAGIC).is_none() || checksum(self.salt, &[body]).to_le_bytes() != sum {
            return None;
        }
        let mut fields = Fields(body.get(MAGIC.len()..)?);
        let sequence = u64::from_le_bytes(fields.next()?);
        let time_ns = i64::from_le_bytes(fields.next()?);
        let kind = match fields.next::<1>()? {
            [1] => Kind::Exec,
            [2] => Kind::Container,
            [3] => Kind::Loss,
            _ => return None,
        };
        let key = usize::from(u16::from_le_bytes(fields.next()?));
        let value = usize::try_from(u32::from_le_bytes(fields.next()?)).ok()?;
        let sum = u32::from_le_bytes(fields.next()?);
        let fits = lengths_fit(key, value) && sequence > self.last;
        fits.then_some(Header { sequence, stamp: Stamp { kind, time_ns }, key, value, sum })
    }

    /// Key and value, when all of them are there and their checksum is right.
    fn content(&self, at: usize, header: &Header) -> Option<(&'a [u8], &'a [u8])> {
        let begin = at.checked_add(HEADER_BYTES)?;
        let both = self.bytes.get(begin..begin.checked_add(header.key + header.value)?)?;
        let (key, value) = both.split_at_checked(header.key)?;
        (checksum(self.salt, &[key, value]) == header.sum).then_some((key, value))
    }

    /// Where the next frame with a right header begins, which is here unless something is damaged.
    fn next_header(&self) -> Option<(usize, Header)> {
        if let Some(header) = self.header(self.at) {
            return Some((self.at, header));
        }
        let rest = self.bytes.get(self.at..)?;
        let begins = memchr::memmem::find_iter(rest, &MAGIC).map(|offset| self.at + offset);
        begins.filter_map(|at| Some((at, self.header(at)?))).next()
    }
}

/// Takes numbers from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        loop {
            let (begin, header) = self.next_header()?;
            let end = begin + HEADER_BYTES + header.key + header.value;
            match self.content(begin, &header) {
                Some((key, value)) => {
                    (self.at, self.last) = (end, header.sequence);
                    return Some(Frame { sequence: header.sequence, stamp: header.stamp, key, value });
                }
                // Not written to its end: nothing whole can follow.
                None if end > self.bytes.len() => return None,
                None => (self.at, self.last) = (end, header.sequence),
            }
        }
    }
}

#[cfg(test)]
mod tests;
