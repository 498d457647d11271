//! Reads changelog partitions up to the executor's mark. Called by [`crate::KafkaLog`], on a blocking thread.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

use driftline_schemas::topics::Topic;
use driftline_service_core::{InputRange, StateImages};

use crate::error::is_passing;
use crate::timeouts::TRANSACTION_TIMEOUT;
use crate::{ClientSettings, KafkaError};

const POLL: Duration = Duration::from_millis(10);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// Reading is given up after this long without progress: three times the longest transaction of a zombie.
const PROGRESS_MAX: Duration = TRANSACTION_TIMEOUT.saturating_mul(3);

/// Requests the beginning and end of partitions. A read-committed client would get the last stable offset, not the end.
pub(crate) struct Watermarks {
    client: BaseConsumer,
    settings: ClientSettings,
}

impl std::fmt::Debug for Watermarks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watermarks").finish_non_exhaustive()
    }
}

impl Watermarks {
    pub(crate) fn new(settings: &ClientSettings) -> Result<Self, KafkaError> {
        let mut config = settings.reader_config();
        config.set("group.id", format!("{}-marks", settings.client_id)).set("isolation.level", "read_uncommitted");
        ClientSettings::refresh_leaders(&mut config);
        Ok(Self { client: config.create()?, settings: settings.clone() })
    }

    pub(crate) fn of(&self, topic: Topic, partitions: &[i32]) -> Result<BTreeMap<i32, InputRange>, KafkaError> {
        let name = self.settings.topic(topic);
        let mut ranges = BTreeMap::new();
        for partition in partitions {
            let (begin, end) = self.client.fetch_watermarks(&name, *partition, METADATA_TIMEOUT)?;
            ranges.insert(*partition, InputRange { begin, end });
        }
        Ok(ranges)
    }
}

/// Reads committed records up to `marks`. Waits for transactions that are still open below a mark.
pub(crate) fn read(
    watermarks: &Watermarks,
    topic: Topic,
    marks: &BTreeMap<i32, i64>,
) -> Result<StateImages, KafkaError> {
    let settings = &watermarks.settings;
    let ranges = watermarks.of(topic, &marks.keys().copied().collect::<Vec<_>>())?;
    let mut images = StateImages::default();
    let mut wanted = marks.clone();
    let name = settings.topic(topic);
    let mut assignment = TopicPartitionList::new();
    for (partition, InputRange { begin: low, .. }) in ranges {
        images.read_to(partition, low);
        if wanted.get(&partition).is_some_and(|mark| *mark <= low) {
            wanted.remove(&partition);
        } else {
            assignment.add_partition_offset(&name, partition, Offset::Offset(low))?;
        }
    }
    if wanted.is_empty() {
        return Ok(images);
    }
    let mut config = settings.reader_config();
    config.set("group.id", format!("{}-state", settings.client_id)).set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = config.create()?;
    consumer.assign(&assignment)?;
    let mut progress = Instant::now();
    while !wanted.is_empty() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let key = message.key().unwrap_or_default();
                images.take(message.partition(), message.offset(), key, message.payload());
                progress = Instant::now();
                // Reading positions costs a call; they matter only near the end.
                let near = wanted.get(&message.partition()).is_some_and(|mark| message.offset() + 2 >= *mark);
                if !near {
                    continue;
                }
            }
            Some(Err(error)) if is_passing(&error) => tracing::warn!(%error, "reading state goes on after an error"),
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
        note_positions(&consumer, &mut wanted, &mut images)?;
        if progress.elapsed() > PROGRESS_MAX {
            let (topic, partitions) = (name, wanted.into_keys().collect());
            return Err(KafkaError::StateUnread { topic, partitions, seconds: PROGRESS_MAX.as_secs() });
        }
    }
    Ok(images)
}

/// The position counts, not the last record: at the end there may be a transaction marker, or compacted records.
fn note_positions(
    consumer: &BaseConsumer,
    wanted: &mut BTreeMap<i32, i64>,
    images: &mut StateImages,
) -> Result<(), KafkaError> {
    for element in consumer.position()?.elements() {
        if let Offset::Offset(position) = element.offset() {
            images.read_to(element.partition(), position);
            if wanted.get(&element.partition()).is_some_and(|mark| position >= *mark) {
                wanted.remove(&element.partition());
            }
        }
    }
    Ok(())
}
