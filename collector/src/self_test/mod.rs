//! Proves on this very kernel that what the kernel program reads is true: known programs are executed, and every fact of
//! their records is compared with `stat`, `/proc` and the knowledge of the caller.
//!
//! Structure layouts differ between kernels, and some (overlay's own) are in no type information, so a program that
//! loads may still read nonsense. Called at every start, before the collector is ready; `driftline-collector
//! self-test` and `doctor` call it alone.
//!
//! What is deliberately absent: any use of the rings that carry containers' execs.

mod facts;
mod helper;
mod overlay;
mod program;
mod surroundings;

use driftline_collector_bpf::Probe;
use driftline_collector_core::RawExec;
use driftline_service::clock::monotonic;
use serde::Serialize;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::proc::Proc;
use helper::HelperReport;

/// Hidden commands of the collector's binary: the helper, and a program that does nothing.
pub const HELPER: &str = "self-test-helper";
/// See [`HELPER`].
pub const EXIT: &str = "self-test-exit";

/// How long the helper may take: it executes seven programs, in 20 ms together; under emulation in a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the self-test did not pass.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The kernel program reads something that is not true.
    #[error("what the eBPF program reads is not true on this kernel ({kernel}); please report this text:\n{0}", kernel = release())]
    Differs(Report),
    /// The test itself could not be made.
    #[error("the self-test could not be made: {0}")]
    Broken(String),
}

/// How one case ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All facts are true, so many.
    True(usize),
    /// These are not.
    Differs(Vec<String>),
    /// It could not be tried, for this reason.
    NotTried(String),
}

/// All cases, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// Cases by name.
    pub cases: Vec<(String, Outcome)>,
}

impl Report {
    fn has_differences(&self) -> bool {
        self.cases.iter().any(|(_, outcome)| matches!(outcome, Outcome::Differs(_)))
    }

    /// Cases that could not be tried, with the reason.
    pub fn not_tried(&self) -> impl Iterator<Item = (&str, &str)> {
        self.cases.iter().filter_map(|(case, outcome)| match outcome {
            Outcome::NotTried(why) => Some((case.as_str(), why.as_str())),
            _ => None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (case, outcome) in &self.cases {
            match outcome {
                Outcome::True(facts) => writeln!(f, "{case:<26}  ok         {facts} facts")?,
                Outcome::NotTried(why) => writeln!(f, "{case:<26}  not tried  {why}")?,
                Outcome::Differs(facts) => {
                    for fact in facts {
                        writeln!(f, "{case:<26}  DIFFERS    {fact}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A helper that waits to execute programs.
#[derive(Debug)]
pub struct SelfTest {
    helper: Child,
    input: ChildStdin,
    output: Option<ChildStdout>,
}

impl SelfTest {
    /// Starts the helper, which retains the capabilities of this moment: call it before the collector gives them up.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn prepare(proc: &Path) -> Result<Self, SelfTestError> {
        let mut helper = Command::new("/proc/self/exe")
            .arg(HELPER)
            .arg(proc)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| SelfTestError::Broken(format!("cannot start a process: {error}")))?;
        let (Some(input), Some(output)) = (helper.stdin.take(), helper.stdout.take()) else {
            return Err(SelfTestError::Broken("a process without standard input".to_owned()));
        };
        Ok(Self { helper, input, output: Some(output) })
    }

    /// Executes the programs and compares.
    ///
    /// # Errors
    /// When something differs, or the test cannot be made.
    pub fn run(mut self, probe: &mut Probe) -> Result<Report, SelfTestError> {
        let executed = self.execute(probe);
        // Whatever happened: no children are recorded any more.
        let ended = probe.self_test_children_of(0).map_err(broken);
        let (reports, records) = executed?;
        ended?;
        let report = compare(reports, records)?;
        if report.has_differences() { Err(SelfTestError::Differs(report)) } else { Ok(report) }
    }

    fn execute(&mut self, probe: &mut Probe) -> Result<(Vec<HelperReport>, Vec<Vec<u8>>), SelfTestError> {
        let deadline = monotonic() + PATIENCE;
        let lines = self.lines()?;
        let pid: String = next(&lines, deadline)?.ok_or_else(|| broken("its helper ended at once"))?;
        let pid = pid.parse().map_err(|_| broken(format!("{pid:?} is no process id")))?;
        probe.self_test_children_of(pid).map_err(broken)?;
        self.input.write_all(b"go\n").map_err(broken)?;
        let mut reports = Vec::new();
        while let Some(case) = next(&lines, deadline)? {
            reports.push(case);
        }
        let status = self.helper.wait().map_err(broken)?;
        if !status.success() {
            return Err(broken(format!("its helper ended with {status}")));
        }
        let mut records = Vec::new();
        probe.read_self_test(|record| records.push(record.to_vec()));
        Ok((reports, records))
    }

    /// Reads the reports of the helper in a thread, so that waiting for them has an end. Not before the capabilities were given
    /// up: a thread retains those it was started with.
    fn lines(&mut self) -> Result<Receiver<String>, SelfTestError> {
        let output = self.output.take().ok_or_else(|| broken("its helper has no output"))?;
        let (sender, lines) = sync_channel(0);
        let read = move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("self-test".to_owned()).spawn(read);
        thread.map_err(|error| broken(format!("cannot start a thread: {error}")))?;
        Ok(lines)
    }
}

/// The next line; nothing after the last one.
fn next<T: serde::de::DeserializeOwned>(
    lines: &Receiver<String>,
    deadline: Instant,
) -> Result<Option<T>, SelfTestError> {
    use std::sync::mpsc::RecvTimeoutError;
    match lines.recv_timeout(deadline.saturating_duration_since(monotonic())) {
        Ok(line) => serde_json::from_str(&line).map(Some).map_err(broken),
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => {
            Err(broken(format!("its helper does not end within {} s", PATIENCE.as_secs())))
        }
    }
}

impl Drop for SelfTest {
    fn drop(&mut self) {
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}

/// The helper's part; see [`HELPER`].
///
/// # Errors
/// When something does not work that works everywhere.
pub fn serve(proc: &Path) -> anyhow::Result<()> {
    helper::serve(&Proc::at(proc))
}

/// Each program was executed after the one before it had ended, so records and cases are in the same order.
fn compare(reports: Vec<HelperReport>, records: Vec<Vec<u8>>) -> Result<Report, SelfTestError> {
    let executed = reports.iter().filter(|report| matches!(report, HelperReport::Executed { .. })).count();
    if executed != records.len() {
        return Err(broken(format!("{executed} programs were executed, the eBPF program saw {}", records.len())));
    }
    let mut records = records.into_iter();
    let mut cases = Vec::new();
    for report in reports {
        cases.push(match report {
            HelperReport::NotTried { case, why } => (case, Outcome::NotTried(why)),
            HelperReport::Executed { case, facts } => {
                let exec = RawExec::decode(&records.next().unwrap_or_default()).map_err(broken)?;
                let differences = facts::differences(&facts, &facts::of_exec(&exec));
                let outcome =
                    if differences.is_empty() { Outcome::True(facts.len()) } else { Outcome::Differs(differences) };
                (case, outcome)
            }
        });
    }
    Ok(Report { kernel: release(), cases })
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn broken(why: impl fmt::Display) -> SelfTestError {
    SelfTestError::Broken(why.to_string())
}

impl From<io::Error> for SelfTestError {
    fn from(error: io::Error) -> Self {
        broken(error)
    }
}
