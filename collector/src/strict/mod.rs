//! Strict mode: files are hashed as they are opened to be executed, before they can be removed or overwritten. Off unless
//! `DRIFTLINE_STRICT` is set, because it needs `CAP_SYS_ADMIN` and costs every exec in a container some time.
//!
//! The kernel reports each such file by fanotify, with a descriptor ([`opened`]). With `notify` the exec
//! goes on meanwhile; with `permit` it waits until the file is hashed, at most for the set time: nothing is ever denied.
//! When the core commands a digest later, it is known if it is of that very file (core's `open_exec`).
//! [`mod@mark`] selects what the kernel watches: the mounts of each container, from when its first process is known.
//!
//! What is deliberately absent: hashing of what the image's layers hold, unchanged. That is judged by its path alone.
//!
//! If the collector dies the kernel lets every waiting exec go. None of the threads here executes anything, so none can
//! wait for itself, and a descriptor that fanotify opened raises no events.

use driftline_collector_core::digest::{Budget, DigestCache};
use driftline_collector_core::open_exec::{OpenExec, OpenExecLog, OpenExecOrder};
use driftline_collector_core::{Dev, Digest, DigestJob, DigestOutcome, DigestSubject, NamedFacts, RawFile, limits};
use driftline_schemas::ContainerId;
use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags};
use prometheus::{IntCounter, IntCounterVec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::proc::Proc;
use crate::rights::{self, RightsError};

mod hash;
mod loaded;
mod mark;
mod opened;
mod pending;

/// Threads that hash: as many as hash for the records.
const THREADS: usize = 2;

/// Containers that wait to be marked: as many as a node may start at once.
const MARK_QUEUE: usize = 1_024;

/// What is done while a program is about to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrictMode {
    /// Nothing.
    Off,
    /// Its file is hashed meanwhile.
    Notify,
    /// It waits until its file is hashed.
    Permit,
}

/// How strict the collector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrictSettings {
    /// Whether, and how.
    pub mode: StrictMode,
    /// Longest time that an exec waits.
    pub wait: Duration,
}

/// Why strict mode is not possible.
#[derive(Debug, thiserror::Error)]
pub enum StrictError {
    /// A right is missing.
    #[error("DRIFTLINE_STRICT: missing CAP_SYS_ADMIN; start the collector with it too, or set DRIFTLINE_STRICT=off")]
    NoRight,
    /// The kernel refuses.
    #[error("DRIFTLINE_STRICT: this kernel gives no fanotify group: {0}; set DRIFTLINE_STRICT=off")]
    Refused(Errno),
    /// The others could not be given up.
    #[error("{0}")]
    Rights(#[from] RightsError),
    /// No thread, or no answer about rights.
    #[error("DRIFTLINE_STRICT: {0}")]
    System(#[from] io::Error),
}

/// Strict mode before rights are given up.
#[derive(Debug)]
pub struct Prepared {
    settings: StrictSettings,
    group: Arc<Fanotify>,
    images: Arc<Mutex<ImageRoots>>,
    first_processes: SyncSender<(ContainerId, i32)>,
    failed: Arc<mark::Failed>,
}

impl Prepared {
    /// Makes the fanotify group, and starts the one thread that keeps `CAP_SYS_ADMIN`. `None` when it is off.
    ///
    /// # Errors
    /// When it is on and not possible.
    pub fn new(settings: StrictSettings, proc: &Proc) -> Result<Option<Self>, StrictError> {
        if settings.mode == StrictMode::Off {
            return Ok(None);
        }
        if !rights::has_for_strict()? {
            return Err(StrictError::NoRight);
        }
        let group = Arc::new(group(settings.mode).map_err(StrictError::Refused)?);
        raise_descriptors()?;
        let images = Arc::default();
        let failed = Arc::default();
        let (first_processes, queue) = sync_channel(MARK_QUEUE);
        let marker = mark::Marker::new(
            settings.mode,
            Arc::clone(&group),
            proc.clone(),
            Arc::clone(&images),
            Arc::clone(&failed),
        );
        marker.start(queue)?;
        Ok(Some(Self { settings, group, images, first_processes, failed }))
    }
}

/// Whether the kernel allows what strict mode needs.
///
/// # Errors
/// With the kernel's error.
pub fn try_group() -> Result<(), StrictError> {
    if !rights::has_for_strict()? {
        return Err(StrictError::NoRight);
    }
    group(StrictMode::Permit).map(|_| ()).map_err(StrictError::Refused)
}

/// Marks have their own limit here, events the kernel's.
fn group(mode: StrictMode) -> Result<Fanotify, Errno> {
    let class = if mode == StrictMode::Permit { InitFlags::FAN_CLASS_CONTENT } else { InitFlags::FAN_CLASS_NOTIF };
    let flags =
        InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | InitFlags::FAN_UNLIMITED_MARKS | InitFlags::FAN_REPORT_TID;
    Fanotify::init(
        class | flags,
        EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC | EventFFlags::O_NONBLOCK,
    )
}

/// Where no descriptor is left for a file, the kernel denies its execution.
fn raise_descriptors() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// The counters, by label.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) opened: IntCounter,
    pub(crate) image: IntCounter,
    pub(crate) remembered: IntCounter,
    pub(crate) hashed: IntCounter,
    pub(crate) not_hashed: IntCounter,
    pub(crate) busy: IntCounter,
    pub(crate) over_budget: IntCounter,
    pub(crate) timed_out: IntCounter,
    pub(crate) overflow: IntCounter,
    pub(crate) failed: IntCounter,
}

impl Counts {
    fn of(all: &IntCounterVec) -> Self {
        let of = |what| all.with_label_values(&[what]);
        Self {
            opened: of("opened"),
            image: of("image"),
            remembered: of("remembered"),
            hashed: of("hashed"),
            not_hashed: of("not_hashed"),
            busy: of("busy"),
            over_budget: of("over_budget"),
            timed_out: of("timed_out"),
            overflow: of("overflow"),
            failed: of("failed"),
        }
    }
}

/// Strict mode while it runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Strict {
    shared: Arc<Shared>,
    first_processes: SyncSender<(ContainerId, i32)>,
    stop: Arc<AtomicBool>,
    marks_failed: Arc<mark::Failed>,
}

impl Strict {
    /// Starts its threads. `counts` has one label.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(prepared: Prepared, proc: &Proc, bytes_max: u64, counts: &IntCounterVec) -> io::Result<Arc<Self>> {
        let Prepared { settings, group, images, first_processes, failed } = prepared;
        let counts = Counts::of(counts);
        let order = if settings.mode == StrictMode::Permit { OpenExecOrder::Strict } else { OpenExecOrder::Loose };
        let shared = Arc::new(Shared::new(order, images, counts));
        let stop = Arc::default();
        let queue = hash::start(THREADS, &shared, proc, bytes_max)?;
        let events = opened::Events::new(settings, group, queue, Arc::clone(&shared), bytes_max);
        events.start(Arc::clone(&stop), Arc::clone(&failed))?;
        Ok(Arc::new(Self { shared, first_processes, stop, marks_failed: failed }))
    }

    /// Watches a container from now on. The kernel forgets it with the container's mounts.
    pub fn watch(&self, container: &ContainerId, first_process: i32) {
        if self.first_processes.try_send((container.clone(), first_process)).is_err() {
            self.marks_failed.note();
        }
    }

    /// The digest of a job's file, if it was hashed as it was opened.
    #[must_use]
    pub fn outcome(&self, job: &DigestJob) -> Option<DigestOutcome> {
        let state = self.shared.lock();
        let number = match &job.subject {
            DigestSubject::File(seen) => state.open_execs.of_file(seen),
            DigestSubject::Named { by, .. } => state.open_execs.of_named(job.pid, job.moment, by, &job.path),
        }?;
        let patience = Duration::from_nanos(limits::DIGEST_WAIT.unsigned_abs());
        let is_hashing = |state: &mut StrictState| {
            state.open_execs.get_mut(number).is_some_and(|event| matches!(event.content, OpenedContent::Hashing))
        };
        let waited = self.shared.finished.wait_timeout_while(state, patience, is_hashing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let event = state.open_execs.get_mut(number)?;
        let OpenedContent::Known(digest @ Digest::Hashed(_), is_settled) = event.content else { return None };
        match job.subject {
            DigestSubject::File(_) => Some(DigestOutcome { is_settled, ..DigestOutcome::of(digest) }),
            DigestSubject::Named { executed_ns, .. } if event.facts.ctime_ns <= executed_ns => {
                Some(DigestOutcome { named: Some(event.facts.clone()), ..DigestOutcome::of(digest) })
            }
            DigestSubject::Named { .. } => None,
        }
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// What is known of the content of an opened file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OpenedContent {
    /// Its digest is on its way.
    Hashing,
    /// How its hashing ended, and whether the file had not changed for a while.
    Known(Digest, bool),
    /// Nothing: it is only known that it was opened.
    Unknown,
}

/// What the threads share.
#[derive(Debug)]
pub(crate) struct StrictState {
    pub(crate) open_execs: OpenExecLog<OpenedContent>,
    digests: DigestCache,
    budgets: BTreeMap<Dev, Budget>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<StrictState>,
    /// A file was hashed.
    finished: Condvar,
    images: Arc<Mutex<ImageRoots>>,
    /// One clone for each file that is being hashed, or waits for it.
    places: Arc<()>,
    pub(crate) counts: Counts,
}

/// Whether an opened file is hashed.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It is to be hashed; its number and place.
    Hash(u64, Arc<()>),
    /// Nothing is to be done.
    Done,
}

impl Shared {
    fn new(order: OpenExecOrder, images: Arc<Mutex<ImageRoots>>, counts: Counts) -> Self {
        let state = StrictState {
            open_execs: OpenExecLog::new(order),
            digests: DigestCache::default(),
            budgets: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), finished: Condvar::new(), images, places: Arc::default(), counts }
    }

    fn lock(&self) -> MutexGuard<'_, StrictState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a file whose content need not be known, where the thread has earlier events: it shows what was opened before it.
    pub(crate) fn pass(&self, event: OpenExec<OpenedContent>) {
        let mut state = self.lock();
        if state.open_execs.knows(event.thread) {
            state.open_execs.add(event);
        }
    }

    /// Logs a file whose digest is needed, and decides whether to hash it: not if the digest is known, nor if too many files are
    /// being hashed, or too much of its file system was.
    pub(crate) fn admit(&self, mut event: OpenExec<OpenedContent>, bytes_max: u64, now_ns: i64) -> Admitted {
        let mut state = self.lock();
        let file = raw_file(&event.facts);
        let size_bytes = u64::try_from(file.size_bytes).unwrap_or(u64::MAX);
        if let Some(sha256) = state.digests.get(&file) {
            self.counts.remembered.inc();
            event.content = OpenedContent::Known(Digest::Hashed(sha256), true);
        } else if size_bytes > bytes_max {
            self.counts.not_hashed.inc();
            event.content = OpenedContent::Known(Digest::TooLarge, false);
        } else if !self.has_place(&state, file.dev) {
            self.counts.busy.inc();
            event.content = OpenedContent::Unknown;
        } else if !state.may_read(file.dev, size_bytes, now_ns) {
            self.counts.over_budget.inc();
            event.content = OpenedContent::Unknown;
        } else {
            event.content = OpenedContent::Hashing;
            return Admitted::Hash(state.open_execs.add(event), Arc::clone(&self.places));
        }
        state.open_execs.add(event);
        Admitted::Done
    }

    fn has_place(&self, state: &StrictState, dev: Dev) -> bool {
        let is_of_it = |event: &&OpenExec<OpenedContent>| {
            matches!(event.content, OpenedContent::Hashing) && event.facts.dev == dev
        };
        Arc::strong_count(&self.places) <= limits::OPEN_EXECS_HASHED
            && state.open_execs.iter().filter(is_of_it).count() < limits::OPEN_EXECS_HASHED_EACH
    }

    /// Takes the outcome of hashing a file.
    pub(crate) fn finish(&self, number: u64, digest: Digest, is_settled: bool) {
        let mut state = self.lock();
        match digest {
            Digest::Hashed(_) => self.counts.hashed.inc(),
            _ => self.counts.not_hashed.inc(),
        }
        let Some(event) = state.open_execs.get_mut(number) else { return };
        event.content = OpenedContent::Known(digest, is_settled);
        let file = raw_file(&event.facts);
        if let (Digest::Hashed(sha256), true) = (digest, is_settled) {
            state.digests.put(&file, sha256);
        }
        drop(state);
        self.finished.notify_all();
    }

    /// Whether a file lies in its container's image, unchanged.
    pub(crate) fn is_of_image(&self, dev: Dev, mnt_id: Option<u32>, ctime_ns: i64) -> bool {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.is_of_image(dev, mnt_id, ctime_ns)
    }
}

impl StrictState {
    fn may_read(&mut self, dev: Dev, size_bytes: u64, now_ns: i64) -> bool {
        if self.budgets.len() >= limits::WATCHED && !self.budgets.contains_key(&dev) {
            self.budgets.clear();
        }
        self.budgets.entry(dev).or_insert_with(|| Budget::new(now_ns)).take_file(now_ns, size_bytes)
    }
}

fn raw_file(facts: &NamedFacts) -> RawFile {
    RawFile {
        dev: facts.dev,
        ino: facts.ino,
        real_ino: facts.ino,
        size_bytes: facts.size_bytes,
        ctime_ns: facts.ctime_ns,
        ..RawFile::default()
    }
}

/// Overlay roots of containers, and since when each has a layer of its own. What has not changed since before that is the
/// image's: everything that is written or changed in a container is in that layer, and its change time, which no program can
/// set, is later. (A clock that is set back makes a file look like the image's; then it is hashed as without strict mode.)
#[derive(Debug, Default)]
pub(crate) struct ImageRoots {
    made_ns: BTreeMap<Dev, i64>,
    by_mount: BTreeMap<u32, Dev>,
}

impl ImageRoots {
    /// Notes when a root was made. Numbers of devices and mounts are used again, so the later root counts.
    pub(crate) fn note(&mut self, dev: Dev, mnt_id: u32, made_ns: i64) {
        if self.by_mount.len() >= limits::WATCHED {
            *self = Self::default();
        }
        self.made_ns.insert(dev, made_ns);
        self.by_mount.insert(mnt_id, dev);
    }

    fn is_of_image(&self, dev: Dev, mnt_id: Option<u32>, ctime_ns: i64) -> bool {
        // Overlays over several disks show other device numbers than their own.
        let of_mount = || mnt_id.and_then(|id| self.by_mount.get(&id)).and_then(|dev| self.made_ns.get(dev));
        self.made_ns.get(&dev).or_else(of_mount).is_some_and(|made_ns| ctime_ns < *made_ns)
    }
}

#[cfg(test)]
mod tests;
