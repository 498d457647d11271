//! Tests starting with bad settings, or without Kafka.

use std::process::{Command, Output};
use std::time::Duration;

use driftline_loadtest::services::binary;
use driftline_service::clock;

use crate::harness::{can_load_ebpf, skip};

/// The services that start on this machine as far as reading their settings.
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
fn a_configuration_file_is_read_and_everything_wrong_in_it_is_listed_beside_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("driftline.toml");
    let text =
        "kafka_bootstrap = \"nowhere\"\npartitions = \"many\"\nsesion_gap_s = 5\nregistry_proxy = [\"hunter2\"]\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for program in SERVICES.map(|service| format!("driftline-{service}")).into_iter().chain(["driftline".to_owned()]) {
        for by_option in [true, false] {
            let mut command = Command::new(binary(&program).unwrap());
            command.env_clear().env("DRIFTLINE_TOPIC_PREFIX", "a b").env("DRIFTLINE_REGISTRY_PROXY", "");
            if program == "driftline" {
                command.args(["topics", "list"]);
            }
            if by_option {
                command.args(["--config", file]).env("DRIFTLINE_CONFIG", "/nowhere");
            } else {
                command.env("DRIFTLINE_CONFIG", file);
            }
            let output = command.output().unwrap();
            let message = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{program} started:\n{message}");
            for part in [
                "4 of the settings cannot be used".to_owned(),
                format!("kafka_bootstrap: \"nowhere\" is not host:port ({file}:1)"),
                format!("partitions: \"many\" is not a whole number between 1 and 1000 ({file}:2)"),
                format!("{file}:3: sesion_gap_s is not a setting; did you mean session_gap_s?"),
                "DRIFTLINE_TOPIC_PREFIX: \"a b\" is not 1 to 200 letters".to_owned(),
            ] {
                assert!(message.contains(&part), "{program} lacks {part}:\n{message}");
            }
            assert!(!message.contains("hunter2"), "{message}");
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
