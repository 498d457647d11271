//! Keeps the services running like a supervisor: a service that ended is restarted after a fixed pause. Every end that
//! the rig did not cause is recorded. Called by [`super::rig`].

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use driftline_kafka::ClientSettings;
use driftline_service::clock;

use super::network;
use super::plan::Role;

/// Pause before a service that ended is restarted.
const PAUSE: Duration = Duration::from_millis(200);
const TELEMETRY_PORT: u16 = 9500;
const TICK: Duration = Duration::from_millis(20);
/// Bytes at the end of a log that are searched for the last words.
const LAST_BYTES: usize = 4_000;
/// Settings with which sessions become final soon, so that a batch has an end, and with which memory is full soon, so
/// that final sessions are evicted early.
const SETTINGS: [(&str, &str); 3] =
    [("DRIFTLINE_SESSION_GAP_S", "3"), ("DRIFTLINE_SESSIONS_MAX_MB", "32"), ("DRIFTLINE_KAFKA_WAIT_S", "120")];

/// One service instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// The service.
    pub role: Role,
    /// Its number; the instances of each service are numbered separately.
    pub number: u8,
}

impl Name {
    pub(super) fn node(self) -> u8 {
        self.role.node(self.number)
    }

    /// Address of its telemetry.
    pub(super) fn telemetry(self) -> SocketAddr {
        (network::host(self.node()), TELEMETRY_PORT).into()
    }
}

/// Nodes of so many instances of each service.
pub(super) fn nodes(each: u8) -> impl Iterator<Item = u8> {
    [Role::Enricher, Role::Correlator].into_iter().flat_map(move |role| (0..each).map(move |number| role.node(number)))
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.role.as_str(), self.number)
    }
}

/// The end of a service that the rig did not cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The instance.
    pub service: String,
    /// The fault during or after which it ended.
    pub during: String,
    /// Its exit status.
    pub status: String,
    /// Its last line.
    pub last_words: String,
}

struct Member {
    name: Name,
    child: Option<Child>,
    is_wanted: bool,
    /// The rig ends it, or has ended it.
    is_end_caused: bool,
    start_at: Instant,
    log: PathBuf,
}

struct Inner {
    kafka: ClientSettings,
    binaries: PathBuf,
    directory: PathBuf,
    members: Vec<Member>,
    exits: Vec<Exit>,
    during: String,
}

/// The services; killed when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Supervisor(Arc<Mutex<Inner>>);

impl Supervisor {
    /// Starts `each` instances of both services and keeps watching them.
    pub(super) fn start(kafka: &ClientSettings, binaries: &Path, directory: &Path, each: u8) -> Self {
        let inner = Inner {
            kafka: kafka.clone(),
            binaries: binaries.to_owned(),
            directory: directory.to_owned(),
            members: Vec::new(),
            exits: Vec::new(),
            during: "start".to_owned(),
        };
        let supervisor = Self(Arc::new(Mutex::new(inner)));
        for role in [Role::Enricher, Role::Correlator] {
            (0..each).for_each(|number| supervisor.add(Name { role, number }));
        }
        let watched = Arc::downgrade(&supervisor.0);
        tokio::spawn(async move {
            while let Some(inner) = watched.upgrade() {
                inner.lock().unwrap_or_else(PoisonError::into_inner).poll();
                drop(inner);
                tokio::time::sleep(TICK).await;
            }
        });
        supervisor
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an instance, or restarts one that was removed.
    pub(super) fn add(&self, name: Name) {
        let mut inner = self.lock();
        let now = clock::monotonic();
        if let Some(member) = inner.members.iter_mut().find(|member| member.name == name) {
            (member.is_wanted, member.start_at) = (true, now);
            return;
        }
        let log = inner.directory.join(format!("{name}.log"));
        inner.members.push(Member { name, child: None, is_wanted: true, is_end_caused: false, start_at: now, log });
    }

    /// Ends an instance for good.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub(super) fn send_away(&self, name: Name) -> anyhow::Result<()> {
        if let Some(member) = self.lock().members.iter_mut().find(|member| member.name == name) {
            member.is_wanted = false;
        }
        self.end(name, Signal::TERM)
    }

    /// Whether an instance is wanted.
    pub(super) fn is_wanted(&self, name: Name) -> bool {
        self.lock().members.iter().any(|member| member.name == name && member.is_wanted)
    }

    /// Whether its process runs.
    pub(super) fn runs(&self, name: Name) -> bool {
        self.lock().members.iter().any(|member| member.name == name && member.child.is_some())
    }

    /// Sets the description of the present fault, for the recorded exits.
    pub(super) fn during(&self, what: String) {
        self.lock().during = what;
    }

    /// Ends an instance by a signal; it is restarted.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub(super) fn end(&self, name: Name, signal: Signal) -> anyhow::Result<()> {
        let mut inner = self.lock();
        let Some(member) = inner.members.iter_mut().find(|member| member.name == name) else { return Ok(()) };
        member.is_end_caused = member.child.is_some();
        member.signal(signal)
    }

    /// Sends SIGSTOP or SIGCONT; an instance that does not run at the moment is skipped.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub(super) fn signal(&self, name: Name, signal: Signal) -> anyhow::Result<()> {
        self.lock().members.iter().find(|member| member.name == name).map_or(Ok(()), |member| member.signal(signal))
    }

    /// Its process id, if it runs; its end from now on counts as caused by the rig.
    pub(super) fn doom(&self, name: Name) -> Option<u32> {
        let mut inner = self.lock();
        let member = inner.members.iter_mut().find(|member| member.name == name)?;
        member.is_end_caused = member.child.is_some();
        member.child.as_ref().map(Child::id)
    }

    /// Process ids of the running instances.
    pub(super) fn pids(&self) -> Vec<(Name, u32)> {
        let inner = self.lock();
        inner.members.iter().filter_map(|member| Some((member.name, member.child.as_ref()?.id()))).collect()
    }

    /// Number of exits that the rig did not cause.
    pub(super) fn exit_count(&self) -> usize {
        self.lock().exits.len()
    }

    /// All exits that the rig did not cause.
    pub(super) fn exits(&self) -> Vec<Exit> {
        self.lock().exits.clone()
    }

    /// Whether a service ended because of a contradiction in its own state.
    pub(super) fn has_broken_invariant(&self) -> bool {
        self.lock().exits.iter().any(|exit| is_broken(&exit.last_words))
    }

    /// Lines of the services' logs about a broken invariant.
    pub(super) fn broken_invariants(&self) -> Vec<String> {
        let mut found = Vec::new();
        for member in &self.lock().members {
            let text = std::fs::read_to_string(&member.log).unwrap_or_default();
            let lines = text.lines().filter(|line| is_broken(line));
            found.extend(lines.map(|line| format!("{}: {line}", member.name)));
        }
        found
    }
}

/// Whether a line reports a broken invariant or missing state. No action of the rig loses state, so a service that
/// misses some has read too little of it.
fn is_broken(line: &str) -> bool {
    ["broken invariant", "panicked at", "state was lost"].iter().any(|words| line.contains(words))
}

impl Inner {
    /// Records exits, and starts due instances.
    fn poll(&mut self) {
        for member in &mut self.members {
            match member.ended() {
                Some(status) => {
                    if !std::mem::take(&mut member.is_end_caused) {
                        let (service, during) = (member.name.to_string(), self.during.clone());
                        let last_words = member.last_words();
                        eprintln!("  {service} ended by itself during {during}: {status}: {last_words}");
                        self.exits.push(Exit { service, during, status: status.to_string(), last_words });
                    }
                    member.start_at = clock::monotonic() + PAUSE;
                }
                None if member.child.is_none() && member.is_wanted && clock::monotonic() >= member.start_at => {
                    if let Err(error) = member.start(&self.kafka, &self.binaries, &self.directory) {
                        eprintln!("{} cannot be started: {error:#}", member.name);
                        member.start_at = clock::monotonic() + PAUSE;
                    }
                }
                None => {}
            }
        }
    }
}

impl Member {
    /// The exit status, if it ended since the last call.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    fn start(&mut self, kafka: &ClientSettings, binaries: &Path, directory: &Path) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let role = self.name.role;
        let child = network::command(self.name.node(), binaries.join(format!("driftline-{}", role.as_str())))
            .env("KAFKA_BOOTSTRAP", &kafka.bootstrap)
            .env("DRIFTLINE_TOPIC_PREFIX", &kafka.prefix)
            .env("DRIFTLINE_PARTITIONS", kafka.partitions.to_string())
            .env("DRIFTLINE_TELEMETRY_ADDR", self.name.telemetry().to_string())
            .env("DRIFTLINE_INSTANCE", self.name.number.to_string())
            .env("DRIFTLINE_STORE_DIR", directory.join(format!("{}.store", self.name)))
            .envs(SETTINGS)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        (self.child, self.is_end_caused) = (Some(child), false);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a service has no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// The last log line of the program itself, or else the last line: the client may log while the process ends.
    fn last_words(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.get(bytes.len().saturating_sub(LAST_BYTES)..).unwrap_or_default());
        let own = text.lines().rev().find(|line| line.starts_with("driftline-"));
        own.or_else(|| text.lines().next_back()).unwrap_or_default().to_owned()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
