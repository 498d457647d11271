//! Resource use of a process and its BPF programs, and the other observers that a distribution offers.

use anyhow::{Context as _, bail, ensure};
use nix::time::{clock_getcpuclockid, clock_gettime};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::memory::ProcessMemory;

use super::container::Turn;
use super::measurement::{Measurement, Usage};

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

/// The processor time of a process, including that of ended threads, and the time of all BPF programs that it holds.
pub(super) fn usage(pid: u32) -> anyhow::Result<Usage> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(i32::try_from(pid)?)).context("it has ended")?;
    let cpu_ns = u64::try_from(Duration::from(clock_gettime(clock)?).as_nanos())?;
    let mut usage = Usage { cpu_ns, peak_bytes: ProcessMemory::of(pid)?.peak_bytes, ..Usage::default() };
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

/// Resets the peak, so that it is that of the work and not of the start, when the kernel's type information is read.
pub(super) fn forget_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak of resident memory cannot be reset")
}

/// Another observer of execs, started as its users start it.
pub(super) struct Peer {
    pub(super) name: &'static str,
    command: &'static [&'static str],
    attached: Attached,
}

/// The sign that an observer is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attached {
    /// It holds a BPF program that the kernel has run.
    RunsBpf,
    /// Its first line of output.
    PrintsAttached,
}

/// From Debian's packages bpftrace, libbpf-tools and auditd.
pub(super) const PEERS: [Peer; 3] = [
    Peer {
        name: "bpftrace",
        command: &[
            "bpftrace",
            "-e",
            r#"tracepoint:sched:sched_process_exec { printf("%d %s %s\n", pid, comm, str(args->filename)); }"#,
        ],
        attached: Attached::RunsBpf,
    },
    Peer { name: "execsnoop (libbpf-tools)", command: &["execsnoop"], attached: Attached::RunsBpf },
    Peer { name: "auditd", command: &["deploy/dev/auditd.sh"], attached: Attached::PrintsAttached },
];

/// The first two need tracepoints below tracefs, which may not be mounted; in a mount namespace of its own the mount
/// stays private to the observer.
const WITH_TRACEFS: &str =
    r#"mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@""#;

/// How long an observer may take to attach.
const ATTACH: Duration = Duration::from_secs(20);

impl Peer {
    pub(super) fn measure(&self, run: impl Fn() -> anyhow::Result<Turn>) -> anyhow::Result<Measurement> {
        let mut observer = Ended(self.start()?);
        self.attached(&mut observer.0)?;
        let pids = observer.pids();
        let before = usage_of_all(&pids)?;
        let turn = run()?;
        let after = usage_of_all(&pids)?;
        Ok(Measurement::of(turn.wall_ns, Usage::between(&before, &after)))
    }

    fn start(&self) -> anyhow::Result<Child> {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", WITH_TRACEFS, "sh"]).args(self.command);
        let prints_attached = self.attached == Attached::PrintsAttached;
        command
            .stdin(Stdio::null())
            .stdout(if prints_attached { Stdio::piped() } else { Stdio::null() })
            .stderr(Stdio::null());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.spawn().context("unshare is not installed")
    }

    fn attached(&self, child: &mut Child) -> anyhow::Result<()> {
        if let Some(stdout) = child.stdout.as_mut() {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line)?;
            ensure!(line.trim() == "attached", "it does not attach");
            return Ok(());
        }
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

/// Resource use of a process and its children together; memory is that of the largest.
fn usage_of_all(pids: &[u32]) -> anyhow::Result<Usage> {
    let mut sum = Usage::default();
    for pid in pids {
        let one = usage(*pid)?;
        sum.cpu_ns += one.cpu_ns;
        sum.bpf_ns += one.bpf_ns;
        sum.bpf_runs += one.bpf_runs;
        sum.peak_bytes = sum.peak_bytes.max(one.peak_bytes);
    }
    Ok(sum)
}

/// An observer that is stopped by a signal, so that it can undo its set-up.
struct Ended(Child);

impl Ended {
    fn pids(&self) -> Vec<u32> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        std::iter::once(pid).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect()
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}
