//! Many records, as bytes.

use std::ops::Range;

use super::decode;
use super::record::{Parts, RawExec};
use super::values::{Moment, RawError};

/// Records as the kernel wrote them. Each is decoded when its turn comes: decoded, a reading of the rings takes several times as
/// much memory.
#[derive(Debug, Default)]
pub struct Packed {
    bytes: Vec<u8>,
    records: Vec<(Moment, Range<usize>)>,
}

impl Packed {
    /// Adds one.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn push(&mut self, record: &[u8]) -> Result<Moment, RawError> {
        let moment = decode::moment(Parts::of(record)?.head);
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.records.push((moment, begin..self.bytes.len()));
        Ok(moment)
    }

    /// Decodes them one by one, in the order in which they happened.
    pub fn in_order(&mut self) -> impl Iterator<Item = Box<RawExec>> {
        self.records.sort_unstable_by_key(|(moment, _)| *moment);
        let each = self.records.iter().map(|(_, range)| self.bytes.get(range.clone()).unwrap_or_default());
        // They were checked when they were added.
        each.filter_map(|record| RawExec::decode(record).ok())
    }
}
