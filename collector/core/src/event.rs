//! A raw record, its class and its digest become the record that goes to Kafka.

use driftline_schemas::limits::PATH_BYTES_MAX;
use driftline_schemas::{
    Ancestor, ContainerId, Exec, ExecIdentity, Fd, FdKind, FileClass, FileFacts, HashState, Loader, Mount,
};

use crate::class::{self, NamedFacts};
use crate::container_root::ContainerRoot;
use crate::digest::{Digest, DigestOutcome};
use crate::inner_mount;
use crate::mounts::Mounts;
use crate::pipeline::NodeSettings;
use crate::programs::Programs;
use crate::raw::{RawAncestor, RawExec, RawFd, RawFile};
use crate::subject::{Subject, absolute};

/// What is known of the container when the record of one of its execs is made.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Node, boot and collector run.
    pub settings: &'a NodeSettings,
    /// The container.
    pub container: &'a ContainerId,
    /// Its root.
    pub root: &'a ContainerRoot,
    /// Its mounts.
    pub mounts: &'a Mounts,
    /// What other processes of the node run.
    pub programs: &'a Programs,
    /// The container inside this one in which the exec ran.
    pub inner: Option<&'a ContainerId>,
}

/// Builds an exec event. `digest` is `None` when none is needed; `time_ns` is the wall clock.
#[must_use]
pub fn exec(raw: &RawExec, at: Surroundings<'_>, digest: Option<&DigestOutcome>, time_ns: i64) -> Exec {
    let judged = Judged::of(raw, at, digest);
    let named_path = judged.named_path(raw);
    let is_long = |path: &[u8]| path.len() > PATH_BYTES_MAX;
    let is_cut = is_long(&raw.path) || named_path.as_deref().is_some_and(is_long);
    let parent = lasting_parent(raw);
    let path_if = |is_it: bool| named_path.as_deref().filter(|_| is_it).map(end_of);
    Exec {
        event_id: identity(raw, at.settings).event_id(),
        cluster: at.settings.node.cluster.clone(),
        node: at.settings.node.name.clone(),
        container_id: at.container.clone(),
        boot_id: at.settings.boot_id.clone(),
        time_ns,
        pid: to_i32(raw.pid),
        container_pid: to_i32(raw.ns_pid),
        start_ns: to_i64(raw.start_ns),
        exec_count: to_i64(raw.exec_count),
        parent_pid: parent.map_or(0, |parent| to_i32(parent.pid)),
        parent_start_ns: parent.map_or(0, |parent| to_i64(parent.start_ns)),
        parent_comm: parent.map(|parent| parent.comm.as_bytes().to_vec()).unwrap_or_default(),
        path: end_of(&raw.path),
        path_truncated: raw.has_truncated_path() || is_cut,
        typed_path: end_of(&raw.typed_path),
        script: path_if(matches!(judged.subject, Subject::Script(_))),
        args: at.settings.redaction.apply(&raw.args),
        args_truncated: raw.has_truncated_args() || raw.has_unreadable_args(),
        cwd: end_of(&raw.cwd),
        uid: raw.uid,
        gid: raw.gid,
        euid: raw.euid,
        egid: raw.egid,
        container_root_user: raw.ns_euid == 0,
        tty: (!raw.tty.is_empty()).then(|| String::from_utf8_lossy(&raw.tty).into_owned()),
        entered_from_outside: raw.is_from_outside(),
        chrooted: raw.is_chrooted(),
        namespace: class::mount_namespace(raw, at.root, at.settings.host_mnt_ns),
        class: judged.class,
        file: match judged.subject {
            Subject::Executable => file_facts(raw),
            _ => judged.named.map(named_facts).unwrap_or_default(),
        },
        mount: judged.mount,
        hash_state: judged.digest.map_or(HashState::NotNeeded, Digest::state),
        sha256: judged.digest.and_then(Digest::sha256),
        collector_start: at.settings.collector_start.clone(),
        cpu: if raw.is_snapshot() { -1 } else { to_i32(raw.moment.cpu) },
        seq: if raw.is_snapshot() { 0 } else { to_i64(raw.moment.seq) },
        session_id: to_i32(raw.session_id),
        mount_ns: i64::from(raw.mnt_ns),
        pid_ns: i64::from(raw.pid_ns),
        container_uid: mapped(raw.ns_uid),
        container_gid: mapped(raw.ns_gid),
        container_euid: mapped(raw.ns_euid),
        container_egid: mapped(raw.ns_egid),
        capabilities: to_i64(raw.capabilities),
        capabilities_gained: to_i64(raw.capabilities_gained),
        fds: raw.fds.iter().map(fd).collect(),
        environment: raw.environment.clone(),
        environment_truncated: raw.has_truncated_environment(),
        ancestors: ancestors(raw, at.programs),
        loaded: path_if(matches!(judged.subject, Subject::Loaded(_))),
        running_at_start: raw.is_snapshot(),
        loader: judged.loader,
        interpreted: path_if(matches!(judged.subject, Subject::Interpreted(_))),
        inner_container_id: at.inner.cloned(),
    }
}

/// Names of the OCI runtimes that start a container's processes, and end.
const OCI_RUNTIMES: [&[u8]; 3] = [b"runc", b"crun", b"youki"];

/// The parent, or of a process that was put into the container the one that it has from then on: the engine's monitor, which the
/// kernel makes the parent as soon as the OCI runtime ends. That may be before or after the exec.
fn lasting_parent(raw: &RawExec) -> Option<&RawAncestor> {
    let is_runtime = |ancestor: &RawAncestor| {
        OCI_RUNTIMES.iter().any(|name| {
            let rest = ancestor.comm.as_bytes().strip_prefix(*name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
        })
    };
    let lasting = || raw.ancestors.iter().find(|ancestor| !is_runtime(ancestor));
    if raw.has_parent_outside() { lasting().or(raw.parent()) } else { raw.parent() }
}

/// The judged file of an exec, and what is known of it.
struct Judged<'a> {
    subject: Subject<'a>,
    class: FileClass,
    mount: Option<Mount>,
    digest: Option<Digest>,
    /// Of a subject that is known by name only, when it could be opened.
    named: Option<&'a NamedFacts>,
    /// The interpreter or loader that runs the subject, where its content has to show whether it is the image's.
    loader: Option<Loader>,
}

impl<'a> Judged<'a> {
    fn of(raw: &'a RawExec, at: Surroundings<'a>, outcome: Option<&'a DigestOutcome>) -> Self {
        let (executed, on) = class::class(raw, at.root, at.mounts);
        let subject = Subject::of(raw, executed);
        let of_executed = on.cloned().or_else(|| inner_mount::of(raw, executed));
        if let Some(outcome) = outcome.filter(|outcome| is_directory(subject, outcome)) {
            let digest = (executed != FileClass::Image).then(|| outcome.of_loader());
            let subject = Subject::Executable;
            return Self { subject, class: executed, mount: of_executed, digest, named: None, loader: None };
        }
        let named = outcome.and_then(|outcome| outcome.named.as_ref());
        // A better root may have become known since the file was hashed, and with it another subject.
        let is_of_subject = subject.typed().is_some() || named.is_none();
        let digest = outcome.map(|outcome| if is_of_subject { outcome.digest } else { Digest::OverBudget });
        let (class, mount) = match (subject.typed(), named) {
            (None, _) => (executed, of_executed.clone()),
            (Some(_), Some(facts)) => {
                let (class, mount) = owned(class::class_of_named(facts, at.root, at.mounts));
                (class, mount.or_else(|| inner_mount::of_named(facts, class)))
            }
            (Some(typed), None) => owned(class::class_by_path(&absolute(raw, typed), at.mounts)),
        };
        let is_judged_too = subject != Subject::Executable && executed != FileClass::Image;
        let loader = is_judged_too.then(|| {
            let digest = outcome.map_or(Digest::OverBudget, DigestOutcome::of_loader);
            Loader {
                class: executed,
                file: file_facts(raw),
                mount: of_executed,
                hash_state: digest.state(),
                sha256: digest.sha256(),
            }
        });
        Self { subject, class, mount, digest, named, loader }
    }

    fn named_path(&self, raw: &RawExec) -> Option<Vec<u8>> {
        let typed = self.subject.typed()?;
        Some(self.named.map_or_else(|| absolute(raw, typed), |facts| facts.path.clone()))
    }
}

/// Whether an interpreter was given a directory: what it runs of it, if anything, is not known. One that was put there after the
/// exec was not given.
fn is_directory(subject: Subject<'_>, outcome: &DigestOutcome) -> bool {
    let Subject::Interpreted(given) = subject else { return false };
    let is_directory = outcome.named.as_ref().is_some_and(NamedFacts::is_directory);
    !given.typed.is_empty() && outcome.digest == Digest::Unreadable && is_directory
}

fn owned((class, mount): (FileClass, Option<&Mount>)) -> (FileClass, Option<Mount>) {
    (class, mount.cloned())
}

/// The kernel's number for "no such user here".
fn mapped(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

fn fd(raw: &RawFd) -> Fd {
    Fd { kind: fd_kind(raw), ino: to_i64(raw.ino), peer: raw.peer.map(|peer| peer.to_string()) }
}

/// By the type bits of a mode (`S_IFMT`), and for devices by the major numbers of terminals: 4 consoles and serial lines, 5
/// `/dev/tty`, 136 to 143 pseudo-terminals.
fn fd_kind(raw: &RawFd) -> FdKind {
    match raw.mode & 0o170_000 {
        _ if raw.ino == 0 => FdKind::Closed,
        0o100_000 | 0o040_000 => FdKind::File,
        0o010_000 => FdKind::Pipe,
        0o140_000 => FdKind::Socket,
        0o020_000 if matches!(raw.rdev.major, 4 | 5 | 136..=143) => FdKind::Tty,
        0o020_000 | 0o060_000 => FdKind::Device,
        _ => FdKind::Other,
    }
}

fn ancestors(raw: &RawExec, programs: &Programs) -> Vec<Ancestor> {
    let ancestors = raw.ancestors.iter().map(|ancestor| Ancestor {
        pid: to_i32(ancestor.pid),
        start_ns: to_i64(ancestor.start_ns),
        comm: ancestor.comm.as_bytes().to_vec(),
        dev: ancestor.dev.to_st_dev(),
        ino: to_i64(ancestor.ino),
        path: programs.path_of(ancestor).map(end_of),
    });
    ancestors.collect()
}

/// The end of a path, as long as a record may have it. The kernel program stops after the component that exceeds the limit,
/// and the path of a script may be joined from two. A longer path loses its beginning and is flagged; a record over its limits
/// would be a dead letter, and the exec unseen.
fn end_of(path: &[u8]) -> Vec<u8> {
    path.get(path.len().saturating_sub(PATH_BYTES_MAX)..).unwrap_or_default().to_vec()
}

fn identity<'a>(raw: &RawExec, settings: &'a NodeSettings) -> ExecIdentity<'a> {
    ExecIdentity {
        cluster: &settings.node.cluster,
        boot_id: &settings.boot_id,
        pid: raw.pid,
        start_ns: raw.start_ns,
        exec_count: raw.exec_count,
    }
}

fn file_facts(raw: &RawExec) -> FileFacts {
    let RawFile {
        dev, ino, size_bytes, mode, nlink, mtime_ns, ctime_ns, fs_magic, lower_count, lower_ino, mnt_id, ..
    } = raw.file;
    FileFacts {
        dev: dev.to_st_dev(),
        ino: to_i64(ino),
        size_bytes,
        mode: i32::from(mode),
        nlink: i64::from(nlink),
        mtime_ns,
        ctime_ns,
        fs_magic: to_i64(fs_magic),
        upper: raw.has_upper(),
        lower_count: to_i32(lower_count),
        metacopy: raw.has_upper() && !raw.has_upper_data(),
        lower_ino: to_i64(lower_ino),
        mnt_id: i64::from(mnt_id),
    }
}

fn named_facts(facts: &NamedFacts) -> FileFacts {
    FileFacts {
        dev: facts.dev.to_st_dev(),
        ino: to_i64(facts.ino),
        size_bytes: facts.size_bytes,
        mode: i32::from(facts.mode),
        nlink: i64::from(facts.nlink),
        mtime_ns: facts.mtime_ns,
        ctime_ns: facts.ctime_ns,
        fs_magic: to_i64(facts.fs_magic),
        mnt_id: facts.mnt_id.map_or(0, i64::from),
        ..FileFacts::default()
    }
}

/// Kernel numbers of this kind stay far below the limit.
fn to_i32(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Inode numbers may use all bits; they are compared, not counted.
fn to_i64(number: u64) -> i64 {
    number.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::raw::tests::exec as raw_exec;
    use crate::raw::{Comm, Dev, magic};
    use crate::redaction::Redaction;
    use driftline_schemas::{Args, MountNamespace, Node, Sha256};

    fn settings() -> NodeSettings {
        NodeSettings {
            node: Node { cluster: "c1".into(), name: "n1".into(), ..Node::default() },
            boot_id: "boot".into(),
            collector_start: "run".into(),
            host_mnt_ns: 99,
            redaction: Redaction::default(),
        }
    }

    fn build(raw: &RawExec, digest: Option<&DigestOutcome>) -> Exec {
        let settings = settings();
        let container = ContainerId::from("id");
        let root = ContainerRoot::of_process(&raw_exec());
        let mounts = Mounts::default();
        let mut programs = Programs::default();
        programs.learn(&RawExec { pid: 99, start_ns: 5, path: b"/bin/sh".to_vec(), ..raw_exec() });
        let at = Surroundings {
            settings: &settings,
            container: &container,
            root: &root,
            mounts: &mounts,
            programs: &programs,
            inner: None,
        };
        exec(raw, at, digest, 5)
    }

    #[test]
    fn a_longer_path_than_a_record_may_hold_loses_its_beginning_and_the_exec_is_still_reported() {
        let long = [b"/".as_slice(), &[b'x'; PATH_BYTES_MAX], b"/end"].concat();
        let scripted = RawExec { typed_path: b"s.sh".to_vec(), cwd: long.clone(), ..raw_exec() };
        let scripted = RawExec { flags: scripted.flags | layout::FLAG_SCRIPT, ..scripted };
        for raw in [RawExec { path: long.clone(), ..raw_exec() }, scripted] {
            let built = build(&raw, None);
            assert!(built.path_truncated);
            let bytes = driftline_schemas::encode(&built).unwrap();
            let read = driftline_schemas::ExecEvent::decode(&bytes);
            assert_eq!(read, Ok(driftline_schemas::ExecEvent::Exec(Box::new(built))));
        }
        assert_eq!(end_of(&long).len(), PATH_BYTES_MAX);
        assert!(end_of(&long).ends_with(b"/end"));
    }

    #[test]
    fn an_untouched_file_needs_no_digest_and_keeps_its_facts() {
        let built = build(&raw_exec(), None);
        assert_eq!((built.class, built.hash_state, built.sha256), (FileClass::Image, HashState::NotNeeded, None));
        assert_eq!(built.namespace, MountNamespace::Own);
        assert_eq!(built.file.fs_magic, i64::try_from(magic::OVERLAY).unwrap());
        assert_eq!((built.time_ns, built.script, built.tty), (5, None, None));
        assert!(built.container_root_user);
    }

    /// A file on the root of the container.
    fn on_root(raw: &RawExec, path: &[u8], ino: u64) -> NamedFacts {
        NamedFacts {
            path: path.to_vec(),
            dev: raw.file.dev,
            ino,
            size_bytes: 9,
            mode: 0o100_755,
            nlink: 1,
            mtime_ns: 1,
            ctime_ns: 2,
            fs_magic: magic::OVERLAY,
            mnt_id: Some(raw.root_mnt_id),
            overlay_mount: None,
            name_changed_ns: 0,
        }
    }

    #[test]
    fn of_a_script_the_script_is_described() {
        let mut raw = raw_exec();
        raw.flags |= layout::FLAG_SCRIPT;
        raw.typed_path = b"/opt/x.sh".to_vec();
        let facts = NamedFacts { dev: Dev { major: 0, minor: 41 }, ..on_root(&raw, b"/srv/x.sh", 12) };
        let outcome = DigestOutcome { named: Some(facts), ..DigestOutcome::of(Digest::Hashed(Sha256([1; 32]))) };
        let built = build(&raw, Some(&outcome));
        assert_eq!(built.script.as_deref(), Some(b"/srv/x.sh".as_slice()));
        assert_eq!((built.class, built.file.ino, built.sha256), (FileClass::RootfsPlain, 12, Some(Sha256([1; 32]))));
        let gone = build(&raw, Some(&DigestOutcome::of(Digest::Gone)));
        assert_eq!(gone.script.as_deref(), Some(b"/opt/x.sh".as_slice()));
        assert_eq!(
            (gone.class, gone.file, gone.hash_state),
            (FileClass::Unknown, FileFacts::default(), HashState::Gone)
        );
    }

    #[test]
    fn the_interpreter_of_a_script_is_described_unless_the_kernel_shows_that_it_is_the_image_s() {
        let script =
            RawExec { typed_path: b"/opt/x.sh".to_vec(), flags: raw_exec().flags | layout::FLAG_SCRIPT, ..raw_exec() };
        let named = Some(on_root(&script, b"/opt/x.sh", 13));
        let outcome = DigestOutcome {
            named,
            loader: Some(Digest::Hashed(Sha256([2; 32]))),
            ..DigestOutcome::of(Digest::Hashed(Sha256([1; 32])))
        };
        assert_eq!(build(&script, Some(&outcome)).loader, None);
        let own = RawExec { flags: script.flags | layout::FLAG_UPPER, ..script };
        let interpreter = build(&own, Some(&outcome)).loader.unwrap();
        assert_eq!((interpreter.class, interpreter.sha256), (FileClass::CopiedUp, Some(Sha256([2; 32]))));
        assert_eq!(interpreter.file.ino, to_i64(own.file.ino));
    }

    #[test]
    fn of_an_interpreter_the_file_that_it_was_given_is_described() {
        let raw = RawExec { path: b"/bin/dash".to_vec(), args: Args::of_terminated(b"sh\0/tmp/x\0"), ..raw_exec() };
        let outcome = DigestOutcome {
            named: Some(on_root(&raw, b"/tmp/x", 13)),
            ..DigestOutcome::of(Digest::Hashed(Sha256([1; 32])))
        };
        let built = build(&raw, Some(&outcome));
        assert_eq!((built.interpreted.as_deref(), built.script.as_deref()), (Some(b"/tmp/x".as_slice()), None));
        assert_eq!((built.subject_path(), built.path.as_slice()), (b"/tmp/x".as_slice(), b"/bin/dash".as_slice()));
        assert_eq!((built.class, built.file.ino, built.sha256), (FileClass::RootfsPlain, 13, Some(Sha256([1; 32]))));
    }

    #[test]
    fn of_an_interpreter_that_was_given_a_directory_the_interpreter_is_described() {
        let args = |line: &[u8]| RawExec { path: b"/bin/node".to_vec(), args: Args::of_terminated(line), ..raw_exec() };
        let raw = args(b"node\0.\0");
        let of = |digest| {
            let named = Some(NamedFacts { mode: 0o040_755, ..on_root(&raw, b"/app", 13) });
            DigestOutcome { named, loader: Some(Digest::Hashed(Sha256([2; 32]))), ..DigestOutcome::of(digest) }
        };
        let described = |raw: &RawExec, digest| {
            let built = build(raw, Some(&of(digest)));
            (built.interpreted, built.class, built.hash_state, built.sha256)
        };
        let directory = Some(b"/app".to_vec());
        let class = FileClass::Image;
        assert_eq!(described(&raw, Digest::Unreadable), (None, class, HashState::NotNeeded, None));
        let own = RawExec { flags: raw.flags | layout::FLAG_UPPER, ..raw.clone() };
        let of_own = (None, FileClass::CopiedUp, HashState::Hashed, Some(Sha256([2; 32])));
        assert_eq!(described(&own, Digest::Unreadable), of_own);
        // It was put there after the exec, or the name is not known.
        let class = FileClass::RootfsPlain;
        assert_eq!(described(&raw, Digest::Changed), (directory.clone(), class, HashState::Changed, None));
        let mut cut = args(b"node\0");
        cut.flags |= layout::FLAG_ARGS_TRUNCATED;
        assert_eq!(described(&cut, Digest::Unreadable), (directory, class, HashState::Unreadable, None));
    }

    #[test]
    fn of_a_loader_what_it_runs_is_described_and_of_one_that_may_not_be_the_image_s_both() {
        let args = Args::of_terminated(b"ld.so\0./x\0");
        let raw = RawExec { path: b"/lib/ld-2.31.so".to_vec(), args, cwd: b"/tmp".to_vec(), ..raw_exec() };
        let facts = on_root(&raw, b"/tmp/x", 13);
        let outcome = DigestOutcome { named: Some(facts), ..DigestOutcome::of(Digest::Hashed(Sha256([1; 32]))) };
        let built = build(&raw, Some(&outcome));
        assert_eq!(built.loader, None);
        assert_eq!((built.loaded.as_deref(), built.script.as_deref()), (Some(b"/tmp/x".as_slice()), None));
        assert_eq!(
            (built.subject_path(), built.path.as_slice()),
            (b"/tmp/x".as_slice(), b"/lib/ld-2.31.so".as_slice())
        );
        assert_eq!((built.class, built.file.ino, built.sha256), (FileClass::RootfsPlain, 13, Some(Sha256([1; 32]))));
        let gone = build(&raw, Some(&DigestOutcome::of(Digest::Gone)));
        assert_eq!((gone.loaded.as_deref(), gone.class), (Some(b"/tmp/x".as_slice()), FileClass::Unknown));
        // The loader turned out not to be of a layer, and was not hashed.
        let own = RawExec { flags: raw.flags | layout::FLAG_UPPER, ..raw };
        let built = build(&own, Some(&outcome));
        let loader = built.loader.unwrap();
        assert_eq!((built.loaded.as_deref(), built.sha256), (Some(b"/tmp/x".as_slice()), Some(Sha256([1; 32]))));
        assert_eq!(
            (loader.class, loader.hash_state, loader.sha256),
            (FileClass::CopiedUp, HashState::OverBudget, None)
        );
        assert_eq!(loader.file.ino, to_i64(own.file.ino));
        let whole = DigestOutcome { loader: Some(Digest::Hashed(Sha256([2; 32]))), ..outcome };
        assert_eq!(build(&own, Some(&whole)).loader.unwrap().sha256, Some(Sha256([2; 32])));
        let none = DigestOutcome { named: None, ..DigestOutcome::of(Digest::RefusedFs) };
        assert_eq!(build(&own, Some(&none)).loader.unwrap().hash_state, HashState::RefusedFs);
        // Nor does it lie where a loader of the image can be: then another file was hashed than is judged.
        let elsewhere = RawExec { file: RawFile { dev: Dev { major: 9, minor: 9 }, ..own.file }, ..own };
        let elsewhere = build(&elsewhere, Some(&whole));
        assert_eq!((elsewhere.loaded, elsewhere.sha256, elsewhere.hash_state), (None, None, HashState::OverBudget));
    }

    #[test]
    fn the_parent_from_outside_is_the_monitor_whether_or_not_the_runtime_has_ended() {
        let monitor = raw_exec().ancestors[0].clone();
        let runtime = |name: &str| {
            let mut comm = [0; 16];
            comm[..name.len()].copy_from_slice(name.as_bytes());
            RawAncestor { pid: 3, comm: Comm(comm), ..monitor.clone() }
        };
        let parent = |ancestors: Vec<RawAncestor>, flags: u32| {
            let built = build(&RawExec { ancestors, flags: raw_exec().flags | flags, ..raw_exec() }, None);
            (built.parent_pid, String::from_utf8(built.parent_comm).unwrap())
        };
        let outside = layout::FLAG_PARENT_OUTSIDE;
        let lasting = (99, "sh".to_owned());
        assert_eq!(parent(vec![monitor.clone()], outside), lasting);
        assert_eq!(parent(vec![runtime("runc"), monitor.clone()], outside), lasting);
        assert_eq!(parent(vec![runtime("runc:[2:INIT]"), runtime("runc"), monitor.clone()], outside), lasting);
        assert_eq!(parent(vec![runtime("runc")], outside), (3, "runc".to_owned()));
        // Inside, anybody can have that name.
        assert_eq!(parent(vec![runtime("runc"), monitor.clone()], 0), (3, "runc".to_owned()));
        assert_eq!(parent(vec![runtime("runcx"), monitor], outside), (3, "runcx".to_owned()));
    }

    #[test]
    fn the_same_exec_has_the_same_id_whenever_it_is_read() {
        let later = RawExec { moment: crate::Moment { time_ns: 1, cpu: 9, seq: 9 }, ..raw_exec() };
        assert_eq!(build(&raw_exec(), None).event_id, build(&later, None).event_id);
        let next = RawExec { exec_count: 77, ..raw_exec() };
        assert_ne!(build(&raw_exec(), None).event_id, build(&next, None).event_id);
    }
}
