//! Execs about which nothing is proven: one finding for each container, reason and time.

use super::*;

/// What a finding of unproven execs shows: revision, state, note.
fn shown(bench: &mut Bench) -> Vec<(i32, FindingState, String)> {
    let out = bench.effects.take_outgoing().into_iter().filter(|out| out.topic == Topic::Findings);
    let findings = out.map(|out| decode::<Finding>(&out.value).unwrap());
    findings.filter(|f| f.origin == Origin::Unproven).map(|f| (f.revision, f.state, f.note)).collect()
}

fn known() -> Bench {
    let mut bench = Bench::new();
    bench.seen().image();
    bench
}

fn plain(number: i64) -> Exec {
    exec(number, FileClass::RootfsPlain, "/bin/ls", "/bin/ls")
}

fn given(bench: &mut Bench, exec: Exec) {
    bench.event(ExecEvent::Exec(Box::new(exec)));
}

#[test]
fn a_program_that_could_not_be_hashed_is_reported_and_many_are_one_finding() {
    let mut bench = known();
    (0..9).for_each(|number| given(&mut bench, undigested(plain(number))));
    let revisions = shown(&mut bench);
    assert_eq!(revisions.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let note = "path and size are the image's, but its content could not be read";
    assert_eq!(revisions[0].2, format!("{note} (the container has used up its hashing budget)"));
    let many = "8 execs are unproven because the container has used up its hashing budget; of the newest: ";
    assert_eq!(revisions[3].2, format!("{many}{note}"));
    assert_eq!(bench.effects.take_settled()[&Disposition::Reported], 9);
}

#[test]
fn when_each_digest_has_come_and_is_the_image_s_the_finding_is_retracted() {
    let mut bench = known();
    (0..3).for_each(|number| given(&mut bench, undigested(plain(number))));
    shown(&mut bench);
    (0..2).for_each(|number| given(&mut bench, plain(number)));
    assert_eq!(shown(&mut bench), []);
    given(&mut bench, plain(2));
    let retracted = shown(&mut bench);
    assert_eq!((retracted[0].0, retracted[0].1, retracted.len()), (3, FindingState::Retracted, 1));
}

#[test]
fn a_digest_that_is_foreign_is_a_finding_of_its_own_and_the_others_stay_unproven() {
    let mut bench = known();
    (0..2).for_each(|number| given(&mut bench, undigested(plain(number))));
    shown(&mut bench);
    given(&mut bench, exec(1, FileClass::RootfsPlain, "/bin/ls", "foreign"));
    assert_eq!(bench.findings(), [active(1, 1, Origin::Modified)]);
}

#[test]
fn a_repeat_counts_once() {
    let mut bench = known();
    (0..3).for_each(|_| given(&mut bench, undigested(plain(1))));
    assert_eq!(shown(&mut bench).len(), 1);
    assert_eq!(bench.effects.take_settled()[&Disposition::Duplicate], 2);
}

#[test]
fn what_only_the_image_could_prove_is_reported_without_it_and_judged_when_it_comes() {
    let mut bench = Bench::new();
    bench.seen().answer(ImageAnswer::Missing);
    given(&mut bench, plain(1));
    given(&mut bench, exec(2, FileClass::RootfsPlain, "/tmp/x", "foreign"));
    bench.after(5 * SECOND);
    let reported = shown(&mut bench);
    assert_eq!(reported.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1, 2]);
    bench.image();
    let judged = bench.findings();
    assert_eq!(judged[0], active(2, 1, Origin::Added));
    assert_eq!((judged[1].2, judged[1].3), (Origin::Unproven, FindingState::Retracted));
    assert_eq!(judged.len(), 2);
}

#[test]
fn a_digest_that_comes_before_the_image_waits_for_it() {
    let mut bench = Bench::new();
    bench.seen().answer(ImageAnswer::Missing);
    given(&mut bench, undigested(plain(1)));
    bench.after(5 * SECOND);
    assert_eq!(shown(&mut bench).len(), 1);
    given(&mut bench, plain(1));
    assert_eq!(shown(&mut bench), []);
    bench.image();
    assert_eq!(shown(&mut bench)[0].1, FindingState::Retracted);
}

#[test]
fn an_image_that_comes_before_the_digest_changes_the_reason() {
    let mut bench = Bench::new();
    bench.seen().answer(ImageAnswer::Missing);
    given(&mut bench, undigested(plain(1)));
    bench.after(5 * SECOND);
    shown(&mut bench);
    bench.image();
    let states: Vec<_> = shown(&mut bench).into_iter().map(|(number, state, _)| (number, state)).collect();
    assert_eq!(states, [(1, FindingState::Active), (2, FindingState::Retracted)]);
    given(&mut bench, plain(1));
    assert_eq!(shown(&mut bench)[0].1, FindingState::Retracted);
}
