//! The service on a real Kafka with a real podman, and with a containerd's pods: the image of a container that just
//! runs is published without a request, a request is answered, and the chunks on the topic form the same manifests as
//! the archive.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use driftline_engines::Runtimes;
use driftline_engines::testing::{IMAGE, PodSpec, Pods};
use driftline_enricher_core::Trust;
use driftline_indexer::node::{NodeSettings, index_image, run};
use driftline_indexer::{ServiceSettings, index_archive};
use driftline_kafka::{ClientSettings, Producer, ReadFrom, ReaderEvent, TopicReader, admin};
use driftline_schemas::layer::LayerManifest;
use driftline_schemas::topics::{Topic, partition_of};
use driftline_schemas::{Image, ImageId, ImageRequest, LayerEvent, LayerHead, Sha256, decode, encode};
use driftline_service::clock;
use driftline_service::telemetry::Telemetry;

use crate::oci::{file, layer};
use crate::tools::{or_skip, podman, setting, skip, wanted};

/// Longest wait for anything; a cold podman and broker need a few seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A container of a new image, removed at the end.
struct Container {
    id: String,
    tag: String,
}

impl Container {
    fn start(nonce: &str) -> Result<Self, String> {
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = std::fs::read(busybox.ok_or("no busybox; install busybox-static")?).unwrap();
        let archive = tempfile::NamedTempFile::new().unwrap();
        let root = layer(&[file("bin/busybox", &busybox), file("nonce", nonce.as_bytes())]);
        std::fs::write(archive.path(), root).unwrap();
        let tag = format!("localhost/driftline-test-indexer:{nonce}");
        podman(&["import", "--quiet", &archive.path().to_string_lossy(), &tag])?;
        let mut container = Self { id: String::new(), tag };
        let limits = ["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"];
        let command = [container.tag.as_str(), "/bin/busybox", "sleep", "600"];
        container.id = podman(&[&["run", "--detach"], &limits[..], &command].concat())?;
        Ok(container)
    }

    fn image_id(&self) -> ImageId {
        let id = podman(&["container", "inspect", "--format", "{{.Image}}", &self.id]).unwrap();
        ImageId::from(format!("sha256:{id}").as_str())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = podman(&["rm", "--force", "--time=0", &self.id]);
        let _ = podman(&["rmi", "--force", &self.tag]);
    }
}

/// The next image record for which `is_it` returns true.
pub(crate) async fn image(reader: &mut TopicReader, is_it: impl Fn(&Image) -> bool) -> Image {
    let found = async {
        loop {
            if let Some(ReaderEvent::Record(record)) = reader.next().await {
                let image: Image = decode(&record.value.unwrap()).unwrap();
                assert_eq!(record.key.as_deref(), Some(image.key().as_bytes()));
                if is_it(&image) {
                    return image;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

/// Every manifest on the image-layers topic, assembled from its chunks.
pub(crate) async fn manifests(settings: &ClientSettings) -> Vec<(LayerHead, LayerManifest)> {
    let mut reader = TopicReader::start(settings, &[Topic::ImageLayers], ReadFrom::Beginning).await.unwrap();
    let mut chunks: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut found = Vec::new();
    while let Some(ReaderEvent::Record(record)) = reader.next().await {
        let key = String::from_utf8(record.key.unwrap()).unwrap();
        match LayerEvent::decode(&record.value.unwrap()).unwrap() {
            LayerEvent::Chunk(chunk) => {
                assert_eq!(key, format!("{}/{}", chunk.manifest_sha256, chunk.index));
                chunks.insert(key, chunk.data);
            }
            LayerEvent::Head(head) => {
                assert_eq!(key, format!("{}/{}", head.diff_id, head.source));
                assert_eq!(record.partition, partition_of(head.diff_id.as_str().as_bytes(), settings.partitions));
                let all = (0..head.chunk_count).map(|index| {
                    let key = format!("{}/{index}", head.manifest_sha256);
                    chunks.get(&key).expect("a chunk stands before its head").as_slice()
                });
                let manifest = LayerManifest::assemble(&head, all).unwrap();
                found.push((head, manifest));
            }
        }
    }
    found
}

pub(crate) fn kafka(bootstrap: String, nonce: &str) -> ClientSettings {
    ClientSettings {
        bootstrap,
        prefix: format!("driftline-test-indexer-{nonce}"),
        partitions: 3,
        client_id: "driftline-indexer-test".to_owned(),
    }
}

fn settings(bootstrap: String, nonce: &str) -> NodeSettings {
    let kafka = kafka(bootstrap, nonce);
    let mut source = driftline_settings::Settings::of_values([("KAFKA_BOOTSTRAP", "127.0.0.1:1")]);
    let defaults = NodeSettings::read(&mut source);
    let (cluster, node) = ("test".to_owned(), "node-1".to_owned());
    let service = ServiceSettings { kafka, cluster, ..defaults.service };
    NodeSettings { service, node, scan_pause: Duration::from_millis(200), ..defaults }
}

pub(crate) fn request(image_id: &ImageId, node: &str) -> ImageRequest {
    ImageRequest {
        image_id: image_id.clone(),
        reference: "registry.example/received:1".to_owned(),
        runtime: "podman".to_owned(),
        cluster: "test".to_owned(),
        node: node.to_owned(),
        why: "no_manifest".to_owned(),
        requested_ns: clock::now_ns(),
    }
}

/// The keys that `driftline images remove` deletes of an image whose layers no other image has, heads and image in the
/// command's order.
fn removal(image: &Image, layers: &[(LayerHead, LayerManifest)]) -> Vec<(String, Topic)> {
    let of = |(head, _): &(LayerHead, LayerManifest)| format!("{}/{}", head.diff_id, head.source);
    let heads = layers.iter().map(|layer| (of(layer), Topic::ImageLayers));
    heads.chain([(image.key(), Topic::Images)]).collect()
}

/// Requests an image as an enricher does, until a record of it is published after this time.
async fn request_until(producer: &Producer, images: &mut TopicReader, image_id: &ImageId, after_ns: i64) -> Image {
    loop {
        let received = encode(&request(image_id, "node-1")).unwrap();
        producer.send(Topic::ImageRequests, image_id.as_str().as_bytes(), &received, &[]).await.unwrap();
        let next = async {
            loop {
                let Some(ReaderEvent::Record(record)) = images.next().await else { continue };
                let Some(value) = record.value else { continue };
                let image: Image = decode(&value).unwrap();
                if image.image_id == *image_id && image.indexed_ns > after_ns {
                    return image;
                }
            }
        };
        if let Ok(image) = tokio::time::timeout(Duration::from_secs(2), next).await {
            return image;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_running_containers_are_published_and_requests_answered() {
    const NAME: &str = "images_of_running_containers_are_published_and_requests_answered";
    let Some(bootstrap) = setting("KAFKA_BOOTSTRAP") else { return skip(NAME, "KAFKA_BOOTSTRAP is not set") };
    let nonce = format!("{}-{}", std::process::id(), clock::now_ns());
    let Some(container) = or_skip(NAME, Container::start(&nonce)) else { return };
    let settings = settings(bootstrap, &nonce);
    let kafka = settings.service.kafka.clone();
    admin::create(&kafka, 1).await.unwrap();
    let mut images = TopicReader::start(&kafka, &[Topic::Images], ReadFrom::Beginning).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let telemetry = Telemetry::new("indexer");
    let service =
        tokio::spawn(async move { run(settings, &telemetry, async { stopped.await.unwrap_or("dropped") }).await });

    let image_id = container.image_id();
    let published = image(&mut images, |image| image.image_id == image_id).await;
    assert_eq!((published.failed.as_deref(), published.source.as_str()), (None, "node:node-1"));
    assert_eq!(published.references, [container.tag.as_str()]);
    let archive = tempfile::NamedTempFile::new().unwrap();
    let id = image_id.as_str().trim_start_matches("sha256:");
    let path = archive.path().to_string_lossy().into_owned();
    podman(&["image", "save", "--quiet", "--format", "docker-archive", "--output", &path, id]).unwrap();
    let expect = index_archive(archive.reopen().unwrap(), &wanted(Some(&image_id))).unwrap();
    assert_eq!(published.diff_ids, expect.image.diff_ids);
    let on_topic = manifests(&kafka).await;
    for layer in &expect.layers {
        let (head, found) = on_topic.iter().find(|(head, _)| head.diff_id == layer.diff_id).unwrap();
        assert_eq!((found, head.source.as_str()), (&layer.manifest, "node:node-1"));
    }

    let producer = Producer::new(&kafka).unwrap();
    let missing = ImageId::from(Sha256::of(nonce.as_bytes()).to_digest().as_str());
    for node in ["node-2", "node-1"] {
        let request = encode(&request(&missing, node)).unwrap();
        producer.send(Topic::ImageRequests, missing.as_str().as_bytes(), &request, &[]).await.unwrap();
    }
    producer.send(Topic::ImageRequests, b"x", b"garbage", &[]).await.unwrap();
    let failed = image(&mut images, |image| image.image_id == missing).await;
    assert_eq!(failed.failed.as_deref(), Some("no runtime of this node holds the image"));
    assert!(failed.retry_ns > failed.indexed_ns && failed.diff_ids.is_empty());

    // `driftline images remove`: the next use publishes it again, with its layers.
    let layers = expect.layers.len();
    for (key, topic) in removal(&published, &on_topic) {
        let by = if topic == Topic::Images { &key } else { key.split_once('/').unwrap().0 };
        let partition = partition_of(by.as_bytes(), kafka.partition_count(topic));
        producer.send_to(topic, partition, key.as_bytes(), None, &[]).await.unwrap();
        producer.settled().await.unwrap();
    }
    let gone = clock::now_ns();
    let again = request_until(&producer, &mut images, &image_id, gone);
    let again = tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!((again.source.as_str(), again.failed.as_deref(), again.diff_ids.len()), ("node:node-1", None, layers));
    let mut reader = TopicReader::start(&kafka, &[Topic::ImageLayers], ReadFrom::Beginning).await.unwrap();
    let mut newest = BTreeMap::new();
    while let Some(ReaderEvent::Record(record)) = reader.next().await {
        newest.insert(record.key.unwrap(), record.value.is_some());
    }
    assert!(newest.values().all(|stands| *stands), "the layers stand again");

    stop.send("the test ends").unwrap();
    tokio::time::timeout(PATIENCE, service).await.unwrap().unwrap().unwrap();
    drop((images, container));
    admin::delete_all(&kafka).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_a_pod_is_published_because_it_runs_also_where_only_the_own_node_s_word_counts() {
    const NAME: &str = "the_image_of_a_pod_is_published_because_it_runs_also_where_only_the_own_node_s_word_counts";
    let Some(bootstrap) = setting("KAFKA_BOOTSTRAP") else { return skip(NAME, "KAFKA_BOOTSTRAP is not set") };
    let Some(pods) = or_skip(NAME, Pods::start().await) else { return };
    let nonce = format!("pods-{}-{}", std::process::id(), clock::now_ns());
    let mut settings = settings(bootstrap, &nonce);
    settings.runtimes = pods.settings();
    settings.service.trust = Trust::SameNode;
    let kafka = settings.service.kafka.clone();
    admin::create(&kafka, 1).await.unwrap();
    let expect = index_image(&Runtimes::detect(&pods.settings()).await, pods.image_id()).await.unwrap();
    // Another node has published the same already.
    let other = Image { source: "node:node-2".to_owned(), indexed_ns: clock::now_ns(), ..expect.image.clone() };
    let producer = Producer::new(&kafka).unwrap();
    producer.send(Topic::Images, other.key().as_bytes(), &encode(&other).unwrap(), &[]).await.unwrap();
    producer.settled().await.unwrap();

    let mut images = TopicReader::start(&kafka, &[Topic::Images], ReadFrom::Beginning).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let telemetry = Telemetry::new("indexer");
    let service =
        tokio::spawn(async move { run(settings, &telemetry, async { stopped.await.unwrap_or("dropped") }).await });
    let spec = PodSpec {
        name: "web-1".into(),
        namespace: "shop".into(),
        uid: "u-1".into(),
        container: "web".into(),
        ..PodSpec::default()
    };
    let pod = pods.run(&spec).await.unwrap();
    let own = image(&mut images, |image| image.source == "node:node-1").await;
    assert_eq!((&own.image_id, own.failed.as_deref()), (pods.image_id(), None));
    assert_eq!(own.references, [IMAGE]);
    assert_eq!(own.diff_ids, expect.image.diff_ids);
    let on_topic = manifests(&kafka).await;
    for layer in &expect.layers {
        let (head, found) = on_topic.iter().find(|(head, _)| head.diff_id == layer.diff_id).unwrap();
        assert_eq!((found, head.source.as_str()), (&layer.manifest, "node:node-1"));
    }
    pods.remove(&pod).await.unwrap();
    stop.send("the test ends").unwrap();
    tokio::time::timeout(PATIENCE, service).await.unwrap().unwrap().unwrap();
    drop(images);
    admin::delete_all(&kafka).await.unwrap();
}
