//! Tests which session a finding joins.

use driftline_schemas::{Alert, AlertId, Container, ContainerId, Finding, FindingId, Node};
use driftline_service_core::{Disposition, Effects, Stage as _};
use std::collections::BTreeMap;

use super::{Rig, canonical, short, summaries};
use crate::fixtures::{S, T0, added, added_at, container, loss, node};
use crate::{Input, Options, telemetry};

/// Alert ids of findings with these event times, in log order, all arriving at once.
fn ids(times_s: &[i64]) -> Vec<AlertId> {
    let mut rig = Rig::with(short());
    // Each finding has its own path, and the count always doubles, so that every finding leads to a revision.
    let mut ids = Vec::new();
    for (at, time_s) in times_s.iter().enumerate() {
        let id = format!("f{at}");
        let category = format!("category {at}");
        let finding = Finding { category, ..added_at(&id, T0 + time_s * S, &format!("/tmp/{at}")) };
        let (disposition, alerts) = rig.finding(T0 + 1_000 * S, finding);
        assert_eq!(disposition, Disposition::Reported);
        ids.push(alerts[0].alert_id.clone());
    }
    ids
}

fn id_of(finding: &str) -> AlertId {
    AlertId::of("lab", "c1c1", &FindingId::from(finding))
}

#[test]
fn a_finding_joins_by_event_time_and_log_order() {
    for (name, times_s, openers) in [
        ("within the gap", &[0, 10][..], &[0, 0][..]),
        ("just beyond the gap", &[0, 11], &[0, 1]),
        ("earlier, within the gap", &[20, 10], &[0, 0]),
        ("earlier, beyond the gap", &[20, 9], &[0, 1]),
        ("a gap bridged later stays two sessions", &[0, 20, 10], &[0, 1, 0]),
        ("in between, the first opened wins", &[20, 0, 10], &[0, 1, 0]),
        ("up to the cap", &[0, 10, 20, 30, 40, 50, 60], &[0, 0, 0, 0, 0, 0, 0]),
        ("beyond the cap", &[0, 10, 20, 30, 40, 50, 61 - 5, 61], &[0, 0, 0, 0, 0, 0, 0, 7]),
        ("beyond the cap into the past", &[60, 50, 40, 30, 20, 10, -1], &[0, 0, 0, 0, 0, 0, 6]),
    ] {
        let expected: Vec<AlertId> = openers.iter().map(|at| id_of(&format!("f{at}"))).collect();
        assert_eq!(ids(times_s), expected, "{name}");
    }
}

#[test]
fn reaching_the_cap_is_flagged_on_both_sides_and_counted() {
    let mut rig = Rig::with(short());
    for time_s in [0, 10, 20, 30, 40, 50, 60, 61] {
        rig.live(added_at(&format!("f{time_s}"), T0 + time_s * S, &format!("/tmp/{time_s}")));
    }
    assert_eq!(rig.count(telemetry::SESSION_LENGTH_CAPPED), 1);
    let finals = rig.tick(T0 + 100 * S);
    assert_eq!(finals.len(), 2);
    for alert in finals {
        assert_eq!(alert.flags, ["length_capped"]);
    }
}

#[test]
fn containers_clusters_and_nodes_have_sessions_of_their_own() {
    let mut rig = Rig::new();
    let other = Container { id: ContainerId::from("c2c2"), ..container() };
    let cluster = Node { cluster: "other".into(), ..node() };
    let findings = [
        added("f0", T0),
        Finding { container: Some(other), ..added("f1", T0) },
        Finding { node: cluster, ..added("f2", T0) },
        loss("f3", T0),
    ];
    let alerts: Vec<_> = findings.into_iter().flat_map(|finding| rig.live(finding)).collect();
    assert_eq!(summaries(&alerts), ["create 1"; 4]);
    assert_eq!(alerts[3].alert_id, AlertId::of("lab", "node-1", &FindingId::from("f3")));
    assert_eq!(alerts[3].container, None);
}

#[test]
fn time_passing_changes_what_is_said_when_and_nothing_else() {
    // The same findings, live with ticks after each, and read in one batch much later.
    let times_s = [0, 5, 12, 30, 41, 8, 22, 61];
    let finding = |time_s: i64| added_at(&format!("f{time_s}"), T0 + time_s * S, &format!("/tmp/{time_s}"));
    let (mut live, mut late) = (Rig::with(short()), Rig::with(short()));
    let (mut live_said, mut late_said) = (Vec::new(), Vec::new());
    let mut now_s = 0;
    for time_s in times_s {
        now_s = time_s.max(now_s);
        live_said.extend(live.finding(T0 + now_s * S, finding(time_s)).1);
        live_said.extend(live.tick(T0 + (now_s + 15) * S));
        late_said.extend(late.finding(T0 + 90 * S, finding(time_s)).1);
    }
    live_said.extend(live.tick(T0 + 90 * S));
    late_said.extend(late.tick(T0 + 90 * S));
    assert!(live_said.len() > late_said.len());
    let last = |emitted: Vec<Alert>| -> BTreeMap<AlertId, Alert> {
        emitted.into_iter().map(|alert| (alert.alert_id.clone(), canonical(&alert))).collect()
    };
    let (live, late) = (last(live_said), last(late_said));
    assert_eq!(live.len(), 4);
    assert_eq!(live, late);
}

#[test]
fn a_partition_that_goes_takes_its_sessions_with_it() {
    let mut rig = Rig::new();
    rig.live(added("f0", T0));
    let mut correlator = rig.correlator;
    correlator.drop_partition(0);
    assert_eq!(correlator.state_keys(0), [""; 0]);
    let mut effects = Effects::default();
    correlator.apply(T0 + 3_600 * S, Input::Tick, &mut effects).unwrap();
    assert_eq!(effects.take_outgoing(), []);
}

/// A reader of alerts takes a lower revision for an old one, so no id may begin again.
#[test]
fn a_finding_that_opened_a_forgotten_session_opens_one_with_another_id() {
    let of = |name: &str, id: &str, at_s: i64| {
        let container = Container { id: ContainerId::from(name), ..container() };
        Finding { container: Some(container), ..added(id, T0 + at_s * S) }
    };
    let one = || Options { sessions_per_container: Some(1), ..short() };
    let two = || Options { sessions_per_container: Some(2), ..short() };
    let few = || Options { containers_per_partition: 1, ..short() };
    let (same, other) = ("c1", "c2");
    for (name, options, later) in [
        ("one session", one(), same),
        ("two sessions", two(), same),
        ("partition", few(), other),
        ("retention", short(), same),
    ] {
        let mut rig = Rig::with(options);
        let mut alerts = rig.live(of(same, "f0", 0));
        for at in 1..4 {
            alerts.extend(rig.live(of(later, &format!("f{at}"), 20 * at)));
        }
        if name == "retention" {
            alerts.extend(rig.tick(T0 + 100 * S));
            alerts.extend(rig.tick(T0 + 300 * S));
            (0..8).for_each(|_| alerts.extend(rig.tick(T0 + 300 * S)));
        }
        for revision in [1, 1, 2, 2] {
            let again = Finding { revision, ..of(same, "f0", 0) };
            alerts.extend(rig.finding(T0 + 301 * S, again).1);
            for at in 0..3 {
                let later = of(later, &format!("g{revision}{at}{}", alerts.len()), 400 + 20 * at);
                alerts.extend(rig.finding(T0 + 301 * S, later).1);
            }
        }
        let mut last: BTreeMap<_, i32> = BTreeMap::new();
        for alert in &alerts {
            let before = last.insert(alert.alert_id.clone(), alert.revision).unwrap_or(0);
            assert_eq!(alert.revision, before + 1, "{name}: {}", alert.alert_id);
        }
    }
}

/// The subject's own sessions decide, so that a container whose sessions are evicted changes no id of another.
#[test]
fn an_id_is_the_same_whatever_another_container_does() {
    let of = |name: &str, id: &str, at_s: i64| {
        let container = Container { id: ContainerId::from(name), ..container() };
        Finding { container: Some(container), ..added(id, T0 + at_s * S) }
    };
    let id_with = |others: i64| {
        let mut rig = Rig::with(Options { sessions_per_container: Some(2), ..short() });
        (0..others).for_each(|at| drop(rig.live(of("busy", &format!("f{at}"), 20 * at))));
        rig.finding(T0 + 200 * S, of("calm", "calm", 30)).1.remove(0).alert_id
    };
    assert_eq!(id_with(0), id_with(9));
}
