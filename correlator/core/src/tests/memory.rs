//! Tests the memory bound of all sessions: which are evicted, and how many at once. After every step of every test the
//! rig compares the estimate with that of a restored core, and with one that is computed again.

use driftline_schemas::{Alert, Container, ContainerId, Finding, Severity};
use driftline_service_core::{Effects, Stage as _};

use super::{Rig, alerts_in, correlator, found, image, restore, short, summaries};
use crate::fixtures::{S, T0, added, added_at, container};
use crate::limits::EVICTED_PER_FINDING_MAX;
use crate::{Correlator, Input, Options, telemetry};

/// A finding of a container, this many seconds after the beginning.
fn of(name: &str, at_s: i64) -> Finding {
    let container = Container { id: ContainerId::from(name), ..container() };
    Finding { container: Some(container), ..added(&format!("{name}-{at_s:06}"), T0 + at_s * S) }
}

/// Memory for this many sessions of one finding, and half of another session.
fn room_for(sessions: usize) -> Options {
    let mut rig = Rig::new();
    rig.live(of("c0", 0));
    let bytes = rig.correlator.sessions_bytes();
    Options { sessions_bytes_max: bytes * sessions + bytes / 2, ..short() }
}

fn containers(alerts: &[Alert]) -> Vec<&str> {
    alerts.iter().map(|alert| alert.container.as_ref().unwrap().id.as_str()).collect()
}

#[test]
fn final_sessions_go_first_then_those_quiet_for_longest() {
    let mut rig = Rig::with(room_for(3));
    rig.live(of("c2", 0));
    rig.tick(T0 + 10 * S); // c2 is final
    rig.live(of("c1", 12));
    rig.live(of("c0", 11));
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_MEMORY), 0);
    let alerts = rig.live(of("c3", 13));
    assert_eq!(
        (summaries(&alerts), containers(&alerts)),
        (vec!["create 1".to_owned()], vec!["c3"]),
        "c2 had its last word"
    );
    let alerts = rig.live(of("c4", 14));
    assert_eq!(
        (summaries(&alerts), containers(&alerts)),
        (vec!["create 1".to_owned(), "update 2 final".to_owned()], vec!["c4", "c0"])
    );
    assert_eq!(alerts[1].flags, ["session_evicted"]);
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_MEMORY), 2);
    assert_eq!(containers(&rig.tick(T0 + 30 * S)), ["c1", "c3", "c4"]);
}

#[test]
fn the_session_of_the_finding_stays_whatever_its_size() {
    let mut rig = Rig::with(Options { sessions_bytes_max: 1, ..short() });
    for at in 0..20 {
        rig.live(added_at(&format!("f{at}"), T0, &format!("/tmp/{at}")));
    }
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_MEMORY), 0);
    assert_eq!(rig.state_size("finding/").0, 20);
    rig.tick(T0 + S);
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_MEMORY), 1, "a tick has no finding whose session it would be");
}

#[test]
fn memory_keeps_its_bound_however_many_containers_come() {
    let options = room_for(5);
    let max = options.sessions_bytes_max;
    let mut rig = Rig::with(options);
    for at in 0..200 {
        rig.live(of(&format!("c{at}"), at));
        assert!(rig.correlator.sessions_bytes() <= max);
    }
    assert!(rig.count(telemetry::SESSION_EVICTED_MEMORY) >= 195);
}

#[test]
fn what_a_lowered_bound_evicts_goes_over_several_findings_and_ticks() {
    let mut rig = Rig::with(short());
    (0..40).for_each(|at| drop(rig.live(of(&format!("c{at:02}"), at % 5))));
    let lowered = || {
        let mut lowered = correlator(room_for(4));
        restore(&mut lowered, rig.changelog.clone());
        lowered
    };
    let sessions = |lowered: &Correlator| image(lowered).keys().filter(|key| key.starts_with("session/")).count();
    let mut by_findings = lowered();
    by_findings.apply(T0 + 5 * S, found(&of("c99", 5)), &mut Effects::default()).unwrap();
    let left = sessions(&by_findings);
    assert!((31..=41 - EVICTED_PER_FINDING_MAX).contains(&left), "{left}");
    let mut by_tick = lowered();
    assert!(by_tick.has_due(T0 + 5 * S));
    by_tick.apply(T0 + 5 * S, Input::Tick, &mut Effects::default()).unwrap();
    assert_eq!((sessions(&by_tick), by_tick.has_due(T0 + 5 * S)), (4, false));
}

#[test]
fn a_large_finding_evicts_as_much_as_it_adds() {
    let mut rig = Rig::with(short());
    (0..200).for_each(|at| drop(rig.live(of(&format!("c{at:03}"), 0))));
    let max = rig.correlator.sessions_bytes();
    let mut full = correlator(Options { sessions_bytes_max: max, ..short() });
    restore(&mut full, rig.changelog);
    let mut effects = Effects::default();
    full.apply(T0 + S, found(&crate::fixtures::longest_finding(0)), &mut effects).unwrap();
    assert!(full.sessions_bytes() <= max);
    assert!(effects.take_counts()[telemetry::SESSION_EVICTED_MEMORY] > EVICTED_PER_FINDING_MAX as u64);
}

#[test]
fn the_oldest_of_all_partitions_goes() {
    let options = room_for(2);
    let mut correlator = correlator(options);
    let mut effects = Effects::default();
    for (partition, finding) in [(0, of("c1", 1)), (1, of("c0", 0)), (0, of("c2", 2))] {
        let input = Input::Finding { partition, finding: Box::new(finding) };
        correlator.apply(T0 + 2 * S, input, &mut effects).unwrap();
    }
    let touched = effects.take_touched();
    assert!(touched.iter().any(|key| key.partition == 1 && key.key == "partition"), "the state of the other partition");
    let alerts = alerts_in(&effects.take_outgoing());
    assert_eq!((summaries(&alerts).pop().unwrap().as_str(), containers(&alerts).pop()), ("update 2 final", Some("c0")));
    correlator.drop_partition(0);
    assert_eq!(correlator.sessions_bytes(), 0);
}

/// The session is gone together with its revision number, so an amendment of the finding that opened it must not emit
/// the first revision of its alert again.
#[test]
fn an_amendment_of_an_evicted_session_is_another_alert() {
    let mut rig = Rig::with(room_for(1));
    let first = rig.live(of("c0", 0)).remove(0);
    rig.live(of("c1", 1));
    assert_eq!(rig.count(telemetry::SESSION_EVICTED_MEMORY), 1);
    let amended = |revision: i32| Finding { revision, severity: Severity::High, ..of("c0", 0) };
    let second = rig.finding(T0 + 2 * S, amended(2)).1.remove(0);
    assert_eq!(second.revision, 1);
    assert_ne!(second.alert_id, first.alert_id);
    let third = rig.finding(T0 + 2 * S, Finding { severity: Severity::Critical, ..amended(3) }).1.remove(0);
    assert_eq!((third.revision, &third.alert_id), (2, &second.alert_id));
}
