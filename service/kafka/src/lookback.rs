//! Reads a part of an input partition again, to find out whether it contains a committed record. Called by
//! [`crate::KafkaLog`] on a blocking thread, when the offset of a record is not the expected one.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

use crate::error::is_passing;
use crate::{ClientSettings, KafkaError};

const POLL: Duration = Duration::from_millis(10);
/// The record at the range's end exists already, so only an unreachable broker takes longer than a round trip.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A separate client, whose fetches are independent of the group's client.
pub(crate) struct Lookback(BaseConsumer);

impl std::fmt::Debug for Lookback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookback").finish_non_exhaustive()
    }
}

impl Lookback {
    pub(crate) fn new(settings: &ClientSettings) -> Result<Self, KafkaError> {
        let mut config = settings.reader_config();
        config
            .set("group.id", format!("{}-lookback", settings.client_id))
            .set("auto.offset.reset", "error")
            // A jump is short; records after it are not fetched in advance. One fetch is as large as the group's: with
            // 64 KiB a record of an aborted transaction was once taken for a committed one, again after each restart.
            .set("queued.max.messages.kbytes", "256");
        ClientSettings::refresh_leaders(&mut config);
        Ok(Self(config.create()?))
    }

    /// The first committed offset of the range. There is a committed record at the end of the range.
    pub(crate) fn first_committed(
        &self,
        topic: &str,
        partition: i32,
        range: &Range<i64>,
    ) -> Result<Option<i64>, KafkaError> {
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition, Offset::Offset(range.start))?;
        self.0.assign(&assignment)?;
        let found = self.next_offset(topic);
        self.0.unassign()?;
        found.map(|offset| Some(offset).filter(|offset| range.contains(offset)))
    }

    fn next_offset(&self, topic: &str) -> Result<i64, KafkaError> {
        let began = Instant::now();
        while began.elapsed() < ANSWER_MAX {
            match self.0.poll(POLL) {
                Some(Ok(message)) => return Ok(message.offset()),
                Some(Err(error)) if is_passing(&error) => {
                    tracing::warn!(%error, "reading again goes on after an error")
                }
                Some(Err(error))
                    if error.rdkafka_error_code() == Some(rdkafka::error::RDKafkaErrorCode::AutoOffsetReset) =>
                {
                    return Err(KafkaError::InputGone(topic.to_owned()));
                }
                Some(Err(error)) => return Err(error.into()),
                None => {}
            }
        }
        Err(KafkaError::Stuck { call: "read again", seconds: ANSWER_MAX.as_secs() })
    }
}
