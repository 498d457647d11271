//! The kernel's table against what the runtime declares.

use driftline_schemas::Mount;
use driftline_schemas::limits::MOUNTS_MAX;

use super::{Declared, table};

const MOUNTINFO: &str = include_str!("../../testdata/podman-4.3-mountinfo");

fn declared(point: &str, kind: &str, source: &str) -> Declared {
    Declared { point: point.to_owned(), kind: kind.to_owned(), source: source.to_owned(), read_only: false }
}

fn find<'a>(mounts: &'a [Mount], point: &str) -> &'a Mount {
    mounts.iter().find(|mount| mount.point == point).unwrap_or_else(|| panic!("{point} in {mounts:#?}"))
}

#[test]
fn the_kernel_shows_what_is_mounted_and_the_runtime_names_it() {
    let mounts = table(
        vec![
            declared("/mnt/vol/", "volume", "volume"),
            declared("/mnt/bind", "bind", "/srv/example/bind"),
            declared("/scratch", "tmpfs", "tmpfs"),
            declared("/gone", "bind", "/x"),
        ],
        Some(MOUNTINFO),
    );
    let shm = find(&mounts, "/dev/shm");
    assert_eq!((shm.fs_type.as_str(), shm.source.as_str(), shm.read_only), ("tmpfs", "shm", false));
    let volume = find(&mounts, "/mnt/vol");
    assert_eq!((volume.fs_type.as_str(), volume.source.as_str()), ("volume", "volume"));
    let bind = find(&mounts, "/mnt/bind");
    assert_eq!((bind.fs_type.as_str(), bind.read_only), ("bind", true), "read-only although declared writable");
    assert_eq!(find(&mounts, "/scratch").fs_type, "tmpfs");
    let hosts = find(&mounts, "/etc/hosts");
    assert_eq!((hosts.fs_type.as_str(), hosts.source.as_str()), ("bind", ""), "made by the engine, declared nowhere");
    assert_eq!(find(&mounts, "/proc").fs_type, "proc");
    assert_eq!(find(&mounts, "/sys/fs/cgroup/cpu").fs_type, "cgroup");
    assert!(find(&mounts, "/proc/acpi").read_only);
    assert!(mounts.iter().all(|mount| mount.point != "/" && mount.point != "/gone"));
    assert!(mounts.windows(2).all(|pair| pair[0].point.len() >= pair[1].point.len()));
}

#[test]
fn without_the_kernel_s_table_the_declared_mounts_and_shm_remain() {
    let mounts = table(vec![declared("/data", "volume", "v")], None);
    assert_eq!(find(&mounts, "/data").fs_type, "volume");
    assert_eq!(find(&mounts, "/dev/shm").fs_type, "tmpfs");
    assert_eq!(mounts.len(), 2);
    let own = table(vec![declared("/dev/shm", "bind", "/x")], None);
    assert_eq!(find(&own, "/dev/shm").fs_type, "bind");
}

#[test]
fn the_mount_on_top_counts_and_odd_points_are_read() {
    let text = "1 0 0:1 / /a rw - tmpfs one rw\n2 0 0:2 / /a ro - ext4 two rw\n3 0 0:3 / /sp\\040ace\\134\\x rw shared:1 master:2 - xfs dev\\011 rw,ro\nnonsense\n4 0 0:3 / /b";
    let mounts = table(Vec::new(), Some(text));
    assert_eq!((find(&mounts, "/a").source.as_str(), find(&mounts, "/a").read_only), ("two", true));
    let odd = find(&mounts, "/sp ace\\\\x");
    assert_eq!((odd.source.as_str(), odd.read_only), ("dev\t", true));
    assert_eq!(mounts.len(), 2);
}

#[test]
fn a_table_that_is_too_long_keeps_what_can_hold_programs() {
    let lines: Vec<String> = (0..1_000)
        .map(|n| format!("{n} 0 0:1 / {}/{n} rw - tmpfs t rw", if n < 900 { "/proc/very/long/path" } else { "/v" }))
        .collect();
    let mounts = table(Vec::new(), Some(&lines.join("\n")));
    assert_eq!(mounts.len(), 100);
    let lines: Vec<String> = (0..1_000).map(|n| format!("{n} 0 0:1 / /v/{n} rw - tmpfs t rw")).collect();
    assert_eq!(table(Vec::new(), Some(&lines.join("\n"))).len(), MOUNTS_MAX);
}
