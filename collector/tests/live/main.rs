//! The probe, the core and the hasher against real containers: the ways in which a program gets into a container, with
//! class, path, state and digest exact. Needs root, BTF, podman and a static busybox; without them it says so, also in
//! the file that `DRIFTLINE_SKIPPED` names.
#![expect(clippy::unwrap_used, reason = "a test")]

mod cases;
mod container;
mod harness;
mod pods;
mod rights;

use cases::{CASES, Case, Content};
use container::Container;
use driftline_schemas::{Exec, FdKind, FileClass, HashState, MountNamespace, Sha256};
use harness::Harness;

/// Runs a test where it can run, and says so where it cannot.
fn live(test: &str, run: impl FnOnce()) {
    match harness::missing() {
        Some(reason) => harness::skip(test, &reason),
        None => run(),
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

    /// Runs a command in the container; returns the exec of `path` that it makes.
    fn exec(&self, command: &str, path: &str) -> Exec {
        self.container.sh(command);
        self.harness.exec_of(self.container.id(), path)
    }

    fn check(&self, case: &Case) -> Exec {
        let exec = self.exec(case.command, case.path);
        let content = match case.content {
            Content::NotHashed => None,
            Content::Image => Some(self.container.busybox()),
            Content::Added => Some(self.container.added()),
            Content::Script => Some(container::SCRIPT),
        };
        let state = if content.is_some() { HashState::Hashed } else { HashState::NotNeeded };
        let mount = exec.mount.as_ref().map(|mount| mount.point.as_str());
        assert_eq!((exec.class, exec.hash_state, mount), (case.class, state, case.mount), "{}: {exec:?}", case.name);
        assert_eq!(exec.sha256, content.map(Sha256::of), "{}: digest", case.name);
        // Where the engine copies attributes alone, it does so for nothing else than these.
        assert!(!exec.file.metacopy || exec.sha256 == Some(Sha256::of(self.container.busybox())), "{exec:?}");
        exec
    }
}

#[test]
fn every_way_into_a_container_is_told_exactly() {
    live("every_way_into_a_container_is_told_exactly", || {
        let live = Live::start();
        for case in CASES {
            live.check(case);
        }
        live.harness.finish();
    });
}

#[test]
fn what_the_kernel_knows_of_a_process_is_told() {
    live("what_the_kernel_knows_of_a_process_is_told", || {
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
fn who_started_a_program_with_which_rights_and_files_is_told() {
    live("who_started_a_program_with_which_rights_and_files_is_told", || {
        let live = Live::start();
        let command = "cd /tmp; LD_PRELOAD=/data/s3cr3t.so https_proxy=http://u:s3cr3t@proxy \
                       /opt/busybox-args true --secret=s3cr3t </data/script 2>/dev/null | cat";
        let exec = live.exec(command, "/opt/busybox-args");
        let kinds: Vec<FdKind> = exec.fds.iter().map(|fd| fd.kind).collect();
        assert_eq!(kinds, [FdKind::File, FdKind::Pipe, FdKind::Device]);
        assert_eq!(exec.fds[0].ino, live.container.inode_of("script"));
        assert_eq!(exec.environment, ["LD_PRELOAD", "https_proxy"]);
        assert_eq!(exec.args[2], b"--secret=[redacted]");
        let told = String::from_utf8_lossy(&driftline_schemas::encode(&exec).unwrap()).into_owned();
        assert!(!told.contains("s3cr3t"), "{told}");

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
fn rights_that_a_program_gains_are_told() {
    live("rights_that_a_program_gains_are_told", || {
        let live = Live::start();
        live.container.sh("chmod 4755 /opt/busybox-plain");
        live.container.sh_as("1000:1000", "/opt/busybox-plain true");
        let exec = live.harness.exec_of(live.container.id(), "/opt/busybox-plain");
        assert_eq!((exec.container_uid, exec.container_euid), (Some(1_000), Some(0)));
        assert_eq!((exec.uid, exec.euid), (1_000, 0));
        assert!(exec.capabilities_gained != 0 && exec.capabilities == exec.capabilities_gained, "{exec:?}");
        // A chmod alone copies no data where the container's engine uses metacopy; the class says what was copied.
        assert_eq!(exec.class, FileClass::CopiedUp);
        live.harness.finish();
    });
}

#[test]
fn what_runs_already_is_told_under_the_id_that_its_exec_had() {
    live("what_runs_already_is_told_under_the_id_that_its_exec_had", || {
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
fn a_memfd_is_told_whatever_its_name() {
    live("a_memfd_is_told_whatever_its_name", || {
        let live = Live::start();
        if let Err(reason) = live.container.add_memfd_runner() {
            return harness::skip("a_memfd_is_told_whatever_its_name", &reason);
        }
        // The name that runc gives its own copy.
        let name = "memfd:runc_cloned:/proc/self/exe";
        let command = "/data/memfd /data/busybox-added runc_cloned:/proc/self/exe busybox sleep 0.1";
        let exec = live.exec(command, name);
        assert_eq!((exec.class, exec.hash_state), (FileClass::Memfd, HashState::Hashed));
        assert_eq!(exec.sha256, Some(Sha256::of(live.container.added())));
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
