//! Tests that `driftline analyze` emits for a recording what the services emit when it is replayed to them.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::process::Output;

use driftline_loadtest::expected::Expected;
use driftline_loadtest::services;
use serde_json::Value;

use crate::command_line::{driftline, text};
use crate::harness::{Bench, PATIENCE, with_topics};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/first-alert");
/// Short, so that the services emit their final revision within the test's waiting time.
const GAP_S: &str = "4";

fn analyze(bench: &Bench, recording: &str, more: &[&str]) -> Output {
    driftline(bench, &[&["analyze", recording, "--session-gap-s", GAP_S], more].concat())
}

fn stderr_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs the services on the recording.
async fn run_live(bench: &Bench, recording: &str) {
    let expected = BufReader::new(File::open(format!("{DIRECTORY}/expected.json")).unwrap());
    let expected: Expected = serde_json::from_reader(expected).unwrap();
    let gap = [("DRIFTLINE_SESSION_GAP_S", GAP_S)];
    let _enricher = services::start("enricher", &bench.kafka, &[], bench.logs.path()).await.unwrap();
    let _correlator = services::start("correlator", &bench.kafka, &gap, bench.logs.path()).await.unwrap();
    text(&driftline(bench, &["replay", recording]));
    let complete = bench.collector().await.until(PATIENCE, |seen| expected.is_complete(seen)).await.unwrap();
    assert!(complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analysis_says_what_the_services_say() {
    with_topics("analyze", |bench| async move {
        let recording = format!("{DIRECTORY}/recording.avro");
        run_live(&bench, &recording).await;
        let file = |name: &str| bench.logs.path().join(name).to_str().unwrap().to_owned();
        let (alerts, findings) = (file("alerts.avro"), file("findings.avro"));
        text(&driftline(&bench, &["record", &alerts, "--topics", "alerts"]));
        text(&driftline(&bench, &["record", &findings, "--topics", "findings"]));
        for analysed in [&recording, &findings] {
            let compared = analyze(&bench, analysed, &["--diff", &alerts]);
            assert!(compared.status.success(), "{}{}", String::from_utf8_lossy(&compared.stdout), stderr_of(&compared));
            assert!(stderr_of(&compared).contains("no difference: 1 alerts are the same"), "{}", stderr_of(&compared));
            assert!(!stderr_of(&compared).contains("other versions"), "{}", stderr_of(&compared));
        }
        differences(&bench, &recording, Path::new(&file("alerts.jsonl")));

        let images = file("images.avro");
        text(&driftline(&bench, &["record", &images, "--topics", "images"]));
        assert!(stderr_of(&analyze(&bench, &images, &[])).contains("nothing to analyse"));
    })
    .await;
}

/// Compares with the output of an analysis, unchanged and changed.
fn differences(bench: &Bench, recording: &str, saved: &Path) {
    let json = text(&analyze(bench, recording, &["--json"]));
    assert_eq!(json, text(&analyze(bench, recording, &["--json"])), "the same bytes every time");
    fs::write(saved, &json).unwrap();
    let against = ["--diff", saved.to_str().unwrap()];
    assert!(analyze(bench, recording, &against).status.success());

    let mut alert: Value = serde_json::from_str(json.trim()).unwrap();
    alert["score"] = 12.into();
    fs::write(saved, alert.to_string()).unwrap();
    let changed = analyze(bench, recording, &against);
    let line = String::from_utf8(changed.stdout.clone()).unwrap();
    assert_eq!(changed.status.code(), Some(1), "{}", stderr_of(&changed));
    assert!(line.starts_with("changed") && line.contains("12 → 90") && line.contains("[score]"), "{line}");
    let changed = analyze(bench, recording, &[&against[..], &["--json"]].concat());
    let changed: Value = serde_json::from_slice(&changed.stdout).unwrap();
    assert_eq!((&changed["change"], &changed["before"]["score"]), (&"changed".into(), &12.into()));
}
