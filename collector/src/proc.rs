//! What the collector reads of processes under `/proc`.

use driftline_collector_core::cgroup::{Cgroup, cgroup};
use driftline_collector_core::mounts::{NodeMounts, parse_mountinfo};
use driftline_collector_core::{Inspection, RawExec, environment, layout};
use driftline_schemas::limits::ARGS_BYTES_MAX;
use driftline_schemas::{Args, ContainerId};
use rustix::fs::{AtFlags, CWD, StatxFlags, readlinkat, statx};
use std::path::{Path, PathBuf};

/// A process by its id, which is used again, and its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// In ticks since boot; nothing when it was gone at first sight.
    start: Option<u64>,
}

/// A process file system: the node's, wherever it is mounted.
#[derive(Debug, Clone)]
pub struct Proc(PathBuf);

impl Proc {
    /// The one mounted at `root`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.0.join(below)
    }

    /// Number of the host's mount namespace: that of the first process; 0 when it cannot be seen.
    #[must_use]
    pub fn host_mount_namespace(&self) -> u32 {
        self.mount_namespace(1).or_else(|| self.mount_namespace_of("self")).unwrap_or(0)
    }

    /// Id of this boot.
    #[must_use]
    pub fn boot_id(&self) -> String {
        self.text("sys/kernel/random/boot_id").trim().to_owned()
    }

    /// A unique id.
    #[must_use]
    pub fn unique_id(&self) -> String {
        self.text("sys/kernel/random/uuid").trim().to_owned()
    }

    /// The first process of a container. It does not run when it is gone, or when its id is another process's by now.
    #[must_use]
    pub fn process_of(&self, id: &ContainerId, pid: i32) -> Process {
        let start = self.start_of(pid).filter(|_| self.may_belong(id, pid));
        Process { pid, start }
    }

    /// Whether a process still runs.
    #[must_use]
    pub fn runs(&self, process: &Process) -> bool {
        process.start.is_some() && self.start_of(process.pid) == process.start
    }

    /// Root and mounts of a container's first process. Nothing when it is gone, or is still the runtime on its way into the
    /// container.
    #[must_use]
    pub fn inspect(&self, process: &Process) -> Option<Inspection> {
        let pid = process.pid;
        if !self.runs(process) || self.root_of(&pid.to_string()) == self.root_of("1") {
            return None;
        }
        let namespace = self.mount_namespace(pid)?;
        let node = NodeMounts::parse(&self.text("1/mountinfo"));
        let (root, mounts) = parse_mountinfo(&self.text(format!("{pid}/mountinfo")), &node, namespace)?;
        // Both were read of the same process, unless it is gone meanwhile.
        self.runs(process).then_some(Inspection { root, mounts })
    }

    /// Whether a process is in the cgroup of this container; or in none of any and in a mount namespace of its own, as one
    /// that has left its cgroup is.
    fn may_belong(&self, id: &ContainerId, pid: i32) -> bool {
        let cgroups = self.text(format!("{pid}/cgroup"));
        let is_of_any = || cgroups.split(['/', '\n']).any(|name| cgroup(name.as_bytes()) != Cgroup::Other);
        let host = self.host_mount_namespace();
        let has_left = || !is_of_any() && self.mount_namespace(pid).is_some_and(|own| own != host);
        cgroups.contains(id.as_str()) || has_left()
    }

    /// When a process started, in ticks since boot; nothing of one that has ended, also while nobody has asked how.
    fn start_of(&self, pid: i32) -> Option<u64> {
        let stat = self.text(format!("{pid}/stat"));
        // The command's name is in parentheses, and may have any bytes.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
    }

    /// Adds to the record of a program that runs already what lies in its own memory: arguments and environment. A process
    /// that has become another program meanwhile has another executable, and its arguments are left alone.
    pub fn complete(&self, exec: &mut RawExec) {
        let bytes = |name| std::fs::read(self.path(format!("{}/{name}", exec.pid))).unwrap_or_default();
        let (args, environment) = (bytes("cmdline"), bytes("environ"));
        let executable = statx(CWD, self.path(format!("{}/exe", exec.pid)), AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
        if executable.is_ok_and(|it| [exec.file.ino, exec.file.real_ino].contains(&it.stx_ino)) {
            exec.args = Args::of_terminated(args.get(..args.len().min(ARGS_BYTES_MAX)).unwrap_or_default());
            exec.flags |= if args.len() > ARGS_BYTES_MAX { layout::FLAG_ARGS_TRUNCATED } else { 0 };
            exec.environment = environment::names(&environment);
        } else {
            exec.flags |= layout::FLAG_ARGS_UNREADABLE | layout::FLAG_ENV_UNREADABLE;
        }
    }

    fn mount_namespace(&self, pid: i32) -> Option<u32> {
        self.mount_namespace_of(&pid.to_string())
    }

    /// The link reads `mnt:[4026531841]`.
    fn mount_namespace_of(&self, process: &str) -> Option<u32> {
        let link = readlinkat(CWD, self.path(format!("{process}/ns/mnt")), Vec::new()).ok()?;
        link.to_str().ok()?.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
    }

    fn root_of(&self, process: &str) -> Option<(u32, u32, u64)> {
        let root = statx(CWD, self.path(format!("{process}/root")), AtFlags::empty(), StatxFlags::INO).ok()?;
        Some((root.stx_dev_major, root.stx_dev_minor, root.stx_ino))
    }

    /// Process files may hold any bytes; those that are not UTF-8 are of no use here.
    pub(crate) fn text(&self, below: impl AsRef<Path>) -> String {
        let bytes = std::fs::read(self.path(below)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_no_container_of_that_name() {
        let proc = Proc::at(Path::new("/proc"));
        let own = i32::try_from(std::process::id()).unwrap();
        let process = proc.process_of(&ContainerId::from("0a0a"), own);
        assert!(!proc.runs(&process));
        assert_eq!(proc.inspect(&process), None);
        assert!(proc.mount_namespace(own).is_some());
        assert_eq!(proc.boot_id().len(), 36);
        assert_ne!(proc.unique_id(), proc.unique_id());
    }

    #[test]
    fn a_process_runs_until_it_has_ended_though_nobody_has_asked_how() {
        let proc = Proc::at(Path::new("/proc"));
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process { pid, start: proc.start_of(pid) };
        assert!(proc.runs(&process));
        assert!(!proc.runs(&Process { start: process.start.map(|start| start - 1), ..process }), "another with its id");
        child.kill().unwrap();
        let is_over = std::iter::repeat_with(|| !proc.runs(&process)).take(1_000_000).any(|it| it);
        assert!(is_over, "a zombie does not run");
        child.wait().unwrap();
    }
}
