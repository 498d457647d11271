//! Tests far beyond every maximum: the kept part stays as it is, everything above is counted and emitted. State
//! contains everything that a session is, so its size in the changelog stands for its size in memory.

use driftline_schemas::limits::RECORD_BYTES_MAX;
use driftline_schemas::{Container, ContainerId, Finding, ImageId, Severity};
use driftline_service_core::{Disposition, Effects, Stage as _};
use std::collections::BTreeMap;

use super::{Rig, correlator, found, image, restore, short, summaries};
use crate::fixtures::{S, T0, added, added_at, container, in_google_pod};
use crate::limits::{
    FACT_BYTES_MAX, FINDING_ID_BYTES_MAX, FINDING_TECHNIQUES_MAX, HOST_NAMESPACES_MAX, LABELS_MAX, POD_LABELS_MAX,
    REPEATS_MAX, SESSION_FINDINGS_MAX, TECHNIQUE_BYTES_MAX, VERSION_KINDS_MAX, VERSION_VALUES_MAX,
};
use crate::{Options, telemetry};

/// Numbers in Avro take more bytes the larger they are; nothing else may grow.
const NUMBERS_BYTES: usize = 32;

/// A finding of a container, this many seconds after the beginning.
fn of(name: &str, at_s: i64) -> Finding {
    let container = Container { id: ContainerId::from(name), ..container() };
    Finding { container: Some(container), ..added(&format!("{name}-{at_s:06}"), T0 + at_s * S) }
}

#[test]
fn a_session_keeps_its_size_however_many_findings_come() {
    let mut rig = Rig::with(Options { threshold: Severity::Critical, ..Options::default() });
    let distinct = |at: usize| Finding {
        category: format!("category {at:05}"),
        ..added_at(&format!("f{at:05}"), T0, &format!("/tmp/{at:05}"))
    };
    let full = SESSION_FINDINGS_MAX + LABELS_MAX.max(REPEATS_MAX) + 1;
    for at in 0..full {
        rig.live(distinct(at));
    }
    let sizes = |rig: &Rig| (rig.state_size("finding/").0, rig.state_size("beyond/").0, rig.state_size("").1);
    let (findings, beyond, bytes) = sizes(&rig);
    assert_eq!((findings, beyond), (SESSION_FINDINGS_MAX, 1));
    for at in full..full + 600 {
        rig.live(distinct(at));
    }
    assert_eq!(sizes(&rig).0, SESSION_FINDINGS_MAX);
    assert!(sizes(&rig).2 <= bytes + NUMBERS_BYTES, "{bytes} bytes became {}", sizes(&rig).2);
    let untracked = full + 600 - SESSION_FINDINGS_MAX;
    assert_eq!(rig.count(telemetry::FINDING_UNTRACKED), u64::try_from(untracked).unwrap());
    let strong = Finding { severity: Severity::Critical, ..distinct(full + 600) };
    let alert = rig.live(strong).remove(0);
    assert_eq!(alert.flags, ["findings_capped", "lists_capped"]);
    assert_eq!(alert.finding_count, i64::try_from(full + 601).unwrap());
    assert_eq!((rig.count(telemetry::ALERT_FINDINGS_CAPPED), rig.count(telemetry::ALERT_LISTS_CAPPED)), (1, 1));
}

#[test]
fn repeats_of_more_programs_than_are_counted_singly_count_in_the_total() {
    let mut rig = Rig::with(Options { threshold: Severity::Critical, ..Options::default() });
    let of_path = |at: usize, path: usize| added_at(&format!("f{at:05}"), T0, &format!("/tmp/{path}"));
    let full = SESSION_FINDINGS_MAX + REPEATS_MAX;
    for at in 0..=full {
        rig.live(of_path(at, at));
    }
    // The last program arrived when there was no more room, the first of those that are only counted before.
    let (known, unknown) = (SESSION_FINDINGS_MAX, full);
    for (at, path) in [(full + 1, known), (full + 2, unknown)] {
        rig.live(of_path(at, path));
    }
    let alert = rig.live(Finding { severity: Severity::Critical, ..of_path(full + 3, known) }).remove(0);
    let count = |path: usize| {
        let of =
            |shown: &&driftline_schemas::AlertFinding| shown.subject.as_ref().unwrap().path == format!("/tmp/{path}");
        alert.findings.iter().find(of).map(|shown| shown.count)
    };
    assert_eq!(count(known), Some(3), "one counted when it came, one later, and the strong one");
    assert_eq!(alert.finding_count, i64::try_from(full + 4).unwrap());
    assert_eq!(alert.flags, ["findings_capped"]);
}

#[test]
fn a_partition_keeps_its_size_however_many_containers_come() {
    let mut rig = Rig::with(Options { containers_per_partition: 5, ..short() });
    let mut emitted = Vec::new();
    for at in 0..200 {
        emitted.extend(rig.live(of(&format!("c{at:03}"), at)));
    }
    let remaining =
        i64::try_from(rig.count(telemetry::SESSION_OPENED) - rig.count(telemetry::SESSION_EVICTED_PARTITION));
    assert_eq!((rig.state_size("session/").0, rig.state_size("finding/").0, remaining), (5, 5, Ok(5)));
    let ended = emitted.iter().filter(|alert| alert.flags == ["session_evicted"] && alert.r#final).count();
    assert_eq!((ended, rig.count(telemetry::SESSION_EVICTED_PARTITION)), (195, 195));
    assert_eq!(rig.state_size("").0, 11, "five sessions of one finding, and when sessions were forgotten");
}

#[test]
fn a_container_keeps_its_size_however_many_sessions_come() {
    let mut rig = Rig::with(Options { sessions_per_container: Some(3), ..short() });
    for at in 0..200 {
        rig.finding(T0 + at * S, of("c1", at * 11));
    }
    assert_eq!((rig.state_size("session/").0, rig.state_size("finding/").0), (3, 3));
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_CONTAINER), 197);
}

#[test]
fn a_limit_that_was_lowered_holds_from_the_next_finding_on() {
    let mut rig = Rig::with(short());
    for (container, at) in [("a", 0), ("b", 1), ("c", 2), ("d", 3), ("d", 20), ("d", 40)] {
        rig.finding(T0 + S, of(container, at));
    }
    let options = Options { containers_per_partition: 2, sessions_per_container: Some(1), ..short() };
    let mut lowered = correlator(options);
    restore(&mut lowered, rig.changelog);
    let mut effects = Effects::default();
    lowered.apply(T0 + 2 * S, found(&of("d", 60)), &mut effects).unwrap();
    let sessions =
        |lowered: &crate::Correlator| image(lowered).keys().filter(|key| key.starts_with("session/")).count();
    assert_eq!(sessions(&lowered), 4, "one of d, and those of a, b and c");
    lowered.apply(T0 + 2 * S, found(&of("e", 3)), &mut effects).unwrap();
    assert_eq!(sessions(&lowered), 2);
    assert_eq!(effects.take_counts()[telemetry::SESSION_EVICTED_PARTITION], 3);
}

#[test]
fn what_a_lowered_limit_evicts_goes_over_several_findings() {
    let wide = Options { sessions_per_container: Some(100), ..short() };
    let of_containers = |at: i64| of(&format!("c{at:03}"), 20 * at);
    let of_one = |at: i64| of("one", 20 * at);
    let evicted = |of: &dyn Fn(i64) -> Finding, options: Options, count: &str| -> Vec<u64> {
        let mut rig = Rig::with(wide.clone());
        (0..20).for_each(|at| drop(rig.finding(T0 + S, of(at))));
        let mut lowered = correlator(options);
        restore(&mut lowered, rig.changelog);
        let step = |at: i64| {
            let mut effects = Effects::default();
            lowered.apply(T0 + 2 * S, found(&of(at)), &mut effects).unwrap();
            effects.take_counts().get(count).copied().unwrap_or_default()
        };
        (20..25).map(step).collect()
    };
    let options = Options { containers_per_partition: 1, sessions_per_container: Some(8), ..short() };
    assert_eq!(evicted(&of_containers, options, telemetry::SESSION_EVICTED_PARTITION), [8, 8, 6, 1, 1]);
    let options = Options { sessions_per_container: Some(1), ..short() };
    assert_eq!(evicted(&of_one, options, telemetry::SESSION_EVICTED_CONTAINER), [8, 8, 6, 1, 1]);
}

/// A finding as long as a forged one can make every part of a session's state.
fn absurd(at: usize) -> Finding {
    let mut finding = crate::fixtures::longest_finding(at);
    crate::fixtures::with_absurd_facts(&mut finding);
    let fact = |text: String| format!("{text:x<FACT_BYTES_MAX$}");
    let pod = finding.container.as_mut().unwrap().pod.as_mut().unwrap();
    pod.labels = (0..POD_LABELS_MAX).map(|at| (fact(format!("label {at}")), fact("value".into()))).collect();
    finding.severity = Severity::Informational;
    finding.category = fact(format!("category {at}"));
    finding.techniques = (0..FINDING_TECHNIQUES_MAX).map(|nth| format!("{at}-{nth:x<TECHNIQUE_BYTES_MAX$}")).collect();
    let kind = |nth: usize| (fact(format!("kind {nth}")), fact(format!("version {at}")));
    finding.versions = (0..=VERSION_KINDS_MAX).map(kind).collect();
    finding
}

#[test]
fn the_largest_state_fits_a_record() {
    let mut correlator = correlator(Options { threshold: Severity::Critical, ..Options::default() });
    let mut effects = Effects::default();
    for at in 0..=SESSION_FINDINGS_MAX + REPEATS_MAX {
        // Values that only enlarge records that are long already would only take time.
        let finding = match at {
            _ if at <= VERSION_VALUES_MAX || at > SESSION_FINDINGS_MAX + REPEATS_MAX - LABELS_MAX => absurd(at),
            _ if at < SESSION_FINDINGS_MAX => added_at(&format!("f{at:031}"), T0, &format!("/tmp/{at}")),
            // Strong enough to stay tracked.
            SESSION_FINDINGS_MAX => Finding { severity: Severity::Medium, ..absurd(at) },
            _ => {
                Finding { severity: Severity::Informational, ..added_at(&format!("f{at:031}"), T0, &format!("/{at}")) }
            }
        };
        let finding = Finding { node: absurd(0).node, container: absurd(0).container, ..finding };
        correlator.apply(T0, found(&finding), &mut effects).unwrap();
    }
    let state = image(&correlator);
    let largest = |prefix: &str| {
        state.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, value)| value.len()).max().unwrap()
    };
    let sizes = ["session/", "finding/", "beyond/"].map(largest);
    assert!(sizes.iter().all(|size| *size <= RECORD_BYTES_MAX), "{sizes:?}");
    let versions = VERSION_KINDS_MAX * VERSION_VALUES_MAX * FACT_BYTES_MAX;
    let labels = (LABELS_MAX - 1) * (FACT_BYTES_MAX + FINDING_TECHNIQUES_MAX * TECHNIQUE_BYTES_MAX);
    assert!(sizes[0] > versions + POD_LABELS_MAX * FACT_BYTES_MAX, "the lists are full: {sizes:?}");
    assert!(sizes[1] > 100_000, "paths and arguments are at their longest: {sizes:?}");
    assert!(sizes[2] > labels, "the labels are full: {sizes:?}");
}

#[test]
fn a_forged_finding_is_cut_and_counted_whatever_in_it_is_long() {
    let long = "x".repeat(900_000);
    type Forgery<'a> = (&'static str, &'a dyn Fn(&mut Finding));
    let change: [Forgery<'_>; 6] = [
        ("image id", &|finding| finding.container.as_mut().unwrap().image_id = ImageId::from(long.as_str())),
        ("kind of version", &|finding| drop(finding.versions.insert(long.clone(), "v".into()))),
        ("version", &|finding| drop(finding.versions.insert("rules".into(), long.clone()))),
        ("techniques", &|finding| finding.techniques = vec!["T".into(); FINDING_TECHNIQUES_MAX + 1]),
        ("technique", &|finding| finding.techniques = vec!["T".repeat(TECHNIQUE_BYTES_MAX + 1)]),
        ("namespaces", &|finding| {
            finding.container.as_mut().unwrap().host_namespaces = vec!["pid".into(); HOST_NAMESPACES_MAX + 1];
        }),
    ];
    for (name, change) in change {
        let forged = |id: &str| {
            let mut finding = in_google_pod(added(id, T0));
            change(&mut finding);
            finding
        };
        // The forged finding opens a session, and joins one.
        for honest in [0, 1] {
            let mut rig = Rig::new();
            (0..honest).for_each(|_| drop(rig.live(in_google_pod(added("f0", T0)))));
            assert_eq!(rig.count(telemetry::FINDING_SHORTENED), 0);
            let alert = rig.live(forged("f1")).remove(0);
            assert_eq!(alert.flags.concat(), "shortened", "{name}");
            assert_eq!((rig.count(telemetry::FINDING_SHORTENED), rig.count(telemetry::ALERT_SHORTENED)), (1, 1));
            let (records, bytes) = rig.state_size("");
            assert_eq!(records, 2 + honest);
            assert!(bytes < 8 * FACT_BYTES_MAX, "{name}: {bytes}");
        }
    }
}

#[test]
fn labels_of_a_pod_are_kept_up_to_their_maximum() {
    for (count, flags) in [(POD_LABELS_MAX, ""), (POD_LABELS_MAX + 1, "shortened")] {
        let mut rig = Rig::new();
        let mut finding = in_google_pod(added("f0", T0));
        let labels: BTreeMap<_, _> = (0..count).map(|at| (format!("label{at:03}"), "value".to_owned())).collect();
        finding.container.as_mut().unwrap().pod.as_mut().unwrap().labels = labels;
        let alert = rig.live(finding).remove(0);
        assert_eq!(alert.flags.concat(), flags);
        assert_eq!(alert.container.unwrap().pod.unwrap().labels.len(), POD_LABELS_MAX);
    }
}

#[test]
fn an_id_is_taken_up_to_its_maximum_and_leaves_nothing_beyond() {
    let mut rig = Rig::new();
    let of_container = |id: usize, container_id: usize| {
        let container = Container { id: ContainerId::from("c".repeat(container_id).as_str()), ..container() };
        Finding { container: Some(container), ..added(&"f".repeat(id), T0) }
    };
    for finding in [of_container(FINDING_ID_BYTES_MAX + 1, 64), of_container(32, FACT_BYTES_MAX + 1)] {
        assert_eq!(rig.finding(T0, finding).0, Disposition::Dropped("malformed_id"));
        assert_eq!(rig.state_size(""), (0, 0));
    }
    assert_eq!(rig.finding(T0, of_container(FINDING_ID_BYTES_MAX, FACT_BYTES_MAX)).0, Disposition::Reported);
}

#[test]
fn a_finding_that_opened_a_session_stays_its_own_when_it_is_not_tracked() {
    let mut rig = Rig::new();
    rig.live(added("f", T0));
    for at in 0..SESSION_FINDINGS_MAX {
        rig.live(Finding { severity: Severity::Medium, ..added(&format!("f{at:05}"), T0) });
    }
    assert_eq!(rig.count(telemetry::FINDING_UNTRACKED), 1, "the first is the weakest");
    // A forger with another time does not get a second alert with the same id.
    let forged = Finding { severity: Severity::Critical, ..added("f", T0 + 100_000 * S) };
    let alerts = rig.finding(T0 + S, forged).1;
    assert_eq!(rig.count(telemetry::SESSION_OPENED), 1);
    assert_eq!((summaries(&alerts).len(), alerts[0].revision > 2), (1, true));
}
