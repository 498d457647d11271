//! Cases that take more than a command in a container: other containers, other namespaces, a collector that comes later.

use driftline_enricher_core::judge;
use driftline_schemas::{ContainerId, Exec, FileClass, HashState, MountNamespace, Origin, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cases::CaseContent;
use super::{At, Ground, Table};
use crate::engine::{Contained, Power, Running};
use crate::harness::Harness;

/// Rounds until one of these programs is hashed.
const FLASH_ROUNDS: usize = 10;
/// How often a program is copied, executed and removed at once in each.
const FLASHES: usize = 20;
/// How often a program is written to, executed and restored: some rounds end within one tick of the file system's clock.
const RESTORED: usize = 30;
/// How often a script's link is turned.
const TURNED: usize = 10;
/// How many of those may be silent: while another virtual machine has the processor that keeps it, the file system's clock stands
/// still for longer than an exec takes; see docs/limits-of-detection.md.
const CLOCK_STOOD: usize = 3;

/// Those for which a collector has to be there.
pub(super) fn while_watched(ground: &Ground, table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>) {
    flashes(ground, table, harness, running, at);
    restored(table, harness, running, at);
    turned(table, harness, running, at);
    two_containers(ground, table, harness, running, at);
    entered(ground, table, harness, at);
    let power = running.run(&ground.image, &ground.spec(Power::All));
    left(table, harness, running, at, &power);
    entered_another(table, harness, running, at, &power);
    unshared(ground, table, harness, running, at, &power);
    nested(ground, table, harness, running, at, &power);
    process_1(table, harness, running, at);
}

/// `cp x; ./x; rm x` in less than a millisecond: always reported and judged, and a digest is right or missing. How many have
/// one depends on what else the machine does; some do, in some round.
fn flashes(ground: &Ground, table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>) {
    let mut wrong = Vec::new();
    let mut rounds = (0..FLASH_ROUNDS).map(|round| flash(ground, harness, running, at, round, &mut wrong));
    if !rounds.any(|hashed| hashed > 0) {
        wrong.push("none was hashed".to_owned());
    }
    table.add("cp x; ./x; rm x at once", at.engine, FileClass::New, Origin::Added, &wrong);
}

/// One round; how many got their digest.
fn flash(
    ground: &Ground,
    harness: &Harness,
    running: &Running,
    at: &At<'_>,
    round: usize,
    wrong: &mut Vec<String>,
) -> usize {
    let (path, count) = (format!("/tmp/flash-{round}-"), FLASHES.to_string());
    running.exec(at.container, &["/data/ways", "flash", "/data/ways", &path, &count]).unwrap();
    let digest = Sha256::of(&fs::read(ground.files.path("ways")).unwrap());
    let mut hashed = 0;
    for number in 0..FLASHES {
        let Some(exec) = harness.find(&at.container.id, format!("{path}{number}").as_bytes()) else {
            wrong.push(format!("the exec of number {number} was not reported"));
            continue;
        };
        let is_right = exec.sha256.map_or(exec.hash_state != HashState::Hashed, |sha256| sha256 == digest);
        if exec.class != FileClass::New || judge(&exec, Ok(at.index)).origin != Origin::Added || !is_right {
            wrong.push(format!("{exec:?}"));
        }
        hashed += usize::from(exec.sha256.is_some());
    }
    println!("{}: {hashed} of {FLASHES} programs that were gone at once have their digest", at.engine.name());
    hashed
}

/// An image's program that is written to, executed and restored at once, so that its digest and change time may be the image's
/// and that of the exec.
fn restored(table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>) {
    const PATH: &str = "/opt/busybox-restored";
    running.exec(at.container, &["/data/ways", "restore", PATH, &RESTORED.to_string()]).unwrap();
    let execs = harness.wait_for_those(&at.container.id, RESTORED, |exec| exec.path == PATH.as_bytes());
    let silent = execs.iter().filter(|exec| judge(exec, Ok(at.index)).category.is_none());
    let silent: Vec<String> = silent.map(|exec| format!("{exec:?}")).collect();
    let wrong = if silent.len() > CLOCK_STOOD { silent } else { Vec::new() };
    table.add("written, executed, restored", at.engine, FileClass::CopiedUp, Origin::Unproven, &wrong);
}

/// A link to a foreign script that leads to an image's script by the time that it is looked up.
fn turned(table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>) {
    let turn = format!(
        "printf '#!/bin/sh\n: foreign\n' >/tmp/foreign.sh; chmod 755 /tmp/foreign.sh; \
         for n in $(seq {TURNED}); do \
         ln -s /tmp/foreign.sh /tmp/turned$n; sleep 0.1; /data/ways turn /tmp/turned$n /opt/linked.sh || exit; done"
    );
    let complaint = running.exec(at.container, &["/bin/sh", "-c", &turn]).err();
    let is_turned = |exec: &Exec| exec.typed_path.starts_with(b"/tmp/turned");
    let execs = harness.wait_for_those(&at.container.id, TURNED, is_turned);
    let (reported, silent): (Vec<_>, Vec<_>) =
        execs.iter().map(|exec| judge(exec, Ok(at.index))).partition(|verdict| verdict.category.is_some());
    let is_right = complaint.is_none() && silent.len() <= CLOCK_STOOD;
    let wrong = if is_right { Vec::new() } else { vec![format!("{complaint:?} {silent:?}")] };
    let origin = reported.first().map_or(Origin::None, |verdict| verdict.origin);
    table.add("script's link turned after the exec", at.engine, FileClass::RootfsPlain, origin, &wrong);
}

/// What one container does to its image's file is not done to the other's.
fn two_containers(ground: &Ground, table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>) {
    let other = running.run(&ground.image, &ground.spec(Power::Usual));
    let change = "cat /data/busybox-added >/opt/busybox-plain; /opt/busybox-plain true";
    running.exec(&other, &["/bin/sh", "-c", change]).unwrap();
    let changed = Expect { class: FileClass::CopiedUp, content: CaseContent::Added, origin: Origin::Modified };
    check(
        ground,
        table,
        "two containers, the changed one",
        at,
        harness.find(&other.id, b"/opt/busybox-plain"),
        &changed,
    );
    running.exec(at.container, &["/opt/busybox-nest", "true"]).unwrap();
    running.exec(&other, &["/opt/busybox-nest", "true"]).unwrap();
    let untouched = Expect { class: FileClass::Image, content: CaseContent::NotHashed, origin: Origin::Image };
    for (case, container) in [("two containers, the first", at.container), ("two containers, the second", &other)] {
        check(ground, table, case, at, harness.find(&container.id, b"/opt/busybox-nest"), &untouched);
    }
    running.remove(&other);
}

/// `nsenter` from the node, in the container's cgroup as a runtime's exec is. One that stays in the node's cgroup is a
/// program of the node's to every part of this.
fn entered(ground: &Ground, table: &mut Table, harness: &Harness, at: &At<'_>) {
    let pid = harness.first_process(&at.container.id);
    let join: String =
        cgroups_of(pid).iter().map(|path| format!("echo $$ >{}/cgroup.procs; ", path.display())).collect();
    let enter = format!("{join} exec nsenter -t {pid} -m -p -- /tmp/busybox-cp true");
    let status = Command::new("sh").args(["-c", &enter]).status().unwrap();
    assert!(status.success(), "{enter}");
    let expect = Expect { class: FileClass::New, content: CaseContent::Image, origin: Origin::Relocated };
    let exec = harness.find_where(&at.container.id, |exec| {
        exec.path == b"/tmp/busybox-cp" && exec.entered_from_outside && exec.parent_comm == b"nsenter"
    });
    check(ground, table, "nsenter into the container", at, exec, &expect);
}

/// A privileged container's way to the node: the node's programs are no drift, and are reported as what they are.
fn left(table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>, power: &Contained) {
    // Not the first process: some systems hide it even from root.
    let own = std::process::id().to_string();
    let direct = ["/bin/nsenter", "-t", &own, "-m", "/bin/true"];
    let complaint = running.exec(power, &direct).err();
    let host = fs::canonicalize("/bin/true").unwrap().display().to_string();
    let exec = harness.find(&power.id, host.as_bytes());
    let is_told = exec.as_ref().is_some_and(|exec| exec.namespace == MountNamespace::Host);
    let class = exec.as_ref().map_or(FileClass::Unknown, |exec| exec.class);
    let origin = exec.as_ref().map_or(Origin::None, |exec| judge(exec, Ok(at.index)).origin);
    let is_right = is_told && origin == Origin::HostNamespace;
    let wrong = if is_right { Vec::new() } else { vec![format!("{complaint:?} {exec:?}")] };
    table.add("nsenter out of the container", at.engine, class, origin, &wrong);
}

/// From one container into another: the file is none of its own image's.
fn entered_another(table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>, power: &Contained) {
    let pid = harness.first_process(&at.container.id).to_string();
    let complaint = running.exec(power, &["/bin/nsenter", "-t", &pid, "-m", "/opt/busybox-plain", "true"]).err();
    let exec = harness.find(&power.id, b"/opt/busybox-plain");
    let is_told = exec.as_ref().is_some_and(|exec| exec.namespace == MountNamespace::Other);
    let class = exec.as_ref().map_or(FileClass::Unknown, |exec| exec.class);
    let origin = exec.as_ref().map_or(Origin::None, |exec| judge(exec, Ok(at.index)).origin);
    let is_right = is_told && class == FileClass::Foreign && origin == Origin::Mounted;
    let wrong = if is_right { Vec::new() } else { vec![format!("{complaint:?} {exec:?}")] };
    table.add("nsenter into another container", at.engine, class, origin, &wrong);
}

/// Process 1 of a pid namespace made in the container, with another overlay as its root: an untouched file of that overlay at
/// a path of the image is none of the image's, and the container's root stays what it was.
fn process_1(table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>) {
    let inside = "cd /scratch; mkdir pl pl/opt pl/old pu pw pm; cp /data/busybox-added pl/opt/busybox-plain; \
                  unshare -Urm sh -c 'mount -t overlay -o lowerdir=pl,upperdir=pu,workdir=pw none pm; cd pm; \
                  pivot_root . old; exec /opt/busybox-plain unshare -pf /opt/busybox-plain usleep 300000'";
    let complaint = running.exec(at.container, &["/bin/sh", "-c", inside]).err();
    let is_process_1 = |exec: &Exec| exec.path == b"/opt/busybox-plain" && exec.container_pid == 1;
    let exec = harness.find_where(&at.container.id, is_process_1);
    let class = exec.as_ref().map_or(FileClass::Unknown, |exec| exec.class);
    let origin = exec.as_ref().map_or(Origin::None, |exec| judge(exec, Ok(at.index)).origin);
    let is_right = class == FileClass::Foreign && origin == Origin::Mounted;
    let wrong = if is_right { Vec::new() } else { vec![format!("{complaint:?} {exec:?}")] };
    table.add("process 1 with a root of its own", at.engine, class, origin, &wrong);
}

/// Mount namespaces made in a container that has the node's process ids: the process that made one was entered from the node,
/// or has ended, so that no ancestor is in the container's own.
fn unshared(ground: &Ground, table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>, power: &Contained) {
    let copy = |name: &str| format!("cp /data/busybox-added /tmp/busybox-{name}");
    let forked = format!("{}; /tmp/busybox-forked sleep 0.2; true", copy("forked"));
    let orphaned = format!("{}; (usleep 200000; /tmp/busybox-orphaned sleep 0.2; true) & exit 0", copy("orphaned"));
    let expect = Expect { class: FileClass::New, content: CaseContent::Added, origin: Origin::Added };
    for (case, path, command) in [
        ("hostPID, unshare -m, forked", "/tmp/busybox-forked", forked),
        ("hostPID, unshare -m, orphaned", "/tmp/busybox-orphaned", orphaned),
    ] {
        running.exec(power, &["/bin/unshare", "-m", "/bin/sh", "-c", &command]).unwrap();
        check(ground, table, case, at, harness.find(&power.id, path.as_bytes()), &expect);
    }
}

/// What an engine in a container does: an overlay, a cgroup named as a container, namespaces of their own. No runtime of
/// the node knows such a container, so what it runs belongs to the one around it, whose root it is not on.
fn nested(ground: &Ground, table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>, power: &Contained) {
    let inner = Sha256::of(power.id.as_str().as_bytes()).to_string();
    let (ready, go) = (format!("{}-ready", at.engine.name()), format!("{}-go", at.engine.name()));
    // It runs until it was hashed, and is then ended from the node.
    let inside = format!(
        "set -e; cd /scratch; mkdir l u w m; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m; \
         cp /data/busybox-added m/busybox-nested; echo $$ >/data/{ready}; \
         while [ ! -e /data/{go} ]; do usleep 20000; done; \
         unshare -mpf sh -c 'cd m; mkdir old; pivot_root . old; exec /busybox-nested sleep 30' || true; umount m"
    );
    let (complaint, wrong) = std::thread::scope(|scope| {
        let shell = scope.spawn(|| running.exec(power, &["/bin/sh", "-c", &inside]));
        let pid = read_when_there(&ground.files.path(&ready));
        // An engine uses the hierarchies that the one around it does.
        let is_used = |path: &PathBuf| path.to_string_lossy().contains(power.id.as_str());
        let made: Vec<PathBuf> = cgroups_of(pid).into_iter().filter(is_used).map(|path| path.join(&inner)).collect();
        assert!(!made.is_empty());
        for path in &made {
            fs::create_dir(path).unwrap();
            fs::write(path.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        ground.files.write(&go, b"");
        let exec = harness.find(&power.id, b"/busybox-nested");
        if let Some(exec) = &exec {
            assert!(Command::new("kill").args(["-9", &exec.pid.to_string()]).status().unwrap().success());
        }
        let complaint = shell.join().unwrap().err();
        for path in made {
            let _ = fs::remove_dir(path);
        }
        let digest = ground.files.content(CaseContent::Added).map(Sha256::of);
        let is_right = exec.as_ref().is_some_and(|exec| {
            exec.class == FileClass::Foreign
                && exec.namespace == MountNamespace::Other
                && exec.sha256 == digest
                && exec.inner_container_id == Some(ContainerId::from(inner.as_str()))
                && judge(exec, Ok(at.index)).origin == Origin::Mounted
        });
        let else_told = || harness.execs(&ContainerId::from(inner.as_str()));
        (complaint, if is_right { Vec::new() } else { vec![format!("{exec:?}, and {:?}", else_told())] })
    });
    let wrong: Vec<String> = complaint.into_iter().chain(wrong).collect();
    table.add("container in a container", at.engine, FileClass::Foreign, Origin::Mounted, &wrong);
}

/// Those for a collector that was started after everything, and that gets nothing from a runtime.
pub(super) fn after_a_restart(table: &mut Table, harness: &Harness, running: &Running, at: &At<'_>) {
    let early = "cp /data/busybox-added /tmp/busybox-early; /tmp/busybox-early true; /tmp/busybox-new true; /opt/busybox-nest true";
    running.exec(at.container, &["/bin/sh", "-c", early]).unwrap();
    let exec = harness.find(&at.container.id, b"/tmp/busybox-early");
    let origins = exec.as_ref().map(|exec| [Err("no_metadata"), Ok(at.index)].map(|image| judge(exec, image).origin));
    let is_right = origins == Some([Origin::Unresolved, Origin::Added]);
    let wrong = if is_right { Vec::new() } else { vec![format!("{origins:?} {exec:?}")] };
    let class = exec.map_or(FileClass::Unknown, |exec| exec.class);
    table.add("exec before the metadata is known", at.engine, class, Origin::Added, &wrong);
    for (case, path, expect) in [
        ("collector restarted, new file", "/tmp/busybox-new", (FileClass::New, Origin::Added)),
        ("collector restarted, image binary", "/opt/busybox-nest", (FileClass::Image, Origin::Image)),
    ] {
        let exec = harness.find(&at.container.id, path.as_bytes());
        let found = exec.as_ref().map(|exec| (exec.class, judge(exec, Ok(at.index)).origin));
        let wrong = if found == Some(expect) { Vec::new() } else { vec![format!("{exec:?}")] };
        let (class, origin) = found.unwrap_or((FileClass::Unknown, Origin::None));
        table.add(case, at.engine, class, origin, &wrong);
    }
}

pub(super) struct Expect {
    pub(super) class: FileClass,
    pub(super) content: CaseContent,
    pub(super) origin: Origin,
}

pub(super) fn check(
    ground: &Ground,
    table: &mut Table,
    case: &'static str,
    at: &At<'_>,
    exec: Option<Exec>,
    expect: &Expect,
) {
    let Some(exec) = exec else {
        return table.add(case, at.engine, expect.class, expect.origin, &["no such exec was reported".to_owned()]);
    };
    let origin = judge(&exec, Ok(at.index)).origin;
    let sha256 = ground.files.content(expect.content).map(Sha256::of);
    let is_right = (exec.class, exec.sha256, origin) == (expect.class, sha256, expect.origin);
    let wrong = if is_right { Vec::new() } else { vec![format!("{exec:?}")] };
    table.add(case, at.engine, exec.class, origin, &wrong);
}

/// A container's cgroups on the node, in the hierarchies that the kernel program reads: the unified one, and that of
/// process counts where there are several.
pub(super) fn cgroups_of(pid: i32) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let point = |fs_type: &str, option: &str| {
        let is_it = |line: &&str| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields[2] == fs_type && (option.is_empty() || fields[3].split(',').any(|each| each == option))
        };
        mounts.lines().find(is_it).map(|line| line.split(' ').nth(1).unwrap().to_owned())
    };
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let below = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let point = match controllers {
            "" => point("cgroup2", "")?,
            "pids" => point("cgroup", "pids")?,
            _ => return None,
        };
        Some(Path::new(&point).join(path.trim_start_matches('/')))
    };
    cgroups.lines().filter_map(below).collect()
}

fn read_when_there(path: &Path) -> i32 {
    for _ in 0..500 {
        let number = fs::read_to_string(path).unwrap_or_default();
        // All of it: a line.
        if let Some(number) = number.strip_suffix('\n') {
            return number.parse().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} does not come", path.display());
}
