//! One exec as named facts: those of the kernel's record are compared with those that the helper found out in other ways.

use driftline_collector_core::{Dev, RawExec};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Facts by name, as text: so that any two can be compared, sent through a pipe and shown.
pub(super) type Facts = BTreeMap<String, String>;

/// Nanoseconds of a tick of `/proc/PID/stat`: 100 a second on every architecture that has eBPF.
const TICK_NS: u64 = 10_000_000;

/// The facts of a record.
pub(super) fn of_exec(exec: &RawExec) -> Facts {
    let file = &exec.file;
    let pairs = [
        ("path", text(&exec.path)),
        ("typed path", text(&exec.typed_path)),
        ("arguments", arguments(exec.args.iter())),
        ("working directory", text(&exec.cwd)),
        ("size", file.size_bytes.to_string()),
        ("inode", file.ino.to_string()),
        ("inode of the upper file", file.real_ino.to_string()),
        ("mode", mode(u32::from(file.mode))),
        ("links", file.nlink.to_string()),
        ("modification time", file.mtime_ns.to_string()),
        ("change time", file.ctime_ns.to_string()),
        ("file system", magic(file.fs_magic)),
        ("device", device(file.dev)),
        ("mount", file.mnt_id.to_string()),
        ("root device", device(exec.root_dev)),
        ("root mount", exec.root_mnt_id.to_string()),
        ("root of the mount", text(&exec.mount_root)),
        ("bytes below the mount", exec.below_mount_bytes.to_string()),
        ("on an overlay", yes_no(exec.is_overlay())),
        ("upper part", yes_no(exec.has_upper())),
        ("lower parts", file.lower_count.to_string()),
        ("script", yes_no(exec.is_script())),
        ("without a directory", yes_no(exec.is_anonymous())),
        ("process id", exec.pid.to_string()),
        ("process id in its namespace", exec.ns_pid.to_string()),
        ("start", (exec.start_ns / TICK_NS).to_string()),
        ("parent's process id", exec.parent().map_or(0, |parent| parent.pid).to_string()),
        ("parent's start", (exec.parent().map_or(0, |parent| parent.start_ns) / TICK_NS).to_string()),
        ("parent's name", text(exec.parent().map(|parent| parent.comm.as_bytes()).unwrap_or_default())),
        ("user ids", format!("{} {}", exec.uid, exec.euid)),
        ("group ids", format!("{} {}", exec.gid, exec.egid)),
        ("mount namespace", exec.mnt_ns.to_string()),
        ("process id namespace", exec.pid_ns.to_string()),
        ("container cgroup", text(&exec.cgroup)),
        ("terminal", text(&exec.tty)),
        ("session", exec.session_id.to_string()),
        ("user ids inside", format!("{} {}", exec.ns_uid, exec.ns_euid)),
        ("group ids inside", format!("{} {}", exec.ns_gid, exec.ns_egid)),
        ("capabilities", format!("{:016x}", exec.capabilities)),
        ("capabilities gained", format!("{:016x}", exec.capabilities_gained)),
        ("environment", exec.environment.join("|")),
        ("ancestors", ancestors(exec)),
    ];
    let files = ["standard input", "standard output", "standard error"].into_iter().zip(&exec.fds);
    let files = files.map(|(name, fd)| (name, open_file(u32::from(fd.mode), fd.ino, fd.rdev, fd.peer)));
    pairs.into_iter().chain(files).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn ancestors(exec: &RawExec) -> String {
    let ancestors = exec.ancestors.iter().map(|each| {
        ancestor(
            &each.pid.to_string(),
            &(each.start_ns / TICK_NS).to_string(),
            &String::from_utf8_lossy(each.comm.as_bytes()),
        )
    });
    ancestors.collect::<Vec<_>>().join("|")
}

/// A process by its id, its start in ticks and its name.
pub(super) fn ancestor(pid: &str, start: &str, name: &str) -> String {
    format!("{pid} {start} {name}")
}

pub(super) fn open_file(mode: u32, ino: u64, device: Dev, peer: Option<SocketAddr>) -> String {
    let peer = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
    format!("{mode:o} {ino} {}:{} {peer}", device.major, device.minor)
}

pub(super) fn insert(facts: &mut Facts, name: &str, value: String) {
    facts.insert(name.to_owned(), value);
}

/// One line for each fact that is not as expected.
pub(super) fn differences(expected: &Facts, seen: &Facts) -> Vec<String> {
    let differs = |(name, value): (&String, &String)| {
        let seen = seen.get(name).map_or("nothing", String::as_str);
        (seen != value).then(|| format!("{name} is {value:?}, the kernel program reads {seen:?}"))
    };
    expected.iter().filter_map(differs).collect()
}

pub(super) fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub(super) fn arguments(arguments: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    arguments.into_iter().map(|argument| text(argument.as_ref())).collect::<Vec<_>>().join("|")
}

pub(super) fn mode(mode: u32) -> String {
    format!("{mode:o}")
}

pub(super) fn magic(magic: u64) -> String {
    format!("{magic:x}")
}

pub(super) fn device(dev: Dev) -> String {
    format!("{}:{}", dev.major, dev.minor)
}

pub(super) fn yes_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pairs: &[(&str, &str)]) -> Facts {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_what_is_expected_and_not_so_is_reported() {
        let seen = facts(&[("size", "1"), ("mode", "755"), ("links", "1")]);
        assert_eq!(differences(&facts(&[("size", "1")]), &seen), Vec::<String>::new());
        let found = differences(&facts(&[("size", "2"), ("mode", "755"), ("inode", "7")]), &seen);
        assert_eq!(
            found,
            ["inode is \"7\", the kernel program reads \"nothing\"", "size is \"2\", the kernel program reads \"1\""]
        );
    }
}
