//! Containers that come and go: nothing of them stays. One in five is podman's; the others runc runs for nobody, which is
//! quicker. `DRIFTLINE_CHURN=5000` for a long run.

use driftline_kafka::admin;
use driftline_schemas::{ContainerId, ExecEvent, Sha256};
use driftline_service::clock::monotonic;
use driftline_settings::Settings;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

use super::container::{self, Container};
use super::harness;
use super::installed::{Events, Installation, Starter, kafka, until};

const CONTAINERS: usize = 1_000;
/// One in so many is podman's.
const OF_PODMAN: usize = 5;
/// Side by side.
const LANES: usize = 2;
/// What the collector may have grown by, when this part of them was there: less than 4 KiB for each of the others.
const WARM: usize = 5;
const GROWTH_KIB_MAX: u64 = 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_come_and_go_are_all_reported_and_leave_nothing_behind() {
    let name = "containers_that_come_and_go_are_all_reported_and_leave_nothing_behind";
    if let Some(reason) = harness::missing() {
        return harness::skip(name, &reason);
    }
    let Some(kafka) = kafka("churn") else {
        return harness::skip(name, "KAFKA_BOOTSTRAP is not set; make test starts a Kafka");
    };
    let wanted =
        Settings::of_environment().environment("DRIFTLINE_CHURN").map_or(CONTAINERS, |text| text.parse().unwrap());
    let _among_others = harness::NODE.read().await;
    admin::create(&kafka, 1).await.unwrap();
    let place = Installation::with_podman().await;
    let container = Container::start();
    let bundle = Bundle::new(&container);
    let collector = place.start(place.command(&Starter::usual(), &kafka)).await;
    let begun = monotonic();
    let early = tokio::task::block_in_place(|| {
        churn(&container, &bundle, wanted / WARM);
        let early = resident_kib(collector.0.id());
        churn(&container, &bundle, wanted - wanted / WARM);
        early
    });
    let took = begun.elapsed();
    let late = resident_kib(collector.0.id());
    // Of the node's containers it knows those that run, whoever runs them.
    until(|| place.metric("driftline_collector_containers") < wanted as u64 / 10).await;
    let text = format!(
        "{wanted} containers in {} s: {early} KiB resident after {}, {late} KiB after all, {} known at the end",
        took.as_secs(),
        wanted / WARM,
        place.metric("driftline_collector_containers")
    );
    println!("{text}");
    harness::report(&text);
    assert!(late <= early + GROWTH_KIB_MAX, "{text}");

    let mut execs: BTreeMap<ContainerId, usize> = BTreeMap::new();
    let (mut described, mut ended) = (BTreeSet::new(), BTreeSet::new());
    let all = |event| {
        match event {
            ExecEvent::Exec(exec) if exec.path == b"/tmp/busybox-churn" => {
                assert!(exec.sha256.is_some() || exec.hash_state != driftline_schemas::HashState::NotNeeded);
                *execs.entry(exec.container_id.clone()).or_default() += 1;
            }
            ExecEvent::Seen(seen) => drop(described.insert(seen.container.id.clone())),
            ExecEvent::Ended(end) => drop(ended.insert(end.container_id.clone())),
            _ => {}
        }
        execs.len() == wanted
    };
    let read = Events::of(&kafka).await.take_until(all).await;
    assert_eq!(read, Ok(()), "{} of {wanted} reported, {} ended", execs.len(), ended.len());
    assert!(execs.values().all(|count| *count == 1), "each has executed it once");
    // One that ended before it could be described, and whose first process was not seen, is forgotten when it is silent for long.
    let reported_end = execs.keys().filter(|id| ended.contains(id)).count();
    let text = format!("  {} of them were described, the end of {reported_end} was reported", described.len());
    println!("{text}");
    harness::report(&text);
    admin::delete_all(&kafka).await.unwrap();
}

const COMMAND: &str = "cp /data/busybox-added /tmp/busybox-churn; /tmp/busybox-churn true";

fn churn(container: &Container, bundle: &Bundle, count: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        number if number >= count => return,
                        number if number.is_multiple_of(OF_PODMAN) => container.run_another(COMMAND),
                        _ => bundle.run(),
                    }
                }
            });
        }
    });
}

/// What runc makes containers of.
struct Bundle(TempDir);

impl Bundle {
    /// With the data of a container of podman's.
    fn new(container: &Container) -> Self {
        let bundle = tempfile::tempdir().unwrap();
        let root = bundle.path().join("rootfs");
        fs::create_dir_all(root.join("data")).unwrap();
        container::fill_root(&root, &fs::read(container::busybox_path().unwrap()).unwrap());
        assert!(Command::new("runc").arg("spec").current_dir(&bundle).status().unwrap().success());
        let config = bundle.path().join("config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = json!(["/bin/sh", "-c", COMMAND]);
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}));
        mounts.push(
            json!({"destination": "/data", "type": "bind", "source": container.data(""), "options": ["bind", "ro"]}),
        );
        fs::write(config, spec.to_string()).unwrap();
        Self(bundle)
    }

    fn run(&self) {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let id = Sha256::of(format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed)).as_bytes());
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(self.0.path().join("state")).arg("run").arg("--bundle").arg(self.0.path());
        assert!(runc.arg(id.to_string()).status().unwrap().success());
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
