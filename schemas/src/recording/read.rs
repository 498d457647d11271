//! Opens a recording and finds, in one pass, the position of each partition in it.

use serde_avro_fast::Schema;
use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::frame::{Block, Input, Marker};
use super::header::{Head, Info, read_head};
use super::{Recorded, RecordingError};
use crate::codec::read_with;
use crate::topics::Topic;

/// A recording whose head has been read.
#[derive(Debug)]
pub struct Recording<R> {
    pub(super) input: Input<R>,
    pub(super) schema: Schema,
    pub(super) marker: Marker,
    info: Option<Info>,
    first_block: u64,
}

/// How to treat a file that is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Return an error.
    Refuse,
    /// Use everything before the first block that is not whole: for interrupted recordings.
    CutOff,
}

/// The result of one pass over a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The partitions, in the order of their first occurrence.
    pub lanes: Vec<Lane>,
    /// Position after the last whole block.
    pub end: u64,
}

/// One partition in a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Topic.
    pub topic: Topic,
    /// Partition.
    pub partition: i32,
    /// Number of records.
    pub records: u64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// Timestamp of the first record, milliseconds since 1970.
    pub first_ms: i64,
    pub(super) runs: Vec<Run>,
}

/// Consecutive records of one partition: `driftline record` writes one run for each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Position of the block with the first record.
    pub block: u64,
    /// Records before the first one in that block.
    pub skip: u64,
    pub records: u64,
}

impl Scan {
    /// Number of records in the recording.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.records).sum()
    }

    /// Number of records of each topic.
    #[must_use]
    pub fn by_topic(&self) -> BTreeMap<Topic, u64> {
        self.lanes.iter().fold(BTreeMap::new(), |mut sums, lane| {
            *sums.entry(lane.topic).or_default() += lane.records;
            sums
        })
    }
}

impl<R: Read + Seek> Recording<R> {
    /// Reads the head. A buffered reader reduces system calls.
    ///
    /// # Errors
    /// When the input is not a recording, has a newer format, or ends within the head.
    pub fn open(input: R) -> Result<Self, RecordingError> {
        let mut input = Input::new(input);
        let Head { schema, info, marker } = read_head(&mut input)?;
        Ok(Self { first_block: input.position(), input, schema, marker, info })
    }

    /// The [`Info`] of the recording; `None` for recordings made before there was one.
    #[must_use]
    pub fn info(&self) -> Option<&Info> {
        self.info.as_ref()
    }

    /// Reads every record once: verifies that the file is whole, and finds its partitions.
    ///
    /// # Errors
    /// When the file is damaged, a topic is unknown, or a partition's offsets do not ascend.
    pub fn scan(&mut self, damage: Damage) -> Result<Scan, RecordingError> {
        self.input.seek(self.first_block)?;
        let mut scanner = Scanner::default();
        let mut end = self.first_block;
        loop {
            match self.input.block(&self.marker) {
                Ok(None) => break,
                Ok(Some(block)) => {
                    scanner.take(&self.schema, &block)?;
                    end = self.input.position();
                }
                Err(RecordingError::Damaged { .. }) if damage == Damage::CutOff => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Scan { lanes: scanner.lanes, end })
    }
}

#[derive(Default)]
struct Scanner {
    lanes: Vec<Lane>,
    places: BTreeMap<(Topic, i32), usize>,
    /// Lane of the previous record: another record of this lane continues its run.
    current: Option<usize>,
}

impl Scanner {
    fn take(&mut self, schema: &Schema, block: &Block) -> Result<(), RecordingError> {
        for (index, record) in (0..).zip(Records::of(schema, block)) {
            self.record(&record?, block.position, index)?;
        }
        Ok(())
    }

    fn record(&mut self, record: &Recorded, block: u64, skip: u64) -> Result<(), RecordingError> {
        let topic =
            Topic::from_stem(&record.topic).ok_or_else(|| RecordingError::UnknownTopic(record.topic.clone()))?;
        let fresh = self.lanes.len();
        let place = *self.places.entry((topic, record.partition)).or_insert(fresh);
        if place == fresh {
            self.lanes.push(Lane {
                topic,
                partition: record.partition,
                records: 0,
                last_offset: -1,
                first_ms: record.timestamp_ms,
                runs: Vec::new(),
            });
        }
        let Some(lane) = self.lanes.get_mut(place) else { return Ok(()) };
        if record.offset <= lane.last_offset {
            return Err(RecordingError::Disorder {
                topic: record.topic.clone(),
                partition: record.partition,
                offset: record.offset,
                after: lane.last_offset,
            });
        }
        lane.last_offset = record.offset;
        lane.records += 1;
        match lane.runs.last_mut() {
            Some(run) if self.current == Some(place) => run.records += 1,
            _ => lane.runs.push(Run { block, skip, records: 1 }),
        }
        self.current = Some(place);
        Ok(())
    }
}

/// The records of a block, decoded one at a time.
pub(super) struct Records<'a> {
    schema: &'a Schema,
    position: u64,
    left: u64,
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(super) fn of(schema: &'a Schema, block: &'a Block) -> Self {
        Self { schema, position: block.position, left: block.count, rest: &block.records }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Recorded, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let damaged = |why| Some(Err(RecordingError::Damaged { position: self.position, why }));
        if self.left == 0 {
            let over = !std::mem::take(&mut self.rest).is_empty();
            return if over { damaged("bytes follow the last record of a block".to_owned()) } else { None };
        }
        self.left -= 1;
        match read_with::<Recorded>(self.schema, self.rest) {
            Ok((record, rest)) => {
                self.rest = rest;
                Some(Ok(record))
            }
            Err(error) => {
                (self.left, self.rest) = (0, &[]);
                damaged(error.to_string())
            }
        }
    }
}
