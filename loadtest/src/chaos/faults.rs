//! Injects one fault and undoes it. Called by [`super::rig`].

use rustix::process::Signal;
use std::path::PathBuf;
use std::time::Duration;

use driftline_schemas::topics::Topic;
use driftline_service::clock;

use crate::services;

use super::cluster::{Cluster, NODES};
use super::plan::{Fault, Kind, Role};
use super::supervisor::{Name, Supervisor};
use super::watch::{Mark, WATCHED, Watch};
use super::wire::Coordinator;

/// Instances of each service that always run.
pub(super) const INSTANCES: u8 = 3;
/// Shorter than any time limit.
const FREEZE_SHORT: Duration = Duration::from_secs(3);
/// Longer than a session (15 s), a call (20 s) and a transaction (25 s) may last.
const FREEZE_SERVICE_LONG: Duration = Duration::from_secs(28);
/// After this time other members have the partitions of a frozen service: a session (15 s) and a rebalance.
const TAKEN_OVER: Duration = Duration::from_millis(16_500);
/// Longer than the controller waits for a broker (9 s).
const FREEZE_BROKER_LONG: Duration = Duration::from_secs(12);
const CUT: Duration = Duration::from_secs(12);
/// Range from less than any time limit to more than a session (15 s) and a transaction (25 s) may last.
const CUT_SERVICE_MIN: Duration = Duration::from_secs(4);
const CUT_SERVICE_RANGE_MS: u64 = 26_000;
/// A crashed broker stays down until output flows without it, but not longer than this.
const CRASHED_MAX: Duration = Duration::from_secs(25);
/// A disk stays full until the broker has noticed, but not longer than this.
const DISK_FULL_MAX: Duration = Duration::from_secs(10);
/// Free space that is left on a disk before it is full.
const ROOM_KBYTES: u64 = 256;
/// A memory limit takes effect at the next allocation of a process.
const MEMORY_MAX: Duration = Duration::from_secs(5);
/// Where the memory of processes can be limited, by version of the cgroup interface, and the file with the limit.
const MEMORY_GROUPS: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
/// Less than any of the services needs.
const MEMORY_BYTES: &str = "4194304";
const POLL: Duration = Duration::from_millis(50);

/// The system under test.
pub(super) struct Rig {
    pub cluster: Cluster,
    pub supervisor: Supervisor,
    pub watch: Watch,
    /// Prefix of topics, groups and transactional ids.
    pub prefix: String,
}

/// How a fault is undone.
enum Undo {
    Nothing,
    Continue(Name),
    ContinueBrokers(Vec<u8>),
    StartBrokers(Vec<u8>),
    Join(u8),
    EmptyDisk(u8),
    Unlimit(Name, PathBuf),
}

/// When a fault is undone.
enum Until {
    /// At once.
    Now,
    /// After this time.
    After(Duration),
    /// When output flows in spite of the fault, but not later than this.
    Flowing(Duration),
}

/// An injected fault.
struct Injected {
    mark: Mark,
    until: Until,
    undo: Undo,
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A number below `count`, derived from a draw.
fn choose(draw: u64, count: u8) -> u8 {
    draw.checked_rem(u64::from(count)).and_then(|number| u8::try_from(number).ok()).unwrap_or(0)
}

fn a_service(draw: u64) -> Name {
    let role = if draw.is_multiple_of(2) { Role::Enricher } else { Role::Correlator };
    Name { role, number: choose(draw / 2, INSTANCES) }
}

fn a_broker(draw: u64) -> u8 {
    choose(draw, 3) + 1
}

impl Rig {
    /// Injects a fault, keeps it up and undoes it; returns the time at which it took effect.
    ///
    /// # Errors
    /// When the rig itself fails.
    pub(super) async fn run_fault(&mut self, fault: &Fault) -> anyhow::Result<Mark> {
        if fault.kind.is_of_brokers() {
            self.cluster.whole().await?;
        }
        let injected = self.inject(fault).await?;
        let began = clock::monotonic();
        if let Some(draw) = fault.also {
            self.overlap(fault, draw).await?;
        }
        match injected.until {
            Until::Now => {}
            Until::After(time) => tokio::time::sleep(time.saturating_sub(began.elapsed())).await,
            Until::Flowing(most) => {
                while !self.flows(injected.mark) && began.elapsed() < most {
                    tokio::time::sleep(POLL).await;
                }
            }
        }
        self.undo(injected.undo).await?;
        Ok(injected.mark)
    }

    /// Kills a service while the fault lasts. If the fault is a frozen service, the killed one is a service that has
    /// taken over from it, at a time at which the frozen one's transaction may still be open.
    async fn overlap(&self, fault: &Fault, draw: u64) -> anyhow::Result<()> {
        let (name, after) = match fault.kind {
            Kind::FreezeServiceLong => {
                let frozen = a_service(fault.draw);
                (Name { number: (frozen.number + 1) % INSTANCES, ..frozen }, TAKEN_OVER + millis(draw % 8_000))
            }
            _ => (a_service(draw), millis(draw % 4_000)),
        };
        tokio::time::sleep(after).await;
        self.supervisor.end(name, Signal::KILL)
    }

    /// Whether every partition of both topics has output of execs after the mark.
    pub(super) fn flows(&self, mark: Mark) -> bool {
        WATCHED.iter().all(|topic| self.watch.recovery(mark, *topic).is_some())
    }

    async fn inject(&mut self, fault: &Fault) -> anyhow::Result<Injected> {
        let draw = fault.draw;
        match fault.kind {
            Kind::KillEnricher => self.kill(Name { role: Role::Enricher, number: choose(draw, INSTANCES) }),
            Kind::KillCorrelator => self.kill(Name { role: Role::Correlator, number: choose(draw, INSTANCES) }),
            Kind::EndService => self.end(a_service(draw)).await,
            Kind::Scale => self.scale(draw).await,
            Kind::FreezeServiceShort => self.freeze(a_service(draw), FREEZE_SHORT),
            Kind::FreezeServiceLong => self.freeze(a_service(draw), FREEZE_SERVICE_LONG),
            Kind::MemoryLimit => self.limit_memory(a_service(draw)).await,
            Kind::CutService => {
                let node = a_service(draw).node();
                super::network::cut(node)?;
                let time = CUT_SERVICE_MIN + millis(draw / 6 % CUT_SERVICE_RANGE_MS);
                Ok(self.injected(Until::After(time), Undo::Join(node)))
            }
            Kind::KillBroker => self.kill_broker(a_broker(draw)),
            Kind::KillTransactionCoordinator => {
                let service = a_service(draw);
                let id = format!("{}.{}.{}", self.prefix, service.role.as_str(), service.number);
                let broker = self.cluster.coordinator(Coordinator::Transaction(&id)).await?;
                self.kill_broker(broker)
            }
            Kind::KillGroupCoordinator => {
                let group = format!("{}.{}", self.prefix, a_service(draw).role.as_str());
                let broker = self.cluster.coordinator(Coordinator::Group(&group)).await?;
                self.kill_broker(broker)
            }
            Kind::FreezeBrokerShort => self.freeze_brokers(vec![a_broker(draw)], FREEZE_SHORT),
            Kind::FreezeBrokerLong => self.freeze_brokers(vec![a_broker(draw)], FREEZE_BROKER_LONG),
            Kind::CutBroker => {
                super::network::cut(a_broker(draw))?;
                Ok(self.injected(Until::After(CUT), Undo::Join(a_broker(draw))))
            }
            Kind::DiskFull => {
                self.cluster.leave_room(a_broker(draw), Some(ROOM_KBYTES))?;
                let until = Until::After(DISK_FULL_MAX);
                Ok(self.injected(until, Undo::EmptyDisk(a_broker(draw))))
            }
            Kind::RollingRestart => self.roll().await,
            Kind::AllAway => self.all_away(draw),
        }
    }

    fn injected(&self, until: Until, undo: Undo) -> Injected {
        Injected { mark: self.watch.mark(), until, undo }
    }

    fn kill(&self, name: Name) -> anyhow::Result<Injected> {
        self.supervisor.end(name, Signal::KILL)?;
        Ok(self.injected(Until::Now, Undo::Nothing))
    }

    /// The mark is the end of the process: until then it finishes open work.
    async fn end(&self, name: Name) -> anyhow::Result<Injected> {
        self.supervisor.end(name, Signal::TERM)?;
        let deadline = clock::monotonic() + CRASHED_MAX;
        while self.supervisor.runs(name) && clock::monotonic() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(self.injected(Until::Now, Undo::Nothing))
    }

    async fn scale(&self, draw: u64) -> anyhow::Result<Injected> {
        let role = a_service(draw).role;
        let extra = Name { role, number: INSTANCES };
        let mark = self.watch.mark();
        if self.supervisor.is_wanted(extra) {
            self.supervisor.send_away(extra)?;
        } else {
            self.supervisor.add(extra);
            let began = clock::monotonic();
            while !is_ready(extra).await && began.elapsed() < CRASHED_MAX {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(Injected { mark, until: Until::Now, undo: Undo::Nothing })
    }

    fn freeze(&self, name: Name, time: Duration) -> anyhow::Result<Injected> {
        self.supervisor.signal(name, Signal::STOP)?;
        Ok(self.injected(Until::After(time), Undo::Continue(name)))
    }

    /// Moves a process into a cgroup with less memory than it needs; the kernel kills it.
    async fn limit_memory(&self, name: Name) -> anyhow::Result<Injected> {
        let Some(pid) = self.supervisor.doom(name) else { return self.kill(name) };
        let Some((root, limit)) = MEMORY_GROUPS.iter().find(|(root, _)| is_memory_group(root)) else {
            return self.kill(name);
        };
        let group = PathBuf::from(root).join(format!("driftline-chaos-{}-{pid}", clock::now_ns()));
        std::fs::create_dir(&group)?;
        std::fs::write(group.join("cgroup.procs"), pid.to_string())?;
        // Memory charged to another cgroup stays there, so only later allocations count.
        std::fs::write(group.join(limit), MEMORY_BYTES)?;
        let mark = self.watch.mark();
        let deadline = clock::monotonic() + MEMORY_MAX;
        while std::path::Path::new(&format!("/proc/{pid}/stat")).exists() && clock::monotonic() < deadline {
            tokio::time::sleep(POLL).await;
        }
        Ok(Injected { mark, until: Until::Now, undo: Undo::Unlimit(name, group) })
    }

    fn kill_broker(&mut self, id: u8) -> anyhow::Result<Injected> {
        self.cluster.kill(id)?;
        Ok(self.injected(Until::Flowing(CRASHED_MAX), Undo::StartBrokers(vec![id])))
    }

    fn freeze_brokers(&mut self, ids: Vec<u8>, time: Duration) -> anyhow::Result<Injected> {
        for id in &ids {
            self.cluster.signal(*id, Signal::STOP)?;
        }
        Ok(self.injected(Until::After(time), Undo::ContinueBrokers(ids)))
    }

    /// Restarts each broker when the previous one is back, as an operator does.
    async fn roll(&mut self) -> anyhow::Result<Injected> {
        let mark = self.watch.mark();
        for id in NODES {
            self.cluster.end(id).await?;
            self.cluster.start_node(id)?;
            self.cluster.whole().await?;
        }
        Ok(Injected { mark, until: Until::Now, undo: Undo::Nothing })
    }

    /// Takes all brokers away for 10 to 20 s, killed or frozen.
    fn all_away(&mut self, draw: u64) -> anyhow::Result<Injected> {
        let time = Duration::from_millis(10_000 + draw / 2 % 10_000);
        if draw.is_multiple_of(2) {
            return self.freeze_brokers(NODES.to_vec(), time);
        }
        for id in NODES {
            self.cluster.kill(id)?;
        }
        Ok(self.injected(Until::After(time), Undo::StartBrokers(NODES.to_vec())))
    }

    async fn undo(&mut self, undo: Undo) -> anyhow::Result<()> {
        match undo {
            Undo::Nothing => {}
            Undo::Continue(name) => self.supervisor.signal(name, Signal::CONT)?,
            Undo::ContinueBrokers(ids) => {
                for id in ids {
                    self.cluster.signal(id, Signal::CONT)?;
                }
            }
            Undo::StartBrokers(ids) => {
                for id in ids {
                    self.cluster.start_node(id)?;
                }
            }
            Undo::Join(id) => super::network::join(id)?,
            Undo::EmptyDisk(id) => {
                self.cluster.leave_room(id, None)?;
                // A broker whose only disk has failed ends by itself; one that has not noticed is restarted as well.
                self.cluster.kill(id)?;
                self.cluster.start_node(id)?;
            }
            Undo::Unlimit(name, group) => self.unlimit(name, &group).await?,
        }
        Ok(())
    }

    /// Kills a process that managed with the limited memory.
    async fn unlimit(&self, name: Name, group: &std::path::Path) -> anyhow::Result<()> {
        let left = std::fs::read_to_string(group.join("cgroup.procs"))?;
        if !left.trim().is_empty() {
            self.supervisor.end(name, Signal::KILL)?;
        }
        let deadline = clock::monotonic() + MEMORY_MAX;
        while std::fs::remove_dir(group).is_err() && clock::monotonic() < deadline {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Restores everything that a fault may have left stopped, so that a batch can be finished.
    ///
    /// # Errors
    /// When a broker cannot be started.
    pub(super) fn restore(&mut self) -> anyhow::Result<()> {
        for id in NODES {
            self.cluster.start_node(id)?;
        }
        Ok(())
    }

    /// For each watched topic, the time from the mark until every partition had new output.
    pub(super) fn recoveries(&self, mark: Mark) -> [Option<Duration>; 2] {
        [self.watch.recovery(mark, Topic::Findings), self.watch.recovery(mark, Topic::Alerts)]
    }
}

async fn is_ready(name: Name) -> bool {
    let answer = services::get(name.telemetry(), "/readyz").await;
    answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn is_memory_group(root: &str) -> bool {
    let root = std::path::Path::new(root);
    let v1 = root.join("memory.limit_in_bytes").exists();
    let v2 = || std::fs::read_to_string(root.join("cgroup.subtree_control")).is_ok_and(|has| has.contains("memory"));
    v1 || v2()
}
