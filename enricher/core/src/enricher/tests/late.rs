//! Digests that arrive late, and execs that were left out.

use super::*;
use crate::limits::REPORTED_MAX;

impl Bench {
    fn given(&mut self, exec: Exec) -> &mut Self {
        self.event(ExecEvent::Exec(Box::new(exec)))
    }

    /// Sends the exec without its digest, as it is sent first.
    fn without_digest(&mut self, number: i64, class: FileClass, path: &str, file: &str) -> &mut Self {
        self.given(undigested(exec(number, class, path, file)))
    }

    fn settled(&mut self) -> BTreeMap<Disposition, u64> {
        self.effects.take_settled().into_iter().collect()
    }

    fn written(&mut self) -> Vec<Finding> {
        let out = self.effects.take_outgoing().into_iter().filter(|out| out.topic == Topic::Findings);
        out.map(|out| decode(&out.value).unwrap()).collect()
    }
}

fn retracted(number: i64, revision: i32, origin: Origin) -> (String, i32, Origin, FindingState) {
    (format!("event-{number}"), revision, origin, FindingState::Retracted)
}

#[test]
fn a_late_digest_retracts_or_confirms_or_makes_a_finding() {
    let mut bench = Bench::new();
    bench.seen().image();
    // The file has the image file's size, so that only the digest differs.
    bench.without_digest(1, FileClass::CopiedUp, "/bin/ls", "/bin/ls");
    bench.without_digest(2, FileClass::CopiedUp, "/bin/ls", "1234567");
    bench.without_digest(3, FileClass::RootfsPlain, "/bin/ls", "1234567");
    let low: Vec<_> = bench.written().iter().map(|f| (f.origin, f.confidence, f.revision)).collect();
    let unsure = |origin| (origin, driftline_schemas::Confidence::Low, 1);
    assert_eq!(low, [Origin::Modified, Origin::Modified, Origin::Unproven].map(unsure));
    bench.settled();
    bench.exec(1, FileClass::CopiedUp, "/bin/ls", "/bin/ls");
    bench.exec(2, FileClass::CopiedUp, "/bin/ls", "1234567");
    bench.exec(3, FileClass::RootfsPlain, "/bin/ls", "1234567");
    let late = bench.written();
    let found: Vec<_> = late.iter().map(|f| (f.event_id.to_string(), f.revision, f.origin, f.state)).collect();
    assert_eq!(found[0], retracted(1, 2, Origin::Touched));
    assert_eq!(found[1..3], [active(2, 2, Origin::Modified), active(3, 1, Origin::Modified)]);
    assert!(late[1..3].iter().all(|f| f.confidence == driftline_schemas::Confidence::High));
    assert!(late[1..].iter().all(|f| f.subject.as_ref().unwrap().sha256.is_some()));
    assert_eq!((found[3].1, found[3].2, found[3].3), (2, Origin::Unproven, FindingState::Retracted));
    assert_eq!(bench.settled(), BTreeMap::from([(Disposition::Reported, 3)]));
}

#[test]
fn whatever_comes_again_and_in_whatever_order_says_nothing_new() {
    let mut bench = Bench::new();
    bench.seen().image().without_digest(1, FileClass::New, "/tmp/x", "evil").exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Added), active(1, 2, Origin::Added)]);
    bench.settled();
    bench.without_digest(1, FileClass::New, "/tmp/x", "evil").exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings(), []);
    // The digest arrives first: none is expected afterwards.
    bench.exec(2, FileClass::New, "/tmp/y", "evil").without_digest(2, FileClass::New, "/tmp/y", "evil");
    assert_eq!(bench.findings(), [active(2, 1, Origin::Added)]);
    assert_eq!(bench.settled(), BTreeMap::from([(Disposition::Reported, 1), (Disposition::Duplicate, 3)]));
}

#[test]
fn an_exec_and_its_digest_wait_for_the_image_in_their_order() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.without_digest(1, FileClass::New, "/tmp/x", "evil").exec(1, FileClass::New, "/tmp/x", "evil");
        assert_eq!((bench.findings(), bench.enricher.held()), (vec![], 2));
    }
    bench.seen().image();
    assert_eq!(bench.findings(), [active(1, 1, Origin::Added), active(1, 2, Origin::Added)]);
    let settled = bench.settled();
    assert_eq!((settled[&Disposition::Reported], settled[&Disposition::Duplicate]), (2, 2));
}

#[test]
fn without_the_image_the_digest_is_told_and_the_image_amends_both() {
    let mut bench = Bench::new();
    bench.without_digest(1, FileClass::CopiedUp, "/bin/ls", "/bin/ls").after(5 * SECOND);
    bench.exec(1, FileClass::CopiedUp, "/bin/ls", "/bin/ls");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Unresolved), active(1, 2, Origin::Unresolved)]);
    bench.seen().image();
    assert_eq!(bench.findings(), [retracted(1, 3, Origin::Touched)]);
    // The image arrives before the digest.
    let mut bench = Bench::new();
    bench.without_digest(1, FileClass::CopiedUp, "/bin/ls", "/bin/ls").after(5 * SECOND).seen().image();
    assert_eq!(bench.findings(), [active(1, 1, Origin::Unresolved), active(1, 2, Origin::Modified)]);
    bench.exec(1, FileClass::CopiedUp, "/bin/ls", "/bin/ls");
    assert_eq!(bench.findings(), [retracted(1, 3, Origin::Touched)]);
}

#[test]
fn a_judgement_by_the_image_is_not_taken_back_for_want_of_it() {
    let mut bench = Bench::new();
    bench.seen().image().without_digest(1, FileClass::CopiedUp, "/bin/ls", "/bin/ls");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Modified)]);
    let mut unknown = seen("box");
    unknown.container.image_id = ImageId::default();
    bench.event(ExecEvent::Seen(Box::new(unknown))).exec(1, FileClass::CopiedUp, "/bin/ls", "/bin/ls");
    assert_eq!(bench.findings(), []);
    bench.seen().image();
    assert_eq!(bench.findings(), [retracted(1, 2, Origin::Touched)]);
}

#[test]
fn a_digest_amends_for_an_hour_and_no_longer() {
    let check = |late_ns: i64, expect: Disposition| {
        let mut bench = Bench::new();
        bench.seen().image().without_digest(1, FileClass::New, "/tmp/x", "evil");
        bench.settled();
        bench.after(late_ns).exec(1, FileClass::New, "/tmp/x", "evil");
        assert_eq!(bench.settled(), BTreeMap::from([(expect, 1)]));
    };
    check(AMEND_NS - 1, Disposition::Reported);
    check(AMEND_NS, Disposition::Dropped("amendment_too_late"));
}

#[test]
fn of_as_many_findings_as_are_remembered_the_oldest_can_still_be_amended() {
    let mut bench = Bench::new();
    bench.seen().image();
    for number in 0..REPORTED_MAX {
        bench.without_digest(i64::try_from(number).unwrap(), FileClass::New, "/tmp/x", "evil");
    }
    bench.findings();
    bench.exec(0, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings(), [active(0, 2, Origin::Added)]);
    let more = i64::try_from(REPORTED_MAX).unwrap();
    bench.without_digest(more, FileClass::New, "/tmp/x", "evil").exec(0, FileClass::New, "/tmp/x", "evil");
    let found = bench.findings();
    assert_eq!(
        found[1],
        active(0, 1, Origin::Added),
        "emitted again with the same id, as of any exec that is forgotten"
    );
}

#[test]
fn a_throttled_container_is_a_finding_in_its_place_once() {
    let mut bench = Bench::new();
    bench.exec(1, FileClass::New, "/tmp/x", "evil");
    for _ in 0..2 {
        bench.event(ExecEvent::Throttled(Box::new(throttled("box", 1))));
    }
    assert_eq!((bench.written(), bench.enricher.held()), (vec![], 2), "and once is enough");
    bench.seen().image().event(ExecEvent::Throttled(Box::new(throttled("box", 1))));
    let found = bench.written();
    let names: Vec<_> = found.iter().map(|f| (f.detector.as_str(), f.category.as_str(), f.revision)).collect();
    assert_eq!(names, [("drift", "Added Binary Executed", 1), ("throttle", "Container Throttled", 1)]);
    let container = found[1].container.as_ref().unwrap();
    assert_eq!((container.name.as_str(), found[1].origin), ("web", Origin::None));
    assert_eq!(
        found[1].note,
        "in 10 s the container executed more than a node tells: 500 execs of image files and 70 execs of 2 other files \
         that were told before were left out; most often /tmp/\\x1b (69)"
    );
    let settled = bench.settled();
    assert_eq!((settled[&Disposition::Reported], settled[&Disposition::Duplicate]), (2, 2));
}
