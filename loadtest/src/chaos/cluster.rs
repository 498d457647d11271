//! Three brokers that are also controllers, each in a network namespace and on a disk of its own. Called by
//! [`super::faults`].

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driftline_service::clock;

use super::network;
use super::wire::{self, Coordinator};

/// Node ids.
pub(super) const NODES: [u8; 3] = [1, 2, 3];
/// Size of a broker's disk: a batch of 100 faults writes less than a third of it.
const DISK_KBYTES: u64 = 4 << 20;
/// How long the cluster may take to be in sync after any fault.
const WHOLE_MAX: Duration = Duration::from_secs(90);
/// How long a broker may take to end after SIGTERM.
const END_MAX: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(100);
/// Any id will do: 16 bytes in URL-safe base64.
const CLUSTER_ID: &str = "driftline-chaos-clust0";
/// Partitions of Kafka's own topics.
const OWN_PARTITIONS: u8 = 6;

/// Java, and where Kafka's jars are.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Program.
    pub java: PathBuf,
    /// Directory of the jars.
    pub jars: PathBuf,
}

struct Node {
    id: u8,
    child: Option<Child>,
}

/// The cluster; killed when dropped.
pub(super) struct Cluster {
    installation: Installation,
    directory: PathBuf,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Makes disks and formats them, starts the brokers and waits until they answer.
    ///
    /// # Errors
    /// When any step fails.
    pub(super) async fn start(installation: &Installation, directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("log4j2.properties"), LOGGING)?;
        let mut nodes = Vec::new();
        for id in NODES {
            let disk = directory.join(format!("disk{id}"));
            network::mount_disk(&disk, DISK_KBYTES)?;
            std::fs::write(directory.join(format!("{id}.properties")), properties(id, &disk))?;
            nodes.push(Node { id, child: None });
        }
        let mut cluster = Self { installation: installation.clone(), directory: directory.to_owned(), nodes };
        let formatting: Vec<Child> = NODES.iter().map(|id| cluster.format(*id)).collect::<Result<_, _>>()?;
        for mut each in formatting {
            let status = tokio::task::spawn_blocking(move || each.wait()).await??;
            anyhow::ensure!(status.success(), "a disk could not be formatted, see {}", directory.display());
        }
        for id in NODES {
            cluster.start_node(id)?;
        }
        cluster.answers().await?;
        Ok(cluster)
    }

    fn java(&self) -> Command {
        let mut command = Command::new(&self.installation.java);
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"]);
        command.arg(format!("-Dlog4j2.configurationFile={}", self.directory.join("log4j2.properties").display()));
        command.arg("-cp").arg(format!("{}/*", self.installation.jars.display())).stdin(Stdio::null());
        command
    }

    fn format(&self, id: u8) -> anyhow::Result<Child> {
        let settings = self.directory.join(format!("{id}.properties"));
        let log = File::create(self.directory.join(format!("format{id}.log")))?;
        let mut command = self.java();
        command.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(settings);
        Ok(command.stdout(log.try_clone()?).stderr(log).spawn()?)
    }

    /// Addresses for clients.
    pub(super) fn bootstrap(&self) -> String {
        self.nodes.iter().map(|node| network::address(node.id).to_string()).collect::<Vec<_>>().join(",")
    }

    fn node(&mut self, id: u8) -> anyhow::Result<&mut Node> {
        self.nodes.iter_mut().find(|node| node.id == id).with_context(|| format!("there is no broker {id}"))
    }

    /// Starts a broker that does not run.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn start_node(&mut self, id: u8) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.directory.join(format!("broker{id}.log")))?;
        let java = self.java();
        let mut command = network::command(id, java.get_program());
        command.args(["-Xms128m", "-Xmx384m"]).args(java.get_args()).arg("kafka.Kafka");
        command.arg(self.directory.join(format!("{id}.properties"))).stdin(Stdio::null());
        let node = self.node(id)?;
        if node.runs() {
            return Ok(());
        }
        node.child = Some(command.stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    /// Sends a signal to a broker.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) fn signal(&mut self, id: u8, signal: Signal) -> anyhow::Result<()> {
        let node = self.node(id)?;
        let child = node.child.as_ref().with_context(|| format!("broker {id} does not run"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a broker has no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills a broker and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn kill(&mut self, id: u8) -> anyhow::Result<()> {
        if let Some(mut child) = self.node(id)?.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Ends a broker in good order; kills it when it takes too long.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) async fn end(&mut self, id: u8) -> anyhow::Result<()> {
        self.signal(id, Signal::TERM)?;
        let deadline = clock::monotonic() + END_MAX;
        while self.node(id)?.runs() && clock::monotonic() < deadline {
            tokio::time::sleep(POLL).await;
        }
        self.kill(id)
    }

    /// Brokers that ended by themselves since the last call.
    pub(super) fn ended(&mut self) -> Vec<u8> {
        let mut ended = Vec::new();
        for node in &mut self.nodes {
            if node.child.is_some() && !node.runs() {
                node.child = None;
                ended.push(node.id);
            }
        }
        ended
    }

    /// Limits the free space of a broker's disk, or restores its full size.
    ///
    /// # Errors
    /// When it cannot be resized.
    pub(super) fn leave_room(&self, id: u8, kbytes: Option<u64>) -> anyhow::Result<()> {
        let disk = self.directory.join(format!("disk{id}"));
        let size = match kbytes {
            Some(room) => network::used_kbytes(&disk)?.saturating_add(room),
            None => DISK_KBYTES,
        };
        network::resize_disk(&disk, size)
    }

    /// Mount points of the brokers' disks.
    pub(super) fn disks(&self) -> Vec<PathBuf> {
        NODES.iter().map(|id| self.directory.join(format!("disk{id}"))).collect()
    }

    /// The used space of the fullest disk.
    pub(super) fn used_kbytes(&self) -> u64 {
        let disk = |id| network::used_kbytes(&self.directory.join(format!("disk{id}"))).unwrap_or(0);
        NODES.into_iter().map(disk).max().unwrap_or(0)
    }

    /// The broker that coordinates a group or transactional id.
    ///
    /// # Errors
    /// When no broker knows it.
    pub(super) async fn coordinator(&self, of: Coordinator<'_>) -> anyhow::Result<u8> {
        let mut why = anyhow::anyhow!("there are no brokers");
        for broker in self.addresses() {
            match wire::coordinator(broker, of).await {
                Ok(id) => return Ok(u8::try_from(id)?),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Addresses of the brokers.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        NODES.into_iter().map(network::address)
    }

    async fn answers(&self) -> anyhow::Result<()> {
        self.until("answers", |copies| copies.is_some()).await
    }

    /// Waits until every replica of every partition is in sync according to every broker.
    ///
    /// # Errors
    /// When that takes too long.
    pub(super) async fn whole(&self) -> anyhow::Result<()> {
        let whole = |copies: Option<bool>| copies == Some(true);
        self.until("is whole", whole).await
    }

    async fn until(&self, what: &str, done: impl Fn(Option<bool>) -> bool) -> anyhow::Result<()> {
        let deadline = clock::monotonic() + WHOLE_MAX;
        loop {
            let mut all = true;
            for broker in self.addresses() {
                let copies = wire::copies(broker).await.ok();
                let whole =
                    copies.map(|copies| copies.values().all(|copy| copy.leader > 0 && copy.in_sync == copy.wanted));
                all = all && done(whole);
            }
            if all {
                return Ok(());
            }
            if clock::monotonic() > deadline {
                bail!("the cluster never {what} within {} s", WHOLE_MAX.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Node {
    fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for id in NODES {
            let _ = self.kill(id);
            let _ = network::run("umount", &["-l", &self.directory.join(format!("disk{id}")).to_string_lossy()]);
        }
    }
}

fn properties(id: u8, disk: &Path) -> String {
    let host = network::host(id);
    let voters: Vec<String> = NODES.iter().map(|node| format!("{node}@{}:9093", network::host(*node))).collect();
    format!(
        "process.roles=broker,controller
node.id={id}
listeners=PLAINTEXT://{host}:9092,CONTROLLER://{host}:9093
advertised.listeners=PLAINTEXT://{host}:9092
controller.listener.names=CONTROLLER
controller.quorum.voters={}
log.dirs={}/data
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions={OWN_PARTITIONS}
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions={OWN_PARTITIONS}
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
",
        voters.join(","),
        disk.display()
    )
}

const LOGGING: &str = "appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %-5p %m (%c{1})%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
logger.server.name=kafka.server
logger.server.level=info
";
