//! Measures how much memory sessions take: the resident bytes of the process, for each number of findings, and the
//! estimate of the core.
//!
//! Prints text and one line of JSON. Run by `cargo bench -p driftline-correlator-core --bench memory`.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a measurement asks the system, prints, and ends when something fails"
)]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::Command;

use driftline_correlator_core::{Correlator, Input, Options, Settings};
use driftline_schemas::{Container, ContainerId, Finding, FindingId, ImageId, Pod, Sha256};
use driftline_service_core::{Effects, Stage as _};

#[path = "../src/fixtures.rs"]
mod fixtures;
use fixtures::{S, T0, added_at, in_google_pod};

/// Findings of each session, and number of sessions.
const CASES: [(usize, usize); 3] = [(1, 120_000), (4, 120_000), (20, 24_000)];
/// Containers of one workload: they differ in container and pod.
const REPLICAS: usize = 50;
/// Names the index of the case to the process that measures it.
const CASE: &str = "DRIFTLINE_BENCH_CASE";

/// The `nth` finding of a session's container, as long as findings in a cluster are.
fn finding(session: usize, nth: usize) -> Finding {
    let workload = session / REPLICAS;
    let text = |text: &str| Sha256::of(text.as_bytes());
    let path = format!("/srv/app/releases/{workload:05}/bin/tool-{nth:02}");
    let mut finding = in_google_pod(added_at("", T0 + S, &path));
    finding.finding_id = FindingId::from(format!("{session:016x}{nth:016x}").as_str());
    let label = |key: &str, value: String| (key.to_owned(), value);
    let labels = BTreeMap::from([
        label("app.kubernetes.io/name", format!("workload-{workload:05}")),
        label("app.kubernetes.io/instance", format!("workload-{workload:05}-eu")),
        label("app.kubernetes.io/part-of", "shop".to_owned()),
        label("app.kubernetes.io/managed-by", "Helm".to_owned()),
        label("pod-template-hash", format!("{workload:010x}")),
    ]);
    let pod = Pod {
        namespace: "shop".to_owned(),
        name: format!("workload-{workload:05}-7d9f8c6b5-{session:05x}"),
        uid: format!("3fa85f64-5717-4562-b3fc-{session:012x}"),
        labels,
    };
    finding.container = finding.container.map(|container| Container {
        id: ContainerId::from(text(&format!("container {session}")).to_string().as_str()),
        image_ref: format!("europe-docker.pkg.dev/shop-prod/images/workload-{workload:05}:2026-11-30"),
        image_id: ImageId::from(text(&format!("image {workload}")).to_digest().as_str()),
        pod: Some(pod),
        ..container
    });
    let versions = ["rules", "enricher_config", "iocs"].map(|kind| (kind.to_owned(), text(kind).to_digest()));
    finding.versions = versions.into_iter().chain([("enricher".to_owned(), "0.1.0".to_owned())]).collect();
    finding
}

/// Memory of this process.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().strip_suffix(" kB").and_then(|text| text.parse::<usize>().ok()).expect("a number") * 1024
}

fn take(correlator: &mut Correlator, finding: Finding) {
    let input = Input::Finding { partition: 0, finding: Box::new(finding) };
    correlator.apply(T0 + S, input, &mut Effects::default()).expect("a finding");
}

/// Opens the sessions and gives each its next finding in turn. Prints the resident and the estimated bytes.
fn measure((findings, sessions): (usize, usize)) {
    let options = Options { containers_per_partition: sessions, sessions_bytes_max: usize::MAX, ..Options::default() };
    let mut correlator = Correlator::new(Settings::new(options, &[]).expect("settings"), 1);
    // Allocates everything that a process has once, such as parsed schemas, before the first measurement.
    take(&mut correlator, finding(sessions, 0));
    correlator.drop_partition(0);
    let before = resident();
    for nth in 0..findings {
        (0..sessions).for_each(|session| take(&mut correlator, finding(session, nth)));
    }
    println!("{} {}", resident().saturating_sub(before), correlator.sessions_bytes());
}

fn main() {
    let case = env::var(CASE).ok().and_then(|text| text.parse::<usize>().ok());
    if let Some(case) = case.and_then(|case| CASES.get(case)) {
        return measure(*case);
    }
    println!("sessions  findings each  resident MB  bytes a session  estimated  estimated/resident");
    for (case, (findings, sessions)) in CASES.into_iter().enumerate() {
        let program = env::current_exe().expect("this program");
        let output = Command::new(program).env(CASE, case.to_string()).output().expect("a process");
        let text = String::from_utf8(output.stdout).expect("numbers");
        let (resident, estimated) = text.trim().split_once(' ').expect("two numbers");
        let (resident, estimated): (usize, usize) =
            (resident.parse().expect("a number"), estimated.parse().expect("a number"));
        let ratio = estimated as f64 / resident as f64;
        println!(
            "{sessions:8} {findings:14} {:12.1} {:16} {:10} {ratio:19.3}",
            resident as f64 / 1e6,
            resident / sessions,
            estimated / sessions
        );
        println!(
            "{{\"bench\":\"session_memory\",\"sessions\":{sessions},\"findings\":{findings},\"resident_bytes\":{resident},\"estimated_bytes\":{estimated}}}"
        );
    }
}
