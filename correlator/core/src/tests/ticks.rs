//! Tests many sessions that are due at once: a tick does a bounded part, in the order of the deadlines.

use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, AlertId, Container, ContainerId, Finding, FindingId, Severity};
use driftline_service_core::{Effects, Stage as _};
use std::collections::BTreeMap;

use super::state::Random;
use super::{alerts_in, canonical, correlator, found, image, restore, short};
use crate::fixtures::{S, T0, added, added_at, container};
use crate::limits::{SESSION_FINDINGS_MAX, TICK_OUTPUT_BYTES_MAX, TICK_SESSIONS_MAX, TICK_STATE_KEYS_MAX};
use crate::{Command, Correlator, Input, Options};

fn of(at: usize, time_ns: i64) -> Finding {
    let container = Container { id: ContainerId::from(format!("{at:08}").as_str()), ..container() };
    Finding { container: Some(container), ..added(&format!("f{at:08}"), time_ns) }
}

/// Takes findings, one for each container, each a nanosecond before the previous: the last is quiet first.
fn opened(correlator: &mut Correlator, count: usize, partitions: i32) {
    for at in 0..count {
        let time_ns = T0 - i64::try_from(at).unwrap();
        let partition = i32::try_from(at).unwrap() % partitions;
        let input = Input::Finding { partition, finding: Box::new(of(at, time_ns)) };
        correlator.apply(T0, input, &mut Effects::default()).unwrap();
    }
}

fn tick(correlator: &mut Correlator, now_ns: i64) -> Effects<Command> {
    let mut effects = Effects::default();
    correlator.apply(now_ns, Input::Tick, &mut effects).unwrap();
    effects
}

fn containers(effects: &Effects<Command>) -> Vec<String> {
    let alerts = effects.outgoing().iter().filter(|record| record.topic == Topic::Alerts);
    alerts.map(|record| String::from_utf8_lossy(&record.key).into_owned()).collect()
}

#[test]
fn sessions_that_become_quiet_at_once_end_over_several_ticks_in_the_order_of_their_deadlines() {
    let count = 2 * TICK_SESSIONS_MAX + 100;
    for partitions in [1, 3] {
        let mut correlator = correlator(short());
        opened(&mut correlator, count, partitions);
        let mut ended = Vec::new();
        for expected in [TICK_SESSIONS_MAX, TICK_SESSIONS_MAX, 100, 0] {
            assert_eq!(correlator.has_due(T0 + 10 * S), expected > 0);
            let step = containers(&tick(&mut correlator, T0 + 10 * S));
            assert_eq!(step.len(), expected);
            ended.extend(step);
        }
        let in_order: Vec<String> = (0..count).rev().map(|at| format!("{at:08}")).collect();
        assert_eq!(ended, in_order, "whatever the partition");
    }
}

#[test]
fn sessions_that_expire_at_once_are_forgotten_over_several_ticks() {
    let mut correlator = correlator(short());
    opened(&mut correlator, TICK_SESSIONS_MAX + 1, 1);
    for _ in 0..2 {
        tick(&mut correlator, T0 + 10 * S);
    }
    let sessions = |correlator: &Correlator| {
        correlator.state_keys(0).into_iter().filter(|key| key.starts_with("session/")).count()
    };
    for left in [1, 0] {
        tick(&mut correlator, T0 + 110 * S);
        assert_eq!(sessions(&correlator), left);
    }
}

#[test]
fn a_tick_stops_at_its_output() {
    let mut correlator = correlator(short());
    for at in 0..12 {
        for nth in 0..32 {
            let long = crate::fixtures::longest_finding(nth);
            let finding = Finding { finding_id: FindingId::from(format!("{at}-{nth}").as_str()), ..long };
            let finding = Finding { container: of(at, T0).container, event_time_ns: T0, ..finding };
            correlator.apply(T0, found(&finding), &mut Effects::default()).unwrap();
        }
    }
    let bytes: usize = tick(&mut correlator, T0 + 10 * S).outgoing().iter().map(|record| record.value.len()).sum();
    let one_alert = 2 * driftline_schemas::limits::ALERT_BYTES_MAX;
    assert!((TICK_OUTPUT_BYTES_MAX..TICK_OUTPUT_BYTES_MAX + one_alert).contains(&bytes), "{bytes}");
    assert!(correlator.has_due(T0 + 10 * S));
}

#[test]
fn a_tick_stops_at_its_state_keys() {
    // Below the threshold nothing is emitted; emitting would take most of the time.
    let mut correlator = correlator(Options { threshold: Severity::Critical, ..short() });
    let each = SESSION_FINDINGS_MAX / 2;
    let sessions = TICK_STATE_KEYS_MAX / each + 1;
    for at in 0..sessions {
        for nth in 0..each {
            let finding = added_at(&format!("{at}-{nth}"), T0, "/tmp/x");
            let finding = Finding { container: of(at, T0).container, ..finding };
            correlator.apply(T0, found(&finding), &mut Effects::default()).unwrap();
        }
    }
    tick(&mut correlator, T0 + 10 * S);
    assert!(!correlator.has_due(T0 + 10 * S), "all are quiet");
    let touched = tick(&mut correlator, T0 + 110 * S).take_touched().len();
    assert!((TICK_STATE_KEYS_MAX..TICK_STATE_KEYS_MAX + each).contains(&touched), "{touched}");
    assert!(correlator.has_due(T0 + 110 * S));
}

/// The last revision of each alert, which must not depend on the ticks, and how many findings were taken while a
/// session was overdue. Time stays within the retention, so that nothing is forgotten.
fn last_revisions(seed: u64, sessions_per_tick: usize) -> (BTreeMap<AlertId, Alert>, usize) {
    let mut random = Random(seed);
    let mut correlator = correlator(Options { sessions_per_tick, ..short() });
    let (mut now_ns, mut records, mut overdue) = (T0, Vec::new(), 0);
    for nth in 0..60 {
        now_ns += random.time_ns(3);
        let at = usize::try_from(random.below(12)).unwrap();
        let time_ns = now_ns - random.time_ns(25);
        let finding = Finding { container: of(at, 0).container, ..added(&format!("f{nth:02}"), time_ns) };
        overdue += usize::from(correlator.has_due(now_ns));
        let mut effects = Effects::default();
        correlator.apply(now_ns, found(&finding), &mut effects).unwrap();
        records.extend(effects.take_outgoing());
        if random.below(4) == 0 {
            records.extend(tick(&mut correlator, now_ns).take_outgoing());
        }
        if random.below(10) == 0 {
            let mut restored = super::correlator(Options { sessions_per_tick, ..short() });
            restore(&mut restored, image(&correlator));
            correlator = restored;
        }
    }
    assert!(now_ns + 12 * S < T0 + 100 * S, "within the retention");
    while correlator.has_due(now_ns + 12 * S) {
        records.extend(tick(&mut correlator, now_ns + 12 * S).take_outgoing());
    }
    let alerts = alerts_in(&records);
    let revisions = alerts.iter().fold(BTreeMap::<_, Vec<i32>>::new(), |mut all, alert| {
        all.entry(alert.alert_id.clone()).or_default().push(alert.revision);
        all
    });
    for (id, revisions) in revisions {
        assert!((1..).zip(&revisions).all(|(expected, found)| expected == *found), "{id}: {revisions:?}");
    }
    let last: BTreeMap<_, _> = alerts.iter().map(|alert| (alert.alert_id.clone(), alert)).collect();
    assert!(last.values().all(|alert| alert.r#final), "every session ended");
    (last.into_iter().map(|(id, alert)| (id, canonical(alert))).collect(), overdue)
}

/// Log order and event time decide which session takes a finding, whether or not a tick has processed the session.
#[test]
fn however_few_sessions_a_tick_ends_each_alert_says_the_same_in_the_end() {
    let mut waited = 0;
    for seed in 1..=50 {
        let (expected, _) = last_revisions(seed, TICK_SESSIONS_MAX);
        let findings: i64 = expected.values().map(|alert| alert.finding_count).sum();
        assert!(findings == 60 && expected.len() > 12, "each finding is in one alert, and containers have several");
        for sessions_per_tick in [1, 2] {
            let (found, overdue) = last_revisions(seed, sessions_per_tick);
            assert_eq!(found, expected, "seed {seed}, {sessions_per_tick} a tick");
            waited += overdue;
        }
    }
    assert!(waited > 1_000, "{waited} findings came while a session was overdue");
}
