//! Tests every maximum at max + 1.

use driftline_schemas::correlator_state::SessionState;
use driftline_schemas::limits::{ALERT_BYTES_MAX, ALERT_FINDINGS_MAX};
use driftline_schemas::{Alert, Container, ContainerId, Finding, FindingId, FindingState, Severity, decode, encode};
use driftline_service_core::Disposition;

use super::FORMAT;
use super::{Rig, short, summaries};
use crate::fixtures::{S, T0, added, added_at, container, fileless};
use crate::limits::{
    ALERT_CATEGORIES_MAX, ALERT_TECHNIQUES_MAX, LABELS_MAX, SESSION_FINDINGS_MAX, VERSION_KINDS_MAX, VERSION_VALUES_MAX,
};
use crate::{Options, telemetry};

fn distinct(at: usize) -> Finding {
    added_at(&format!("f{at:05}"), T0 + i64::try_from(at).unwrap(), &format!("/tmp/{at}"))
}

/// The final alert of many findings.
fn last(rig: &mut Rig, findings: impl IntoIterator<Item = Finding>) -> Alert {
    for finding in findings {
        rig.live(finding);
    }
    rig.tick(T0 + 3_600 * S).remove(0)
}

#[test]
fn the_kept_list_is_full_at_its_maximum_and_keeps_the_strongest() {
    let full = last(&mut Rig::new(), (0..ALERT_FINDINGS_MAX).map(distinct));
    assert_eq!((full.findings.len(), full.flags.len()), (ALERT_FINDINGS_MAX, 0));
    let mut findings: Vec<_> = (0..=ALERT_FINDINGS_MAX).map(distinct).collect();
    findings[ALERT_FINDINGS_MAX] = Finding { detector: "other".into(), ..fileless("strong", T0 + S) };
    let alert = last(&mut Rig::new(), findings);
    assert_eq!((alert.findings.len(), alert.flags), (ALERT_FINDINGS_MAX, vec!["findings_capped".to_owned()]));
    assert_eq!(alert.finding_count, 33);
    let remaining: Vec<_> = alert.findings.iter().map(|finding| finding.finding_id.as_str()).collect();
    assert!(
        remaining.contains(&"strong") && remaining.contains(&"f00030") && !remaining.contains(&"f00031"),
        "the last of equals goes"
    );
    assert!(alert.findings.iter().all(|finding| finding.process.is_some()));
}

#[test]
fn a_smaller_list_can_be_set() {
    let options = Options { findings_kept: 2, ..Options::default() };
    let alert = last(&mut Rig::with(options), (0..3).map(distinct));
    assert_eq!((alert.findings.len(), alert.flags.concat()), (2, "findings_capped".to_owned()));
}

#[test]
fn a_shown_finding_that_is_retracted_gives_way_to_the_next() {
    let options = || Options { findings_kept: 2, ..short() };
    let retracted = |finding: Finding| Finding { revision: 2, state: FindingState::Retracted, ..finding };
    let mut rig = Rig::with(options());
    // Three repeats of one finding, details for two: the third is shown with numbers only, once the others are gone.
    for id in ["a", "b", "c"] {
        rig.live(added(id, T0));
    }
    rig.finding(T0, retracted(added("a", T0)));
    let alert = rig.tick(T0 + 10 * S).remove(0);
    assert_eq!((alert.findings[0].finding_id.as_str(), alert.findings[0].process.is_some()), ("b", true));
    rig.finding(T0, retracted(added("b", T0)));
    let alert = rig.tick(T0 + 11 * S).remove(0);
    assert_eq!((alert.findings[0].finding_id.as_str(), alert.findings[0].process.is_some()), ("c", false));
    assert_eq!(alert.flags, ["details_dropped"]);
}

#[test]
fn beyond_what_is_tracked_findings_are_counted_and_take_effect() {
    let mut rig = Rig::new();
    let loops = (0..SESSION_FINDINGS_MAX).map(|at| added(&format!("f{at:05}"), T0));
    assert_eq!(last(&mut rig, loops).flags.len(), 0);
    assert_eq!(rig.count(telemetry::FINDING_UNTRACKED), 0);
    for at in 0..10 {
        rig.live(added(&format!("g{at}"), T0 + S));
    }
    assert_eq!(rig.count(telemetry::FINDING_UNTRACKED), 10);
    let strong = rig.live(Finding { detector: "other".into(), ..fileless("strong", T0) }).remove(0);
    assert_eq!(strong.severity, Severity::Critical);
    assert_eq!(strong.finding_count, i64::try_from(SESSION_FINDINGS_MAX).unwrap() + 11);
    assert_eq!(strong.flags, ["findings_capped"]);
    let counts: Vec<_> = strong.findings.iter().map(|finding| finding.count).collect();
    assert_eq!(counts.iter().sum::<i64>(), strong.finding_count);
    assert_eq!(strong.last_seen_ns, T0 + S);
    // A strong finding keeps its place, so it can be amended.
    let retracted =
        Finding { revision: 2, state: FindingState::Retracted, detector: "other".into(), ..fileless("strong", T0) };
    let alert = rig.finding(T0, retracted).1.remove(0);
    assert_eq!((alert.severity, alert.finding_count), (Severity::Low, strong.finding_count - 1));
}

#[test]
fn categories_techniques_and_versions_are_listed_up_to_their_maxima() {
    let max = ALERT_CATEGORIES_MAX.max(ALERT_TECHNIQUES_MAX);
    let finding = |at: usize| Finding {
        category: format!("category {at:03}"),
        techniques: vec![format!("T{at:04}")],
        ..distinct(at)
    };
    assert_eq!(last(&mut Rig::new(), (0..max).map(finding)).flags, ["findings_capped"]);
    let alert = last(&mut Rig::new(), (0..=max).map(finding));
    assert_eq!((alert.categories.len(), alert.techniques.len()), (ALERT_CATEGORIES_MAX, ALERT_TECHNIQUES_MAX));
    assert_eq!(alert.flags, ["findings_capped", "lists_capped"]);

    let values = |at: usize| Finding { versions: [("rules".into(), format!("v{at}"))].into(), ..distinct(at) };
    let kinds = |at: usize| Finding { versions: [(format!("kind {at:03}"), "v".into())].into(), ..distinct(at) };
    assert_eq!(last(&mut Rig::new(), (0..VERSION_VALUES_MAX).map(values)).flags.len(), 0);
    let alert = last(&mut Rig::new(), (0..=VERSION_VALUES_MAX).map(values));
    assert_eq!((alert.flags.concat(), alert.versions["rules"].len()), ("lists_capped".to_owned(), 23));
    let alert = last(&mut Rig::new(), (0..=VERSION_KINDS_MAX).map(kinds));
    assert!(alert.flags.contains(&"lists_capped".to_owned()));
    assert_eq!(alert.versions.len(), VERSION_KINDS_MAX + 1, "and the score's own");
}

/// Nothing else of the session changes, so nothing else would cause it to be written.
#[test]
fn that_a_revision_brings_one_version_too_many_is_kept_over_a_restart() {
    let mut rig = Rig::new();
    let version = |value: String| [("rules".to_owned(), value)].into();
    for at in 0..VERSION_VALUES_MAX {
        rig.live(Finding { versions: version(format!("v{at}")), ..distinct(at) });
    }
    rig.live(Finding { versions: version("one more".to_owned()), ..distinct(0) });
    let (_, head) = rig.changelog.iter().find(|(key, _)| key.starts_with("session/")).unwrap();
    assert!(decode::<SessionState>(head).unwrap().flags.contains("lists_capped"));
}

#[test]
fn labels_of_counted_findings_are_kept_up_to_their_maximum() {
    let mut rig = Rig::with(Options { threshold: Severity::Critical, ..Options::default() });
    let finding = |at: usize| Finding { category: format!("category {at:05}"), ..distinct(at) };
    let flags = |rig: &Rig| {
        let (_, head) = rig.changelog.iter().find(|(key, _)| key.starts_with("session/")).unwrap();
        decode::<SessionState>(head).unwrap().flags.into_iter().collect::<Vec<_>>()
    };
    for at in 0..SESSION_FINDINGS_MAX + LABELS_MAX {
        rig.live(finding(at));
    }
    assert_eq!(flags(&rig), ["findings_capped"]);
    rig.live(finding(SESSION_FINDINGS_MAX + LABELS_MAX));
    assert_eq!(flags(&rig), ["findings_capped", "lists_capped"]);
}

#[test]
fn a_container_has_a_maximum_of_sessions_and_a_final_one_goes_first() {
    let options = || Options { sessions_per_container: Some(2), ..short() };
    let mut rig = Rig::with(options());
    for (at, time_s) in [0, 20].into_iter().enumerate() {
        rig.live(added(&format!("f{at}"), T0 + time_s * S));
    }
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_CONTAINER), 0);
    let alerts = rig.live(added("f2", T0 + 40 * S));
    assert_eq!(summaries(&alerts), ["update 2 final", "create 1"]);
    assert_eq!(alerts[0].flags, ["session_evicted"]);
    assert_eq!(alerts[0].findings[0].finding_id, FindingId::from("f0"));
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_CONTAINER), 1);

    let mut rig = Rig::with(options());
    rig.finding(T0, added("future", T0 + 100 * S));
    rig.live(added("f1", T0));
    rig.live(added("f2", T0 + S));
    rig.live(added("future2", T0 + 101 * S));
    rig.tick(T0 + 20 * S); // f1 is final; the other session got a finding later
    assert_eq!(summaries(&rig.live(added("f3", T0 + 60 * S))), ["create 1"], "the final one went without a word");
}

#[test]
fn a_partition_has_a_maximum_of_containers_and_the_one_longest_quiet_goes() {
    let mut rig = Rig::with(Options { containers_per_partition: 2, ..short() });
    let of = |name: &str, time_s| {
        let container = Container { id: ContainerId::from(name), ..container() };
        Finding { container: Some(container), ..added(&format!("{name}{time_s}"), T0 + time_s * S) }
    };
    rig.live(of("a", 1));
    rig.live(of("b", 0));
    rig.live(of("a", 2));
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_PARTITION), 0);
    let alerts = rig.live(of("c", 3));
    assert_eq!(summaries(&alerts), ["update 2 final", "create 1"]);
    assert_eq!(alerts[0].container.as_ref().unwrap().id, ContainerId::from("b"));
    assert_eq!(alerts[0].flags, ["session_evicted"]);
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_PARTITION), 1);
    assert_eq!(rig.tick(T0 + 30 * S).len(), 2, "two are left");
}

#[test]
fn a_session_is_forgotten_after_its_retention_and_what_comes_too_late_is_flagged() {
    for (forgotten, now_s) in [(false, 109), (true, 110)] {
        let mut rig = Rig::with(short());
        rig.live(added("f0", T0));
        rig.tick(T0 + 10 * S);
        rig.tick(T0 + now_s * S);
        let (_, alerts) = rig.finding(T0 + now_s * S, added("f1", T0 + S));
        let expected = if forgotten { "create 1" } else { "update 3 final" };
        assert_eq!(summaries(&alerts), [expected]);
        let flags: &[&str] = if forgotten { &["late"] } else { &[] };
        assert_eq!(alerts[0].flags, flags);
        assert_eq!(rig.count(telemetry::FINDING_LATE), u64::from(forgotten));
        // The finding is late, but no session that it could have joined was forgotten.
        let (_, alerts) = rig.finding(T0 + 1_000 * S, added("f2", T0 + 500 * S));
        assert_eq!((summaries(&alerts), alerts[0].flags.len()), (vec!["create 1".to_owned()], 0));
    }
}

#[test]
fn a_node_with_a_wrong_clock_keeps_no_session_open() {
    let mut rig = Rig::with(short());
    let far = Finding { container: None, event_time_ns: i64::MAX, ..added("far", 0) };
    rig.finding(T0, far);
    rig.finding(T0, added("past", i64::MIN));
    assert_eq!(summaries(&rig.tick(T0 + 10 * S)).len(), 2);
}

#[test]
fn ids_that_are_none_are_dropped() {
    let mut rig = Rig::new();
    assert_eq!(rig.finding(T0, added(&"f".repeat(65), T0)).0, Disposition::Dropped("malformed_id"));
    let container = Container { id: ContainerId::from("c".repeat(513).as_str()), ..container() };
    let finding = Finding { container: Some(container), ..added("f", T0) };
    assert_eq!(rig.finding(T0, finding).0, Disposition::Dropped("malformed_id"));
}

#[test]
fn the_largest_alert_fits_a_record_in_every_format() {
    for (name, change, at_least) in [
        ("longest paths and arguments", (|_: &mut Finding| {}) as fn(&mut Finding), ALERT_FINDINGS_MAX),
        ("and all other facts absurdly long", crate::fixtures::with_absurd_facts, 8),
    ] {
        let mut rig = Rig::new();
        let mut emitted = Vec::new();
        for at in 0..ALERT_FINDINGS_MAX {
            let mut finding = crate::fixtures::longest_finding(at);
            change(&mut finding);
            emitted.extend(rig.live(finding));
        }
        emitted.extend(rig.tick(T0 + 3_600 * S));
        for alert in &emitted {
            assert!(encode(alert).unwrap().len() <= ALERT_BYTES_MAX, "{name}");
            assert!((FORMAT.encode)(alert).unwrap().len() <= ALERT_BYTES_MAX, "{name}");
        }
        let alert = emitted.last().unwrap();
        assert!(alert.flags.contains(&"shortened".to_owned()));
        assert!(alert.findings.len() >= at_least, "{name}: {}", alert.findings.len());
    }
}
