//! Tests the enricher's image store on disk: unused content is collected, and read from the topic again.

use std::time::Duration;

use driftline_kafka::{ReadFrom, ReaderEvent, TopicReader};
use driftline_loadtest::collect::Collector;
use driftline_loadtest::services::{self, Running};
use driftline_loadtest::workload::Workload;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Finding, ImageRequest, decode};
use driftline_service::clock;

use crate::harness::{Bench, PATIENCE, metric, with_topics};

const COLLECTED: &str = "driftline_enricher_manifests_collected_total";
const READ: &str = "driftline_enricher_manifests_read_again_total{result=\"read\"";
const POLL: Duration = Duration::from_millis(50);

/// An enricher that keeps unused content for a second.
async fn enricher(bench: &Bench, extra: &[(&str, &str)]) -> Running {
    let directory = bench.logs.path().join("store");
    let settings = [("DRIFTLINE_IMAGE_KEEP_S", "1"), ("DRIFTLINE_STORE_DIR", directory.to_str().unwrap())];
    services::start("enricher", &bench.kafka, &[&settings, extra].concat(), bench.logs.path()).await.unwrap()
}

async fn until(service: &Running, name: &str, at_least: f64) {
    for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
        if metric(service, name).await >= at_least {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
    panic!("{name} does not reach {at_least}:\n{}", service.log_end());
}

/// One container whose fourth exec drifts.
async fn run(bench: &Bench, workload: &Workload) -> Collector {
    workload.produce_containers(&bench.producer).await.unwrap();
    workload.produce_execs(&bench.producer, &workload.execs).await.unwrap();
    bench.collector().await
}

async fn first_finding(reader: &mut Collector) -> Finding {
    assert!(reader.until(PATIENCE, |seen| !seen.findings.is_empty()).await.unwrap(), "a finding");
    reader.collected.findings[0].clone()
}

/// Requests that are on the topic now.
async fn requests(bench: &Bench) -> Vec<ImageRequest> {
    let mut reader = TopicReader::start(&bench.kafka, &[Topic::ImageRequests], ReadFrom::Beginning).await.unwrap();
    let mut found = Vec::new();
    while let Some(ReaderEvent::Record(record)) = reader.next().await {
        found.push(decode(&record.value.unwrap()).unwrap());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collected_image_is_read_from_the_topic_again_when_a_container_uses_it() {
    with_topics("image store", |bench| async move {
        let workload = Workload::new(1, 4, clock::now_ns());
        let first = enricher(&bench, &[]).await;
        workload.publish_image(&bench.producer).await.unwrap();
        until(&first, COLLECTED, 1.0).await;
        assert!(metric(&first, "driftline_enricher_collected_bytes_total").await > 0.0);
        // Collections are still known after a kill.
        first.kill().await.unwrap();
        let second = enricher(&bench, &[]).await;
        let mut reader = run(&bench, &workload).await;
        let finding = first_finding(&mut reader).await;
        assert_eq!((finding.unresolved, finding.revision), (None, 1), "it did not go out without the image");
        assert!((metric(&second, READ).await - 1.0).abs() < f64::EPSILON);
        assert_eq!(requests(&bench).await, [], "nobody had to publish it again");
        // Content is kept while the container runs.
        let before = metric(&second, COLLECTED).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!((metric(&second, COLLECTED).await - before).abs() < f64::EPSILON);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collected_image_that_the_topic_has_no_longer_is_asked_for() {
    with_topics("image store without topic", |bench| async move {
        let workload = Workload::new(1, 4, clock::now_ns());
        let enricher = enricher(&bench, &[("DRIFTLINE_PARK_MS", "500")]).await;
        workload.publish_image(&bench.producer).await.unwrap();
        until(&enricher, COLLECTED, 1.0).await;
        let mut layers = TopicReader::start(&bench.kafka, &[Topic::ImageLayers], ReadFrom::Beginning).await.unwrap();
        while let Some(ReaderEvent::Record(record)) = layers.next().await {
            let key = record.key.unwrap();
            bench.producer.send_to(record.topic, record.partition, &key, None, &[]).await.unwrap();
        }
        bench.producer.settled().await.unwrap();
        let mut reader = run(&bench, &workload).await;
        let finding = first_finding(&mut reader).await;
        assert_eq!(finding.unresolved.as_deref(), Some("no_manifest"));
        let requested = requests(&bench).await;
        assert_eq!(requested.iter().map(|it| it.node.as_str()).collect::<Vec<_>>(), ["node-1"]);
        workload.publish_image(&bench.producer).await.unwrap();
        let amended = |seen: &Finding| seen.revision == 2 && seen.unresolved.is_none();
        assert!(reader.until(PATIENCE, |seen| seen.findings.iter().any(amended)).await.unwrap(), "an amendment");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_same_node_another_node_s_image_is_not_used_and_the_own_node_is_requested() {
    with_topics("same node", |bench| async move {
        let workload = Workload::new(1, 4, clock::now_ns());
        let settings = [("DRIFTLINE_TRUST", "same-node"), ("DRIFTLINE_PARK_MS", "500")];
        let enricher = enricher(&bench, &settings).await;
        workload.publish_image_as(&bench.producer, "node:node-2").await.unwrap();
        until(&enricher, "driftline_images_known", 1.0).await;
        let mut reader = run(&bench, &workload).await;
        assert_eq!(first_finding(&mut reader).await.unresolved.as_deref(), Some("no_manifest"));
        let requested = requests(&bench).await;
        assert_eq!(requested.iter().map(|it| it.node.as_str()).collect::<Vec<_>>(), ["node-1"]);
        workload.publish_image_as(&bench.producer, "node:node-1").await.unwrap();
        let amended = |seen: &Finding| seen.revision == 2 && seen.unresolved.is_none();
        assert!(reader.until(PATIENCE, |seen| seen.findings.iter().any(amended)).await.unwrap(), "an amendment");
    })
    .await;
}
