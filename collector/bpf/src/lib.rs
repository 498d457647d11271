//! The eBPF program, and how it gets into the kernel and its records out.
//!
//! [`Probe::load`] puts `exec.bpf.c` into the kernel; [`Probe::read`] hands over the raw records of both rings, which
//! `driftline-collector-core` decodes, and [`Probe::running`] those of programs that ran before. The program stays attached
//! as long as the [`Probe`] lives.
//!
//! What is deliberately absent: any reading of a record's content.

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, Iter, ProgramError};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader, Endianness};
use driftline_collector_core::KnownFile;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::time::Duration;

mod overlay;

pub use overlay::{OverlayLayers, OverlayLayout};

/// The kernel's description of its own types; CO-RE is impossible without.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
const PROGRAM: &str = "driftline_exec";
const HOOK: &str = "sched_process_exec";
const RUNNING_PROGRAM: &str = "driftline_running";

/// No record of the kernel program is longer: its fixed part, three paths, arguments and environment have 22 KiB.
const RECORD_BYTES_MAX: usize = 32 << 10;

/// Why the program could not be put into the kernel; each text has a remedy.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The process lacks the rights.
    #[error("not permitted to load eBPF: run as root, or with CAP_BPF and CAP_PERFMON")]
    NotPermitted,
    /// The kernel was built without type information.
    #[error("no {KERNEL_BTF}: the kernel needs CONFIG_DEBUG_INFO_BTF, as distribution kernels since 5.10 have: {0}")]
    NoBtf(String),
    /// The kernel has no such hook, or its verifier refused the program.
    #[error("the kernel refused the eBPF program ({why}); please report this text:\n{verifier}")]
    Refused {
        /// The system call's error.
        why: io::Error,
        /// The last lines of the verifier's log.
        verifier: String,
    },
    /// The compiled program lacks a part.
    #[error("cannot load the eBPF program: the compiled program has no {0}")]
    Missing(String),
    /// Anything else that should not happen.
    #[error("cannot load the eBPF program")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How the program is loaded.
#[derive(Debug, Clone, Copy)]
pub struct ProbeConfig {
    /// Size of the ring for ordinary execs, a power of two.
    pub ordinary_ring_bytes: u32,
    /// Size of the ring for suspicious execs, a power of two.
    pub suspicious_ring_bytes: u32,
    /// The host's mount namespace; 0 when it cannot be seen.
    pub host_mnt_ns: u32,
}

/// Which ring a record was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// Untouched files of the process's own overlay root.
    Ordinary,
    /// Everything else; its records wake the reader, but for files that are known.
    Suspicious,
}

/// What the program has counted since it was loaded, over all processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Execs of processes that are in a container or may be.
    pub seen: u64,
    /// Execs of host processes, which went no further.
    pub host: u64,
    /// Records in the ordinary ring.
    pub ordinary: u64,
    /// Records in the suspicious ring.
    pub suspicious: u64,
    /// Records for which the ordinary ring had no room.
    pub ordinary_lost: u64,
    /// Records for which the suspicious ring had no room.
    pub suspicious_lost: u64,
    /// Suspicious execs of files whose content is known, which did not wake the reader.
    pub known: u64,
}

impl Counters {
    /// Records for which a ring had no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ordinary_lost.saturating_add(self.suspicious_lost)
    }
}

/// How a reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// Both rings were empty.
    Drained,
    /// The limit was reached.
    More,
}

/// The kernel program's list of files whose content is known.
pub struct KnownFiles(Array<MapData, [u64; 5]>);

impl std::fmt::Debug for KnownFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownFiles").finish_non_exhaustive()
    }
}

impl KnownFiles {
    /// From now on execs of this file do not wake the reader, as long as it stays as it is and until its place is another's.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn know(&mut self, file: KnownFile) -> io::Result<()> {
        let place = file.ino() % u64::from(self.0.len().max(1));
        let place = u32::try_from(place).map_err(io::Error::other)?;
        self.0.set(place, file.to_kernel(), 0).map_err(io::Error::other)
    }
}

/// The kernel program's list of mount namespaces of the node's own services.
pub struct Uncontained(HashMap<MapData, u64, u64>);

impl std::fmt::Debug for Uncontained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uncontained").finish_non_exhaustive()
    }
}

impl Uncontained {
    /// Until that boot time no exec in this mount namespace is recorded, unless it is in a container's cgroup.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn ignore(&mut self, mnt_ns_id: u64, until_ns: u64) -> io::Result<()> {
        self.0.insert(mnt_ns_id, until_ns, 0).map_err(io::Error::other)
    }
}

/// What user space tells the kernel program.
#[derive(Debug)]
pub struct KernelMaps {
    /// For the owner of the digests.
    pub known_files: KnownFiles,
    /// For who knows the containers.
    pub uncontained: Uncontained,
}

/// The program in the kernel.
pub struct Probe {
    // Dropping it detaches the program.
    program: Ebpf,
    ordinary: RingBuf<MapData>,
    suspicious: RingBuf<MapData>,
    counters: PerCpuArray<MapData, u64>,
    self_test: RingBuf<MapData>,
    self_test_parent: Array<MapData, u32>,
    overlay_layout: OverlayLayout,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

impl Probe {
    /// Loads and attaches the program.
    ///
    /// # Errors
    /// When the kernel or the rights of the process do not allow it.
    pub fn load(config: &ProbeConfig) -> Result<(Self, KernelMaps), ProbeError> {
        allow_locked_memory();
        let kernel = std::fs::read(KERNEL_BTF).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ProbeError::NotPermitted,
            _ => ProbeError::NoBtf(error.to_string()),
        })?;
        let btf = Btf::parse(&kernel, Endianness::default()).map_err(|error| ProbeError::NoBtf(error.to_string()))?;
        let overlay_layout = OverlayLayout::of_kernel(&kernel);
        let layers_in_inode = u32::from(overlay_layout.layers == OverlayLayers::InInode);
        let mut program = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("host_mnt_ns", &config.host_mnt_ns, true)
            .override_global("overlay_layers_in_inode", &layers_in_inode, true)
            .map_max_entries("ordinary", config.ordinary_ring_bytes)
            .map_max_entries("suspicious", config.suspicious_ring_bytes)
            .load(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/exec.bpf.o")))
            .map_err(explain)?;
        let hook: &mut BtfTracePoint =
            program.program_mut(PROGRAM).ok_or_else(|| missing(PROGRAM))?.try_into().map_err(explain_program)?;
        hook.load(HOOK, &btf).map_err(explain_program)?;
        hook.attach().map_err(explain_program)?;
        let running: &mut Iter = program
            .program_mut(RUNNING_PROGRAM)
            .ok_or_else(|| missing(RUNNING_PROGRAM))?
            .try_into()
            .map_err(explain_program)?;
        running.load("task", &btf).map_err(explain_program)?;
        let maps = KernelMaps {
            known_files: KnownFiles(take(&mut program, "known_files")?),
            uncontained: Uncontained(take(&mut program, "uncontained")?),
        };
        let probe = Self {
            ordinary: take(&mut program, "ordinary")?,
            suspicious: take(&mut program, "suspicious")?,
            counters: take(&mut program, "counters")?,
            self_test: take(&mut program, "self_test")?,
            self_test_parent: take(&mut program, "self_test_parent")?,
            overlay_layout,
            program,
        };
        Ok((probe, maps))
    }

    /// Waits until a suspicious exec of a file that is not known happens, or the time is over.
    ///
    /// # Errors
    /// When waiting fails; a signal is no failure.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.suspicious, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands over what is in the rings, the suspicious one first, at most `limit` records from each.
    pub fn read(&mut self, limit: usize, mut each: impl FnMut(Ring, &[u8])) -> ReadEnd {
        let suspicious = drain(&mut self.suspicious, limit, |record| each(Ring::Suspicious, record));
        let ordinary = drain(&mut self.ordinary, limit, |record| each(Ring::Ordinary, record));
        if suspicious == ReadEnd::Drained && ordinary == ReadEnd::Drained { ReadEnd::Drained } else { ReadEnd::More }
    }

    /// Hands over a record of each program that runs in a container now, or may. Called after the program was attached, so that none is
    /// in neither.
    ///
    /// # Errors
    /// When the kernel does not give them.
    pub fn running(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut records = BufReader::new(self.iterate().map_err(io::Error::other)?);
        let mut record = Vec::new();
        let mut length = [0; 4];
        loop {
            match records.read_exact(&mut length) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            let length = usize::try_from(u32::from_ne_bytes(length)).unwrap_or(usize::MAX);
            if length > RECORD_BYTES_MAX {
                return Err(io::Error::other(format!("a record of {length} bytes")));
            }
            record.resize(length, 0);
            records.read_exact(&mut record)?;
            each(&record);
        }
    }

    fn iterate(&mut self) -> Result<File, ProbeError> {
        let program = self.program.program_mut(RUNNING_PROGRAM).ok_or_else(|| missing(RUNNING_PROGRAM))?;
        let program: &mut Iter = program.try_into().map_err(explain_program)?;
        let link = program.attach().map_err(explain_program)?;
        let link = program.take_link(link).map_err(explain_program)?;
        link.into_file().map_err(|error| ProbeError::Other(Box::new(error)))
    }

    /// From now on execs of this process's children are recorded for [`Self::read_self_test`], whether in a container or
    /// not; 0 ends that. Process ids are the host's.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn self_test_children_of(&mut self, pid: u32) -> io::Result<()> {
        self.self_test_parent.set(0, pid, 0).map_err(io::Error::other)
    }

    /// Hands over the records of such execs.
    pub fn read_self_test(&mut self, each: impl FnMut(&[u8])) {
        drain(&mut self.self_test, usize::MAX, each);
    }

    /// Where overlay stores a file's layers on this kernel, according to the loader.
    #[must_use]
    pub fn overlay_layout(&self) -> OverlayLayout {
        self.overlay_layout
    }

    /// What the program has counted.
    ///
    /// # Errors
    /// When the kernel does not give the numbers.
    pub fn counters(&self) -> io::Result<Counters> {
        let sum = |index: u32| -> io::Result<u64> {
            let values = self.counters.get(&index, 0).map_err(io::Error::other)?;
            Ok(values.iter().fold(0, |sum: u64, value| sum.saturating_add(*value)))
        };
        // The order of `enum counter` in record.h.
        Ok(Counters {
            seen: sum(0)?,
            host: sum(1)?,
            ordinary: sum(2)?,
            suspicious: sum(3)?,
            ordinary_lost: sum(4)?,
            suspicious_lost: sum(5)?,
            known: sum(6)?,
        })
    }
}

fn drain(ring: &mut RingBuf<MapData>, limit: usize, mut each: impl FnMut(&[u8])) -> ReadEnd {
    for _ in 0..limit {
        match ring.next() {
            Some(record) => each(&record),
            None => return ReadEnd::Drained,
        }
    }
    ReadEnd::More
}

fn take<M: TryFrom<aya::maps::Map, Error = MapError>>(program: &mut Ebpf, name: &str) -> Result<M, ProbeError> {
    let map = program.take_map(name).ok_or_else(|| missing(name))?;
    M::try_from(map).map_err(|error| ProbeError::Other(Box::new(error)))
}

/// Kernels before 5.11 count maps against the limit of locked memory. Newer ones do not care, so neither do we when it
/// fails: loading will return the error.
///
/// Raising it needs `CAP_SYS_RESOURCE`, so the collector calls this before it gives up what it need not have.
pub fn allow_locked_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
}

fn missing(name: &str) -> ProbeError {
    ProbeError::Missing(name.to_owned())
}

fn explain(error: EbpfError) -> ProbeError {
    match error {
        EbpfError::ProgramError(error) => explain_program(error),
        EbpfError::MapError(MapError::CreateError { io_error, .. }) if is_denied(&io_error) => ProbeError::NotPermitted,
        other => ProbeError::Other(Box::new(other)),
    }
}

fn explain_program(error: ProgramError) -> ProbeError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let verifier = last_lines(&verifier_log.to_string());
            // The verifier refuses with the same error; it returns the reason.
            match verifier.is_empty() && is_denied(&io_error) {
                true => ProbeError::NotPermitted,
                false => ProbeError::Refused { why: io_error, verifier },
            }
        }
        ProgramError::SyscallError(call) if is_denied(&call.io_error) => ProbeError::NotPermitted,
        other => ProbeError::Other(Box::new(other)),
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The reason stands at the end of the verifier's log, which may be megabytes long.
fn last_lines(log: &str) -> String {
    const LINES: usize = 30;
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

/// An error with its causes, for one line of text.
#[must_use]
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |cause| cause.source());
    sources.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
