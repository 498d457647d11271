//! Tests that the committed recording of a real run leads to the known results of that run.

use std::fs::File;
use std::io::BufReader;
use std::process::Command;

use driftline_loadtest::expected::Expected;
use driftline_loadtest::services::{self, binary};

use crate::harness::{PATIENCE, with_topics};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/first-alert");

#[tokio::test(flavor = "multi_thread")]
async fn the_recording_of_a_real_run_gives_its_findings_and_alert() {
    with_topics("recording", |bench| async move {
        let expected: Expected =
            serde_json::from_reader(BufReader::new(File::open(format!("{DIRECTORY}/expected.json")).unwrap())).unwrap();
        let gap = [("DRIFTLINE_SESSION_GAP_S", "4")];
        let _enricher = services::start("enricher", &bench.kafka, &[], bench.logs.path()).await.unwrap();
        let _correlator = services::start("correlator", &bench.kafka, &gap, bench.logs.path()).await.unwrap();
        let replay = Command::new(binary("driftline").unwrap())
            .args(["--bootstrap", &bench.kafka.bootstrap, "--prefix", &bench.kafka.prefix, "--partitions", "3"])
            .args(["replay", &format!("{DIRECTORY}/recording.avro")])
            .output()
            .unwrap();
        assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
        let mut reader = bench.collector().await;
        let complete = reader.until(PATIENCE, |seen| expected.is_complete(seen)).await.unwrap();
        reader.collected.keep_only(&expected.container);
        let differences = expected.differences(&reader.collected);
        assert!(complete && differences.is_empty(), "{differences:#?}");
    })
    .await;
}
