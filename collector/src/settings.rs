//! Settings of the collector. Called once, by `main`.

use driftline_collector_core::limits;
use driftline_collector_core::redaction::Redaction;
use driftline_engines::RuntimeSettings;
use driftline_engines::kubernetes::KubernetesSettings;
use driftline_kafka::ClientSettings;
use driftline_schemas::Node;
use driftline_service::env::Settings;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::strict::{StrictMode, StrictSettings};

/// Shown by `--help`.
pub const HELP: &str = "\
Environment:
  KAFKA_BOOTSTRAP                     brokers, host:port[,host:port] (required)
  DRIFTLINE_KAFKA_WAIT_S              seconds to wait for Kafka at the start [30]
  DRIFTLINE_TOPIC_PREFIX              first part of topic names [driftline]
  DRIFTLINE_PARTITIONS                partitions of the topics [12]
  DRIFTLINE_CLUSTER                   name of the cluster [default]
  DRIFTLINE_NODE                      name of this node [its host name]
  DRIFTLINE_PROJECT, DRIFTLINE_LOCATION, DRIFTLINE_ZONE, DRIFTLINE_PROVIDER_ID
                                      where the node is, outside a cloud empty
  DRIFTLINE_TELEMETRY_ADDR            /metrics, /healthz, /readyz [127.0.0.1:9460]
  DRIFTLINE_RING_KIB                  ring for ordinary execs, a power of two [4096]
  DRIFTLINE_SUSPICIOUS_RING_KIB       ring for all others, a power of two [2048]
  DRIFTLINE_HASH_FILE_MIB_MAX         largest file that is hashed [512]
  DRIFTLINE_STRICT                    off; notify, hash files as they are opened to be executed; permit, the exec waits for
                                      it; both need CAP_SYS_ADMIN [off]
  DRIFTLINE_STRICT_WAIT_MS            longest time that an exec waits for it [250]
  DRIFTLINE_REDACT_ARGS               regular expressions, one a line, of what must not leave the node in arguments; each
                                      argument ends with \\x00; groups are replaced, without groups the whole match []
  DRIFTLINE_SPOOL_DIR                 where records wait that Kafka does not take
                                      [/var/lib/driftline/collector]
  DRIFTLINE_SPOOL_MIB_MAX             most it takes of the disk [256]
  DRIFTLINE_LOG, DRIFTLINE_LOG_FORMAT what is logged [info], text or json [text]
  DRIFTLINE_DOCKER_SOCKET, DRIFTLINE_PODMAN_SOCKET, DRIFTLINE_PODMAN_COMMAND, DRIFTLINE_PROC
                                      where the runtimes are
  DRIFTLINE_CRI_SOCKET                sockets of containerd and CRI-O, with commas [their usual ones and k3s']
  DRIFTLINE_POD_ANNOTATIONS           pod annotations that are told, with commas; * ends a beginning [none]
  DRIFTLINE_KUBERNETES                whom to ask for owners, service accounts, provider id and zone: auto, the API of
                                      the cluster whose pod this is; a kubeconfig file; or off [auto]";

/// Where the spool is when nothing else is said.
const SPOOL_DIRECTORY: &str = "/var/lib/driftline/collector";

/// Threads that hash: two keep a core free on the smallest node, and one hanging file does not stop all.
pub const HASH_THREADS: usize = 2;

/// Files that wait for a thread, over all containers; each waits at most half a second, in which a thread opens 10,000
/// small ones.
pub const HASH_QUEUE: usize = 4_096;

/// What the collector needs to know.
#[derive(Debug, Clone)]
pub struct CollectorSettings {
    /// The cluster of brokers.
    pub kafka: ClientSettings,
    /// How long to wait for it at the start.
    pub kafka_wait: Duration,
    /// Where this runs.
    pub node: Node,
    /// Where metrics are served.
    pub telemetry: SocketAddr,
    /// Size of the ring for ordinary execs.
    pub ring_bytes: u32,
    /// Size of the ring for all others.
    pub suspicious_ring_bytes: u32,
    /// Largest file that is hashed.
    pub hash_file_bytes_max: u64,
    /// Whether files are hashed as they are opened to be executed.
    pub strict: StrictSettings,
    /// What must not leave the node in arguments.
    pub redaction: Redaction,
    /// Where records wait that Kafka does not take.
    pub spool_directory: PathBuf,
    /// Most bytes of them.
    pub spool_bytes_max: u64,
    /// Where the runtimes are.
    pub runtimes: RuntimeSettings,
    /// Who knows more of their pods.
    pub kubernetes: KubernetesSettings,
}

impl CollectorSettings {
    /// Reads them; what is wrong is noted in `settings`.
    #[must_use]
    pub fn read(settings: &mut Settings) -> Self {
        let name = node_name(settings);
        let runtimes = RuntimeSettings::read(|name| settings.optional(name));
        Self {
            kafka: settings.kafka("collector"),
            kafka_wait: settings.kafka_wait(),
            node: Node {
                cluster: settings.cluster(),
                name: name.clone(),
                provider_id: settings.text("DRIFTLINE_PROVIDER_ID", ""),
                zone: settings.text("DRIFTLINE_ZONE", ""),
                project: settings.text("DRIFTLINE_PROJECT", ""),
                location: settings.text("DRIFTLINE_LOCATION", ""),
            },
            telemetry: settings.telemetry_address(),
            ring_bytes: ring(settings, "DRIFTLINE_RING_KIB", 4_096),
            suspicious_ring_bytes: ring(settings, "DRIFTLINE_SUSPICIOUS_RING_KIB", 2_048),
            hash_file_bytes_max: megabytes(settings, "DRIFTLINE_HASH_FILE_MIB_MAX", 512, 1),
            spool_directory: settings.text("DRIFTLINE_SPOOL_DIR", SPOOL_DIRECTORY).into(),
            spool_bytes_max: megabytes(settings, "DRIFTLINE_SPOOL_MIB_MAX", 256, limits::SPOOL_MIB_MIN),
            strict: strict(settings),
            redaction: redaction(settings),
            kubernetes: KubernetesSettings::read(&name, &runtimes.annotations, |name| settings.optional(name)),
            runtimes,
        }
    }
}

/// The node's name, which is its host's unless set.
pub fn node_name(settings: &mut Settings) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    settings.name("DRIFTLINE_NODE", &host)
}

/// The kernel takes powers of two that are whole pages.
fn ring(settings: &mut Settings, name: &str, default_kib: i64) -> u32 {
    let kib = settings.number(name, default_kib, 64..=1 << 20);
    let kib = u32::try_from(kib).unwrap_or(64);
    if !kib.is_power_of_two() {
        settings.refuse(name, format_args!("{kib} is not a power of two"));
    }
    kib.saturating_mul(1024)
}

/// How strict to be.
pub fn strict(settings: &mut Settings) -> StrictSettings {
    let modes = [("off", StrictMode::Off), ("notify", StrictMode::Notify), ("permit", StrictMode::Permit)];
    let mode = settings.choice("DRIFTLINE_STRICT", &modes, StrictMode::Off);
    // In a quarter of a second one slow core hashes 250 MB.
    let wait_ms = settings.number("DRIFTLINE_STRICT_WAIT_MS", 250, 1..=10_000);
    StrictSettings { mode, wait: Duration::from_millis(wait_ms.unsigned_abs()) }
}

fn redaction(settings: &mut Settings) -> Redaction {
    const NAME: &str = "DRIFTLINE_REDACT_ARGS";
    let read = Redaction::parse(&settings.text(NAME, ""));
    read.unwrap_or_else(|why| {
        settings.refuse(NAME, format_args!("{why}"));
        Redaction::default()
    })
}

fn megabytes(settings: &mut Settings, name: &str, default: i64, least: i64) -> u64 {
    let megabytes = settings.number(name, default, least..=1 << 20);
    u64::try_from(megabytes).unwrap_or(1) << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &'static [(&'static str, &'static str)]) -> Result<CollectorSettings, String> {
        let mut settings = Settings::from_source(move |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
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
