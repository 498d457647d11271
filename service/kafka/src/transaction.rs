//! The transactional calls, on a thread of their own with a watchdog: some of them ignore their timeout and can hang
//! when a coordinator disappears. Called by [`crate::KafkaLog`].

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

use driftline_service_core::LogError;

use crate::timeouts::{BROKER_LOSS_MAX, BROKER_SESSION, TRANSACTION_TIMEOUT};
use crate::{KafkaError, Producer};

/// A call that takes longer is stuck: the limit exceeds the loss of a broker. It is below [`TRANSACTION_TIMEOUT`]: the
/// process has to end while its transaction can still be distinguished from one that the broker has aborted.
pub(crate) const CALL_MAX: Duration = BROKER_LOSS_MAX;
/// Offsets get less time. A call that waits for the group's coordinator when that leaves the cluster does not learn of
/// the next one (librdkafka issue 5456); new clients do as soon as there is one.
const OFFSETS_MAX: Duration = BROKER_SESSION.saturating_add(Duration::from_secs(2));
/// Initialising waits for the end of a predecessor's transaction and, at first use, for the coordinator's topic.
const INIT_MAX: Duration = Duration::from_secs(30);
const _: () = assert!(CALL_MAX.as_millis() < TRANSACTION_TIMEOUT.as_millis());

type Answer = oneshot::Sender<Result<(), ClientError>>;

enum Call {
    Init,
    Offsets(TopicPartitionList, Arc<ConsumerGroupMetadata>),
    Commit,
    Abort,
}

/// Transactions of one producer.
#[derive(Debug)]
pub(crate) struct Transactions {
    id: String,
    calls: std::sync::mpsc::Sender<(Call, Answer)>,
}

impl Transactions {
    /// Takes over from a predecessor with the same id: its open transaction is aborted, and it is fenced.
    pub(crate) async fn start(id: &str, producer: Producer) -> Result<Self, LogError<KafkaError>> {
        let (calls, todo) = std::sync::mpsc::channel::<(Call, Answer)>();
        // Not a task of the runtime: a stuck call must not keep the process from ending.
        std::thread::Builder::new()
            .name("kafka-transaction".into())
            .spawn(move || {
                for (call, answer) in todo {
                    let _ = answer.send(perform(&producer, call));
                }
            })
            .map_err(|error| LogError::Fatal(KafkaError::Thread(error)))?;
        let transactions = Self { id: id.to_owned(), calls };
        transactions.call(Call::Init, "init", INIT_MAX + CALL_MAX).await?;
        Ok(transactions)
    }

    pub(crate) async fn send_offsets(
        &self,
        offsets: TopicPartitionList,
        member: Arc<ConsumerGroupMetadata>,
    ) -> Result<(), LogError<KafkaError>> {
        match self.request(Call::Offsets(offsets, member), "send offsets", OFFSETS_MAX).await? {
            Ok(()) => Ok(()),
            Err(error) if is_outdated(&error) => Err(LogError::Outdated(error.to_string())),
            Err(error) => Err(self.classify(error)),
        }
    }

    pub(crate) async fn commit(&self) -> Result<(), LogError<KafkaError>> {
        self.call(Call::Commit, "commit", CALL_MAX).await
    }

    pub(crate) async fn abort(&self) -> Result<(), LogError<KafkaError>> {
        match self.call(Call::Abort, "abort", CALL_MAX).await {
            Err(LogError::Aborted(why)) => Err(LogError::Fatal(KafkaError::Failed(why))),
            done => done,
        }
    }

    async fn call(&self, call: Call, name: &'static str, longest: Duration) -> Result<(), LogError<KafkaError>> {
        self.request(call, name, longest).await?.map_err(|error| self.classify(error))
    }

    /// Sends a call to the thread; returns the client's answer.
    async fn request(
        &self,
        call: Call,
        name: &'static str,
        longest: Duration,
    ) -> Result<Result<(), ClientError>, LogError<KafkaError>> {
        let (answer, answered) = oneshot::channel();
        let _ = self.calls.send((call, answer));
        match tokio::time::timeout(longest, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(LogError::Fatal(KafkaError::Failed("the transaction thread ended".to_owned()))),
            Err(_) => Err(LogError::Fatal(KafkaError::Stuck { call: name, seconds: longest.as_secs() })),
        }
    }

    /// Classifies an error. Fenced: another process is this instance now. Abortable: the transaction is lost, the
    /// producer is usable. Any other error leaves the broker's result unknown, and a new process finds it out.
    pub(crate) fn classify(&self, error: ClientError) -> LogError<KafkaError> {
        let ClientError::Transaction(inner) = &error else { return self.classify_code(&error) };
        // The order matters: a transaction that timed out has an old epoch too, and the client gets a new one by
        // aborting. If another process has it, the abort fails with that.
        if inner.txn_requires_abort() && !inner.is_fatal() {
            return LogError::Aborted(inner.string());
        }
        if is_fencing(inner.code()) {
            return LogError::Fatal(KafkaError::Fenced(self.id.clone()));
        }
        LogError::Fatal(error.into())
    }

    fn classify_code(&self, error: &ClientError) -> LogError<KafkaError> {
        if error.rdkafka_error_code().is_some_and(is_fencing) {
            return LogError::Fatal(KafkaError::Fenced(self.id.clone()));
        }
        LogError::Aborted(error.to_string())
    }

    /// The error for records that were not delivered: the client may have been fenced meanwhile.
    pub(crate) fn undelivered(&self, producer: &Producer, why: String) -> LogError<KafkaError> {
        match producer.client().client().fatal_error() {
            Some((code, _)) if is_fencing(code) => LogError::Fatal(KafkaError::Fenced(self.id.clone())),
            Some((_, text)) => LogError::Fatal(KafkaError::Failed(text)),
            None => LogError::Aborted(why),
        }
    }
}

/// The group has a newer generation than that of the sent offsets, and the producer can continue. A coordinator returns
/// this only to a member that it still knows.
fn is_outdated(error: &ClientError) -> bool {
    let ClientError::Transaction(inner) = error else { return false };
    inner.code() == Code::IllegalGeneration && inner.txn_requires_abort() && !inner.is_fatal()
}

fn is_fencing(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

fn perform(producer: &Producer, call: Call) -> Result<(), ClientError> {
    let client = producer.client();
    match call {
        Call::Init => client.init_transactions(INIT_MAX),
        Call::Offsets(offsets, member) => client.send_offsets_to_transaction(&offsets, &member, OFFSETS_MAX),
        Call::Commit => client.commit_transaction(CALL_MAX),
        Call::Abort => client.abort_transaction(CALL_MAX),
    }
}
