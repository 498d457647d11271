//! Tests more images in use than fit in memory: dropped images are loaded again, and the findings stay the same.

use driftline_indexer::publish::Publisher;
use driftline_indexer::{Indexed, IndexedLayer};
use driftline_loadtest::services;
use driftline_loadtest::workload::Workload;
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
use driftline_schemas::topics::Topic;
use driftline_schemas::{
    Container, ContainerId, ContainerSeen, DiffId, Exec, Image, ImageId, LayerBasis, Node, Sha256, encode,
};
use driftline_service::clock;

use crate::harness::{Bench, PATIENCE, metric, with_topics};

const IMAGES: usize = 4;
/// More than half of the megabyte that is allowed below, so that no two images fit.
const FILES: usize = 8_000;

fn digest(of: &str, number: usize) -> String {
    Sha256::of(format!("{of} {number}").as_bytes()).to_digest()
}

fn container(number: usize) -> ContainerId {
    ContainerId::from(Sha256::of(&number.to_le_bytes()).to_string().as_str())
}

/// An image with the workload's program, and many files beside it.
async fn publish(bench: &Bench, number: usize) {
    let entry = |path: String, content: &[u8]| LayerEntry {
        path: path.into(),
        kind: EntryKind::File,
        mode: 0o755,
        size_bytes: 3,
        sha256: Some(Sha256::of(content).0),
        target: None,
    };
    let mut entries: Vec<_> = (0..FILES)
        .map(|file| entry(format!("/opt/{number}/{file}"), &file.to_le_bytes()))
        .chain([entry("/bin/app".to_owned(), b"app")])
        .collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let diff_id = DiffId::from(digest("layer", number).as_str());
    let image = Image {
        image_id: ImageId::from(digest("image", number).as_str()),
        diff_ids: vec![diff_id.clone()],
        source: "node:a".into(),
        ..Image::default()
    };
    let layers = vec![IndexedLayer { diff_id, basis: LayerBasis::Blob, manifest: LayerManifest::new(entries) }];
    Publisher::new(bench.producer.clone(), "node:a").publish(&Indexed { image, layers }, 0).await.unwrap();
    let container = Container {
        id: container(number),
        name: "app".to_owned(),
        image_id: ImageId::from(digest("image", number).as_str()),
        ..Container::default()
    };
    let node = Node { cluster: "test".to_owned(), name: "node-1".to_owned(), ..Node::default() };
    let seen = encode(&ContainerSeen { node, container: container.clone(), ..ContainerSeen::default() }).unwrap();
    bench.producer.send(Topic::ExecEvents, container.id.as_str().as_bytes(), &seen, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_were_dropped_are_loaded_again_and_every_exec_is_judged_with_them() {
    with_topics("image memory", |bench| async move {
        let settings = [("DRIFTLINE_IMAGES_MAX_MB", "1"), ("DRIFTLINE_IMAGE_CACHE_MIB", "16")];
        let enricher = services::start("enricher", &bench.kafka, &settings, bench.logs.path()).await.unwrap();
        for number in 0..IMAGES {
            publish(&bench, number).await;
        }
        let mut reader = bench.collector().await;
        let workload = Workload::new(IMAGES, 12, clock::now_ns());
        // One container after the other, so that each exec needs another image than the previous one. Each drift is
        // awaited: a service that starts late would get all execs at once, and need each image once.
        let mut drifts = 0;
        for (number, exec) in workload.execs.iter().enumerate() {
            let exec = Exec { container_id: container(number % IMAGES), ..exec.clone() };
            drifts += usize::from(exec.path != b"/bin/app");
            let value = encode(&exec).unwrap();
            bench.producer.send(Topic::ExecEvents, exec.container_id.as_str().as_bytes(), &value, &[]).await.unwrap();
            bench.producer.settled().await.unwrap();
            assert!(
                reader.until(PATIENCE, |seen| seen.findings.len() >= drifts).await.unwrap(),
                "{}",
                enricher.log_end()
            );
        }
        let found: Vec<_> = reader.collected.findings.iter().map(|it| (it.unresolved.clone(), it.revision)).collect();
        assert_eq!(found, vec![(None, 1); drifts], "untouched programs are silent, the others are reported at once");
        let counted = async |event: &str| {
            let name = format!("driftline_events_total{{event=\"{event}\"");
            metric(&enricher, &name).await
        };
        let (dropped, again) = (counted("image_dropped").await, counted("image_loaded_again").await);
        println!("{} execs: {dropped} images dropped, {again} loaded again", workload.execs.len());
        assert!(again > 3.0 && dropped >= again, "{dropped} {again}");
    })
    .await;
}
