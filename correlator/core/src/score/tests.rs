//! Tests every row, applied and not applied, and the arithmetic around them.

use driftline_schemas::{Confidence, Container, Finding, Mount, Origin, Process, Severity};

use super::*;
use crate::finding::SessionFinding;
use crate::fixtures::{S, T0, added, container, fileless, suspicious, throttled};

fn facts(findings: &[Finding], container: &Container) -> Facts {
    let mut facts = Facts { container: ContainerFacts::of(Some(container)), ..Facts::default() };
    for finding in findings {
        facts.take(&SessionFinding::new(finding, 0).unwrap());
    }
    facts
}

fn of(severity: Severity) -> Finding {
    Finding { severity, ..added("f", T0) }
}

fn category(name: &str, severity: Severity) -> Finding {
    Finding { category: name.into(), severity, ..added(name, T0) }
}

fn process(change: impl Fn(&mut Process)) -> Finding {
    let mut finding = added("f", T0);
    change(finding.process.as_mut().unwrap());
    finding
}

fn deleted() -> Finding {
    let mut finding = added("f", T0);
    finding.subject.as_mut().unwrap().deleted = true;
    finding
}

/// Names of the rows that apply, without the base.
fn rows(findings: &[Finding], container: &Container) -> Vec<String> {
    let score = score(&facts(findings, container), Severity::Low);
    assert_eq!(score.contributions.iter().map(|row| row.points).sum::<i32>(), score.points);
    score.contributions.into_iter().map(|row| row.name).filter(|name| !name.starts_with("base_")).collect()
}

#[test]
fn exactly_one_base_applies() {
    for (severity, name, points) in [
        (Severity::Informational, "base_informational", 0),
        (Severity::Low, "base_low", 20),
        (Severity::Medium, "base_medium", 45),
        (Severity::High, "base_high", 70),
        (Severity::Critical, "base_critical", 90),
    ] {
        let score = score(&facts(&[of(severity), of(Severity::Informational)], &container()), Severity::Low);
        assert_eq!((score.points, score.contributions.len()), (points, 1));
        assert_eq!(score.contributions[0].name, name);
        assert_eq!(score.severity, severity, "a base alone keeps its severity");
    }
}

#[test]
fn each_row_applies_for_its_reason_only() {
    let shared = Container { host_namespaces: vec!["pid".into()], ..container() };
    let privileged = Container { privileged: true, ..container() };
    let starting = Container { started_ns: T0 - 30 * S, ..container() };
    let started = Container { started_ns: T0 - 30 * S - 1, ..container() };
    let starts_later = Container { started_ns: T0 + 30 * S + 1, ..container() };
    let unknown = Container { started_ns: 0, ..container() };
    let (a, b, c) = (category("a", Severity::Low), category("b", Severity::Low), category("c", Severity::Low));
    let context = category("context", Severity::Informational);
    let entered = process(|process| process.entered_from_outside = true);
    let on_terminal = |process: &mut Process| process.tty = Some("pts0".into());
    let tty = process(on_terminal);
    let root = process(|process| process.container_root_user = true);
    let later = Finding { event_time_ns: T0 + S, ..added("later", T0) };
    let interactive = process(|process| {
        process.entered_from_outside = true;
        process.tty = Some("pts0".into());
    });
    let plain = container();
    let cases: [(&[Finding], &Container, &[&str]); 23] = [
        (&[of(Severity::Low)], &plain, &[]),
        (&[a.clone(), a.clone()], &plain, &[]),
        (&[a.clone(), b.clone()], &plain, &["second_category"]),
        (&[a.clone(), context.clone()], &plain, &[]),
        (&[a.clone(), b.clone(), c.clone()], &plain, &["second_category", "third_category"]),
        (&[a.clone(), b, c, category("d", Severity::Low)], &plain, &["second_category", "third_category"]),
        (&[deleted()], &plain, &["file_deleted"]),
        (&[throttled("f", T0)], &plain, &["container_throttled"]),
        (&[a.clone(), throttled("f", T0)], &plain, &["second_category", "container_throttled"]),
        (&[fileless("f", T0)], &plain, &[]),
        (&[process(|process| process.entered_from_outside = true)], &plain, &[]),
        (&[tty], &plain, &[]),
        (&[entered.clone(), process(on_terminal)], &plain, &[]),
        (&[interactive], &plain, &["interactive_entry"]),
        (&[of(Severity::Low)], &shared, &["host_access"]),
        (&[of(Severity::Low)], &privileged, &["host_access"]),
        (&[root], &plain, &["container_root"]),
        (&[of(Severity::Low)], &starting, &["container_startup", "proven_foreign"]),
        (&[of(Severity::Low)], &started, &[]),
        (&[of(Severity::Low)], &starts_later, &[]),
        (&[of(Severity::Low)], &unknown, &[]),
        (&[of(Severity::Low), later], &starting, &[]),
        (&[of(Severity::Low), entered], &starting, &[]),
    ];
    for (findings, container, expected) in cases {
        assert_eq!(rows(findings, container), expected);
    }
}

#[test]
fn nothing_is_lowered_from_a_high_base_on() {
    let starting = Container { started_ns: T0, ..container() };
    assert_eq!(rows(&[of(Severity::Medium)], &starting), ["container_startup"]);
    assert_eq!(rows(&[of(Severity::High)], &starting), [""; 0]);
}

#[test]
fn lowering_takes_no_proven_foreign_program_below_the_alert_threshold() {
    let starting = Container { started_ns: T0, ..container() };
    let of_origin = |origin, confidence| Finding { origin, confidence, ..of(Severity::Low) };
    let points = |finding: Finding, threshold| {
        let score = score(&facts(&[finding], &starting), threshold);
        assert_eq!(score.contributions.iter().map(|row| row.points).sum::<i32>(), score.points);
        let row = score.contributions.iter().find(|row| row.name == "proven_foreign");
        (score.points, row.map(|row| row.points))
    };
    for origin in
        [Origin::Added, Origin::Modified, Origin::Relocated, Origin::Mounted, Origin::Fileless, Origin::FilelessShm]
    {
        assert_eq!(points(of_origin(origin, Confidence::High), Severity::Low), (15, Some(5)), "{origin:?}");
        assert_eq!(points(of_origin(origin, Confidence::Low), Severity::Low), (10, None), "{origin:?}");
    }
    for origin in [Origin::Image, Origin::Touched, Origin::Unresolved, Origin::Inconsistent, Origin::None] {
        assert_eq!(points(of_origin(origin, Confidence::High), Severity::Low), (10, None), "{origin:?}");
    }
    let on_read_only = |read_only| {
        let mut finding = of_origin(Origin::Mounted, Confidence::High);
        let mount = Mount { point: "/m".into(), fs_type: "bind".into(), source: String::new(), read_only };
        finding.subject.as_mut().unwrap().mount = Some(mount);
        points(finding, Severity::Low)
    };
    assert_eq!((on_read_only(false), on_read_only(true)), ((15, Some(5)), (10, None)));
    // What is below the threshold before it is lowered stays as it is.
    for (threshold, expected) in [(Severity::Informational, (10, None)), (Severity::Medium, (10, None))] {
        assert_eq!(points(of(Severity::Low), threshold), expected, "{threshold:?}");
    }
    assert_eq!(points(of(Severity::Medium), Severity::Medium), (40, Some(5)));
}

#[test]
fn lowering_is_limited_and_the_sum_stays_exact() {
    let always = |name, points| ScoreRow { name, points, doc: "", why: |_| Some(String::new()) };
    let base = |points| [always("base", points), NEVER, NEVER, NEVER, NEVER];
    const NEVER: ScoreRow = ScoreRow { name: "never", points: 0, doc: "", why: |_| None };
    for (points, others, expected, adjustment) in [
        (20, vec![always("a", -10)], 10, None),
        (20, vec![always("a", -10), always("b", -5)], 5, None),
        (20, vec![always("a", -10), always("b", -6)], 5, Some(("lowering_limit", 1))),
        (69, vec![always("a", -40)], 54, Some(("lowering_limit", 25))),
        (70, vec![always("a", -40)], 70, None),
        (0, vec![always("a", -10)], 0, Some(("clamp", 10))),
        (90, vec![always("a", 15), always("b", 15)], 100, Some(("clamp", -20))),
    ] {
        let rows: Vec<ScoreRow> = base(points).into_iter().chain(others).collect();
        let score = score_with(&rows, &Facts::default(), Severity::Low);
        assert_eq!((score.points, total(&score.contributions)), (expected, expected));
        let last = score.contributions.last().map(|row| (row.name.as_str(), row.points));
        assert_eq!(last.filter(|(name, _)| ["clamp", "lowering_limit"].contains(name)), adjustment);
    }
}

#[test]
fn bands_begin_where_they_should() {
    for (points, severity) in [
        (0, Severity::Informational),
        (14, Severity::Informational),
        (15, Severity::Low),
        (39, Severity::Low),
        (40, Severity::Medium),
        (64, Severity::Medium),
        (65, Severity::High),
        (84, Severity::High),
        (85, Severity::Critical),
        (100, Severity::Critical),
    ] {
        assert_eq!(band(points), severity, "{points}");
    }
}

#[test]
fn a_suspicious_session_reaches_medium_by_named_rows() {
    let score = score(&facts(&[suspicious("f", T0), deleted()], &container()), Severity::Low);
    let shown: Vec<_> = score.contributions.iter().map(|row| (row.name.as_str(), row.points)).collect();
    assert_eq!(shown, [("base_low", 20), ("file_deleted", 15), ("interactive_entry", 10), ("container_root", 5)]);
    assert_eq!((score.points, score.severity), (50, Severity::Medium));
}

#[test]
fn rows_are_named_once_documented_and_bases_come_first() {
    let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), ROWS.len());
    assert!(ROWS.iter().all(|row| row.doc.ends_with('.')));
    assert!(ROWS.iter().enumerate().all(|(at, row)| row.name.starts_with("base_") == (at < BASES)));
}
