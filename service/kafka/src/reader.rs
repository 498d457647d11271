//! Reads topics, or parts of them, assigned by hand: tables, recordings, and everything that reads without a group.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

use driftline_schemas::topics::Topic;

use crate::blocking::blocking;
use crate::error::is_passing;
use crate::outage::Outage;
use crate::record::record;
use crate::{ClientSettings, KafkaError, OffsetRange, Record};

/// Records waiting in the channel: enough to keep the receiver busy, little enough to bound memory.
const CHANNEL_RECORDS: usize = 256;
const POLL: Duration = Duration::from_millis(100);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// A reader that has not caught up gives up after this long without a broker: its caller waits for it.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// Offsets by topic name and partition.
type Marks = BTreeMap<(String, i32), i64>;

/// The position at which reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest record.
    Beginning,
    /// Only records produced from now on.
    End,
}

/// The events of a [`TopicReader`].
#[derive(Debug)]
pub enum ReaderEvent {
    /// The next record of some partition.
    Record(Record),
    /// Every record that was in the topics when reading began has been handed over. Emitted once.
    CaughtUp,
    /// The client failed for good.
    Failed(KafkaError),
}

/// Reads all partitions of some topics without a group.
#[derive(Debug)]
pub struct TopicReader {
    events: mpsc::Receiver<ReaderEvent>,
    stop: Arc<AtomicBool>,
}

impl TopicReader {
    /// Begins to read.
    ///
    /// # Errors
    /// When the client refuses its settings, or the cluster does not report the ends of the topics.
    pub async fn start(settings: &ClientSettings, topics: &[Topic], from: ReadFrom) -> Result<Self, KafkaError> {
        let mut ranges = Self::extent(settings, topics).await?;
        if from == ReadFrom::End {
            ranges.iter_mut().for_each(|range| range.begin = range.end);
        }
        Self::follow(settings, &ranges)
    }

    /// The ranges from the oldest record of every partition to its present end.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn extent(settings: &ClientSettings, topics: &[Topic]) -> Result<Vec<OffsetRange>, KafkaError> {
        let (settings, topics) = (settings.clone(), topics.to_vec());
        let read = move || {
            let consumer = settings.reader()?;
            let mut ranges = Vec::new();
            for topic in topics {
                let name = settings.topic(topic);
                for partition in 0..settings.partition_count(topic) {
                    let (begin, end) = consumer.fetch_watermarks(&name, partition, METADATA_TIMEOUT)?;
                    ranges.push(OffsetRange { topic, partition, begin, end });
                }
            }
            Ok(ranges)
        };
        blocking(read).await
    }

    /// Reads from the beginning of each range, and continues after its end: [`ReaderEvent::CaughtUp`] reports that all
    /// ranges were handed over. If the topic does not have the beginning of a range, any more or yet, reading begins at
    /// the oldest record: a caller that continues from stored offsets compares them with [`Self::extent`] first.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn follow(settings: &ClientSettings, ranges: &[OffsetRange]) -> Result<Self, KafkaError> {
        Self::assign(settings, settings.reader()?, ranges, Marks::new())
    }

    /// Reads exactly these ranges: [`ReaderEvent::CaughtUp`] reports that all ranges were handed over, and only
    /// [`ReaderEvent::Failed`] may follow it. If the oldest record is after the beginning of a range, reading begins at
    /// that record.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn ranges(settings: &ClientSettings, ranges: &[OffsetRange]) -> Result<Self, KafkaError> {
        let stops = ranges.iter().map(|range| ((settings.topic(range.topic), range.partition), range.end)).collect();
        Self::assign(settings, settings.reader()?, ranges, stops)
    }

    fn assign(
        settings: &ClientSettings,
        consumer: BaseConsumer,
        ranges: &[OffsetRange],
        stops: Marks,
    ) -> Result<Self, KafkaError> {
        let mut assignment = TopicPartitionList::new();
        let mut ends = Marks::new();
        for range in ranges {
            let name = settings.topic(range.topic);
            assignment.add_partition_offset(&name, range.partition, Offset::Offset(range.begin))?;
            if range.begin < range.end {
                ends.insert((name, range.partition), range.end);
            }
        }
        consumer.assign(&assignment)?;
        let names = ranges.iter().map(|range| (settings.topic(range.topic), range.topic)).collect();
        let (sender, events) = mpsc::channel(CHANNEL_RECORDS);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = Polling {
            consumer,
            names,
            ends,
            stops,
            sender,
            stop: Arc::clone(&stop),
            outage: Outage::default(),
            bootstrap: settings.bootstrap.clone(),
        };
        std::thread::Builder::new()
            .name("kafka-reader".into())
            .spawn(move || thread.run())
            .map_err(KafkaError::Thread)?;
        Ok(Self { events, stop })
    }

    /// The next event; `None` after [`ReaderEvent::Failed`]. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<ReaderEvent> {
        self.events.recv().await
    }
}

impl Drop for TopicReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

struct Polling {
    consumer: BaseConsumer,
    names: BTreeMap<String, Topic>,
    /// High watermark, at the start, of every partition that has not reached it.
    ends: Marks,
    /// End of each range; later records are not read.
    stops: Marks,
    sender: mpsc::Sender<ReaderEvent>,
    stop: Arc<AtomicBool>,
    outage: Outage,
    bootstrap: String,
}

impl Polling {
    fn run(mut self) {
        let mut caught_up = false;
        while !self.stop.load(Ordering::Acquire) {
            if !caught_up && self.ends.is_empty() {
                caught_up = true;
                if self.sender.blocking_send(ReaderEvent::CaughtUp).is_err() {
                    return;
                }
            }
            self.outage.check(&self.consumer);
            let gives_up = if caught_up { None } else { self.outage.longer_than(AWAY_MAX, &self.bootstrap) };
            if let Some(error) = gives_up {
                let _ = self.sender.blocking_send(ReaderEvent::Failed(error));
                return;
            }
            if self.poll_once().is_err() {
                return;
            }
        }
    }

    /// One poll; an error when the receiver is gone or the client failed.
    fn poll_once(&mut self) -> Result<(), ()> {
        match self.consumer.poll(POLL) {
            Some(Ok(message)) => {
                let Some(topic) = self.names.get(message.topic()) else { return Ok(()) };
                let key = (message.topic().to_owned(), message.partition());
                let wanted = self.stops.get(&key).is_none_or(|stop| message.offset() < *stop);
                let record = wanted.then(|| record(*topic, &message));
                drop(message);
                let sent = record.map_or(Ok(()), |record| self.sender.blocking_send(ReaderEvent::Record(record)));
                self.note_positions();
                sent.map_err(drop)
            }
            None => {
                self.note_positions();
                Ok(())
            }
            Some(Err(error)) if is_passing(&error) => {
                self.outage.suspect(&error);
                Ok(())
            }
            Some(Err(error)) => {
                let _ = self.sender.blocking_send(ReaderEvent::Failed(error.into()));
                Err(())
            }
        }
    }

    /// Drops partitions whose position passed their mark. The position counts, not the last record: at the end of a
    /// partition there may be a transaction marker, or compacted records.
    fn note_positions(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        let Ok(positions) = self.consumer.position() else { return };
        for element in positions.elements() {
            let key = (element.topic().to_owned(), element.partition());
            if let (Some(end), Offset::Offset(position)) = (self.ends.get(&key), element.offset())
                && position >= *end
            {
                self.ends.remove(&key);
            }
        }
    }
}
