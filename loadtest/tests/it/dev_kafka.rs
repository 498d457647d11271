//! Tests how `deploy/dev/kafka.sh down` handles the data of the Kafka that it stops. No broker runs for this.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the script with a state directory of its own.
fn down(state: &Path, arguments: &[&str]) -> Output {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/dev/kafka.sh");
    let mut command = Command::new(script);
    command.arg("down").args(arguments).env("KAFKA_STATE", state).env_remove("KAFKA_BOOTSTRAP");
    command.output().unwrap()
}

#[test]
fn stopping_kafka_deletes_its_data_only_when_asked_to() {
    let state = tempfile::tempdir().unwrap();
    let data = state.path().join("data");
    let is_retained = |arguments: &[&str]| {
        fs::create_dir_all(&data).unwrap();
        let output = down(state.path(), arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let is_printed = String::from_utf8_lossy(&output.stdout).contains("make down DATA=delete");
        assert_eq!(is_printed, data.exists(), "what stays is printed");
        data.exists()
    };
    assert!(is_retained(&[]));
    assert!(is_retained(&["--delete-own"]), "it was there before");
    assert!(!is_retained(&["--delete-data"]));
    fs::write(state.path().join("data.own"), "").unwrap();
    assert!(!is_retained(&["--delete-own"]), "it was made for what ends now");
    assert!(is_retained(&["--delete-own"]), "this one was not");
    assert!(!down(state.path(), &["--delete"]).status.success());
}
