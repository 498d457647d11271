//! Tests the commands for each way to reach the container and the file, and that hostile values stay values.
#![expect(clippy::disallowed_types, reason = "a real shell says what a command means")]

use driftline_schemas::{
    Alert, Container, ContainerId, FileClass, Finding, HashState, Mount, Node, Origin, Pod, Sha256, text,
};
use std::process::Command;

use crate::fixtures::{S, T0, added, conflict, container, fileless, in_google_pod, mismatch, node};
use crate::tests::Rig;

fn alert(finding: Finding) -> Alert {
    let finding = Finding { severity: driftline_schemas::Severity::Low, ..finding };
    Rig::new().live(finding).remove(0)
}

fn commands(alert: &Alert, title: &str) -> Vec<String> {
    let step = alert.response.iter().find(|step| step.title.starts_with(title));
    step.map(|step| step.commands.clone()).unwrap_or_default()
}

fn text_of<'a>(alert: &'a Alert, title: &str) -> &'a str {
    alert.response.iter().find(|step| step.title.starts_with(title)).map_or("", |step| &step.text)
}

fn with_subject(finding: Finding, change: impl Fn(&mut driftline_schemas::Subject)) -> Finding {
    let mut finding = finding;
    change(finding.subject.as_mut().unwrap());
    finding
}

fn on(runtime: &str) -> Finding {
    Finding { container: Some(Container { runtime: runtime.into(), ..container() }), ..added("f", T0) }
}

#[test]
fn a_google_pod_has_every_step_of_the_reference() {
    let alert = alert(in_google_pod(added("f", T0)));
    let titles: Vec<_> = alert.response.iter().map(|step| step.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "Review the finding",
            "Review the cluster and the node",
            "Review the pod",
            "Check the logs",
            "Investigate the running container",
            "Research the attack",
            "Respond"
        ]
    );
    assert_eq!(alert.resource, "//container.googleapis.com/projects/shop-prod/locations/europe-west1/clusters/prod-eu");
    let labels = "resource.labels.project_id=\"shop-prod\" AND resource.labels.location=\"europe-west1\" AND resource.labels.cluster_name=\"prod-eu\"";
    assert_eq!(
        commands(&alert, "Check the logs"),
        [
            format!(
                "resource.type=\"k8s_container\" AND {labels} AND resource.labels.namespace_name=\"shop\" AND resource.labels.pod_name=\"cart-7d9f-x2x4\""
            ),
            format!(
                "logName=\"projects/shop-prod/logs/cloudaudit.googleapis.com%2Factivity\" AND resource.type=\"k8s_cluster\" AND {labels} AND \"cart-7d9f-x2x4\""
            ),
            "kubectl logs cart-7d9f-x2x4 --namespace=shop -c web --timestamps --since-time=2026-01-02T02:59:05Z"
                .to_owned(),
            "resource.type=\"gce_instance\" AND resource.labels.instance_id=\"1234567890123456789\"".to_owned(),
            "journalctl --utc --since '2026-01-02 02:59:05 UTC' --until '2026-01-02 03:09:05 UTC'".to_owned(),
        ]
    );
    let sample = format!("./driftline-{}.sample", &alert.alert_id.as_str()[..12]);
    assert_eq!(
        commands(&alert, "Investigate"),
        [
            "gcloud container clusters get-credentials prod-eu --region=europe-west1 --project=shop-prod".to_owned(),
            format!("kubectl cp shop/cart-7d9f-x2x4:/tmp/x -c web {sample}{}", check("/tmp/x", &sample)),
            format!("driftline-collector copy 4242 /tmp/x > {sample}{}", check("/tmp/x", &sample)),
            "kubectl exec --namespace=shop -ti cart-7d9f-x2x4 -c web -- /bin/sh".to_owned(),
            "kubectl debug --namespace=shop -ti cart-7d9f-x2x4 --image=busybox --target=web -- sh".to_owned(),
        ]
    );
    assert_eq!(commands(&alert, "Respond"), ["kubectl delete pod cart-7d9f-x2x4 --namespace=shop"]);
    assert_eq!(
        commands(&alert, "Research"),
        ["https://attack.mitre.org/techniques/T1105/", "https://attack.mitre.org/techniques/T1106/", &alert.virustotal]
    );
}

#[test]
fn a_flaw_of_an_image_says_how_to_find_out_who_is_right() {
    let finding = conflict("f", T0);
    let image = container().image_id;
    let alert = Rig::new().live(finding).remove(0);
    let titles: Vec<_> = alert.response.iter().map(|step| step.title.as_str()).collect();
    assert_eq!(titles[..2], ["Review the finding", "Check the image"]);
    assert_eq!(
        commands(&alert, "Check the image"),
        [
            format!("driftline images show {image}"),
            "skopeo copy docker://registry.test/app:1.2 oci-archive:image.tar".to_owned(),
            format!("driftline images verify {image} --against image.tar"),
        ]
    );
    let text = text_of(&alert, "Check the image");
    assert!(text.contains("node:node-1 says 11") && text.contains("revoke its Kafka credentials"), "{text}");
    assert!(!text_of(&alert, "Investigate").contains("copy"), "there is no program");
    assert!(text_of(&alert, "Respond").contains("whoever runs the registry"));
    assert!(alert.message.starts_with("container web (image registry.test/app:1.2) on node node-1: publishers"));
}

#[test]
fn a_mismatch_beside_a_program_has_both_explained_and_neither_folded() {
    let mut rig = Rig::new();
    rig.live(mismatch("m", T0));
    rig.live(conflict("c", T0));
    let alert = rig.live(added("f", T0)).pop().unwrap();
    assert_eq!((alert.finding_count, alert.findings.len()), (3, 3));
    let text = text_of(&alert, "Check the image");
    assert!(text.contains("is not used") && text.contains("contradict"), "{text}");
}

#[test]
fn a_mounted_program_is_accepted_by_its_mount_and_is_no_part_of_the_image() {
    let mount = |source: &str| Mount {
        point: "/scripts".into(),
        fs_type: "bind".into(),
        source: source.into(),
        read_only: false,
    };
    let respond = |mount: Option<Mount>| {
        let finding = Finding { origin: Origin::Mounted, ..on("podman") };
        let finding = with_subject(finding, |subject| subject.mount.clone_from(&mount));
        text_of(&alert(finding), "Respond").to_owned()
    };
    let named = respond(Some(mount("/srv/scripts")));
    assert!(
        named.contains("who can write to the bind mount at /scripts of /srv/scripts, mount it read-only"),
        "{named}"
    );
    assert!(!named.contains("build it into"), "{named}");
    assert!(respond(Some(mount(""))).contains("the bind mount at /scripts, mount it"));
    assert!(respond(None).contains("who can write to its mount"));
    assert!(text_of(&alert(on("podman")), "Respond").contains("build it into image"));
}

#[test]
fn of_an_unproven_program_no_build_is_advised() {
    let text = alert(Finding { origin: Origin::Unproven, ..on("podman") });
    let text = text_of(&text, "Respond");
    assert!(text.contains("it may be the image's") && !text.contains("build it into"), "{text}");
}

#[test]
fn a_zonal_cluster_is_named_by_its_zone() {
    for (location, expected) in [
        ("europe-west1-b", "--zone=europe-west1-b"),
        ("europe-west1", "--region=europe-west1"),
        ("us-central1", "--region=us-central1"),
        ("here", "--region=here"),
    ] {
        let mut finding = in_google_pod(added("f", T0));
        finding.node.location = location.into();
        assert!(commands(&alert(finding), "Investigate")[0].contains(expected), "{location}");
    }
}

#[test]
fn what_is_not_known_is_left_out_and_not_filled_with_nothing() {
    // A pod outside Google Cloud, and a pod in Google Cloud of which only the project is known.
    for project in ["", "shop-prod"] {
        let mut finding = in_google_pod(added("f", T0));
        finding.node = Node { project: project.into(), ..node() };
        let alert = alert(finding);
        assert_eq!(alert.resource, "//driftline/clusters/lab");
        for command in alert.response.iter().flat_map(|step| &step.commands) {
            assert!(
                !command.contains("google") && !command.contains("gcloud") && !command.contains("resource."),
                "{command}"
            );
            assert!(!command.contains("''") && !command.contains("\"\""), "{command}");
        }
    }
    // A node that Google names by a path, not a number.
    let mut finding = in_google_pod(added("f", T0));
    finding.node.provider_id = "gce://shop-prod/europe-west1-b/n1".into();
    let filter = "resource.type=\"gce_instance\" AND labels.\"compute.googleapis.com/resource_name\"=\"gke-prod-eu-pool-1-abcd\"";
    assert!(commands(&alert(finding), "Check the logs").contains(&filter.to_owned()));
}

#[test]
fn engines_without_a_cluster_have_their_own_commands() {
    for (runtime, program, has_copy) in [
        ("podman", "podman", true),
        ("docker", "docker", true),
        ("containerd", "nerdctl", true),
        ("crio", "crictl", false),
    ] {
        let alert = alert(on(runtime));
        let sample = format!("./driftline-{}.sample", &alert.alert_id.as_str()[..12]);
        let mut expected = vec![];
        let check = check("/tmp/x", &sample);
        expected.extend(has_copy.then(|| format!("{program} cp c1c1:/tmp/x {sample}{check}")));
        expected.push(format!("driftline-collector copy 4242 /tmp/x > {sample}{check}"));
        expected.push(format!("{program} exec -ti c1c1 /bin/sh"));
        expected.extend(has_copy.then(|| format!("{program} run --rm -ti --pid=container:c1c1 busybox sh")));
        assert_eq!(commands(&alert, "Investigate"), expected);
        assert_eq!(commands(&alert, "Respond"), [format!("{program} stop c1c1"), format!("{program} rm c1c1")]);
        assert_eq!(commands(&alert, "Review the container"), [format!("{program} inspect c1c1")]);
    }
}

#[test]
fn a_copy_is_got_where_the_file_still_is() {
    let gone = |finding| with_subject(finding, |subject| subject.hash_state = HashState::Gone);
    let deleted = |finding| with_subject(finding, |subject| subject.deleted = true);
    let script = |finding| with_subject(finding, |subject| subject.script = true);
    for (name, finding, copies, text) in [
        ("by path", on("podman"), 2, "copy the program out"),
        ("in memory", fileless("f", T0), 1, "while its process lives"),
        ("deleted", deleted(on("podman")), 1, "while its process lives"),
        ("gone", gone(on("podman")), 0, "no copy of the program is possible"),
        ("deleted and gone", gone(deleted(on("podman"))), 0, "no copy of the program is possible"),
        ("script", script(on("podman")), 2, "copy the program out"),
        ("deleted script", script(deleted(on("podman"))), 0, "its process runs the interpreter"),
        (
            "no path",
            with_subject(on("podman"), |subject| subject.path = "pipe:[1]".into()),
            1,
            "while its process lives",
        ),
    ] {
        let alert = alert(finding);
        let commands = commands(&alert, "Investigate");
        let is_copy = |command: &&String| command.contains(".sample");
        assert_eq!(commands.iter().filter(is_copy).count(), copies, "{name}: {commands:?}");
        assert!(text_of(&alert, "Investigate").contains(text), "{name}");
    }
    let memory = alert(with_subject(on("podman"), |subject| subject.class = FileClass::Memfd));
    assert!(commands(&memory, "Investigate")[0].starts_with("cat /proc/4242/exe > ./driftline-"));
}

/// The comparison that follows a copy of a program whose content is its path.
fn check(path: &str, sample: &str) -> String {
    format!(" && echo '{}  {sample}' | sha256sum --check", Sha256::of(path.as_bytes()))
}

/// Runs `command` with every program in it replaced by one that prints its arguments, NUL after each.
fn words_of(command: &str) -> Vec<Vec<u8>> {
    let programs =
        ["kubectl", "gcloud", "podman", "cat", "driftline", "journalctl", "driftline-collector", "sha256sum"];
    let stubs: String = programs.map(|name| format!("{name}() {{ printf '%s\\0' \"$@\"; }}\n")).concat();
    let command = command.replace(" > ./driftline-", " ./driftline-");
    let output = Command::new("bash").arg("-c").arg(format!("PATH=\n{stubs}{command}")).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
    output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

#[test]
fn hostile_values_stay_values() {
    let hostile = "x'; touch pwned; echo $(id) `id` \"${HOME}\" \\ & | ~ * #";
    let raw = b"/tmp/'\x1b]0;\xff$(id)\n;id".to_vec();
    let mut finding = in_google_pod(added("f", T0));
    finding.node.cluster = hostile.into();
    finding.node.name = hostile.into();
    finding.node.provider_id.clear();
    let container = finding.container.as_mut().unwrap();
    container.name = hostile.into();
    container.pod = Some(Pod { namespace: hostile.into(), name: hostile.into(), ..container.pod.clone().unwrap() });
    let finding = with_subject(finding, |subject| {
        let shown = text::printable(&raw);
        (subject.path, subject.path_base64) = (shown.text, shown.base64);
    });
    let alert = alert(finding);
    let shell = |command: &&String| !command.starts_with("https://") && !command.contains("resource.type=");
    let mut checked = 0;
    for command in alert.response.iter().flat_map(|step| &step.commands) {
        assert!(!command.chars().any(text::is_harmful), "{command}");
        if shell(&command) {
            let words = words_of(command);
            checked += 1;
            let whole = |word: &Vec<u8>| word.windows(hostile.len()).filter(|part| *part == hostile.as_bytes()).count();
            let values: usize = words.iter().map(whole).sum();
            assert_eq!(command.matches("touch pwned").count(), values, "{command}: {words:?}");
        }
    }
    assert_eq!(checked, 13);
    let copies = commands(&alert, "Investigate");
    let source = [format!("{hostile}/{hostile}:").as_bytes(), &raw].concat();
    assert_eq!(words_of(&copies[1])[1], source);
    assert_eq!(words_of(&copies[2])[..3], [b"copy".to_vec(), b"4242".to_vec(), raw.clone()]);
    // In filters a quote is escaped; in links everything is.
    let filters = commands(&alert, "Check the logs");
    assert!(filters[0].contains("pod_name=\"x'; touch pwned; echo $(id) `id` \\\"${HOME}\\\" \\\\ & | ~ * #\""));
    assert!(commands(&alert, "Review the pod")[0].contains("/x%27%3B%20touch%20pwned%3B%20echo%20%24%28id%29"));
}

#[test]
fn hostile_values_stay_values_for_engines() {
    let container = Container { id: ContainerId::from("c; touch pwned"), ..container() };
    let alert = alert(Finding { container: Some(container), ..added("f", T0 + S) });
    for command in alert.response.iter().flat_map(|step| &step.commands).filter(|command| command.starts_with("podman"))
    {
        words_of(command);
    }
    assert_eq!(words_of(&commands(&alert, "Respond")[0]), [b"stop".to_vec(), b"c; touch pwned".to_vec(), Vec::new()]);
}
