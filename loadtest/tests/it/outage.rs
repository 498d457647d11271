//! Tests a Kafka that does not answer for longer than any call may take: services wait, log the outage, and continue,
//! in the same process.

use std::path::Path;
use std::time::Duration;

use driftline_kafka::{ClientSettings, Producer, admin};
use driftline_loadtest::own_kafka::OwnKafka;
use driftline_loadtest::services::{self, Running};
use driftline_loadtest::workload::Workload;
use driftline_service::clock;
use driftline_settings::Settings;
use tokio::time::Instant;

use crate::delivery::expect_everything;
use crate::harness::{Bench, PATIENCE, kafka, metric, skip};

const RECEIVED: &str = "driftline_records_received_total";
const REJOINS: &str = "driftline_rejoins_total";
/// Longer than a call (20 s), a membership (15 s) and a transaction (25 s) may last; or [`AWAY_VARIABLE`].
const AWAY: Duration = Duration::from_secs(40);
/// Variable with the length in seconds, for longer outages than a test run has time for.
const AWAY_VARIABLE: &str = "DRIFTLINE_OUTAGE_S";
/// A call's 20 s, and the delay of a busy machine.
const NOTICED_MAX: Duration = Duration::from_secs(30);
/// The 10 s that a step may take after the signal, the 10 s for closing, and the delay of a busy machine.
const ENDS_MAX: Duration = Duration::from_secs(25);

async fn own_bench(name: &str) -> Option<(OwnKafka, Bench)> {
    let Some(shared) = kafka() else {
        skip(name, "KAFKA_BOOTSTRAP is not set");
        return None;
    };
    let own = match OwnKafka::start(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))) {
        Ok(own) => own,
        Err(error) => {
            skip(name, &format!("needs a Kafka of its own: {error}"));
            return None;
        }
    };
    let kafka = ClientSettings { bootstrap: own.bootstrap.clone(), ..shared };
    admin::create(&kafka, 1).await.unwrap();
    let producer = Producer::new(&kafka).unwrap();
    Some((own, Bench { kafka, producer, logs: tempfile::tempdir().unwrap() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_away_is_waited_for_and_nothing_is_lost_or_said_twice() {
    let Some((own, bench)) = own_bench("outage").await else { return };
    let workload = Workload::new(20, 400, clock::now_ns());
    workload.publish_image(&bench.producer).await.unwrap();
    workload.produce_containers(&bench.producer).await.unwrap();
    let (first, rest) = workload.execs.split_at(workload.execs.len() / 2);
    let settings = [("DRIFTLINE_SESSION_GAP_S", "5")];
    let enricher = services::start("enricher", &bench.kafka, &settings, bench.logs.path()).await.unwrap();
    let correlator = services::start("correlator", &bench.kafka, &settings, bench.logs.path()).await.unwrap();
    let mut services = [enricher, correlator];
    workload.produce_execs(&bench.producer, first).await.unwrap();
    while metric(&services[0], RECEIVED).await <= 40.0 {
        tokio::task::yield_now().await;
    }
    own.freeze().unwrap();
    let began = Instant::now();
    for service in &services {
        until_unready(service).await;
    }
    println!("both report that they are not ready after {:?}", began.elapsed());
    let away = Settings::of_environment().environment(AWAY_VARIABLE);
    let away = away.map_or(AWAY, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    tokio::time::sleep_until(began + away).await;
    for service in &mut services {
        assert!(service.ended().unwrap().is_none(), "no process ends:\n{}", service.log_end());
    }
    let answer = services[0].get("/readyz").await.unwrap();
    assert!(answer.contains("joining kafka anew"), "{answer}");
    own.thaw().unwrap();
    workload.produce_execs(&bench.producer, rest).await.unwrap();
    expect_everything(&bench, &workload).await;
    println!("enricher:\n{}\ncorrelator:\n{}", services[0].log_end(), services[1].log_end());
    assert!(metric(&services[0], REJOINS).await >= 1.0, "the enricher had a transaction open");
    for service in services {
        assert!(service.get("/readyz").await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(service.terminate().await.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_waits_for_kafka_ends_when_it_is_told_to() {
    let Some((own, bench)) = own_bench("outage_stop").await else { return };
    let workload = Workload::new(20, 400, clock::now_ns());
    workload.publish_image(&bench.producer).await.unwrap();
    workload.produce_containers(&bench.producer).await.unwrap();
    let enricher = services::start("enricher", &bench.kafka, &[], bench.logs.path()).await.unwrap();
    workload.produce_execs(&bench.producer, &workload.execs).await.unwrap();
    while metric(&enricher, RECEIVED).await <= 40.0 {
        tokio::task::yield_now().await;
    }
    // One service is in the middle of a step, the other between steps.
    let idle = services::start("correlator", &bench.kafka, &[], bench.logs.path()).await.unwrap();
    own.freeze().unwrap();
    let began = Instant::now();
    let (enricher, idle) = tokio::join!(enricher.terminate(), idle.terminate());
    let took = began.elapsed();
    println!("ended after {took:?}");
    assert!(enricher.unwrap().success() && idle.unwrap().success());
    assert!(took <= ENDS_MAX, "{took:?}");
}

async fn until_unready(service: &Running) {
    let deadline = Instant::now() + NOTICED_MAX.min(PATIENCE);
    while service.get("/readyz").await.unwrap().starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "still ready:\n{}", service.log_end());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
