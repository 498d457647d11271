//! A raw record, its class and its digest become the record that goes to Kafka.

use driftline_schemas::limits::PATH_BYTES_MAX;
use driftline_schemas::{
    Ancestor, ContainerId, Exec, ExecIdentity, Fd, FdKind, FileClass, FileFacts, HashState, Mount,
};

use crate::class::{self, ContainerRoot, ScriptFacts};
use crate::digest::{DigestOutcome, script_path};
use crate::mounts::Mounts;
use crate::node::NodeSettings;
use crate::programs::Programs;
use crate::raw::{RawExec, RawFd, RawFile};

/// What is known of the container when one of its execs is written down.
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
}

/// Puts an exec event together. `digest` is `None` when none is needed; `time_ns` is the wall clock.
#[must_use]
pub fn exec(raw: &RawExec, at: Surroundings<'_>, digest: Option<&DigestOutcome>, time_ns: i64) -> Exec {
    let script = raw.is_script().then(|| digest.and_then(|outcome| outcome.script.as_ref()));
    let (class, mount) = classify(raw, at, script);
    let script_path = script.map(|facts| facts.map_or_else(|| script_path(raw), |facts| facts.path.clone()));
    let is_long = |path: &[u8]| path.len() > PATH_BYTES_MAX;
    let is_cut = is_long(&raw.path) || script_path.as_deref().is_some_and(is_long);
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
        parent_pid: raw.parent().map_or(0, |parent| to_i32(parent.pid)),
        parent_start_ns: raw.parent().map_or(0, |parent| to_i64(parent.start_ns)),
        parent_comm: raw.parent().map(|parent| parent.comm.clone()).unwrap_or_default(),
        path: end_of(&raw.path),
        path_truncated: raw.has_truncated_path() || is_cut,
        typed_path: end_of(&raw.typed_path),
        script: script_path.as_deref().map(end_of),
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
        class,
        file: match script {
            None => file_facts(raw),
            Some(facts) => facts.map(script_facts).unwrap_or_default(),
        },
        mount: mount.cloned(),
        hash_state: digest.map_or(HashState::NotNeeded, |outcome| outcome.digest.state()),
        sha256: digest.and_then(|outcome| outcome.digest.sha256()),
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
        running_at_start: raw.is_snapshot(),
    }
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
    let told = raw.ancestors.iter().map(|ancestor| Ancestor {
        pid: to_i32(ancestor.pid),
        start_ns: to_i64(ancestor.start_ns),
        comm: ancestor.comm.clone(),
        dev: ancestor.dev.to_st_dev(),
        ino: to_i64(ancestor.ino),
        path: programs.path_of(ancestor).map(end_of),
    });
    told.collect()
}

/// What a record may hold of a path. The kernel program stops after the component that goes over the limit, and a
/// script's path may be put together of two; whatever is longer loses its beginning and is flagged, for a record over
/// its limits would be a dead letter, and the exec unseen.
fn end_of(path: &[u8]) -> Vec<u8> {
    path.get(path.len().saturating_sub(PATH_BYTES_MAX)..).unwrap_or_default().to_vec()
}

/// Class of the subject. `script` is `None` for a binary, `Some(None)` for a script that could not be opened.
fn classify<'a>(
    raw: &RawExec,
    at: Surroundings<'a>,
    script: Option<Option<&ScriptFacts>>,
) -> (FileClass, Option<&'a Mount>) {
    match script {
        None => class::class(raw, at.root, at.mounts),
        Some(Some(facts)) => class::class_of_script(facts, at.root, at.mounts),
        Some(None) => class::class_by_path(&script_path(raw), at.mounts),
    }
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

fn script_facts(facts: &ScriptFacts) -> FileFacts {
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
    use crate::digest::Digest;
    use crate::layout;
    use crate::raw::tests::exec as raw_exec;
    use crate::raw::{Dev, magic};
    use crate::redaction::Redaction;
    use driftline_schemas::{MountNamespace, Node, Sha256};

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
        };
        exec(raw, at, digest, 5)
    }

    #[test]
    fn a_longer_path_than_a_record_may_hold_loses_its_beginning_and_the_exec_is_still_told() {
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

    #[test]
    fn of_a_script_the_script_is_described() {
        let mut raw = raw_exec();
        raw.flags |= layout::FLAG_SCRIPT;
        raw.typed_path = b"/opt/x.sh".to_vec();
        let facts = ScriptFacts {
            path: b"/srv/x.sh".to_vec(),
            dev: Dev { major: 0, minor: 41 },
            ino: 12,
            size_bytes: 9,
            mode: 0o100_755,
            nlink: 1,
            mtime_ns: 1,
            ctime_ns: 2,
            fs_magic: magic::OVERLAY,
            mnt_id: Some(raw.root_mnt_id),
        };
        let outcome = DigestOutcome { digest: Digest::Hashed(Sha256([1; 32])), is_settled: false, script: Some(facts) };
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
    fn the_same_exec_has_the_same_id_whenever_it_is_read() {
        let later = RawExec { moment: crate::Moment { time_ns: 1, cpu: 9, seq: 9 }, ..raw_exec() };
        assert_eq!(build(&raw_exec(), None).event_id, build(&later, None).event_id);
        let next = RawExec { exec_count: 77, ..raw_exec() };
        assert_ne!(build(&raw_exec(), None).event_id, build(&next, None).event_id);
    }
}
