//! Findings about images themselves, and requests for images that are not published.

use super::*;
use crate::limits::{JUDGED_PER_APPLY_MAX, UNRESOLVED_MAX};
use driftline_schemas::{Confidence, Severity};

const LIE: &str = "layer sha256:a: node:a says sha256:1, node:b says sha256:2";

fn mismatch(retry_ns: i64) -> ImageAnswer {
    ImageAnswer::Failed { reason: "a blob has digest sha256:2".into(), failure: ImageFailure::Mismatch, retry_ns }
}

fn unavailable(retry_ns: i64) -> ImageAnswer {
    ImageAnswer::Failed { reason: "no engine".into(), failure: ImageFailure::Unavailable, retry_ns }
}

impl Bench {
    /// Findings emitted since the last call, whole.
    fn whole(&mut self) -> Vec<Finding> {
        let out = self.effects.take_outgoing().into_iter().filter(|out| out.topic == Topic::Findings);
        out.map(|out| decode(&out.value).unwrap()).collect()
    }

    /// Category and container of findings emitted since the last call.
    fn image_findings(&mut self) -> Vec<(String, String)> {
        let container = |finding: &Finding| finding.container.as_ref().unwrap().id.to_string();
        self.whole().iter().map(|finding| (finding.category.clone(), container(finding))).collect()
    }

    fn seen_on(&mut self, container: &str, node: &str) -> &mut Self {
        let mut seen = seen(container);
        seen.node.name = node.into();
        self.event(ExecEvent::Seen(Box::new(seen)))
    }

    /// A successor that is restored from the changelog.
    fn successor(&self) -> Self {
        let mut successor = Self { offset: self.offset, now_ns: self.now_ns, ..Self::new() };
        let state = self.state();
        successor.enricher.restore(1, 0, state, &WriterSchemas::default(), &mut successor.effects).unwrap();
        successor
    }
}

fn about(category: &str, container: &str) -> (String, String) {
    (category.to_owned(), container.to_owned())
}

#[test]
fn a_conflict_is_a_finding_of_every_container_of_the_image_before_what_is_judged() {
    let mut bench = Bench::new();
    bench.seen().seen_on("fox", "m").exec(1, FileClass::New, "/tmp/x", "evil");
    bench.now_ns = 7;
    bench.answer(ready(Some(LIE)));
    let found = bench.whole();
    let categories: Vec<_> = found.iter().map(|finding| finding.category.as_str()).collect();
    assert_eq!(categories, ["Image Manifest Conflict", "Added Binary Executed", "Image Manifest Conflict"]);
    let (first, last) = (&found[0], &found[2]);
    assert_eq!(
        (first.detector.as_str(), first.severity, first.confidence),
        ("image", Severity::Medium, Confidence::High)
    );
    assert_eq!((first.origin, first.event_time_ns, first.revision), (Origin::None, 7, 1));
    assert!(first.note.ends_with(LIE) && first.process.is_none() && first.subject.is_none(), "{}", first.note);
    assert_eq!((last.node.name.as_str(), last.container.as_ref().unwrap().id.as_str()), ("m", "fox"));
    assert_ne!(first.event_id, last.event_id);
}

#[test]
fn the_same_conflict_has_the_same_id_whoever_says_it() {
    let found = |now_ns| {
        let mut bench = Bench::new();
        bench.seen();
        bench.now_ns = now_ns;
        bench.answer(ready(Some(LIE)));
        bench.whole().remove(0)
    };
    let (first, again) = (found(3), found(9));
    assert_eq!((first.event_id, first.finding_id), (again.event_id, again.finding_id));
}

#[test]
fn a_contradiction_that_comes_later_is_reported_and_verdicts_stay() {
    let mut bench = Bench::new();
    bench.seen().image().exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Added)]);
    let empty = Arc::new(crate::image::merge(&[]).unwrap());
    bench.answer(ImageAnswer::Ready { index: empty, conflict: Some(LIE.into()) });
    assert_eq!(bench.image_findings(), [about("Image Manifest Conflict", "box")]);
    bench.exec(2, FileClass::CopiedUp, "/bin/ls", "/bin/ls");
    assert_eq!(bench.image_findings(), [], "the content that came first holds");
}

#[test]
fn a_flaw_is_said_once_of_a_container_whatever_comes_again() {
    let mut bench = Bench::new();
    bench.seen().answer(ready(Some(LIE)));
    assert_eq!(bench.image_findings().len(), 1);
    bench.answer(ready(Some("another lie"))).seen().answer(ready(Some(LIE))).after(1);
    assert_eq!(bench.image_findings(), []);
    let mut successor = bench.successor();
    successor.answer(ready(Some(LIE))).seen().after(1);
    assert_eq!(successor.image_findings(), [], "it stands in the changelog");
    successor.seen_on("fox", "n");
    assert_eq!(
        successor.image_findings(),
        [about("Image Manifest Conflict", "fox")],
        "another container has not been told of"
    );
}

#[test]
fn a_restored_container_is_told_what_another_partition_knows_of_its_image() {
    let mut elsewhere = Bench::new();
    elsewhere.seen();
    let mut bench = Bench::new();
    let other = Position { partition: 1, offset: 0 };
    bench.input(Input::Event(other, ExecEvent::Seen(Box::new(seen("fox"))))).answer(ready(Some(LIE)));
    assert_eq!(bench.image_findings(), [about("Image Manifest Conflict", "fox")]);
    let state = elsewhere.state();
    bench.enricher.restore(1, 0, state, &WriterSchemas::default(), &mut bench.effects).unwrap();
    bench.after(1);
    assert_eq!(bench.image_findings(), [about("Image Manifest Conflict", "box")]);
}

#[test]
fn a_mismatch_is_a_finding_and_a_good_manifest_amends_what_went_out_without_it() {
    let mut bench = Bench::new();
    bench.seen().answer(mismatch(i64::MAX)).exec(1, FileClass::New, "/tmp/x", "evil");
    bench.exec(2, FileClass::CopiedUp, "/bin/ls", "/bin/ls");
    let found = bench.whole();
    let shown: Vec<_> =
        found.iter().map(|finding| (finding.category.as_str(), finding.unresolved.as_deref())).collect();
    let failed = Some("image_failed: a blob has digest sha256:2");
    let expected =
        [("Image Digest Mismatch", None), ("Added Binary Executed", failed), ("Added Binary Executed", failed)];
    assert_eq!(shown, expected);
    assert_eq!((found[0].severity, found[0].confidence), (Severity::Low, Confidence::Medium));
    bench.image();
    let retracted = ("event-2".into(), 2, Origin::Touched, FindingState::Retracted);
    assert_eq!(bench.findings(), [active(1, 2, Origin::Added), retracted]);
    bench.answer(ready(Some(LIE)));
    assert_eq!(bench.image_findings(), [about("Image Manifest Conflict", "box")], "each kind once");
}

#[test]
fn a_failure_that_is_no_mismatch_says_nothing_of_the_image() {
    let mut bench = Bench::new();
    bench.seen().answer(unavailable(i64::MAX)).after(1);
    assert_eq!(bench.image_findings(), []);
}

#[test]
fn what_is_said_of_images_is_bounded_and_printable() {
    let mut bench = Bench::new();
    let long = format!("\u{1b}[2J{}", "x".repeat(2 * crate::limits::REASON_BYTES_MAX));
    bench.seen().answer(ready(Some(&long)));
    let note = bench.whole().remove(0).note;
    assert!(note.contains("\\x1b[2J") && note.len() < crate::limits::REASON_BYTES_MAX + 100, "{note}");
}

#[test]
fn findings_of_images_share_the_budget() {
    for containers in [JUDGED_PER_APPLY_MAX, JUDGED_PER_APPLY_MAX + 1] {
        let mut bench = Bench::new();
        for n in 0..containers {
            bench.seen_on(&format!("box-{n:03}"), "n");
        }
        bench.answer(ready(Some(LIE)));
        assert_eq!(bench.whole().len(), JUDGED_PER_APPLY_MAX);
        let mut successor = bench.successor();
        bench.after(1);
        assert_eq!(bench.whole().len(), containers - JUDGED_PER_APPLY_MAX);
        successor.answer(ready(Some(LIE))).after(1);
        assert_eq!(successor.whole().len(), containers - JUDGED_PER_APPLY_MAX, "the rest is left to a successor");
    }
}

#[test]
fn an_image_that_many_containers_miss_is_asked_for_once_and_again_of_the_next_node() {
    let mut bench = Bench::new();
    for (container, node) in [("box", "n"), ("fox", "m"), ("owl", "o")] {
        bench.seen_on(container, node).answer(ImageAnswer::Missing);
    }
    let nodes = |bench: &mut Bench| -> Vec<String> { bench.requests().into_iter().map(|asked| asked.node).collect() };
    assert_eq!(nodes(&mut bench), ["n"]);
    let mut asked = Vec::new();
    for _ in 0..4 {
        bench.after(REQUEST_AGAIN_NS);
        asked.extend(nodes(&mut bench));
    }
    assert_eq!(asked, ["m", "o", "n", "m"]);
}

#[test]
fn a_failure_counts_until_its_time_and_no_longer() {
    let mut bench = Bench::new();
    bench.seen().answer(unavailable(60 * SECOND)).exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.findings(), [active(1, 1, Origin::Unresolved)], "it does not wait");
    bench.after(60 * SECOND - 2).exec(2, FileClass::New, "/tmp/x", "evil");
    assert_eq!((bench.enricher.held(), bench.requests().len()), (0, 0));
    bench.findings();
    bench.after(1);
    assert_eq!(bench.requests().len(), 1, "now nobody knows any more");
    bench.exec(3, FileClass::New, "/tmp/x", "evil");
    assert_eq!((bench.enricher.held(), bench.findings()), (1, vec![]), "and it is worth waiting again");
    bench.image();
    let amended = [active(3, 1, Origin::Added), active(1, 2, Origin::Added), active(2, 2, Origin::Added)];
    assert_eq!(bench.findings(), amended);
}

#[test]
fn a_failure_whose_time_is_over_when_it_is_read_is_no_answer() {
    let mut bench = Bench::new();
    bench.now_ns = 100;
    bench.seen().answer(mismatch(100)).exec(1, FileClass::New, "/tmp/x", "evil");
    assert_eq!(bench.enricher.held(), 1);
    assert_eq!(bench.requests().len(), 1);
    let mut bench = Bench::new();
    bench.now_ns = 100;
    bench.seen().answer(mismatch(101));
    assert_eq!(bench.image_findings(), [about("Image Digest Mismatch", "box")]);
}

#[test]
fn an_image_that_comes_sets_free_and_amends_no_more_than_one_call_may_judge() {
    for more in [0, 1] {
        let mut parked = Bench::new();
        parked.seen().answer(ImageAnswer::Missing);
        let count = JUDGED_PER_APPLY_MAX + more;
        for n in 0..count {
            parked.exec(i64::try_from(n).unwrap(), FileClass::New, "/tmp/x", "evil");
        }
        parked.image();
        assert_eq!((parked.findings().len(), parked.enricher.held()), (JUDGED_PER_APPLY_MAX, more as u64));
        parked.after(1);
        assert_eq!(parked.findings().len(), more);

        let mut unresolved = Bench::new();
        let containers: Vec<_> = (0..count).map(|n| format!("box-{:03}", n / UNRESOLVED_MAX)).collect();
        for id in &containers {
            unresolved.seen_on(id, "n");
        }
        unresolved.answer(failed("not now"));
        for (n, id) in (0..).zip(&containers) {
            let exec = exec(n, FileClass::New, "/tmp/x", "evil");
            unresolved.event(ExecEvent::Exec(Box::new(Exec { container_id: ContainerId::from(id.as_str()), ..exec })));
        }
        assert_eq!(unresolved.findings().len(), count);
        unresolved.image();
        assert_eq!(unresolved.findings().len(), JUDGED_PER_APPLY_MAX);
        unresolved.after(1);
        assert_eq!(unresolved.findings().len(), more);
    }
}

#[test]
fn with_same_node_each_node_s_containers_have_the_image_as_their_own_node_sees_it() {
    let mut bench = Bench::new();
    bench.enricher = Enricher::new(Settings { trust: Trust::SameNode, ..settings() });
    let on = |node: &str| ImageView { image: ImageId::from(IMAGE), node: Some(node.to_owned()) };
    bench.seen_on("box", "n").seen_on("fox", "n").seen_on("owl", "m");
    assert_eq!(bench.effects.take_commands(), [ImageCommand::Load(on("n")), ImageCommand::Load(on("m"))]);
    bench.exec(1, FileClass::New, "/tmp/x", "evil");
    let stranger = Exec { container_id: ContainerId::from("owl"), ..exec(2, FileClass::New, "/tmp/x", "evil") };
    bench.event(ExecEvent::Exec(Box::new(stranger)));
    bench.input(Input::Image(on("n"), ready(None)));
    assert_eq!(bench.findings(), [active(1, 1, Origin::Added)], "node m has not published it");
    bench.input(Input::Image(on("m"), ImageAnswer::Missing));
    let asked: Vec<_> = bench.requests().into_iter().map(|request| request.node).collect();
    assert_eq!(asked, ["m"], "only that node's indexer can help");
    bench.input(Input::Image(on("m"), ready(None)));
    assert_eq!(bench.findings(), [active(2, 1, Origin::Added)]);

    // A successor does the same after a restart, and the last container of a node releases its image.
    let mut next = Bench::new();
    next.enricher = Enricher::new(Settings { trust: Trust::SameNode, ..settings() });
    next.enricher.restore(1, 0, bench.state(), &WriterSchemas::default(), &mut next.effects).unwrap();
    assert_eq!(next.effects.take_commands(), [ImageCommand::Load(on("n")), ImageCommand::Load(on("m"))]);
    next.ended("owl").after(ENDED_KEPT_NS + 1);
    assert_eq!(next.effects.take_commands(), [ImageCommand::Forget(on("m"))]);
}
