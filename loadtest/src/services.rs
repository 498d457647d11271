//! Service binaries as child processes with their own settings: for tests that start, stop and kill them.

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use driftline_kafka::ClientSettings;

/// How long a service may take to become ready or to stop.
const PATIENCE: Duration = Duration::from_secs(40);
/// Default name of an instance: a restarted instance replaces its predecessor.
const INSTANCE: &str = "0";
const POLL: Duration = Duration::from_millis(20);

/// A running service; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    log: PathBuf,
    telemetry: SocketAddr,
}

/// Path of a binary of this build: beside the running test or command.
///
/// # Errors
/// When the path of the running program is unknown.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.exists());
    found.with_context(|| format!("{name} is not built; run `cargo build --workspace`"))
}

/// Starts a service with these settings and waits until it is ready. It gets a new data directory, because a
/// predecessor that is only frozen still has its own open.
///
/// # Errors
/// When it does not become ready; the error holds the end of its log.
pub async fn start(name: &str, kafka: &ClientSettings, extra: &[(&str, &str)], logs: &Path) -> anyhow::Result<Running> {
    let telemetry = free_address()?;
    let log = logs.join(format!("{name}-{}.log", telemetry.port()));
    let file = File::create(&log)?;
    let child = Command::new(binary(&format!("driftline-{name}"))?)
        .env("KAFKA_BOOTSTRAP", &kafka.bootstrap)
        .env("DRIFTLINE_TOPIC_PREFIX", &kafka.prefix)
        .env("DRIFTLINE_PARTITIONS", kafka.partitions.to_string())
        .env("DRIFTLINE_TELEMETRY_ADDR", telemetry.to_string())
        .env("DRIFTLINE_INSTANCE", INSTANCE)
        .env("DRIFTLINE_STORE_DIR", logs.join(format!("{name}-{}.store", telemetry.port())))
        .env("DRIFTLINE_SPOOL_DIR", logs.join(format!("{name}-{}.spool", telemetry.port())))
        .envs(extra.iter().copied())
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    let mut running = Running { child, name: name.to_owned(), log, telemetry };
    running.ready().await?;
    Ok(running)
}

/// The response at an address and path, status line and headers included.
///
/// # Errors
/// When no server answers.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Running {
    async fn ready(&mut self) -> anyhow::Result<()> {
        let tries = PATIENCE.as_millis() / POLL.as_millis();
        for _ in 0..tries {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.log_end());
            }
            if self.get("/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("{} is not ready after {} s:\n{}", self.name, PATIENCE.as_secs(), self.log_end())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The service's response at a path, status line and headers included.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        get(self.telemetry, path).await
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn kill(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.wait().await
    }

    /// Sends SIGSTOP: the process keeps its resources, and does nothing.
    ///
    /// # Errors
    /// When it is not there.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Sends SIGCONT.
    ///
    /// # Errors
    /// When it is not there.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// The exit status, if the process has ended, and the end of its log.
    ///
    /// # Errors
    /// When the system does not report the status.
    pub fn ended(&mut self) -> anyhow::Result<Option<(ExitStatus, String)>> {
        Ok(self.child.try_wait()?.map(|status| (status, self.log_end())))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("the child has no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let tries = PATIENCE.as_millis() / POLL.as_millis();
        for _ in 0..tries {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("{} does not end:\n{}", self.name, self.log_end())
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
