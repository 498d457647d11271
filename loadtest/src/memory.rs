//! The memory of a process according to the kernel. Called by [`crate::bench_collector`], [`crate::chaos`] and tests.

use anyhow::Context as _;

/// Memory of a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident memory now.
    pub resident_bytes: u64,
    /// Peak of the resident memory, since the start or since the peak was reset.
    pub peak_bytes: u64,
}

impl ProcessMemory {
    /// Reads `/proc/PID/status`.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&status).with_context(|| format!("{path} has no VmRSS and VmHWM"))
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let kbytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            kbytes.checked_mul(1024)
        };
        Some(Self { resident_bytes: bytes("VmRSS")?, peak_bytes: bytes("VmHWM")? })
    }

    /// Resident memory now, in whole MiB.
    #[must_use]
    pub fn resident_mib(self) -> u64 {
        self.resident_bytes >> 20
    }

    /// The peak, in whole MiB.
    #[must_use]
    pub fn peak_mib(self) -> u64 {
        self.peak_bytes >> 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_of_a_process_that_runs_and_of_no_other() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let memory = ProcessMemory { resident_bytes: 1 << 20, peak_bytes: 2 << 20 };
        assert_eq!(ProcessMemory::parse(status), Some(memory));
        assert_eq!(ProcessMemory::parse("Name:\tzombie\n"), None);
        let own = ProcessMemory::of(std::process::id()).unwrap();
        assert!(own.resident_bytes > 0 && own.peak_bytes >= own.resident_bytes, "{own:?}");
    }
}
