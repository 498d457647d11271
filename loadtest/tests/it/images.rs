//! Tests `driftline images` on a real Kafka: publishing, showing and comparing.

use driftline_indexer::publish::Publisher;
use driftline_indexer::{Indexed, IndexedLayer};
use driftline_kafka::{Producer, ReadFrom, ReaderEvent, TopicReader};
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, ImageFailure, ImageId, LayerBasis, Sha256, decode};
use driftline_service::clock;

use crate::command_line::{driftline, text};
use crate::harness::{Bench, with_topics};

/// Writes a `docker save` archive of one layer with one program; returns its config digest.
fn archive(path: &std::path::Path, program: &[u8]) -> String {
    let tar = |files: &[(&str, &[u8])]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o755);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    };
    let layer = tar(&[("bin/app", program)]);
    let diff_id = Sha256::of(&layer).to_digest();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}
    });
    let config = config.to_string().into_bytes();
    let digest = Sha256::of(&config);
    let name = format!("{digest}.json");
    let manifest =
        serde_json::json!([{"Config": name, "RepoTags": ["registry/app:1"], "Layers": ["layer.tar"]}]).to_string();
    let whole = tar(&[("layer.tar", &layer), (&name, &config), ("manifest.json", manifest.as_bytes())]);
    std::fs::write(path, whole).unwrap();
    digest.to_digest()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_published_and_a_broken_one_is_refused_whole() {
    with_topics("images_add", |bench| async move {
        let file = bench.logs.path().join("app.tar");
        let image_id = archive(&file, b"program");
        let added = text(&driftline(&bench, &["images", "add", file.to_str().unwrap()]));
        assert!(added.starts_with(&image_id) && added.contains("registry/app:1"), "{added}");

        for source in ["build", "ci:", "node"] {
            let refused = driftline(&bench, &["images", "add", file.to_str().unwrap(), "--source", source]);
            assert!(
                String::from_utf8_lossy(&refused.stderr).contains("ci:NAME, registry:NAME or node:NAME"),
                "{source}"
            );
        }

        let mut bytes = std::fs::read(&file).unwrap();
        bytes[512] ^= 1;
        let broken = bench.logs.path().join("broken.tar");
        std::fs::write(&broken, bytes).unwrap();
        let refused = driftline(&bench, &["images", "add", broken.to_str().unwrap()]);
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot be indexed"));

        let mut reader = TopicReader::start(&bench.kafka, &[Topic::Images], ReadFrom::Beginning).await.unwrap();
        let mut images = Vec::new();
        while let Some(ReaderEvent::Record(record)) = reader.next().await {
            images.push(decode::<Image>(record.value.as_deref().unwrap()).unwrap());
        }
        assert_eq!(images.len(), 1);
        assert_eq!((images[0].image_id.as_str(), images[0].source.as_str()), (image_id.as_str(), "ci:local"));
    })
    .await;
}

/// Publishes the archive's image as another node with false content for its only layer.
async fn lie(bench: &Bench, image_id: &str) {
    let mut reader = TopicReader::start(&bench.kafka, &[Topic::Images], ReadFrom::Beginning).await.unwrap();
    let Some(ReaderEvent::Record(record)) = reader.next().await else { panic!("an image") };
    let image = decode::<Image>(record.value.as_deref().unwrap()).unwrap();
    assert_eq!(image.image_id.as_str(), image_id);
    let entry = LayerEntry {
        path: b"/bin/app".to_vec(),
        kind: EntryKind::File,
        mode: 0o755,
        size_bytes: 3,
        sha256: Some(Sha256::of(b"lie").0),
        target: None,
    };
    let manifest = LayerManifest::new(vec![entry]);
    let layers = vec![IndexedLayer { diff_id: image.diff_ids[0].clone(), basis: LayerBasis::Blob, manifest }];
    let mut publisher = Publisher::new(Producer::new(&bench.kafka).unwrap(), "node:evil");
    publisher.publish(&Indexed { image, layers }, clock::now_ns()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_shown_and_compared_with_what_they_were_made_of() {
    with_topics("images_show", |bench| async move {
        let file = bench.logs.path().join("app.tar");
        let image_id = archive(&file, b"program");
        let path = file.to_str().unwrap();
        text(&driftline(&bench, &["images", "add", path]));
        let short = &image_id[7..19];
        let listed = text(&driftline(&bench, &["images", "list"]));
        assert!(listed.contains(short) && listed.contains("complete") && listed.contains("verified"), "{listed}");
        let json = text(&driftline(&bench, &["images", "list", "--json"]));
        let row: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
        assert_eq!(
            (&row["state"], &row["sources"][0], &row["entries"]),
            (&"complete".into(), &"ci:local".into(), &1.into())
        );

        let shown = text(&driftline(&bench, &["images", "show", "registry/app:1"]));
        for part in [image_id.as_str(), "linux/amd64", "ci:local (verified)", "layer 0", "1 entries"] {
            assert!(shown.contains(part), "{part} in:\n{shown}");
        }
        let digest = Sha256::of(b"program").to_string();
        for arguments in [["--path", "/bin/app"], ["--sha256", &digest], ["--files", "/bin"]] {
            let found = text(&driftline(&bench, &[&["images", "show", short], arguments.as_slice()].concat()));
            assert!(found.contains(&digest) && found.contains("/bin/app") && found.contains("0755"), "{found}");
        }
        assert_eq!(driftline(&bench, &["images", "show", short, "--path", "/bin/no"]).status.code(), Some(1));
        let verify = |against: &str| driftline(&bench, &["images", "verify", &image_id, "--against", against]);
        assert!(text(&verify(path)).contains("is as published"));
        assert_eq!(verify("/no/such/file").status.code(), Some(2));

        lie(&bench, &image_id).await;
        let differs = verify(path);
        assert_eq!(differs.status.code(), Some(1));
        let stdout = String::from_utf8(differs.stdout).unwrap();
        assert!(
            stdout.contains("by node:evil: published only is /bin/app") && !stdout.contains("ci:local"),
            "{stdout}"
        );
        let listed = text(&driftline(&bench, &["images", "list"]));
        assert!(listed.contains("conflict"), "{listed}");
        assert_eq!(text(&driftline(&bench, &["images", "list", "--failed"])).lines().count(), 1, "the header");

        let mut publisher = Publisher::new(Producer::new(&bench.kafka).unwrap(), "node:n");
        let id = ImageId::from(Sha256::of(b"other").to_digest().as_str());
        publisher.publish_failure(&id, "no engine", ImageFailure::Unavailable, 7, 3).await.unwrap();
        let failed = text(&driftline(&bench, &["images", "list", "--failed"]));
        assert!(failed.contains(&id.as_str()[7..19]) && !failed.contains(short), "{failed}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_image_is_gone_with_the_layers_that_no_other_has() {
    with_topics("images_remove", |bench| async move {
        let file = bench.logs.path().join("app.tar");
        let image_id = archive(&file, b"program");
        let add = || text(&driftline(&bench, &["images", "add", file.to_str().unwrap()]));
        let listed = || text(&driftline(&bench, &["images", "list", "--json"]));
        add();
        let mut reader = TopicReader::start(&bench.kafka, &[Topic::Images], ReadFrom::Beginning).await.unwrap();
        let Some(ReaderEvent::Record(record)) = reader.next().await else { panic!("an image") };
        let image = decode::<Image>(record.value.as_deref().unwrap()).unwrap();
        let other = Image { image_id: ImageId::from(Sha256::of(b"other").to_digest().as_str()), ..image };
        let mut publisher = Publisher::new(Producer::new(&bench.kafka).unwrap(), "node:n");
        publisher.publish(&Indexed { image: other.clone(), layers: vec![] }, clock::now_ns()).await.unwrap();

        let unconfirmed = driftline(&bench, &["images", "remove", &image_id]);
        let why = String::from_utf8_lossy(&unconfirmed.stderr).into_owned();
        assert!(
            unconfirmed.status.code() == Some(1)
                && why.contains("--yes")
                && why.contains("1 publications (by ci:local)")
        );
        assert!(listed().contains(&image_id), "nothing is removed unconfirmed");
        let removed = text(&driftline(&bench, &["images", "remove", &image_id, "--yes"]));
        assert!(removed.contains("1 publications and 0 layers removed"), "{removed}");
        let rest = listed();
        assert!(!rest.contains(&image_id) && rest.contains(r#""state":"complete""#), "the other has the layer: {rest}");
        let removed = text(&driftline(&bench, &["images", "remove", other.image_id.as_str(), "--yes"]));
        assert!(removed.contains("1 publications and 1 layers removed"), "{removed}");
        assert_eq!(listed(), "");
        let mut layers = TopicReader::start(&bench.kafka, &[Topic::ImageLayers], ReadFrom::Beginning).await.unwrap();
        let mut left = std::collections::BTreeMap::new();
        while let Some(ReaderEvent::Record(record)) = layers.next().await {
            left.insert(record.key.unwrap(), record.value.is_some());
        }
        assert_eq!(
            left.into_values().collect::<Vec<_>>(),
            [false, false],
            "the newest of head and chunk is a tombstone"
        );
        add();
        assert!(listed().contains(r#""state":"complete""#));
        assert!(!driftline(&bench, &["images", "remove", "sha256:0000", "--yes"]).status.success());
    })
    .await;
}
