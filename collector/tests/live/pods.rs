//! Pods of a real containerd, described by the task that describes them in production.

use crate::harness::{self, Harness};
use driftline_engines::kubernetes::KubernetesSettings;
use driftline_engines::testing::api::{ApiServer, REPORT, WEB, recorded_pod};
use driftline_engines::testing::{PodSpec, Pods};
use driftline_schemas::{FileClass, HashState, Owner};
use driftline_settings::Settings;

const NAME: &str = "an_exec_in_a_pod_comes_after_its_description_and_pause_does_not_come";

#[test]
fn an_exec_in_a_pod_comes_after_its_description_and_pause_does_not_come() {
    if let Some(reason) = harness::missing() {
        return harness::skip(NAME, &reason);
    }
    let _among_others = harness::NODE.blocking_read();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pods = match runtime.block_on(Pods::start()) {
        Ok(pods) => pods,
        Err(reason) => return harness::skip(NAME, &reason),
    };
    let harness = Harness::start_with_runtimes(
        pods.settings(),
        &KubernetesSettings::read("node-1", &[], &mut Settings::of_values::<&str, &str>([])),
    );
    let spec = PodSpec {
        name: "web-1".into(),
        namespace: "shop".into(),
        uid: "u-1".into(),
        container: "web".into(),
        attempt: 1,
        ..PodSpec::default()
    };
    let pod = runtime.block_on(pods.run(&spec)).unwrap();
    let first = harness.exec_of(&pod.container, "/bin/busybox");
    assert_eq!((first.class, first.container_pid), (FileClass::Image, 1));
    let (execs_before, record) = harness.container(&pod.container);
    assert_eq!(execs_before, 0, "the record comes before the first exec");
    let described = record.container.pod.unwrap();
    assert_eq!(
        (described.name.as_str(), described.namespace.as_str(), described.uid.as_str()),
        ("web-1", "shop", "u-1")
    );
    assert_eq!((record.container.name.as_str(), record.attempt), ("web", 1));
    assert_eq!(record.container.image_id, *pods.image_id());
    assert!(record.container.started_ns > 0);

    let command = ["/bin/sh", "-c", "cp /bin/busybox /tmp-true; sleep 0.1; /tmp-true true; /bin/busybox true"];
    runtime.block_on(pods.exec(&pod.container, &command)).unwrap();
    let dropped = harness.exec_of(&pod.container, "/tmp-true");
    assert_eq!((dropped.class, dropped.hash_state), (FileClass::New, HashState::Hashed));
    assert_eq!(harness.execs(&pod.sandbox), [], "pause is no container");
    runtime.block_on(pods.remove(&pod)).unwrap();
    harness.ended(&pod.container);
    harness.finish();
}

/// The API server is the tests' own, with answers recorded from a real one.
#[test]
fn a_pod_s_container_is_reported_with_its_workload_or_at_once_and_again_when_the_cluster_returns_it() {
    const NAME: &str =
        "a_pod_s_container_is_reported_with_its_workload_or_at_once_and_again_when_the_cluster_returns_it";
    if let Some(reason) = harness::missing() {
        return harness::skip(NAME, &reason);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pods = match runtime.block_on(Pods::start()) {
        Ok(pods) => pods,
        Err(reason) => return harness::skip(NAME, &reason),
    };
    let api = ApiServer::start().unwrap();
    let [web, mut report] = [WEB, REPORT].map(recorded_pod);
    api.put_pod(web.clone());
    let kubeconfig = api.kubeconfig().display().to_string();
    let allowed = ["team.example/*".to_owned()];
    let mut source = Settings::of_values([("DRIFTLINE_KUBERNETES", kubeconfig)]);
    let cluster = KubernetesSettings::read("node-1", &allowed, &mut source);
    let harness = Harness::start_with_runtimes(pods.settings(), &cluster);
    let text = |pod: &serde_json::Value, name: &str| pod["metadata"][name].as_str().unwrap().to_owned();
    let spec = |pod: &serde_json::Value| PodSpec {
        name: text(pod, "name"),
        namespace: text(pod, "namespace"),
        uid: text(pod, "uid"),
        container: "app".into(),
        ..PodSpec::default()
    };
    let owner = |kind: &str, name: &str| Some(Owner { kind: kind.into(), name: name.into() });

    let known = runtime.block_on(pods.run(&spec(&web))).unwrap();
    let seen = harness.container_when(&known.container, |seen| !seen.node.zone.is_empty());
    assert_eq!((seen.container.owner, seen.container.service_account.as_str()), (owner("Deployment", "web"), "web"));
    assert_eq!(seen.annotations, [("team.example/owner".to_owned(), "shop".to_owned())].into());
    let place = (seen.node.provider_id.as_str(), seen.node.zone.as_str());
    assert_eq!(place, ("gce://shop-prod/europe-west1-b/node-1", "europe-west1-b"));

    // Nothing waits for a cluster that has not answered yet.
    let early = runtime.block_on(pods.run(&spec(&report))).unwrap();
    harness.exec_of(&early.container, "/bin/busybox");
    let (execs_before, record) = harness.container(&early.container);
    assert_eq!((execs_before, record.container.owner), (0, None));
    api.put_pod(report.clone());
    let seen = harness.container_when(&early.container, |seen| seen.container.owner.is_some());
    assert_eq!(seen.container.owner, owner("CronJob", "report"));
    // A container is described twice in any case, for its exec and because it is new: the third time is for the change.
    for value in ["one", "two", "three"] {
        report["metadata"]["annotations"] = serde_json::json!({"team.example/owner": value});
        api.put_pod(report.clone());
        harness.container_when(&early.container, |seen| seen.annotations.values().any(|found| found == value));
    }
    for pod in [&known, &early] {
        runtime.block_on(pods.remove(pod)).unwrap();
    }
    harness.finish();
}
