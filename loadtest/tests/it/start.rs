//! Starting with bad settings, or without Kafka.

use std::process::{Command, Output};
use std::time::Duration;

use driftline_loadtest::services::binary;
use driftline_service::clock;

use crate::harness::{can_load_ebpf, skip};

/// The services that start on this machine as far as their settings.
const SERVICES: [&str; 4] = ["indexer", "enricher", "correlator", "collector"];

fn run(service: &str, settings: &[(&str, &str)]) -> Output {
    Command::new(binary(&format!("driftline-{service}")).unwrap())
        .env_clear()
        .envs(settings.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn every_bad_setting_is_listed_in_one_message() {
    for service in SERVICES {
        let output = run(
            service,
            &[
                ("KAFKA_BOOTSTRAP", "nowhere"),
                ("DRIFTLINE_TOPIC_PREFIX", "a b"),
                ("DRIFTLINE_PARTITIONS", "many"),
                ("DRIFTLINE_TELEMETRY_ADDR", "9460"),
                ("DRIFTLINE_LOG_FORMAT", "xml"),
            ],
        );
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{service} started:\n{message}");
        for part in ["nowhere", "a b", "many", "9460", "xml"] {
            assert!(message.contains(part), "{service} does not name {part}:\n{message}");
        }
    }
}

#[test]
fn what_must_be_set_is_asked_for() {
    for service in SERVICES {
        let output = run(service, &[]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains("KAFKA_BOOTSTRAP: is not set"), "{service}:\n{message}");
    }
}

#[test]
fn without_kafka_a_service_says_so_and_ends() {
    for service in SERVICES {
        if service == "collector" && !can_load_ebpf() {
            skip("without_kafka_a_service_says_so_and_ends (collector)", "needs root and BTF");
            continue;
        }
        let spool = tempfile::tempdir().unwrap();
        let began = clock::monotonic();
        let output = run(
            service,
            &[
                ("KAFKA_BOOTSTRAP", "127.0.0.1:1"),
                ("DRIFTLINE_KAFKA_WAIT_S", "2"),
                ("DRIFTLINE_TELEMETRY_ADDR", "127.0.0.1:0"),
                ("DRIFTLINE_SPOOL_DIR", spool.path().to_str().unwrap()),
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ],
        );
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{service} ended well:\n{message}");
        assert!(message.contains("no Kafka answers at 127.0.0.1:1"), "{service}:\n{message}");
        assert!(began.elapsed() < Duration::from_secs(20), "{service} took {:?}", began.elapsed());
    }
}
