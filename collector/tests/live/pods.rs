//! Pods of a real containerd, described by the task that describes them in production.

use crate::harness::{self, Harness};
use driftline_collector_runtimes::testing::{PodSpec, Pods};
use driftline_schemas::{FileClass, HashState};

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
    let harness = Harness::start_with_runtimes(pods.settings());
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

    let command = ["/bin/sh", "-c", "cp /bin/busybox /tmp-true; /tmp-true true; /bin/busybox true"];
    runtime.block_on(pods.exec(&pod.container, &command)).unwrap();
    let dropped = harness.exec_of(&pod.container, "/tmp-true");
    assert_eq!((dropped.class, dropped.hash_state), (FileClass::New, HashState::Hashed));
    assert_eq!(harness.execs(&pod.sandbox), [], "pause is no container");
    runtime.block_on(pods.remove(&pod)).unwrap();
    harness.finish();
}
