//! [`Log`] on Kafka: one member of a consumer group, its changelog, and a producer with or without transactions.
//!
//! What is deliberately absent: any decision about order and time; the executor in `driftline-service-core` makes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use driftline_schemas::topics::Topic;
use driftline_service_core::{Committed, InputRange, Log, LogError, Outgoing, StateChange, StateImages};

use crate::blocking::blocking;
use crate::group::Group;
use crate::lookback::Lookback;
use crate::state::{Watermarks, read};
use crate::transaction::{CALL_MAX, Transactions};
use crate::{ClientSettings, GroupReader, KafkaError, Producer, persist};

/// Longest time until sent records must be acknowledged.
const FLUSH_MAX: Duration = CALL_MAX;
/// How long one request of a takeover is repeated: brokers may be replaced one after the other meanwhile.
const TAKEOVER_MAX: Duration = Duration::from_secs(120);

/// How outputs, state and offsets become visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Together or not at all, for readers that read committed records only. The name is the transactional id: it is
    /// stable over restarts, and no two running instances have the same.
    ExactlyOnce(String),
    /// Outputs first, then state, then offsets: after a crash some outputs are on the topic twice, with the same ids.
    AtLeastOnce,
}

/// The log on Kafka; see the module.
#[derive(Debug)]
pub struct KafkaLog {
    watermarks: Arc<Watermarks>,
    lookback: Arc<Lookback>,
    input: Topic,
    input_name: String,
    state: Topic,
    group: Group,
    producer: Producer,
    transactions: Option<Transactions>,
    in_transaction: bool,
    /// Without transactions: whether outputs were sent that may not be acknowledged yet.
    has_open_outputs: bool,
    /// Offsets of the last [`Log::send_offsets`].
    offsets: BTreeMap<i32, Committed>,
}

type Done<T = ()> = Result<T, LogError<KafkaError>>;

/// A producer, and its transactions if it has any.
#[derive(Debug)]
pub struct Sender {
    producer: Producer,
    transactions: Option<Transactions>,
}

impl Sender {
    /// Makes the producer. With exactly-once delivery it fences a predecessor with the same name, so this happens
    /// before joining the group.
    ///
    /// # Errors
    /// When the client refuses its settings or the cluster does not answer.
    pub async fn start(settings: &ClientSettings, state: Topic, delivery: &Delivery) -> Result<Self, KafkaError> {
        let id = match delivery {
            Delivery::ExactlyOnce(id) => Some(id.as_str()),
            Delivery::AtLeastOnce => None,
        };
        let producer = Producer::of_service(settings, state, id)?;
        let transactions = match id {
            Some(id) => Some(Transactions::start(id, producer.clone()).await.map_err(fatal)?),
            None => None,
        };
        Ok(Self { producer, transactions })
    }
}

fn fatal(error: LogError<KafkaError>) -> KafkaError {
    match error {
        LogError::Aborted(why) | LogError::Outdated(why) => KafkaError::Failed(why),
        LogError::Fatal(error) => error,
    }
}

impl KafkaLog {
    /// Makes a log with input from `reader`.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn new(
        settings: &ClientSettings,
        input: Topic,
        state: Topic,
        reader: &GroupReader,
        sender: Sender,
    ) -> Result<Self, KafkaError> {
        let Sender { producer, transactions } = sender;
        let watermarks = Arc::new(Watermarks::new(settings)?);
        let lookback = Arc::new(Lookback::new(settings)?);
        let (group, offsets) = (reader.group(), BTreeMap::new());
        Ok(Self {
            watermarks,
            lookback,
            input,
            input_name: settings.topic(input),
            state,
            group,
            producer,
            transactions,
            in_transaction: false,
            has_open_outputs: false,
            offsets,
        })
    }

    /// Drops the clients and returns when they are gone. A call that is stuck keeps its client until it returns.
    pub async fn close(self) {
        let dropping = blocking(move || {
            drop(self);
            Ok(())
        });
        let _ = dropping.await;
    }

    async fn watermarks_of(&self, topic: Topic, partitions: &[i32]) -> Done<BTreeMap<i32, InputRange>> {
        let call = || {
            let (watermarks, partitions) = (Arc::clone(&self.watermarks), partitions.to_vec());
            blocking(move || watermarks.of(topic, &partitions))
        };
        persist(TAKEOVER_MAX, "beginnings and ends", call).await.map_err(LogError::Fatal)
    }

    async fn begin(&mut self) -> Done {
        if let Some(transactions) = self.transactions.as_ref().filter(|_| !self.in_transaction) {
            use rdkafka::producer::Producer as _;
            self.producer.client().begin_transaction().map_err(|error| transactions.classify(error))?;
            self.in_transaction = true;
        }
        Ok(())
    }

    /// Checks whether a successor with the same name has fenced this member after it lost its partitions. Only the
    /// transaction coordinator knows, and it is contacted only in a transaction. Continuing without the check would
    /// drive the successor out of the group.
    async fn check_fenced(&mut self) -> Done {
        // Without transactions there is no fence, and the check would commit offsets of partitions that others own now.
        if self.transactions.is_none() || self.in_transaction || self.offsets.is_empty() {
            return Ok(());
        }
        let offsets = self.offsets.clone();
        match self.send_offsets(&offsets).await {
            Err(LogError::Fatal(error)) => Err(LogError::Fatal(error)),
            Ok(()) | Err(LogError::Aborted(_) | LogError::Outdated(_)) => Ok(()),
        }
    }

    /// Waits for room in the queue, but no longer than a transaction may take.
    async fn queued(&self, sent: impl Future<Output = Result<(), KafkaError>>) -> Done {
        let stuck = KafkaError::Stuck { call: "send", seconds: FLUSH_MAX.as_secs() };
        let longest = if self.transactions.is_some() { FLUSH_MAX } else { Duration::MAX };
        let sent = tokio::time::timeout(longest, sent).await.map_err(|_| LogError::Fatal(stuck))?;
        sent.map_err(|error| self.undelivered(error))
    }

    /// Flushes outputs before state. Without transactions a process may die between any two acknowledgements. State
    /// that records an output as emitted must not be durable before that output: the input would be read again, taken
    /// for a repetition, and its finding never emitted.
    async fn outputs_before_state(&mut self) -> Done {
        if self.has_open_outputs {
            self.producer.settled().await.map_err(|error| self.undelivered(error))?;
            self.has_open_outputs = false;
        }
        Ok(())
    }

    /// The error for records that could not be queued or were not acknowledged.
    fn undelivered(&self, error: KafkaError) -> LogError<KafkaError> {
        match &self.transactions {
            Some(transactions) => transactions.undelivered(&self.producer, error.to_string()),
            None => LogError::Fatal(error),
        }
    }
}

impl Log for KafkaLog {
    type Error = KafkaError;

    async fn committed(&mut self, partitions: &[i32]) -> Done<BTreeMap<i32, Committed>> {
        let call = || {
            let (group, partitions) = (self.group.clone(), partitions.to_vec());
            blocking(move || group.committed(&partitions))
        };
        persist(TAKEOVER_MAX, "committed offsets", call).await.map_err(LogError::Fatal)
    }

    async fn input_ranges(&mut self, partitions: &[i32]) -> Done<BTreeMap<i32, InputRange>> {
        self.watermarks_of(self.input, partitions).await
    }

    async fn state_marks(&mut self, partitions: &[i32]) -> Done<BTreeMap<i32, i64>> {
        let ranges = self.watermarks_of(self.state, partitions).await?;
        Ok(ranges.into_iter().map(|(partition, range)| (partition, range.end)).collect())
    }

    async fn read_state(&mut self, marks: &BTreeMap<i32, i64>) -> Done<StateImages> {
        let call = || {
            let (watermarks, topic, marks) = (Arc::clone(&self.watermarks), self.state, marks.clone());
            blocking(move || read(&watermarks, topic, &marks))
        };
        persist(TAKEOVER_MAX, "state", call).await.map_err(LogError::Fatal)
    }

    async fn resume(&mut self, from: &BTreeMap<i32, i64>) -> Done {
        self.group.resume(from.clone());
        Ok(())
    }

    async fn first_committed(&mut self, partition: i32, from: i64, to: i64) -> Done<Option<i64>> {
        let call = || {
            let (lookback, topic) = (Arc::clone(&self.lookback), self.input_name.clone());
            blocking(move || lookback.first_committed(&topic, partition, &(from..to)))
        };
        persist(TAKEOVER_MAX, "records before a jump", call).await.map_err(LogError::Fatal)
    }

    async fn send(&mut self, outgoing: &Outgoing) -> Done {
        self.begin().await?;
        let headers: Vec<(&str, &[u8])> =
            outgoing.headers.iter().map(|(key, value)| (*key, value.as_slice())).collect();
        self.has_open_outputs = self.transactions.is_none();
        let sent = self.producer.send(outgoing.topic, &outgoing.key, &outgoing.value, &headers);
        self.queued(sent).await
    }

    async fn send_state(&mut self, change: StateChange) -> Done {
        self.begin().await?;
        self.outputs_before_state().await?;
        let StateChange { partition, key, value } = change;
        let sent = self.producer.send_to(self.state, partition, key.as_bytes(), value.as_deref(), &[]);
        self.queued(sent).await
    }

    async fn flush(&mut self) -> Done<BTreeMap<i32, i64>> {
        let stuck = KafkaError::Stuck { call: "flush", seconds: FLUSH_MAX.as_secs() };
        let done = match &self.transactions {
            Some(_) => tokio::time::timeout(FLUSH_MAX, self.producer.flushed()).await,
            // The producer's own limit, which is longer.
            None => Ok(self.producer.settled().await),
        };
        done.map_err(|_| LogError::Fatal(stuck))?.map_err(|error| self.undelivered(error))?;
        Ok(self.producer.state_ends())
    }

    async fn send_offsets(&mut self, offsets: &BTreeMap<i32, Committed>) -> Done {
        self.begin().await?;
        self.offsets.clone_from(offsets);
        let list = self.group.offsets(offsets).map_err(LogError::Fatal)?;
        match &self.transactions {
            Some(transactions) => {
                let member = self.group.member().map_err(LogError::Fatal)?;
                transactions.send_offsets(list, member).await
            }
            None => {
                let group = self.group.clone();
                let done = blocking(move || group.commit(&list)).await;
                // The group rebalanced without this member: the partitions that it owns now are restored.
                done.map_err(|error| LogError::Aborted(error.to_string()))
            }
        }
    }

    async fn commit(&mut self) -> Done {
        if let Some(transactions) = &self.transactions {
            transactions.commit().await?;
            self.in_transaction = false;
        }
        Ok(())
    }

    async fn abort(&mut self) -> Done {
        self.check_fenced().await?;
        if let Some(transactions) = self.transactions.as_ref().filter(|_| self.in_transaction) {
            transactions.abort().await?;
        }
        self.in_transaction = false;
        // Records purged by the abort are reported as failed; they no longer belong to this transaction.
        let _ = tokio::time::timeout(FLUSH_MAX, self.producer.settled()).await;
        Ok(())
    }
}
