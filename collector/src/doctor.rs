//! What this node allows, each with a remedy. `driftline doctor` shows it beside what Kafka allows.

use driftline_collector_bpf::{OverlayLayers, Probe, ProbeConfig, with_sources};
use driftline_engines::kubernetes::{self, Examined, KubernetesSettings};
use driftline_engines::{RuntimeSettings, Runtimes};
use driftline_service::checks::{Check, Health};
use rustix::fs::statfs;
use std::path::{Path, PathBuf};

use crate::proc::Proc;
use crate::rights;
use crate::self_test::{Report, SelfTest, SelfTestError};
use crate::strict::{self, StrictMode};

/// Rings of a probe that only tests: small.
const RING_BYTES: u32 = 64 << 10;

/// Number of the first pid namespace, the same on every kernel (`PROC_PID_INIT_INO`).
const HOST_PID_NS: &str = "pid:[4026531836]";

/// Magic number of the unified cgroup hierarchy.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Runs all checks.
pub async fn examine(runtimes: &RuntimeSettings, cluster: &KubernetesSettings, strict: StrictMode) -> Vec<Check> {
    let proc = Proc::at(&runtimes.proc);
    let mut checks = kernel(&proc);
    checks.push(capabilities());
    checks.push(strict_mode(strict));
    checks.push(host_processes(&proc));
    checks.extend(engines(runtimes).await);
    checks.push(api(cluster).await);
    checks.push(clock());
    checks
}

/// Loads the program, and proves that it works here.
///
/// # Errors
/// When it does not.
pub fn self_test(proc: &Proc) -> anyhow::Result<Report> {
    let test = SelfTest::prepare(&proc.path(""))?;
    Ok(test.run(&mut probe(proc)?)?)
}

fn probe(proc: &Proc) -> Result<Probe, driftline_collector_bpf::ProbeError> {
    let host_mnt_ns = proc.host_mount_namespace();
    let rings = ProbeConfig { ordinary_ring_bytes: RING_BYTES, suspicious_ring_bytes: RING_BYTES, host_mnt_ns };
    Probe::load(&rings).map(|(probe, _)| probe)
}

fn kernel(proc: &Proc) -> Vec<Check> {
    let uname = rustix::system::uname();
    let release = format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy());
    let mut checks = vec![Check::ok("kernel", "release", release), type_information()];
    match probe(proc) {
        Ok(mut probe) => {
            checks.push(Check::ok(
                "kernel",
                "eBPF program",
                "loads, attaches to sched_process_exec, has its ring buffers",
            ));
            let layout = probe.overlay_layout();
            let place = match layout.layers {
                OverlayLayers::InInode => "inode",
                OverlayLayers::InDentry => "directory entry",
            };
            checks.push(Check::ok(
                "kernel",
                "overlay layout",
                format!("layers in the {place}, by {}", layout.known_by),
            ));
            checks.extend(tested(proc, &mut probe));
        }
        Err(error) => {
            let remedy = "the text names what is missing; kernels from 5.10 on with type information are supported";
            checks.push(Check::new("kernel", "eBPF program", Health::Problem, with_sources(&error), remedy));
        }
    }
    checks.push(cgroups());
    let statistics = proc.text("sys/kernel/bpf_stats_enabled");
    let statistics = if statistics.trim() == "1" { "on" } else { "off: kernel.bpf_stats_enabled=1 shows its cost" };
    checks.push(Check::ok("kernel", "eBPF statistics", statistics));
    checks
}

fn type_information() -> Check {
    if Path::new(KERNEL_BTF).exists() {
        return Check::ok("kernel", "type information", KERNEL_BTF);
    }
    let remedy = "use a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions build since 5.10";
    Check::new("kernel", "type information", Health::Problem, format!("no {KERNEL_BTF}"), remedy)
}

fn tested(proc: &Proc, probe: &mut Probe) -> Vec<Check> {
    let report = SelfTest::prepare(&proc.path("")).and_then(|test| test.run(probe));
    match report {
        Ok(report) => {
            let tried = report.cases.len() - report.not_tried().count();
            let mut checks =
                vec![Check::ok("kernel", "self-test", format!("{tried} programs reported exactly as they are"))];
            checks.extend(report.not_tried().map(|(case, why)| {
                let remedy = "run `driftline-collector self-test` as root once for each kernel version";
                Check::new("kernel", "self-test", Health::Warning, format!("{case}: not tried: {why}"), remedy)
            }));
            checks
        }
        Err(error @ SelfTestError::Differs(_)) => {
            let remedy = "the collector does not start on this kernel; please report the text above";
            vec![Check::new("kernel", "self-test", Health::Problem, error.to_string().trim_end(), remedy)]
        }
        Err(error) => vec![Check::new("kernel", "self-test", Health::Problem, error, "run it as root")],
    }
}

fn cgroups() -> Check {
    let magic = statfs("/sys/fs/cgroup").ok().and_then(|found| u64::try_from(found.f_type).ok());
    match magic {
        Some(CGROUP2_MAGIC) => Check::ok("kernel", "cgroups", "version 2"),
        Some(_) if Path::new("/sys/fs/cgroup/unified").exists() => Check::ok("kernel", "cgroups", "version 1 beside 2"),
        Some(_) => Check::ok("kernel", "cgroups", "version 1"),
        None => Check::new("kernel", "cgroups", Health::Warning, "no /sys/fs/cgroup", "mount it: engines need it"),
    }
}

fn capabilities() -> Check {
    match rights::missing() {
        Ok(missing) if missing.is_empty() => Check::ok("rights", "capabilities", "the four that are needed"),
        Ok(missing) => {
            let found = format!("{}", rights::RightsError::Missing(missing));
            Check::new("rights", "capabilities", Health::Problem, found, "run as root, or add them to the container")
        }
        Err(error) => Check::new("rights", "capabilities", Health::Problem, error, "run as root"),
    }
}

/// Off by default: that it is impossible is a problem only where the settings turn it on.
fn strict_mode(mode: StrictMode) -> Check {
    match (strict::try_group(), mode) {
        (Ok(()), StrictMode::Off) => Check::ok("rights", "strict mode", "off, and possible (DRIFTLINE_STRICT)"),
        (Ok(()), _) => Check::ok("rights", "strict mode", "on, and possible"),
        (Err(error), StrictMode::Off) => {
            Check::new("rights", "strict mode", Health::NotRun, format!("off, and not possible: {error}"), "")
        }
        (Err(error), _) => {
            let remedy = "start it as root, add CAP_SYS_ADMIN to the container, or do without";
            Check::new("rights", "strict mode", Health::Problem, error, remedy)
        }
    }
}

fn host_processes(proc: &Proc) -> Check {
    let is_host = |link: &PathBuf| link == Path::new(HOST_PID_NS);
    // Some systems hide the first process even from root.
    let of_first = std::fs::read_link(proc.path("1/ns/pid"));
    let of_own = std::fs::read_link(proc.path("self/ns/pid"));
    match of_first {
        _ if of_own.as_ref().is_ok_and(is_host) => Check::ok("rights", "host's processes", "visible"),
        Ok(link) if is_host(&link) => Check::ok("rights", "host's processes", "visible"),
        Ok(_) => {
            let found = format!("{} shows another pid namespace than the host's", proc.path("").display());
            let remedy = "hostPID: true, or mount the host's /proc and set DRIFTLINE_PROC";
            Check::new("rights", "host's processes", Health::Problem, found, remedy)
        }
        Err(error) => {
            let found = format!("{}: {error}", proc.path("1/ns/pid").display());
            Check::new("rights", "host's processes", Health::Problem, found, "CAP_SYS_PTRACE, and the host's /proc")
        }
    }
}

async fn engines(settings: &RuntimeSettings) -> Vec<Check> {
    let found = Runtimes::detect(settings).await;
    let mut checks = Vec::new();
    for state in found.states() {
        checks.push(match &state.state {
            // As the runtimes' own module words it.
            Ok(how) if how.starts_with("by the command") => {
                let found = format!("answers {how}, which needs more than the collector's four capabilities");
                let remedy = "start podman's service: `systemctl enable --now podman.socket`";
                Check::new("runtimes", state.runtime, Health::Warning, found, remedy)
            }
            Ok(how) => Check::ok("runtimes", state.runtime, format!("answers {how}")),
            Err(error) => Check::new("runtimes", state.runtime, Health::NotRun, error, ""),
        });
    }
    if found.answering().next().is_none() {
        let remedy =
            "name the socket (DRIFTLINE_DOCKER_SOCKET, DRIFTLINE_PODMAN_SOCKET, …) and see that it may be opened";
        let what = "none answers: containers stay without metadata, and their programs unresolved";
        checks.push(Check::new("runtimes", "any", Health::Problem, what, remedy));
    }
    checks
}

/// Without it alerts lack the workload; so its worst result is a warning.
async fn api(settings: &KubernetesSettings) -> Check {
    let lacking = |found: String, remedy| Check::new("cluster", "Kubernetes API", Health::Warning, found, remedy);
    match kubernetes::examine(settings).await {
        Examined::Off(why) => Check::new("cluster", "Kubernetes API", Health::NotRun, why, ""),
        Examined::Well(version) => {
            Check::ok("cluster", "Kubernetes API", format!("answers ({version}), and allows what is needed"))
        }
        Examined::Unreachable(why) => {
            let remedy = "let the collector's pod reach the API server with its service account's token, name a kubeconfig \
                          in DRIFTLINE_KUBERNETES, or set it to off: owners, service accounts and zone are unknown";
            lacking(why, remedy)
        }
        Examined::Forbidden(missing) => {
            let remedy = "grant its service account the ClusterRole of deploy/kubernetes/collector-rbac.yaml";
            lacking(format!("answers, and does not allow: {}", missing.join(", ")), remedy)
        }
        Examined::NoSuchNode(name) => {
            let remedy = "set DRIFTLINE_NODE to the node's name in the cluster, spec.nodeName of the collector's pod";
            lacking(format!("answers, and knows no node named {name:?}"), remedy)
        }
    }
}

/// Event times are this node's. Only the usual services leave a mark that can be read without rights.
fn clock() -> Check {
    let marks = ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/ntpd.pid"];
    match marks.iter().find(|mark| Path::new(mark).exists()) {
        Some(mark) => Check::ok("node", "clock", format!("kept by a time service ({mark})")),
        None => {
            let remedy = "event times are this node's: see that its clock is kept, with chrony or systemd-timesyncd";
            Check::new("node", "clock", Health::Warning, "no time service was recognised", remedy)
        }
    }
}
