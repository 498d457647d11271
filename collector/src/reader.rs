//! The thread that reads the rings. It opens files at once that may be gone in a moment, and sends both to the collector's task.

use driftline_collector_bpf::{Counters, Probe, ReadEnd, with_sources};
use driftline_collector_core::{Moment, RawExec, Records, Subject, limits, mounts};
use driftline_schemas::FileClass;
use driftline_service::clock;
use driftline_service::log_limit::LogLimit;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

use crate::files::{self, CapturedFile};
use crate::proc::Proc;

/// How often the ring of ordinary execs is polled: a wake-up for each would cost ten times the exec's own record. Half
/// of what an exec may take to Kafka; the time that [`limits::RING_DELAY`] adds, and Kafka's, go off the other half.
pub const POLL: Duration = Duration::from_millis(50);

/// When the rings are polled again after a suspicious exec: by then nothing that happened before it can be missing, and
/// it need not wait any longer.
const POLL_AFTER_SUSPICIOUS: Duration = Duration::from_nanos(limits::RING_DELAY + 1_000_000);

/// Most records taken from each ring at once, about 4 MiB.
const RECORDS_AT_ONCE: usize = 4_096;

/// How often the kernel program's counters are read: six system calls.
const COUNT_EVERY_NS: u64 = 100_000_000;

/// Most executables that are captured and not yet hashed. Each takes one of the 128 inotify instances that a user may have.
const CAPTURED_MAX: usize = 32;

/// Batches that wait for the collector's task. When it is slow the rings fill, and the kernel counts what is lost.
pub const BATCHES: usize = 16;

/// One reading of the rings.
#[derive(Debug)]
pub struct Batch {
    /// The records.
    pub records: Records,
    /// Executables of suspicious execs whose process still ran.
    pub captured: Vec<(Moment, CapturedFile)>,
    /// How long ago the oldest of these execs was.
    pub age_ns: Option<u64>,
    /// Whether an exec is in no container's cgroup.
    pub has_uncontained: bool,
    /// The kernel program's own count, when it was time to read it.
    pub counters: Option<Counters>,
}

/// Reads the rings.
#[derive(Debug)]
pub struct Reader {
    probe: Probe,
    proc: Proc,
    capturer: Capturer,
    counted_ns: u64,
    /// How long the next reading waits for a suspicious exec.
    patience: Duration,
    undecodable_lines: LogLimit,
}

impl Reader {
    /// A reader that captures executables of at most `bytes_max`.
    #[must_use]
    pub fn new(probe: Probe, proc: Proc, bytes_max: u64) -> Self {
        Self {
            probe,
            proc: proc.clone(),
            capturer: Capturer::new(proc, bytes_max),
            counted_ns: 0,
            patience: POLL,
            undecodable_lines: LogLimit::default(),
        }
    }

    /// Starts the thread. It begins with what runs already, and ends after a last reading when `stop` is set, or when the
    /// receiver of `batches` is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut self, stop: Arc<AtomicBool>, batches: mpsc::Sender<Batch>) -> std::io::Result<()> {
        let read = move || {
            if batches.blocking_send(self.running()).is_err() {
                return;
            }
            loop {
                let is_last = stop.load(Ordering::Acquire);
                let (batch, end) = self.read(is_last);
                if batches.blocking_send(batch).is_err() || (is_last && end == ReadEnd::Drained) {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("rings".to_owned()).spawn(read).map(|_| ())
    }

    /// What runs in containers already; the rings are being written to meanwhile.
    pub fn running(&mut self) -> Batch {
        let mut records = Records { boot_offset_ns: boot_offset_ns(), ..Records::default() };
        let mut captured = Vec::new();
        let (capturer, proc, lines) = (&self.capturer, &self.proc, &mut self.undecodable_lines);
        let read = self.probe.running(|bytes| match RawExec::decode(bytes) {
            Ok(mut exec) => {
                proc.complete(&mut exec);
                // The node's services, of which there may be more than captures, do run for a while.
                if exec.is_suspicious() && !exec.cgroup.is_empty() {
                    captured.extend(capturer.capture(&exec));
                }
                records.running.push(exec);
            }
            Err(error) => {
                if let Some(left_out) = lines.admit() {
                    tracing::error!(%error, left_out, "record of a running program cannot be read");
                }
                records.undecodable += 1;
            }
        });
        if let Err(error) = read {
            tracing::error!(error = with_sources(&error), "programs that run already are not reported");
        }
        tracing::info!(programs = records.running.len(), "programs that run in containers already, or may, are read");
        Batch { records, captured, age_ns: None, has_uncontained: false, counters: None }
    }

    /// Waits for a suspicious exec of a file that is not known, at most [`POLL`], and reads what there is. The last time it does
    /// not wait.
    pub fn read(&mut self, is_last: bool) -> (Batch, ReadEnd) {
        if !is_last && let Err(error) = self.probe.wait(self.patience) {
            tracing::error!(%error, "cannot wait for the kernel program");
        }
        let begun_ns = boot_ns();
        let mut records = Records { boot_offset_ns: boot_offset_ns(), ..Records::default() };
        let mut captured = Vec::new();
        // Times of the oldest of all, and of the newest that is urgent.
        let (mut oldest_ns, mut newest_ns) = (None, None);
        let mut has_uncontained = false;
        let end = self.probe.read(RECORDS_AT_ONCE, |_, bytes| match records.execs.push(bytes) {
            Ok(moment) => {
                has_uncontained |= !RawExec::is_in_container_cgroup(bytes);
                oldest_ns = Some(oldest_ns.unwrap_or(u64::MAX).min(moment.time_ns));
                if RawExec::is_urgent(bytes) {
                    newest_ns = newest_ns.max(Some(moment.time_ns));
                    captured.extend(RawExec::decode(bytes).ok().and_then(|exec| self.capturer.capture(&exec)));
                }
            }
            Err(error) => {
                if let Some(left_out) = self.undecodable_lines.admit() {
                    tracing::error!(%error, left_out, "record of the kernel program cannot be read");
                }
                records.undecodable += 1;
            }
        });
        records.complete_until_ns = match end {
            ReadEnd::Drained if is_last => u64::MAX,
            ReadEnd::Drained => begun_ns.saturating_sub(limits::RING_DELAY),
            ReadEnd::More => 0,
        };
        let waits = newest_ns.is_some_and(|newest_ns| newest_ns >= records.complete_until_ns);
        self.patience = if waits { POLL_AFTER_SUSPICIOUS } else { POLL };
        self.undecodable_lines.log_left_out("records that cannot be read");
        let counters = if is_last || begun_ns.saturating_sub(self.counted_ns) >= COUNT_EVERY_NS {
            self.counted_ns = begun_ns;
            self.counters()
        } else {
            None
        };
        let age_ns = oldest_ns.map(|oldest_ns| boot_ns().saturating_sub(oldest_ns));
        (Batch { records, captured, age_ns, has_uncontained, counters }, end)
    }

    fn counters(&self) -> Option<Counters> {
        self.probe.counters().map_err(|error| tracing::error!(%error, "kernel program has no counters")).ok()
    }
}

/// Captures executables before their process ends.
#[derive(Debug)]
struct Capturer {
    proc: Proc,
    bytes_max: u64,
    /// One clone for each that is captured and not yet hashed.
    places: Arc<()>,
}

impl Capturer {
    fn new(proc: Proc, bytes_max: u64) -> Self {
        Self { proc, bytes_max, places: Arc::default() }
    }

    fn capture(&self, exec: &RawExec) -> Option<(Moment, CapturedFile)> {
        // Of a script, and of what a loader runs, the executable is only the interpreter. One that was given a file may be
        // any program that has its name.
        let is_judged = matches!(Subject::of(exec, FileClass::Image), Subject::Executable | Subject::Interpreted(_));
        let may_be_read = is_judged && !mounts::is_refused(exec.file.fs_magic);
        if !may_be_read || Arc::strong_count(&self.places) > CAPTURED_MAX {
            return None;
        }
        let captured = files::capture(&self.proc, exec, self.bytes_max, clock::now_ns(), &self.places)?;
        Some((exec.moment, captured))
    }
}

pub(crate) fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

fn boot_offset_ns() -> i64 {
    clock::now_ns().saturating_sub(i64::try_from(boot_ns()).unwrap_or(i64::MAX))
}
