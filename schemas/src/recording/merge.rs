//! The partitions of a recording as one sequence, by time. Holds one block of each partition.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{Read, Seek};

use super::read::{Recording, Records, Run, Scan};
use super::{Recorded, RecordingError};
use crate::topics::{Cleanup, Topic};

/// In which order the partitions are merged. In either, a partition keeps its own order, whatever its timestamps: it is
/// what the services saw. Records with equal timestamps come by topic (tables first), partition and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By timestamp.
    Time,
    /// All tables by timestamp, then all streams by timestamp.
    TablesFirst,
}

/// What decides between the heads of the partitions; the last is the lane's index.
type Rank = (u8, i64, u8, Topic, i32, i64, usize);

/// Gives the records of a recording merged.
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
    /// Records of the current block that are the lane's, decoded.
    ready: VecDeque<Recorded>,
}

impl<R: Read + Seek> Merged<R> {
    /// Begins.
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

    /// The next record, `None` at the end.
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

    /// Puts a lane into the heap with its next record, reading on if need be.
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
    /// Reads the block in which the lane goes on; a run that reaches beyond it goes on at the start of the next.
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
