//! The figures of one turn: filled in by [`super`] and [`super::observer`], summarised by [`super::report`].

/// The resources that a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) cpu_ns: u64,
    pub(super) bpf_ns: u64,
    pub(super) bpf_runs: u64,
    /// Most memory since the process started, or since [`super::observer::forget_peak`].
    pub(super) peak_bytes: u64,
}

impl Usage {
    /// The resources used between two readings.
    pub(super) fn between(before: &Self, after: &Self) -> Self {
        Self {
            cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns),
            bpf_ns: after.bpf_ns.saturating_sub(before.bpf_ns),
            bpf_runs: after.bpf_runs.saturating_sub(before.bpf_runs),
            peak_bytes: after.peak_bytes,
        }
    }
}

/// One turn of one contender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measurement {
    pub(super) wall_ns: u64,
    pub(super) usage: Usage,
    /// The records of the collector, if they can be counted.
    pub(super) seen: Option<Seen>,
}

/// The output of the collector.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Execs with a record of their own.
    pub(super) reported: usize,
    /// Execs beyond the container's rate limit, counted in a throttle record.
    pub(super) left_out: usize,
    pub(super) latencies_ns: Latencies,
    /// Most memory until the work began.
    pub(super) start_peak_bytes: u64,
}

/// Latencies from execs to their records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latencies {
    pub(super) median: u64,
    pub(super) of_99_percent: u64,
}

impl Latencies {
    pub(super) fn of(mut all_ns: Vec<u64>) -> Self {
        all_ns.sort_unstable();
        let at = |percent: usize| all_ns.get(all_ns.len() * percent / 100).copied().unwrap_or(0);
        Self { median: at(50), of_99_percent: at(99) }
    }
}

impl Measurement {
    pub(super) fn bare(wall_ns: u64) -> Self {
        Self::of(wall_ns, Usage::default())
    }

    pub(super) fn of(wall_ns: u64, usage: Usage) -> Self {
        Self { wall_ns, usage, seen: None }
    }

    pub(super) fn with_seen(self, seen: Seen) -> Self {
        Self { seen: Some(seen), ..self }
    }
}
