//! Opens the file that was executed, and hashes it only if it still is that file.
//!
//! A container's owner decides what lies at a path, when it changes, and what a lookup runs into. So: a handle without
//! access first (`O_PATH`, which runs no driver), compared with what the kernel saw; only then a handle to read by.
//! Lookups stay below the container's root, and on its mount unless the file is known to lie on another.

use driftline_collector_core::mounts::Reach;
use driftline_collector_core::raw::magic;
use driftline_collector_core::{
    Crossing, Dev, Digest, DigestJob, DigestOutcome, DigestSubject, NamedFacts, RawExec, RawFile, inner_mount, limits,
    mounts,
};
use driftline_schemas::{Mount, Sha256};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp, fstatfs, inotify, open, openat2,
    readlinkat, statx,
};
use rustix::io::Errno;
use sha2::Digest as _;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::proc::Proc;

mod name;

/// Bytes in one read: the second-level cache of small machines.
const BUFFER_BYTES: usize = 256 << 10;

/// The executable of a process as a handle without access: there while the process runs it, whatever became of the
/// path. Calls no file system.
fn executable_of(proc: &Proc, pid: u32) -> Option<OwnedFd> {
    open(proc.path(format!("{pid}/exe")), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// An executable that was opened while its process ran, unchanged: it can be hashed even if it is removed meanwhile.
#[derive(Debug)]
pub struct CapturedFile {
    handle: OwnedFd,
    before: Statx,
    reading: Reading,
    is_settled: bool,
    _place: Arc<()>,
}

/// Opens the executable of an exec: what the process runs or, when it is over already, what still lies at the path in
/// its parent's root directory. Takes about 30 µs. The result holds `place` until it is hashed or dropped.
#[must_use]
pub fn capture(proc: &Proc, exec: &RawExec, bytes_max: u64, now_ns: i64, place: &Arc<()>) -> Option<CapturedFile> {
    let by_path = || {
        let is_on_root = exec.file.mnt_id == exec.root_mnt_id && !exec.is_chrooted() && !exec.has_parent_outside();
        let parent =
            exec.parent().map(|parent| parent.pid).filter(|_| is_on_root && !mounts::is_refused(exec.root_fs_magic))?;
        look_up(proc, parent, &exec.path, Crossing::Stay).ok()
    };
    let begin = |handle| capture_handle(handle, &exec.file, bytes_max, now_ns, Arc::clone(place));
    executable_of(proc, exec.pid).and_then(begin).or_else(|| by_path().and_then(begin))
}

fn capture_handle(
    handle: OwnedFd,
    seen: &RawFile,
    bytes_max: u64,
    now_ns: i64,
    place: Arc<()>,
) -> Option<CapturedFile> {
    let before = facts(&handle).filter(|facts| is_same(facts, seen))?;
    CapturedFile::begin(handle, before, bytes_max, now_ns, place).ok()
}

impl CapturedFile {
    /// Begins to read a file that was like `before`, and still has to be.
    pub(crate) fn begin(
        handle: OwnedFd,
        before: Statx,
        bytes_max: u64,
        now_ns: i64,
        place: Arc<()>,
    ) -> Result<Self, Digest> {
        let reading = Reading::begin(&handle, &before, bytes_max)?;
        Ok(Self { handle, before, reading, is_settled: is_settled(&before, now_ns), _place: place })
    }

    /// Hashes it.
    pub(crate) fn finish(self) -> DigestOutcome {
        let digest = self.reading.finish(&self.handle, &self.before);
        DigestOutcome { is_settled: self.is_settled, ..DigestOutcome::of(digest) }
    }
}

/// Hashes the subject of a job. `captured` is its executable when the reader captured it; `now_ns` is the wall clock.
#[must_use]
pub fn digest(
    proc: &Proc,
    job: &DigestJob,
    captured: Option<CapturedFile>,
    bytes_max: u64,
    now_ns: i64,
) -> DigestOutcome {
    match (job.subject, captured) {
        (DigestSubject::File(_), Some(captured)) => captured.finish(),
        (DigestSubject::File(seen), None) => digest_of_file(proc, job, &seen, bytes_max, now_ns),
        (DigestSubject::Named { executed_ns, .. }, _) => digest_of_named(proc, job, executed_ns, bytes_max),
    }
}

fn digest_of_file(proc: &Proc, job: &DigestJob, seen: &RawFile, bytes_max: u64, now_ns: i64) -> DigestOutcome {
    // What the process runs by now may be another program, which proves nothing; what lies at the path by now does.
    let running = executable_of(proc, job.pid).filter(|running| facts(running).is_some_and(|it| has_number(&it, seen)));
    let by_path = job.roots.iter().map(|root| look_up(proc, *root, &job.path, job.crossing));
    let mut missed = Digest::Gone;
    for found in running.map(Ok).into_iter().chain(by_path) {
        match found.map(|handle| (facts(&handle), handle)) {
            Ok((Some(facts), handle)) if is_same(&facts, seen) => {
                let digest = hash(&handle, &facts, bytes_max);
                return DigestOutcome { is_settled: is_settled(&facts, now_ns), ..DigestOutcome::of(digest) };
            }
            Ok(_) => missed = Digest::Changed,
            Err(_) if missed == Digest::Changed => {}
            Err(why) => missed = why,
        }
    }
    DigestOutcome::of(missed)
}

fn is_settled(facts: &Statx, now_ns: i64) -> bool {
    now_ns.saturating_sub(nanoseconds(facts.stx_ctime)) >= limits::SETTLED
}

fn digest_of_named(proc: &Proc, job: &DigestJob, executed_ns: i64, bytes_max: u64) -> DigestOutcome {
    let mut missed = Digest::Gone;
    for root in &job.roots {
        // What lies in the descriptor may be another file by now, of which nothing has a time.
        let found = match descriptor_number(&job.path) {
            Some(number) => descriptor_of(proc, job.pid, number).map(|handle| (handle, None)),
            None => look_up_extended(proc, *root, job).map(|(handle, name)| (handle, Some(name))),
        };
        match found {
            Ok((handle, name)) => {
                let mut outcome = digest_of_open(&handle, executed_ns, bytes_max);
                if let Some(named) = &mut outcome.named {
                    let changed_ns = name.and_then(|name| name_changed_ns(proc, job, executed_ns, &name, &handle));
                    named.name_changed_ns = changed_ns.unwrap_or(i64::MAX);
                    named.overlay_mount = overlay_mount(proc, *root, named);
                }
                return outcome;
            }
            Err(why) => missed = why,
        }
    }
    DigestOutcome::of(missed)
}

fn digest_of_open(handle: &OwnedFd, executed_ns: i64, bytes_max: u64) -> DigestOutcome {
    let Some(facts) = facts(handle) else { return DigestOutcome::of(Digest::Unreadable) };
    let named = named_facts(handle, &facts);
    let digest = if mounts::is_refused(named.fs_magic) {
        Digest::RefusedFs
    } else if nanoseconds(facts.stx_ctime) > executed_ns && !named.is_directory() {
        Digest::Changed
    } else {
        hash(handle, &facts, bytes_max)
    };
    DigestOutcome { named: Some(named), ..DigestOutcome::of(digest) }
}

/// A name under which a file was found.
struct FoundName {
    path: Vec<u8>,
    crossing: Crossing,
    /// It has the extension, because without it there was nothing.
    is_extended: bool,
}

/// By the first root that is still there: the process may have ended since the file was found.
fn name_changed_ns(proc: &Proc, job: &DigestJob, executed_ns: i64, name: &FoundName, handle: &OwnedFd) -> Option<i64> {
    let meanwhile_ns = executed_ns.saturating_sub(limits::WRITTEN_BEFORE);
    let file = facts(handle)?;
    job.roots.iter().find_map(|root| {
        let directory = root_of(proc, *root).ok()?;
        let changed_ns = name::changed_ns(directory, job.root_mnt_id, &name.path, name.crossing, meanwhile_ns, &file)?;
        let of_other_ns = if name.is_extended { directory_changed_ns(proc, *root, name)? } else { i64::MIN };
        Some(changed_ns.max(of_other_ns))
    })
}

/// Where a name was extended, there may have been a file without the extension until the directory changed last.
fn directory_changed_ns(proc: &Proc, root: u32, FoundName { path, crossing, .. }: &FoundName) -> Option<i64> {
    let directory = path.get(..=path.iter().rposition(|byte| *byte == b'/')?)?;
    let facts = facts(look_up(proc, root, directory, *crossing).ok()?)?;
    Some(nanoseconds(facts.stx_ctime))
}

/// The mount of a file on an overlay, if that shows it elsewhere: by the table of the process in whose root it was looked up.
fn overlay_mount(proc: &Proc, root: u32, named: &NamedFacts) -> Option<Mount> {
    let mnt_id = named.mnt_id.filter(|_| named.fs_magic == magic::OVERLAY)?;
    let process_root = readlinkat(rustix::fs::CWD, proc.path(format!("{root}/root")), Vec::new()).ok()?;
    inner_mount::in_table(&proc.text(format!("{root}/mountinfo")), process_root.as_bytes(), mnt_id)
}

/// The facts of a file that is known by its handle only.
pub(crate) fn named_facts(handle: impl AsFd, facts: &Statx) -> NamedFacts {
    let handle = handle.as_fd();
    let fs_magic = fstatfs(handle).map_or(0, |fs| u64::try_from(fs.f_type).unwrap_or(0));
    NamedFacts { path: path_of(handle), fs_magic, ..unnamed_facts(facts) }
}

/// The same without its path and file system, which take further calls.
pub(crate) fn unnamed_facts(facts: &Statx) -> NamedFacts {
    NamedFacts {
        path: Vec::new(),
        dev: dev_of(facts),
        ino: facts.stx_ino,
        size_bytes: i64::try_from(facts.stx_size).unwrap_or(i64::MAX),
        mode: facts.stx_mode,
        nlink: facts.stx_nlink,
        mtime_ns: nanoseconds(facts.stx_mtime),
        ctime_ns: nanoseconds(facts.stx_ctime),
        fs_magic: 0,
        mnt_id: mount_of(facts),
        overlay_mount: None,
        name_changed_ns: 0,
    }
}

/// `execveat` of a descriptor names a script `/dev/fd/N`, and a loader may be given that or `/proc/self/fd/N`; either keeps
/// the descriptor open. The links themselves are not followed when paths are looked up.
fn descriptor_number(path: &[u8]) -> Option<u32> {
    let number =
        [b"/dev/fd/".as_slice(), b"/proc/self/fd/"].iter().find_map(|directory| path.strip_prefix(*directory))?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn descriptor_of(proc: &Proc, pid: u32, number: u32) -> Result<OwnedFd, Digest> {
    open(proc.path(format!("{pid}/fd/{number}")), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(why)
}

/// The file of this name, or else that with its extension.
fn look_up_extended(proc: &Proc, root: u32, job: &DigestJob) -> Result<(OwnedFd, FoundName), Digest> {
    let look_up = |path: Vec<u8>, is_extended| {
        let (handle, crossing) = look_up_named(proc, root, job, &path)?;
        Ok((handle, FoundName { path, crossing, is_extended }))
    };
    match (look_up(job.path.clone(), false), job.extension) {
        (Err(Digest::Gone), Some(extension)) => look_up([job.path.as_slice(), extension.as_bytes()].concat(), true),
        (found, _) => found,
    }
}

/// A handle without access to a subject that is known by name only. The job of a container's first exec is made before the
/// container's mounts are known, and a link may lead to another mount than its path does. So where the lookup would leave the
/// root's mount, the process's own mount table decides whether it may.
fn look_up_named(proc: &Proc, root: u32, job: &DigestJob, path: &[u8]) -> Result<(OwnedFd, Crossing), Digest> {
    let reach = || mounts::reach(&proc.text(format!("{root}/mountinfo")), path);
    match (open_below(proc, root, path, job.crossing), job.crossing) {
        (Err(Errno::XDEV), Crossing::Stay) => match reach() {
            Reach::Readable => look_up(proc, root, path, Crossing::Cross).map(|handle| (handle, Crossing::Cross)),
            Reach::Refused => Err(Digest::RefusedFs),
            Reach::Unsure => Err(Digest::Unreadable),
        },
        (found, crossing) => found.map(|handle| (handle, crossing)).map_err(why),
    }
}

/// A handle without access to what lies at a path in the root directory of a process.
pub(crate) fn look_up(proc: &Proc, root: u32, path: &[u8], crossing: Crossing) -> Result<OwnedFd, Digest> {
    open_below(proc, root, path, crossing).map_err(why)
}

fn open_below(proc: &Proc, root: u32, path: &[u8], crossing: Crossing) -> Result<OwnedFd, Errno> {
    if !path.starts_with(b"/") {
        return Err(Errno::NOENT);
    }
    let root = root_of(proc, root)?;
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if crossing == Crossing::Stay {
        resolve |= ResolveFlags::NO_XDEV;
    }
    openat2(&root, Path::new(OsStr::from_bytes(path)), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The root directory of a process.
fn root_of(proc: &Proc, pid: u32) -> Result<OwnedFd, Errno> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(proc.path(format!("{pid}/root")), directory, Mode::empty())
}

fn why(error: Errno) -> Digest {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::SRCH => Digest::Gone,
        _ => Digest::Unreadable,
    }
}

/// Without another call to the file system, which on FUSE could hang.
pub(crate) fn facts(handle: impl AsFd) -> Option<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(handle, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID).ok()
}

/// Whether this is the file that was executed, unchanged. It lies on the same superblock or mount, which the kernel's
/// record vouches for; overlays over several disks show other device numbers, so one of both has to do.
fn is_same(facts: &Statx, seen: &RawFile) -> bool {
    let same_place = dev_of(facts) == seen.dev || mount_of(facts) == Some(seen.mnt_id);
    same_place
        && has_number(facts, seen)
        && i64::try_from(facts.stx_size) == Ok(seen.size_bytes)
        && nanoseconds(facts.stx_ctime) == seen.ctime_ns
}

fn has_number(facts: &Statx, seen: &RawFile) -> bool {
    facts.stx_ino == seen.ino || facts.stx_ino == seen.real_ino
}

pub(crate) fn dev_of(facts: &Statx) -> Dev {
    Dev { major: facts.stx_dev_major, minor: facts.stx_dev_minor }
}

pub(crate) fn mount_of(facts: &Statx) -> Option<u32> {
    let known = StatxFlags::from_bits_retain(facts.stx_mask).contains(StatxFlags::MNT_ID);
    u32::try_from(facts.stx_mnt_id).ok().filter(|_| known)
}

pub(crate) fn nanoseconds(time: StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

fn hash(handle: &OwnedFd, before: &Statx, bytes_max: u64) -> Digest {
    match Reading::begin(handle, before, bytes_max) {
        Ok(reading) => reading.finish(handle, before),
        Err(refused) => refused,
    }
}

/// A file that is being hashed. It must be the same before and after; that is, its change time and size. Removing a file
/// changes its change time too, and programs that are removed at once are those that matter: so a file that lost a link
/// counts as the same if meanwhile nobody opened or wrote it, which a watch shows.
#[derive(Debug)]
struct Reading {
    file: File,
    watch: Option<Watch>,
    size_bytes: u64,
}

impl Reading {
    fn begin(handle: &OwnedFd, before: &Statx, bytes_max: u64) -> Result<Self, Digest> {
        if FileType::from_raw_mode(u32::from(before.stx_mode)) != FileType::RegularFile {
            return Err(Digest::Unreadable);
        }
        if before.stx_size > bytes_max {
            return Err(Digest::TooLarge);
        }
        let file = open_by_handle(handle).map_err(|_| Digest::Unreadable)?;
        let watch = Watch::begin(&name_of_handle(handle));
        match facts(handle) {
            Some(now) if is_unchanged(before, &now) => Ok(Self { file, watch, size_bytes: before.stx_size }),
            _ => Err(Digest::Changed),
        }
    }

    fn finish(self, handle: &OwnedFd, before: &Statx) -> Digest {
        let Some(sha256) = hash_all(self.file, self.size_bytes) else { return Digest::Unreadable };
        let Some(after) = facts(handle) else { return Digest::Unreadable };
        let only_removed = || is_only_removed(before, &after) && self.watch.is_some_and(|watch| watch.is_quiet());
        if is_unchanged(before, &after) || only_removed() { Digest::Hashed(sha256) } else { Digest::Changed }
    }
}

/// Names the handle's file, and not what is at its path by now.
fn name_of_handle(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// Opens the file of a handle without access, to be read. A pipe does not make it wait.
pub(crate) fn open_by_handle(handle: &OwnedFd) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(name_of_handle(handle), flags, Mode::empty()).map(File::from)
}

fn is_unchanged(before: &Statx, after: &Statx) -> bool {
    after.stx_size == before.stx_size && nanoseconds(after.stx_ctime) == nanoseconds(before.stx_ctime)
}

fn is_only_removed(before: &Statx, after: &Statx) -> bool {
    after.stx_size == before.stx_size
        && nanoseconds(after.stx_mtime) == nanoseconds(before.stx_mtime)
        && after.stx_nlink < before.stx_nlink
}

/// Inotify instances that watch nothing at the moment, as many as ever did at a time. To close one takes the kernel 5 to
/// 20 ms, for which an exec would wait in strict mode.
static IDLE: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Notices when a file is opened or written.
#[derive(Debug)]
struct Watch {
    /// There until it is dropped.
    instance: Option<OwnedFd>,
    number: i32,
}

impl Watch {
    fn begin(path: &str) -> Option<Self> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let instance = idle.or_else(|| inotify::init(flags).ok())?;
        let writing = inotify::WatchFlags::OPEN | inotify::WatchFlags::MODIFY | inotify::WatchFlags::CLOSE_WRITE;
        let number = inotify::add_watch(&instance, path, writing);
        let watch = Self { instance: Some(instance), number: number.unwrap_or(0) };
        number.is_ok().then_some(watch)
    }

    /// Whether nothing was opened or written. The event that the watch ends with its file does not count, nor do events that are
    /// left of another watch.
    fn is_quiet(&self) -> bool {
        let Some(instance) = &self.instance else { return false };
        let mut buffer = [MaybeUninit::uninit(); 512];
        let mut events = inotify::Reader::new(instance, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events() == inotify::ReadFlags::IGNORED => {}
                Ok(event) if event.wd() != self.number && event.wd() > 0 => {}
                Ok(_) => return false,
                Err(error) => return error == Errno::WOULDBLOCK,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(instance) = self.instance.take() else { return };
        // Its file may be gone, and the watch with it.
        let _ = inotify::remove_watch(&instance, self.number);
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
    }
}

/// At most one byte more than the file had: one that grows is noticed, and not read on.
fn hash_all(file: File, size_bytes: u64) -> Option<Sha256> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut rest = file.take(size_bytes.saturating_add(1));
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Some(Sha256(hasher.finalize().into())),
            Ok(count) => hasher.update(buffer.get(..count)?),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Path of an open file as its container sees it.
pub(crate) fn path_of(handle: BorrowedFd<'_>) -> Vec<u8> {
    let link = readlinkat(rustix::fs::CWD, format!("/proc/self/fd/{}", handle.as_raw_fd()), Vec::new());
    let path = link.map(std::ffi::CString::into_bytes).unwrap_or_default();
    path.strip_suffix(b" (deleted)").map(<[u8]>::to_vec).unwrap_or(path)
}

#[cfg(test)]
mod tests;
