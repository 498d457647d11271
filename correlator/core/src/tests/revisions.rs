//! Tests when a revision is emitted, and its content.

use driftline_schemas::topics::Topic;
use driftline_schemas::{Confidence, Finding, FindingState, Severity};
use driftline_service_core::{Disposition, Effects, Stage as _};

use super::FORMAT;
use super::{Rig, short, summaries};
use crate::fixtures::{S, T0, added, added_at, container, fileless, loss, suspicious};
use crate::limits::SESSION_FINDINGS_MAX;
use crate::{Correlator, HEADERS, Input, Options, Settings};

#[test]
fn an_alert_is_created_at_once_and_final_when_quiet() {
    let mut rig = Rig::with(short());
    let (disposition, alerts) = rig.finding(T0, added("f0", T0));
    assert_eq!((disposition, summaries(&alerts)), (Disposition::Reported, vec!["create 1".to_owned()]));
    assert_eq!((alerts[0].score, alerts[0].severity), (20, Severity::Low));
    assert_eq!(summaries(&rig.tick(T0 + 10 * S - 1)), [""; 0]);
    assert_eq!(summaries(&rig.tick(T0 + 10 * S)), ["update 2 final"]);
    assert_eq!(summaries(&rig.tick(T0 + 11 * S)), [""; 0]);
}

#[test]
fn below_the_threshold_nothing_is_said() {
    for (threshold, score_reached) in
        [(Severity::Informational, true), (Severity::Low, true), (Severity::Medium, false)]
    {
        let mut rig = Rig::with(Options { threshold, ..short() });
        let (disposition, alerts) = rig.finding(T0, added("f0", T0));
        assert_eq!(alerts.len(), usize::from(score_reached));
        assert_eq!(disposition == Disposition::Reported, score_reached);
        assert_eq!(rig.tick(T0 + 10 * S).len(), usize::from(score_reached));
    }
    // Findings that are below the threshold alone can reach it together.
    let mut rig = Rig::with(Options { threshold: Severity::Medium, ..short() });
    assert_eq!(summaries(&rig.live(added("f0", T0))), [""; 0]);
    let alerts = rig.live(fileless("f1", T0 + S));
    assert_eq!(summaries(&alerts), ["create 1"]);
    assert_eq!(alerts[0].finding_count, 2);
}

#[test]
fn at_a_containers_start_only_a_program_that_is_proven_foreign_is_an_alert() {
    let starting = driftline_schemas::Container { started_ns: T0, ..container() };
    let finding = |id, time_ns| Finding { container: Some(starting.clone()), ..added(id, time_ns) };
    let unproven = |id, time_ns| Finding { confidence: Confidence::Low, ..finding(id, time_ns) };
    let mut rig = Rig::new();
    assert_eq!(rig.finding(T0 + 30 * S, unproven("f0", T0 + 30 * S)), (Disposition::Clean, vec![]));
    assert_eq!(summaries(&rig.live(unproven("f1", T0 + 30 * S + 1))), ["create 1"]);
    let mut rig = Rig::new();
    rig.finding(T0, unproven("f0", T0));
    let alert = rig.live(finding("f1", T0 + 30 * S)).remove(0);
    let rows: Vec<_> = alert.contributions.iter().map(|row| (row.name.as_str(), row.points)).collect();
    assert_eq!(rows, [("base_low", 20), ("container_startup", -10), ("proven_foreign", 5)]);
    assert_eq!((alert.score, alert.severity), (15, Severity::Low));
}

/// The session must not forget the proof with the finding that it came from.
#[test]
fn a_program_stays_proven_foreign_when_its_finding_is_only_counted() {
    let mut rig = Rig::new();
    let starting = driftline_schemas::Container { started_ns: T0, ..container() };
    rig.live(Finding { container: Some(starting.clone()), ..added("proven", T0) });
    for at in 0..SESSION_FINDINGS_MAX {
        let finding = added_at(&format!("f{at:05}"), T0 + S, &format!("/tmp/{at}"));
        let confidence = Confidence::Low;
        rig.live(Finding { confidence, severity: Severity::Medium, container: Some(starting.clone()), ..finding });
    }
    assert_eq!(rig.state_size("beyond/").0, 1);
    for at in 0..SESSION_FINDINGS_MAX {
        let finding = added_at(&format!("f{at:05}"), T0 + S, &format!("/tmp/{at}"));
        // One stays, so that the alert has a finding to show.
        let state = if at == 0 { FindingState::Active } else { FindingState::Retracted };
        let (revision, severity, confidence) = (2, Severity::Informational, Confidence::Low);
        let finding = Finding { revision, severity, confidence, state, container: Some(starting.clone()), ..finding };
        rig.finding(T0 + 2 * S, finding);
    }
    let alert = rig.tick(T0 + 3_600 * S).remove(0);
    assert_eq!((alert.finding_count, alert.score), (2, 15));
}

#[test]
fn updates_come_with_severity_categories_and_each_doubling() {
    let mut rig = Rig::new();
    let mut emitted = Vec::new();
    for at in 0..20 {
        emitted.push(summaries(&rig.live(added(&format!("f{at}"), T0 + at * S))).join(""));
    }
    let expected = |at| match at {
        0 => "create 1",
        1 => "update 2",
        3 => "update 3",
        7 => "update 4",
        15 => "update 5",
        _ => "",
    };
    assert_eq!(emitted, (0..20).map(expected).collect::<Vec<_>>());
    let alerts = rig.live(fileless("g", T0 + 20 * S));
    assert_eq!((summaries(&alerts), alerts[0].severity), (vec!["update 6".to_owned()], Severity::Critical));
    assert_eq!(alerts[0].title, "Execution: Fileless Execution in /memfd:");
    assert_eq!(alerts[0].categories.len(), 2);
    let third = Finding { category: "Third".into(), severity: Severity::Informational, ..added_at("h", T0, "/h") };
    let alerts = rig.live(third);
    assert_eq!((summaries(&alerts), alerts[0].severity), (vec!["update 7".to_owned()], Severity::Critical));
}

#[test]
fn a_finding_after_the_final_revision_reopens_the_session_or_is_said_as_final() {
    let mut rig = Rig::with(short());
    rig.live(added("f0", T0));
    rig.tick(T0 + 10 * S);
    // One finding within the gap by event time, and late; the session is no longer quiet with it.
    assert_eq!(summaries(&rig.finding(T0 + 12 * S, added("f1", T0 + 9 * S)).1), ["update 3"]);
    assert_eq!(summaries(&rig.tick(T0 + 19 * S)), ["update 4 final"]);
    // The session is still quiet: a change that makes a revision due is emitted as final; any other waits for the clock
    // and is emitted once.
    let fresh = |id: &str| Finding { category: id.into(), ..added(id, T0 + 9 * S) };
    assert_eq!(summaries(&rig.finding(T0 + 30 * S, fresh("other")).1), ["update 5 final"]);
    assert_eq!(summaries(&rig.tick(T0 + 31 * S)), [""; 0]);
    assert_eq!(rig.finding(T0 + 32 * S, added("f2", T0)).0, Disposition::Clean);
    assert_eq!(rig.finding(T0 + 32 * S, added("f3", T0)).0, Disposition::Clean);
    let alerts = rig.tick(T0 + 33 * S);
    assert_eq!((summaries(&alerts), alerts[0].finding_count), (vec!["update 6 final".to_owned()], 5));
}

#[test]
fn repeats_fold_into_a_count() {
    let mut rig = Rig::new();
    let other_digest = |id: &str| {
        let mut finding = added(id, T0 + 3 * S);
        finding.subject.as_mut().unwrap().sha256 = None;
        finding
    };
    rig.live(added("f0", T0 + 5 * S));
    rig.live(added("f1", T0));
    rig.live(added_at("f2", T0 + 2 * S, "/tmp/y"));
    let alerts = rig.live(other_digest("f3"));
    let shown: Vec<_> = alerts[0]
        .findings
        .iter()
        .map(|finding| (finding.finding_id.as_str(), finding.count, finding.event_time_ns, finding.last_time_ns))
        .collect();
    assert_eq!(
        shown,
        [("f0", 2, T0, T0 + 5 * S), ("f2", 1, T0 + 2 * S, T0 + 2 * S), ("f3", 1, T0 + 3 * S, T0 + 3 * S)]
    );
    assert_eq!((alerts[0].finding_count, alerts[0].first_seen_ns, alerts[0].last_seen_ns), (4, T0, T0 + 5 * S));
}

#[test]
fn a_loss_is_an_alert_about_its_node() {
    let mut rig = Rig::new();
    let alert = rig.live(loss("f0", T0)).remove(0);
    assert_eq!(alert.message, "node node-1: 17 executions between two times were lost: ring buffer full");
    assert_eq!((alert.title.as_str(), alert.severity), ("Executions Not Seen", Severity::Low));
    assert_eq!(alert.virustotal, "");
    assert_eq!(alert.response.last().unwrap().title, "Respond");
}

#[test]
fn records_carry_key_headers_and_every_format_that_is_set() {
    for (formats, topics) in [
        (std::collections::BTreeSet::from([FORMAT.name]), vec![Topic::Alerts, Topic::AlertsOcsf]),
        (std::collections::BTreeSet::new(), vec![Topic::Alerts]),
    ] {
        let settings = Settings::new(Options { formats, ..Options::default() }, &[FORMAT]).unwrap();
        let (mut correlator, mut effects) = (Correlator::new(settings, 4), Effects::default());
        correlator
            .apply(T0, Input::Finding { partition: 3, finding: Box::new(added("f0", T0)) }, &mut effects)
            .unwrap();
        let records = effects.take_outgoing();
        assert_eq!(records.iter().map(|record| record.topic).collect::<Vec<_>>(), topics);
        for record in records {
            assert_eq!(record.key, b"c1c1");
            assert_eq!(record.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>(), HEADERS);
            assert_eq!(record.headers[1].1, b"1");
            assert_eq!(record.headers[2].1, b"Low");
        }
        assert_eq!(correlator.held(), 0);
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_except_for_the_time_it_is_said() {
    let findings = [added("f0", T0), suspicious("f1", T0 + S), fileless("f2", T0 + 2 * S)];
    let run = |shift_ns: i64| {
        let mut rig = Rig::new();
        let mut alerts: Vec<_> = findings
            .iter()
            .flat_map(|finding| rig.finding(finding.event_time_ns + shift_ns, finding.clone()).1)
            .collect();
        alerts.extend(rig.tick(T0 + 700 * S + shift_ns));
        alerts
    };
    let (now, later) = (run(0), run(5 * S));
    assert_eq!(now.len(), 4);
    for (now, mut later) in now.into_iter().zip(later) {
        assert_eq!(later.emitted_ns, now.emitted_ns + 5 * S);
        later.emitted_ns = now.emitted_ns;
        assert_eq!(driftline_schemas::encode(&now).unwrap(), driftline_schemas::encode(&later).unwrap());
    }
}

#[test]
fn everything_retracted_closes_the_alert_and_a_match_opens_it_again() {
    let mut rig = Rig::with(short());
    let retracted = |id: &str| Finding { revision: 2, state: FindingState::Retracted, ..added(id, T0) };
    rig.live(added("f0", T0));
    rig.live(added("f1", T0 + S));
    assert_eq!(rig.finding(T0 + 2 * S, retracted("f0")).0, Disposition::Clean);
    let alerts = rig.finding(T0 + 3 * S, retracted("f1")).1;
    assert_eq!(summaries(&alerts), ["close 3 final"]);
    assert_eq!((alerts[0].score, alerts[0].finding_count), (0, 2));
    assert_eq!(alerts[0].contributions[0].name, "withdrawn");
    assert_eq!(
        alerts[0].message,
        "Withdrawn: none of the 2 findings about container web (image registry.test/app:1.2) on node node-1 stands."
    );
    assert_eq!(summaries(&rig.tick(T0 + 60 * S)), [""; 0], "nothing more to report");
    let category = "Execution: Added Malicious Binary Executed".to_owned();
    let malicious = Finding { revision: 3, severity: Severity::Critical, category, ..added("f1", T0 + S) };
    let alerts = rig.finding(T0 + 70 * S, malicious).1;
    assert_eq!((summaries(&alerts), alerts[0].severity), (vec!["update 4 final".to_owned()], Severity::Critical));
}

#[test]
fn what_was_never_said_is_never_closed() {
    let mut rig = Rig::with(Options { threshold: Severity::High, ..short() });
    rig.live(added("f0", T0));
    let retracted = Finding { revision: 2, state: FindingState::Retracted, ..added("f0", T0) };
    assert_eq!(rig.finding(T0, retracted), (Disposition::Clean, vec![]));
}
