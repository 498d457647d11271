//! Tests that each kind of violation is noticed, and that correct output has none.

use std::collections::BTreeMap;

use driftline_schemas::{
    Activity, AlertFinding, AlertId, Confidence, Container, Exec, FindingState, Fingerprint, Node, Origin, Severity,
};

use super::*;
use crate::workload::exec_of;

/// Two containers with two drifting execs each, and all expected records, which a test then spoils.
struct World {
    execs: Vec<Exec>,
    findings: Vec<Finding>,
    alerts: Vec<Alert>,
    ocsf: Vec<String>,
    committed: i64,
}

impl World {
    fn good() -> Self {
        let ids = [1, 2].map(|number: u8| ContainerId::from(format!("{number:064}").as_str()));
        let execs: Vec<Exec> = ids.iter().flat_map(|id| (0..8).map(|number| exec_of(id, number, 5))).collect();
        let findings: Vec<Finding> = execs.iter().filter_map(finding).collect();
        let alerts: Vec<Alert> = findings.chunks(2).flat_map(|pair| [alert(1, &pair[..1]), alert(2, pair)]).collect();
        let ocsf = alerts.iter().map(|alert| format!("{}:{}", alert.alert_id, alert.revision)).collect();
        Self { execs, findings, alerts, ocsf, committed: 16 }
    }

    fn verdict(self) -> Verdict {
        let mut ledger = Ledger::default();
        let end = i64::try_from(self.execs.len()).unwrap();
        for (offset, exec) in (0..).zip(self.execs) {
            ledger.exec(&ExecEvent::Exec(Box::new(exec)), (0, offset));
            ledger.last.insert((Topic::ExecEvents, 0), offset);
        }
        (0..).zip(&self.findings).for_each(|(offset, finding)| ledger.finding(finding, (0, offset)));
        self.alerts.into_iter().for_each(|alert| ledger.alert(&alert));
        self.ocsf.into_iter().for_each(|uid| *ledger.ocsf.entry(uid).or_default() += 1);
        let range = OffsetRange { topic: Topic::ExecEvents, partition: 0, begin: 0, end };
        ledger.compare_offsets("group", &[range], &BTreeMap::from([(0, self.committed)]));
        ledger.verdict()
    }
}

fn check(spoil: impl FnOnce(&mut World), expected: &[Violation]) {
    let mut world = World::good();
    spoil(&mut world);
    let verdict = world.verdict();
    assert_eq!(verdict.wrong.keys().copied().collect::<Vec<_>>(), expected, "{:?}", verdict.examples);
}

#[test]
fn what_is_right_is_not_wrong_and_an_exec_that_was_sent_twice_counts_once() {
    check(|_| {}, &[]);
    let resend = |world: &mut World| {
        world.execs.insert(8, world.execs[7].clone());
        world.committed = 17;
    };
    check(resend, &[]);
}

#[test]
fn findings_that_are_lost_come_twice_or_out_of_order_are_noticed() {
    use Violation::{
        AlertHasFindingTwice, FindingLost, FindingTwice, FindingUnexpected, FindingUnresolved, OrderBroken,
    };
    check(|world| drop(world.findings.remove(1)), &[FindingLost, AlertHasFindingTwice]);
    check(|world| world.findings.push(world.findings[1].clone()), &[FindingTwice]);
    check(|world| world.findings.swap(0, 1), &[OrderBroken]);
    let forget = |world: &mut World| {
        world.execs.remove(3);
        world.committed = 15;
    };
    check(forget, &[FindingUnexpected]);
    check(|world| world.findings[0].unresolved = Some("late".to_owned()), &[FindingUnresolved]);
}

#[test]
fn alerts_that_do_not_add_up_are_noticed() {
    use Violation::{
        AlertHasFindingTwice, AlertLacksFinding, AlertMiscounts, AlertNotFinal, AlertRevisionsBroken, OcsfDiffers,
    };
    let forget = |world: &mut World| {
        world.alerts[1].findings.remove(1);
        world.alerts[1].finding_count = 1;
    };
    check(forget, &[AlertLacksFinding]);
    check(|world| world.alerts[1].finding_count = 3, &[AlertMiscounts]);
    check(|world| world.alerts[3].r#final = false, &[AlertNotFinal]);
    check(|world| drop(world.alerts.remove(0)), &[AlertRevisionsBroken, OcsfDiffers]);
    check(|world| world.alerts.push(world.alerts[3].clone()), &[AlertRevisionsBroken]);
    let steal = |world: &mut World| {
        let stolen = world.alerts[1].findings[0].clone();
        world.alerts[3].findings.push(stolen);
        world.alerts[3].finding_count += 1;
    };
    check(steal, &[AlertHasFindingTwice]);
}

#[test]
fn messages_and_offsets_that_differ_are_noticed() {
    check(|world| drop(world.ocsf.remove(0)), &[Violation::OcsfDiffers]);
    check(|world| world.ocsf.push(world.ocsf[0].clone()), &[Violation::OcsfDiffers]);
    check(|world| world.committed = 15, &[Violation::OffsetsWrong]);
    let behind = |world: &mut World| {
        world.committed = 15;
        world.findings.pop();
        world.alerts.truncate(3);
        world.alerts[2].r#final = true;
        world.ocsf.truncate(3);
    };
    check(behind, &[Violation::NotTaken, Violation::OffsetsWrong]);
    check(|world| world.committed = 17, &[Violation::OffsetsWrong]);
}

fn finding(exec: &Exec) -> Option<Finding> {
    Some(Finding {
        finding_id: finding_of(exec)?,
        event_id: exec.event_id.clone(),
        detector: "drift".to_owned(),
        revision: 1,
        state: FindingState::Active,
        category: String::new(),
        severity: Severity::High,
        confidence: Confidence::High,
        origin: Origin::Added,
        unresolved: None,
        techniques: Vec::new(),
        event_time_ns: exec.time_ns,
        node: Node::default(),
        container: Some(Container { id: exec.container_id.clone(), ..Container::default() }),
        process: None,
        subject: None,
        note: String::new(),
        versions: BTreeMap::new(),
    })
}

fn alert(revision: i32, findings: &[Finding]) -> Alert {
    let container = findings[0].container.clone();
    Alert {
        alert_id: AlertId::of("test", container.as_ref().unwrap().id.as_str(), &findings[0].finding_id),
        revision,
        activity: Activity::Update,
        r#final: revision == 2,
        title: String::new(),
        message: String::new(),
        severity: Severity::High,
        score: 0,
        contributions: Vec::new(),
        categories: Vec::new(),
        techniques: Vec::new(),
        first_seen_ns: 0,
        last_seen_ns: 0,
        emitted_ns: 0,
        finding_count: i64::try_from(findings.len()).unwrap(),
        findings: findings.iter().map(alerted).collect(),
        node: Node::default(),
        resource: String::new(),
        container,
        fingerprint: Fingerprint::of("", "", "", ""),
        response: Vec::new(),
        virustotal: String::new(),
        flags: Vec::new(),
        versions: BTreeMap::new(),
    }
}

fn alerted(finding: &Finding) -> AlertFinding {
    AlertFinding {
        finding_id: finding.finding_id.clone(),
        detector: "drift".to_owned(),
        category: String::new(),
        severity: Severity::High,
        confidence: Confidence::High,
        origin: Origin::Added,
        unresolved: None,
        techniques: Vec::new(),
        event_time_ns: 0,
        last_time_ns: 0,
        count: 1,
        process: None,
        subject: None,
        note: String::new(),
    }
}
