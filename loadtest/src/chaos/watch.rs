//! Watches findings and alerts, and reports after a fault when every partition had new ones. Called by [`super::rig`].
//!
//! "New" means: derived from an exec that was produced after the fault. A reader of committed records receives it, so
//! every step on the way works again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftline_kafka::{ClientSettings, ReadFrom, ReaderEvent, Record, TopicReader};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, Finding, decode};
use driftline_service::clock;

/// Pause before a failed reader is replaced.
const PAUSE: Duration = Duration::from_millis(500);
/// The two topics that are watched.
pub(super) const WATCHED: [Topic; 2] = [Topic::Findings, Topic::Alerts];

/// One record.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    topic: Topic,
    partition: i32,
    /// Time of the newest exec in the record, and time of reading.
    event_ns: i64,
    at_ns: i64,
}

#[derive(Debug, Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    /// Highest offset read of each partition: a new reader starts at the beginning.
    offsets: BTreeMap<(Topic, i32), i64>,
    /// Longest time without any finding, and without any alert, since [`Watch::begin`].
    silence: BTreeMap<Topic, Duration>,
    begun: bool,
}

/// The records seen so far.
#[derive(Clone)]
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    partitions: i32,
}

/// A moment after which output is awaited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// Time.
    pub at_ns: i64,
    first: usize,
}

impl Watch {
    /// Starts reading, for as long as a handle is kept.
    pub(super) fn start(kafka: &ClientSettings) -> Self {
        let watch = Self { seen: Arc::default(), partitions: kafka.partitions };
        let (seen, kafka) = (Arc::downgrade(&watch.seen), kafka.clone());
        tokio::spawn(async move {
            while seen.strong_count() > 0 {
                let Ok(mut reader) = TopicReader::start(&kafka, &WATCHED, ReadFrom::Beginning).await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                while let Some(event) = reader.next().await {
                    match (event, seen.upgrade()) {
                        (ReaderEvent::Record(record), Some(seen)) => {
                            seen.lock().unwrap_or_else(PoisonError::into_inner).take(&record);
                        }
                        (ReaderEvent::CaughtUp, Some(_)) => {}
                        _ => break,
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        watch
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts measuring silence.
    pub(super) fn begin(&self) {
        self.lock().begun = true;
    }

    /// Stops measuring silence.
    pub(super) fn end(&self) {
        self.lock().begun = false;
    }

    /// The present moment.
    pub(super) fn mark(&self) -> Mark {
        Mark { at_ns: clock::now_ns(), first: self.lock().arrivals.len() }
    }

    /// The time from the mark until every partition of a topic had new output; `None` until then.
    pub(super) fn recovery(&self, mark: Mark, topic: Topic) -> Option<Duration> {
        let seen = self.lock();
        let mut first: BTreeMap<i32, i64> = BTreeMap::new();
        let later = seen.arrivals.get(mark.first..).unwrap_or_default();
        for arrival in later.iter().filter(|arrival| arrival.topic == topic && arrival.event_ns > mark.at_ns) {
            first.entry(arrival.partition).or_insert(arrival.at_ns);
        }
        let last = first.values().max().copied()?;
        let all = i32::try_from(first.len()).is_ok_and(|count| count == self.partitions);
        all.then(|| Duration::from_nanos(u64::try_from(last - mark.at_ns).unwrap_or(0)))
    }

    /// Longest time since the mark in which a partition of one of the topics had no output. Output of execs before the
    /// mark counts as well.
    pub(super) fn standstill(&self, mark: Mark) -> Duration {
        let seen = self.lock();
        let mut last: BTreeMap<(Topic, i32), i64> = BTreeMap::new();
        let mut longest = 0;
        for arrival in seen.arrivals.get(mark.first..).unwrap_or_default() {
            let before = last.insert((arrival.topic, arrival.partition), arrival.at_ns).unwrap_or(mark.at_ns);
            longest = longest.max(arrival.at_ns - before);
        }
        Duration::from_nanos(u64::try_from(longest).unwrap_or(0))
    }

    /// Number of records read so far of both topics.
    pub(super) fn count(&self) -> usize {
        self.lock().arrivals.len()
    }

    /// Longest time without any record of the topic.
    pub(super) fn silence(&self, topic: Topic) -> Duration {
        self.lock().silence.get(&topic).copied().unwrap_or_default()
    }
}

impl Seen {
    fn take(&mut self, record: &Record) {
        let offset = self.offsets.entry((record.topic, record.partition)).or_insert(-1);
        if record.offset <= *offset {
            return;
        }
        *offset = record.offset;
        let value = record.value.as_deref().unwrap_or_default();
        let event_ns = match record.topic {
            Topic::Findings => decode::<Finding>(value).ok().map(|finding| finding.event_time_ns),
            _ => decode::<Alert>(value).ok().map(|alert| alert.last_seen_ns),
        };
        let Some(event_ns) = event_ns else { return };
        let arrival = Arrival { topic: record.topic, partition: record.partition, event_ns, at_ns: clock::now_ns() };
        if self.begun
            && let Some(before) = self.arrivals.iter().rev().find(|before| before.topic == arrival.topic)
        {
            let silence = Duration::from_nanos(u64::try_from(arrival.at_ns - before.at_ns).unwrap_or(0));
            let longest = self.silence.entry(arrival.topic).or_default();
            *longest = silence.max(*longest);
        }
        self.arrivals.push(arrival);
    }
}
