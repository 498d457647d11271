mod loaders;
mod nested;
mod outside;

use super::*;
use crate::class::NamedFacts;
use crate::container_root::ContainerRoot;
use crate::digest::Digest;
use crate::mounts::KernelMount;
use crate::raw::tests::exec;
use crate::raw::{Dev, KnownFile};
use crate::redaction::Redaction;
use crate::{layout, limits};
use driftline_schemas::{Args, Container, Exec, ExecEvent, FileClass, HashState, Mount, Sha256};
use driftline_service_core::Effects;
use std::collections::BTreeMap;

const MS: i64 = 1_000_000;
const HOST: u32 = 99;

fn id() -> ContainerId {
    ContainerId::from("0a".repeat(32).as_str())
}

/// A node driven by hand: time is a number, what comes out is a list.
struct Drive {
    pipeline: ExecPipeline,
    now_ns: i64,
    out: Vec<ExecEvent>,
    commands: Vec<PipelineCommand>,
    settled: BTreeMap<Disposition, u64>,
}

impl Drive {
    fn new() -> Self {
        Self::with(driftline_schemas::Node { cluster: "c".into(), name: "n".into(), ..Default::default() })
    }

    fn with(node: driftline_schemas::Node) -> Self {
        let settings = NodeSettings {
            node,
            boot_id: "boot".into(),
            collector_start: "run".into(),
            host_mnt_ns: HOST,
            redaction: Redaction::default(),
        };
        Self {
            pipeline: ExecPipeline::new(settings, 0),
            now_ns: 0,
            out: vec![],
            commands: vec![],
            settled: BTreeMap::new(),
        }
    }

    fn give(&mut self, input: Input) -> &mut Self {
        let mut effects = Effects::default();
        self.pipeline.apply(self.now_ns, input, &mut effects).unwrap();
        self.out.extend(effects.take_outgoing().iter().map(|out| ExecEvent::decode(&out.value).unwrap()));
        self.commands.extend(effects.take_commands());
        for (disposition, count) in effects.take_settled() {
            *self.settled.entry(disposition).or_default() += count;
        }
        self
    }

    fn records(&mut self, execs: Vec<RawExec>, complete_until_ns: u64) -> &mut Self {
        let running = execs.into_iter().map(Box::new).collect();
        self.give(Input::Records(Records { running, complete_until_ns, boot_offset_ns: 5, ..Records::default() }))
    }

    fn at(&mut self, now_ms: i64) -> &mut Self {
        self.now_ns = now_ms * MS;
        self.give(Input::Tick)
    }

    fn execs(&self) -> Vec<&Exec> {
        self.out
            .iter()
            .filter_map(|event| match event {
                ExecEvent::Exec(exec) => Some(exec.as_ref()),
                _ => None,
            })
            .collect()
    }

    /// What came out, in a word each.
    fn kinds(&self) -> Vec<String> {
        self.out
            .iter()
            .map(|event| match event {
                ExecEvent::Exec(exec) => format!("exec {}", exec.seq),
                ExecEvent::Seen(_) => "seen".into(),
                ExecEvent::Ended(_) => "ended".into(),
                ExecEvent::Throttled(it) => format!("throttled {} {}", it.ordinary, it.folded),
                ExecEvent::Loss(loss) => format!("{} {:?}", loss.reason, loss.lost),
            })
            .collect()
    }
}

fn at_time(time_ns: u64) -> RawExec {
    RawExec { moment: Moment { time_ns, cpu: 0, seq: time_ns }, ..exec() }
}

fn written(time_ns: u64) -> RawExec {
    let mut raw = at_time(time_ns);
    raw.flags |= layout::FLAG_UPPER;
    raw.file.lower_count = 0;
    raw.file.ctime_ns = -1_000 * MS;
    raw
}

fn description() -> Description {
    Description { container: Container { id: id(), ..Container::default() }, ..Description::default() }
}

fn described() -> Input {
    Input::Described(id(), Some(Box::new(description())))
}

fn digested(time_ns: u64, digest: Digest) -> Input {
    let outcome = DigestOutcome { is_settled: true, ..DigestOutcome::of(digest) };
    Input::Digested(id(), Moment { time_ns, cpu: 0, seq: time_ns }, outcome)
}

#[test]
fn a_container_is_described_before_its_first_exec() {
    let mut drive = Drive::new();
    drive.records(vec![at_time(1)], 10);
    assert_eq!(drive.kinds(), [""; 0]);
    assert_eq!(drive.commands, [PipelineCommand::Describe(id())]);
    drive.at(20).give(described()).records(vec![at_time(11)], 20);
    assert_eq!(drive.kinds(), ["seen", "exec 1", "exec 11"]);
    assert_eq!(drive.execs()[0].time_ns, 6);
    assert_eq!(drive.settled, BTreeMap::from([(Disposition::Reported, 2)]));
}

#[test]
fn an_exec_goes_out_when_no_description_comes_and_another_is_commanded() {
    let mut drive = Drive::new();
    drive.records(vec![at_time(1)], 10).give(Input::Described(id(), None));
    drive.at(299);
    assert_eq!(drive.kinds(), [""; 0]);
    drive.at(300);
    assert_eq!(drive.kinds(), ["exec 1"]);
    assert_eq!(drive.commands, [PipelineCommand::Describe(id()), PipelineCommand::Describe(id())]);
    drive.give(described());
    assert_eq!(drive.kinds(), ["exec 1", "seen"]);
}

#[test]
fn execs_leave_in_the_kernels_order_whichever_ring_they_came_by() {
    let mut drive = Drive::new();
    drive.give(described()).records(vec![at_time(30)], 20);
    assert_eq!(drive.kinds(), ["seen"], "the other ring may still hold an earlier one");
    drive.records(vec![at_time(10)], 40);
    assert_eq!(drive.kinds(), ["seen", "exec 10", "exec 30"]);
}

#[test]
fn an_exec_waits_for_the_digest_of_one_before_it_but_not_for_ever() {
    let mut drive = Drive::new();
    drive.give(described()).records(vec![written(1), at_time(2)], 10);
    assert_eq!(drive.kinds(), ["seen"]);
    drive.give(digested(1, Digest::Hashed(Sha256([3; 32]))));
    assert_eq!(drive.kinds(), ["seen", "exec 1", "exec 2"]);
    assert_eq!(drive.execs()[0].sha256, Some(Sha256([3; 32])));

    let mut slow = written(11);
    slow.file.ino = 500;
    drive.records(vec![slow], 20).at(499);
    assert_eq!(drive.execs().len(), 2);
    drive.at(500);
    assert_eq!(drive.execs()[2].hash_state, HashState::OverBudget);
}

fn other_file(time_ns: u64) -> RawExec {
    let mut raw = written(time_ns);
    raw.file.ino = 1_000 + time_ns;
    raw
}

#[test]
fn a_digest_proves_nothing_of_a_file_that_may_have_been_written_since_the_exec() {
    let sha256 = Sha256([3; 32]);
    let state = |executed_ms: u64, ctime_ns: i64, late: bool| {
        let mut drive = Drive::new();
        let mut raw = written(executed_ms * 1_000_000);
        raw.file.ctime_ns = ctime_ns;
        let at = raw.moment.time_ns;
        drive.give(described()).records(vec![raw], u64::MAX);
        if late {
            drive.at(500);
        }
        drive.give(digested(at, Digest::Hashed(sha256)));
        let exec = *drive.execs().last().unwrap();
        assert_eq!(exec.sha256, Some(sha256));
        exec.hash_state
    };
    for late in [false, true] {
        assert_eq!(state(1_000, 970 * MS, late), HashState::Hashed);
        assert_eq!(state(1_000, 1_000 * MS + 5 - limits::WRITTEN_BEFORE, late), HashState::Changed);
        assert_eq!(state(1_000, 1_000 * MS + 4 - limits::WRITTEN_BEFORE, late), HashState::Hashed);
        assert_eq!(state(1_000, 1_001 * MS, late), HashState::Changed);
    }
}

#[test]
fn a_remembered_digest_proves_nothing_of_an_exec_right_after_the_file_was_written() {
    let mut drive = Drive::new();
    drive.give(described()).records(vec![written(2_000)], 2_001);
    drive.give(digested(2_000, Digest::Hashed(Sha256([3; 32]))));
    let mut early = written(3_000);
    early.moment.time_ns = 0;
    early.file.ctime_ns = -MS;
    let settled = RawExec { moment: Moment { time_ns: 2_000_000_000, cpu: 0, seq: 2_000_000_000 }, ..early.clone() };
    drive.records(vec![settled], 3_000_000_000).give(digested(2_000_000_000, Digest::Hashed(Sha256([4; 32]))));
    drive.records(vec![early], u64::MAX);
    let states: Vec<_> = drive.execs().iter().map(|exec| (exec.hash_state, exec.sha256)).collect();
    let (third, fourth) = (Some(Sha256([3; 32])), Some(Sha256([4; 32])));
    assert_eq!(states, [(HashState::Hashed, third), (HashState::Hashed, fourth), (HashState::Changed, fourth)]);
}

#[test]
fn a_digest_proves_nothing_of_a_script_whose_name_may_have_led_elsewhere_at_the_exec() {
    let state = |name_changed_ns: i64| {
        let mut drive = Drive::new();
        let raw = at_time(1_000_000_000);
        let (moment, flags) = (raw.moment, raw.flags | layout::FLAG_SCRIPT);
        drive.give(described()).records(vec![RawExec { flags, ..raw }], u64::MAX);
        let named = Some(NamedFacts { name_changed_ns, ..NamedFacts::default() });
        let outcome = DigestOutcome { named, ..DigestOutcome::of(Digest::Hashed(Sha256([3; 32]))) };
        drive.give(Input::Digested(id(), moment, outcome));
        drive.execs()[0].hash_state
    };
    assert_eq!(state(900 * MS), HashState::Hashed);
    assert_eq!(state(1_000 * MS - limits::FILE_CLOCK_GRAIN), HashState::Changed);
    assert_eq!(state(i64::MAX), HashState::Changed);
}

#[test]
fn an_interpreter_was_given_a_directory_only_if_its_name_led_there_at_the_exec() {
    let interpreted = |name_changed_ns: i64| {
        let mut drive = Drive::new();
        let raw = at_time(1_000_000_000);
        let moment = raw.moment;
        let args = Args::of_terminated(b"node\0.\0");
        drive.give(described()).records(vec![RawExec { path: b"/bin/node".to_vec(), args, ..raw }], u64::MAX);
        let ctime_ns = 2_000 * MS;
        let named = Some(NamedFacts { mode: 0o040_755, ctime_ns, name_changed_ns, ..NamedFacts::default() });
        drive.give(Input::Digested(id(), moment, DigestOutcome { named, ..DigestOutcome::of(Digest::Unreadable) }));
        let exec = &drive.execs()[0];
        (exec.interpreted.is_some(), exec.hash_state)
    };
    assert_eq!(interpreted(900 * MS), (false, HashState::NotNeeded));
    assert_eq!(interpreted(1_000 * MS), (true, HashState::Changed));
}

#[test]
fn a_program_that_ran_before_the_collector_started_could_not_be_written() {
    let mut drive = Drive::new();
    let mut running = written(1_000);
    running.flags |= layout::FLAG_SNAPSHOT;
    running.file.ctime_ns = 1_000;
    drive.give(described()).records(vec![running], u64::MAX);
    drive.give(digested(1_000, Digest::Hashed(Sha256([3; 32]))));
    assert_eq!(drive.execs()[0].hash_state, HashState::Hashed);
}

fn commanded(drive: &Drive) -> Vec<u64> {
    let jobs = drive
        .commands
        .iter()
        .filter_map(|command| if let PipelineCommand::Hash(job) = command { Some(job.moment.seq) } else { None });
    jobs.collect()
}

#[test]
fn a_digest_that_comes_late_sends_the_same_exec_again_with_it() {
    let mut drive = Drive::new();
    drive.give(described()).records(vec![other_file(1)], 10).at(500);
    assert_eq!(drive.execs()[0].hash_state, HashState::OverBudget);
    drive.at(5_000).give(digested(1, Digest::Hashed(Sha256([3; 32]))));
    let (first, again) = (drive.execs()[0].clone(), drive.execs()[1].clone());
    assert_eq!((again.hash_state, again.sha256), (HashState::Hashed, Some(Sha256([3; 32]))));
    assert_eq!(Exec { hash_state: first.hash_state, sha256: None, ..again }, first, "nothing else differs");
    assert_eq!(drive.settled[&Disposition::Reported], 1, "it is one exec");
    drive.give(digested(1, Digest::Hashed(Sha256([3; 32]))));
    assert_eq!(drive.execs().len(), 2, "once");
}

#[test]
fn without_budget_an_exec_goes_out_at_once_and_is_hashed_when_there_is_budget_again() {
    let mut drive = Drive::new();
    let burst = limits::HASH_FILES_BURST;
    drive.give(described()).records((1..=burst + 3).map(other_file).collect(), 1 << 40);
    assert_eq!(commanded(&drive).len() as u64, burst);
    assert!(drive.commands.contains(&PipelineCommand::Retain(id(), at_time(burst + 1).moment)));
    for time_ns in 1..=burst {
        drive.give(digested(time_ns, Digest::Hashed(Sha256([1; 32]))));
    }
    assert_eq!(drive.execs().len() as u64, burst + 3, "nobody waits for budget");
    drive.commands.clear();
    drive.at(4);
    assert_eq!(commanded(&drive), [0; 0]);
    drive.at(11);
    assert_eq!(commanded(&drive), [burst + 1, burst + 2], "200 files a second, the first first");
    drive.give(digested(burst + 1, Digest::Hashed(Sha256([4; 32]))));
    assert_eq!(drive.execs().last().unwrap().sha256, Some(Sha256([4; 32])));
}

#[test]
fn when_too_much_waits_for_being_hashed_the_job_waits_for_its_turn() {
    let mut drive = Drive::new();
    drive.give(described()).records(vec![other_file(1)], 10);
    let Some(PipelineCommand::Hash(job)) = drive.commands.pop() else { panic!("not commanded") };
    drive.give(Input::NotHashed(job.clone()));
    assert_eq!(drive.execs()[0].hash_state, HashState::OverBudget);
    drive.at(20);
    assert_eq!(commanded(&drive), [1]);
    drive.commands.clear();
    drive.give(Input::NotHashed(job)).at(40);
    assert_eq!(commanded(&drive), [1], "again and again");
}

#[test]
fn digests_that_come_late_are_bounded_per_container_and_in_time() {
    let mut drive = Drive::new();
    let count = limits::LATE_PER_CONTAINER as u64;
    drive.give(described()).records((1..=count + 1).map(other_file).collect(), 1 << 40).at(500);
    assert_eq!(drive.execs().len() as u64, count + 1);
    assert_eq!(
        drive.commands.iter().filter(|command| matches!(command, PipelineCommand::Release(_))).count(),
        1,
        "one more is not waited for"
    );
    drive.give(digested(count + 1, Digest::Hashed(Sha256([3; 32]))));
    assert_eq!(drive.execs().len() as u64, count + 1);
    drive.give(digested(1, Digest::Hashed(Sha256([3; 32]))));
    assert_eq!(drive.execs().len() as u64, count + 2);
    drive.at(500 + limits::LATE_WAIT / MS);
    drive.give(digested(2, Digest::Hashed(Sha256([3; 32]))));
    assert_eq!(drive.execs().len() as u64, count + 2, "too late");
}

#[test]
fn execs_beyond_a_containers_share_are_left_out_and_reported_once_per_interval() {
    let mut drive = Drive::new();
    let burst = limits::ORDINARY_BURST;
    drive.give(described());
    drive.records((1..=burst).map(at_time).collect(), 1 << 40);
    assert_eq!(drive.settled, BTreeMap::from([(Disposition::Reported, burst)]));
    drive.records((1..=3).map(|n| at_time(burst + n)).collect(), 1 << 40);
    assert_eq!(drive.settled[&Disposition::Dropped("throttled")], 3);
    let mut odd = other_file(burst + 4);
    odd.flags |= layout::FLAG_SUSPICIOUS;
    drive.records(vec![odd], 1 << 40).give(digested(burst + 4, Digest::Gone));
    assert_eq!(drive.execs().len() as u64, burst + 1, "the share of suspicious ones is untouched");
    drive.at(9_999);
    let throttled =
        |drive: &Drive| drive.kinds().iter().filter(|kind| kind.starts_with("throttled")).cloned().collect();
    let (before, after): (Vec<String>, Vec<String>) = (throttled(&drive), throttled(drive.at(10_000)));
    assert_eq!((before.len(), after), (0, vec!["throttled 3 0".to_owned()]));
    drive.at(30_000);
    let again: Vec<String> = throttled(&drive);
    assert_eq!(again.len(), 1, "nothing more was left out");
}

#[test]
fn what_was_left_out_is_reported_before_the_container_ends_and_when_the_collector_stops() {
    for (last, expect) in [(Input::Ended(id()), Some("ended")), (Input::Stop, None)] {
        let mut drive = Drive::new();
        drive.give(described()).records((0..=limits::ORDINARY_BURST).map(|n| at_time(n + 1)).collect(), 1 << 40);
        let before = drive.out.len();
        drive.give(last);
        let kinds = drive.kinds();
        assert_eq!(
            kinds[before..].iter().map(String::as_str).collect::<Vec<_>>(),
            [Some("throttled 1 0"), expect].into_iter().flatten().collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_known_file_is_not_hashed_again() {
    let mut drive = Drive::new();
    drive.give(described()).records(vec![written(1)], 10).give(digested(1, Digest::Hashed(Sha256([3; 32]))));
    drive.commands.clear();
    // The file is marked as known, once: the next exec has the flag.
    drive.records(vec![written(11)], 20);
    assert_eq!(drive.commands, [PipelineCommand::MarkKnown(KnownFile::from(&written(11).file))]);
    let mut known = written(21);
    known.flags |= layout::FLAG_KNOWN;
    drive.commands.clear();
    drive.records(vec![known], 30);
    assert_eq!(drive.commands, []);
    assert_eq!(drive.execs().iter().map(|exec| exec.sha256).collect::<Vec<_>>(), [Some(Sha256([3; 32])); 3]);
}

#[test]
fn the_runtimes_own_execs_are_dropped_and_counted() {
    let mut drive = Drive::new();
    let helper = RawExec { mnt_ns: HOST, ..written(1) };
    let from_inside = RawExec { mnt_ns: HOST, outer_mnt_ns: 7, ..at_time(2) };
    drive.give(described()).records(vec![helper, from_inside], 10);
    assert_eq!(drive.settled[&Disposition::Dropped("runtime_helper")], 1);
    assert_eq!(drive.execs()[0].namespace, driftline_schemas::MountNamespace::Host);
}

#[test]
fn what_a_process_executes_outside_after_it_did_inside_is_not_the_runtimes() {
    let mut drive = Drive::new();
    let nsenter = at_time(1);
    // By the ring that is read first.
    let outside = RawExec { mnt_ns: HOST, ..at_time(2) };
    drive.give(described()).records(vec![outside, nsenter], 10);
    assert_eq!(drive.settled.get(&Disposition::Dropped("runtime_helper")), None);
    assert_eq!(drive.execs()[1].namespace, driftline_schemas::MountNamespace::Host);
}

#[test]
fn cgroups_that_are_no_containers_are_counted() {
    let mut drive = Drive::new();
    let cgroup = |name: String| RawExec { cgroup: name.into_bytes(), ..at_time(1) };
    let id = "0a".repeat(32);
    drive.records(vec![cgroup(format!("libpod-conmon-{id}.scope")), cgroup(format!("x{id}"))], 10);
    assert_eq!(
        drive.settled,
        BTreeMap::from([(Disposition::Dropped("monitor"), 1), (Disposition::Dropped("not_a_container"), 1)])
    );
    assert_eq!(drive.commands, []);
}

#[test]
fn the_first_process_is_the_measure_until_the_runtime_answers() {
    let mut drive = Drive::new();
    let mut inner = at_time(1);
    inner.file.dev = Dev { major: 0, minor: 50 };
    inner.root_dev = inner.file.dev;
    let mut first = at_time(2);
    first.ns_pid = 1;
    first.flags |= layout::FLAG_PARENT_OUTSIDE;
    drive.records(vec![inner, first], 10).at(300);
    let classes: Vec<FileClass> = drive.execs().iter().map(|exec| exec.class).collect();
    assert_eq!(classes, [FileClass::Foreign, FileClass::Image]);
    assert!(drive.commands.contains(&PipelineCommand::Inspect(id(), 4_711)));
}

/// A container whose first process, 77, was reported by its engine and inspected.
fn known_container() -> Drive {
    let mut drive = Drive::new();
    let before = Description { init_pid: Some(77), ..description() };
    let inspection = Inspection { root: ContainerRoot::of_process(&exec()), mounts: vec![] };
    drive.give(Input::Described(id(), Some(Box::new(before))));
    drive.give(Input::Inspected(id(), Some(Box::new(inspection))));
    drive.commands.clear();
    drive
}

/// Process 1 of a pid namespace, whose parent is in another one.
fn process_1() -> RawExec {
    let first = at_time(1);
    RawExec { ns_pid: 1, flags: first.flags | layout::FLAG_PARENT_OUTSIDE, ..first }
}

#[test]
fn a_restarted_container_is_judged_by_its_new_root_and_described_again() {
    let mut drive = known_container();
    let mut first = process_1();
    first.file.dev = Dev { major: 0, minor: 50 };
    first.root_dev = first.file.dev;
    drive.records(vec![first], 10).at(20);
    assert!(drive.commands.contains(&PipelineCommand::Inspect(id(), 4_711)), "{:?}", drive.commands);
    assert!(drive.commands.contains(&PipelineCommand::Describe(id())), "{:?}", drive.commands);
    drive.at(400);
    assert_eq!(drive.execs()[0].class, FileClass::Image);
}

#[test]
fn process_1_of_a_nested_pid_namespace_is_no_restart() {
    let mut drive = known_container();
    let mut made_inside = process_1();
    made_inside.flags |= layout::FLAG_NESTED_PID;
    made_inside.file.dev = Dev { major: 0, minor: 50 };
    made_inside.root_dev = made_inside.file.dev;
    drive.records(vec![made_inside], 10).at(600);
    assert!(!drive.commands.contains(&PipelineCommand::Describe(id())), "{:?}", drive.commands);
    assert_eq!(drive.execs()[0].class, FileClass::Foreign, "it is judged by the container's own root");
}

#[test]
fn process_1_below_a_program_of_the_container_is_no_restart() {
    let mut drive = known_container();
    let mut first = process_1();
    let dev = exec().root_dev;
    first.ancestors =
        vec![crate::raw::RawAncestor { pid: 80, start_ns: 5, comm: crate::raw::Comm::default(), dev, ino: 3 }];
    drive.records(vec![first], 10).at(20);
    let forgets =
        |command: &PipelineCommand| matches!(command, PipelineCommand::Inspect(..) | PipelineCommand::Describe(_));
    assert!(!drive.commands.iter().any(forgets), "{:?}", drive.commands);
}

#[test]
fn a_container_that_is_restarted_all_the_time_does_not_hold_its_execs_for_longer_than_others() {
    let mut drive = Drive::new();
    for start in 0..4_u32 {
        let mut first = at_time(u64::from(start) + 1);
        first.pid += start;
        first.ns_pid = 1;
        first.flags |= layout::FLAG_PARENT_OUTSIDE;
        drive.at(i64::from(start) * 200).records(vec![first], 10);
    }
    assert_eq!(drive.kinds(), ["exec 1"], "at 600 ms, where the second has waited for 400");
}

#[test]
fn a_better_known_root_commands_the_digest_it_shows_to_be_needed() {
    let mut drive = Drive::new();
    let mut inner = at_time(1);
    inner.file.dev = Dev { major: 0, minor: 50 };
    inner.root_dev = inner.file.dev;
    drive.records(vec![inner], 10);
    assert_eq!(drive.commands, [PipelineCommand::Describe(id())]);
    let inspection = Inspection { root: ContainerRoot::of_process(&exec()), mounts: vec![] };
    drive.give(Input::Inspected(id(), Some(Box::new(inspection))));
    assert!(drive.commands.iter().any(|command| matches!(command, PipelineCommand::Hash(_))));
}

#[test]
fn a_containers_record_has_the_mounts_of_its_first_process() {
    let mut drive = Drive::new();
    let with_process = Description { init_pid: Some(77), ..description() };
    drive.records(vec![at_time(1)], 10).give(Input::Described(id(), Some(Box::new(with_process))));
    assert_eq!(drive.commands[1..], [PipelineCommand::Inspect(id(), 77)]);
    assert_eq!(drive.kinds(), [""; 0]);
    let shm = Mount { point: "/dev/shm".into(), fs_type: "tmpfs".into(), source: "shm".into(), read_only: false };
    let mounts = vec![KernelMount { mount: shm.clone(), id: 8, dev: Dev::default(), is_refused: false }];
    let inspection = Inspection { root: ContainerRoot::of_process(&exec()), mounts };
    drive.give(Input::Inspected(id(), Some(Box::new(inspection))));
    assert_eq!(drive.kinds(), ["seen", "exec 1"]);
    let ExecEvent::Seen(seen) = &drive.out[0] else { panic!("not the container's record") };
    assert_eq!(seen.mounts, [shm]);
}

#[test]
fn a_container_ends_after_its_last_exec() {
    let mut drive = Drive::new();
    drive.give(described()).records(vec![written(1)], 10).give(Input::Ended(id()));
    assert_eq!(drive.kinds(), ["seen"]);
    drive.give(digested(1, Digest::Gone));
    assert_eq!(drive.kinds(), ["seen", "exec 1", "ended"]);
    assert_eq!(drive.pipeline.container_count(), 0);
}

#[test]
fn a_container_that_ends_waits_for_what_the_rings_may_still_hold_of_it() {
    let boot_ns = |ms: i64| (ms * MS).unsigned_abs();
    let mut drive = Drive::new();
    drive.give(described()).records(vec![at_time(1)], 10).at(100).give(Input::Ended(id()));
    drive.at(120).records(vec![at_time(boot_ns(99))], boot_ns(99) + 1);
    assert_eq!(drive.kinds(), ["seen", "exec 1", "exec 99000000"], "as one that is described");
    drive.records(vec![], boot_ns(100));
    let Some(ExecEvent::Ended(ended)) = drive.out.last() else { panic!("{:?}", drive.kinds()) };
    assert_eq!((ended.ended_ns, drive.pipeline.container_count()), (100 * MS, 0));
}

#[test]
fn a_container_s_end_comes_after_all_that_one_reading_has_of_it() {
    let mut drive = Drive::new();
    drive.give(described()).at(10).give(Input::Ended(id()));
    drive.commands.clear();
    drive.at(20).records(vec![at_time(1), at_time(2)], u64::MAX);
    assert_eq!(drive.kinds(), ["seen", "exec 1", "exec 2", "ended"]);
    assert_eq!(drive.commands, []);
}

#[test]
fn a_container_s_end_is_reported_when_nothing_is_read_any_more() {
    let mut drive = Drive::new();
    drive.at(1_000).give(described()).give(Input::Ended(id()));
    drive.at(1_000 + limits::ORDER_WAIT / MS - 1);
    assert_eq!(drive.kinds(), ["seen"]);
    drive.at(1_000 + limits::ORDER_WAIT / MS);
    assert_eq!(drive.kinds(), ["seen", "ended"]);
}

#[test]
fn the_end_of_a_container_is_reported_where_the_container_was() {
    let ended = |first: Input| {
        let mut drive = Drive::new();
        drive.give(first).records(vec![at_time(1)], 10).at(300).give(Input::Ended(id()));
        drive.at(300 + limits::ORDER_WAIT / MS);
        assert_eq!(drive.pipeline.container_count(), 0);
        drive.kinds()
    };
    assert_eq!(ended(described()), ["seen", "exec 1", "ended"]);
    assert_eq!(ended(Input::Tick), ["exec 1", "ended"], "nobody described it");
    let sandbox = Description { is_sandbox: true, ..description() };
    assert_eq!(ended(Input::Described(id(), Some(Box::new(sandbox)))), [""; 0]);
    let unseen = Description { is_unseen: true, ..description() };
    assert!(ended(Input::Described(id(), Some(Box::new(unseen)))).ends_with(&["ended".to_owned()]));
}

#[test]
fn a_container_that_is_described_after_its_end_is_not_retained() {
    let over = Description { has_ended: true, init_pid: None, ..description() };
    let mut drive = Drive::new();
    drive.records(vec![at_time(1)], 10).give(Input::Described(id(), Some(Box::new(over))));
    drive.at(limits::ORDER_WAIT / MS);
    assert_eq!(drive.kinds(), ["seen", "exec 1", "ended"]);
    assert_eq!(drive.pipeline.container_count(), 0);
}

#[test]
fn losses_are_reported_once_per_interval_with_their_count() {
    let mut drive = Drive::new();
    drive.give(Input::Lost(Loss::Ring, 3)).give(Input::Lost(Loss::Ring, 4)).give(Input::Lost(Loss::Undecodable, 1));
    drive.at(9_999);
    assert_eq!(drive.kinds(), [""; 0]);
    drive.at(10_000);
    assert_eq!(drive.kinds(), ["ring_full Some(7)", "undecodable Some(1)"]);
    drive.at(20_000);
    assert_eq!(drive.kinds().len(), 2);
}

#[test]
fn containers_are_described_again_when_their_records_were_lost() {
    let mut drive = Drive::new();
    drive.give(described()).give(Input::ContainersLost);
    assert_eq!(drive.commands.last(), Some(&PipelineCommand::Describe(id())));
    drive.give(described());
    assert_eq!(drive.kinds(), ["seen", "seen"]);
}

#[test]
fn containers_are_reported_again_when_the_cluster_returns_where_the_node_is() {
    let mut drive = Drive::new();
    let placed = |id: &str, zone: &str| Input::Placed(Placement { provider_id: id.into(), zone: zone.into() });
    drive.give(described()).give(placed("", ""));
    assert_eq!(drive.commands, [], "nothing is known yet");
    drive.give(placed("gce://p/z/n", "z"));
    assert_eq!(drive.commands, [PipelineCommand::Describe(id())]);
    drive.give(described()).give(placed("gce://p/z/n", "z"));
    assert_eq!(drive.commands.len(), 1, "it is as before");
    let nodes = drive.out.iter().filter_map(|event| match event {
        ExecEvent::Seen(seen) => Some((seen.node.provider_id.as_str(), seen.node.zone.as_str())),
        _ => None,
    });
    assert_eq!(nodes.collect::<Vec<_>>(), [("", ""), ("gce://p/z/n", "z")]);
}

#[test]
fn where_the_node_is_by_its_settings_nobody_overrules() {
    let node = driftline_schemas::Node { zone: "own".into(), ..Default::default() };
    let mut drive = Drive::with(node);
    drive.give(Input::Placed(Placement { provider_id: "p".into(), zone: "z".into() })).give(described());
    let ExecEvent::Seen(seen) = &drive.out[0] else { panic!("a container") };
    assert_eq!((seen.node.provider_id.as_str(), seen.node.zone.as_str()), ("p", "own"));
}

#[test]
fn what_waits_for_one_container_is_bounded() {
    let mut drive = Drive::new();
    drive.records(vec![at_time(1)], 0);
    let most = limits::HELD_BYTES_PER_CONTAINER / drive.pipeline.held_bytes();
    drive.records((2..=most as u64 + 10).map(at_time).collect(), 0);
    assert_eq!((drive.pipeline.held(), drive.execs().len()), (most, 10));
}

/// Every part as long as the kernel program writes it, the arguments in the way that takes most memory.
fn largest(exec: RawExec, args: &[u8]) -> RawExec {
    let path = vec![b'p'; 4_096 + 256];
    RawExec {
        args: driftline_schemas::Args::of_terminated(args),
        path: path.clone(),
        typed_path: path.clone(),
        cwd: path,
        tty: vec![b't'; 64],
        environment: vec!["n".repeat(crate::environment::NAME_BYTES_MAX); 15],
        ancestors: vec![written(1).ancestors[0].clone(); layout::ANCESTOR_COUNT_MAX],
        ..exec
    }
}

#[test]
fn the_largest_execs_of_a_container_take_no_more_memory_than_is_allowed() {
    let one_byte = b"x\0".repeat(2_048);
    let empty = vec![0; 4_096];
    for args in [one_byte, empty, vec![b'x'; 4_096]] {
        let mut drive = Drive::new();
        drive.records((1..=4_096).map(|time_ns| largest(at_time(time_ns), &args)).collect(), 0);
        let each = drive.pipeline.held_bytes() / drive.pipeline.held();
        assert!(drive.pipeline.held_bytes() <= limits::HELD_BYTES_PER_CONTAINER);
        assert!(drive.pipeline.held_bytes() + each > limits::HELD_BYTES_PER_CONTAINER, "as many as fit");
        assert!((40_000..64_000).contains(&each), "{each} bytes for each");
        assert_eq!(drive.pipeline.held() + drive.execs().len(), 4_096);
    }
}

#[test]
fn the_largest_execs_whose_digest_is_late_take_no_more_memory_than_is_allowed() {
    let (mut drive, args) = (Drive::new(), b"x\0".repeat(2_048));
    let count = limits::LATE_PER_CONTAINER as u64;
    for number in 1..=3 {
        let in_container = |exec| RawExec { cgroup: format!("{number:064x}").into_bytes(), ..largest(exec, &args) };
        drive.records((1..=count).map(|time_ns| in_container(other_file(time_ns))).collect(), 1 << 40);
    }
    drive.at(500);
    assert_eq!(drive.execs().len() as u64, 3 * count);
    let refused = drive.commands.iter().filter(|command| matches!(command, PipelineCommand::Release(_))).count();
    assert!(refused > 0 && (refused as u64) < 2 * count, "{refused} were refused");
    let bytes = drive.pipeline.late.bytes();
    assert!(bytes <= limits::LATE_BYTES && bytes + 64_000 > limits::LATE_BYTES, "{bytes} bytes");
}

#[test]
fn containers_whose_late_execs_are_the_largest_give_way_to_others() {
    let (mut drive, args) = (Drive::new(), b"x\0".repeat(2_048));
    let of = |number: u64, exec| RawExec { cgroup: format!("{number:064x}").into_bytes(), ..exec };
    let count = limits::LATE_PER_CONTAINER as u64;
    for number in 1..=3 {
        let execs = (1..=count).map(|time_ns| of(number, largest(other_file(time_ns), &args)));
        drive.records(execs.collect(), 1 << 40);
    }
    drive.at(500);
    assert!(
        drive.pipeline.late.bytes() + 64_000 > limits::LATE_BYTES,
        "{} bytes: nothing is left to others",
        drive.pipeline.late.bytes()
    );
    let others = 10_000;
    for number in 4..=20 {
        let at = others + number * count;
        drive.records((0..count).map(|n| of(number, other_file(at + n))).collect(), 1 << 40);
    }
    drive.at(2_000);
    let refused = drive.commands.iter().filter_map(|command| match command {
        PipelineCommand::Release(moment) => Some(moment.time_ns),
        _ => None,
    });
    assert_eq!(refused.filter(|time_ns| *time_ns >= others).count(), 0, "the others' execs are all retained");
    assert!(drive.pipeline.late.bytes() <= limits::LATE_BYTES);
}

#[test]
fn containers_are_bounded_and_the_silent_one_goes_first() {
    let mut drive = Drive::new();
    let numbered = |number: usize| RawExec { cgroup: format!("{number:064x}").into_bytes(), ..at_time(1) };
    for number in 0..=limits::CONTAINERS {
        drive.now_ns += 1;
        drive.records(vec![numbered(number)], 0);
    }
    assert_eq!(drive.pipeline.container_count(), limits::CONTAINERS);
    assert_eq!(drive.execs().len(), 1, "what the forgotten one held went out");
    assert_eq!(drive.execs()[0].container_id, ContainerId::from(format!("{:064x}", 0).as_str()));
}

#[test]
fn at_the_end_nothing_is_held_back() {
    let mut drive = Drive::new();
    drive.records(vec![written(1), at_time(2)], 0).give(Input::Lost(Loss::Ring, 1)).give(Input::Stop);
    assert_eq!(drive.kinds(), ["exec 1", "exec 2", "ring_full Some(1)"]);
}

#[test]
fn pause_is_no_container_but_a_program_dropped_into_it_is_reported() {
    let mut drive = Drive::new();
    let sandbox = Description { is_sandbox: true, ..description() };
    drive.give(Input::Described(id(), Some(Box::new(sandbox)))).records(vec![at_time(1), written(2)], 10);
    drive.give(digested(2, Digest::Gone));
    assert_eq!(drive.kinds(), ["exec 2"]);
    assert_eq!(drive.settled[&Disposition::Dropped("sandbox")], 1);
}

#[test]
fn event_times_keep_their_distance_until_somebody_sets_the_clock() {
    let mut drive = Drive::new();
    let mut at_offset = |time_ns: u64, boot_offset_ns: i64| {
        let running = vec![Box::new(at_time(time_ns))];
        let records = Records { running, complete_until_ns: u64::MAX, boot_offset_ns, ..Records::default() };
        drive.give(Input::Records(records));
    };
    at_offset(10, 1_000);
    at_offset(20, 1_000 + limits::CLOCK_JUMP);
    at_offset(30, 1_001 + limits::CLOCK_JUMP);
    at_offset(40, -5);
    drive.give(described());
    let times: Vec<i64> = drive.execs().iter().map(|exec| exec.time_ns).collect();
    assert_eq!(times.len(), 4);
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn what_runs_already_is_reported_once_under_the_id_of_its_exec() {
    let mut drive = Drive::new();
    let mut running = at_time(1);
    running.moment.cpu = u32::MAX;
    running.flags |= layout::FLAG_SNAPSHOT;
    drive.give(described()).records(vec![running, at_time(5)], 10);
    let execs = drive.execs();
    assert_eq!((execs[0].running_at_start, execs[0].cpu, execs[0].seq), (true, -1, 0));
    assert!(!execs[1].running_at_start);
    assert_eq!(execs[0].event_id, execs[1].event_id);
}

#[test]
fn a_container_whose_execs_cannot_be_seen_is_reported_once() {
    let mut drive = Drive::new();
    let unseen = || Description { is_unseen: true, runtime_handler: "kata".into(), attempt: 2, ..description() };
    drive.give(Input::Running(vec![unseen()])).give(Input::Running(vec![unseen()]));
    let reason = format!("unseen container {} run by kata None", &id().as_str()[..12]);
    assert_eq!(drive.kinds(), [reason.as_str(), "seen", "seen"]);
    let ExecEvent::Seen(seen) = &drive.out[1] else { panic!("not the container's record") };
    assert_eq!((seen.unseen, seen.attempt, seen.runtime_handler.as_str()), (true, 2, "kata"));
}
