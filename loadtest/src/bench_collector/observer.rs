//! What a process and its BPF programs have used, and the other observers that a distribution offers.

use anyhow::{Context as _, bail, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::container::Turn;
use super::report::Row;

const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The kernel counts the time of BPF programs while this lives.
pub(super) struct Statistics {
    before: String,
}

impl Statistics {
    pub(super) fn enable() -> anyhow::Result<Self> {
        let before = fs::read_to_string(SYSCTL).context("the kernel keeps no BPF statistics")?;
        fs::write(SYSCTL, "1").context("BPF statistics need root")?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(SYSCTL, self.before.trim());
    }
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) cpu_ns: u64,
    pub(super) bpf_ns: u64,
    pub(super) bpf_runs: u64,
    pub(super) peak_bytes: u64,
}

impl Usage {
    /// What was used meanwhile.
    pub(super) fn between(before: &Self, after: &Self) -> Self {
        Self {
            cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns),
            bpf_ns: after.bpf_ns.saturating_sub(before.bpf_ns),
            bpf_runs: after.bpf_runs.saturating_sub(before.bpf_runs),
            peak_bytes: after.peak_bytes,
        }
    }
}

/// All threads' processor time, and the time of all BPF programs that the process holds.
pub(super) fn usage(pid: u32) -> anyhow::Result<Usage> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let mut usage = Usage { peak_bytes: peak_bytes(&process)?, ..Usage::default() };
    for thread in fs::read_dir(process.join("task"))? {
        // Nanoseconds on a processor come first.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        usage.cpu_ns += text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    }
    let mut counted = std::collections::BTreeSet::new();
    for descriptor in fs::read_dir(process.join("fdinfo"))? {
        let text = fs::read_to_string(descriptor?.path()).unwrap_or_default();
        let number = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().parse().ok()
        };
        // A program may have several descriptors.
        if let (Some(id), Some(time_ns)) = (number("prog_id"), number("run_time_ns"))
            && counted.insert(id)
        {
            usage.bpf_ns += time_ns;
            usage.bpf_runs += number("run_cnt").unwrap_or(0);
        }
    }
    Ok(usage)
}

fn peak_bytes(process: &std::path::Path) -> anyhow::Result<u64> {
    let status = fs::read_to_string(process.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Another observer of execs, as its users start it.
pub(super) struct Peer {
    pub(super) name: &'static str,
    command: &'static [&'static str],
}

/// From Debian's packages bpftrace and libbpf-tools.
pub(super) const PEERS: [Peer; 2] = [
    Peer {
        name: "bpftrace",
        command: &[
            "bpftrace",
            "-e",
            r#"tracepoint:sched:sched_process_exec { printf("%d %s %s\n", pid, comm, str(args->filename)); }"#,
        ],
    },
    Peer { name: "execsnoop (libbpf-tools)", command: &["execsnoop"] },
];

/// Both look for tracepoints below tracefs, which nobody else may have mounted; in a mount namespace of its own it stays
/// the observer's.
const WITH_TRACEFS: &str =
    r#"mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@""#;

/// How long an observer may take to attach.
const ATTACH: Duration = Duration::from_secs(20);

impl Peer {
    pub(super) fn measure(&self, run: impl Fn() -> anyhow::Result<Turn>) -> anyhow::Result<Row> {
        let mut child = Killed(self.start()?);
        self.attached(&mut child.0)?;
        let before = usage(child.0.id())?;
        let turn = run()?;
        let after = usage(child.0.id())?;
        Ok(Row::of(turn.wall_ns, Usage::between(&before, &after)))
    }

    fn start(&self) -> anyhow::Result<Child> {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", WITH_TRACEFS, "sh"]).args(self.command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.spawn().context("unshare is not installed")
    }

    /// Until it holds a program that the kernel has run.
    fn attached(&self, child: &mut Child) -> anyhow::Result<()> {
        let tries = ATTACH.as_millis() / 100;
        for _ in 0..tries {
            ensure!(child.try_wait()?.is_none(), "it ended at once");
            let _ = Command::new("true").status();
            if usage(child.id()).is_ok_and(|usage| usage.bpf_runs > 0) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("it does not attach")
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
