//! Processes that are in a container and not in its cgroup.

use super::*;

/// A node that knows a container and its root.
fn node() -> Drive {
    let mut drive = Drive::new();
    let described = Description { init_pid: Some(77), ..description() };
    let inspection = Inspection { root: ContainerRoot::of_process(&exec()), mounts: vec![] };
    drive.give(Input::Described(id(), Some(Box::new(described))));
    drive.give(Input::Inspected(id(), Some(Box::new(inspection))));
    drive.commands.clear();
    drive
}

/// An exec in no container's cgroup, and with nothing of any container.
fn of_the_node(time_ns: u64) -> RawExec {
    let mut raw =
        RawExec { cgroup: vec![], mnt_ns: 1_000, mnt_ns_id: 5, pid_ns: 1_001, ancestors: vec![], ..at_time(time_ns) };
    raw.root_dev = Dev { major: 8, minor: 1 };
    raw.flags &= !layout::FLAG_ROOT_OVERLAY;
    raw.flags |= layout::FLAG_HOST_PID;
    raw
}

fn reported(drive: &Drive) -> Vec<(ContainerId, i64)> {
    drive.execs().into_iter().map(|exec| (exec.container_id.clone(), exec.seq)).collect()
}

/// Gives an exec to a node that knows a container in which another one ran.
#[track_caller]
fn check(change: impl FnOnce(&mut RawExec), is_of_container: bool) {
    let mut drive = node();
    let mut entered = RawExec { mnt_ns: 2_000, pid_ns: 2_001, ..at_time(1) };
    entered.ns_pid = 7;
    let mut raw = of_the_node(2);
    change(&mut raw);
    drive.records(vec![entered, raw], 10);
    let expect = [(id(), 1), (id(), 2)];
    assert_eq!(reported(&drive), expect[..1 + usize::from(is_of_container)]);
    let outcome = if is_of_container { Disposition::Reported } else { Disposition::Dropped("not_a_container") };
    assert_eq!(drive.settled.get(&outcome), Some(&if is_of_container { 2 } else { 1 }), "{:?}", drive.settled);
}

#[test]
fn an_exec_in_no_cgroup_of_a_container_is_found_by_what_else_the_process_has_of_it() {
    check(|_| {}, false);
    check(|raw| raw.mnt_ns = exec().mnt_ns, true);
    check(|raw| raw.mnt_ns = 2_000, true);
    let with_overlay_root = |raw: &mut RawExec| {
        raw.root_dev = exec().root_dev;
        raw.flags |= layout::FLAG_ROOT_OVERLAY;
    };
    check(with_overlay_root, true);
    check(|raw| raw.root_dev = exec().root_dev, false);
    check(|raw| raw.pid_ns = 2_001, false);
    let in_its_pid_namespace = |raw: &mut RawExec| {
        raw.pid_ns = 2_001;
        raw.flags &= !layout::FLAG_HOST_PID;
    };
    check(in_its_pid_namespace, true);
    let below_its_program = |raw: &mut RawExec| {
        raw.ancestors = exec().ancestors;
        raw.ancestors[1].dev = exec().root_dev;
    };
    check(below_its_program, true);
    let in_the_host_s = |raw: &mut RawExec| {
        with_overlay_root(raw);
        raw.mnt_ns = HOST;
    };
    check(in_the_host_s, false);
}

#[test]
fn the_names_of_a_monitor_and_of_nothing_hide_no_process_of_a_container() {
    for (cgroup, outcome) in
        [(format!("libpod-conmon-{}.scope", id()), "monitor"), (format!("x{}", id()), "not_a_container")]
    {
        let mut drive = node();
        let named = |time_ns| RawExec { cgroup: cgroup.clone().into_bytes(), ..of_the_node(time_ns) };
        drive.records(vec![named(1), RawExec { mnt_ns: exec().mnt_ns, ..named(2) }], 10);
        assert_eq!(reported(&drive), [(id(), 2)]);
        assert_eq!(drive.settled.get(&Disposition::Dropped(outcome)), Some(&1));
        assert_eq!(drive.commands, [], "the kernel program does not look whether such a one is to be ignored");
    }
}

#[test]
fn a_process_outside_of_the_cgroup_makes_no_container_and_does_not_restart_one() {
    let mut drive = node();
    let mut raw = RawExec { mnt_ns: exec().mnt_ns, ns_pid: 1, pid_ns: 9, pid: 5_000, ..of_the_node(1) };
    raw.flags = (raw.flags | layout::FLAG_PARENT_OUTSIDE) & !layout::FLAG_HOST_PID;
    drive.records(vec![raw], 10);
    assert_eq!(reported(&drive), [(id(), 1)]);
    assert_eq!((drive.pipeline.container_count(), drive.commands.as_slice()), (1, [].as_slice()));
    drive.records(vec![at_time(11)], 20);
    assert_eq!(drive.execs()[1].class, FileClass::Image, "its root is what it was");
}

#[test]
fn a_namespace_of_a_container_that_has_ended_is_nobody_s() {
    let mut drive = node();
    drive.at(100).give(Input::Ended(id())).records(vec![RawExec { mnt_ns: exec().mnt_ns, ..of_the_node(1) }], 10);
    assert_eq!((reported(&drive), drive.pipeline.container_count()), (vec![], 1), "more of its own may follow");
    drive.at(900);
    let other = ContainerId::from("0c".repeat(32).as_str());
    let in_other = RawExec { cgroup: other.as_str().as_bytes().to_vec(), ..at_time(11) };
    let outside = RawExec { mnt_ns: exec().mnt_ns, ..of_the_node(12) };
    drive.records(vec![in_other, outside], 20).at(2_000);
    assert_eq!(reported(&drive), [(other.clone(), 11), (other, 12)]);
}

#[test]
fn what_is_no_container_s_is_ignored_for_a_while() {
    let mut drive = node();
    let ignored = PipelineCommand::Ignore(5, 1 + limits::UNCONTAINED);
    drive.records(vec![of_the_node(1)], 10);
    assert_eq!(drive.commands, [ignored]);
    drive.commands.clear();
    let mut running = of_the_node(2);
    running.flags |= layout::FLAG_SNAPSHOT;
    drive.records(vec![running, RawExec { mnt_ns: HOST, ..of_the_node(3) }], 20);
    drive.records(vec![RawExec { mnt_ns_id: 0, ..of_the_node(11) }], 20);
    assert_eq!(drive.commands, [], "long ago; the host's own; of a kernel that tells none from a later one");
}

#[test]
fn a_cgroup_too_deep_to_look_at_is_a_loss_where_nothing_else_shows_a_container() {
    let mut drive = node();
    let deep = |time_ns| {
        let mut raw = of_the_node(time_ns);
        raw.flags |= layout::FLAG_CGROUPS_TRUNCATED;
        raw
    };
    drive.records(vec![deep(1), RawExec { mnt_ns: exec().mnt_ns, ..deep(2) }], 10);
    assert_eq!(reported(&drive), [(id(), 2)]);
    assert_eq!(drive.settled.get(&Disposition::Dropped("cgroups_truncated")), Some(&1));
    drive.at(10_000);
    assert_eq!(drive.kinds(), ["seen", "exec 2", "cgroups_truncated Some(1)"]);
}

#[test]
fn the_root_of_a_container_with_the_node_s_process_ids_is_known_before_it_is_inspected() {
    let mut drive = Drive::new();
    let mut first = at_time(1);
    first.flags |= layout::FLAG_HOST_PID;
    let mut outside = RawExec { root_dev: exec().root_dev, ..of_the_node(2) };
    outside.flags |= layout::FLAG_ROOT_OVERLAY;
    drive.records(vec![first, outside], 10).give(described()).at(500);
    assert_eq!(reported(&drive), [(id(), 1), (id(), 2)]);
}

#[test]
fn a_cgroup_that_a_container_names_as_one_is_the_container_s_once_no_runtime_knows_it() {
    let invented = ContainerId::from("0c".repeat(32).as_str());
    let in_invented = |time_ns| {
        let mut raw = RawExec { cgroup: invented.as_str().as_bytes().to_vec(), ..at_time(time_ns) };
        raw.ancestors[0].dev = raw.root_dev;
        raw
    };
    let mut drive = node();
    drive.records(vec![in_invented(1)], 10).give(Input::Described(invented.clone(), None)).at(299);
    assert_eq!(reported(&drive), []);
    drive.at(300).records(vec![in_invented(311_000_000), of_the_node(311_000_001)], 312_000_000);
    assert_eq!(reported(&drive), [(id(), 1), (id(), 311_000_000)]);
    assert_eq!(drive.execs()[0].inner_container_id.as_ref(), Some(&invented));

    let known = ContainerId::from("0d".repeat(32).as_str());
    let description =
        Description { container: Container { id: known.clone(), ..Container::default() }, ..description() };
    let mut drive = node();
    let raw = RawExec { cgroup: known.as_str().as_bytes().to_vec(), ..in_invented(1) };
    drive.records(vec![raw], 10).give(Input::Described(known.clone(), Some(Box::new(description)))).at(900);
    assert_eq!(reported(&drive), [(known, 1)]);
}
