//! The collector as it is installed: its binary, a process of its own, a real Kafka and podman's service.

use driftline_collector::rights::NEEDED;
use driftline_kafka::{ClientSettings, ReadFrom, ReaderEvent, TopicReader};
use driftline_schemas::ExecEvent;
use driftline_schemas::topics::Topic;
use driftline_settings::Settings;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) const COLLECTOR: &str = env!("CARGO_BIN_EXE_driftline-collector");
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Nobody in particular: a user without any right.
const NOBODY: u32 = 65_534;

/// Who starts a collector.
#[derive(Debug, Clone)]
pub(crate) enum Starter {
    /// Root, with everything.
    Root,
    /// Somebody else, with these capabilities.
    User(Vec<String>),
}

impl Starter {
    /// Somebody who has exactly what is needed.
    pub(crate) fn usual() -> Self {
        Self::User(NEEDED.iter().map(|needed| short(needed.name)).collect())
    }

    pub(crate) fn user(&self) -> u32 {
        match self {
            Self::Root => 0,
            Self::User(_) => NOBODY,
        }
    }
}

/// `bpf` of `CAP_BPF`, as setpriv wants it.
pub(crate) fn short(capability: &str) -> String {
    capability.trim_start_matches("CAP_").to_lowercase()
}

/// A child that is killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Settings of the Kafka under test, with a prefix nobody else has.
pub(crate) fn kafka(test: &str) -> Option<ClientSettings> {
    let bootstrap = Settings::of_environment().environment("KAFKA_BOOTSTRAP")?;
    let prefix = format!("test-{test}-{}", std::process::id());
    Some(ClientSettings { bootstrap, prefix, partitions: 1, client_id: "driftline-test".to_owned() })
}

/// Where a collector runs.
pub(crate) struct Installation {
    directory: tempfile::TempDir,
    service: Option<Running>,
}

impl Installation {
    /// With podman's service: its command needs CAP_SYS_ADMIN, the service has it, and everybody may ask it.
    pub(crate) async fn with_podman() -> Self {
        let mut place = Self::without_podman();
        let socket = place.podman();
        let mut service = Command::new("podman");
        service.args(["system", "service", "--time=0", &format!("unix://{}", socket.display())]);
        place.service = Some(Running(service.stderr(Stdio::null()).spawn().unwrap()));
        until(|| socket.exists()).await;
        fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
        place
    }

    pub(crate) fn without_podman() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Where it was built may be nobody else's to enter.
        fs::copy(COLLECTOR, directory.path().join("driftline-collector")).unwrap();
        Self { directory, service: None }
    }

    fn podman(&self) -> PathBuf {
        self.directory.path().join("podman.sock")
    }

    /// Each user has one: nobody may write what another has written.
    pub(crate) fn spool(&self, starter: &Starter) -> PathBuf {
        self.directory.path().join(format!("spool-{}", starter.user()))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn command(&self, starter: &Starter, kafka: &ClientSettings) -> Command {
        let binary = self.directory.path().join("driftline-collector");
        let mut command = match starter {
            Starter::Root => Command::new(binary),
            Starter::User(capabilities) => {
                let list: String = capabilities.iter().map(|capability| format!(",+{capability}")).collect();
                let id = NOBODY.to_string();
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
                command.args(["--bounding-set", "--inh-caps", "--ambient-caps"].map(|set| format!("{set}=-all{list}")));
                command.arg(binary);
                command
            }
        };
        let spool = self.spool(starter);
        fs::create_dir_all(&spool).unwrap();
        chown(&spool, Some(starter.user()), Some(starter.user())).unwrap();
        command
            .env("KAFKA_BOOTSTRAP", &kafka.bootstrap)
            .env("DRIFTLINE_TOPIC_PREFIX", &kafka.prefix)
            .env("DRIFTLINE_PARTITIONS", "1")
            .env("DRIFTLINE_TELEMETRY_ADDR", "127.0.0.1:0")
            .env("DRIFTLINE_PODMAN_SOCKET", self.podman())
            .env("DRIFTLINE_SPOOL_DIR", spool)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// A collector that is attached.
    pub(crate) async fn start(&self, mut command: Command) -> Running {
        let log = fs::File::create(self.directory.path().join("log")).unwrap();
        let mut running = Running(command.stderr(log).spawn().unwrap());
        until(|| self.log().contains("collector is attached") || running.0.try_wait().unwrap().is_some()).await;
        assert!(self.log().contains("collector is attached"), "{}", self.log());
        running
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let log = self.log();
        let (_, address) = log.split_once("address=").unwrap();
        let mut stream = TcpStream::connect(address.split_whitespace().next().unwrap()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.split(['{', ' ']).next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }
}

/// What is on the topic, from its beginning.
pub(crate) struct Events(TopicReader);

impl Events {
    pub(crate) async fn of(kafka: &ClientSettings) -> Self {
        Self(TopicReader::start(kafka, &[Topic::ExecEvents], ReadFrom::Beginning).await.unwrap())
    }

    /// Hands over what comes, until enough has come.
    pub(crate) async fn take_until(
        &mut self,
        mut is_enough: impl FnMut(ExecEvent) -> bool,
    ) -> Result<(), &'static str> {
        let read = async {
            loop {
                let Some(ReaderEvent::Record(record)) = self.0.next().await else { continue };
                if is_enough(ExecEvent::decode(&record.value.unwrap()).unwrap()) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.map_err(|_| "not all that was expected came")
    }
}

pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

/// Whether a path is the log of a collector at this place.
pub(crate) fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "log")
}
