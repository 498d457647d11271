//! A separate Kafka for tests that freeze or kill it.

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A broker in a temporary directory; stopped when dropped.
#[derive(Debug)]
pub struct OwnKafka {
    state: tempfile::TempDir,
    script: PathBuf,
    /// Address for clients.
    pub bootstrap: String,
    pid: Pid,
}

/// Far from the first port that the Kafka of `make test` tries.
const PORT: &str = "19392";

impl OwnKafka {
    /// Starts a broker with `deploy/dev/kafka.sh` of the repository at `root`, using Java.
    ///
    /// # Errors
    /// When it does not start, with the output of the script.
    pub fn start(root: &Path) -> anyhow::Result<Self> {
        let state = tempfile::tempdir()?;
        let script = root.join("deploy/dev/kafka.sh");
        run(&script, "up", state.path())?;
        let bootstrap = run(&script, "bootstrap", state.path())?.trim().to_owned();
        let pid = std::fs::read_to_string(state.path().join("broker.pid"))?;
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw).context("the broker has no pid")?;
        Ok(Self { state, script, bootstrap, pid })
    }

    /// Stops the broker's threads: clients wait.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        Ok(kill_process(self.pid, Signal::STOP)?)
    }

    /// Lets the broker continue.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        Ok(kill_process(self.pid, Signal::CONT)?)
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        let _ = self.thaw();
        let _ = run(&self.script, "down", self.state.path());
    }
}

fn run(script: &Path, command: &str, state: &Path) -> anyhow::Result<String> {
    let output = Command::new(script)
        .arg(command)
        .env("KAFKA_STATE", state)
        .env("KAFKA_MODE", "java")
        .env("KAFKA_PORT", PORT)
        .env_remove("KAFKA_BOOTSTRAP")
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "kafka.sh {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
