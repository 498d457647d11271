//! The settings of every client for a cluster.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;

use driftline_schemas::topics::Topic;

use crate::KafkaError;
use crate::timeouts::REQUEST_MAX;

const LEADERS_AGE_MS: &str = "1000";

/// Cluster, topic prefix and partition count: the same for every part of one driftline.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `host:port[,host:port]` of some brokers.
    pub bootstrap: String,
    /// First part of every topic's name.
    pub prefix: String,
    /// Partitions of the topics that are partitioned by container.
    pub partitions: i32,
    /// Name of this client in the logs of the brokers.
    pub client_id: String,
}

impl ClientSettings {
    /// Name of a topic on the cluster.
    #[must_use]
    pub fn topic(&self, topic: Topic) -> String {
        topic.name(&self.prefix)
    }

    /// Partition count of a topic.
    #[must_use]
    pub fn partition_count(&self, topic: Topic) -> i32 {
        topic.spec().partition_count(self.partitions)
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            .set("broker.address.family", "any")
            .set("socket.timeout.ms", REQUEST_MAX.as_millis().to_string())
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "60000")
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// A client that reads without a group.
    pub(crate) fn reader(&self) -> Result<BaseConsumer, KafkaError> {
        Ok(self.reader_config().set("group.id", format!("{}-reader", self.client_id)).create()?)
    }

    /// Adds the settings of a group member.
    pub(crate) fn join(config: &mut ClientConfig, group: &str) {
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "15000")
            .set("heartbeat.interval.ms", "2000");
    }

    /// Adds the settings of a client that contacts leaders seldom: the leaders of its old metadata may have left the
    /// cluster, and the client would wait for them.
    pub(crate) fn refresh_leaders(config: &mut ClientConfig) {
        config.set("metadata.max.age.ms", LEADERS_AGE_MS);
    }

    /// Settings of every reader.
    pub(crate) fn reader_config(&self) -> ClientConfig {
        let mut config = self.config();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            // 16 MiB fetched ahead bounds memory and supplies a busy service for a second.
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.wait.max.ms", "50");
        config
    }
}
