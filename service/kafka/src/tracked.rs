//! A producer that reports for each record whether it is acknowledged. Called by the collector, which keeps records
//! until then.
//!
//! The client never gives up on a record for lack of time: it keeps the order of each partition over outages of any
//! length, and its caller bounds the records that it keeps. Errors that do not pass by themselves are reported.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Message as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use driftline_schemas::limits::RECORD_BYTES_MAX;
use driftline_schemas::topics::{Topic, partition_of};

use crate::producer::config;
use crate::{ClientSettings, KafkaError};

/// The outcome of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster has it.
    Acknowledged,
    /// The cluster does not accept this record, now or later.
    Refused,
    /// The client has given up; this or another client may succeed later.
    Failed,
}

/// A report on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The sequence number with which the record was sent.
    pub sequence: u64,
    /// The outcome of the record.
    pub outcome: Outcome,
}

#[derive(Default)]
struct Reports {
    new: Mutex<Vec<Report>>,
    last_failure: Mutex<String>,
}

struct Context(Arc<Reports>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sequence: usize) {
        let outcome = match result {
            Ok(_) => Outcome::Acknowledged,
            Err((error, message)) => {
                let text = format!("{}: {error}", message.topic());
                *self.0.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = text;
                outcome_of(error)
            }
        };
        self.0.new.lock().unwrap_or_else(PoisonError::into_inner).push(Report { sequence: sequence as u64, outcome });
    }
}

fn outcome_of(error: &ClientError) -> Outcome {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::InvalidRecord,
        ) => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// A tracked producer; see the module. When it is dropped, it forgets records that were not acknowledged: the caller
/// keeps the records and sends them again.
pub struct TrackedProducer {
    inner: BaseProducer<Context>,
    reports: Arc<Reports>,
    settings: ClientSettings,
    /// Name and partition count of the last topic sent to.
    topic: Option<(Topic, String, i32)>,
}

impl std::fmt::Debug for TrackedProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackedProducer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl TrackedProducer {
    /// Makes a producer; does not yet connect.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn new(settings: &ClientSettings) -> Result<Self, KafkaError> {
        let mut config = config(settings, RECORD_BYTES_MAX);
        // No timeout: see the module.
        config.set("message.timeout.ms", "0");
        let reports = Arc::<Reports>::default();
        let inner = config.create_with_context(Context(Arc::clone(&reports)))?;
        Ok(Self { inner, reports, settings: settings.clone(), topic: None })
    }

    /// Queues a record for the partition of its key. Returns `false` when the client's queue is full, or when the
    /// client has failed for good, which a later report contains.
    pub fn send(&mut self, topic: Topic, key: &[u8], value: &[u8], sequence: u64) -> bool {
        if self.topic.as_ref().is_none_or(|(known, ..)| *known != topic) {
            self.topic = Some((topic, self.settings.topic(topic), self.settings.partition_count(topic)));
        }
        let Some((_, name, partitions)) = &self.topic else { return false };
        let Ok(number) = usize::try_from(sequence) else { return false };
        let record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(name, number).key(key).payload(value).partition(partition_of(key, *partitions));
        let Err((error, _)) = self.inner.send(record) else { return true };
        if !matches!(error, ClientError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
            *self.reports.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
            let report = Report { sequence, outcome: outcome_of(&error) };
            self.reports.new.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        }
        false
    }

    /// Reports since the last call, in the order in which they arrived. They are taken here and not by a thread of
    /// their own, which would be woken for each answer of the cluster.
    pub fn reports(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        loop {
            // Without waiting, a poll takes one answer at a time, which is about one batch.
            self.inner.poll(Duration::ZERO);
            let mut new = self.reports.new.lock().unwrap_or_else(PoisonError::into_inner);
            if new.is_empty() {
                return reports;
            }
            reports.append(&mut new);
        }
    }

    /// The last reason why a record was not delivered.
    #[must_use]
    pub fn last_failure(&self) -> String {
        self.reports.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
