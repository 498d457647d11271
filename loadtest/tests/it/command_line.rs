//! Tests `driftline` as a user calls it.

use std::process::{Command, Output};

use driftline_loadtest::services::{self, binary};
use driftline_loadtest::workload::Workload;
use driftline_service::clock;

use crate::harness::{Bench, PATIENCE, with_topics};

pub(crate) fn driftline(bench: &Bench, arguments: &[&str]) -> Output {
    let partitions = bench.kafka.partitions.to_string();
    Command::new(binary("driftline").unwrap())
        .args(["--bootstrap", &bench.kafka.bootstrap, "--prefix", &bench.kafka.prefix, "--partitions", &partitions])
        .args(arguments)
        .output()
        .unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_and_alerts_are_listed_shown_and_given_as_json() {
    with_topics("command_line", |bench| async move {
        let _enricher = services::start("enricher", &bench.kafka, &[], bench.logs.path()).await.unwrap();
        let _correlator = services::start("correlator", &bench.kafka, &[], bench.logs.path()).await.unwrap();
        let workload = Workload::new(1, 4, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        workload.produce_execs(&bench.producer, &workload.execs).await.unwrap();
        let mut reader = bench.collector().await;
        assert!(reader.until(PATIENCE, |seen| !seen.ocsf.is_empty() && !seen.alerts.is_empty()).await.unwrap());
        let id = reader.collected.alerts[0].0.alert_id.to_string();

        let all = ["--from-beginning", "--no-follow"];
        let findings = text(&driftline(&bench, &[&["findings", "tail"], all.as_slice()].concat()));
        assert!(findings.contains("added") && findings.contains("/tmp/drift 3"), "{findings}");
        assert!(!findings.contains('\x1b'), "no colour where nobody looks");
        let json = text(&driftline(&bench, &[&["findings", "tail", "--json"], all.as_slice()].concat()));
        let finding: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(finding["subject"]["path"], "/tmp/drift");
        let alerts = text(&driftline(&bench, &[&["alerts", "tail"], all.as_slice()].concat()));
        assert!(alerts.contains("1 create") && alerts.contains(&id[..8]), "{alerts}");
        let ocsf = text(&driftline(&bench, &[&["alerts", "tail", "--format", "ocsf"], all.as_slice()].concat()));
        let ocsf: serde_json::Value = serde_json::from_str(ocsf.lines().next().unwrap()).unwrap();
        assert_eq!(ocsf["class_uid"], 2004);
        let shown = text(&driftline(&bench, &["alerts", "show", &id[..8]]));
        for part in ["What happened", "Why this score", "What to do", "registry/app:1", "node-1"] {
            assert!(shown.contains(part), "{part} in:\n{shown}");
        }
        let unknown = driftline(&bench, &["alerts", "show", "zz"]);
        assert!(!unknown.status.success());
        assert!(String::from_utf8_lossy(&unknown.stderr).contains("no alert begins with zz"));
    })
    .await;
}
