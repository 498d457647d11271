//! Digest jobs, the budget that limits them, and the digests that are remembered.

use driftline_schemas::{ContainerId, FileClass, HashState, Sha256};
use std::collections::{BTreeMap, VecDeque};

use crate::class::{self, NamedFacts};
use crate::container_root::ContainerRoot;
use crate::limits::{
    self, DIGESTS, HASH_BYTES_BURST, HASH_BYTES_PER_SECOND, HASH_FILES_BURST, HASH_FILES_PER_SECOND, LOADED_COST_BYTES,
    SCRIPT_COST_BYTES,
};
use crate::mounts::{Mounts, is_refused};
use crate::raw::{KnownFile, Moment, RawExec, RawFile};
use crate::subject::{Subject, absolute};

/// How the files of a container can be reached, as far as is known.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// First process of the container: its root directory outlives other processes.
    pub init_pid: Option<i32>,
    /// The container's root.
    pub root: Option<ContainerRoot>,
    /// Its mounts.
    pub mounts: &'a Mounts,
}

impl View<'_> {
    /// The judged file of an exec.
    #[must_use]
    pub fn subject<'a>(&self, exec: &'a RawExec) -> Subject<'a> {
        Subject::of(exec, self.class(exec))
    }

    fn class(&self, exec: &RawExec) -> FileClass {
        let root = self.root.unwrap_or_else(|| ContainerRoot::of_process(exec));
        class::class(exec, &root, self.mounts).0
    }
}

/// A file to hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestJob {
    /// The container of the exec.
    pub container: ContainerId,
    /// The exec.
    pub moment: Moment,
    /// The process that executed it, on the host.
    pub pid: u32,
    /// Processes in whose root directory `path` can be looked up, best first.
    pub roots: Vec<u32>,
    /// Absolute path of the subject; a memfd has none.
    pub path: Vec<u8>,
    /// What is added to the path when there is no such file.
    pub extension: Option<&'static str>,
    /// Whether looking it up may leave the root's mount. If not, it cannot end up in a FUSE or network file system.
    pub crossing: Crossing,
    /// Mount of the process's root directory at the exec.
    pub root_mnt_id: u32,
    /// What to hash.
    pub subject: DigestSubject,
    /// The interpreter or loader that runs it, where its content has to be known, too.
    pub loader: Option<LoaderJob>,
}

/// What is known of the content of an interpreter or loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoaderJob {
    /// Its digest.
    Known(Sha256),
    /// It has to be hashed, too.
    Hash(Box<DigestJob>),
}

/// Whether a lookup may go from one mount to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// It must stay on the root.
    Stay,
    /// The subject lies on another mount, which may be read.
    Cross,
}

/// What to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestSubject {
    /// The executed file: counts only if it is still what the kernel saw.
    File(RawFile),
    /// A script, or the program that a loader runs, of which only the name is known. Its digest counts only if it has not
    /// changed since the exec.
    Named {
        /// Wall clock of the exec.
        executed_ns: i64,
        /// What it costs of the byte budget: its size is known when it is opened.
        cost_bytes: u64,
        /// What the kernel executed for it: the interpreter, or the loader.
        by: RawFile,
    },
}

impl DigestJob {
    /// The job for an exec.
    ///
    /// # Errors
    /// [`Digest::RefusedFs`] when the subject must not be opened.
    pub fn of(container: &ContainerId, exec: &RawExec, view: View<'_>, boot_offset_ns: i64) -> Result<Self, Digest> {
        let subject = view.subject(exec);
        let mut job = Self::of_subject(container, exec, subject, view, boot_offset_ns)?;
        if subject != Subject::Executable && view.class(exec) != FileClass::Image {
            let loader = Self::of_subject(container, exec, Subject::Executable, view, boot_offset_ns);
            job.loader = loader.ok().map(|loader| LoaderJob::Hash(Box::new(loader)));
        }
        Ok(job)
    }

    fn of_subject(
        container: &ContainerId,
        exec: &RawExec,
        subject: Subject<'_>,
        view: View<'_>,
        boot_offset_ns: i64,
    ) -> Result<Self, Digest> {
        let (path, crosses, refused) = if let Some(typed) = subject.typed() {
            let path = absolute(exec, typed);
            let on_mount = view.mounts.above(&path).is_some();
            let refused = view.mounts.refuses(&path) || (!on_mount && is_refused(exec.root_fs_magic));
            (path, on_mount, refused)
        } else {
            (exec.path.clone(), exec.file.mnt_id != exec.root_mnt_id, is_refused(exec.file.fs_magic))
        };
        if refused {
            return Err(Digest::RefusedFs);
        }
        let executed_ns = i64::try_from(exec.moment.time_ns).unwrap_or(i64::MAX).saturating_add(boot_offset_ns);
        let named = |cost_bytes| DigestSubject::Named { executed_ns, cost_bytes, by: exec.file };
        Ok(Self {
            container: container.clone(),
            moment: exec.moment,
            pid: exec.pid,
            roots: roots(exec, subject, view),
            path,
            extension: subject.extension(),
            crossing: if crosses { Crossing::Cross } else { Crossing::Stay },
            root_mnt_id: exec.root_mnt_id,
            subject: match subject {
                Subject::Executable => DigestSubject::File(exec.file),
                Subject::Script(_) | Subject::Interpreted(_) => named(SCRIPT_COST_BYTES),
                Subject::Loaded(_) => named(LOADED_COST_BYTES),
            },
            loader: None,
        })
    }

    /// The executed file, if it is to be hashed.
    #[must_use]
    pub fn executable(&self) -> Option<RawFile> {
        match (&self.subject, &self.loader) {
            (DigestSubject::File(file), _) => Some(*file),
            (_, Some(LoaderJob::Hash(loader))) => loader.executable(),
            _ => None,
        }
    }

    fn cost_bytes(&self) -> u64 {
        let of_file = self.executable().map_or(0, |file| u64::try_from(file.size_bytes).unwrap_or(0));
        match &self.subject {
            DigestSubject::File(_) => of_file,
            DigestSubject::Named { cost_bytes, .. } => cost_bytes.saturating_add(of_file),
        }
    }
}

/// Paths count from the root of the mount namespace, except an absolute one that a chrooted process typed.
fn roots(exec: &RawExec, subject: Subject<'_>, view: View<'_>) -> Vec<u32> {
    let from_own_root = subject.typed().is_some_and(|typed| typed.starts_with(b"/"));
    let by_process = from_own_root || !exec.is_chrooted();
    let same_namespace = view.root.is_some_and(|root| root.mount_ns == exec.mnt_ns);
    let by_first = same_namespace && !(from_own_root && exec.is_chrooted());
    let process = Some(exec.pid).filter(|_| by_process);
    let first = view.init_pid.and_then(|pid| u32::try_from(pid).ok()).filter(|_| by_first);
    process.into_iter().chain(first.filter(|first| Some(*first) != process)).collect()
}

/// How hashing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// The digest of the very file that was executed.
    Hashed(Sha256),
    /// The same, of a file that may have been written between the exec and the hashing, or whose name may have led to another
    /// one: foreign content proves that the file is foreign, while the image's proves nothing.
    Unsettled(Sha256),
    /// The file is not the one of the exec any more.
    Changed,
    /// There is no file any more.
    Gone,
    /// It could not be read, or is no regular file.
    Unreadable,
    /// Larger than the limit.
    TooLarge,
    /// On a file system that must not be read.
    RefusedFs,
    /// No time or budget was left.
    OverBudget,
}

impl Digest {
    /// Its name in the schema.
    #[must_use]
    pub fn state(self) -> HashState {
        match self {
            Self::Hashed(_) => HashState::Hashed,
            Self::Unsettled(_) | Self::Changed => HashState::Changed,
            Self::Gone => HashState::Gone,
            Self::Unreadable => HashState::Unreadable,
            Self::TooLarge => HashState::TooLarge,
            Self::RefusedFs => HashState::RefusedFs,
            Self::OverBudget => HashState::OverBudget,
        }
    }

    /// The digest itself.
    #[must_use]
    pub fn sha256(self) -> Option<Sha256> {
        match self {
            Self::Hashed(sha256) | Self::Unsettled(sha256) => Some(sha256),
            _ => None,
        }
    }

    /// What it proves of an exec at `executed_ns`, where the file, or the name by which it was found, changed at `changed_ns` for
    /// the last time before it was hashed. Both are wall clock.
    fn of_exec_at(self, executed_ns: i64, changed_ns: i64) -> Self {
        let is_older = executed_ns.saturating_sub(changed_ns) > limits::WRITTEN_BEFORE;
        match self {
            Self::Hashed(sha256) if !is_older => Self::Unsettled(sha256),
            Self::Unreadable if !is_older => Self::Changed,
            other => other,
        }
    }
}

/// The answer of the shell to a [`DigestJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestOutcome {
    /// How it ended.
    pub digest: Digest,
    /// The executed file had not changed for a while when it was hashed, so equal facts mean equal content.
    pub is_settled: bool,
    /// Facts of a subject that was known by name only, when it was opened.
    pub named: Option<NamedFacts>,
    /// How hashing ended for the interpreter or loader that runs it.
    pub loader: Option<Digest>,
}

impl DigestOutcome {
    /// An outcome without such facts.
    #[must_use]
    pub fn of(digest: Digest) -> Self {
        Self { digest, is_settled: false, named: None, loader: None }
    }

    /// How hashing the interpreter or loader ended. Where it was not begun, it ended as the whole job did.
    #[must_use]
    pub fn of_loader(&self) -> Digest {
        let of_all = if self.digest.sha256().is_some() { Digest::OverBudget } else { self.digest };
        self.loader.unwrap_or(of_all)
    }

    /// What it proves of an exec at `executed_ns` of the wall clock. A program that ran when the collector started cannot be
    /// written while it runs, and the time of its exec is not known.
    #[must_use]
    pub fn of_exec(self, exec: &RawExec, executed_ns: i64) -> Self {
        let of_executable = |digest: Digest| {
            if exec.is_snapshot() { digest } else { digest.of_exec_at(executed_ns, exec.file.ctime_ns) }
        };
        let digest = match &self.named {
            // Entries come into a directory and go, and it stays what the name led to.
            Some(named) if named.is_directory() => self.digest.of_exec_at(executed_ns, named.name_changed_ns),
            Some(named) => self.digest.of_exec_at(executed_ns, named.ctime_ns.max(named.name_changed_ns)),
            None => of_executable(self.digest),
        };
        Self { digest, loader: self.loader.map(of_executable), ..self }
    }

    /// Digest of the executed file, if it can be remembered.
    #[must_use]
    pub fn to_remember(&self) -> Option<Sha256> {
        let of_executable = if self.named.is_some() { self.loader } else { self.loader.or(Some(self.digest)) };
        of_executable.filter(|_| self.is_settled)?.sha256()
    }
}

/// How much more may be hashed for a container now: a token bucket of bytes and files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    bytes: u64,
    files: u64,
    at_ns: i64,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub fn new(now_ns: i64) -> Self {
        Self { bytes: HASH_BYTES_BURST, files: HASH_FILES_BURST, at_ns: now_ns }
    }

    /// Takes the cost of a job; `false` when too little is left, and then takes nothing.
    pub fn take(&mut self, now_ns: i64, job: &DigestJob) -> bool {
        self.take_file(now_ns, job.cost_bytes())
    }

    /// Takes the cost of a file of that size.
    pub fn take_file(&mut self, now_ns: i64, size_bytes: u64) -> bool {
        self.refill(now_ns);
        let left = (self.bytes.checked_sub(size_bytes), self.files.checked_sub(1));
        if let (Some(bytes), Some(files)) = left {
            self.bytes = bytes;
            self.files = files;
            return true;
        }
        false
    }

    /// Refills in steps of whole files, so that no fraction is lost.
    fn refill(&mut self, now_ns: i64) {
        const STEP_NS: u64 = 1_000_000_000 / HASH_FILES_PER_SECOND;
        let steps = u64::try_from(now_ns.saturating_sub(self.at_ns)).unwrap_or(0) / STEP_NS;
        if steps == 0 {
            return;
        }
        self.at_ns = self.at_ns.saturating_add(i64::try_from(steps * STEP_NS).unwrap_or(0));
        self.files = self.files.saturating_add(steps).min(HASH_FILES_BURST);
        let bytes = steps.saturating_mul(HASH_BYTES_PER_SECOND / HASH_FILES_PER_SECOND);
        self.bytes = self.bytes.saturating_add(bytes).min(HASH_BYTES_BURST);
    }
}

/// Digests of files by their facts in the kernel's record. The oldest entries are dropped first.
#[derive(Debug, Default)]
pub struct DigestCache {
    known: BTreeMap<KnownFile, Sha256>,
    order: VecDeque<KnownFile>,
}

impl DigestCache {
    /// The digest of a file with these facts.
    #[must_use]
    pub fn get(&self, file: &RawFile) -> Option<Sha256> {
        self.known.get(&KnownFile::from(file)).copied()
    }

    /// Remembers the digest of a settled file.
    pub fn put(&mut self, file: &RawFile, sha256: Sha256) {
        let key = KnownFile::from(file);
        if self.known.insert(key, sha256).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > DIGESTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::mounts::KernelMount;
    use crate::raw::Dev;
    use crate::raw::tests::exec;
    use driftline_schemas::{Args, Mount};

    fn job(size_bytes: i64) -> DigestJob {
        let mut raw = exec();
        raw.file.size_bytes = size_bytes;
        let mounts = Mounts::default();
        DigestJob::of(&ContainerId::from("c"), &raw, View { init_pid: None, root: None, mounts: &mounts }, 0).unwrap()
    }

    #[test]
    fn a_budget_ends_and_comes_back_with_time() {
        const SECOND: i64 = 1_000_000_000;
        let mut budget = Budget::new(0);
        let half = job(i64::try_from(HASH_BYTES_BURST / 2).unwrap());
        assert!(budget.take(0, &half) && budget.take(0, &half));
        assert!(!budget.take(0, &job(1)));
        assert!(!budget.take(SECOND, &half), "one second gives back less than half");
        assert!(budget.take(SECOND, &job(1)));
        assert!(budget.take(9 * SECOND, &half));
    }

    #[test]
    fn files_are_counted_too() {
        let mut budget = Budget::new(0);
        for _ in 0..HASH_FILES_BURST {
            assert!(budget.take(0, &job(0)));
        }
        assert!(!budget.take(0, &job(0)));
        assert!(budget.take(5_000_000, &job(0)));
    }

    #[test]
    fn a_changed_file_is_not_the_cached_one_and_the_cache_is_bounded() {
        let mut cache = DigestCache::default();
        let file = |ino| RawFile { ino, ..RawFile::default() };
        cache.put(&file(0), Sha256([7; 32]));
        assert_eq!(cache.get(&file(0)), Some(Sha256([7; 32])));
        assert_eq!(cache.get(&RawFile { ctime_ns: 1, ..file(0) }), None);
        for ino in 1..=DIGESTS as u64 {
            cache.put(&file(ino), Sha256([0; 32]));
        }
        assert_eq!(cache.get(&file(0)), None);
        assert_eq!(cache.known.len(), DIGESTS);
    }

    #[test]
    fn a_file_is_looked_up_where_its_path_means_it() {
        let root = ContainerRoot::of_process(&exec());
        let check = |change: fn(&mut RawExec), expect: &[u32]| {
            let mut raw = exec();
            change(&mut raw);
            let mounts = Mounts::default();
            let view = View { init_pid: Some(1), root: Some(root), mounts: &mounts };
            assert_eq!(roots(&raw, view.subject(&raw), view), expect);
        };
        check(|_| (), &[4_711, 1]);
        check(|raw| raw.pid = 1, &[1]);
        check(|raw| raw.mnt_ns = 8, &[4_711]);
        check(|raw| raw.flags |= layout::FLAG_CHROOTED, &[1]);
        check(
            |raw| {
                raw.flags |= layout::FLAG_SCRIPT | layout::FLAG_CHROOTED;
                raw.typed_path = b"/x".to_vec();
            },
            &[4_711],
        );
        check(
            |raw| {
                raw.flags |= layout::FLAG_SCRIPT | layout::FLAG_CHROOTED;
                raw.typed_path = b"x".to_vec();
            },
            &[1],
        );
    }

    #[test]
    fn files_on_fuse_and_network_are_never_opened() {
        let kernel = Mount { point: "/far".into(), fs_type: "nfs4".into(), source: String::new(), read_only: false };
        let mounts =
            Mounts::of_kernel(vec![KernelMount { mount: kernel, id: 7, dev: Dev::default(), is_refused: true }]);
        let view = View { init_pid: None, root: None, mounts: &mounts };
        let check = |change: fn(&mut RawExec), expect: Option<Crossing>| {
            let mut raw = exec();
            change(&mut raw);
            let job = DigestJob::of(&ContainerId::from("c"), &raw, view, 0);
            assert_eq!(job.map(|job| job.crossing), expect.ok_or(Digest::RefusedFs));
        };
        check(|_| (), Some(Crossing::Stay));
        check(|raw| raw.file.mnt_id = 700, Some(Crossing::Cross));
        check(|raw| raw.file.fs_magic = 0x6573_5546, None);
        check(
            |raw| {
                raw.flags |= layout::FLAG_SCRIPT;
                raw.typed_path = b"/far/x".to_vec();
            },
            None,
        );
        check(
            |raw| {
                raw.flags |= layout::FLAG_SCRIPT;
                raw.root_fs_magic = 0x6573_5546;
            },
            None,
        );
        check(|raw| raw.flags |= layout::FLAG_SCRIPT, Some(Crossing::Stay));
    }

    #[test]
    fn a_loader_is_hashed_beside_what_it_runs_unless_the_kernel_shows_what_it_is() {
        let mounts = Mounts::default();
        let job = |flags: u32| {
            let args = Args::of_terminated(b"ld.so\0/tmp/x\0");
            let raw = RawExec { path: b"/lib/ld.so.1".to_vec(), args, flags, ..exec() };
            let view = View { init_pid: Some(1), root: None, mounts: &mounts };
            (raw.file, DigestJob::of(&ContainerId::from("c"), &raw, view, 0).unwrap())
        };
        let (_, untouched) = job(exec().flags);
        assert_eq!((untouched.loader.as_ref(), untouched.cost_bytes()), (None, LOADED_COST_BYTES));
        let (file, job) = job(exec().flags | layout::FLAG_UPPER);
        assert_eq!((job.path.as_slice(), job.executable()), (b"/tmp/x".as_slice(), Some(file)));
        assert_eq!(job.cost_bytes(), LOADED_COST_BYTES + u64::try_from(file.size_bytes).unwrap());
        let Some(LoaderJob::Hash(loader)) = &job.loader else { panic!("{job:?}") };
        assert_eq!((loader.path.as_slice(), loader.subject), (b"/lib/ld.so.1".as_slice(), DigestSubject::File(file)));
        let known = DigestJob { loader: Some(LoaderJob::Known(Sha256([7; 32]))), ..job };
        assert_eq!((known.executable(), known.cost_bytes()), (None, LOADED_COST_BYTES));
    }

    #[test]
    fn a_name_is_found_from_the_working_directory() {
        let check = |cwd: &[u8], typed: &[u8], expect: &[u8]| {
            assert_eq!(absolute(&RawExec { cwd: cwd.to_vec(), ..exec() }, typed), expect);
        };
        check(b"/srv", b"./x.sh", b"/srv/x.sh");
        check(b"/", b"x.sh", b"/x.sh");
        check(b"/work", b"/opt/x.sh", b"/opt/x.sh");
        check(b"/srv", b"../x.sh", b"/srv/../x.sh");
    }
}
