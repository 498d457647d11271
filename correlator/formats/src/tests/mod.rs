//! Tests alerts that the correlator made, in every format: against reviewed files, and for the values that an analyst
//! must find in each.
#![expect(clippy::disallowed_methods, reason = "reviewed files are read, and written when that is asked for")]

#[path = "../../../core/src/fixtures.rs"]
mod fixtures;
mod schema;

use driftline_correlator_core::{Correlator, HEADERS, Input, Options, Settings, headers};
use driftline_schemas::limits::{ALERT_BYTES_MAX, ALERT_FINDINGS_MAX};
use driftline_schemas::topics::Topic;
use driftline_schemas::{
    Alert, Container, Finding, FindingState, HashState, ImageId, Origin, Process, Severity, Subject, decode, text,
};
use driftline_service_core::{Effects, Stage as _};
use serde_json::Value;
use std::path::PathBuf;

use crate::ocsf;
use fixtures::{
    S, T0, added, added_at, conflict, container, fileless, in_google_pod, loss, mismatch, subject, suspicious,
};

/// Every alert emitted about these findings, live, and the final one.
fn alerts(findings: Vec<Finding>) -> Vec<Alert> {
    let mut correlator = Correlator::new(Settings::new(Options::default(), &crate::ALL).unwrap(), 1);
    let mut effects = Effects::default();
    for finding in findings {
        let now_ns = finding.event_time_ns + 40_000_000;
        correlator.apply(now_ns, Input::Finding { partition: 0, finding: Box::new(finding) }, &mut effects).unwrap();
    }
    correlator.apply(T0 + 3_600 * S, Input::Tick, &mut effects).unwrap();
    let records = effects.take_outgoing().into_iter().filter(|record| record.topic == Topic::Alerts);
    records.map(|record| decode(&record.value).unwrap()).collect()
}

fn last(findings: Vec<Finding>) -> Alert {
    alerts(findings).pop().unwrap()
}

/// A session with several findings in a pod, with every fact known.
fn full() -> Alert {
    let findings = [
        suspicious("00000000000000000000000000000001", T0),
        added_at("00000000000000000000000000000002", T0 + S, "/tmp/.x"),
        fileless("00000000000000000000000000000003", T0 + 2 * S),
    ];
    last(findings.map(in_google_pod).into())
}

/// A flawed image from which only its own programs ran.
fn image_flaws() -> Alert {
    let mismatch = mismatch("00000000000000000000000000000008", T0);
    last(vec![mismatch, conflict("00000000000000000000000000000009", T0 + S)])
}

fn hostile() -> Alert {
    let raw = b"/tmp/\xff\x1b[2J'$(id)\n";
    let shown = text::printable(raw);
    let mut finding = added("00000000000000000000000000000006", T0);
    let process = finding.process.as_mut().unwrap();
    process.executable.clone_from(&shown.text);
    process.args = vec![shown.text.clone(), "a b".into()];
    process.args_base64 = Some(vec![text::base64(raw), text::base64(b"a b")]);
    finding.subject = Some(Subject { path: shown.text, path_base64: shown.base64, ..subject("/x") });
    let container = Container { name: "we\"b\\".into(), image_id: ImageId::default(), ..container() };
    last(vec![Finding { container: Some(container), ..finding }])
}

fn script() -> Finding {
    let path = "/usr/local/bin/job.sh";
    let mut finding = added("00000000000000000000000000000007", T0);
    finding.process = Some(Process { args: vec!["/bin/sh".into(), path.into()], ..fixtures::process("/bin/sh") });
    finding.subject = Some(Subject {
        script: true,
        hash_state: HashState::Changed,
        sha256: None,
        image_sha256: Some(driftline_schemas::Sha256::of(b"original")),
        ..subject(path)
    });
    Finding { origin: Origin::Modified, techniques: vec!["T1059.004".into(), "T9999".into()], ..finding }
}

/// The reviewed alerts and their names.
fn reviewed() -> Vec<(&'static str, Alert)> {
    let added = || added("00000000000000000000000000000001", T0);
    let retracted = Finding { revision: 2, state: FindingState::Retracted, ..added() };
    vec![
        ("podman_added", alerts(vec![added()]).remove(0)),
        ("podman_closed", alerts(vec![added(), retracted]).pop().unwrap()),
        ("pod_full", full()),
        ("podman_fileless", last(vec![fileless("00000000000000000000000000000003", T0)])),
        ("node_loss", last(vec![loss("00000000000000000000000000000005", T0)])),
        ("image_flaws", image_flaws()),
        ("hostile", hostile()),
        ("script_modified", last(vec![script()])),
    ]
}

fn testdata(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file)
}

/// Compares with a reviewed file, or writes it when `UPDATE_GOLDEN` is 1.
fn golden(file: &str, bytes: &[u8]) {
    let bytes = [bytes, b"\n"].concat();
    let path = testdata(file);
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(&path, &bytes).unwrap();
    }
    let reviewed = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(reviewed == bytes, "{file} differs; look at what changed with UPDATE_GOLDEN=1 and git diff");
}

#[test]
fn alerts_are_written_as_reviewed() {
    for (name, alert) in reviewed() {
        golden(&format!("{name}.alert.json"), &serde_json::to_vec_pretty(&alert).unwrap());
        golden(&format!("{name}.ocsf.json"), &ocsf::encode_pretty(&alert).unwrap());
    }
}

#[test]
fn the_record_is_the_reviewed_json_on_one_line() {
    for (name, alert) in reviewed() {
        let line = ocsf::encode(&alert).unwrap();
        assert!(!line.contains(&b'\n'), "{name}");
        let reviewed: Value =
            serde_json::from_slice(&std::fs::read(testdata(&format!("{name}.ocsf.json"))).unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), reviewed, "{name}");
    }
}

#[test]
fn nothing_that_a_terminal_would_obey_reaches_an_alert() {
    let alert = hostile();
    for json in [serde_json::to_string(&alert).unwrap(), String::from_utf8(ocsf::encode(&alert).unwrap()).unwrap()] {
        // Step texts may span lines, which JSON escapes.
        assert!(!json.chars().any(text::is_harmful) && !json.contains("\\u001b"), "{json}");
    }
}

/// A value that an analyst must find in both forms: its name, where it is in the record, where in OCSF.
type Field = (&'static str, fn(&Alert) -> &str, &'static str);

const FIELDS: [Field; 25] = [
    ("program binary", |alert| &first(alert).subject.as_ref().unwrap().path, "/evidences/0/file/path"),
    ("arguments", |alert| &process(alert).args[0], "/evidences/0/process/cmd_line"),
    ("resource full name", |alert| &alert.resource, "/resources/0/uid"),
    ("VirusTotal link", |alert| &alert.virustotal, "/unmapped/virustotal"),
    ("Pod_Namespace", |alert| &pod(alert).namespace, "/resources/1/namespace"),
    ("Pod_Name", |alert| &pod(alert).name, "/resources/1/name"),
    ("Container_Name", |alert| &held(alert).name, "/evidences/0/container/name"),
    ("Container_Image_Uri", |alert| &held(alert).image_ref, "/evidences/0/container/image/name"),
    ("VM_Instance_Name", |alert| &alert.node.name, "/device/hostname"),
    ("project display name", |alert| &alert.node.project, "/unmapped/project"),
    ("node instance id", |alert| &alert.node.provider_id, "/device/instance_uid"),
    ("owner workload", |alert| &held(alert).owner.as_ref().unwrap().name, "/unmapped/owner/name"),
    ("owner workload as a resource", |alert| &held(alert).owner.as_ref().unwrap().kind, "/resources/2/type"),
    ("related findings", |alert| alert.findings[1].finding_id.as_str(), "/finding_info/related_events/1/uid"),
    ("response: review", |alert| step(alert, 0), "/remediation/desc"),
    ("response: cluster and node", |alert| step(alert, 1), "/remediation/desc"),
    ("response: pod", |alert| step(alert, 2), "/remediation/desc"),
    ("response: log filters", |alert| step(alert, 3), "/remediation/desc"),
    ("response: investigate", |alert| step(alert, 4), "/remediation/desc"),
    ("response: research", |alert| step(alert, 5), "/remediation/desc"),
    ("response: respond", |alert| step(alert, 6), "/remediation/desc"),
    ("SHA-256", |alert| &alert.virustotal, "/evidences/0/file/hashes/0/value"),
    ("MITRE technique", |alert| &alert.techniques[0], "/finding_info/attacks/0/technique/uid"),
    ("score with its parts", |alert| &alert.contributions[0].why, "/unmapped/score/contributions/0/why"),
    ("fingerprint", |alert| alert.fingerprint.as_str(), "/unmapped/fingerprint"),
];

fn first(alert: &Alert) -> &driftline_schemas::AlertFinding {
    &alert.findings[0]
}

fn process(alert: &Alert) -> &Process {
    first(alert).process.as_ref().unwrap()
}

fn held(alert: &Alert) -> &Container {
    alert.container.as_ref().unwrap()
}

fn pod(alert: &Alert) -> &driftline_schemas::Pod {
    held(alert).pod.as_ref().unwrap()
}

fn step(alert: &Alert, at: usize) -> &str {
    &alert.response[at].commands[0]
}

#[test]
fn every_field_an_analyst_needs_is_in_both_formats_and_not_empty() {
    // The strongest finding is the first listed, and has a digest.
    let finding = Finding { severity: Severity::High, ..suspicious("00000000000000000000000000000001", T0) };
    let other = added_at("00000000000000000000000000000002", T0 + S, "/tmp/.x");
    let alert = last(vec![in_google_pod(finding), in_google_pod(other)]);
    let record: Alert = decode(&driftline_schemas::encode(&alert).unwrap()).unwrap();
    let ocsf: Value = serde_json::from_slice(&ocsf::encode(&alert).unwrap()).unwrap();
    for (name, in_record, pointer) in FIELDS {
        assert!(!in_record(&record).is_empty(), "{name} in the record");
        let value = ocsf.pointer(pointer).and_then(Value::as_str);
        assert!(value.is_some_and(|value| !value.is_empty()), "{name} at {pointer}: {ocsf:#}");
    }
    let all_steps = ocsf.pointer("/remediation/desc").and_then(Value::as_str).unwrap();
    for step in &record.response {
        assert!(all_steps.contains(&step.title) && all_steps.contains(&step.text));
        assert!(step.commands.iter().all(|command| all_steps.contains(command)));
    }
}

#[test]
fn headers_route_without_opening_the_value() {
    let alert = full();
    for (format, schema) in [
        (None, format!("avro/driftline.Alert/{}", text::hex(&driftline_schemas::encode(&alert).unwrap()[2..10]))),
        (Some(&ocsf::FORMAT), "ocsf/1.8.0/detection_finding".to_owned()),
    ] {
        let headers = headers(&alert, format);
        let values: Vec<_> = headers.iter().map(|(_, value)| std::str::from_utf8(value).unwrap()).collect();
        assert_eq!(headers.iter().map(|(name, _)| *name).collect::<Vec<_>>(), HEADERS);
        assert_eq!(values, [alert.alert_id.as_str(), "4", "Critical", &schema]);
    }
}

#[test]
fn observables_point_to_their_values() {
    let ocsf: Value = serde_json::from_slice(&ocsf::encode(&full()).unwrap()).unwrap();
    let observables = ocsf["observables"].as_array().unwrap();
    assert_eq!(observables.len(), 2 + 3 * 2);
    for observable in observables {
        let name = observable["name"].as_str().unwrap();
        let pointer = format!("/{}", name.replace('[', "/").replace(']', "").replace('.', "/"));
        assert_eq!(ocsf.pointer(&pointer), Some(&observable["value"]), "{name}");
    }
}

#[test]
fn what_ocsf_forbids_is_left_out() {
    let encode = |finding| -> Value { serde_json::from_slice(&ocsf::encode(&last(vec![finding])).unwrap()).unwrap() };
    let mut finding = in_google_pod(added("f", T0));
    let held = finding.container.as_mut().unwrap();
    held.image_id = ImageId::default();
    held.pod.as_mut().unwrap().uid = "0123456789abcdef0123456789abcdef".into();
    finding.node.provider_id.clear();
    finding.node.name.clear();
    let ocsf = encode(finding);
    let container = &ocsf["evidences"][0]["container"];
    assert_eq!(
        (&container["image"], &container["pod_uuid"], &ocsf["device"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(ocsf["unmapped"]["container"]["image_ref"], "registry.test/app:1.2");
    assert_eq!(ocsf["unmapped"]["container"]["pod_uid"], "0123456789abcdef0123456789abcdef");
    let loss = encode(loss("f", T0));
    assert_eq!((&loss["evidences"][0]["process"], &loss["evidences"][0]["file"]), (&Value::Null, &Value::Null));
    assert!(loss["evidences"][0]["data"]["note"].is_string());
}

/// Compares the reviewed files with the published schema, if a copy of it lies beside the project. Only what the schema
/// needs is implemented here; `loadtest/validate_ocsf.py` does the same with an independent validator.
#[test]
fn reviewed_ocsf_is_valid_under_the_published_schema() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference");
    let file = root.join("detection_finding-1.8.0.container+host.schema.json");
    let Ok(schema) = std::fs::read(&file) else {
        return skipped(
            "reviewed_ocsf_is_valid_under_the_published_schema",
            "the published schema is not beside the project",
        );
    };
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    for (name, _) in reviewed() {
        let value = serde_json::from_slice(&std::fs::read(testdata(&format!("{name}.ocsf.json"))).unwrap()).unwrap();
        assert_eq!(schema::errors(&schema, &value), [""; 0], "{name}");
    }
    let errors = schema::errors(&schema, &serde_json::json!({"class_uid": "2004", "other": 1}));
    assert!(errors.len() > 3, "a wrong record is found: {errors:?}");
}

#[test]
fn the_largest_alert_fits_a_record_in_every_format() {
    for change in [(|_: &mut Finding| {}) as fn(&mut Finding), fixtures::with_absurd_facts] {
        let findings = (0..ALERT_FINDINGS_MAX).map(|at| {
            let mut finding = fixtures::longest_finding(at);
            change(&mut finding);
            finding
        });
        for alert in alerts(findings.collect()) {
            for format in &crate::ALL {
                assert!((format.encode)(&alert).unwrap().len() <= ALERT_BYTES_MAX, "{}", format.name);
            }
        }
    }
}

/// Records the name of a test that could not run, for the last lines of `make test`.
#[expect(clippy::disallowed_macros, reason = "a person reads it")]
fn skipped(name: &str, reason: &str) {
    use std::io::Write as _;
    println!("not run: {name}: {reason}");
    if let Ok(list) = std::env::var("DRIFTLINE_SKIPPED") {
        #[expect(clippy::disallowed_types, reason = "the list is a file")]
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
        writeln!(list, "{name}\t{reason}").unwrap();
    }
}
