//! Every limit of [`crate::limits`] at its maximum and one beyond: the findings, the counters, and that no state grows.

use super::*;
use crate::limits::{
    CONTAINERS_MAX, HEARD_STEP_NS, MISMATCHED_PATHS_MAX, PARKED_BYTES_MAX, PARKED_PARTITION_BYTES_MAX,
    REASON_BYTES_MAX, REPORTED_MAX, REQUESTS_PER_TICK_MAX, SILENCE_NS, TIMER_STATE_KEYS_MAX, TIMERS_PER_TICK_MAX,
    UNPROVEN_FOLD_NS, UNPROVEN_FOLDS_MAX, UNRESOLVED_MAX,
};
use driftline_schemas::limits::{
    ARGS_BYTES_MAX, ID_BYTES_MAX, LABELS_BYTES_MAX, MOUNTS_MAX, PATH_BYTES_MAX, RECORD_BYTES_MAX, TEXT_BYTES_MAX,
};
use driftline_schemas::{EventId, Mount, Owner, Pod};

impl Bench {
    fn exec_in(&mut self, container: &str, number: i64) -> &mut Self {
        let exec = exec(number, FileClass::New, "/tmp/x", "evil");
        self.event(ExecEvent::Exec(Box::new(Exec { container_id: ContainerId::from(container), ..exec })))
    }

    fn seen_in(&mut self, container: &str, image: &str) -> &mut Self {
        let mut seen = seen(container);
        seen.container.image_id = ImageId::from(image);
        self.event(ExecEvent::Seen(Box::new(seen)))
    }

    /// Memory of the partition's parked execs.
    fn parked_bytes(&self) -> usize {
        self.enricher.partitions.values().map(|partition| partition.parked_bytes).sum()
    }

    fn counted(&mut self, event: &str) -> u64 {
        self.effects.take_counts().remove(event).unwrap_or(0)
    }

    /// Number and bytes of the state under keys with this prefix.
    fn size(&self, prefix: &str) -> (usize, usize) {
        let state = self.state();
        let own: Vec<_> = state.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        (own.len(), own.iter().map(|(key, value)| key.len() + value.len()).sum())
    }

    /// Asserts that every received record is settled or parked.
    fn assert_conserved(&mut self) {
        let settled: u64 = self.effects.take_settled().values().sum();
        assert_eq!(settled + self.enricher.held(), u64::try_from(self.offset).unwrap());
    }
}

fn number(of: usize) -> i64 {
    i64::try_from(of).unwrap()
}

fn event(number: usize, reason: &str) -> (String, String) {
    (format!("event-{number}"), reason.to_owned())
}

/// Number of execs of [`Bench::exec_in`] that take this much memory. The container's name has six letters, the number
/// six digits.
fn execs_in(bytes: usize) -> usize {
    let exec = Exec { container_id: ContainerId::from("box-00"), ..exec(100_000, FileClass::New, "/tmp/x", "evil") };
    bytes / Queued::Exec(Box::new(exec)).memory_bytes()
}

#[test]
fn one_exec_more_than_a_container_may_park_lets_its_head_go() {
    let (mut bench, most) = (Bench::new(), execs_in(PARKED_BYTES_MAX));
    for n in 0..most {
        bench.exec_in("box-00", 100_000 + number(n));
    }
    let full = bench.size("parked/");
    assert_eq!((bench.reasons(), full.0), (vec![], most));
    bench.exec_in("box-00", 100_000 + number(most));
    assert_eq!(bench.reasons(), [event(100_000, "parking_full")]);
    assert_eq!((bench.size("parked/"), bench.counted("parking_full")), (full, 1));
    bench.assert_conserved();
}

#[test]
fn one_exec_more_than_a_partition_may_park_lets_the_longest_waiting_container_flow() {
    let mut bench = Bench::new();
    let (most, of_each) = (execs_in(PARKED_PARTITION_BYTES_MAX), execs_in(PARKED_BYTES_MAX));
    for n in 0..most {
        bench.exec_in(&format!("box-{:02}", 99 - n / of_each), 100_000 + number(n));
    }
    assert_eq!((bench.reasons().len(), bench.enricher.held()), (0, most as u64));
    bench.exec_in("box-00", 100_000 + number(most));
    assert_eq!(bench.counted("partition_parking_full"), 1);
    let out = bench.reasons();
    assert_eq!(out.len(), JUDGED_PER_APPLY_MAX, "no more than this in one call");
    assert_eq!(out[0], event(100_000, "partition_parking_full"));
    while bench.enricher.held() > number(most - of_each + 1).cast_unsigned() {
        bench.after(1);
    }
    let rest = bench.first_reasons();
    assert_eq!(rest.len(), of_each - JUDGED_PER_APPLY_MAX);
    assert_eq!(rest.last(), Some(&event(100_000 + of_each - 1, "partition_parking_full")), "in order, and nobody else");
    bench.exec_in("box-99", 100_000 + number(most) + 1);
    assert_eq!(bench.first_reasons().len(), 1, "it flows: the outcome is recorded");
    bench.assert_conserved();
}

#[test]
fn the_largest_execs_take_no_more_memory_than_is_allowed_and_a_restored_state_counts_the_same() {
    let mut bench = Bench::new();
    let value = driftline_schemas::encode(&largest_exec()).unwrap();
    for n in 0..PARKED_BYTES_MAX / value.len() + 10 {
        let mut exec: Exec = driftline_schemas::decode(&value).unwrap();
        exec.event_id = EventId::from(format!("{n:0ID_BYTES_MAX$}").as_str());
        bench.event(ExecEvent::Exec(Box::new(exec)));
        assert!(bench.parked_bytes() <= PARKED_BYTES_MAX);
    }
    assert!(bench.counted("parking_full") > 0, "the limit was reached");
    let parked = bench.size("parked/");
    assert!(parked.1 <= PARKED_BYTES_MAX, "in memory an exec takes no less than in the changelog");
    let before = bench.parked_bytes();
    let mut next = Bench::new();
    next.enricher.restore(1, 0, bench.state(), &WriterSchemas::default(), &mut next.effects).unwrap();
    assert_eq!((next.size("parked/"), next.parked_bytes()), (parked, before));
}

#[test]
fn one_container_more_than_a_partition_may_have_takes_the_place_of_the_one_silent_longest() {
    let mut bench = Bench::new();
    // Every time takes the same number of bytes.
    bench.now_ns = 1 << 60;
    for n in 0..CONTAINERS_MAX {
        bench.now_ns += 1;
        bench.seen_in(&format!("box-{:05}", 99_999 - n), "");
    }
    let full = bench.size("container/");
    assert_eq!((full.0, bench.counted("container_evicted")), (CONTAINERS_MAX, 0));
    bench.seen_in("box-later", "");
    assert_eq!((bench.size("container/"), bench.counted("container_evicted")), (full, 1));
    assert!(!bench.state().contains_key("container/box-99999"), "the first of them");
    assert_eq!(bench.enricher.timers.len(), CONTAINERS_MAX);
}

#[test]
fn when_every_container_waits_the_longest_waiting_goes_out_unresolved_and_makes_room() {
    let mut bench = Bench::new();
    for n in 0..CONTAINERS_MAX {
        bench.exec_in(&format!("box-{:05}", 99_999 - n), number(n));
    }
    let more = JUDGED_PER_APPLY_MAX + 1;
    for n in 0..more {
        bench.exec_in("box-99999", number(CONTAINERS_MAX + n));
    }
    assert_eq!((bench.reasons(), bench.size("container/").0), (vec![], CONTAINERS_MAX));
    bench.exec_in("later", number(CONTAINERS_MAX + more));
    let out = bench.first_reasons();
    assert_eq!((out.len(), &out[0]), (1 + more, &event(0, "containers_full")), "all of it, whatever its number");
    assert_eq!(out[1], event(CONTAINERS_MAX, "containers_full"));
    let counts = bench.effects.take_counts();
    assert_eq!((counts["container_evicted"], counts["containers_full"]), (1, 1));
    assert_eq!(counts["unresolved_forgotten"], number(1 + more).cast_unsigned(), "nobody will amend them");
    assert_eq!(bench.size("container/").0, CONTAINERS_MAX);
    assert_eq!(bench.size("unresolved/").0 + bench.size("reported/").0, 0);
    assert_eq!(bench.enricher.held(), CONTAINERS_MAX as u64, "one each");
    bench.assert_conserved();
}

#[test]
fn one_reported_exec_more_than_is_remembered_forgets_the_oldest() {
    let mut bench = Bench::new();
    bench.seen().image();
    for n in 0..REPORTED_MAX {
        bench.exec_in("box", 1_000 + number(n));
    }
    let full = bench.size("reported/");
    assert_eq!((bench.reasons().len(), full.0), (REPORTED_MAX, REPORTED_MAX));
    bench.effects.take_touched();
    bench.exec_in("box", 1_000 + number(REPORTED_MAX));
    assert_eq!(bench.size("reported/"), full);
    let touched = bench.effects.take_touched();
    let touched: Vec<_> = touched.iter().filter(|changed| changed.key.starts_with("reported/")).collect();
    assert_eq!(touched.len(), 2, "the oldest goes from the changelog too: {touched:?}");
    bench.reasons();
    bench.exec_in("box", 1_001);
    assert_eq!(bench.reasons(), []);
    bench.exec_in("box", 1_000);
    assert_eq!(bench.reasons(), [event(1_000, "")], "emitted again, with the same id: a reader drops it");
    assert_eq!(bench.size("reported/"), full);
    bench.assert_conserved();
}

#[test]
fn one_mismatched_path_more_than_is_remembered_is_counted_only() {
    let mut bench = Bench::new();
    bench.seen().image();
    let path = |n: usize| format!("/bin/odd-{n:03}");
    for n in 0..MISMATCHED_PATHS_MAX {
        bench.exec(number(n), FileClass::Image, &path(n), "");
    }
    let full = bench.size("container/");
    assert_eq!(bench.findings().len(), MISMATCHED_PATHS_MAX);
    bench.exec(100, FileClass::Image, &path(MISMATCHED_PATHS_MAX), "");
    assert_eq!((bench.findings().len(), bench.counted("mismatched_paths_capped")), (0, 1));
    assert_eq!(bench.size("container/"), full);
    bench.assert_conserved();
}

#[test]
fn one_unresolved_finding_more_than_may_be_amended_forgets_the_oldest() {
    let mut bench = Bench::new();
    bench.exec_in("box", 100).after(5 * SECOND);
    for n in 1..UNRESOLVED_MAX {
        bench.exec_in("box", 100 + number(n));
    }
    let full = bench.size("unresolved/");
    assert_eq!((full.0, bench.counted("unresolved_forgotten")), (UNRESOLVED_MAX, 0));
    bench.exec_in("box", 100 + number(UNRESOLVED_MAX));
    assert_eq!((bench.size("unresolved/"), bench.counted("unresolved_forgotten")), (full, 1));
    let last = bench.reasons().pop().unwrap();
    assert!(last.0 == "event-100" && last.1.starts_with("no_metadata; it stays so"), "{last:?}");
    bench.seen().image();
    let amended = bench.findings();
    assert_eq!((amended.len(), &amended[0]), (UNRESOLVED_MAX, &active(101, 2, Origin::Added)));
    assert_eq!(bench.size("unresolved/").0, 0);
}

#[test]
fn an_amendment_is_possible_for_an_hour_after_the_finding_and_no_longer() {
    let unresolved = || {
        let mut bench = Bench::new();
        bench.exec(1, FileClass::New, "/tmp/x", "evil").after(5 * SECOND);
        bench.findings();
        bench
    };
    let mut in_time = unresolved();
    in_time.after(AMEND_NS - 1).seen().image();
    assert_eq!(in_time.findings(), [active(1, 2, Origin::Added)]);
    let mut late = unresolved();
    late.after(AMEND_NS);
    assert_eq!((late.size("unresolved/").0, late.counted("amendment_too_late")), (0, 1), "time alone forgets it");
    late.seen().image();
    assert_eq!(late.findings(), []);
}

#[test]
fn an_image_for_which_many_waited_does_not_say_everything_at_once() {
    let mut bench = Bench::new();
    let each = 3;
    let containers = JUDGED_PER_APPLY_MAX / each + 1;
    for n in 0..containers * each {
        bench.exec_in(&format!("box-{:03}", n / each), number(n));
    }
    for n in 0..containers {
        bench.seen_in(&format!("box-{n:03}"), IMAGE);
    }
    assert_eq!(bench.reasons(), []);
    bench.image();
    assert_eq!(bench.reasons().len(), JUDGED_PER_APPLY_MAX);
    let left = containers * each - JUDGED_PER_APPLY_MAX;
    assert_eq!(bench.enricher.held(), left as u64);
    // A successor restores what is left, and continues when it has the image.
    let state = bench.state();
    let mut successor = Bench::new();
    successor.enricher.restore(1, 0, state, &WriterSchemas::default(), &mut successor.effects).unwrap();
    successor.image();
    bench.after(1);
    let rest = bench.reasons();
    assert_eq!((rest.len(), bench.enricher.held()), (left, 0));
    assert_eq!(successor.reasons(), rest);
    bench.assert_conserved();
}

#[test]
fn amendments_share_the_budget() {
    let mut bench = Bench::new();
    let containers = JUDGED_PER_APPLY_MAX / UNRESOLVED_MAX + 1;
    for n in 0..containers {
        bench.seen_in(&format!("box-{n}"), IMAGE);
    }
    bench.answer(failed("not now"));
    for n in 0..containers * UNRESOLVED_MAX {
        bench.exec_in(&format!("box-{}", n / UNRESOLVED_MAX), number(n));
    }
    bench.reasons();
    bench.image();
    assert_eq!(bench.reasons().len(), JUDGED_PER_APPLY_MAX);
    assert_eq!(bench.size("unresolved/").0, UNRESOLVED_MAX);
    bench.after(1);
    assert_eq!((bench.reasons().len(), bench.size("unresolved/").0), (UNRESOLVED_MAX, 0));
}

#[test]
fn one_deadline_more_than_a_call_may_judge_is_left_to_the_next() {
    let mut bench = Bench::new();
    for n in 0..=JUDGED_PER_APPLY_MAX {
        bench.exec_in(&format!("box-{n}"), number(n));
    }
    bench.after(5 * SECOND);
    assert_eq!((bench.reasons().len(), bench.enricher.held()), (JUDGED_PER_APPLY_MAX, 1));
    assert_eq!(bench.counted("deadline_fired"), number(JUDGED_PER_APPLY_MAX + 1).cast_unsigned());
    bench.after(1);
    assert_eq!((bench.reasons().len(), bench.enricher.held()), (1, 0));
    bench.assert_conserved();
}

#[test]
fn one_timer_more_than_a_tick_lets_fire_is_left_to_the_next() {
    let mut bench = Bench::new();
    for n in 0..=TIMERS_PER_TICK_MAX {
        bench.seen_in(&format!("box-{n:04}"), IMAGE);
    }
    for left in [1, 0] {
        bench.effects.take_touched();
        bench.after(SILENCE_NS);
        assert_eq!((bench.size("container/").0, bench.enricher.has_due(bench.now_ns)), (left, left > 0));
    }
}

#[test]
fn no_timer_fires_after_as_many_state_keys_as_a_tick_may_change() {
    let mut bench = Bench::new();
    let each = REPORTED_MAX + 1;
    let containers = TIMER_STATE_KEYS_MAX / each + 2;
    bench.answer(failed("not now"));
    for n in 0..containers {
        bench.seen_in(&format!("box-{n}"), IMAGE);
        bench.image();
        for exec in 0..REPORTED_MAX {
            bench.exec_in(&format!("box-{n}"), number(n * REPORTED_MAX + exec));
        }
    }
    bench.effects.take_touched();
    bench.after(SILENCE_NS);
    assert_eq!((bench.size("container/").0, bench.effects.touched_count()), (1, (containers - 1) * each));
    assert!(bench.enricher.has_due(bench.now_ns));
    bench.after(1);
    assert_eq!((bench.size("").0, bench.enricher.has_due(bench.now_ns)), (0, false));
}

#[test]
fn one_image_more_than_a_tick_asks_for_is_asked_for_in_the_next() {
    let mut bench = Bench::new();
    for n in 0..=REQUESTS_PER_TICK_MAX {
        bench.seen_in(&format!("box-{n}"), &format!("sha256:{n}"));
        bench.input(Input::Image(
            ImageView::of_all(&ImageId::from(format!("sha256:{n}").as_str())),
            ImageAnswer::Missing,
        ));
    }
    assert_eq!(bench.requests().len(), REQUESTS_PER_TICK_MAX + 1, "one for each answer");
    bench.after(REQUEST_AGAIN_NS);
    assert_eq!(bench.requests().len(), REQUESTS_PER_TICK_MAX);
    bench.after(1);
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn a_reason_is_cut_to_what_a_finding_can_carry() {
    let mut bench = Bench::new();
    let reason = |length: usize| format!("{}\u{e9}", "x".repeat(length - 2));
    bench.seen().answer(failed(reason(REASON_BYTES_MAX))).exec_in("box", 1);
    assert_eq!(bench.reasons(), [event(1, &format!("image_failed: {}", reason(REASON_BYTES_MAX)))]);
    bench.answer(failed(reason(REASON_BYTES_MAX + 1))).exec_in("box", 2);
    let cut = "x".repeat(REASON_BYTES_MAX - 1);
    assert_eq!(bench.reasons(), [event(2, &format!("image_failed: {cut}"))]);
}

#[test]
fn an_ordinary_exec_changes_nothing_durable_and_hearing_of_a_container_rarely_does() {
    let mut bench = Bench::new();
    bench.seen().image();
    bench.effects.take_touched();
    bench.exec(1, FileClass::Image, "/bin/ls", "").seen().after(HEARD_STEP_NS);
    bench.exec(2, FileClass::Image, "/bin/ls", "");
    assert_eq!(bench.effects.take_touched().len(), 0);
    bench.after(1).exec(3, FileClass::Image, "/bin/ls", "");
    let touched: Vec<_> = bench.effects.take_touched().into_iter().map(|touched| touched.key).collect();
    assert_eq!(touched, ["container/box"]);
}

#[test]
fn a_container_that_is_evicted_or_falls_silent_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.exec_in("box", 1).after(5 * SECOND);
    assert_eq!((bench.size("reported/").0, bench.size("unresolved/").0), (1, 1));
    let id = ContainerId::from("box");
    bench.effects.take_touched();
    bench.enricher.forget(&id, &mut bench.effects).unwrap();
    assert_eq!(bench.counted("unresolved_forgotten"), 1);
    let touched: Vec<_> = bench.effects.take_touched().into_iter().map(|touched| touched.key).collect();
    let offset = "00000000000000000000";
    assert_eq!(touched, ["container/box", &format!("reported/box/{offset}"), &format!("unresolved/box/{offset}")]);
    assert_eq!(bench.state(), BTreeMap::new());
}

/// An exec with every field at its limit.
fn largest_exec() -> Exec {
    let path = vec![b'p'; PATH_BYTES_MAX];
    let text = |length| "t".repeat(length);
    let place = text(PATH_BYTES_MAX);
    Exec {
        event_id: EventId::from(text(ID_BYTES_MAX).as_str()),
        container_id: ContainerId::from(text(ID_BYTES_MAX).as_str()),
        boot_id: text(ID_BYTES_MAX),
        collector_start: text(ID_BYTES_MAX),
        parent_comm: text(ID_BYTES_MAX).into(),
        tty: Some(text(ID_BYTES_MAX)),
        cluster: text(TEXT_BYTES_MAX),
        node: text(TEXT_BYTES_MAX),
        path: path.clone(),
        typed_path: path.clone(),
        script: Some(path.clone()),
        cwd: path,
        args: std::iter::repeat_n(b"", ARGS_BYTES_MAX + 1).collect(),
        mount: Some(Mount { point: place.clone(), fs_type: place.clone(), source: place, read_only: false }),
        ..exec(1, FileClass::New, "/tmp/x", "evil")
    }
}

/// A container record with every field at its limit, as far as one record can hold it.
fn largest_seen(container: &ContainerId) -> ContainerSeen {
    let text = "t".repeat(TEXT_BYTES_MAX);
    let mut seen = seen(container.as_str());
    let node = &mut seen.node;
    for field in [
        &mut node.cluster,
        &mut node.name,
        &mut node.provider_id,
        &mut node.zone,
        &mut node.project,
        &mut node.location,
        &mut seen.container.name,
        &mut seen.container.runtime,
        &mut seen.container.image_ref,
        &mut seen.container.image_id_source,
        &mut seen.container.service_account,
        &mut seen.container.rootfs,
    ] {
        field.clone_from(&text);
    }
    let labels = (0..LABELS_BYTES_MAX / 4).map(|n| (format!("{n:04x}"), String::new())).collect();
    seen.container.pod = Some(Pod { namespace: text.clone(), name: text.clone(), uid: text.clone(), labels });
    seen.container.owner = Some(Owner { kind: text, name: String::new() });
    seen.container.host_namespaces = vec!["n".repeat(TEXT_BYTES_MAX / ID_BYTES_MAX); ID_BYTES_MAX];
    let place = "m".repeat(PATH_BYTES_MAX * 5 / 8);
    seen.mounts =
        vec![Mount { point: place, fs_type: "bind".into(), source: String::new(), read_only: false }; MOUNTS_MAX];
    seen
}

#[test]
fn the_largest_state_is_a_record_that_can_be_written_and_read() {
    let mut bench = Bench::new();
    let exec = largest_exec();
    let seen = largest_seen(&exec.container_id);
    for record in [driftline_schemas::encode(&exec), driftline_schemas::encode(&seen)] {
        ExecEvent::decode(&record.unwrap()).expect("it keeps a collector's limits");
    }
    bench.event(ExecEvent::Seen(Box::new(seen))).image();
    for n in 0..MISMATCHED_PATHS_MAX {
        let path = format!("/{n:0width$}", width = PATH_BYTES_MAX - 1);
        let odd = super::exec(number(n), FileClass::Image, &path, "");
        bench.event(ExecEvent::Exec(Box::new(Exec { container_id: exec.container_id.clone(), ..odd })));
    }
    assert_eq!(bench.findings().len(), MISMATCHED_PATHS_MAX);
    for n in 0..UNPROVEN_FOLDS_MAX {
        let unread = undigested(super::exec(1_000 + number(n), FileClass::RootfsPlain, "/bin/ls", "/bin/ls"));
        let time_ns = number(n) * UNPROVEN_FOLD_NS;
        bench.event(ExecEvent::Exec(Box::new(Exec { container_id: exec.container_id.clone(), time_ns, ..unread })));
    }
    assert_eq!(bench.findings().len(), UNPROVEN_FOLDS_MAX);
    let other = ContainerId::from("o".repeat(ID_BYTES_MAX).as_str());
    for n in 0..2 {
        let event_id = EventId::from(format!("{n:0width$}", width = ID_BYTES_MAX).as_str());
        let exec = Exec { container_id: other.clone(), event_id, ..exec.clone() };
        bench.event(ExecEvent::Exec(Box::new(exec)));
        bench.now_ns += 5 * SECOND * (1 - n);
        if n == 0 {
            bench.input(Input::Tick);
            bench.enricher.containers.get_mut(&other).unwrap().given_up = None;
        }
    }
    let state = bench.state();
    let kinds: BTreeSet<&str> = state.keys().map(|key| key.split('/').next().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["container", "parked", "reported", "unresolved"]));
    let largest = state.values().map(Vec::len).max().unwrap();
    assert!((400_000..RECORD_BYTES_MAX).contains(&largest), "{largest}");
    let mut successor = Bench::new();
    successor.enricher.restore(1, 0, state.clone(), &WriterSchemas::default(), &mut successor.effects).unwrap();
    assert_eq!(successor.state(), state);
}
