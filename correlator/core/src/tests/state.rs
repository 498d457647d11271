//! Tests the changelog: what is written, and that a restored core continues unchanged. The [`Rig`] checks in every test
//! of this package that a restart after any step changes nothing; the runs here are made for it.

use driftline_schemas::testing::{as_written_by_next, as_written_by_previous};
use driftline_schemas::{Container, ContainerId, Finding, FindingState, Severity, WriterSchemas};
use driftline_service_core::{Effects, Stage as _};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Rig, alerts_in, correlator, found, image, restore, short, summaries};
use crate::fixtures::{S, T0, added, added_at, container, fileless, loss};
use crate::limits::SESSION_FINDINGS_MAX;
use crate::{Correlator, Input, Options, telemetry};

type State = BTreeMap<String, Vec<u8>>;

/// Marsaglia's xorshift: the same run for the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(super) fn time_ns(&mut self, bound_s: u64) -> i64 {
        i64::try_from(self.below(bound_s)).unwrap() * S
    }

    /// A finding of one of three containers or a node, new or a revision of an earlier one.
    fn finding(&mut self, now_ns: i64) -> Finding {
        let id = format!("f{}", self.below(40));
        let late_s = if self.below(10) == 0 { 300 } else { 30 };
        let time_ns = now_ns - self.time_ns(late_s);
        let finding = match self.below(6) {
            0 => fileless(&id, time_ns),
            1 => added(&id, time_ns),
            2 => loss(&id, time_ns),
            _ => added_at(&id, time_ns, &format!("/tmp/{}", self.below(9))),
        };
        let name = format!("c{}", self.below(4));
        let container = Container { id: ContainerId::from(name.as_str()), ..container() };
        let container = finding.container.is_some().then_some(container);
        let rules = format!("sha256:{}", self.below(3));
        Finding {
            revision: i32::try_from(self.below(4)).unwrap(),
            state: if self.below(4) == 0 { FindingState::Retracted } else { FindingState::Active },
            unresolved: (self.below(5) == 0).then(|| "no_metadata".to_owned()),
            category: format!("category {}", self.below(5)),
            severity: [Severity::Informational, Severity::Low, Severity::High][usize::try_from(self.below(3)).unwrap()],
            versions: BTreeMap::from([("rules".to_owned(), rules)]),
            container,
            ..finding
        }
    }
}

#[test]
fn a_core_restored_after_any_step_of_any_run_goes_on_the_same() {
    let mut counted = BTreeSet::new();
    for seed in 1..=20 {
        let mut random = Random(seed);
        let options = Options {
            session_cap: Duration::from_secs(20),
            findings_kept: 3,
            sessions_per_container: Some(2),
            containers_per_partition: 3,
            // In every second run the memory is so small that sessions are evicted for it.
            sessions_bytes_max: if seed % 2 == 0 { 8_000 } else { usize::MAX },
            ..short()
        };
        let mut rig = Rig::with(options);
        let mut now_ns = T0;
        for _ in 0..250 {
            now_ns += random.time_ns(6);
            match random.below(12) {
                0 => drop(rig.tick(now_ns)),
                1 => now_ns += random.time_ns(120),
                2 => drop(rig.gap(now_ns, 5, 9)),
                _ => drop(rig.finding(now_ns, random.finding(now_ns))),
            }
        }
        counted.extend(rig.counts.keys().copied());
    }
    // Tests that need many or long findings are in `limits`, with restarts as well.
    let elsewhere = [
        telemetry::FINDING_UNTRACKED,
        telemetry::FINDING_SHORTENED,
        telemetry::ALERT_SHORTENED,
        telemetry::ALERT_LISTS_CAPPED,
    ];
    counted.extend(elsewhere);
    assert_eq!(counted, BTreeSet::from(telemetry::COUNTS));
}

#[test]
fn a_partition_that_comes_back_goes_on_with_the_next_revision() {
    let mut rig = Rig::with(short());
    rig.live(added("f0", T0));
    rig.live(added("f1", T0 + S));
    let mut correlator = rig.correlator;
    correlator.drop_partition(0);
    restore(&mut correlator, rig.changelog);
    let mut effects = Effects::default();
    correlator.apply(T0 + 2 * S, found(&fileless("f2", T0 + 2 * S)), &mut effects).unwrap();
    correlator.apply(T0 + 30 * S, Input::Tick, &mut effects).unwrap();
    assert_eq!(summaries(&alerts_in(&effects.take_outgoing())), ["update 3", "update 4 final"]);
}

#[test]
fn what_was_said_is_not_said_again_and_what_became_quiet_is_final_with_the_next_tick() {
    let mut rig = Rig::with(short());
    rig.live(added("f0", T0));
    rig.tick(T0 + 10 * S);
    let other = Container { id: ContainerId::from("c2"), ..container() };
    rig.live(Finding { container: Some(other), ..added("f1", T0 + 11 * S) });
    let mut restarted = correlator(short());
    restore(&mut restarted, rig.changelog);
    let mut tick = |now_s: i64| {
        let mut effects = Effects::default();
        restarted.apply(T0 + now_s * S, Input::Tick, &mut effects).unwrap();
        alerts_in(&effects.take_outgoing())
    };
    assert_eq!(summaries(&tick(12)), [""; 0]);
    let finals = tick(60);
    assert_eq!(
        (summaries(&finals), finals[0].findings[0].finding_id.as_str()),
        (vec!["update 2 final".to_owned()], "f1")
    );
    assert_eq!(summaries(&tick(61)), [""; 0]);
}

#[test]
fn state_is_written_under_the_keys_that_changed_and_gone_with_its_session() {
    let mut rig = Rig::with(Options { findings_kept: 1, ..short() });
    let keys =
        |rig: &Rig| rig.changelog.keys().map(|key| key.split('/').next().unwrap().to_owned()).collect::<Vec<_>>();
    rig.live(added("f0", T0));
    rig.live(added_at("f1", T0 + S, "/tmp/y"));
    assert_eq!(keys(&rig), ["finding", "finding", "session"]);
    // A stronger finding takes the only place that is shown: the record of the weaker finding is written again.
    let details = |rig: &Rig| rig.state_size("finding/").1;
    let before = details(&rig);
    rig.live(fileless("f2", T0 + S));
    assert!(details(&rig) < 2 * before, "one detail of three findings");
    rig.tick(T0 + 11 * S);
    rig.tick(T0 + 111 * S);
    assert_eq!(keys(&rig), ["partition"], "when sessions were forgotten");
}

#[test]
fn broken_state_stops_the_process() {
    let mut rig = Rig::new();
    rig.live(added("f0", T0));
    let check = |change: &dyn Fn(&mut State), expected: &str| {
        let mut state = rig.changelog.clone();
        change(&mut state);
        let restored = correlator(short()).restore(T0, 0, state, &WriterSchemas::default(), &mut Effects::default());
        let error = restored.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|state| state.retain(|key, _| !key.starts_with("session/")), "but not the session");
    check(&|state| state.retain(|key, _| !key.starts_with("finding/")), "state has no finding of session");
    check(&|state| drop(state.insert("more/x".to_owned(), vec![])), "not known to this version");
    check(&|state| drop(state.insert("partition".to_owned(), vec![1])), "state cannot be read");
}

/// A state with every kind of record, all of their optional parts set.
fn full_state() -> Rig {
    let mut rig = Rig::with(short());
    rig.live(added("forgotten", T0 - 1_000 * S));
    rig.tick(T0 - 900 * S);
    rig.tick(T0 - 700 * S);
    for at in 0..SESSION_FINDINGS_MAX + 2 {
        rig.live(added_at(&format!("f{at:05}"), T0, &format!("/tmp/{at}")));
    }
    rig.tick(T0 + 10 * S);
    for prefix in ["partition", "session/", "finding/", "beyond/"] {
        assert!(rig.state_size(prefix).0 > 0, "{prefix}");
    }
    rig
}

/// The state that a fresh core restores after each value was rewritten.
fn rewritten(state: &State, rewrite: impl Fn(&str, &[u8]) -> (Vec<u8>, String)) -> State {
    let mut schemas = WriterSchemas::default();
    let mut written = BTreeMap::new();
    for (key, value) in state {
        let (value, json) = rewrite(key, value);
        schemas.add(&json).unwrap();
        written.insert(key.clone(), value);
    }
    let mut correlator = correlator(short());
    correlator.restore(T0, 0, written, &schemas, &mut Effects::default()).unwrap();
    image(&correlator)
}

#[test]
fn state_that_the_next_version_wrote_is_read() {
    let rig = full_state();
    assert!(rewritten(&rig.changelog, |_, value| as_written_by_next(value)) == rig.changelog);
}

#[test]
fn state_that_a_version_wrote_before_a_field_was_added_is_read() {
    let rig = full_state();
    let field = |key: &str| match key.split('/').next().unwrap() {
        "session" => "flags",
        "finding" => "techniques",
        "beyond" => "repeats",
        _ => "forgotten_until_ns",
    };
    let read = rewritten(&rig.changelog, |key, value| as_written_by_previous(value, field(key)));
    let without: BTreeMap<_, _> = rig.changelog.iter().filter(|(key, _)| *key != "partition").collect();
    assert!(read.keys().eq(without.keys().copied()), "the fact of the partition is back at its default");
    assert!(read.iter().zip(without).all(|((_, read), (_, written))| read.len() < written.len()));
}

#[test]
fn state_of_the_version_that_noted_no_news_is_read() {
    let rig = full_state();
    let without = |key: &str, value: &[u8]| match key.starts_with("session/") {
        true => as_written_by_previous(value, "news_due_ns"),
        false => as_written_by_next(value),
    };
    assert!(rewritten(&rig.changelog, without) == rig.changelog, "nothing was due");
}

#[test]
fn every_schema_of_the_state_stands_beside_it() {
    let mut schemas = WriterSchemas::default();
    let fingerprints: BTreeSet<_> =
        Correlator::state_schemas().iter().map(|schema| schemas.add(schema.json).unwrap()).collect();
    let used: BTreeSet<[u8; 8]> =
        full_state().changelog.values().map(|value| value[2..10].try_into().unwrap()).collect();
    assert_eq!(used, fingerprints);
}
