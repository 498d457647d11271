//! Finds the offsets of a topic, all of them or those of a time range: for recordings, which must end.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::time::Duration;

use driftline_schemas::topics::Topic;

use crate::blocking::blocking;
use crate::{ClientSettings, KafkaError};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A range of offsets of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// Topic.
    pub topic: Topic,
    /// Partition.
    pub partition: i32,
    /// First offset.
    pub begin: i64,
    /// Offset after the last; at most the end of the committed records at the time of the request.
    pub end: i64,
}

/// A time range, by the records' timestamps in milliseconds since 1970; `None` is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeRange {
    /// Begins with the first record that is not older than this.
    pub from_ms: Option<i64>,
    /// Ends before the first record that is not older than this.
    pub until_ms: Option<i64>,
}

/// The offsets of a time range in every partition of a topic. The brokers look them up in their time index; no record
/// is read. As in Kafka itself, a time selects the first record that is not older. Where timestamps do not ascend, a
/// record belongs to the same range as its neighbours by offset.
///
/// # Errors
/// When the cluster does not answer.
pub async fn offset_ranges(
    settings: &ClientSettings,
    topic: Topic,
    time: TimeRange,
) -> Result<Vec<OffsetRange>, KafkaError> {
    let settings = settings.clone();
    blocking(move || {
        let consumer = settings.reader()?;
        let name = settings.topic(topic);
        let count = settings.partition_count(topic);
        let from = time.from_ms.map(|ms| first_at(&consumer, &name, count, ms)).transpose()?;
        let until = time.until_ms.map(|ms| first_at(&consumer, &name, count, ms)).transpose()?;
        let found = |offsets: &Option<BTreeMap<i32, i64>>, partition, otherwise: i64| {
            offsets.as_ref().map_or(otherwise, |offsets| offsets.get(&partition).copied().unwrap_or(i64::MAX))
        };
        (0..count)
            .map(|partition| {
                let (low, high) = consumer.fetch_watermarks(&name, partition, REQUEST_TIMEOUT)?;
                let end = found(&until, partition, high).clamp(low, high);
                let begin = found(&from, partition, low).clamp(low, end);
                Ok(OffsetRange { topic, partition, begin, end })
            })
            .collect()
    })
    .await
}

/// The oldest offset that a partition still has.
///
/// # Errors
/// When the cluster does not answer.
pub async fn low_watermark(settings: &ClientSettings, topic: Topic, partition: i32) -> Result<i64, KafkaError> {
    let settings = settings.clone();
    blocking(move || {
        let (low, _) = settings.reader()?.fetch_watermarks(&settings.topic(topic), partition, REQUEST_TIMEOUT)?;
        Ok(low)
    })
    .await
}

/// The first offset of each partition whose record is not older than `ms`. Partitions without such a record are left
/// out.
fn first_at(consumer: &BaseConsumer, name: &str, count: i32, ms: i64) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut asked = TopicPartitionList::new();
    for partition in 0..count {
        asked.add_partition_offset(name, partition, Offset::Offset(ms))?;
    }
    let answers = consumer.offsets_for_times(asked, REQUEST_TIMEOUT)?;
    let mut offsets = BTreeMap::new();
    for answer in answers.elements() {
        answer.error()?;
        if let Offset::Offset(offset) = answer.offset()
            && offset >= 0
        {
            offsets.insert(answer.partition(), offset);
        }
    }
    Ok(offsets)
}
