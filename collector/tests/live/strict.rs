//! Strict mode: what is removed or overwritten at once has its digest all the same, and nobody waits for long.

use driftline_collector::rights::{FOR_STRICT, NEEDED};
use driftline_collector::strict::{StrictMode, StrictSettings};
use driftline_kafka::{ClientSettings, admin};
use driftline_schemas::{ContainerId, Exec, FileClass, HashState, Sha256};
use driftline_service::checks::{Check, Health};
use nix::libc::SYS_execve;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::container::{Container, write};
use super::harness::{self, Harness};
use super::installed::{Installation, Running, Starter, kafka, short, until};
use super::table::files::loader_and_library;

/// Long enough for a busy machine.
const WAIT: Duration = Duration::from_secs(5);

/// How often a program is copied, run and removed.
const ROUNDS: usize = 50;

/// Where the image has a dynamic loader.
const LOADER: &str = "/lib/ld-linux-test.so.2";

/// A container that is watched.
struct Watched {
    container: Container,
    harness: Harness,
    dynamic: Vec<u8>,
}

impl Watched {
    fn start(mode: StrictMode, wait: Duration) -> Self {
        let program = fs::canonicalize("/bin/true").unwrap();
        let (loader, library) = loader_and_library(&program);
        let files = [(LOADER.trim_start_matches('/'), loader), ("lib/libc.so.6", library)];
        let container = Container::start_having(&[], &files);
        let nonce = container.id().as_str().as_bytes().to_vec();
        let dynamic = [fs::read(program).unwrap(), nonce].concat();
        write(&container.data("dynamic"), &dynamic);
        write(&container.data("forgetful"), FORGETFUL);
        let running = [(container.id().clone(), container.init_pid())];
        let harness = Harness::start_strict(StrictSettings { mode, wait }, &running);
        let is_watched = || {
            container.sh("/bin/true");
            harness.strict_count("opened") > 0
        };
        assert!((0..20).any(|_| is_watched()), "no execution is reported");
        Self { container, harness, dynamic }
    }

    /// Copies, runs and removes a program so often; its execs.
    fn copy_run_remove(&self, directory: &str) -> Vec<Exec> {
        let file = format!("{directory}/busybox-$i");
        self.container.sh(&format!(
            "i=0; while [ $i -lt {ROUNDS} ]; do cp /data/busybox-added {file}; {file} true; rm {file}; i=$((i+1)); done"
        ));
        let prefix = format!("{directory}/busybox-");
        let is_it = |exec: &Exec| exec.path.starts_with(prefix.as_bytes());
        self.harness.wait_for_those(self.container.id(), ROUNDS, is_it)
    }

    /// Runs a command in the container; returns the exec of `path` that it makes.
    fn exec(&self, command: &str, path: &str) -> Exec {
        self.container.sh(command);
        self.harness.exec_of(self.container.id(), path)
    }
}

/// A script that is gone when it ends.
const FORGETFUL: &[u8] = b"#!/bin/sh\nrm \"$0\"\n";

#[test]
fn a_program_that_is_removed_at_once_is_hashed_while_it_waits() {
    super::live("a_program_that_is_removed_at_once_is_hashed_while_it_waits", || {
        let watched = Watched::start(StrictMode::Permit, WAIT);
        let added = Sha256::of(watched.container.added());
        for (directory, class) in [("/tmp", FileClass::New), ("/dev/shm", FileClass::Volume)] {
            for exec in watched.copy_run_remove(directory) {
                assert_eq!((exec.class, exec.sha256), (class, Some(added)), "{exec:?}");
            }
        }
        // As many as were copied: the programs of the image were not.
        assert_eq!(watched.harness.strict_count("hashed"), 2 * ROUNDS as u64);
        assert!(watched.harness.strict_count("image") > 0);
        for trouble in ["timed_out", "overflow", "failed", "busy", "over_budget"] {
            assert_eq!(watched.harness.strict_count(trouble), 0, "{trouble}");
        }
        watched.harness.finish();
    });
}

#[test]
fn scripts_and_what_a_loader_runs_are_hashed_before_they_are_gone() {
    super::live("scripts_and_what_a_loader_runs_are_hashed_before_they_are_gone", || {
        let watched = Watched::start(StrictMode::Permit, WAIT);
        let forgetful = watched.exec("cp /data/forgetful /tmp/forgetful; /tmp/forgetful", "/tmp/forgetful");
        assert_eq!(forgetful.sha256, Some(Sha256::of(FORGETFUL)), "{forgetful:?}");
        assert!(forgetful.script.is_some());

        let script = "cp /data/script /tmp/over.sh; cd /tmp; ./over.sh; printf x >/tmp/over.sh";
        let script = watched.exec(script, "/tmp/over.sh");
        assert_eq!(script.sha256, Some(Sha256::of(super::container::SCRIPT)), "{script:?}");

        let removed = Sha256::of(super::container::SCRIPT);
        let of_image = watched.exec("/opt/script.sh; rm /opt/script.sh", "/opt/script.sh");
        assert_eq!(of_image.sha256, Some(removed), "{of_image:?}");

        for name in ["/tmp/loaded-1", "loaded-2", "./loaded-3"] {
            let path = format!("/tmp/{}", name.trim_start_matches("/tmp/").trim_start_matches("./"));
            let command = format!("cd /tmp; cp /data/dynamic {path}; {LOADER} --library-path /lib {name}; rm {path}");
            let loaded = watched.exec(&command, &path);
            assert!(loaded.loaded.is_some(), "{loaded:?}");
            assert_eq!(loaded.sha256, Some(Sha256::of(&watched.dynamic)), "{loaded:?}");
        }
        assert_eq!(watched.harness.strict_count("timed_out"), 0);
        watched.harness.finish();
    });
}

#[test]
fn without_waiting_no_digest_is_of_another_file() {
    super::live("without_waiting_no_digest_is_of_another_file", || {
        let watched = Watched::start(StrictMode::Notify, WAIT);
        let added = Sha256::of(watched.container.added());
        let execs = watched.copy_run_remove("/tmp");
        let hashed = execs.iter().filter(|exec| exec.sha256 == Some(added)).count();
        let unknown = execs.iter().filter(|exec| exec.sha256.is_none() && exec.hash_state != HashState::Hashed).count();
        assert_eq!(hashed + unknown, execs.len(), "{execs:#?}");
        assert!(hashed > 0, "none in {ROUNDS} rounds: does any event come before the record?");
        assert!(watched.harness.strict_count("hashed") > 0);
        harness::report(&format!(
            "strict mode, notify: {hashed} of {ROUNDS} programs hashed that were removed at once\n"
        ));
        watched.harness.finish();
    });
}

#[test]
fn an_exec_goes_on_when_its_time_is_over() {
    super::live("an_exec_goes_on_when_its_time_is_over", || {
        let watched = Watched::start(StrictMode::Permit, Duration::from_millis(1));
        // Takes 40 ms to hash.
        let large = [watched.container.added(), &vec![0; 60 << 20]].concat();
        write(&watched.container.data("large"), &large);
        let exec = watched.exec("cp /data/large /tmp/busybox-large; /tmp/busybox-large true", "/tmp/busybox-large");
        assert_eq!(exec.sha256, Some(Sha256::of(&large)), "its hashing went on");
        assert!(watched.harness.strict_count("timed_out") >= 1);
        watched.harness.finish();
    });
}

fn nowhere() -> ClientSettings {
    ClientSettings {
        bootstrap: "127.0.0.1:1".to_owned(),
        prefix: "none".to_owned(),
        partitions: 1,
        client_id: String::new(),
    }
}

#[test]
fn strict_mode_without_its_capability_is_refused_at_the_start() {
    super::live("strict_mode_without_its_capability_is_refused_at_the_start", || {
        let place = Installation::without_podman();
        for mode in ["notify", "permit"] {
            let output = place.command(&Starter::usual(), &nowhere()).env("DRIFTLINE_STRICT", mode).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && errors.contains("DRIFTLINE_STRICT: missing CAP_SYS_ADMIN"), "{errors}");
        }
    });
}

#[test]
fn doctor_reports_whether_strict_mode_is_possible_and_calls_it_a_problem_where_it_is_on() {
    super::live("doctor_reports_whether_strict_mode_is_possible_and_calls_it_a_problem_where_it_is_on", || {
        let place = Installation::without_podman();
        let healths = |starter: Starter| {
            ["off", "notify", "permit"].map(|mode| {
                let mut doctor = place.command(&starter, &nowhere());
                doctor.args(["doctor", "--json"]).env("DRIFTLINE_STRICT", mode).stdout(Stdio::piped());
                let checks: Vec<Check> = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
                let check = checks.into_iter().find(|check| check.name == "strict mode").unwrap();
                assert_eq!(check.remedy.contains("CAP_SYS_ADMIN"), check.health == Health::Problem, "{check:?}");
                check.health
            })
        };
        assert_eq!(healths(Starter::Root), [Health::Ok; 3]);
        assert_eq!(healths(Starter::usual()), [Health::NotRun, Health::Problem, Health::Problem]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_collector_lets_everything_go() {
    let name = "a_killed_collector_lets_everything_go";
    if let Some(reason) = harness::missing() {
        return harness::skip(name, &reason);
    }
    let Some(kafka) = kafka("strict") else {
        return harness::skip(name, "KAFKA_BOOTSTRAP is not set; make test starts a Kafka");
    };
    let _among_others = harness::NODE.read().await;
    admin::create(&kafka, 1).await.unwrap();
    let place = Installation::with_podman().await;
    let container = Container::start();
    let capabilities = NEEDED.iter().chain([&FOR_STRICT]).map(|needed| short(needed.name)).collect();
    let mut command = place.command(&Starter::User(capabilities), &kafka);
    command.env("DRIFTLINE_STRICT", "permit");
    let running = place.start(command).await;
    let collector = running.0.id();
    until(|| marks(collector) > 0).await;
    check_rights(collector);

    // Another container's marks go with it, although nobody takes them back.
    let before = marks(collector);
    let other = Container::start();
    until(|| marks(collector) > before).await;
    drop(other);
    until(|| marks(collector) <= before).await;

    let pid = Pid::from_raw(i32::try_from(collector).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let mut exec = Running(exec_in(&container));
    until(|| is_held(container.id())).await;
    assert!(exec.0.try_wait().unwrap().is_none(), "nobody has let it go");
    kill_process(pid, Signal::KILL).unwrap();
    until(|| exec.0.try_wait().unwrap().is_some_and(|status| status.success())).await;
    drop(running);
    admin::delete_all(&kafka).await.unwrap();
}

/// One thread keeps what strict mode needs, no other.
fn check_rights(collector: u32) {
    let mut with = Vec::new();
    for thread in fs::read_dir(format!("/proc/{collector}/task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        match field("CapPrm:").as_str() {
            "000000c000080004" => {}
            "000000c000280004" => with.push(field("Name:")),
            other => panic!("{} has {other}", field("Name:")),
        }
        assert_eq!((field("CapEff:"), field("NoNewPrivs:")), (field("CapPrm:"), "1".to_owned()));
    }
    assert_eq!(with, ["strict-mark"]);
}

/// Marks that a process has.
fn marks(process: u32) -> usize {
    let Ok(all) = fs::read_dir(format!("/proc/{process}/fdinfo")) else { return 0 };
    let texts = all.filter_map(|info| fs::read_to_string(info.ok()?.path()).ok());
    texts.map(|text| text.lines().filter(|line| is_mark(line)).count()).sum()
}

fn is_mark(line: &str) -> bool {
    ["fanotify sdev:", "fanotify mnt_id:", "fanotify ino:"].iter().any(|start| line.starts_with(start))
}

fn exec_in(container: &Container) -> Child {
    let pid = container.init_pid();
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--mount", "--pid", "/bin/true"]);
    command.stdin(Stdio::null()).spawn().unwrap()
}

/// Whether a process waits in an exec in the mount namespace of a container.
fn is_held(container: &ContainerId) -> bool {
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let waits = |process: &Path| {
        let call = fs::read_to_string(process.join("syscall")).unwrap_or_default();
        call.starts_with(&format!("{SYS_execve} ")) && mount_table(process).contains(container.as_str())
    };
    all.into_iter().any(|process| waits(&process))
}

fn mount_table(process: &Path) -> String {
    fs::read_to_string(process.join("mountinfo")).unwrap_or_default()
}
