//! Parking, order, deadlines, amendments and limits of the stage.

use super::*;
use crate::fixtures::{IMAGE, exec, image, mount, seen};
use crate::limits::REQUEST_AGAIN_NS;
use driftline_schemas::{FileClass, Finding, ImageRequest, decode};

const SECOND: i64 = 1_000_000_000;

struct Bench {
    enricher: Enricher,
    effects: Fx,
    now_ns: i64,
    offset: i64,
}

impl Bench {
    fn new() -> Self {
        let settings = Settings { park_ns: 5 * SECOND, versions: BTreeMap::new() };
        Self { enricher: Enricher::new(settings), effects: Fx::default(), now_ns: 1, offset: 0 }
    }

    fn input(&mut self, input: Input) -> &mut Self {
        self.enricher.apply(self.now_ns, input, &mut self.effects).unwrap();
        self
    }

    fn event(&mut self, event: ExecEvent) -> &mut Self {
        let at = Position { partition: 0, offset: self.offset };
        self.offset += 1;
        self.input(Input::Event(at, event))
    }

    fn exec(&mut self, number: i64, class: FileClass, path: &str, file: &str) -> &mut Self {
        self.event(ExecEvent::Exec(Box::new(exec(number, class, path, file))))
    }

    fn seen(&mut self) -> &mut Self {
        self.event(ExecEvent::Seen(Box::new(seen("box"))))
    }

    fn image(&mut self) -> &mut Self {
        self.answer(ImageAnswer::Ready(image()))
    }

    fn answer(&mut self, answer: ImageAnswer) -> &mut Self {
        self.input(Input::Image(ImageId::from(IMAGE), answer))
    }

    fn after(&mut self, ns: i64) -> &mut Self {
        self.now_ns += ns;
        self.input(Input::Tick)
    }

    /// Findings made since the last call: event number, revision, origin, state.
    fn findings(&mut self) -> Vec<(String, i32, Origin, FindingState)> {
        let out = self.effects.take_outgoing();
        out.iter()
            .filter(|out| out.topic == Topic::Findings)
            .map(|out| decode::<Finding>(&out.value).unwrap())
            .map(|f| (f.event_id.to_string(), f.revision, f.origin, f.state))
            .collect()
    }

    fn requests(&mut self) -> Vec<ImageRequest> {
        let out = self.effects.take_outgoing();
        let requests = out.iter().filter(|out| out.topic == Topic::ImageRequests);
        requests.map(|out| decode(&out.value).unwrap()).collect()
    }
}

fn active(number: i64, revision: i32, origin: Origin) -> (String, i32, Origin, FindingState) {
    (format!("event-{number}"), revision, origin, FindingState::Active)
}

#[test]
fn events_wait_for_metadata_and_image_and_leave_in_order() {
    let mut bench = Bench::new();
    bench.exec(1, FileClass::New, "/tmp/x", "evil").exec(2, FileClass::Image, "/bin/ls", "");
    assert_eq!((bench.findings(), bench.enricher.held()), (vec![], 2));
    bench.seen();
    assert_eq!(bench.effects.take_asks(), [Ask::Image(ImageId::from(IMAGE))]);
    assert_eq!(bench.enricher.held(), 2);
    bench.exec(3, FileClass::New, "/tmp/y", "/bin/ls").image();
    assert_eq!(bench.findings(), [active(1, 1, Origin::Added), active(3, 1, Origin::Relocated)]);
    assert_eq!(bench.enricher.held(), 0);
    let settled = bench.effects.take_settled();
    assert_eq!(settled[&Disposition::Reported], 2);
    assert_eq!(settled[&Disposition::Clean], 2, "the container record and the image program");
}

#[test]
fn one_container_s_waiting_does_not_stop_another() {
    let mut bench = Bench::new();
    bench.seen().image().exec(1, FileClass::New, "/tmp/x", "evil");
    let stranger = Exec { container_id: ContainerId::from("other"), ..exec(2, FileClass::New, "/a", "a") };
    bench.event(ExecEvent::Exec(Box::new(stranger))).exec(3, FileClass::New, "/tmp/z", "evil");
    assert_eq!(bench.findings().len(), 2);
    assert_eq!(bench.enricher.held(), 1);
}

#[test]
fn the_deadline_lets_the_head_go_out_unresolved_and_the_image_amends_it() {
    let mut bench = Bench::new();
    bench.seen().answer(ImageAnswer::Missing);
    bench.exec(1, FileClass::New, "/tmp/x", "evil").exec(2, FileClass::CopiedUp, "/bin/ls", "/bin/ls").exec(
        3,
        FileClass::Image,
        "/bin/ls",
        "",
    );
    bench.after(5 * SECOND - 1);
    assert_eq!(bench.findings(), []);
    bench.after(1);
    assert_eq!(bench.findings(), [active(1, 1, Origin::Unresolved), active(2, 1, Origin::Unresolved)]);
    bench.exec(4, FileClass::New, "/tmp/y", "evil");
    assert_eq!(bench.findings(), [active(4, 1, Origin::Unresolved)], "the container flows");
    bench.image();
    let amended = bench.findings();
    assert_eq!(amended[0], active(1, 2, Origin::Added));
    assert_eq!(amended[1], ("event-2".into(), 2, Origin::Touched, FindingState::Retracted));
    assert_eq!(amended[2], active(4, 2, Origin::Added));
    bench.exec(5, FileClass::New, "/tmp/y", "evil");
    assert_eq!(bench.findings(), [active(5, 1, Origin::Added)]);
    assert_eq!(bench.effects.take_counts()["deadline_fired"], 1);
}

#[test]
fn metadata_that_comes_late_amends_too() {
    let mut bench = Bench::new();
    bench.exec(1, FileClass::New, "/tmp/x", "evil").after(5 * SECOND);
    assert_eq!(bench.findings(), [active(1, 1, Origin::Unresolved)]);
    bench.seen().image();
    assert_eq!(bench.findings(), [active(1, 2, Origin::Added)]);
}

#[test]
fn an_amendment_after_an_hour_is_not_made() {
    let mut bench = Bench::new();
    bench.exec(1, FileClass::New, "/tmp/x", "evil").after(5 * SECOND);
    bench.after(AMEND_NS).seen().image();
    assert_eq!(bench.findings().len(), 1);
}

#[test]
fn an_image_that_failed_does_not_make_events_wait() {
    let mut bench = Bench::new();
    bench.seen().answer(ImageAnswer::Failed("too big".into())).exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Unresolved)]);
    bench.image();
    assert_eq!(bench.findings(), [active(1, 2, Origin::Added)]);
}

#[test]
fn a_missing_image_is_asked_for_once_and_again_after_the_pause() {
    let mut bench = Bench::new();
    bench.seen().answer(ImageAnswer::Missing);
    let request = bench.requests();
    assert_eq!((request.len(), request[0].node.as_str(), request[0].why.as_str()), (1, "n", "no_manifest"));
    bench.answer(ImageAnswer::Missing).after(REQUEST_AGAIN_NS - 1);
    assert_eq!(bench.requests().len(), 0);
    bench.after(1);
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn a_repeated_event_is_a_duplicate() {
    let mut bench = Bench::new();
    bench.seen().image().exec(1, FileClass::New, "/tmp/x", "evil").exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings().len(), 1);
    assert_eq!(bench.effects.take_settled()[&Disposition::Duplicate], 1);
}

#[test]
fn a_mismatch_is_reported_once_per_path() {
    let mut bench = Bench::new();
    bench.seen().image();
    bench.exec(1, FileClass::Image, "/bin/odd", "").exec(2, FileClass::Image, "/bin/odd", "");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Inconsistent)]);
}

#[test]
fn one_event_more_than_may_be_parked_lets_the_head_go() {
    let mut bench = Bench::new();
    let parked_max = i64::try_from(PARKED_MAX).unwrap();
    for number in 0..parked_max {
        bench.exec(number, FileClass::New, "/tmp/x", "evil");
    }
    assert_eq!((bench.findings().len(), bench.enricher.held()), (0, PARKED_MAX as u64));
    bench.exec(parked_max, FileClass::New, "/tmp/x", "evil");
    assert_eq!((bench.findings().len(), bench.enricher.held()), (1, PARKED_MAX as u64));
}

#[test]
fn what_state_depends_on_is_read_again_after_a_restart() {
    let mut bench = Bench::new();
    assert_eq!(bench.enricher.oldest_needed(0), None);
    bench.exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.enricher.oldest_needed(0), Some(0));
    bench.seen().image();
    assert_eq!(bench.enricher.oldest_needed(0), Some(1), "the container record");
    bench.seen();
    assert_eq!(bench.enricher.oldest_needed(0), Some(2), "the newest one is enough");
    let ended =
        ContainerEnded { container_id: ContainerId::from("box"), cluster: "c".into(), node: "n".into(), ended_ns: 0 };
    bench.effects.take_asks();
    bench.event(ExecEvent::Ended(ended));
    assert_eq!(bench.enricher.oldest_needed(0), None);
    assert_eq!(bench.effects.take_asks(), [Ask::Forget(ImageId::from(IMAGE))]);
}

#[test]
fn a_revoked_partition_takes_everything_with_it() {
    let mut bench = Bench::new();
    bench.exec(1, FileClass::New, "/tmp/x", "evil");
    bench.seen();
    bench.effects.take_asks();
    bench.enricher.drop_partition(0);
    assert_eq!((bench.enricher.held(), bench.enricher.oldest_needed(0)), (0, None));
    bench.after(6 * SECOND);
    assert_eq!(bench.effects.take_asks(), [Ask::Forget(ImageId::from(IMAGE))]);
    assert_eq!(bench.findings(), []);
}

#[test]
fn silent_containers_are_forgotten() {
    let mut bench = Bench::new();
    bench.seen().image();
    bench.after(SILENCE_NS - 1);
    assert_eq!(bench.enricher.containers.len(), 1);
    bench.after(1);
    assert_eq!((bench.enricher.containers.len(), bench.enricher.timers.len(), bench.enricher.images.len()), (0, 0, 0));
}

#[test]
fn a_loss_becomes_a_finding_of_the_node() {
    let mut bench = Bench::new();
    let loss = CollectorLoss {
        node: driftline_schemas::Node { name: "n".into(), ..Default::default() },
        collector_start: "s".into(),
        from_ns: 1,
        to_ns: 2,
        lost: Some(3),
        reason: "ring_full".into(),
    };
    bench.event(ExecEvent::Loss(loss));
    let out = bench.effects.take_outgoing();
    let finding: Finding = decode(&out[0].value).unwrap();
    assert_eq!((out[0].key.as_slice(), finding.container, finding.detector.as_str()), (b"n".as_slice(), None, "loss"));
}

#[test]
fn attacker_bytes_are_printable_in_the_finding() {
    let mut bench = Bench::new();
    bench.seen().image();
    let mut odd = exec(1, FileClass::Volume, "/tmp/\u{1b}[2J", "evil");
    odd.mount = Some(mount("/tmp"));
    bench.event(ExecEvent::Exec(Box::new(odd)));
    let out = bench.effects.take_outgoing();
    let finding: Finding = decode(&out[0].value).unwrap();
    let subject = finding.subject.unwrap();
    assert_eq!(subject.path, "/tmp/\\x1b[2J");
    assert!(subject.path_base64.is_some() && finding.process.unwrap().args_base64.is_some());
}
