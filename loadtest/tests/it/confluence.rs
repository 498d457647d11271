//! Tests that the same recording gives the same alerts, whatever processes it: one process without Kafka, or services
//! with any number of partitions and instances, some of which are killed meanwhile.

use std::path::PathBuf;

use driftline_kafka::{ClientSettings, admin};
use driftline_loadtest::collect::Collected;
use driftline_loadtest::services::{self, Running};
use driftline_loadtest::workload::Workload;
use driftline_service::clock;
use serde_json::Value;

use crate::command_line::{driftline, text};
use crate::harness::{Bench, PATIENCE, with_topics};

const REAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/first-alert/recording.avro");
/// Short, so that the services emit their final revision within the test's waiting time.
const GAP_S: &str = "4";

/// The way in which the recording is processed.
#[derive(Debug, Clone, Copy)]
struct Course {
    partitions: i32,
    instances: usize,
    disturbed: Disturbed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbed {
    No,
    /// One instance of each service is killed after the first findings, and restarted.
    ByKill,
}

const COURSES: [Course; 4] = [
    Course { partitions: 1, instances: 1, disturbed: Disturbed::No },
    Course { partitions: 3, instances: 1, disturbed: Disturbed::ByKill },
    Course { partitions: 3, instances: 3, disturbed: Disturbed::No },
    Course { partitions: 8, instances: 3, disturbed: Disturbed::ByKill },
];

/// The output of an analysis of the recording, run twice; one alert per line.
fn analysed(bench: &Bench, recording: &str) -> Vec<Value> {
    let analyze = || driftline(bench, &["analyze", recording, "--json", "--session-gap-s", GAP_S]);
    let (first, second) = (analyze(), analyze());
    assert_eq!(first.stdout, second.stdout, "identical bytes");
    text(&first).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn start(bench: &Bench, service: &str, number: usize) -> Running {
    let instance = number.to_string();
    let settings = [("DRIFTLINE_SESSION_GAP_S", GAP_S), ("DRIFTLINE_INSTANCE", instance.as_str())];
    services::start(service, &bench.kafka, &settings, bench.logs.path()).await.unwrap()
}

async fn run(bench: &Bench, recording: &str, course: Course, baseline: &[Value]) {
    let mut running = Vec::new();
    for number in 0..course.instances {
        for service in ["enricher", "correlator"] {
            running.push((service, number, start(bench, service, number).await));
        }
    }
    text(&driftline(bench, &["replay", recording, "--append"]));
    if course.disturbed == Disturbed::ByKill {
        assert!(bench.collector().await.until(PATIENCE, |seen| !seen.findings.is_empty()).await.unwrap());
        for (service, number, victim) in running.drain(..2).collect::<Vec<_>>() {
            victim.kill().await.unwrap();
            running.push((service, number, start(bench, service, number).await));
        }
    }
    let count: i64 = baseline.iter().map(|alert| alert["finding_count"].as_i64().unwrap()).sum();
    let complete = |seen: &Collected| {
        let newest = seen.newest_alerts();
        newest.iter().all(|alert| alert.r#final) && newest.iter().map(|alert| alert.finding_count).sum::<i64>() >= count
    };
    assert!(bench.collector().await.until(PATIENCE, complete).await.unwrap(), "{course:?}: not everything came");
}

async fn expect_the_same_alerts(bench: &Bench, recording: &str, courses: &[Course]) {
    let baseline = analysed(bench, recording);
    assert!(!baseline.is_empty());
    for (number, course) in courses.iter().enumerate() {
        let prefix = format!("{}-{number}", bench.kafka.prefix);
        let kafka = ClientSettings { prefix, partitions: course.partitions, ..bench.kafka.clone() };
        admin::create(&kafka, 1).await.unwrap();
        let own = Bench { kafka, producer: bench.producer.clone(), logs: tempfile::tempdir().unwrap() };
        run(&own, recording, *course, &baseline).await;
        let alerts = own.logs.path().join("alerts.avro");
        let alerts = alerts.to_str().unwrap();
        text(&driftline(&own, &["record", alerts, "--topics", "alerts"]));
        let compared = driftline(&own, &["analyze", recording, "--session-gap-s", GAP_S, "--diff", alerts]);
        let stderr = String::from_utf8_lossy(&compared.stderr).into_owned();
        let differences = String::from_utf8_lossy(&compared.stdout).into_owned();
        assert!(compared.status.success(), "{course:?}: {differences}{stderr}");
        assert!(stderr.contains(&format!("no difference: {} alerts are the same", baseline.len())), "{stderr}");
        admin::delete_all(&own.kafka).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_a_real_run_gives_the_same_alerts_however_it_is_run() {
    with_topics("confluence_real", |bench| async move {
        expect_the_same_alerts(&bench, REAL, &COURSES).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_many_containers_gives_the_same_alerts_however_it_is_run() {
    with_topics("confluence_many", |bench| async move {
        let workload = Workload::new(100, 400, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        workload.produce_execs(&bench.producer, &workload.execs).await.unwrap();
        let recording: PathBuf = bench.logs.path().join("recording.avro");
        let recording = recording.to_str().unwrap();
        text(&driftline(&bench, &["record", recording]));
        expect_the_same_alerts(&bench, recording, &COURSES).await;
    })
    .await;
}
