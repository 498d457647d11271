//! Pods of a real containerd: they are described exactly as they were requested.

use std::collections::{BTreeMap, BTreeSet};

use driftline_engines::testing::{IMAGE, KATA, PodSpec, Pods, Registry};
use driftline_engines::{Coverage, RuntimeSettings, Runtimes};
use driftline_schemas::{Container, ContainerId, Mount, Pod};

use crate::skip;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn web() -> PodSpec {
    PodSpec {
        name: "web-7d4b9c6f5-x2x7q".into(),
        namespace: "shop".into(),
        uid: "3b2a6a4e-0c57-4a7c-8a41-6f1d8c9b2e10".into(),
        labels: map(&[("app", "web"), ("pod-template-hash", "7d4b9c6f5")]),
        annotations: map(&[("team.example/owner", "shop"), ("secret.example/token", "x")]),
        container: "web".into(),
        attempt: 3,
        ..PodSpec::default()
    }
}

#[tokio::test]
async fn a_pod_is_described_as_it_was_requested() {
    let pods = match Pods::start().await {
        Ok(pods) => pods,
        Err(reason) => return skip("a_pod_is_described_as_it_was_requested", &reason),
    };
    let kubelet = tempfile::tempdir().unwrap();
    let config = kubelet.path().join("pods/3b2a/volumes/kubernetes.io~configmap/settings");
    std::fs::create_dir_all(&config).unwrap();
    let spec = PodSpec { mounts: vec![(config.clone(), "/etc/settings".into())], ..web() };
    let pod = pods.run(&spec).await.unwrap();
    let settings = RuntimeSettings { annotations: vec!["team.example/*".into()], ..pods.settings() };
    let runtimes = Runtimes::detect(&settings).await;
    assert_eq!(runtimes.answering().collect::<Vec<_>>(), ["containerd", "cri"], "{:?}", runtimes.states());
    assert_eq!(runtimes.with_images().collect::<Vec<_>>(), ["containerd"]);

    let described = runtimes.describe(&pod.container).await.unwrap().unwrap();
    let started_ns = described.container.started_ns;
    let container = Container {
        id: pod.container.clone(),
        name: "web".into(),
        runtime: "containerd".into(),
        image_ref: IMAGE.into(),
        image_id: pods.image_id().clone(),
        image_id_source: "containerd-container-status".into(),
        pod: Some(Pod { namespace: spec.namespace, name: spec.name, uid: spec.uid, labels: spec.labels }),
        rootfs: "overlayfs".into(),
        host_namespaces: vec!["network".into()],
        started_ns,
        ..Container::default()
    };
    assert_eq!(described.container, container);
    assert!(started_ns > 0);
    assert_eq!((described.attempt, described.sandbox, described.coverage), (3, false, Coverage::Seen));
    assert_eq!(described.handler, "io.containerd.runc.v2");
    assert_eq!(described.annotations, map(&[("team.example/owner", "shop")]));
    let mount = Mount {
        point: "/etc/settings".into(),
        fs_type: "configmap".into(),
        source: config.display().to_string(),
        read_only: true,
    };
    assert_eq!(described.mounts.iter().find(|found| found.point == mount.point), Some(&mount));
    let init = std::fs::read_to_string(format!("/proc/{}/cgroup", described.init_pid.unwrap())).unwrap();
    assert!(init.contains(pod.container.as_str()), "{init}");

    let sandbox = runtimes.describe(&pod.sandbox).await.unwrap().unwrap();
    assert!(sandbox.sandbox && sandbox.init_pid.is_some());
    let both = BTreeSet::from([pod.container.clone(), pod.sandbox.clone()]);
    assert_eq!(runtimes.running_ids().await.into_iter().collect::<BTreeSet<_>>(), both);
    assert_eq!(runtimes.running().await.len(), 2);
    assert_eq!(runtimes.describe(&ContainerId::from("0".repeat(64).as_str())).await, Ok(None));

    pods.remove(&pod).await.unwrap();
    assert_eq!(runtimes.describe(&pod.container).await, Ok(None));
    assert_eq!(runtimes.running_ids().await, []);
}

#[tokio::test]
async fn what_a_pod_may_do_and_what_runs_it_are_described() {
    let pods = match Pods::start().await {
        Ok(pods) => pods,
        Err(reason) => return skip("what_a_pod_may_do_and_what_runs_it_are_described", &reason),
    };
    let runtimes = Runtimes::detect(&pods.settings()).await;
    let pod = pods.run(&PodSpec { privileged: true, tty: true, host_pid: true, ..web() }).await.unwrap();
    let described = runtimes.describe(&pod.container).await.unwrap().unwrap();
    assert_eq!((described.container.privileged, described.container.tty), (true, true));
    assert_eq!(described.container.host_namespaces, ["pid", "network"]);
    assert!(described.annotations.is_empty(), "none is allowed");
    let unseen = PodSpec { name: "unseen".into(), uid: "u2".into(), runtime_handler: KATA.into(), ..web() };
    let pod = pods.run(&unseen).await.unwrap();
    let described = runtimes.describe(&pod.container).await.unwrap().unwrap();
    assert_eq!((described.handler.as_str(), described.coverage), (KATA, Coverage::Unseen));
}

#[tokio::test]
async fn a_pulled_image_is_known_by_its_config_digest() {
    const NAME: &str = "a_pulled_image_is_known_by_its_config_digest";
    let (registry, pods) = match (Registry::start(), Pods::start().await) {
        (Ok(registry), Ok(pods)) => (registry, pods),
        (Err(reason), _) | (_, Err(reason)) => return skip(NAME, &reason),
    };
    let runtimes = Runtimes::detect(&pods.settings()).await;
    let by_id = pods.pull(&registry.reference()).await.unwrap();
    for (uid, image) in [("by id", by_id), ("by name", registry.reference())] {
        let pod = pods.run(&PodSpec { uid: uid.into(), image: Some(image), ..web() }).await.unwrap();
        let described = runtimes.describe(&pod.container).await.unwrap().unwrap().container;
        assert_eq!((&described.image_id, &described.image_ref), (registry.image_id(), &registry.reference()), "{uid}");
        assert_eq!(described.image_id_source, "containerd-image-status", "its status has the manifest's digest");
    }
    assert_ne!(registry.image_id(), pods.image_id());
}
