//! The thread of a [`super::GroupReader`]: polls, hands over batches, and seeks to other offsets on request.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use driftline_schemas::topics::Topic;

use super::{Context, GroupEvent, POLL, ReceiverGone};
use crate::error::is_passing;
use crate::outage::Outage;
use crate::record::record;
use crate::{KafkaError, StaticMember};

const BATCH_RECORDS: usize = 256;
/// How long the client may take for a seek; it contacts no broker.
const SEEK_MAX: Duration = Duration::from_secs(5);

/// The polling thread; see the module.
pub(super) struct Polling {
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) topic: Topic,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) resuming: std::sync::mpsc::Receiver<BTreeMap<i32, i64>>,
    /// Offsets of partitions that were not yet seeked.
    pub(super) awaited: BTreeMap<i32, i64>,
    pub(super) static_member: StaticMember,
    pub(super) outage: Outage,
}

impl Polling {
    pub(super) fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            if let Err(error) = self.step() {
                if let Some(error) = error {
                    let _ = self.consumer.context().send(GroupEvent::Failed(error), None);
                }
                // From here on the client may be dropped on another thread.
                self.stop.store(true, Ordering::Release);
            }
        }
    }

    fn step(&mut self) -> Result<(), Option<KafkaError>> {
        if let Some(reach) = self.outage.check(&self.consumer) {
            self.consumer.context().send(GroupEvent::Reach(reach), None).map_err(|ReceiverGone| None)?;
        }
        let mut asked = false;
        while let Ok(from) = self.resuming.try_recv() {
            self.awaited.extend(from);
            asked = true;
        }
        if asked || !self.awaited.is_empty() {
            self.resume()?;
        }
        self.read()
    }

    /// Seeks: drops all fetched records, and ends the pause. The partitions are not assigned again: while a rebalance
    /// waits to be served, an assignment counts as the answer to it, and the partitions it takes are released before
    /// the service has finished. A partition that was revoked meanwhile is not taken back.
    fn resume(&mut self) -> Result<(), Option<KafkaError>> {
        let client = |error: ClientError| Some(KafkaError::from(error));
        let context = self.consumer.context();
        context.hand_over().map_err(|ReceiverGone| None)?;
        let assigned = context.partitions(&self.consumer.assignment().map_err(client)?);
        self.awaited.retain(|partition, _| assigned.contains(partition));
        let mut wanted = TopicPartitionList::new();
        for (partition, offset) in &self.awaited {
            wanted.add_partition_offset(&context.topic, *partition, Offset::Offset(*offset)).map_err(client)?;
        }
        let mut there = TopicPartitionList::new();
        if wanted.count() > 0 {
            for element in self.consumer.seek_partitions(wanted, SEEK_MAX).map_err(client)?.elements() {
                match element.error() {
                    Ok(()) => {
                        there.add_partition(&context.topic, element.partition());
                        self.awaited.remove(&element.partition());
                    }
                    // The partition was just assigned: the client still requests its start. Try again after the next
                    // poll.
                    Err(error)
                        if matches!(error.rdkafka_error_code(), Some(Code::State | Code::PreviousInProgress)) => {}
                    Err(error) => return Err(client(error)),
                }
            }
        }
        if there.count() > 0 {
            self.consumer.resume(&there).map_err(client)?;
        } else if !self.awaited.is_empty() {
            return Ok(());
        }
        context.send(GroupEvent::Resumed(context.partitions(&there)), None).map_err(|ReceiverGone| None)
    }

    /// Waits for a record, takes all others that are available, and hands them over. An error ends the reading; it has
    /// no reason when the receiver takes no more events.
    fn read(&mut self) -> Result<(), Option<KafkaError>> {
        let mut patience = POLL;
        while self.consumer.context().batch().len() < BATCH_RECORDS {
            match self.consumer.poll(patience) {
                Some(Ok(message)) => {
                    let record = record(self.topic, &message);
                    self.consumer.context().batch().push(record);
                }
                Some(Err(error)) if is_passing(&error) => self.outage.suspect(&error),
                Some(Err(error)) if error.rdkafka_error_code() == Some(Code::FencedInstanceId) => {
                    return Err(Some(self.static_member.fenced()));
                }
                Some(Err(error)) if error.rdkafka_error_code() == Some(Code::AutoOffsetReset) => {
                    return Err(Some(KafkaError::InputGone(self.consumer.context().topic.clone())));
                }
                Some(Err(error)) => return Err(Some(error.into())),
                None => break,
            }
            patience = Duration::ZERO;
        }
        self.consumer.context().hand_over().map_err(|ReceiverGone| None)
    }
}
