//! Tests an enricher whose image store fails: it continues from memory and the topics, as does each later start. The
//! store is on a separate disk, a small tmpfs, which only root may mount.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use driftline_indexer::publish::Publisher;
use driftline_indexer::{Indexed, IndexedLayer};
use driftline_loadtest::services::{self, Running};
use driftline_loadtest::workload::Workload;
use driftline_schemas::layer::{EntryKind, LayerEntry, LayerManifest};
use driftline_schemas::{DiffId, Finding, Image, ImageId, LayerBasis, Sha256};
use driftline_service::clock;

use crate::harness::{Bench, PATIENCE, metric, skip, with_topics};

const FILE: &str = "images.redb";
const IN_MEMORY: &str = "driftline_enricher_store_in_memory";

/// Unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where it cannot be mounted.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|it| it.status.success()).then(|| Self(at.to_owned()))
    }

    /// Fills the disk.
    fn fill(&self) {
        assert!(fs::write(self.0.join("filler"), vec![1; 16 << 20]).is_err(), "more than there is room for");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// An enricher with its store on such a disk, and its workload.
struct Case<'a> {
    bench: &'a Bench,
    disk: SmallDisk,
}

impl<'a> Case<'a> {
    fn new(bench: &'a Bench, size: &str) -> Option<Self> {
        let disk = SmallDisk::mount(&bench.logs.path().join("store"), size);
        if disk.is_none() {
            skip("failing image store", "mounting a tmpfs needs root");
        }
        Some(Self { bench, disk: disk? })
    }

    fn directory(&self) -> &Path {
        &self.disk.0
    }

    async fn start(&self) -> Running {
        let settings = [("DRIFTLINE_STORE_DIR", self.directory().to_str().unwrap())];
        services::start("enricher", &self.bench.kafka, &settings, self.bench.logs.path()).await.unwrap()
    }

    /// Publishes the image and runs a container with this number: its finding must be judged against the image.
    async fn is_judged(&self, service: &Running, number: usize) {
        let mut workload = Workload::new(number + 1, 4, clock::now_ns());
        let last = workload.execs.last().unwrap().container_id.clone();
        workload.execs.retain(|exec| exec.container_id == last);
        workload.publish_image(&self.bench.producer).await.unwrap();
        workload.produce_containers(&self.bench.producer).await.unwrap();
        workload.produce_execs(&self.bench.producer, &workload.execs).await.unwrap();
        let mut reader = self.bench.collector().await;
        let expected = &workload.expected[&last];
        let of_it = |finding: &&Finding| expected.contains(&finding.finding_id);
        let is_there = reader.until(PATIENCE, |seen| seen.findings.iter().any(|it| of_it(&it))).await.unwrap();
        assert!(is_there, "no finding of container {number}:\n{}", service.log_end());
        let finding = reader.collected.findings.iter().find(of_it).unwrap();
        assert_eq!((finding.unresolved.as_deref(), finding.revision), (None, 1), "judged against the image, at once");
    }

    /// Checks that the store is in memory for this reason, which is logged once and without a backtrace.
    async fn is_in_memory(&self, service: &Running, reason: &str, todo: &str) {
        assert!((metric(service, IN_MEMORY).await - 1.0).abs() < f64::EPSILON, "{}", service.log_end());
        let failures = metric(service, &format!("driftline_enricher_store_failures_total{{reason=\"{reason}\"")).await;
        assert!((failures - 1.0).abs() < f64::EPSILON, "{failures}:\n{}", service.log_end());
        let log = service.log_end();
        assert_eq!(log.matches("goes on in memory until the next start").count(), 1, "{log}");
        assert!(log.contains(todo) && !log.contains("panicked"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enricher_starts_on_a_full_disk_again_and_again() {
    with_topics("full at the start", |bench| async move {
        let Some(case) = Case::new(&bench, "size=8m") else { return };
        case.disk.fill();
        for number in 0..2 {
            let enricher = case.start().await;
            case.is_judged(&enricher, number).await;
            case.is_in_memory(&enricher, "no_room", "make room in DRIFTLINE_STORE_DIR").await;
            enricher.kill().await.unwrap();
        }
        fs::remove_file(case.directory().join("filler")).unwrap();
        let enricher = case.start().await;
        assert!(metric(&enricher, IN_MEMORY).await.abs() < f64::EPSILON, "there is room again");
        case.is_judged(&enricher, 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enricher_whose_disk_fills_goes_on_and_starts_again() {
    with_topics("full while running", |bench| async move {
        let Some(case) = Case::new(&bench, "size=8m") else { return };
        let enricher = case.start().await;
        case.is_judged(&enricher, 0).await;
        case.disk.fill();
        // Small records fit into the space that the file has already; at last one does not.
        for number in 1..40 {
            case.is_judged(&enricher, number).await;
            if metric(&enricher, IN_MEMORY).await > 0.0 {
                break;
            }
        }
        case.is_in_memory(&enricher, "no_room", "make room in DRIFTLINE_STORE_DIR").await;
        assert!(!case.directory().join(FILE).exists(), "what cannot be used takes no room");
        enricher.kill().await.unwrap();
        case.disk.fill();
        let enricher = case.start().await;
        case.is_judged(&enricher, 50).await;
        case.is_in_memory(&enricher, "no_room", "make room in DRIFTLINE_STORE_DIR").await;
    })
    .await;
}

/// Publishes an image that no container runs, with one layer of its own.
async fn publish(bench: &Bench, number: usize, files: usize) {
    let digest = |of: &str| Sha256::of(format!("{of} {number}").as_bytes()).to_digest();
    let entry = |file: usize| LayerEntry {
        path: format!("/opt/{number}/{file}").into(),
        kind: EntryKind::File,
        mode: 0o755,
        size_bytes: 9,
        sha256: Some(Sha256::of(&file.to_le_bytes()).0),
        target: None,
    };
    let diff_id = DiffId::from(digest("layer").as_str());
    let manifest = LayerManifest::new((0..files).map(entry).collect());
    let image = Image {
        image_id: ImageId::from(digest("image").as_str()),
        diff_ids: vec![diff_id.clone()],
        source: "node:a".into(),
        ..Image::default()
    };
    let layers = vec![IndexedLayer { diff_id, basis: LayerBasis::Blob, manifest }];
    Publisher::new(bench.producer.clone(), "node:a").publish(&Indexed { image, layers }, 0).await.unwrap();
}

/// Files of each of two images whose chunks together exceed the library's cache in memory.
const MANY: usize = 400_000;

/// Starts an enricher whose store exceeds its cache, after `spoil` has changed the store's file.
async fn spoilt(case: &Case<'_>, spoil: impl FnOnce(&fs::File)) -> Running {
    let enricher = case.start().await;
    publish(case.bench, 100, MANY).await;
    publish(case.bench, 101, MANY).await;
    case.is_judged(&enricher, 0).await;
    let file = fs::File::options().write(true).open(case.directory().join(FILE)).unwrap();
    assert!(file.metadata().unwrap().blocks() * 512 > 24 << 20, "{:?}", file.metadata());
    spoil(&file);
    // A damaged page is noticed when it is needed and not in memory.
    for number in 1..60 {
        publish(case.bench, number, 1).await;
        case.is_judged(&enricher, number).await;
        if metric(&enricher, IN_MEMORY).await > 0.0 {
            break;
        }
    }
    case.is_in_memory(&enricher, "damaged", "find out what else writes to DRIFTLINE_STORE_DIR").await;
    enricher
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enricher_whose_file_is_overwritten_goes_on_and_starts_again() {
    with_topics("overwritten", |bench| async move {
        let Some(case) = Case::new(&bench, "size=128m") else { return };
        let overwrite = |file: &fs::File| {
            let garbage = vec![0xa5; usize::try_from(file.metadata().unwrap().size()).unwrap() - 4_096];
            file.write_all_at(&garbage, 4_096).unwrap();
        };
        let enricher = spoilt(&case, overwrite).await;
        enricher.kill().await.unwrap();
        let enricher = case.start().await;
        assert!(metric(&enricher, IN_MEMORY).await.abs() < f64::EPSILON, "a new file");
        case.is_judged(&enricher, 70).await;
        assert!(enricher.terminate().await.unwrap().success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enricher_whose_file_is_cut_short_goes_on() {
    with_topics("cut short", |bench| async move {
        let Some(case) = Case::new(&bench, "size=128m") else { return };
        spoilt(&case, |file| file.set_len(4_096).unwrap()).await;
    })
    .await;
}
