//! Errors between driftline and Kafka. Their text includes the remedy.

use rdkafka::error::RDKafkaErrorCode as Code;

/// An error of the Kafka client or cluster.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No broker answered within the allowed time.
    #[error(
        "no Kafka answers at {bootstrap} (tried for {tried_s} s: {why}); check KAFKA_BOOTSTRAP and that the brokers run"
    )]
    Unreachable {
        /// Addresses of the brokers.
        bootstrap: String,
        /// How long the client tried.
        tried_s: u64,
        /// Last error of the client.
        why: String,
    },
    /// A topic does not exist.
    #[error("topic {0} does not exist; create the topics with `driftline topics create`")]
    NoTopic(String),
    /// The partition count of a topic differs from the configured one.
    #[error(
        "topic {topic} has {actual} partitions, configured are {configured}; set DRIFTLINE_PARTITIONS={actual}, or drain into a new topic: keys would move between partitions"
    )]
    PartitionCount {
        /// Name of the topic.
        topic: String,
        /// Count on the cluster.
        actual: i32,
        /// Count in the settings.
        configured: i32,
    },
    /// The cluster refused to create a topic.
    #[error("cannot create topic {topic}: {why}")]
    Create {
        /// Name of the topic.
        topic: String,
        /// The broker's error.
        why: String,
    },
    /// Records that were queued were not acknowledged in time.
    #[error("{failed} records were not delivered ({why}); they will be sent again after a restart")]
    NotDelivered {
        /// Number of records.
        failed: u64,
        /// Last reason.
        why: String,
    },
    /// Queued records were refused, and would be refused again.
    #[error("kafka refused {failed} records ({why}); they will be sent again after a restart")]
    Refused {
        /// Number of records, including others of the same time that were not delivered.
        failed: u64,
        /// Last reason.
        why: String,
    },
    /// The local queue of the producer stayed full.
    #[error("the producer queue was full for {0} s; Kafka takes records more slowly than they are made")]
    QueueFull(u64),
    /// The producer's epoch is outdated: the broker ended its transaction, or another instance has the same name.
    #[error(
        "fenced: the transactional id {0} has a newer owner. Either this process stood still for longer than a transaction may take ({transaction_s} s), and a restart goes on from the last commit; or another instance has the same DRIFTLINE_INSTANCE, and each needs one of its own",
        transaction_s = crate::timeouts::TRANSACTION_TIMEOUT.as_secs()
    )]
    Fenced(String),
    /// Another instance with the same name is in the group.
    #[error(
        "fenced: another instance named {0} has joined the group in this one's place; every instance needs a DRIFTLINE_INSTANCE of its own"
    )]
    Replaced(String),
    /// The group has a newer member with this instance's name, which may be this process itself.
    #[error("a newer member named {0} is in the group, and may be this one: its request to join was repeated")]
    JoinedTwice(String),
    /// Input was deleted before it was read.
    #[error(
        "{0} no longer has what is to be read next: it was deleted before it was read; the next start says which range is gone, and retention has to be longer than any standstill"
    )]
    InputGone(String),
    /// State partitions could not be read to their end.
    #[error(
        "{topic}, partitions {partitions:?}: no committed record for {seconds} s although more stand there; a transaction of another instance may be stuck"
    )]
    StateUnread {
        /// Name of the state topic.
        topic: String,
        /// Which partitions.
        partitions: Vec<i32>,
        /// How long no record arrived.
        seconds: u64,
    },
    /// A call to Kafka does not return.
    #[error("kafka did not answer to {call} within {seconds} s; what it did of it, the next instance finds out")]
    Stuck {
        /// Name of the call.
        call: &'static str,
        /// Length of the wait.
        seconds: u64,
    },
    /// The cluster could not answer at the moment: a broker is down, or a partition's leader or a coordinator moves.
    #[error(transparent)]
    Passing(rdkafka::error::KafkaError),
    /// Anything else the client reports.
    #[error(transparent)]
    Client(rdkafka::error::KafkaError),
    /// A thread for a client could not be started.
    #[error("no thread for the kafka client")]
    Thread(#[source] std::io::Error),
    /// The client cannot continue, for a reason that it does not report as an error.
    #[error("kafka: {0}")]
    Failed(String),
}

impl From<rdkafka::error::KafkaError> for KafkaError {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        if is_passing(&error) { Self::Passing(error) } else { Self::Client(error) }
    }
}

/// Whether a failure passes by itself: the client continues, and the same request succeeds later.
pub(crate) fn is_passing(error: &rdkafka::error::KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(|code| {
        matches!(
            code,
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::BrokerDestroy
                | Code::DestroyBroker
                // For an existing topic: the broker that answered has just been started.
                | Code::UnknownPartition
                | Code::BrokerNotAvailable
                | Code::NotCoordinator
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::RebalanceInProgress
                // For a predecessor's transaction, which ends within its timeout.
                | Code::ConcurrentTransactions
                | Code::NetworkException
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    })
}
