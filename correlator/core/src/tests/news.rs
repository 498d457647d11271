//! Tests that a program, origin or way of entry that an alert did not have makes a revision, whatever ran before.

use driftline_schemas::limits::ALERT_FINDINGS_MAX;
use driftline_schemas::{Alert, Finding, Origin, Process, Severity};

use super::{Rig, short, summaries};
use crate::fixtures::{S, T0, added, added_at};
use crate::limits::{NEWS_PACE_NS, SESSION_FINDINGS_MAX};
use crate::{Options, telemetry};

/// The paths that an alert shows.
fn paths(alert: &Alert) -> Vec<&str> {
    alert.findings.iter().filter_map(|finding| finding.subject.as_ref()).map(|subject| subject.path.as_str()).collect()
}

/// A rig that took a decoy so many times, the last time at `T0 + S`.
fn after_decoys(count: usize) -> Rig {
    let mut rig = Rig::new();
    rig.live(added("decoy", T0));
    for at in 1..count {
        rig.live(added(&format!("decoy {at}"), T0 + S));
    }
    rig
}

#[test]
fn a_new_program_after_many_repeats_makes_a_revision() {
    let mut rig = after_decoys(256);
    let payload = |at: i64| added_at(&format!("payload {at}"), T0 + (20 + 15 * at) * S, &format!("/tmp/payload{at}"));
    for at in 0..7 {
        let alerts = rig.live(payload(at));
        assert_eq!(alerts.len(), 1, "{at}");
        assert!(paths(&alerts[0]).contains(&format!("/tmp/payload{at}").as_str()), "{at}");
    }
}

#[test]
fn news_within_the_pace_share_one_revision() {
    let mut rig = after_decoys(256);
    let emitted_ns = T0 + 20 * S;
    assert_eq!(rig.live(added_at("a", emitted_ns, "/tmp/a")).len(), 1);
    for name in ["b", "c", "d"] {
        assert_eq!(rig.live(added_at(name, emitted_ns + S, &format!("/tmp/{name}"))), []);
    }
    assert_eq!(rig.tick(emitted_ns + NEWS_PACE_NS - 1), []);
    let alerts = rig.tick(emitted_ns + NEWS_PACE_NS);
    assert_eq!(alerts.len(), 1);
    assert_eq!(paths(&alerts[0]), ["/tmp/x", "/tmp/a", "/tmp/b", "/tmp/c", "/tmp/d"]);
    assert!(!alerts[0].r#final);
    assert_eq!(rig.tick(emitted_ns + 2 * NEWS_PACE_NS), [], "once");
}

#[test]
fn a_repeat_is_no_news() {
    let mut rig = after_decoys(256);
    assert_eq!(rig.live(added("repeat", T0 + 60 * S)), []);
    assert_eq!(rig.tick(T0 + 120 * S), []);
}

#[test]
fn another_digest_origin_or_way_of_entry_is_news() {
    let entered = |finding: Finding| {
        let process = finding.process.clone().map(|process| Process { entered_from_outside: true, ..process });
        Finding { process, ..finding }
    };
    let other_digest = |mut finding: Finding| {
        finding.subject.as_mut().unwrap().sha256 = Some(driftline_schemas::Sha256::of(b"other"));
        finding
    };
    let modified = |finding: Finding| Finding { origin: Origin::Modified, ..finding };
    for (name, change) in
        [("entry", &entered as &dyn Fn(Finding) -> Finding), ("digest", &other_digest), ("origin", &modified)]
    {
        let mut rig = after_decoys(256);
        assert_eq!(rig.live(change(added("news", T0 + 60 * S))).len(), 1, "{name}");
        assert_eq!(rig.live(change(added("again", T0 + 120 * S))), [], "{name}");
        let mut rig = after_decoys(256);
        let amended = Finding { revision: 2, ..change(added("decoy", T0)) };
        assert_eq!(rig.finding(T0 + 60 * S, amended).1.len(), 1, "{name}, amended");
    }
}

#[test]
fn news_that_waits_comes_with_the_final_revision_of_a_session_that_is_quiet_before() {
    let mut rig = Rig::with(Options { session_gap: std::time::Duration::from_secs(5), ..short() });
    for at in 0..4 {
        rig.live(added(&format!("f{at}"), T0));
    }
    assert_eq!(rig.live(added_at("news", T0 + S, "/tmp/news")), []);
    let alerts = rig.tick(T0 + 6 * S);
    assert_eq!(
        (summaries(&alerts), paths(&alerts[0])),
        (vec!["update 4 final".to_owned()], vec!["/tmp/x", "/tmp/news"])
    );
    assert_eq!(rig.tick(T0 + 20 * S), []);
}

#[test]
fn a_clock_that_was_set_back_delays_news_by_the_pace_at_most() {
    let mut rig = Rig::new();
    for at in 0..4 {
        rig.finding(T0 + 3_600 * S, added(&format!("f{at}"), T0));
    }
    let (_, alerts) = rig.finding(T0, added_at("news", T0, "/tmp/news"));
    assert_eq!(alerts, []);
    assert_eq!(rig.tick(T0 + NEWS_PACE_NS).len(), 1);
}

/// An alert has no room for all programs, and a session tracks no more findings.
#[test]
fn the_revision_for_news_shows_it_however_many_programs_ran_before() {
    for decoys in [40, SESSION_FINDINGS_MAX + 5] {
        let mut rig = Rig::new();
        for at in 0..decoys {
            let severity = if at % 2 == 0 { Severity::High } else { Severity::Low };
            rig.live(Finding { severity, ..added_at(&format!("f{at:05}"), T0, &format!("/tmp/{at}")) });
        }
        rig.tick(T0 + 2 * NEWS_PACE_NS);
        for at in 0..3 {
            let path = format!("/tmp/payload{at}");
            let alert = rig.live(added_at(&format!("payload {at}"), T0 + (30 + 15 * at) * S, &path)).remove(0);
            let news = alert.findings.iter().find(|finding| finding.subject.as_ref().unwrap().path == path);
            assert!(news.is_some_and(|news| news.process.is_some()), "{decoys} decoys: {path} with details");
            assert_eq!(alert.severity, Severity::High, "the strongest finding stays");
        }
        let last = rig.tick(T0 + 3_600 * S).remove(0);
        assert!(last.findings.iter().all(|finding| finding.severity == Severity::High || decoys == 40));
        assert!(last.findings.iter().all(|finding| finding.process.is_some()), "{decoys} decoys");
    }
}

/// Details of a finding that no view shows are dropped when it comes; every other one has them.
#[test]
fn a_revision_for_more_news_than_it_has_room_for_shows_the_first_of_them_whole() {
    for strongest_at in [None, Some(0), Some(10), Some(30), Some(31), Some(60)] {
        let mut rig = after_decoys(256);
        assert_eq!(rig.live(added_at("first", T0 + 20 * S, "/tmp/first")).len(), 1);
        for at in 0..100 {
            let severity = if strongest_at == Some(at) { Severity::Medium } else { Severity::Low };
            let news = added_at(&format!("n{at:03}"), T0 + 21 * S, &format!("/tmp/n{at:03}"));
            rig.live(Finding { severity, ..news });
        }
        let alert = rig.tick(T0 + 40 * S).remove(0);
        assert_eq!(alert.findings.len(), ALERT_FINDINGS_MAX, "{strongest_at:?}");
        let bare: Vec<_> = alert.findings.iter().filter(|finding| finding.process.is_none()).collect();
        assert!(bare.is_empty(), "{strongest_at:?}: {} without details", bare.len());
    }
}

#[test]
fn a_program_stays_tracked_when_repeats_of_another_fill_the_session() {
    let mut rig = after_decoys(SESSION_FINDINGS_MAX + 5);
    rig.live(added_at("payload", T0 + 20 * S, "/tmp/payload"));
    for at in 0..5 {
        rig.live(added(&format!("more {at}"), T0 + 30 * S));
    }
    assert_eq!(rig.count(telemetry::FINDING_UNTRACKED), 11);
    assert_eq!(paths(&rig.tick(T0 + 3_600 * S)[0]), ["/tmp/x", "/tmp/payload"]);
}
