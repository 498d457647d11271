//! A socket that answers like CRI-O, which cannot be had on Debian: see testdata/README.md for where its answers are from.

use std::collections::BTreeMap;
use std::path::Path;

use driftline_engines::testing::{Crio, Events};
use driftline_engines::{Coverage, Described, RuntimeSettings, Runtimes};
use driftline_schemas::{Container, ContainerId, ImageId, Mount, Pod};

const CONTAINER: &str = "7f3c0d8e5b1a46c29e0f7d5a3b8c1e4f6a9d2c5b8e1f4a7d0c3b6e9f2a5d8c1b";
const SANDBOX: &str = "c1d4e7fa0b3c6d9e2f5a8b1c4d7e0f3a6b9c2d5e8f1a4b7c0d3e6f9a2b5c8d1e";
const CONFIG: &str = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
const KUBELET: &str = "/var/lib/kubelet/pods/2c6f1f0e-8a35-4d0b-9d0c-5f2f8a1e7b34";

fn testdata() -> &'static Path {
    Path::new(Crio::TESTDATA)
}

/// Only this CRI-O, and no process: the reported one is none of ours.
fn settings(crio: &Crio) -> RuntimeSettings {
    RuntimeSettings {
        containerd_socket: "/nowhere".into(),
        cri_sockets: vec!["/nowhere".into(), crio.socket()],
        docker_socket: "/nowhere".into(),
        podman_socket: "/nowhere".into(),
        podman_command: "/nowhere".into(),
        annotations: vec!["team.example/*".into()],
        proc: "/nowhere".into(),
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn described(testdata: &Path, id: &str) -> (Runtimes, Described) {
    let crio = Crio::start_with(testdata, Events::Off).unwrap();
    crio.start_container(0);
    let runtimes = Runtimes::detect(&settings(&crio)).await;
    let described = runtimes.describe(&ContainerId::from(id)).await.unwrap().unwrap();
    assert_eq!(runtimes.describe(&ContainerId::from("0".repeat(64).as_str())).await, Ok(None));
    (runtimes, described)
}

#[test]
fn cri_o_is_expected_where_it_is_by_default() {
    let sockets = RuntimeSettings::default().cri_sockets;
    assert!(sockets.contains(&"/run/crio/crio.sock".into()), "{sockets:?}");
}

#[tokio::test]
async fn a_pod_of_cri_o_is_described_in_all_its_parts() {
    let (runtimes, described) = described(testdata(), CONTAINER).await;
    assert_eq!(runtimes.answering().collect::<Vec<_>>(), ["cri"], "{:?}", runtimes.states());
    let container = Container {
        id: ContainerId::from(CONTAINER),
        name: "web".into(),
        runtime: "crio".into(),
        image_ref: "registry.example/shop/web:1.4".into(),
        image_id: ImageId::from(format!("sha256:{CONFIG}").as_str()),
        image_id_source: "crio-image-status".into(),
        pod: Some(Pod {
            namespace: "shop".into(),
            name: "web-7d4b9c6f5-x2x7q".into(),
            uid: "2c6f1f0e-8a35-4d0b-9d0c-5f2f8a1e7b34".into(),
            labels: map(&[("app", "web"), ("pod-template-hash", "7d4b9c6f5")]),
        }),
        rootfs: "overlay".into(),
        tty: true,
        started_ns: 1_795_162_531_268_110_734,
        ..Container::default()
    };
    assert_eq!(described.container, container);
    assert_eq!((described.init_pid, described.attempt, described.sandbox), (Some(4_711), 2, false));
    assert_eq!((described.handler.as_str(), described.coverage), ("", Coverage::Seen));
    assert_eq!(described.annotations, map(&[("team.example/owner", "shop")]));
    let mount = |point: &str, fs_type: &str, source: String, read_only| Mount {
        point: point.into(),
        fs_type: fs_type.into(),
        source,
        read_only,
    };
    let settings = format!("{KUBELET}/volumes/kubernetes.io~configmap/settings");
    for expect in [
        mount("/etc/settings", "configmap", settings, true),
        mount("/etc/hosts", "bind", format!("{KUBELET}/etc-hosts"), false),
        mount("/run/secrets", "tmpfs", "tmpfs".into(), false),
    ] {
        assert_eq!(described.mounts.iter().find(|found| found.point == expect.point), Some(&expect));
    }
    assert!(!described.mounts.iter().any(|mount| mount.point == "/proc"), "{:?}", described.mounts);
}

#[tokio::test]
async fn a_pod_of_cri_o_that_has_no_pause_process_is_a_sandbox_all_the_same() {
    let (runtimes, described) = described(testdata(), SANDBOX).await;
    assert_eq!((described.sandbox, described.init_pid), (true, None));
    assert_eq!(runtimes.states().iter().filter(|found| found.state.is_ok()).count(), 1);
}

#[tokio::test]
async fn the_config_digest_is_found_however_cri_o_names_the_image() {
    let reference = "\"imageRef\": \"registry.example/shop/web@sha256:9b2a28eb47540823042a2ba401386845089bb7b62a9637d55816132c4c3c36eb\"";
    let by_id = format!("\"imageRef\": \"{CONFIG}\"");
    let newer = format!("\"imageId\": \"{CONFIG}\", {reference}");
    let removed = reference.replace("9b2a", "0000");
    for (named, id, source) in [
        (reference, CONFIG, "crio-image-status"),
        (by_id.as_str(), CONFIG, "crio-container-status"),
        (newer.as_str(), CONFIG, "crio-container-status"),
        (removed.as_str(), "", "crio-unknown"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        for file in ["crio-container.json", "crio-pod.json", "crio-image.json"] {
            let text = std::fs::read_to_string(testdata().join(file)).unwrap();
            std::fs::write(directory.path().join(file), text.replace(reference, named)).unwrap();
        }
        let (_, Described { container, .. }) = described(directory.path(), CONTAINER).await;
        let expect = if id.is_empty() { String::new() } else { format!("sha256:{id}") };
        assert_eq!((container.image_id.as_str(), container.image_id_source.as_str()), (expect.as_str(), source));
    }
}

#[tokio::test]
async fn what_runs_is_listed_and_what_ended_is_unknown() {
    let crio = Crio::start(Events::Off).unwrap();
    let runtimes = Runtimes::detect(&settings(&crio)).await;
    let (container, sandbox) = (ContainerId::from(CONTAINER), ContainerId::from(SANDBOX));
    assert_eq!(runtimes.running_ids().await, std::slice::from_ref(&sandbox));
    crio.start_container(0);
    assert_eq!(runtimes.running_ids().await, [container.clone(), sandbox]);
    assert_eq!(runtimes.running().await.len(), 2);
    assert_eq!(runtimes.describe(&ContainerId::from(&CONTAINER[..12])).await, Ok(None), "half an id is none");
    crio.end_container();
    assert_eq!(runtimes.describe(&container).await, Ok(None));
}

#[tokio::test]
async fn a_container_that_is_only_created_is_waited_for_until_it_has_a_process() {
    let crio = Crio::start(Events::Off).unwrap();
    let runtimes = Runtimes::detect(&settings(&crio)).await;
    for (answers, pid) in [(1, Some(4_711)), (4, Some(4_711)), (5, None)] {
        crio.start_container(answers);
        let described = runtimes.describe(&ContainerId::from(CONTAINER)).await.unwrap().unwrap();
        assert_eq!((described.init_pid, described.container.started_ns > 0), (pid, pid.is_some()), "{answers}");
    }
}
