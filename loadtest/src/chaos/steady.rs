//! Memory of the services under a steady load without faults. Called by [`super::rig`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

use driftline_service::clock;

use crate::memory::ProcessMemory;

use super::oracle::{Verdict, Violation};
use super::supervisor::{Name, Supervisor};

const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const REPORT_EVERY: Duration = Duration::from_mins(5);
/// The time is divided into this many equal parts. In the first two, caches and the memory for sessions are filled; the
/// third is compared with the last.
const PARTS: usize = 5;
const FILLING: usize = 2;
/// Memory is flat when the last part's median exceeds the third's by at most this share.
const GROWTH_MAX_PERCENT: u64 = 10;

/// Resident memory of a service, in kilobytes: medians of the third part of the time and of the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The instance.
    pub service: String,
    /// After caches were filled.
    pub before: u64,
    /// At the end.
    pub after: u64,
    /// The maximum.
    pub most: u64,
}

/// Samples memory for this long. A service that ended meanwhile has no comparable figures; its end is recorded.
pub(super) async fn sample(supervisor: &Supervisor, time: Duration, verdict: &mut Verdict) -> Vec<Memory> {
    let began = clock::monotonic();
    let mut samples: BTreeMap<Name, Vec<u64>> = BTreeMap::new();
    let mut report_at = Duration::ZERO;
    while began.elapsed() < time {
        for (name, pid) in supervisor.pids() {
            samples.entry(name).or_default().extend(ProcessMemory::of(pid).map(|memory| memory.resident_bytes / 1024));
        }
        if began.elapsed() >= report_at {
            let now = samples.iter().map(|(name, kbytes)| format!("{name} {} MiB", mib(kbytes.last().copied())));
            eprintln!("  steady for {} min: {}", report_at.as_secs() / 60, now.collect::<Vec<_>>().join(", "));
            report_at += REPORT_EVERY;
        }
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
    let memory: Vec<Memory> = samples.iter().map(|(name, kbytes)| Memory::of(name.to_string(), kbytes)).collect();
    for memory in memory.iter().filter(|memory| !memory.is_flat()) {
        verdict.note(Violation::MemoryGrew, || format!("{memory:?}"));
    }
    memory
}

fn mib(kbytes: Option<u64>) -> u64 {
    kbytes.unwrap_or(0) / 1024
}

impl Memory {
    fn of(service: String, kbytes: &[u64]) -> Self {
        let mut parts = kbytes.chunks(kbytes.len().div_ceil(PARTS).max(1));
        let before = parts.nth(FILLING).map_or(0, median);
        let after = parts.next_back().map_or(before, median);
        Self { service, before, after, most: kbytes.iter().copied().max().unwrap_or(0) }
    }

    fn is_flat(&self) -> bool {
        self.after <= self.before + self.before * GROWTH_MAX_PERCENT / 100
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let [before, after, most] = [self.before, self.after, self.most].map(|kbytes| format!("{} MiB", kbytes / 1024));
        format!("{:<30}{before:>14}{after:>14}{most:>14}", self.service)
    }
}

fn median(kbytes: &[u64]) -> u64 {
    let mut sorted = kbytes.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_all_the_time_is_not_flat_and_a_beginning_and_a_peak_do_not_matter() {
        let growing: Vec<u64> = (0..100).map(|at| 100_000 + at * 500).collect();
        assert!(!Memory::of("a".to_owned(), &growing).is_flat());
        let filled: Vec<u64> =
            (0..100).map(|at| if at < 40 { 1_000 } else { 100_000 + 900_000 * u64::from(at == 70) }).collect();
        let memory = Memory::of("a".to_owned(), &filled);
        assert!(memory.is_flat());
        assert_eq!((memory.before, memory.after, memory.most), (100_000, 100_000, 1_000_000));
        assert!(Memory::of("a".to_owned(), &[]).is_flat());
    }
}
