//! Settings of most programs.

use crate::kind::{Address, Choice, List, Name, NameDefault, Number, Required, Text, Time, TimeUnit};
use crate::{Described, Program, Setting};
use Program::{Collector, CommandLine, Correlator, Enricher, Indexer};

const SERVICES: &[Program] = &[Collector, Indexer, Enricher, Correlator];

/// Brokers.
pub static KAFKA_BOOTSTRAP: Setting<Required<List>> = Setting {
    name: "KAFKA_BOOTSTRAP",
    programs: &Program::ALL,
    kind: Required {
        kind: List { default: &[], separator: ',', form: "`host:port`", fits: is_broker },
        example: "127.0.0.1:9092",
    },
    about: "brokers; the command line takes `127.0.0.1:9092` when it is not set",
};

/// First part of topic names.
pub static TOPIC_PREFIX: Setting<Name> = Setting {
    name: "DRIFTLINE_TOPIC_PREFIX",
    programs: &Program::ALL,
    kind: Name {
        default: NameDefault::Is("driftline"),
        without: Some(('_', "Kafka mixes it up with '.' in metric names")),
    },
    about: "first part of every topic's name",
};

/// Partitions of the topics that are partitioned by container. Beyond 1,000 partitions a Kafka topic becomes a burden
/// of its own.
pub static PARTITIONS: Setting<Number> = Setting {
    name: "DRIFTLINE_PARTITIONS",
    programs: &Program::ALL,
    kind: Number { default: 12, range: 1..=1_000 },
    about: "partitions of the topics shared out by container",
};

/// Copies of each record.
pub static REPLICATION: Setting<Number> = Setting {
    name: "DRIFTLINE_REPLICATION",
    programs: &[CommandLine],
    kind: Number { default: 3, range: 1..=9 },
    about: "copies of each record, in topics that `driftline topics create` and `driftline replay` make",
};

/// Patience with Kafka.
pub static KAFKA_WAIT_S: Setting<Time> = Setting {
    name: "DRIFTLINE_KAFKA_WAIT_S",
    programs: SERVICES,
    kind: Time { default: 30, range: 1..=3_600, unit: TimeUnit::Seconds },
    about: "how long to wait for Kafka at the start",
};

/// Where metrics are served.
pub static TELEMETRY_ADDR: Setting<Address> = Setting {
    name: "DRIFTLINE_TELEMETRY_ADDR",
    programs: SERVICES,
    kind: Address { default: "127.0.0.1:9460" },
    about: "where `/metrics`, `/healthz` and `/readyz` are served",
};

/// Log filter. The Kafka client logs a line for each broker and second of an outage, which driftline reports once.
pub static LOG: Setting<Text> = Setting {
    name: "DRIFTLINE_LOG",
    programs: SERVICES,
    kind: Text {
        default: "info,librdkafka=off,rdkafka=off",
        form: "a log filter like `info` or `warn,driftline=debug`",
    },
    about: "what is logged; `info,librdkafka=warn` adds the Kafka client's own log lines",
};

/// Form of log lines.
pub static LOG_FORMAT: Setting<Choice> = Setting {
    name: "DRIFTLINE_LOG_FORMAT",
    programs: SERVICES,
    kind: Choice { default: "text", words: &["text", "json"] },
    about: "form of the log lines",
};

/// Cluster of records.
pub static CLUSTER: Setting<Name> = Setting {
    name: "DRIFTLINE_CLUSTER",
    programs: &[Collector, Indexer, Enricher],
    kind: Name { default: NameDefault::Is("default"), without: None },
    about: "name of the cluster in every record",
};

/// Node of records.
pub static NODE: Setting<Name> = Setting {
    name: "DRIFTLINE_NODE",
    programs: &[Collector, Indexer],
    kind: Name { default: NameDefault::HostName, without: None },
    about: "name of the node in every record",
};

/// Name of an instance.
pub static INSTANCE: Setting<Name> = Setting {
    name: "DRIFTLINE_INSTANCE",
    programs: &[Indexer, Enricher, Correlator],
    kind: Name { default: NameDefault::HostName, without: None },
    about: "name of the instance: stable over restarts, unique within a service; an indexer in registry mode is called \
        `central` when it is not set, one in node mode has `DRIFTLINE_NODE` instead",
};

/// Delivery guarantee.
pub static DELIVERY: Setting<Choice> = Setting {
    name: "DRIFTLINE_DELIVERY",
    programs: &[Enricher, Correlator],
    kind: Choice { default: "exactly-once", words: &["exactly-once", "at-least-once"] },
    about: "whether outputs are written in transactions; without them a crash can write an output twice, with the same id",
};

/// Trusted publishers.
pub static TRUST: Setting<Choice> = Setting {
    name: "DRIFTLINE_TRUST",
    programs: &[Indexer, Enricher, CommandLine],
    kind: Choice { default: "any-node", words: &["any-node", "same-node", "verified-only"] },
    about: "which publishers of images are trusted. `any-node`: all; a verified source (`registry:…`, `ci:…`) wins over a \
        node, otherwise the first publisher wins. `same-node`: verified sources, and for the containers of a node its own \
        indexer. `verified-only`: verified sources. With this set, an indexer republishes images whose only publishers are \
        not trusted. Without it, it does so on the second request, one minute later",
};

pub(super) static SETTINGS: &[&dyn Described] = &[
    &KAFKA_BOOTSTRAP,
    &TOPIC_PREFIX,
    &PARTITIONS,
    &REPLICATION,
    &KAFKA_WAIT_S,
    &TELEMETRY_ADDR,
    &LOG,
    &LOG_FORMAT,
    &CLUSTER,
    &NODE,
    &INSTANCE,
    &DELIVERY,
    &TRUST,
];

fn is_broker(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
