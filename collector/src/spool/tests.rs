use super::*;
use driftline_collector_core::spool::Gaps;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// Where the child of the kill test writes.
const CHILD_DIRECTORY: &str = "DRIFTLINE_TEST_SPOOL";

fn open(directory: &TempDir) -> Spool {
    Spool::open(directory.path(), 64 * MIB, "run").unwrap()
}

fn at(sequence: u64) -> Stamp {
    Stamp { kind: Kind::Exec, time_ns: i64::try_from(sequence).unwrap() }
}

fn append(spool: &mut Spool, sequence: u64, bytes: usize) -> Result<(), Reason> {
    let value = vec![u8::try_from(sequence % 256).unwrap(); bytes];
    spool.append(&Frame { sequence, stamp: at(sequence), key: b"container", value: &value })
}

/// What is read, in order.
fn drain(spool: &mut Spool) -> Vec<u64> {
    let mut read = Vec::new();
    while let Some(unread) = spool.next_unread() {
        assert!(unread.value.iter().all(|byte| u64::from(*byte) == unread.sequence % 256), "{}", unread.sequence);
        read.push(unread.sequence);
    }
    read
}

fn lost(gaps: &Gaps) -> BTreeMap<String, (Option<u64>, i64, i64)> {
    gaps.iter().map(|(reason, gap)| (reason.to_owned(), (gap.lost, gap.from_ns, gap.to_ns))).collect()
}

fn segments(directory: &TempDir) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|is| is == "segment")).collect();
    segments.sort();
    segments
}

#[test]
fn what_is_not_acknowledged_is_read_again_after_a_restart_and_the_rest_is_gone() {
    let directory = TempDir::new().unwrap();
    let mut spool = open(&directory);
    (1..=3_000).for_each(|sequence| append(&mut spool, sequence, 1_000).unwrap());
    assert_eq!(drain(&mut spool), (1..=3_000).collect::<Vec<_>>());
    append(&mut spool, 3_001, 10).unwrap();
    assert_eq!(drain(&mut spool), [3_001], "what was written since");
    let before = segments(&directory).len();
    spool.forget_done(2_500);
    assert!(segments(&directory).len() < before);
    drop(spool);

    let mut spool = open(&directory);
    assert_eq!(spool.next_sequence(), 3_002);
    let left = drain(&mut spool);
    assert_eq!(left, (2_501..=3_001).collect::<Vec<_>>());
    assert_eq!(spool.take_given_up(), GivenUp::default());
    spool.forget_done(3_001);
    assert_eq!((spool.bytes(), spool.records(), segments(&directory).len()), (0, 0, 0));
    drop(spool);
    assert_eq!(open(&directory).next_sequence(), 3_002, "numbers are not used again");
}

#[test]
fn at_the_bound_the_oldest_go_and_are_counted_exactly() {
    let directory = TempDir::new().unwrap();
    let mut spool = Spool::open(directory.path(), 4 * MIB, "run").unwrap();
    (1..=10_000).for_each(|sequence| append(&mut spool, sequence, 1_000).unwrap());
    assert!(spool.bytes() <= 4 * MIB);
    let gone = 10_000 - spool.records();
    assert!(gone > 5_000);
    assert_eq!(spool.take_given_up().records, BTreeMap::from([(Reason::SpoolFull, gone)]));
    let expected = BTreeMap::from([("spool_full".to_owned(), (Some(gone), 1, i64::try_from(gone).unwrap()))]);
    assert_eq!(lost(&spool.checkpoint().gaps), expected);
    drop(spool);
    // As after a kill: what was given up is still known, and is not taken for damage.
    let mut spool = open(&directory);
    assert_eq!(lost(&spool.checkpoint().gaps), expected);
    assert_eq!(drain(&mut spool), (gone + 1..=10_000).collect::<Vec<_>>());
    assert_eq!(spool.take_given_up(), GivenUp::default());
}

#[test]
fn what_is_on_its_way_to_kafka_is_not_given_up() {
    let directory = TempDir::new().unwrap();
    let mut spool = Spool::open(directory.path(), 3 * MIB, "run").unwrap();
    append(&mut spool, 1, 1_000).unwrap();
    assert_eq!(spool.next_unread().unwrap().sequence, 1);
    (2..=5_000).for_each(|sequence| append(&mut spool, sequence, 1_000).unwrap());
    let gone = spool.take_given_up().records[&Reason::SpoolFull];
    let read = drain(&mut spool);
    assert_eq!(read.len() as u64 + gone + 1, 5_000);
    assert_eq!(read[0], 2, "the segment that was begun stayed");
    assert!(read.is_sorted());
}

/// A spool of nine records in one segment; the checkpoint knows of all.
fn small() -> (TempDir, PathBuf, Vec<u8>) {
    let directory = TempDir::new().unwrap();
    let mut spool = open(&directory);
    (1..=9).for_each(|sequence| append(&mut spool, sequence, 20).unwrap());
    spool.write_checkpoint();
    drop(spool);
    let segment = segments(&directory).remove(0);
    let bytes = fs::read(&segment).unwrap();
    (directory, segment, bytes)
}

#[test]
fn a_segment_that_is_cut_anywhere_gives_its_whole_records_and_the_others_are_counted() {
    let (directory, segment, bytes) = small();
    let frame = bytes.len() / 9;
    for cut in 0..bytes.len() {
        fs::write(&segment, &bytes[..cut]).unwrap();
        let mut spool = open(&directory);
        let whole = (cut / frame) as u64;
        assert_eq!(drain(&mut spool), (1..=whole).collect::<Vec<_>>(), "cut at {cut}");
        let counted = spool.take_given_up().records.get(&Reason::Damaged).copied().unwrap_or(0);
        assert_eq!(counted, 9 - whole, "the checkpoint knows of nine; cut at {cut}");
        drop(spool);
    }
}

#[test]
fn a_changed_byte_costs_one_record_which_is_counted() {
    let (directory, segment, bytes) = small();
    let frame = bytes.len() / 9;
    for byte in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 0x21;
        fs::write(&segment, &damaged).unwrap();
        let mut spool = open(&directory);
        let hit = (byte / frame) as u64 + 1;
        let others: Vec<u64> = (1..=9).filter(|sequence| *sequence != hit).collect();
        assert_eq!(drain(&mut spool), others, "byte {byte}");
        assert_eq!(spool.take_given_up().records, BTreeMap::from([(Reason::Damaged, 1)]), "byte {byte}");
        let (count, from_ns, to_ns) = lost(&spool.checkpoint().gaps)["spool_damaged"];
        let hit = i64::try_from(hit).unwrap();
        let is_between = (from_ns < hit || hit == 1) && (to_ns > hit || hit == 9);
        assert!(count == Some(1) && is_between, "{from_ns} to {to_ns}, of {hit}");
    }
}

#[test]
fn what_is_damaged_while_the_collector_runs_is_counted_too() {
    let directory = TempDir::new().unwrap();
    let mut spool = open(&directory);
    (1..=2_000).for_each(|sequence| append(&mut spool, sequence, 1_000).unwrap());
    let second = &segments(&directory)[1];
    let mut bytes = fs::read(second).unwrap();
    bytes[5_000] ^= 1;
    fs::write(second, bytes).unwrap();
    assert_eq!(drain(&mut spool).len(), 1_999);
    assert_eq!(spool.take_given_up().records, BTreeMap::from([(Reason::Damaged, 1)]));
}

#[test]
fn files_that_are_not_its_own_are_left_alone_and_two_collectors_do_not_share_a_spool() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("notes.segment"), b"mine").unwrap();
    let mut spool = open(&directory);
    append(&mut spool, 1, 10).unwrap();
    let second = Spool::open(directory.path(), MIB, "other").unwrap_err();
    assert!(second.to_string().contains("another collector uses the spool"), "{second}");
    drop(spool);
    assert_eq!(drain(&mut open(&directory)), [1]);
    assert_eq!(fs::read(directory.path().join("notes.segment")).unwrap(), b"mine");
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = format!("{:#}", Spool::open(&file, MIB, "run").unwrap_err());
    assert!(error.contains("DRIFTLINE_SPOOL_DIR") && error.contains("file"), "{error}");
}

/// Not a test of its own: what [`a_killed_writer_leaves_what_it_had_written`] starts and kills.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
fn child_that_writes() {
    let Ok(directory) = std::env::var(CHILD_DIRECTORY) else { return };
    let mut spool = Spool::open(Path::new(&directory), 1_024 * MIB, "child").unwrap();
    let mut out = io::stdout();
    for sequence in 1.. {
        append(&mut spool, sequence, usize::try_from(sequence % 3_000).unwrap()).unwrap();
        writeln!(out, "wrote {sequence}").unwrap();
    }
}

#[test]
fn a_killed_writer_leaves_what_it_had_written() {
    for written in [1, 500, 4_000] {
        let directory = TempDir::new().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "spool::tests::child_that_writes", "--nocapture"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let numbers = lines.filter_map(|line| line.unwrap().rsplit_once("wrote ").map(|(_, number)| number.to_owned()));
        let last: u64 = numbers.take(written).last().unwrap().parse().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let mut spool = open(&directory);
        let read = drain(&mut spool);
        assert!(read.len() as u64 >= last, "{} of {last}", read.len());
        assert_eq!(read, (1..=read.len() as u64).collect::<Vec<_>>());
        assert!(spool.take_given_up().records.values().sum::<u64>() <= 1, "a torn record at most");
    }
}

/// A file system that is soon full.
struct Small(TempDir);

impl Small {
    fn mount(mib: u64) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn on_a_full_disk_the_oldest_go_are_counted_and_nothing_grows() {
    let Some(small) = Small::mount(4) else { return skip("disk full", "needs root to mount a tmpfs") };
    let mut spool = Spool::open(small.0.path(), 1_024 * MIB, "run").unwrap();
    let before = resident_kib();
    let mut written = 0_u64;
    (1..=50_000).for_each(|sequence| written += u64::from(append(&mut spool, sequence, 1_000).is_ok()));
    assert!(resident_kib() < before + 4_096, "{} KiB from {before}", resident_kib());
    assert_eq!(written, 50_000, "there is always an older segment to make room");
    let gone = spool.take_given_up().records;
    assert_eq!(gone.keys().copied().collect::<Vec<_>>(), [Reason::DiskFull]);
    let (count, from_ns, to_ns) = lost(&spool.checkpoint().gaps)["disk_full"];
    assert_eq!((count, from_ns), (Some(gone[&Reason::DiskFull]), 1));
    spool.write_checkpoint();
    drop(spool);
    let mut spool = Spool::open(small.0.path(), 1_024 * MIB, "run").unwrap();
    let read = drain(&mut spool);
    let first = u64::try_from(to_ns).unwrap() + 1;
    assert_eq!(read, (first..=50_000).collect::<Vec<_>>());
    assert_eq!(read.len() as u64 + count.unwrap(), 50_000);
    assert_eq!(lost(&spool.checkpoint().gaps).len(), 1, "the count outlives the process, and nothing is damaged");
}

#[test]
fn on_a_disk_that_others_filled_records_are_refused_until_there_is_room() {
    let Some(small) = Small::mount(2) else { return skip("disk filled by others", "needs root to mount a tmpfs") };
    let mut spool = Spool::open(small.0.path(), 1_024 * MIB, "run").unwrap();
    append(&mut spool, 1, 1_000).unwrap();
    let filler = small.0.path().join("filler");
    let filled = fs::write(&filler, vec![1; usize::try_from(4 * MIB).unwrap()]);
    assert_eq!(filled.unwrap_err().kind(), ErrorKind::StorageFull);
    let refused: Vec<u64> = (2..=100).filter(|sequence| append(&mut spool, *sequence, 1_000).is_err()).collect();
    spool.write_checkpoint();
    assert!(!refused.is_empty(), "only a page could be had, again and again");
    fs::remove_file(filler).unwrap();
    append(&mut spool, 101, 1_000).unwrap();
    drop(spool);
    let mut spool = Spool::open(small.0.path(), 1_024 * MIB, "run").unwrap();
    let read = drain(&mut spool);
    assert!(read.is_sorted() && read.last() == Some(&101));
    let given_up = lost(&spool.checkpoint().gaps);
    let gone = given_up.get("disk_full").map_or(0, |(count, ..)| count.unwrap());
    assert_eq!(read.len() as u64 + gone + refused.len() as u64, 101);
    assert!(!given_up.contains_key("spool_damaged"), "{given_up:?}");
}

/// Says that a test did not run: here, and where the whole test run gathers it.
#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    let Ok(path) = std::env::var("DRIFTLINE_SKIPPED") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{test}\t{reason}").unwrap();
}
