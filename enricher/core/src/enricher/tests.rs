//! Parking, order, deadlines and amendments of the stage. Limits and the changelog have separate files.

mod images;
mod late;
mod limits;
mod restore;
mod unproven;
mod upgrade;

use super::*;
use crate::fixtures::{IMAGE, content, exec, image, mount, seen, throttled, undigested, view};
use crate::limits::{AMEND_NS, ENDED_KEPT_NS, REQUEST_AGAIN_NS, SILENCE_NS};
use driftline_schemas::{Exec, FileClass, Finding, FindingState, ImageId, ImageRequest, Loader, Origin, decode};

const SECOND: i64 = 1_000_000_000;

fn settings() -> Settings {
    Settings {
        park_ns: 5 * SECOND,
        partitions: 1,
        cluster: "c".into(),
        trust: Trust::default(),
        versions: BTreeMap::new(),
    }
}

struct Bench {
    enricher: Enricher,
    effects: Fx,
    now_ns: i64,
    offset: i64,
}

impl Bench {
    fn new() -> Self {
        Self { enricher: Enricher::new(settings()), effects: Fx::default(), now_ns: 1, offset: 0 }
    }

    /// The current content of the changelog.
    fn state(&self) -> BTreeMap<String, Vec<u8>> {
        let keys = self.enricher.state_keys(0).into_iter();
        keys.map(|key| (key.clone(), self.enricher.state(0, &key).unwrap().unwrap())).collect()
    }

    fn ended(&mut self, container: &str) -> &mut Self {
        let container_id = ContainerId::from(container);
        self.event(ExecEvent::Ended(ContainerEnded {
            container_id,
            cluster: "c".into(),
            node: "n".into(),
            ended_ns: 0,
        }))
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
        self.answer(ready(None))
    }

    fn answer(&mut self, answer: ImageAnswer) -> &mut Self {
        self.input(Input::Image(view(), answer))
    }

    fn after(&mut self, ns: i64) -> &mut Self {
        self.now_ns += ns;
        self.input(Input::Tick)
    }

    /// Findings emitted since the last call: event number, revision, origin, state.
    fn findings(&mut self) -> Vec<(String, i32, Origin, FindingState)> {
        let out = self.effects.take_outgoing();
        out.iter()
            .filter(|out| out.topic == Topic::Findings)
            .map(|out| decode::<Finding>(&out.value).unwrap())
            .map(|f| (f.event_id.to_string(), f.revision, f.origin, f.state))
            .collect()
    }

    /// Event ids of findings emitted since the last call, with the reason why they are unresolved.
    fn reasons(&mut self) -> Vec<(String, String)> {
        let out = self.effects.take_outgoing().into_iter().filter(|out| out.topic == Topic::Findings);
        out.map(|out| decode::<Finding>(&out.value).unwrap())
            .map(|finding| (finding.event_id.to_string(), finding.unresolved.unwrap_or_default()))
            .collect()
    }

    /// The same of first revisions only.
    fn first_reasons(&mut self) -> Vec<(String, String)> {
        let findings = self.effects.take_outgoing().into_iter().filter(|out| out.topic == Topic::Findings);
        findings
            .map(|out| decode::<Finding>(&out.value).unwrap())
            .filter(|finding| finding.revision == 1)
            .map(|finding| (finding.event_id.to_string(), finding.unresolved.unwrap_or_default()))
            .collect()
    }

    fn requests(&mut self) -> Vec<ImageRequest> {
        let out = self.effects.take_outgoing();
        let requests = out.iter().filter(|out| out.topic == Topic::ImageRequests);
        requests.map(|out| decode(&out.value).unwrap()).collect()
    }
}

fn ready(conflict: Option<&str>) -> ImageAnswer {
    ImageAnswer::Ready { index: image(), conflict: conflict.map(str::to_owned) }
}

/// A failure that stays valid for a long time.
fn failed(reason: impl Into<String>) -> ImageAnswer {
    ImageAnswer::Failed { reason: reason.into(), failure: ImageFailure::Unavailable, retry_ns: i64::MAX }
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
    assert_eq!(bench.effects.take_commands(), [ImageCommand::Load(view())]);
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
fn a_loader_that_is_none_of_the_image_s_is_what_the_finding_names() {
    let subject_of = |loader: &str| {
        let of_loader = exec(1, FileClass::RootfsPlain, "/lib/ld.so.1", loader);
        let Exec { class, file, mount, hash_state, sha256, .. } = of_loader;
        let loader = Some(Loader { class, file, mount, hash_state, sha256 });
        let loading = exec(1, FileClass::Volume, "/bin/ls", "evil");
        let loading = Exec { path: b"/bin/ls".to_vec(), loaded: Some(b"/data/x".to_vec()), loader, ..loading };
        let mut bench = Bench::new();
        bench.seen().image().event(ExecEvent::Exec(Box::new(loading)));
        let out = bench.effects.take_outgoing().into_iter().find(|out| out.topic == Topic::Findings).unwrap();
        let subject = decode::<Finding>(&out.value).unwrap().subject.unwrap();
        (subject.path, subject.class, subject.sha256)
    };
    let evil = Some(content("evil"));
    assert_eq!(subject_of("/bin/ls"), ("/data/x".to_owned(), FileClass::Volume, evil));
    assert_eq!(subject_of("evil"), ("/bin/ls".to_owned(), FileClass::RootfsPlain, evil));
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
    bench.seen().answer(failed("too big")).exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Unresolved)]);
    bench.image();
    assert_eq!(bench.findings(), [active(1, 2, Origin::Added)]);
}

#[test]
fn a_container_on_another_kernel_is_not_judged_against_its_image() {
    let on = |handler: &str| {
        let unseen = ContainerSeen { unseen: true, runtime_handler: handler.into(), ..seen("box") };
        ExecEvent::Seen(Box::new(unseen))
    };
    for (class, path, file, reported) in [
        (FileClass::New, "/tmp/x", "evil", true),
        (FileClass::New, "/bin/ls", "/bin/ls", true),
        (FileClass::CopiedUp, "/bin/ls", "/bin/ls", true),
        (FileClass::Foreign, "/bin/ls", "/bin/ls", true),
        (FileClass::Image, "/bin/ls", "", false),
        (FileClass::Image, "/not/in/it", "", false),
    ] {
        let mut bench = Bench::new();
        bench.event(on("kata\u{1b}")).image().exec(1, class, path, file);
        let expect = if reported { vec![("event-1".into(), "unsupported_runtime: kata\\x1b".into())] } else { vec![] };
        assert_eq!(bench.reasons(), expect, "{class:?} {path}");
        assert_eq!(bench.enricher.held(), 0, "nothing is waited for");
    }
    let mut bench = Bench::new();
    bench.event(on("kata")).image().exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Unresolved)]);
    bench.seen();
    assert_eq!(bench.findings(), [active(1, 2, Origin::Added)], "its runtime is known to be another");
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
fn an_ended_container_is_forgotten_when_nothing_of_it_is_left_to_say() {
    let mut bench = Bench::new();
    bench.seen().answer(ImageAnswer::Missing).exec(1, FileClass::New, "/tmp/x", "evil").ended("box");
    bench.after(5 * SECOND);
    assert_eq!(bench.findings(), [active(1, 1, Origin::Unresolved)], "what is parked goes out first");
    bench.effects.take_commands();
    bench.image();
    assert_eq!(bench.findings(), [active(1, 2, Origin::Added)], "and what is out is amended");
    bench.after(ENDED_KEPT_NS);
    assert_eq!(bench.effects.take_commands(), [ImageCommand::Forget(view())]);
    assert_eq!(bench.state(), BTreeMap::new());
}

#[test]
fn what_a_collector_sends_again_after_a_container_s_end_is_not_reported_again() {
    let mut bench = Bench::new();
    bench.seen().image().exec(1, FileClass::New, "/tmp/x", "evil").ended("box");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Added)]);
    bench.after(ENDED_KEPT_NS - 1).exec(1, FileClass::New, "/tmp/x", "evil").ended("box");
    bench.after(6 * SECOND);
    assert_eq!(bench.findings(), []);
}

#[test]
fn an_answer_that_comes_late_does_not_take_an_image_away() {
    let mut bench = Bench::new();
    bench.seen().image().answer(ImageAnswer::Missing).exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Added)]);
}

#[test]
fn a_partition_that_comes_finds_the_image_that_another_has_already() {
    let mut elsewhere = Bench::new();
    elsewhere.seen().answer(ImageAnswer::Missing).exec(1, FileClass::New, "/tmp/x", "evil").after(5 * SECOND);
    elsewhere.exec(2, FileClass::New, "/tmp/y", "evil");
    assert_eq!(elsewhere.findings().len(), 2);
    let mut bench = Bench::new();
    bench.offset = 100;
    let other = Position { partition: 1, offset: 0 };
    bench.input(Input::Event(other, ExecEvent::Seen(Box::new(seen("fox"))))).image();
    bench.effects.take_commands();
    bench.enricher.restore(1, 0, elsewhere.state(), &WriterSchemas::default(), &mut bench.effects).unwrap();
    assert_eq!((bench.findings(), bench.effects.take_commands()), (vec![], vec![]));
    bench.after(1);
    assert_eq!(bench.findings(), [active(1, 2, Origin::Added), active(2, 2, Origin::Added)]);
    bench.enricher.drop_partition(0);
    let stranger = Exec { container_id: ContainerId::from("fox"), ..exec(3, FileClass::New, "/tmp/z", "evil") };
    bench.input(Input::Event(Position { partition: 1, offset: 1 }, ExecEvent::Exec(Box::new(stranger))));
    assert_eq!(bench.findings(), [active(3, 1, Origin::Added)], "the other partition is as it was");
}

#[test]
fn an_image_whose_partition_went_and_came_back_is_asked_for_last() {
    let mut bench = Bench::new();
    bench.seen().image();
    bench.effects.take_commands();
    let state = bench.state();
    bench.enricher.drop_partition(0);
    bench.enricher.restore(1, 0, state, &WriterSchemas::default(), &mut bench.effects).unwrap();
    assert_eq!(bench.effects.take_commands(), [ImageCommand::Forget(view()), ImageCommand::Load(view())]);
}

#[test]
fn a_revoked_partition_takes_everything_with_it() {
    let mut bench = Bench::new();
    bench.exec(1, FileClass::New, "/tmp/x", "evil");
    bench.seen();
    bench.effects.take_commands();
    bench.enricher.drop_partition(0);
    assert_eq!((bench.enricher.held(), bench.state()), (0, BTreeMap::new()));
    bench.after(6 * SECOND);
    assert_eq!(bench.effects.take_commands(), [ImageCommand::Forget(view())]);
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
fn records_that_are_gone_become_a_finding_that_names_them() {
    let mut bench = Bench::new();
    bench.enricher.gap(7, Gap { partition: 2, from: 10, to: 25 }, &mut bench.effects).unwrap();
    bench.enricher.gap(8, Gap { partition: 2, from: 10, to: 25 }, &mut bench.effects).unwrap();
    let out = bench.effects.take_outgoing();
    let finding: Finding = decode(&out[0].value).unwrap();
    assert_eq!((out[0].key.as_slice(), finding.detector.as_str()), (b"driftline-enricher".as_slice(), "loss"));
    assert_eq!((finding.node.name.as_str(), finding.node.cluster.as_str()), ("driftline-enricher", "c"));
    assert_eq!(finding.note, "records of exec-events were gone before they were read: partition 2, offsets 10 to 24");
    assert_eq!(finding.finding_id, decode::<Finding>(&out[1].value).unwrap().finding_id, "the same gap, the same id");
    assert_eq!(bench.effects.take_counts()["input_gap"], 2);
}

#[test]
fn a_record_is_decoded_where_it_belongs_and_nowhere_else() {
    let enricher = Enricher::new(Settings { partitions: 12, ..settings() });
    let partition = driftline_schemas::topics::partition_of(b"box", 12);
    let record = |partition, key: &str, value: Option<Vec<u8>>| Record {
        topic: Topic::ExecEvents,
        partition,
        offset: 4,
        timestamp_ms: 0,
        key: Some(key.into()),
        value,
        headers: vec![],
    };
    let value = || Some(driftline_schemas::encode(&seen("box")).unwrap());
    let input = enricher.decode(&record(partition, "box", value())).unwrap();
    assert!(matches!(input, Input::Event(Position { offset: 4, .. }, ExecEvent::Seen(_))));
    assert!(enricher.decode(&record(partition, "fox", value())).unwrap_err().contains("key"));
    assert!(enricher.decode(&record((partition + 1) % 12, "box", value())).unwrap_err().contains("partition"));
    assert_eq!(enricher.decode(&record(partition, "box", None)).unwrap_err(), "empty value");
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
