//! The probe, the core and the hasher against real containers: the ways in which a program gets into a container, with
//! class, path, state and digest exact. Needs root, BTF, podman and a static busybox; without them it says so, also in
//! the file that `DRIFTLINE_SKIPPED` names.
#![expect(clippy::unwrap_used, reason = "a test")]

mod cases;
mod container;
mod harness;

use cases::{CASES, Case, Content};
use container::Container;
use driftline_schemas::{Exec, FileClass, HashState, MountNamespace, Sha256};
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
