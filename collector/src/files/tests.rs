use super::*;
use crate::hasher;
use driftline_collector_core::LoaderJob;
use driftline_schemas::ContainerId;
use std::os::unix::fs::PermissionsExt as _;

const MAX: u64 = 1 << 20;

/// A directory in which files are looked up as in a container: by the root of this process.
struct Case {
    directory: tempfile::TempDir,
    proc: Proc,
}

impl Case {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), proc: Proc::at(Path::new("/proc")) }
    }

    fn write(&self, name: &str, content: &[u8]) -> Vec<u8> {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.as_os_str().as_bytes().to_vec()
    }

    fn seen(&self, path: &[u8]) -> RawFile {
        let handle = open(OsStr::from_bytes(path), OFlags::PATH, Mode::empty()).unwrap();
        let facts = facts(&handle).unwrap();
        RawFile {
            dev: dev_of(&facts),
            ino: facts.stx_ino,
            real_ino: facts.stx_ino,
            size_bytes: i64::try_from(facts.stx_size).unwrap(),
            ctime_ns: nanoseconds(facts.stx_ctime),
            ..RawFile::default()
        }
    }

    fn job(&self, path: &[u8], subject: DigestSubject) -> DigestJob {
        DigestJob {
            container: ContainerId::from("c"),
            moment: driftline_collector_core::Moment { time_ns: 0, cpu: 0, seq: 0 },
            // No process has this number, so only the path is left.
            pid: u32::MAX,
            roots: vec![std::process::id()],
            path: path.to_vec(),
            crossing: Crossing::Cross,
            root_mnt_id: mount_of(&facts(root_of(&self.proc, std::process::id()).unwrap()).unwrap()).unwrap(),
            subject,
            loader: None,
            extension: None,
        }
    }

    fn file(&self, path: &[u8], seen: RawFile) -> Digest {
        digest(&self.proc, &self.job(path, DigestSubject::File(seen)), None, MAX, 0).digest
    }

    fn script(&self, path: &[u8], executed_ns: i64) -> DigestOutcome {
        digest(
            &self.proc,
            &self.job(path, DigestSubject::Named { executed_ns, cost_bytes: 0, by: RawFile::default() }),
            None,
            MAX,
            0,
        )
    }
}

#[test]
fn the_file_that_was_executed_is_hashed() {
    let case = Case::new();
    let path = case.write("x", b"program");
    assert_eq!(case.file(&path, case.seen(&path)), Digest::Hashed(Sha256::of(b"program")));
}

#[test]
fn a_file_that_changed_is_never_taken_for_the_one_executed() {
    let case = Case::new();
    let path = case.write("x", b"program");
    let seen = case.seen(&path);
    assert_eq!(case.file(&path, RawFile { size_bytes: 6, ..seen }), Digest::Changed);
    assert_eq!(case.file(&path, RawFile { ctime_ns: seen.ctime_ns - 1, ..seen }), Digest::Changed);
    let other = case.write("y", b"PROGRAM");
    assert_eq!(case.file(&other, seen), Digest::Changed);
    std::fs::remove_file(OsStr::from_bytes(&path)).unwrap();
    assert_eq!(case.file(&path, seen), Digest::Gone);
}

#[test]
fn only_regular_files_of_bounded_size_are_read() {
    let case = Case::new();
    let large = case.write("large", &vec![0; usize::try_from(MAX).unwrap() + 1]);
    assert_eq!(case.file(&large, case.seen(&large)), Digest::TooLarge);
    let pipe = case.directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let pipe = pipe.as_os_str().as_bytes().to_vec();
    assert_eq!(case.file(&pipe, case.seen(&pipe)), Digest::Unreadable);
}

#[test]
fn a_memfd_has_no_path_to_look_up() {
    let case = Case::new();
    assert_eq!(case.file(b"memfd:x", RawFile::default()), Digest::Gone);
}

#[test]
fn a_script_is_described_and_hashed_unless_it_changed_since() {
    let case = Case::new();
    let path = case.write("x.sh", b"#!/bin/sh\n");
    std::fs::set_permissions(OsStr::from_bytes(&path), std::fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = case.script(&path, i64::MAX);
    assert_eq!(outcome.digest, Digest::Hashed(Sha256::of(b"#!/bin/sh\n")));
    let script = outcome.named.unwrap();
    assert_eq!((script.path.as_slice(), script.size_bytes, script.mode), (path.as_slice(), 10, 0o100_755));
    let seen = case.seen(&path);
    assert!(script.name_changed_ns <= seen.ctime_ns);
    assert_eq!(case.script(&path, seen.ctime_ns - 1).digest, Digest::Changed);
    assert_eq!(case.script(b"/no/such", 0).digest, Digest::Gone);
}

#[test]
fn a_loader_is_hashed_beside_what_it_runs_and_judged_by_what_the_kernel_saw() {
    let case = Case::new();
    let (loader, program) = (case.write("ld.so", b"loader"), case.write("x", b"program"));
    let seen = case.seen(&loader);
    let hashed = |loader: LoaderJob| {
        let subject = DigestSubject::Named { executed_ns: i64::MAX, cost_bytes: 0, by: RawFile::default() };
        let job = DigestJob { loader: Some(loader), ..case.job(&program, subject) };
        let outcome = hasher::outcome(&case.proc, &job, None, MAX, i64::MAX, None);
        assert_eq!(outcome.digest, Digest::Hashed(Sha256::of(b"program")));
        (outcome.loader, outcome.to_remember())
    };
    let by = |seen| LoaderJob::Hash(Box::new(case.job(&loader, DigestSubject::File(seen))));
    let of_loader = Sha256::of(b"loader");
    assert_eq!(hashed(by(seen)), (Some(Digest::Hashed(of_loader)), Some(of_loader)));
    assert_eq!(hashed(by(RawFile { size_bytes: 1, ..seen })), (Some(Digest::Changed), None));
    assert_eq!(hashed(LoaderJob::Known(of_loader)), (Some(Digest::Hashed(of_loader)), None));
}

#[test]
fn an_interpreter_s_file_may_lack_its_extension_in_the_arguments() {
    let case = Case::new();
    let (main, plain) = (case.write("main.js", b"extended"), case.write("plain", b"plain"));
    case.write("plain.js", b"other");
    let digest_of = |path: &[u8]| {
        let subject = DigestSubject::Named { executed_ns: i64::MAX, cost_bytes: 0, by: RawFile::default() };
        let job = DigestJob { extension: Some(".js"), ..case.job(path, subject) };
        digest(&case.proc, &job, None, MAX, 0)
    };
    let extended = digest_of(main.strip_suffix(b".js").unwrap());
    let named = extended.named.unwrap();
    assert_eq!((extended.digest, &named.path), (Digest::Hashed(Sha256::of(b"extended")), &main));
    // Another file may have been there until the directory changed for the last time.
    let directory = open(case.directory.path(), OFlags::PATH, Mode::empty()).unwrap();
    assert_eq!(named.name_changed_ns, nanoseconds(facts(&directory).unwrap().stx_ctime));
    assert_eq!(digest_of(&plain).digest, Digest::Hashed(Sha256::of(b"plain")));
    assert_eq!(digest_of(b"/none").digest, Digest::Gone);
}

#[test]
fn an_interpreter_that_was_captured_is_hashed_although_it_is_gone() {
    let case = Case::new();
    let (interpreter, file) = (case.write("sh", b"interpreter"), case.write("x", b"program"));
    let seen = case.seen(&interpreter);
    let handle = open(Path::new(OsStr::from_bytes(&interpreter)), OFlags::PATH, Mode::empty()).unwrap();
    let captured = capture_handle(handle, &seen, MAX, i64::MAX, Arc::default()).unwrap();
    let subject = DigestSubject::Named { executed_ns: i64::MAX, cost_bytes: 0, by: RawFile::default() };
    let loader = LoaderJob::Hash(Box::new(case.job(&interpreter, DigestSubject::File(seen))));
    std::fs::remove_file(Path::new(OsStr::from_bytes(&interpreter))).unwrap();
    let job = DigestJob { loader: Some(loader), ..case.job(&file, subject) };
    let outcome = hasher::outcome(&case.proc, &job, Some(captured), MAX, i64::MAX, None);
    assert_eq!(outcome.digest, Digest::Hashed(Sha256::of(b"program")));
    assert_eq!(outcome.loader, Some(Digest::Hashed(Sha256::of(b"interpreter"))));
}

#[test]
fn a_lookup_does_not_leave_the_root_nor_follow_magic_links() {
    let case = Case::new();
    let link = case.directory.path().join("link");
    std::os::unix::fs::symlink("/proc/self/exe", &link).unwrap();
    assert_eq!(case.script(link.as_os_str().as_bytes(), i64::MAX).digest, Digest::Unreadable);
}

#[test]
fn what_lies_in_a_descriptor_may_be_another_file_than_that_of_the_exec() {
    let case = Case::new();
    let path = case.write("x.sh", b"#!/bin/sh\n");
    let file = File::open(OsStr::from_bytes(&path)).unwrap();
    let subject = DigestSubject::Named { executed_ns: i64::MAX, cost_bytes: 0, by: RawFile::default() };
    let descriptor = format!("/dev/fd/{}", file.as_raw_fd());
    let job = DigestJob { pid: std::process::id(), ..case.job(descriptor.as_bytes(), subject) };
    let outcome = digest(&case.proc, &job, None, MAX, 0);
    assert_eq!(outcome.digest, Digest::Hashed(Sha256::of(b"#!/bin/sh\n")));
    assert_eq!(outcome.named.unwrap().name_changed_ns, i64::MAX);
}

/// Hashes `x` while `meanwhile` happens to it.
fn hash_while(meanwhile: impl FnOnce(&Path)) -> Digest {
    let case = Case::new();
    let path = case.write("x", b"program");
    let path = Path::new(OsStr::from_bytes(&path));
    let handle = open(path, OFlags::PATH, Mode::empty()).unwrap();
    let before = facts(&handle).unwrap();
    let Ok(reading) = Reading::begin(&handle, &before, MAX) else { panic!("cannot be read") };
    meanwhile(path);
    reading.finish(&handle, &before)
}

#[test]
fn a_file_may_be_removed_while_it_is_hashed_but_not_written() {
    use rustix::fs::{Timespec, Timestamps, utimensat};
    let hashed = Digest::Hashed(Sha256::of(b"program"));
    assert_eq!(hash_while(|_| ()), hashed);
    assert_eq!(hash_while(|path| std::fs::remove_file(path).unwrap()), hashed);
    assert_eq!(hash_while(|path| std::fs::write(path, b"PROGRAM").unwrap()), Digest::Changed);
    assert_eq!(
        hash_while(|path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap()),
        Digest::Changed
    );
    // Other content under the old times, then removed: looks like a removal, were it not for the watch.
    let disguised = hash_while(|path| {
        let handle = open(path, OFlags::PATH, Mode::empty()).unwrap();
        let old = facts(&handle).unwrap().stx_mtime;
        let time = Timespec { tv_sec: old.tv_sec, tv_nsec: i64::from(old.tv_nsec) };
        std::fs::write(path, b"PROGRAM").unwrap();
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(rustix::fs::CWD, path, &times, AtFlags::empty()).unwrap();
        std::fs::remove_file(path).unwrap();
    });
    assert_eq!(disguised, Digest::Changed);
}

#[test]
fn a_running_program_is_caught_and_hashed_though_it_is_removed() {
    let case = Case::new();
    let program = std::fs::read("/bin/sleep").unwrap();
    let path = case.write("x", &program);
    let path = Path::new(OsStr::from_bytes(&path));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = std::process::Command::new(path).arg("60").spawn().unwrap();
    let seen = case.seen(path.as_os_str().as_bytes());
    assert!(
        capture_handle(
            executable_of(&case.proc, child.id()).unwrap(),
            &RawFile { ctime_ns: 0, ..seen },
            MAX,
            0,
            Arc::default()
        )
        .is_none()
    );
    let captured = capture_handle(executable_of(&case.proc, child.id()).unwrap(), &seen, MAX, 0, Arc::default());
    std::fs::remove_file(path).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let job = case.job(path.as_os_str().as_bytes(), DigestSubject::File(seen));
    assert_eq!(digest(&case.proc, &job, captured, MAX, 0).digest, Digest::Hashed(Sha256::of(&program)));
}
