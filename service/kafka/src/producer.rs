//! Sends records to the partition of their key and reports when all of them are acknowledged.
//!
//! Called by the service loop, the collector, the indexer and the command line. Delivery reports are counted, not kept:
//! callers need to know that everything up to now is acknowledged ([`Producer::settled`]), or that a record failed.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

use driftline_schemas::limits::RECORD_BYTES_MAX;
use driftline_schemas::topics::{Topic, partition_of};

use crate::error::is_passing;
use crate::timeouts::{BROKER_SESSION, TRANSACTION_TIMEOUT};
use crate::{ClientSettings, KafkaError};

/// Longest wait for room in the local queue: twice what a broker's restart takes.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Pause between attempts while the local queue is full.
const QUEUE_RETRY: Duration = Duration::from_millis(5);
/// Longest wait for acknowledgements; above `delivery.timeout.ms`, so that the client reports first.
const SETTLE_MAX: Duration = Duration::from_secs(35);

/// Memory limit of the records that wait to be sent: the amount that a broker takes from one client in a second.
const QUEUE_KBYTES: &str = "65536";
/// A group's coordinator that was not contacted for this long is looked up again. Otherwise the client would wait for
/// one that has left the cluster until the end of the call (librdkafka issue 5511). The value is less than
/// [`BROKER_SESSION`]: a transaction cannot reach its offsets while its records wait for the same broker, and the
/// coordinator is forgotten meanwhile. Topic metadata is not older either, so new leaders are found in time.
const COORDINATOR_AGE_MAX: Duration = Duration::from_secs(8);
const LEADERS_EVERY: Duration = Duration::from_secs(1);
const _: () = assert!(COORDINATOR_AGE_MAX.as_millis() < BROKER_SESSION.as_millis());
/// Key, headers and framing that Kafka counts beside the value.
const PROTOCOL_BYTES: usize = 16 * 1024;

#[derive(Default)]
struct Reports {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    /// Whether a record failed for another reason than lack of time.
    is_refused: AtomicBool,
    last_failure: Mutex<String>,
    changed: Notify,
    /// Next offset after the last acknowledged record of each partition of the watched topic.
    ends: Mutex<BTreeMap<i32, i64>>,
    watched: Option<String>,
}

impl Reports {
    /// Records the offset of a record of the watched topic.
    fn note_end(&self, message: &impl Message) {
        if self.watched.as_deref() == Some(message.topic()) {
            let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            let end = ends.entry(message.partition()).or_default();
            *end = (*end).max(message.offset().saturating_add(1));
        }
    }
}

pub(crate) struct Context(Arc<Reports>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                self.0.note_end(message);
                self.0.acknowledged.fetch_add(1, Ordering::AcqRel)
            }
            Err((error, _)) => {
                let is_late =
                    is_passing(error) || error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut);
                self.0.is_refused.fetch_or(!is_late, Ordering::AcqRel);
                *self.0.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                self.0.failed.fetch_add(1, Ordering::AcqRel)
            }
        };
        self.0.changed.notify_waiters();
    }
}

/// A producer whose own thread receives the delivery reports.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<ThreadedProducer<Context>>,
    reports: Arc<Reports>,
    queued: Arc<AtomicU64>,
    settings: ClientSettings,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

pub(crate) fn config(settings: &ClientSettings, limit_bytes: usize) -> ClientConfig {
    let mut config = settings.config();
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("message.max.bytes", (limit_bytes + PROTOCOL_BYTES).to_string())
        .set("queue.buffering.max.kbytes", QUEUE_KBYTES);
    config
}

impl Producer {
    /// Makes a producer; does not yet connect.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn new(settings: &ClientSettings) -> Result<Self, KafkaError> {
        Self::with_record_limit(settings, RECORD_BYTES_MAX)
    }

    /// Like [`Self::new`], for records longer than any of driftline's: to test how readers handle them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_record_limit(settings: &ClientSettings, limit_bytes: usize) -> Result<Self, KafkaError> {
        let mut config = config(settings, limit_bytes);
        config.set("message.timeout.ms", "30000");
        Self::start(settings, &config, Reports::default())
    }

    /// Makes a producer of a service, which records the acknowledged end of each changelog partition. With a
    /// `transactional_id` it sends in transactions only, see [`crate::KafkaLog`].
    pub(crate) fn of_service(
        settings: &ClientSettings,
        state: Topic,
        transactional_id: Option<&str>,
    ) -> Result<Self, KafkaError> {
        let mut config = config(settings, RECORD_BYTES_MAX);
        // A commit waits for the acknowledgement of its last record, so each of these milliseconds counts; under load,
        // batches fill while others are in flight.
        config.set("linger.ms", "1");
        match transactional_id {
            // The client bounds a record's lifetime by the timeout of its transaction.
            Some(id) => config
                .set("topic.metadata.refresh.interval.ms", LEADERS_EVERY.as_millis().to_string())
                .set("metadata.max.age.ms", COORDINATOR_AGE_MAX.as_millis().to_string())
                .set("transactional.id", id)
                .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string()),
            None => config.set("message.timeout.ms", "30000"),
        };
        Self::start(settings, &config, Reports { watched: Some(settings.topic(state)), ..Reports::default() })
    }

    fn start(settings: &ClientSettings, config: &ClientConfig, reports: Reports) -> Result<Self, KafkaError> {
        let reports = Arc::new(reports);
        let inner = config.create_with_context(Context(Arc::clone(&reports)))?;
        Ok(Self { inner: Arc::new(inner), reports, queued: Arc::default(), settings: settings.clone() })
    }

    /// Cluster and topic settings this producer was made with.
    #[must_use]
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// Queues a record for the partition of its key; waits, bounded, while the local queue is full.
    ///
    /// # Errors
    /// [`KafkaError::QueueFull`] when there was no room for 30 s; [`KafkaError::Client`] when the record is refused.
    pub async fn send(
        &self,
        topic: Topic,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &[u8])],
    ) -> Result<(), KafkaError> {
        let partition = partition_of(key, self.settings.partition_count(topic));
        self.send_to(topic, partition, key, Some(value), headers).await
    }

    /// Like [`Self::send`], to the partition of another key, or without a value (a tombstone).
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_to(
        &self,
        topic: Topic,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Result<(), KafkaError> {
        let name = self.settings.topic(topic);
        let retries = QUEUE_WAIT_MAX.as_millis() / QUEUE_RETRY.as_millis();
        for _ in 0..retries {
            if self.try_send(&name, partition, key, value, headers)? {
                return Ok(());
            }
            tokio::time::sleep(QUEUE_RETRY).await;
        }
        Err(KafkaError::QueueFull(QUEUE_WAIT_MAX.as_secs()))
    }

    /// Queues without waiting; `false` when the local queue is full.
    ///
    /// # Errors
    /// When the record is refused for good.
    fn try_send(
        &self,
        name: &str,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Result<bool, KafkaError> {
        let mut record = BaseRecord::<[u8], [u8]>::to(name).key(key).partition(partition);
        if let Some(value) = value {
            record = record.payload(value);
        }
        if !headers.is_empty() {
            record = record.headers(
                headers
                    .iter()
                    .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(*value) })),
            );
        }
        // Counted first: a delivery report may arrive before `send` returns.
        self.queued.fetch_add(1, Ordering::AcqRel);
        match self.inner.send(record) {
            Ok(()) => Ok(true),
            Err((error, _)) => {
                self.queued.fetch_sub(1, Ordering::AcqRel);
                match error {
                    ClientError::MessageProduction(RDKafkaErrorCode::QueueFull) => Ok(false),
                    error => Err(error.into()),
                }
            }
        }
    }

    /// Waits until every record queued so far is acknowledged.
    ///
    /// # Errors
    /// [`KafkaError::Refused`] when some were refused since the last call, [`KafkaError::NotDelivered`] when some were not
    /// acknowledged within 35 s.
    pub async fn settled(&self) -> Result<(), KafkaError> {
        let waited = tokio::time::timeout(SETTLE_MAX, self.all_reported()).await;
        let failed = self.reports.failed.swap(0, Ordering::AcqRel);
        self.queued.fetch_sub(failed, Ordering::AcqRel);
        let open = self.in_flight();
        if failed == 0 && waited.is_ok() {
            return Ok(());
        }
        let why = self.reports.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let why = if why.is_empty() { format!("no answer for {} s", SETTLE_MAX.as_secs()) } else { why };
        let failed = failed + open;
        if self.reports.is_refused.swap(false, Ordering::AcqRel) {
            return Err(KafkaError::Refused { failed, why });
        }
        Err(KafkaError::NotDelivered { failed, why })
    }

    /// Waits until every record queued so far is acknowledged, or one of them has failed: the others of its transaction
    /// are then not reported until the transaction is aborted.
    pub(crate) async fn flushed(&self) -> Result<(), KafkaError> {
        loop {
            let changed = self.reports.changed.notified();
            let failed = self.reports.failed.load(Ordering::Acquire);
            if failed > 0 {
                let why = self.reports.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                return Err(KafkaError::NotDelivered { failed, why });
            }
            if self.in_flight() == 0 {
                return Ok(());
            }
            changed.await;
        }
    }

    async fn all_reported(&self) {
        loop {
            let changed = self.reports.changed.notified();
            if self.in_flight() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// The client, for transactions.
    pub(crate) fn client(&self) -> &ThreadedProducer<Context> {
        &self.inner
    }

    /// Next offset after the last acknowledged record, by partition of the changelog.
    pub(crate) fn state_ends(&self) -> BTreeMap<i32, i64> {
        self.reports.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records queued whose delivery report has not arrived yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let reported = self.reports.acknowledged.load(Ordering::Acquire) + self.reports.failed.load(Ordering::Acquire);
        self.queued.load(Ordering::Acquire).saturating_sub(reported)
    }

    /// Records acknowledged since the start.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.reports.acknowledged.load(Ordering::Acquire)
    }

    /// Requests the topic's metadata, to check that the cluster answers.
    ///
    /// # Errors
    /// When the cluster does not answer within `timeout`.
    pub fn ping(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.inner.client().fetch_metadata(None, timeout)?;
        Ok(())
    }
}
