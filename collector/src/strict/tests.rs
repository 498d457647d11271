use super::*;
use driftline_collector_core::{Crossing, Moment};
use driftline_schemas::Sha256;
use prometheus::Opts;

const DEV: Dev = Dev { major: 0, minor: 41 };
const SECOND: i64 = 1_000_000_000;

/// Strict mode without a kernel.
fn strict(order: OpenExecOrder) -> Strict {
    let counts = Counts::of(&IntCounterVec::new(Opts::new("strict", "test"), &["what"]).unwrap());
    let shared = Arc::new(Shared::new(order, Arc::default(), counts));
    Strict { shared, first_processes: sync_channel(1).0, stop: Arc::default(), marks_failed: Arc::default() }
}

fn file(ino: u64, dev: Dev) -> RawFile {
    RawFile { dev, ino, real_ino: ino, size_bytes: 10, ctime_ns: 5, ..RawFile::default() }
}

fn open_exec(file: &RawFile, path: &str) -> OpenExec<OpenedContent> {
    let RawFile { dev, ino, size_bytes, ctime_ns, .. } = *file;
    let facts = NamedFacts { path: path.into(), dev, ino, size_bytes, ctime_ns, ..NamedFacts::default() };
    OpenExec { thread: 7, noted_ns: 1, requested_path: None, facts, content: OpenedContent::Hashing }
}

fn job(subject: DigestSubject) -> DigestJob {
    DigestJob {
        container: ContainerId::from("c"),
        moment: Moment { time_ns: 9, cpu: 0, seq: 0 },
        pid: 7,
        roots: vec![],
        path: b"/s".to_vec(),
        crossing: Crossing::Stay,
        root_mnt_id: 0,
        subject,
        loader: None,
        extension: None,
    }
}

const DIGEST: Digest = Digest::Hashed(Sha256([7; 32]));

impl Strict {
    fn admit(&self, file: &RawFile, bytes_max: u64, now_ns: i64) -> Admitted {
        self.shared.admit(open_exec(file, "/s"), bytes_max, now_ns)
    }
}

#[test]
fn what_has_not_changed_since_a_container_was_made_is_its_image_s() {
    let other = Dev { major: 0, minor: 42 };
    let mut images = ImageRoots::default();
    images.note(DEV, 644, 100);
    assert!(images.is_of_image(DEV, None, 99));
    assert!(!images.is_of_image(DEV, None, 100), "clocks have ticks: the same one may be a change");
    assert!(!images.is_of_image(other, Some(645), 99));
    assert!(images.is_of_image(other, Some(644), 99), "an overlay over several disks");
    images.note(DEV, 700, 50);
    assert!(!images.is_of_image(DEV, None, 99), "the number belongs to another container by now");
}

#[test]
fn one_file_system_does_not_take_all_places() {
    let strict = strict(OpenExecOrder::Strict);
    let mut held = Vec::new();
    for number in 0..u32::try_from(limits::OPEN_EXECS_HASHED).unwrap() + 8 {
        let dev = Dev { major: 0, minor: number / 10 };
        if let Admitted::Hash(_, place) = strict.admit(&file(u64::from(number), dev), 100, 0) {
            held.push((number, place));
        }
    }
    let numbers: Vec<u32> = held.iter().map(|(number, _)| *number).collect();
    let each = |begin: u32| begin..begin + u32::try_from(limits::OPEN_EXECS_HASHED_EACH).unwrap();
    assert_eq!(numbers, [each(0), each(10), each(20), each(30)].into_iter().flatten().collect::<Vec<_>>());
    assert_eq!(strict.shared.counts.busy.get(), 8);
    let full = || matches!(strict.admit(&file(99, Dev { major: 9, minor: 9 }), 100, 0), Admitted::Done);
    assert!(full(), "all places are taken");
    held.pop();
    assert!(!full());
}

#[test]
fn large_files_and_those_beyond_the_budget_are_not_hashed() {
    let strict = strict(OpenExecOrder::Strict);
    let sized = |ino, size: u64| RawFile { size_bytes: size.cast_signed(), ..file(ino, DEV) };
    assert!(matches!(strict.admit(&sized(1, 101), 100, 0), Admitted::Done));
    assert_eq!(strict.shared.counts.over_budget.get(), 0);
    let all = limits::HASH_BYTES_BURST;
    assert!(matches!(strict.admit(&sized(2, all), all, 0), Admitted::Hash(..)));
    assert!(matches!(strict.admit(&sized(3, 1), all, 0), Admitted::Done));
    assert_eq!(strict.shared.counts.over_budget.get(), 1);
    assert!(matches!(strict.admit(&sized(4, 1), all, SECOND), Admitted::Hash(..)), "it comes back with time");
}

#[test]
fn a_settled_file_is_hashed_once() {
    let strict = strict(OpenExecOrder::Strict);
    let check = |ino: u64, is_settled: bool| {
        let Admitted::Hash(number, _) = strict.admit(&file(ino, DEV), 100, 0) else { panic!("not hashed") };
        strict.shared.finish(number, DIGEST, is_settled);
        matches!(strict.admit(&file(ino, DEV), 100, 0), Admitted::Done)
    };
    assert!(check(1, true) && !check(2, false));
    let outcome = strict.outcome(&job(DigestSubject::File(file(1, DEV)))).unwrap();
    assert_eq!((outcome.digest, strict.shared.counts.remembered.get()), (DIGEST, 1));
}

#[test]
fn a_digest_that_is_on_its_way_is_awaited() {
    let strict = strict(OpenExecOrder::Strict);
    let Admitted::Hash(number, _) = strict.admit(&file(1, DEV), 100, 0) else { panic!("not hashed") };
    let outcome = std::thread::scope(|scope| {
        let outcome = scope.spawn(|| strict.outcome(&job(DigestSubject::File(file(1, DEV)))));
        strict.shared.finish(number, DIGEST, false);
        outcome.join().unwrap()
    });
    assert_eq!(outcome, Some(DigestOutcome::of(DIGEST)));
    // What could not be hashed is tried once more as without strict mode.
    let Admitted::Hash(number, _) = strict.admit(&file(2, DEV), 100, 0) else { panic!("not hashed") };
    strict.shared.finish(number, Digest::Changed, false);
    assert_eq!(strict.outcome(&job(DigestSubject::File(file(2, DEV)))), None);
    assert_eq!(strict.outcome(&job(DigestSubject::File(file(3, DEV)))), None, "never opened");
}

#[test]
fn a_script_counts_only_if_it_is_older_than_its_exec() {
    let strict = strict(OpenExecOrder::Strict);
    let Admitted::Hash(number, _) = strict.admit(&file(1, DEV), 100, 0) else { panic!("not hashed") };
    strict.shared.finish(number, DIGEST, true);
    let by = file(2, DEV);
    strict.shared.pass(OpenExec { content: OpenedContent::Unknown, ..open_exec(&by, "") });
    let at = |executed_ns| strict.outcome(&job(DigestSubject::Named { executed_ns, cost_bytes: 0, by }));
    let outcome = at(5).unwrap();
    assert_eq!((outcome.digest, outcome.named.unwrap().path), (DIGEST, b"/s".to_vec()));
    assert_eq!(at(4), None);
}

#[test]
fn what_needs_nothing_is_logged_only_where_it_shows_what_came_before() {
    let strict = strict(OpenExecOrder::Strict);
    strict.shared.pass(open_exec(&file(1, DEV), ""));
    assert_eq!(strict.shared.lock().open_execs.iter().count(), 0);
    let _ = strict.admit(&file(2, DEV), 100, 0);
    strict.shared.pass(open_exec(&file(1, DEV), ""));
    assert_eq!(strict.shared.lock().open_execs.iter().count(), 2);
}
