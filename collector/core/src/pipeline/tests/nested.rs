//! Containers of an engine that runs in a container.

use super::*;

fn inner() -> ContainerId {
    ContainerId::from("0b".repeat(32).as_str())
}

/// An exec in a container in the usual one: on an overlay, in namespaces of its own.
fn nested(time_ns: u64) -> RawExec {
    let mut raw = at_time(time_ns);
    raw.cgroup = format!("{}/docker-{}.scope", inner(), id()).into_bytes();
    raw.file.dev = Dev { major: 0, minor: 70 };
    raw.root_dev = raw.file.dev;
    raw.mnt_ns = 1_000;
    raw.ns_pid = 1;
    raw.flags |= layout::FLAG_PARENT_OUTSIDE;
    raw
}

/// A node that knows the outer container and its root.
fn node() -> Drive {
    let mut drive = Drive::new();
    let described = Description { init_pid: Some(77), ..description() };
    let inspection = Inspection { root: ContainerRoot::of_process(&exec()), mounts: vec![] };
    drive.give(Input::Described(id(), Some(Box::new(described))));
    drive.give(Input::Inspected(id(), Some(Box::new(inspection))));
    drive
}

fn unknown(id: ContainerId) -> Input {
    Input::Described(id, None)
}

/// By container: time, class, and the container in it.
fn reported(drive: &Drive) -> Vec<(ContainerId, i64, FileClass, Option<ContainerId>)> {
    let execs = drive.execs().into_iter();
    execs.map(|it| (it.container_id.clone(), it.seq, it.class, it.inner_container_id.clone())).collect()
}

#[test]
fn an_exec_in_one_that_no_runtime_knows_is_reported_of_the_known_one_around_it_when_that_is_certain() {
    let mut drive = node();
    drive.records(vec![nested(1)], 10);
    assert!(drive.commands.contains(&PipelineCommand::Describe(inner())), "{:?}", drive.commands);
    drive.give(unknown(inner())).at(299);
    assert_eq!(reported(&drive), [], "its runtime may not have noted it yet");
    drive.at(300);
    assert_eq!(reported(&drive), [], "on a foreign overlay it has to be hashed");
    let jobs = drive
        .commands
        .iter()
        .filter_map(|command| if let PipelineCommand::Hash(job) = command { Some(job) } else { None });
    let jobs: Vec<_> = jobs.map(|job| (job.container.clone(), job.roots.clone())).collect();
    assert_eq!(jobs, [(id(), vec![4_711])]);
    drive.give(digested(1, Digest::Hashed(Sha256([3; 32]))));
    let of_outer = |seq| (id(), seq, FileClass::Foreign, Some(inner()));
    assert_eq!(reported(&drive), [of_outer(1)]);
    assert_eq!(drive.execs()[0].namespace, driftline_schemas::MountNamespace::Other);
    drive.records(vec![nested(11)], 20);
    assert_eq!(reported(&drive), [of_outer(1), of_outer(11)], "the next one at once, and its file is remembered");
    drive.give(Input::Ended(inner())).at(600);
    assert_eq!(drive.kinds(), ["seen", "exec 1", "exec 11"], "no record of the inner one went out");
    drive.give(Input::Ended(id())).at(900);
    assert_eq!(drive.kinds().last().unwrap(), "ended");
}

#[test]
fn the_innermost_that_a_runtime_knows_keeps_its_execs() {
    let mut drive = node();
    let known = Description { container: Container { id: inner(), ..Container::default() }, ..Description::default() };
    drive.records(vec![nested(1)], 10).give(Input::Described(inner(), Some(Box::new(known)))).at(400);
    assert_eq!(reported(&drive), [(inner(), 1, FileClass::Image, None)]);
}

#[test]
fn where_no_runtime_knows_any_the_innermost_has_it() {
    let mut drive = Drive::new();
    drive.records(vec![nested(1)], 10).give(unknown(inner())).give(unknown(id())).at(400);
    assert_eq!(reported(&drive), [(inner(), 1, FileClass::Image, None)]);
    assert!(drive.commands.contains(&PipelineCommand::Describe(id())), "{:?}", drive.commands);
}

#[test]
fn one_whose_runtime_does_not_answer_in_time_is_not_taken_for_unknown() {
    let mut drive = node();
    drive.records(vec![nested(1)], 10).at(499);
    assert_eq!(reported(&drive), []);
    drive.at(500);
    assert_eq!(reported(&drive), [(inner(), 1, FileClass::Image, None)]);
}

#[test]
fn a_digest_that_was_commanded_in_the_inner_one_reaches_the_outer_one() {
    let mut drive = node();
    let mut raw = nested(1);
    raw.flags |= layout::FLAG_UPPER;
    drive.records(vec![raw], 10).give(unknown(inner())).at(300);
    let moment = Moment { time_ns: 1, cpu: 0, seq: 1 };
    let outcome = || DigestOutcome::of(Digest::Hashed(Sha256([3; 32])));
    drive.give(Input::Digested(inner(), moment, outcome()));
    assert_eq!(drive.execs()[0].sha256, Some(Sha256([3; 32])));
    let mut late = nested(11);
    late.flags |= layout::FLAG_UPPER;
    late.file.ino = 99;
    drive.records(vec![late], 20).at(900);
    assert_eq!(drive.execs()[1].hash_state, HashState::OverBudget);
    drive.give(Input::Digested(inner(), Moment { time_ns: 11, cpu: 0, seq: 11 }, outcome()));
    let last = drive.execs()[2];
    let expect = (&id(), 11, Some(Sha256([3; 32])), Some(&inner()));
    assert_eq!((&last.container_id, last.seq, last.sha256, last.inner_container_id.as_ref()), expect);
}

#[test]
fn of_three_in_one_another_the_middle_one_is_known() {
    let middle = ContainerId::from("0c".repeat(32).as_str());
    let mut drive = node();
    let described = Container { id: middle.clone(), ..Container::default() };
    let described = Description { container: described, ..Description::default() };
    drive.give(Input::Described(middle.clone(), Some(Box::new(described))));
    let cgroup = format!("{}/{middle}/{}", inner(), id()).into_bytes();
    drive.records(vec![RawExec { cgroup, ..nested(1) }], 10).give(unknown(inner())).at(300).at(900);
    assert_eq!(reported(&drive).iter().map(|(id, ..)| id).collect::<Vec<_>>(), [&middle]);
}
