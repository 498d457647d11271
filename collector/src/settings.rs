//! Settings of the collector. Called once, by `main`.

use driftline_collector_core::redaction::Redaction;
use driftline_engines::RuntimeSettings;
use driftline_engines::kubernetes::KubernetesSettings;
use driftline_kafka::ClientSettings;
use driftline_schemas::Node;
use driftline_service::settings::kafka;
use driftline_settings::kind::PowerOfTwo;
use driftline_settings::{Setting, Settings, table};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::strict::{StrictMode, StrictSettings};

/// Threads that hash files: two keep a core free on the smallest node, and one hanging file does not block all hashing.
pub const HASH_THREADS: usize = 2;

/// Most files that wait for a thread, over all containers. Each waits at most half a second, in which a thread opens
/// 10,000 small ones.
pub const HASH_QUEUE: usize = 4_096;

/// The collector's settings, validated.
#[derive(Debug, Clone)]
pub struct CollectorSettings {
    /// Connection to the Kafka cluster.
    pub kafka: ClientSettings,
    /// How long to wait for Kafka at the start.
    pub kafka_wait: Duration,
    /// The node on which the collector runs.
    pub node: Node,
    /// Address at which metrics are served.
    pub telemetry: SocketAddr,
    /// Size of the ring buffer for ordinary execs.
    pub ring_bytes: u32,
    /// Size of the ring buffer for all other execs.
    pub suspicious_ring_bytes: u32,
    /// Size of the largest file that is hashed.
    pub hash_file_bytes_max: u64,
    /// Whether files are hashed when they are opened for execution.
    pub strict: StrictSettings,
    /// Patterns of arguments that must not leave the node.
    pub redaction: Redaction,
    /// Directory of records that Kafka has not acknowledged.
    pub spool_directory: PathBuf,
    /// Most bytes in the spool directory.
    pub spool_bytes_max: u64,
    /// Sockets and directories of the container runtimes.
    pub runtimes: RuntimeSettings,
    /// Access to the Kubernetes API, for pod data that the runtimes do not provide.
    pub kubernetes: KubernetesSettings,
}

impl CollectorSettings {
    /// Reads the settings; `settings` collects the errors.
    #[must_use]
    pub fn read(settings: &mut Settings) -> Self {
        let runtimes = runtimes(settings);
        Self {
            kafka: kafka(settings, "collector"),
            kafka_wait: settings.get(&table::KAFKA_WAIT_S),
            node: Node {
                cluster: settings.get(&table::CLUSTER),
                name: settings.get(&table::NODE),
                provider_id: settings.get(&table::PROVIDER_ID),
                zone: settings.get(&table::ZONE),
                project: settings.get(&table::PROJECT),
                location: settings.get(&table::LOCATION),
            },
            telemetry: settings.get(&table::TELEMETRY_ADDR),
            ring_bytes: ring(settings, &table::RING_KIB),
            suspicious_ring_bytes: ring(settings, &table::SUSPICIOUS_RING_KIB),
            hash_file_bytes_max: settings.get(&table::HASH_FILE_MIB_MAX),
            spool_directory: settings.get(&table::SPOOL_DIR).into(),
            spool_bytes_max: settings.get(&table::SPOOL_MIB_MAX),
            strict: strict(settings),
            redaction: redaction(settings),
            kubernetes: kubernetes(settings, &runtimes),
            runtimes,
        }
    }
}

/// Locations of the runtimes, and the pod annotations to copy from them.
pub fn runtimes(settings: &mut Settings) -> RuntimeSettings {
    RuntimeSettings { annotations: settings.get(&table::POD_ANNOTATIONS), ..RuntimeSettings::read(settings) }
}

/// The Kubernetes API to query for the pods of this node.
pub fn kubernetes(settings: &mut Settings, runtimes: &RuntimeSettings) -> KubernetesSettings {
    let node = settings.get(&table::NODE);
    KubernetesSettings::read(&node, &runtimes.annotations, settings)
}

/// The strict mode and its timeout.
pub fn strict(settings: &mut Settings) -> StrictSettings {
    let modes = [("off", StrictMode::Off), ("notify", StrictMode::Notify), ("permit", StrictMode::Permit)];
    StrictSettings {
        mode: settings.choice(&table::STRICT, &modes).unwrap_or(StrictMode::Off),
        wait: settings.get(&table::STRICT_WAIT_MS),
    }
}

/// Reads the size of a ring buffer; at most 1 GiB.
fn ring(settings: &mut Settings, setting: &Setting<PowerOfTwo>) -> u32 {
    u32::try_from(settings.get(setting)).unwrap_or(u32::MAX)
}

fn redaction(settings: &mut Settings) -> Redaction {
    let patterns = settings.get(&table::REDACT_ARGS).join("\n");
    Redaction::parse(&patterns).unwrap_or_else(|why| {
        settings.refuse(&table::REDACT_ARGS, why, "");
        Redaction::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_settings::Program;

    fn read(pairs: &'static [(&'static str, &'static str)]) -> Result<CollectorSettings, String> {
        let mut settings = Settings::of_values(pairs.iter().copied());
        let read = CollectorSettings::read(&mut settings);
        settings.finish().map(|()| read).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_brokers_must_be_named() {
        let settings = read(&[("KAFKA_BOOTSTRAP", "127.0.0.1:9092"), ("DRIFTLINE_NODE", "n1")]).unwrap();
        assert_eq!((settings.ring_bytes, settings.hash_file_bytes_max), (4 << 20, 512 << 20));
        assert_eq!(settings.node.name, "n1");
        assert_eq!(settings.strict.mode, StrictMode::Off);
    }

    #[test]
    fn every_setting_of_the_collector_is_read_and_no_other() {
        let mut settings = Settings::of_values([("KAFKA_BOOTSTRAP", "a:1")]);
        driftline_service::telemetry::start_logs(&mut settings);
        let _ = CollectorSettings::read(&mut settings);
        settings.finish().unwrap();
        assert_eq!(settings.names_read(), table::names_of(Program::Collector));
        assert_eq!(*table::SPOOL_MIB_MAX.kind.range.start(), driftline_collector_core::limits::SPOOL_MIB_MIN);
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let message = read(&[
            ("DRIFTLINE_RING_KIB", "100"),
            ("DRIFTLINE_HASH_FILE_MIB_MAX", "x"),
            ("DRIFTLINE_REDACT_ARGS", "("),
            ("DRIFTLINE_SPOOL_MIB_MAX", "8"),
            ("DRIFTLINE_STRICT", "deny"),
            ("DRIFTLINE_STRICT_WAIT_MS", "0"),
        ])
        .unwrap_err();
        for part in [
            "KAFKA_BOOTSTRAP",
            "8 is not between 16",
            "100 is not a power of two",
            "\"x\" is not a whole number",
            "\"(\" is no pattern",
            "\"deny\" is none of off, notify, permit",
            "0 is not between 1 and 10000",
        ] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}
