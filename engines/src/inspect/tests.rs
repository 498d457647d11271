//! What is made of recorded answers, and of invented ones.

use driftline_schemas::Pod;

use super::{Inspect, Inspected, ManifestDescriptor, image_id, nanoseconds, shortened};

const CONTAINER: &str = include_str!("../../testdata/podman-4.3-container.json");
const DOCKER_CONTAINER: &str = include_str!("../../testdata/docker-20.10-container.json");
const IN_POD: &str = include_str!("../../testdata/podman-4.3-container-in-pod.json");

fn podman(text: &str, pod: Option<&str>) -> Inspected {
    let mut list: Vec<Inspect> = serde_json::from_str(text).unwrap();
    list.remove(0).into_inspected("podman", pod.map(str::to_owned))
}

fn docker(text: &str) -> Inspected {
    serde_json::from_str::<Inspect>(text).unwrap().into_inspected("docker", None)
}

#[test]
fn a_podman_container_with_pod_labels_is_described() {
    let Inspected { container, init_pid, sandbox, .. } = podman(CONTAINER, None);
    assert_eq!(container.id.as_str(), "321d4463fa66606c31bbfc5a84068bbc58f64a6c00e2f783553653737dde8cd0");
    assert_eq!(container.name, "web");
    assert_eq!(container.runtime, "podman");
    assert_eq!(container.image_ref, "localhost/example:1");
    assert_eq!(container.image_id.as_str(), "sha256:bcb222f00b5fb0593a4a9ffd8b5e420b532dfed349e2e60edb8acedbb266938f");
    assert_eq!(container.image_id_source, "podman-inspect");
    assert_eq!(container.rootfs, "overlay");
    assert_eq!(container.started_ns, 1_795_479_630_714_450_699);
    assert!(container.tty && !container.privileged && container.host_namespaces.is_empty() && !sandbox);
    assert_eq!(init_pid, Some(12_387));
    let labels = [("app", "web"), ("io.buildah.version", "1.28.2")];
    let pod = Pod {
        namespace: "shop".to_owned(),
        name: "web-0".to_owned(),
        uid: "1f6b1d50-0000-4000-8000-000000000001".to_owned(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    assert_eq!(container.pod, Some(pod));
}

#[test]
fn a_container_in_a_podman_pod_has_its_name_and_no_namespace() {
    let pod = podman(IN_POD, Some("shop")).container.pod.unwrap();
    assert_eq!((pod.name.as_str(), pod.namespace.as_str(), pod.uid.as_str()), ("shop", "", ""));
    assert_eq!(podman(IN_POD, None).container.pod, None);
    assert_eq!(podman(IN_POD, Some("shop")).container.name, "worker");
}

#[test]
fn mounts_are_declared_with_their_kind() {
    let declared = podman(CONTAINER, None).declared;
    let find = |point: &str| declared.iter().find(|mount| mount.point == point).unwrap();
    assert_eq!((find("/mnt/vol").kind.as_str(), find("/mnt/vol").source.as_str()), ("volume", "volume"));
    assert_eq!(find("/data").kind, "volume", "declared by the image");
    assert_eq!((find("/mnt/bind").kind.as_str(), find("/mnt/bind").read_only), ("bind", true));
    assert_eq!((find("/scratch").kind.as_str(), find("/scratch").read_only), ("tmpfs", false));
}

#[test]
fn a_docker_container_is_described() {
    let Inspected { container, init_pid, sandbox, declared, .. } = docker(DOCKER_CONTAINER);
    assert_eq!(container.id.as_str(), "23f3db4edd1032e23f0562feda9def0b111e487d52cd16ce2732f3509783cb7e");
    assert_eq!((container.name.as_str(), container.image_ref.as_str()), ("web", "example:1"));
    assert_eq!(container.image_id.as_str(), "sha256:ac0f484f38464ce014e90295ad22dbdebf8fc4f973e5badf66d207c582d1adf0");
    assert_eq!((container.image_id_source.as_str(), container.rootfs.as_str()), ("docker-inspect", "overlay2"));
    assert_eq!(container.host_namespaces, ["pid", "network"]);
    assert_eq!(container.started_ns, 1_795_481_293_035_291_380);
    let pod = container.pod.unwrap();
    assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.labels.len()), ("shop", "web-0", 1));
    assert_eq!((init_pid, sandbox), (Some(27_500), false));
    let kinds: Vec<_> = declared.iter().map(|mount| (mount.point.as_str(), mount.kind.as_str())).collect();
    assert_eq!(kinds, [("/mnt/bind", "bind"), ("/mnt/vol", "volume"), ("/data", "volume"), ("/scratch", "tmpfs")]);
}

#[test]
fn what_an_answer_leaves_out_is_empty() {
    let text = r#"{"Id":"ab","State":{"Pid":0,"StartedAt":"0001-01-01T00:00:00Z"},"Mounts":null,"Config":{"Labels":null},
        "HostConfig":{"Privileged":true}}"#;
    let Inspected { container, init_pid, sandbox, declared, .. } = docker(text);
    assert!(container.privileged && container.pod.is_none() && !sandbox && declared.is_empty());
    assert_eq!((container.started_ns, init_pid), (0, None));
}

#[test]
fn an_image_is_called_by_its_config_or_by_the_manifest_that_runs() {
    let hex = "7c67ebdb3426b4c47cbf0374805e145b07eeffdaf0788c8db39bae849c3d63eb";
    let unknown = (driftline_schemas::ImageId::default(), "docker-unknown".to_owned());
    assert_eq!(image_id("podman", hex, None).0.as_str(), format!("sha256:{hex}"));
    let manifest = |digest: &str| ManifestDescriptor { digest: digest.to_owned() };
    let (id, source) =
        image_id("docker", &format!("sha256:{}", "0".repeat(64)), Some(&manifest(&format!("sha256:{hex}"))));
    assert_eq!((id.as_str(), source.as_str()), (format!("sha256:{hex}").as_str(), "docker-manifest"));
    assert_eq!(image_id("docker", hex, Some(&manifest("sha256:x"))), unknown);
    assert_eq!(image_id("docker", "", None), unknown);
    assert!(!image_id("docker", "sha256:../../x", None).0.is_known());
}

#[test]
fn sandboxes_are_recognised() {
    let infra = CONTAINER.replace("\"IsInfra\": false", "\"IsInfra\": true");
    assert!(podman(&infra, None).sandbox);
    let labelled = |label: &str| docker(&format!(r#"{{"Id":"a","Config":{{"Labels":{{{label}}}}}}}"#)).sandbox;
    assert!(labelled(r#""io.kubernetes.docker.type":"podsandbox""#));
    assert!(labelled(r#""io.kubernetes.container.name":"POD""#));
    assert!(!labelled(r#""io.kubernetes.container.name":"app""#));
}

#[test]
fn hostile_text_is_bounded_and_stays_text() {
    let label = "\u{202e}\\u0000;rm -rf".repeat(1_000);
    let labels: Vec<String> = (0..1_000).map(|n| format!(r#""{n}{label}":"x\u0000y{label}""#)).collect();
    let text = format!(
        r#"{{"Id":"a","Name":"{label}","Config":{{"Labels":{{"io.kubernetes.pod.name":"p",{}}}}}}}"#,
        labels.join(",")
    );
    let container = docker(&text).container;
    let pod = container.pod.unwrap();
    assert!(pod.labels.len() <= 128 && container.name.len() <= 4_096);
    assert!(pod.labels.iter().all(|(key, value)| key.len() <= 512 && value.len() <= 512));
    assert_eq!(shortened("aé", 2), "a");
}

#[test]
fn times_are_read_with_any_offset_and_nonsense_is_none() {
    assert_eq!(nanoseconds("1970-01-01T00:00:01.5Z"), 1_500_000_000);
    assert_eq!(nanoseconds("1970-01-01T02:00:01+02:00"), 1_000_000_000);
    for text in ["", "0001-01-01T00:00:00Z", "yesterday", "9999-99-99T00:00:00Z"] {
        assert_eq!(nanoseconds(text), 0, "{text}");
    }
}

#[test]
fn a_container_that_ran_and_does_not_any_more_has_ended() {
    let has_ended = |status: &str| {
        let text = format!(r#"{{"Id": "c", "State": {{"Status": "{status}", "Pid": 0}}}}"#);
        serde_json::from_str::<Inspect>(&text).unwrap().into_inspected("docker", None).has_ended
    };
    assert!(["exited", "dead", "removing", "stopped"].into_iter().all(has_ended));
    assert!(!["created", "initialized", "running", "paused", ""].into_iter().any(has_ended));
}
