//! `driftline` as a user calls it.

use std::process::{Command, Output};

use driftline_kafka::{ReadFrom, ReaderEvent, TopicReader};
use driftline_loadtest::services::{self, binary};
use driftline_loadtest::workload::Workload;
use driftline_runtime::clock;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, Sha256, decode};

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
        let mut reader = bench.collector();
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

/// A `docker save` archive of one layer with one program; its config digest.
fn archive(path: &std::path::Path) -> String {
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
    let layer = tar(&[("bin/app", b"program")]);
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
        let image_id = archive(&file);
        let added = text(&driftline(&bench, &["images", "add", file.to_str().unwrap()]));
        assert!(added.starts_with(&image_id) && added.contains("registry/app:1"), "{added}");

        let mut bytes = std::fs::read(&file).unwrap();
        bytes[512] ^= 1;
        let broken = bench.logs.path().join("broken.tar");
        std::fs::write(&broken, bytes).unwrap();
        let refused = driftline(&bench, &["images", "add", broken.to_str().unwrap()]);
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot be indexed"));

        let mut reader = TopicReader::start(&bench.kafka, &[Topic::Images], ReadFrom::Beginning).unwrap();
        let mut images = Vec::new();
        while let Some(ReaderEvent::Record(record)) = reader.next().await {
            images.push(decode::<Image>(record.value.as_deref().unwrap()).unwrap());
        }
        assert_eq!(images.len(), 1);
        assert_eq!((images[0].image_id.as_str(), images[0].source.as_str()), (image_id.as_str(), "ci:local"));
    })
    .await;
}
