//! Merges the partitions of a recording into one sequence, by time. Holds one block of each partition.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{Read, Seek};

use super::read::{Recording, Records, Run, Scan};
use super::{Recorded, RecordingError};
use crate::topics::{Cleanup, Topic};

/// Order in which the partitions are merged. In either, a partition keeps its own order, whatever its timestamps: the
/// services read it in that order. Records with equal timestamps are ordered by topic (tables first), partition and
/// offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By timestamp.
    Time,
    /// All tables by timestamp, then all streams by timestamp.
    TablesFirst,
}

/// Sort key of the partitions' next records; the last element is the lane's index.
type Rank = (u8, i64, u8, Topic, i32, i64, usize);

/// Returns the records of a recording in merged order.
#[derive(Debug)]
pub struct Merged<R> {
    recording: Recording<R>,
    order: Order,
    lanes: Vec<Cursor>,
    heap: BinaryHeap<Reverse<Rank>>,
}

#[derive(Debug)]
struct Cursor {
    topic: Topic,
    runs: VecDeque<Run>,
    /// Records of the current block that belong to the lane, decoded.
    ready: VecDeque<Recorded>,
}

impl<R: Read + Seek> Merged<R> {
    /// Starts a merge.
    ///
    /// # Errors
    /// When a block cannot be read.
    pub fn new(recording: Recording<R>, scan: Scan, order: Order) -> Result<Self, RecordingError> {
        let lanes = scan.lanes.into_iter();
        let lanes = lanes.map(|lane| Cursor { topic: lane.topic, runs: lane.runs.into(), ready: VecDeque::new() });
        let mut merged = Self { recording, order, lanes: lanes.collect(), heap: BinaryHeap::new() };
        for lane in 0..merged.lanes.len() {
            merged.enter(lane)?;
        }
        Ok(merged)
    }

    /// Returns the next record, `None` at the end.
    ///
    /// # Errors
    /// When a block cannot be read.
    pub fn next_record(&mut self) -> Result<Option<(Topic, Recorded)>, RecordingError> {
        let Some(Reverse((.., lane))) = self.heap.pop() else { return Ok(None) };
        let Some(cursor) = self.lanes.get_mut(lane) else { return Ok(None) };
        let next = cursor.ready.pop_front().map(|record| (cursor.topic, record));
        self.enter(lane)?;
        Ok(next)
    }

    /// Puts a lane into the heap with its next record; reads its next block if necessary.
    fn enter(&mut self, lane: usize) -> Result<(), RecordingError> {
        let Some(cursor) = self.lanes.get_mut(lane) else { return Ok(()) };
        if cursor.ready.is_empty() {
            cursor.load(&mut self.recording)?;
        }
        if let Some(record) = cursor.ready.front() {
            let rank = u8::from(cursor.topic.spec().cleanup == Cleanup::Delete);
            let phase = if self.order == Order::TablesFirst { rank } else { 0 };
            let key = (phase, record.timestamp_ms, rank, cursor.topic, record.partition, record.offset, lane);
            self.heap.push(Reverse(key));
        }
        Ok(())
    }
}

impl Cursor {
    /// Reads the lane's next block; a run that extends beyond it continues at the start of the following block.
    fn load<R: Read + Seek>(&mut self, recording: &mut Recording<R>) -> Result<(), RecordingError> {
        let Some(run) = self.runs.pop_front() else { return Ok(()) };
        recording.input.seek(run.block)?;
        let Some(block) = recording.input.block(&recording.marker)? else {
            return Err(RecordingError::Damaged { position: run.block, why: "it became shorter meanwhile".to_owned() });
        };
        let here = block.count.saturating_sub(run.skip).min(run.records);
        let fits = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        self.ready =
            Records::of(&recording.schema, &block).skip(fits(run.skip)).take(fits(here)).collect::<Result<_, _>>()?;
        if here < run.records {
            let rest = Run { block: recording.input.position(), skip: 0, records: run.records - here };
            self.runs.push_front(rest);
        }
        Ok(())
    }
}
