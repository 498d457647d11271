//! The collector's parts put together without Kafka and without runtimes: probe, reader, core, files.

use driftline_collector::describer::{self, Answer};
use driftline_collector::files::CapturedFile;
use driftline_collector::hasher;
use driftline_collector::poll_schedule::PollIntervals;
use driftline_collector::proc::Proc;
use driftline_collector::reader::{BATCHES, Batch, Reader};
use driftline_collector::strict::{Prepared, Strict, StrictMode, StrictSettings};
use driftline_collector_bpf::{Counters, KernelMaps, Probe, ProbeConfig};
use driftline_collector_core::redaction::Redaction;
use driftline_collector_core::{Description, ExecPipeline, Input, Moment, NodeSettings, PipelineCommand};
use driftline_engines::RuntimeSettings;
use driftline_engines::kubernetes::KubernetesSettings;
use driftline_schemas::{ContainerId, ContainerSeen, Exec, ExecEvent};
use driftline_service::clock::{self, SteadyClock};
use driftline_service_core::{Disposition, Effects};
use prometheus::{IntCounterVec, Opts};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{RwLock, mpsc};

const HASH_MAX: u64 = 64 << 20;
const OFF: StrictSettings = StrictSettings { mode: StrictMode::Off, wait: Duration::ZERO };
const PATIENCE: Duration = Duration::from_secs(10);

/// Why live tests cannot run here, if they cannot.
pub(crate) fn missing() -> Option<String> {
    if let Some(reason) = missing_without_engines() {
        return Some(reason);
    }
    let podman = Command::new("podman").arg("--version").output();
    (!podman.is_ok_and(|output| output.status.success())).then(|| "podman is not installed".to_owned())
}

/// The same but for container engines.
pub(crate) fn missing_without_engines() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no BTF".to_owned());
    }
    super::container::busybox_path().is_none().then(|| "no static busybox is installed".to_owned())
}

/// Says that a test did not run: here, and where the whole test run gathers it.
#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    let Ok(path) = std::env::var("DRIFTLINE_SKIPPED") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{test}\t{reason}").unwrap();
}

/// Shows something to whoever reads the result of the whole test run: cargo hides what passing tests print.
#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
pub(crate) fn report(text: &str) {
    let Ok(path) = std::env::var("DRIFTLINE_TABLE") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{text}").unwrap();
}

/// Containers of the whole node go through the same rings: who writes here is alone, all other tests read.
pub(crate) static NODE: RwLock<()> = RwLock::const_new(());

#[derive(Default)]
struct Seen {
    execs: Vec<Exec>,
    /// Each with how many execs came before it.
    containers: Vec<(usize, ContainerSeen)>,
    ended: Vec<ContainerId>,
    settled: BTreeMap<Disposition, u64>,
    counters: Counters,
    /// Programs that ran already.
    running: u64,
}

type Shared = Arc<(Mutex<Seen>, Condvar)>;

pub(crate) struct Harness {
    seen: Shared,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    strict_counts: IntCounterVec,
}

impl Harness {
    /// Attaches the probe; from here on every exec is seen. `running` are containers that a runtime would describe, with
    /// their first processes.
    pub(crate) fn start(running: &[(ContainerId, i32)]) -> Self {
        Self::start_hashing_at_most(HASH_MAX, running)
    }

    /// The same with the real task that asks runtimes, and a cluster.
    pub(crate) fn start_with_runtimes(settings: RuntimeSettings, cluster: &KubernetesSettings) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (questions, received) = mpsc::channel(describer::QUESTION_QUEUE);
        let (answered, answers) = mpsc::channel(describer::QUESTION_QUEUE);
        runtime.block_on(async { describer::start(settings, cluster, PollIntervals::default(), received, answered) });
        Self::start_with(Describer::Task { questions, answers, _runtime: runtime }, HASH_MAX, OFF)
    }

    /// As [`Self::start`], but nothing longer than this is hashed.
    pub(crate) fn start_hashing_at_most(bytes_max: u64, running: &[(ContainerId, i32)]) -> Self {
        Self::start_with(Describer::Known(running.iter().cloned().collect()), bytes_max, OFF)
    }

    /// As [`Self::start`], in strict mode.
    pub(crate) fn start_strict(strict: StrictSettings, running: &[(ContainerId, i32)]) -> Self {
        Self::start_with(Describer::Known(running.iter().cloned().collect()), 2 * HASH_MAX, strict)
    }

    /// What strict mode counted under a name.
    pub(crate) fn strict_count(&self, what: &str) -> u64 {
        self.strict_counts.with_label_values(&[what]).get()
    }

    fn start_with(describer: Describer, bytes_max: u64, strict: StrictSettings) -> Self {
        let proc = Proc::at(Path::new("/proc"));
        let strict_counts = IntCounterVec::new(Opts::new("strict", "strict mode"), &["what"]).unwrap();
        let strict = Prepared::new(strict, &proc).unwrap();
        let strict = strict.map(|strict| Strict::start(strict, &proc, bytes_max, &strict_counts).unwrap());
        let host_mnt_ns = proc.host_mount_namespace();
        let config = ProbeConfig { ordinary_ring_bytes: 1 << 20, suspicious_ring_bytes: 1 << 20, host_mnt_ns };
        let (probe, maps) = Probe::load(&config).unwrap();
        let node = NodeSettings {
            node: driftline_schemas::Node { cluster: "test".into(), name: "node".into(), ..Default::default() },
            boot_id: proc.boot_id(),
            collector_start: proc.unique_id(),
            host_mnt_ns,
            redaction: Redaction::parse("(?:--secret=)([^\\x00]*)").unwrap(),
        };
        let seen = Shared::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, batches) = mpsc::channel(BATCHES);
        Reader::new(probe, proc.clone(), bytes_max).start(stop.clone(), sender).unwrap();
        let mut driver = Driver {
            batches,
            bytes_max,
            proc,
            pipeline: ExecPipeline::new(node, 0),
            clock: SteadyClock::default(),
            describer,
            maps,
            strict,
            seen: seen.clone(),
        };
        let thread = std::thread::spawn(move || driver.drive());
        Self { seen, stop, thread: Some(thread), strict_counts }
    }

    /// The last exec of a file in a container, as soon as there is one.
    pub(crate) fn exec_of(&self, container: &ContainerId, path: &str) -> Exec {
        let found = self.find(container, path.as_bytes());
        found.unwrap_or_else(|| panic!("no exec of {path:?} in {:#?}", self.execs(container)))
    }

    /// The last exec of a file in a container; nothing when none comes.
    pub(crate) fn find(&self, container: &ContainerId, path: &[u8]) -> Option<Exec> {
        self.find_where(container, |exec| exec.subject_path() == path)
    }

    /// The last exec in a container that is like this; nothing when none comes.
    pub(crate) fn find_where(&self, container: &ContainerId, is_like: impl Fn(&Exec) -> bool) -> Option<Exec> {
        let is_it = |exec: &&Exec| exec.container_id == *container && is_like(exec);
        let (seen, changed) = &*self.seen;
        let nothing_yet = |seen: &mut Seen| !seen.execs.iter().any(|exec| is_it(&exec));
        let (seen, _) = changed.wait_timeout_while(seen.lock().unwrap(), PATIENCE, nothing_yet).unwrap();
        seen.execs.iter().rev().find(is_it).cloned()
    }

    /// First process of a container, on the node.
    pub(crate) fn first_process(&self, container: &ContainerId) -> i32 {
        self.find_where(container, |exec| exec.container_pid == 1).unwrap().pid
    }

    pub(crate) fn execs(&self, container: &ContainerId) -> Vec<Exec> {
        let seen = self.seen.0.lock().unwrap();
        seen.execs.iter().filter(|exec| exec.container_id == *container).cloned().collect()
    }

    /// Waits until so many execs of a container have come.
    pub(crate) fn wait_for(&self, container: &ContainerId, count: usize) -> Vec<Exec> {
        self.wait_for_those(container, count, |_| true)
    }

    /// Waits until so many execs of a container have come that are like this.
    pub(crate) fn wait_for_those(
        &self,
        container: &ContainerId,
        count: usize,
        is_like: impl Fn(&Exec) -> bool,
    ) -> Vec<Exec> {
        let is_it = |exec: &&Exec| exec.container_id == *container && is_like(exec);
        let (seen, changed) = &*self.seen;
        let too_few = |seen: &mut Seen| seen.execs.iter().filter(is_it).count() < count;
        let (seen, waited) = changed.wait_timeout_while(seen.lock().unwrap(), PATIENCE, too_few).unwrap();
        assert!(!waited.timed_out(), "{} of {count} execs", seen.execs.iter().filter(is_it).count());
        seen.execs.iter().filter(is_it).cloned().collect()
    }

    /// The record of a container, as soon as there is one, and how many of its execs came before it.
    pub(crate) fn container(&self, container: &ContainerId) -> (usize, ContainerSeen) {
        let is_it = |seen: &&(usize, ContainerSeen)| seen.1.container.id == *container;
        let (seen, changed) = &*self.seen;
        let nothing_yet = |seen: &mut Seen| !seen.containers.iter().any(|one| is_it(&one));
        let (seen, waited) = changed.wait_timeout_while(seen.lock().unwrap(), PATIENCE, nothing_yet).unwrap();
        assert!(!waited.timed_out(), "no record of {container} in {:#?}", seen.containers);
        let (execs, record) = seen.containers.iter().find(is_it).unwrap().clone();
        let before = seen.execs.iter().take(execs).filter(|exec| exec.container_id == *container).count();
        (before, record)
    }

    /// A record of a container that is as wanted.
    pub(crate) fn container_when(
        &self,
        container: &ContainerId,
        is_it: impl Fn(&ContainerSeen) -> bool,
    ) -> ContainerSeen {
        let (seen, changed) = &*self.seen;
        let wanted = |(_, record): &&(usize, ContainerSeen)| record.container.id == *container && is_it(record);
        let nothing_yet = |seen: &mut Seen| !seen.containers.iter().any(|one| wanted(&one));
        let (seen, waited) = changed.wait_timeout_while(seen.lock().unwrap(), PATIENCE, nothing_yet).unwrap();
        assert!(!waited.timed_out(), "no such record of {container} in {:#?}", seen.containers);
        seen.containers.iter().find(wanted).unwrap().1.clone()
    }

    /// Waits until the end of a container was reported.
    pub(crate) fn ended(&self, container: &ContainerId) {
        let (seen, changed) = &*self.seen;
        let not_yet = |seen: &mut Seen| !seen.ended.contains(container);
        let (seen, waited) = changed.wait_timeout_while(seen.lock().unwrap(), PATIENCE, not_yet).unwrap();
        assert!(!waited.timed_out(), "{container} does not end: {:?}", seen.ended);
    }

    /// What the kernel program had counted some 100 ms ago.
    pub(crate) fn counters(&self) -> Counters {
        self.seen.0.lock().unwrap().counters
    }

    /// Stops, and checks that nothing was lost: every exec the kernel counted has an outcome.
    pub(crate) fn finish(mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        let seen = self.seen.0.lock().unwrap();
        assert_eq!(seen.counters.lost(), 0);
        assert_eq!(seen.counters.seen, seen.counters.ordinary + seen.counters.suspicious);
        assert_eq!(seen.counters.seen + seen.running, seen.settled.values().sum::<u64>(), "{:?}", seen.settled);
    }
}

/// The source of descriptions.
enum Describer {
    /// These containers with their first processes, at once.
    Known(BTreeMap<ContainerId, i32>),
    Task {
        questions: mpsc::Sender<ContainerId>,
        answers: mpsc::Receiver<Answer>,
        _runtime: tokio::runtime::Runtime,
    },
}

impl Describer {
    fn request(&self, id: ContainerId) -> Option<Input> {
        match self {
            Self::Known(running) => {
                let description = running.get(&id).map(|pid| Box::new(description(&id, *pid)));
                Some(Input::Described(id, description))
            }
            Self::Task { questions, .. } => {
                questions.try_send(id).unwrap();
                None
            }
        }
    }

    fn answered(&mut self) -> Vec<Input> {
        let Self::Task { answers, .. } = self else { return vec![] };
        let mut inputs = vec![];
        while let Ok(answer) = answers.try_recv() {
            match answer {
                Answer::One(id, description) => inputs.push(Input::Described(id, description)),
                Answer::All(all) => inputs.push(Input::Running(all)),
                Answer::Placed(placement) => inputs.push(Input::Placed(placement)),
                Answer::Trouble(trouble) => unreachable!("the API answers all requests: {trouble:?}"),
                Answer::Gone(ids) => inputs.extend(ids.into_iter().map(Input::Ended)),
            }
        }
        inputs
    }
}

struct Driver {
    batches: mpsc::Receiver<Batch>,
    bytes_max: u64,
    proc: Proc,
    pipeline: ExecPipeline,
    clock: SteadyClock,
    describer: Describer,
    maps: KernelMaps,
    strict: Option<Arc<Strict>>,
    seen: Shared,
}

impl Driver {
    /// Until the reader has read the last: there is a batch at least every 50 ms.
    fn drive(&mut self) {
        let running = self.batches.blocking_recv().unwrap();
        self.seen.0.lock().unwrap().running = running.records.running.len() as u64;
        self.batch(running);
        while let Some(batch) = self.batches.blocking_recv() {
            self.batch(batch);
            for input in self.describer.answered() {
                self.take(input, &mut BTreeMap::new());
            }
        }
        self.take(Input::Stop, &mut BTreeMap::new());
    }

    fn batch(&mut self, batch: Batch) {
        let Batch { records, captured, counters, .. } = batch;
        if let Some(counters) = counters {
            self.seen.0.lock().unwrap().counters = counters;
        }
        self.take(Input::Records(records), &mut captured.into_iter().collect());
    }

    fn take(&mut self, input: Input, captured: &mut BTreeMap<Moment, CapturedFile>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Effects::default();
            self.pipeline.apply(self.clock.now_ns(), input, &mut effects).unwrap();
            for command in effects.take_commands() {
                inputs.extend(match command {
                    PipelineCommand::Describe(id) => self.describer.request(id),
                    PipelineCommand::Inspect(id, pid) => {
                        let inspection = self.proc.inspect(&self.proc.process_of(&id, pid));
                        // Other tests' containers are theirs.
                        if let (Some(strict), Describer::Known(known)) = (&self.strict, &self.describer)
                            && known.contains_key(&id)
                        {
                            strict.watch(&id, pid);
                        }
                        Some(Input::Inspected(id, inspection.map(Box::new)))
                    }
                    PipelineCommand::Hash(job) => {
                        let captured = captured.remove(&job.moment);
                        let strict = self.strict.as_deref();
                        let now_ns = clock::now_ns();
                        let outcome = hasher::outcome(&self.proc, &job, captured, self.bytes_max, now_ns, strict);
                        Some(Input::Digested(job.container, job.moment, outcome))
                    }
                    PipelineCommand::MarkKnown(file) => {
                        self.maps.known_files.know(file).unwrap();
                        continue;
                    }
                    PipelineCommand::Ignore(mnt_ns_id, until_ns) => {
                        self.maps.uncontained.ignore(mnt_ns_id, until_ns).unwrap();
                        continue;
                    }
                    // No test here uses up a budget.
                    PipelineCommand::Retain(..) | PipelineCommand::Release(_) => continue,
                });
            }
            let mut seen = self.seen.0.lock().unwrap();
            for (disposition, count) in effects.take_settled() {
                *seen.settled.entry(disposition).or_default() += count;
            }
            for outgoing in effects.take_outgoing() {
                match ExecEvent::decode(&outgoing.value).unwrap() {
                    ExecEvent::Exec(exec) => seen.execs.push(*exec),
                    ExecEvent::Seen(container) => {
                        let execs = seen.execs.len();
                        seen.containers.push((execs, *container));
                    }
                    ExecEvent::Ended(ended) => seen.ended.push(ended.container_id),
                    ExecEvent::Loss(_) | ExecEvent::Throttled(_) => {}
                }
            }
            self.seen.1.notify_all();
        }
    }
}

fn description(id: &ContainerId, init_pid: i32) -> Description {
    Description {
        container: driftline_schemas::Container { id: id.clone(), ..Default::default() },
        init_pid: Some(init_pid),
        ..Description::default()
    }
}
