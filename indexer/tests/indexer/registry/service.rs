//! The service in registry mode on a real Kafka: it answers for every node, with the image or with the reason of the
//! failure.

use driftline_indexer::registry::run;
use driftline_kafka::{Producer, ReadFrom, TopicReader, admin};
use driftline_schemas::topics::Topic;
use driftline_schemas::{ImageFailure, ImageId, Sha256, encode};
use driftline_service::clock;
use driftline_service::telemetry::Telemetry;

use super::world;
use crate::node::{PATIENCE, image, kafka, manifests, request};
use crate::tools::{or_skip, setting, skip};

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_any_node_are_answered_from_the_registry() {
    const NAME: &str = "requests_of_any_node_are_answered_from_the_registry";
    let Some(bootstrap) = setting("KAFKA_BOOTSTRAP") else { return skip(NAME, "KAFKA_BOOTSTRAP is not set") };
    let Some(world) = or_skip(NAME, tokio::task::spawn_blocking(world).await.unwrap()) else { return };
    let kafka = kafka(bootstrap, &format!("registry-{}-{}", std::process::id(), clock::now_ns()));
    admin::create(&kafka, 1).await.unwrap();
    let mut settings = super::settings(world.registry.port, &[("DRIFTLINE_CLUSTER", "test".to_owned())]);
    settings.service.kafka = kafka.clone();
    let mut images = TopicReader::start(&kafka, &[Topic::Images], ReadFrom::Beginning).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let telemetry = Telemetry::new("indexer");
    let service =
        tokio::spawn(async move { run(settings, &telemetry, async { stopped.await.unwrap_or("dropped") }).await });

    let producer = Producer::new(&kafka).unwrap();
    let reference = format!("127.0.0.1:{}/team/app", world.registry.port);
    let absent = ImageId::from(Sha256::of(b"absent").to_digest().as_str());
    let config = ImageId::from(world.config.as_str());
    for (image_id, tag, node) in [(&config, "1", "node-7"), (&absent, "gone", "node-8")] {
        let mut request = request(image_id, node);
        request.reference = format!("{reference}:{tag}");
        let request = encode(&request).unwrap();
        producer.send(Topic::ImageRequests, image_id.as_str().as_bytes(), &request, &[]).await.unwrap();
    }
    let (mut published, mut failed) = (None, None);
    while published.is_none() || failed.is_none() {
        let next = image(&mut images, |_| true).await;
        let slot = if next.failed.is_none() { &mut published } else { &mut failed };
        *slot = Some(next);
    }
    let published = published.unwrap();
    assert_eq!((published.image_id.as_str(), published.source.as_str()), (world.config.as_str(), "registry:central"));
    assert_eq!(published.references, [format!("{reference}:1")]);
    assert_eq!(published.diff_ids, world.expect.image.diff_ids);
    let failed = failed.unwrap();
    assert_eq!((&failed.image_id, failed.failure), (&absent, ImageFailure::Unavailable));
    assert_eq!(failed.failed, Some(format!("{reference}:gone does not have it")));
    assert!(failed.retry_ns > failed.indexed_ns);
    let on_topic = manifests(&kafka).await;
    for layer in &world.expect.layers {
        let (head, found) = on_topic.iter().find(|(head, _)| head.diff_id == layer.diff_id).unwrap();
        assert_eq!((found, head.source.as_str()), (&layer.manifest, "registry:central"));
    }

    stop.send("the test ends").unwrap();
    tokio::time::timeout(PATIENCE, service).await.unwrap().unwrap().unwrap();
    drop(images);
    admin::delete_all(&kafka).await.unwrap();
}
