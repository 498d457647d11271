//! Amendments are joins.

use driftline_schemas::{Alert, Confidence, Container, ContainerId, Finding, FindingState, ImageId, Origin, Severity};
use driftline_service_core::Disposition;
use std::collections::BTreeMap;

use super::{Rig, canonical, short, summaries};
use crate::fixtures::{S, T0, added, added_at, container, fileless, throttled};
use crate::telemetry;

const MALICIOUS: &str = "Execution: Added Malicious Binary Executed";

/// A finding made before metadata and image are known.
fn unresolved(id: &str, time_ns: i64) -> Finding {
    let bare = Container { id: ContainerId::from("c1c1"), image_id: ImageId::default(), ..Container::default() };
    Finding {
        origin: Origin::Unresolved,
        unresolved: Some("no_metadata".into()),
        confidence: Confidence::Low,
        container: Some(bare),
        ..added(id, time_ns)
    }
}

fn resolved(id: &str, revision: i32) -> Finding {
    Finding { revision, container: Some(container()), ..added(id, T0) }
}

fn malicious(id: &str, revision: i32) -> Finding {
    Finding { severity: Severity::Critical, category: MALICIOUS.into(), ..resolved(id, revision) }
}

fn retracted(id: &str, revision: i32) -> Finding {
    Finding { state: FindingState::Retracted, ..resolved(id, revision) }
}

#[test]
fn a_repeated_finding_is_a_duplicate_and_says_nothing() {
    let mut rig = Rig::new();
    rig.live(added("f0", T0));
    assert_eq!(rig.finding(T0, added("f0", T0)), (Disposition::Duplicate, vec![]));
    // A revision with fewer facts changes nothing either.
    rig.finding(T0, resolved("f1", 2));
    assert_eq!(rig.finding(T0, resolved("f1", 1)), (Disposition::Duplicate, vec![]));
    let unresolved = Finding { revision: 3, ..unresolved("f1", T0) };
    rig.finding(T0, unresolved.clone());
    assert_eq!(rig.finding(T0, unresolved), (Disposition::Duplicate, vec![]));
    assert_eq!(rig.finding(T0, malicious("f1", 3)).0, Disposition::Reported);
    assert_eq!(rig.finding(T0, resolved("f1", 4)), (Disposition::Duplicate, vec![]), "nothing hides a match");
}

#[test]
fn an_amendment_brings_what_was_unknown() {
    let mut rig = Rig::new();
    let first = rig.live(unresolved("f0", T0)).remove(0);
    assert_eq!((first.flags, first.container.unwrap().name), (vec!["deadline".to_owned()], String::new()));
    let alert = rig.finding(T0, resolved("f0", 2)).1.remove(0);
    assert_eq!((alert.revision, alert.findings[0].origin), (2, Origin::Added), "emitted at once");
    assert_eq!(alert.container, Some(container()));
    assert_eq!(alert.flags, ["deadline"], "that a deadline fired stays recorded");
    assert_eq!(rig.count(telemetry::FINDING_AMENDED), 1);
}

#[test]
fn a_late_digest_replaces_the_guess_or_takes_the_finding_back() {
    let without = |id: &str| {
        let mut finding = Finding { origin: Origin::Modified, confidence: Confidence::Low, ..resolved(id, 1) };
        finding.subject.as_mut().unwrap().sha256 = None;
        finding
    };
    let mut rig = Rig::new();
    rig.live(without("f0"));
    rig.live(without("f1"));
    rig.finding(T0, Finding { origin: Origin::Modified, ..resolved("f0", 2) });
    rig.finding(T0, retracted("f1", 2));
    let last = rig.tick(T0 + 7_200 * S).pop().unwrap();
    let shown: Vec<_> = last.findings.iter().map(|it| (it.finding_id.as_str(), it.confidence, it.count)).collect();
    assert_eq!(shown, [("f0", Confidence::High, 1)]);
    assert!(last.findings[0].subject.as_ref().unwrap().sha256.is_some());
}

#[test]
fn a_throttled_container_is_an_alert_that_says_so_in_its_score() {
    let mut rig = Rig::new();
    let alert = rig.live(throttled("t0", T0)).remove(0);
    let score: Vec<_> = alert.contributions.iter().map(|row| (row.name.as_str(), row.points)).collect();
    assert_eq!(score, [("base_low", 20), ("container_throttled", 10)]);
    // Interval after interval folds into a count.
    let later = Finding { event_time_ns: T0 + 10 * S, ..throttled("t1", T0 + 10 * S) };
    rig.live(later);
    let last = rig.tick(T0 + 7_200 * S).pop().unwrap();
    assert_eq!((last.findings.len(), last.findings[0].count), (1, 2));
}

#[test]
fn an_amendment_after_the_final_revision_gives_one_more() {
    // Another note does not make a revision due at once; it is emitted when the session is quiet again.
    let noted = |id: &str, revision| Finding { note: "amended".into(), ..resolved(id, revision) };
    let relocated = |id: &str, revision| Finding { origin: Origin::Relocated, ..resolved(id, revision) };
    for (amendment, expected) in
        [(malicious("f0", 2), "update 3 final"), (relocated("f0", 2), "update 3 final"), (noted("f0", 2), "")]
    {
        let mut rig = Rig::with(short());
        rig.live(added("f0", T0));
        rig.tick(T0 + 10 * S);
        let at_once = summaries(&rig.finding(T0 + 50 * S, amendment).1).concat();
        let by_clock = summaries(&rig.tick(T0 + 51 * S)).concat();
        assert_eq!(at_once, expected);
        assert_eq!(at_once + &by_clock, "update 3 final");
        assert_eq!(summaries(&rig.tick(T0 + 60 * S)), [""; 0]);
    }
}

#[test]
fn an_amendment_that_raises_the_severity_is_said_at_once_with_the_next_number() {
    let check = |alerts: &[Alert], expected: &str, severity: Severity| {
        assert_eq!((summaries(alerts).concat().as_str(), alerts[0].severity), (expected, severity));
    };
    let mut rig = Rig::with(short());
    rig.live(added("f0", T0));
    check(&rig.live(added_at("f1", T0 + S, "/tmp/y")), "update 2", Severity::Low);
    // In mid-session.
    let medium = Finding { revision: 2, severity: Severity::Medium, ..added_at("f1", T0 + S, "/tmp/y") };
    check(&rig.finding(T0 + 2 * S, medium).1, "update 3", Severity::Medium);
    check(&rig.tick(T0 + 11 * S), "update 4 final", Severity::Medium);
    // After the final revision, and final again.
    check(&rig.finding(T0 + 50 * S, malicious("f0", 2)).1, "update 5 final", Severity::Critical);
    assert_eq!(rig.finding(T0 + 50 * S, malicious("f0", 2)), (Disposition::Duplicate, vec![]));
    assert_eq!(summaries(&rig.tick(T0 + 51 * S)), [""; 0]);
    // First one category less, then no finding at all.
    check(&rig.finding(T0 + 52 * S, retracted("f1", 3)).1, "update 6 final", Severity::Critical);
    let withdrawn = Finding { state: FindingState::Retracted, ..malicious("f0", 3) };
    check(&rig.finding(T0 + 54 * S, withdrawn).1, "close 7 final", Severity::Informational);
}

#[test]
fn an_amendment_that_moves_a_finding_moves_its_count() {
    let mut rig = Rig::with(short());
    let mut undigested = added("f0", T0);
    undigested.subject.as_mut().unwrap().sha256 = None;
    rig.live(undigested);
    rig.live(added("f1", T0));
    rig.finding(T0, Finding { revision: 2, ..added("f0", T0) });
    let alert = rig.tick(T0 + 60 * S).remove(0);
    assert_eq!((alert.findings.len(), alert.findings[0].count), (1, 2));
}

#[test]
fn the_strongest_of_repeats_judges_them_all() {
    let mut rig = Rig::new();
    rig.live(added("f0", T0));
    let alert = rig.finding(T0, Finding { finding_id: "f1".into(), ..malicious("f1", 1) }).1.remove(0);
    let finding = &alert.findings[0];
    assert_eq!((finding.finding_id.as_str(), finding.count), ("f0", 2));
    assert_eq!((finding.category.as_str(), alert.title.as_str()), (MALICIOUS, MALICIOUS));
}

/// Every order of `items`, and every order with one of them twice.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    fn permute<T: Clone>(rest: &mut Vec<T>, done: &mut Vec<T>, all: &mut Vec<Vec<T>>) {
        if rest.is_empty() {
            all.push(done.clone());
        }
        for at in 0..rest.len() {
            let item = rest.remove(at);
            done.push(item.clone());
            permute(rest, done, all);
            done.pop();
            rest.insert(at, item);
        }
    }
    let mut all = Vec::new();
    permute(&mut items.to_vec(), &mut Vec::new(), &mut all);
    permute(&mut [items, &items[..1]].concat(), &mut Vec::new(), &mut all);
    all
}

#[test]
fn the_order_of_amendments_does_not_matter() {
    let sets: [Vec<Finding>; 5] = [
        // An instance that lost its tables judges again, without the image.
        vec![resolved("f0", 2), Finding { revision: 3, ..unresolved("f0", T0) }, resolved("f1", 2)],
        vec![resolved("f0", 2), malicious("f0", 3), unresolved("f0", T0), retracted("f1", 2)],
        vec![retracted("f0", 2), retracted("f1", 3), malicious("f1", 2), resolved("f0", 1)],
        vec![retracted("f0", 3), retracted("f1", 3), resolved("f0", 2), unresolved("f1", T0)],
        // Two instances wrote the same revision with different content.
        vec![
            Finding { note: "one".into(), ..resolved("f0", 2) },
            Finding { note: "two".into(), ..resolved("f0", 2) },
            Finding { versions: BTreeMap::from([("rules".into(), "sha256:2222".into())]), ..resolved("f1", 2) },
            Finding { severity: Severity::Medium, ..resolved("f1", 2) },
        ],
    ];
    for set in sets {
        let mut results: Vec<Alert> = Vec::new();
        for order in orders(&set) {
            let mut rig = Rig::with(short());
            rig.live(unresolved("f0", T0));
            rig.live(added_at("f1", T0 + S, "/tmp/y"));
            let mut last = rig.live(fileless("f2", T0 + S));
            for amendment in order {
                last.extend(rig.finding(T0 + 2 * S, amendment).1);
            }
            last.extend(rig.tick(T0 + 60 * S));
            results.push(canonical(last.last().unwrap()));
        }
        assert!(results.len() >= 30);
        for result in &results {
            assert_eq!(result, &results[0]);
            assert!(result.findings.iter().all(|finding| finding.unresolved.is_none()), "resolved over unresolved");
        }
    }
}
