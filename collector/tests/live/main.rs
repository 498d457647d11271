//! The probe, the core and the hasher against real containers: the ways in which a program gets into a container, with
//! class, path, state and digest exact. Needs root, BTF, podman and a static busybox; without them it reports that, also in
//! the file that `DRIFTLINE_SKIPPED` names.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod churn;
mod container;
mod engine;
mod flood;
mod harness;
mod image;
mod installed;
mod known;
mod pods;
mod rights;
mod start;
mod strict;
mod table;

use container::Container;
use driftline_engines::RuntimeSettings;
use driftline_enricher_core::judge;
use driftline_schemas::{Exec, FdKind, FileClass, HashState, MountNamespace, Origin, Sha256};
use harness::Harness;

/// Runs a test where it can run, and reports where it cannot.
fn live(test: &str, run: impl FnOnce()) {
    match harness::missing() {
        Some(reason) => harness::skip(test, &reason),
        None => {
            let _among_others = harness::NODE.blocking_read();
            run();
        }
    }
}

/// A running container, and the collector watching it.
struct Live {
    container: Container,
    harness: Harness,
}

impl Live {
    fn start() -> Self {
        let container = Container::start();
        let harness = Harness::start(&[(container.id().clone(), container.init_pid())]);
        Self { container, harness }
    }

    /// Runs a command in the container; returns the exec of `path` that it makes. The container's first process runs already.
    fn exec(&self, command: &str, path: &str) -> Exec {
        self.container.sh(command);
        let is_it = |exec: &Exec| !exec.running_at_start && exec.subject_path() == path.as_bytes();
        let id = self.container.id();
        let found = self.harness.find_where(id, is_it);
        found.unwrap_or_else(|| panic!("no exec of {path:?} in {:#?}", self.harness.execs(id)))
    }
}

#[test]
fn what_the_kernel_knows_of_a_process_is_reported() {
    live("what_the_kernel_knows_of_a_process_is_reported", || {
        let live = Live::start();
        let plain = live.exec("/bin/true", "/bin/busybox");
        assert_eq!((plain.namespace, plain.class), (MountNamespace::Own, FileClass::Image));
        assert!(plain.entered_from_outside && plain.container_root_user && !plain.chrooted && plain.tty.is_none());

        let script = live.exec("cp /data/script /tmp/args.sh; cd /tmp; ./args.sh a 'b c' ''", "/tmp/args.sh");
        assert_eq!((script.path.as_slice(), script.typed_path.as_slice()), (&b"/bin/busybox"[..], &b"./args.sh"[..]));
        assert_eq!(script.args, [b"/bin/sh".as_slice(), b"./args.sh", b"a", b"b c", b""]);
        assert_eq!(script.cwd, b"/tmp");

        let long = live.exec(&format!("/opt/busybox-args true {}", "x".repeat(5_000)), "/opt/busybox-args");
        assert!(long.args_truncated);
        let jail = "mkdir -p /jail; cp /data/busybox-added /jail/busybox-j; chroot /jail /busybox-j true";
        assert!(live.exec(jail, "/jail/busybox-j").chrooted);
        let command =
            "cp /data/busybox-added /tmp/g; exec 5</tmp/g; rm /tmp/g; exec -a busybox /proc/self/fd/5 sleep 0.2";
        let gone = live.exec(command, "/tmp/g");
        assert_eq!((gone.file.nlink, gone.sha256), (0, Some(Sha256::of(live.container.added()))));

        live.container.sh_with_terminal("/opt/busybox-tty true");
        let terminal = live.harness.exec_of(live.container.id(), "/opt/busybox-tty");
        assert!(terminal.tty.is_some_and(|name| name.starts_with("pts")));
        live.harness.finish();
    });
}

#[test]
fn who_started_a_program_with_which_rights_and_files_is_reported() {
    live("who_started_a_program_with_which_rights_and_files_is_reported", || {
        let live = Live::start();
        let command = "cd /tmp; LD_PRELOAD=/data/s3cr3t.so https_proxy=http://u:s3cr3t@proxy \
                       /opt/busybox-args true --secret=s3cr3t </data/script 2>/dev/null | cat";
        let exec = live.exec(command, "/opt/busybox-args");
        let kinds: Vec<FdKind> = exec.fds.iter().map(|fd| fd.kind).collect();
        assert_eq!(kinds, [FdKind::File, FdKind::Pipe, FdKind::Device]);
        assert_eq!(exec.fds[0].ino, live.container.inode_of("script"));
        assert_eq!(exec.environment, ["LD_PRELOAD", "https_proxy"]);
        assert_eq!(exec.args.get(2), Some(b"--secret=[redacted]".as_slice()));
        let text = String::from_utf8_lossy(&driftline_schemas::encode(&exec).unwrap()).into_owned();
        assert!(!text.contains("s3cr3t"), "{text}");

        let shell = exec.ancestors.first().unwrap();
        assert_eq!(
            (shell.pid, shell.start_ns, &shell.comm),
            (exec.parent_pid, exec.parent_start_ns, &exec.parent_comm)
        );
        assert_eq!((shell.comm.as_slice(), shell.path.as_deref()), (&b"sh"[..], Some(&b"/bin/busybox"[..])));
        assert!((1..=5).contains(&exec.ancestors.len()), "{:?}", exec.ancestors);
        assert!(exec.session_id > 0 && exec.mount_ns > 0 && exec.pid_ns > 0);
        assert!(exec.file.lower_ino > 0 && exec.file.mnt_id > 0, "{:?}", exec.file);
        assert_eq!((exec.container_uid, exec.container_egid, exec.capabilities_gained), (Some(0), Some(0), 0));
        live.harness.finish();
    });
}

#[test]
fn the_peer_of_a_shell_s_connection_is_reported() {
    live("the_peer_of_a_shell_s_connection_is_reported", || {
        let live = Live::start();
        // A reverse shell: the program is started by who connects. Tried again until somebody listens.
        let reverse = "nc -l -p 4444 >/dev/null & until nc 127.0.0.1 4444 -e /opt/busybox-args true; do :; done; wait";
        let reverse = live.exec(reverse, "/opt/busybox-args");
        // A bind shell: by who listens.
        let bound = "nc -l -p 4445 -e /opt/busybox-tty true & until nc 127.0.0.1 4445 >/dev/null; do :; done; wait";
        let bound = live.exec(bound, "/opt/busybox-tty");
        for exec in [&reverse, &bound] {
            let kinds: Vec<FdKind> = exec.fds.iter().map(|fd| fd.kind).collect();
            assert_eq!(kinds[..2], [FdKind::Socket, FdKind::Socket], "{exec:?}");
            assert_eq!(exec.fds[0].ino, exec.fds[1].ino);
        }
        assert_eq!(reverse.fds[0].peer.as_deref(), Some("127.0.0.1:4444"));
        let peer = bound.fds[0].peer.as_deref().unwrap();
        assert!(peer.starts_with("127.0.0.1:") && peer != "127.0.0.1:4445", "{peer}");
        live.harness.finish();
    });
}

#[test]
fn the_two_ends_of_a_pipe_are_reported_as_one() {
    live("the_two_ends_of_a_pipe_are_reported_as_one", || {
        let live = Live::start();
        let pipelines = "/opt/busybox-args cat </data/script | /opt/busybox-tty cat >/dev/null; \
                         /opt/busybox-plain cat </data/script | cat";
        let first = live.exec(pipelines, "/opt/busybox-args");
        let second = live.harness.exec_of(live.container.id(), "/opt/busybox-tty");
        let other = live.harness.exec_of(live.container.id(), "/opt/busybox-plain");
        assert_eq!((first.fds[1].kind, second.fds[0].kind), (FdKind::Pipe, FdKind::Pipe));
        assert!(first.fds[1].ino > 0 && first.fds[1].ino == second.fds[0].ino, "{first:?} {second:?}");
        assert_ne!(other.fds[1].ino, first.fds[1].ino);
        live.harness.finish();
    });
}

#[test]
fn a_file_whose_data_was_never_copied_is_touched_though_it_was_not_hashed() {
    const TEST: &str = "a_file_whose_data_was_never_copied_is_touched_though_it_was_not_hashed";
    live(TEST, || {
        let container = Container::start_with(&["--storage-opt=overlay.mountopt=metacopy=on"]);
        let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", container.init_pid())).unwrap();
        let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
        if !root.contains("metacopy=on") {
            return harness::skip(TEST, &format!("this kernel has no overlay with metacopy: {root}"));
        }
        let index = table::index_of(&RuntimeSettings::default(), &container.image_id());
        let running = [(container.id().clone(), container.init_pid())];
        let harness = Harness::start_hashing_at_most(1, &running);
        container.sh("chmod 700 /opt/busybox-plain; /opt/busybox-plain true; printf x >>/opt/busybox-args; /opt/busybox-args true");
        let check = |path: &str, is_metacopy: bool, origin: Origin| {
            let exec = harness.exec_of(container.id(), path);
            assert_eq!((exec.class, exec.hash_state), (FileClass::CopiedUp, HashState::TooLarge), "{exec:?}");
            assert_eq!((exec.file.metacopy, judge(&exec, Ok(&index)).origin), (is_metacopy, origin), "{exec:?}");
        };
        check("/opt/busybox-plain", true, Origin::Touched);
        check("/opt/busybox-args", false, Origin::Modified);
        harness.finish();
    });
}

#[test]
fn rights_that_a_program_gains_are_reported() {
    live("rights_that_a_program_gains_are_reported", || {
        let live = Live::start();
        live.container.sh("chmod 4755 /opt/busybox-plain");
        live.container.sh_as("1000:1000", "/opt/busybox-plain true");
        let exec = live.harness.exec_of(live.container.id(), "/opt/busybox-plain");
        assert_eq!((exec.container_uid, exec.container_euid), (Some(1_000), Some(0)));
        assert_eq!((exec.uid, exec.euid), (1_000, 0));
        assert!(exec.capabilities_gained != 0 && exec.capabilities == exec.capabilities_gained, "{exec:?}");
        // A chmod alone copies no data where the container's engine uses metacopy; the class shows what was copied.
        assert_eq!(exec.class, FileClass::CopiedUp);
        live.harness.finish();
    });
}

#[test]
fn what_runs_already_is_reported_under_the_id_that_its_exec_had() {
    live("what_runs_already_is_reported_under_the_id_that_its_exec_had", || {
        let before = Harness::start(&[]);
        let container = Container::start();
        let command =
            "cp /data/busybox-added /tmp/busybox-long; /tmp/busybox-long sleep 30 & /opt/busybox-args sleep 30 &";
        container.sh(command);
        let ran = before.exec_of(container.id(), "/tmp/busybox-long");
        let first = before.execs(container.id()).into_iter().find(|exec| exec.container_pid == 1).unwrap();
        assert!(!ran.running_at_start);
        before.finish();

        let after = Harness::start(&[(container.id().clone(), container.init_pid())]);
        let again = after.exec_of(container.id(), "/tmp/busybox-long");
        assert!(again.running_at_start);
        assert_eq!((&again.event_id, again.sha256, again.class), (&ran.event_id, ran.sha256, FileClass::New));
        assert_eq!((&again.args, again.pid, again.start_ns), (&ran.args, ran.pid, ran.start_ns));
        let all = after.execs(container.id());
        assert_eq!(all.iter().filter(|exec| exec.event_id == first.event_id).count(), 1, "{all:#?}");
        assert_eq!(all.len(), 3, "the first process and two others");
        after.finish();
    });
}

#[test]
fn every_program_of_a_busy_container_is_seen() {
    live("every_program_of_a_busy_container_is_seen", || {
        let live = Live::start();
        // The first process runs already.
        let before = live.harness.wait_for(live.container.id(), 1).len();
        live.container.sh("i=0; while [ $i -lt 500 ]; do /opt/busybox-plain true; i=$((i+1)); done");
        // One for the shell.
        let all = live.harness.wait_for(live.container.id(), before + 501);
        let made = all.iter().filter(|exec| exec.path == b"/opt/busybox-plain").count();
        assert_eq!((made, all.len()), (500, before + 501));
        live.harness.finish();
    });
}

#[test]
fn the_runtimes_own_execs_are_no_events_of_the_container() {
    live("the_runtimes_own_execs_are_no_events_of_the_container", || {
        let harness = Harness::start(&[]);
        let container = Container::start();
        container.sh("/bin/true");
        let _ = harness.exec_of(container.id(), "/bin/busybox");
        let execs = harness.execs(container.id());
        for exec in &execs {
            assert_eq!((exec.namespace, exec.class), (MountNamespace::Own, FileClass::Image), "{exec:?}");
        }
        assert_eq!(execs.first().map(|exec| exec.container_pid), Some(1), "the first process comes first");
        harness.finish();
    });
}
