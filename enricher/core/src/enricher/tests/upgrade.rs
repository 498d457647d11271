//! State written by another version: by a newer one before a rollback, and by an older one.

use super::*;
use driftline_schemas::encode;
use driftline_schemas::enricher_state::{ContainerState, ReportedExec, UnresolvedFinding};
use driftline_schemas::testing::{as_written_by_next, as_written_by_previous};

/// State with every kind of key, and every field of it in use.
fn state() -> BTreeMap<String, Vec<u8>> {
    let mut bench = Bench::new();
    bench.seen().answer(ready(Some("a lie"))).exec(1, FileClass::Image, "/bin/odd", "");
    let mut other = seen("box");
    other.container.image_id = ImageId::from("sha256:2222");
    bench.event(ExecEvent::Seen(Box::new(other))).exec(2, FileClass::New, "/tmp/x", "evil").after(5 * SECOND);
    bench.event(ExecEvent::Exec(Box::new(Exec {
        container_id: ContainerId::from("fox"),
        ..exec(3, FileClass::New, "/tmp/y", "evil")
    })));
    bench.event(ExecEvent::Throttled(Box::new(throttled("fox", 1)))).ended("box").ended("fox");
    let state = bench.state();
    let kinds: BTreeSet<&str> = state.keys().map(|key| key.split('/').next().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["container", "parked", "reported", "throttled", "unresolved"]));
    let [own, other] = ["container/box", "container/fox"].map(|key| decode::<ContainerState>(&state[key]).unwrap());
    assert!(own.seen.is_some() && own.ended && own.given_up.is_some() && own.mismatched_paths.len() == 1);
    assert_eq!(own.image_flaws, ["conflict"]);
    assert!(other.deadline_ns.is_some());
    state
}

fn restored(state: BTreeMap<String, Vec<u8>>, schemas: &WriterSchemas) -> Result<Bench, BrokenInvariant> {
    let mut bench = Bench::new();
    bench.enricher.restore(1, 0, state, schemas, &mut bench.effects)?;
    Ok(bench)
}

/// The value as the next version writes it, including the records inside it; adds their schemas to `schemas`.
fn next(value: &[u8], schemas: &mut WriterSchemas) -> Vec<u8> {
    let mut of = |value: &[u8]| {
        let (value, json) = as_written_by_next(value);
        schemas.add(&json).unwrap();
        value
    };
    if let Ok(container) = decode::<ContainerState>(value) {
        let seen = container.seen.as_deref().map(&mut of);
        return of(&encode(&ContainerState { seen, ..container }).unwrap());
    }
    if let Ok(unresolved) = decode::<UnresolvedFinding>(value) {
        let exec = of(&unresolved.exec);
        return of(&encode(&UnresolvedFinding { exec, ..unresolved }).unwrap());
    }
    of(value)
}

#[test]
fn state_of_a_newer_version_is_taken_over_whole() {
    let state = state();
    let mut schemas = WriterSchemas::default();
    let newer: BTreeMap<_, _> = state.iter().map(|(key, value)| (key.clone(), next(value, &mut schemas))).collect();
    assert!(newer.iter().all(|(key, value)| *value != state[key]));
    let error = restored(newer.clone(), &WriterSchemas::default()).err().unwrap().to_string();
    assert!(error.contains("unknown schema"), "{error}");
    let bench = restored(newer, &schemas).unwrap();
    assert_eq!(bench.state(), state);
}

#[test]
fn keys_that_only_a_newer_version_knows_are_left_alone() {
    let own = state();
    let mut newer = own.clone();
    newer.insert("novelty/box".into(), b"what it means is not known".to_vec());
    let mut bench = restored(newer, &WriterSchemas::default()).unwrap();
    assert_eq!(bench.state(), own);
    assert_eq!(bench.effects.take_counts()["state_key_unknown"], 1);
}

#[test]
fn what_older_state_lacks_takes_its_default() {
    let state = state();
    let own = decode::<ContainerState>(&state["container/box"]).unwrap();
    let expected = [
        ("seen", ContainerState { seen: None, ..own.clone() }),
        ("ended", ContainerState { ended: false, ..own.clone() }),
        ("given_up", ContainerState { given_up: None, ..own.clone() }),
        ("mismatched_paths", ContainerState { mismatched_paths: vec![], ..own.clone() }),
        ("image_flaws", ContainerState { image_flaws: vec![], ..own.clone() }),
        ("deadline_ns", ContainerState { deadline_ns: None, ..own }),
    ];
    for (field, expected) in expected {
        let restored = with_older(&state, "container/box", field);
        assert_eq!(decode::<ContainerState>(&restored["container/box"]), Ok(expected), "{field}");
    }
    let unresolved = "unresolved/box/00000000000000000003";
    assert_eq!(with_older(&state, unresolved, "revision"), state, "the first revision is the default");
    let reported = "reported/box/00000000000000000003";
    assert_eq!(with_older(&state, reported, "revision"), state, "the first revision is the default");
    let amendable = ReportedExec { amend_until_ns: 7, ..decode(&state[reported]).unwrap() };
    let mut amendable_state = state.clone();
    amendable_state.insert(reported.to_owned(), encode(&amendable).unwrap());
    assert_eq!(with_older(&amendable_state, reported, "amend_until_ns"), state, "nothing more is to come");
    let parked = "parked/fox/00000000000000000004";
    assert_eq!(with_older(&state, parked, "tty"), state, "nobody has a terminal");
}

/// The restored state when a key's value was written by a version that did not know a field yet.
fn with_older(state: &BTreeMap<String, Vec<u8>>, key: &str, field: &str) -> BTreeMap<String, Vec<u8>> {
    let (value, json) = as_written_by_previous(&state[key], field);
    let mut schemas = WriterSchemas::default();
    schemas.add(&json).unwrap();
    let mut older = state.clone();
    assert_ne!(older.insert(key.to_owned(), value.clone()), Some(value));
    restored(older, &schemas).unwrap().state()
}

#[test]
fn a_waiting_container_whose_deadline_is_not_known_gets_one() {
    let older = with_older(&state(), "container/fox", "deadline_ns");
    let mut bench = restored(older, &WriterSchemas::default()).unwrap();
    bench.after(1).after(5 * SECOND - 1);
    assert_eq!(bench.findings(), []);
    bench.after(1);
    assert_eq!(bench.findings()[0], active(3, 1, Origin::Unresolved));
}

#[test]
fn every_schema_that_state_is_written_with_is_kept_beside_it() {
    let written: Vec<[u8; 8]> = Enricher::state_schemas().iter().map(|schema| schema.fingerprint).collect();
    let fingerprint = |value: &[u8]| <[u8; 8]>::try_from(&value[2..10]).unwrap();
    for value in state().values() {
        assert!(written.contains(&fingerprint(value)));
        let seen = decode::<ContainerState>(value).ok().and_then(|container| container.seen);
        let exec = decode::<UnresolvedFinding>(value).ok().map(|unresolved| unresolved.exec);
        assert!(seen.iter().chain(&exec).all(|inner| written.contains(&fingerprint(inner))));
    }
}

#[test]
fn state_that_contradicts_itself_stops_the_process() {
    let mut orphan = state();
    orphan.remove("container/fox");
    let error = restored(orphan, &WriterSchemas::default()).err().unwrap().to_string();
    assert!(error.contains("without its container"), "{error}");
}
