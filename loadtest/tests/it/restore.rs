//! Measures how long a restarted instance needs for its state.

use driftline_loadtest::services::{self, Running};
use driftline_loadtest::workload::Workload;
use driftline_service::clock;

use crate::harness::{PATIENCE, metric, with_topics};

const SESSIONS: usize = 10_000;
/// The specified limit.
const RESTORE_MAX_S: f64 = 5.0;

async fn wait_for(service: &Running, name: &str, at_least: f64) {
    let deadline = tokio::time::Instant::now() + PATIENCE * 2;
    while metric(service, name).await < at_least {
        assert!(tokio::time::Instant::now() < deadline, "{name} is below {at_least}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_open_sessions_are_restored_within_five_seconds() {
    with_topics("restore", |bench| async move {
        let workload = Workload::new(SESSIONS, 4, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        let start = async |name| services::start(name, &bench.kafka, &[], bench.logs.path()).await.unwrap();
        let correlator = start("correlator").await;
        let enricher = start("enricher").await;
        workload.produce_execs(&bench.producer, &workload.execs).await.unwrap();
        let sessions = i32::try_from(SESSIONS).unwrap();
        wait_for(&correlator, "driftline_records_produced_total{topic=\"alerts\"", sessions.into()).await;
        for (name, running) in [("correlator", correlator), ("enricher", enricher)] {
            running.kill().await.unwrap();
            let successor = start(name).await;
            let seconds = metric(&successor, "driftline_restore_seconds_sum").await;
            let keys = metric(&successor, "driftline_state_keys_restored_total").await;
            println!("{name}: {keys} state keys restored in {seconds:.2} s");
            assert!(keys >= sessions.into(), "{name} restored {keys} keys");
            assert!(seconds < RESTORE_MAX_S, "{name} took {seconds} s");
        }
    })
    .await;
}
