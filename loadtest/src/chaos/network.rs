//! Networks: each broker and each service has a network namespace of its own. All of them and the rig's clients are
//! connected to one bridge; a node that is removed from the bridge is cut off from all others. Called by
//! [`super::cluster`] and [`super::supervisor`].
//!
//! The process itself runs in network, mount and pid namespaces of its own, which `deploy/dev/chaos.sh` creates:
//! nothing of this is visible outside, and nothing of it outlives the process.

use anyhow::{Context as _, ensure};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

const BRIDGE: &str = "bridge";
const PORT: u16 = 9092;

/// Runs a program to its end.
///
/// # Errors
/// When it fails, with its standard error.
pub(super) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} cannot be run"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), stderr.trim());
    Ok(())
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>())
}

/// Address of a node: a broker, whose number is its id, or a service.
#[must_use]
pub(super) fn host(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, node)
}

/// Address at which clients reach the broker with this node id.
#[must_use]
pub(super) fn address(node: u8) -> SocketAddr {
    (host(node), PORT).into()
}

/// Namespace of a node.
#[must_use]
pub(super) fn namespace(node: u8) -> String {
    format!("node{node}")
}

/// Runs a program in the network of a node: the process that is spawned becomes this program.
pub(super) fn command(node: u8, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &namespace(node)]).arg(program);
    command
}

/// Makes the bridge and a namespace for each node.
///
/// # Errors
/// When this is not a process in namespaces of its own, or `ip` fails.
pub(super) fn make(nodes: impl IntoIterator<Item = u8>) -> anyhow::Result<()> {
    ensure!(std::process::id() == 1, "needs namespaces of its own: start it with `make chaos` or deploy/dev/chaos.sh");
    // Names of network namespaces are files here, private to this mount namespace.
    std::fs::create_dir_all("/run/netns")?;
    run("mount", &["-t", "tmpfs", "names", "/run/netns"])?;
    ip("link set lo up")?;
    ip(&format!("link add {BRIDGE} type bridge"))?;
    ip(&format!("link set {BRIDGE} up"))?;
    ip(&format!("addr add 10.99.0.254/24 dev {BRIDGE}"))?;
    for node in nodes {
        let name = namespace(node);
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
        ip(&format!("link set {name} master {BRIDGE} up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} addr add {}/24 dev eth0", host(node)))?;
        ip(&format!("-n {name} link set eth0 up"))?;
    }
    Ok(())
}

/// Cuts a node off from all others: packets are dropped without notice.
///
/// # Errors
/// When `ip` fails.
pub(super) fn cut(node: u8) -> anyhow::Result<()> {
    ip(&format!("link set {} nomaster", namespace(node)))
}

/// Connects it again.
///
/// # Errors
/// When `ip` fails.
pub(super) fn join(node: u8) -> anyhow::Result<()> {
    ip(&format!("link set {} master {BRIDGE}", namespace(node)))
}

/// Mounts memory as a disk of a limited size.
///
/// # Errors
/// When `mount` fails.
pub(super) fn mount_disk(at: &Path, kbytes: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(at)?;
    run("mount", &["-t", "tmpfs", "-o", &format!("size={kbytes}k"), "disk", &at.to_string_lossy()])
}

/// Resizes such a disk.
///
/// # Errors
/// When `mount` fails, for example because the new size is below the used space.
pub(super) fn resize_disk(at: &Path, kbytes: u64) -> anyhow::Result<()> {
    run("mount", &["-o", &format!("remount,size={kbytes}k"), &at.to_string_lossy()])
}

/// The used space of such a disk.
///
/// # Errors
/// When the file system does not report it.
pub(super) fn used_kbytes(at: &Path) -> anyhow::Result<u64> {
    let found = rustix::fs::statvfs(at)?;
    Ok(found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize) / 1024)
}
