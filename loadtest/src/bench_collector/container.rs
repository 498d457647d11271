//! The container whose execs are measured: two static programs in an otherwise empty image, built and run with podman.

use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Program;

const SPAWN: &str = include_str!("../../testdata/spawn.c");
const TINY: &str = "int main(void) { return 0; }\n";
const TINY_PATH: &str = "/bin/tiny";
const DRIFTED_PATH: &str = "/tmp/drifted";
/// Options with which podman works inside a machine without systemd, networking tools or high limits.
const GLOBAL: [&str; 2] = ["--runtime=runc", "--cgroup-manager=cgroupfs"];
const RUN: [&str; 3] = ["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"];

/// An image; removed when dropped.
pub(super) struct Workload {
    image: String,
}

/// The output of one run.
pub(super) struct Turn {
    pub(super) wall_ns: u64,
}

impl Workload {
    pub(super) fn build() -> anyhow::Result<Self> {
        let root = tempfile::tempdir()?;
        for directory in ["bin", "tmp", "dev", "proc", "sys", "etc"] {
            std::fs::create_dir(root.path().join(directory))?;
        }
        compile(SPAWN, root.path(), "spawn")?;
        compile(TINY, root.path(), "tiny")?;
        let archive = root.path().with_extension("tar");
        output(Command::new("tar").arg("-C").arg(root.path()).arg("-cf").arg(&archive).arg("."))?;
        let image = format!("localhost/driftline-bench:{}", std::process::id());
        let imported = output(Command::new("podman").args(["import", "-q"]).arg(&archive).arg(&image));
        std::fs::remove_file(&archive)?;
        imported?;
        Ok(Self { image })
    }

    /// Path of the program in the container.
    pub(super) fn path(&self, program: Program) -> &'static str {
        match program {
            Program::Image => TINY_PATH,
            Program::Drifted | Program::Changed => DRIFTED_PATH,
        }
    }

    /// Executes the program so many times in a fresh container, one after the other.
    pub(super) fn run(&self, execs: u32, program: Program) -> anyhow::Result<Turn> {
        self.run_paced(execs, Duration::ZERO, program)
    }

    /// Like [`Self::run`], with a pause after each exec.
    pub(super) fn run_paced(&self, execs: u32, pause: Duration, program: Program) -> anyhow::Result<Turn> {
        let (count, pause) = (execs.to_string(), pause.as_millis().to_string());
        let mut command = Command::new("podman");
        command.args(GLOBAL).args(["run", "--rm"]).args(RUN).args([
            &self.image,
            "/bin/spawn",
            &count,
            &pause,
            TINY_PATH,
        ]);
        let copied: &[&str] = match program {
            Program::Image => &[],
            Program::Drifted => &[DRIFTED_PATH],
            Program::Changed => &[DRIFTED_PATH, "touch"],
        };
        command.args(copied);
        let printed = output(&mut command)?;
        let wall_ns = printed.trim().parse().with_context(|| format!("the workload printed {printed:?}"))?;
        Ok(Turn { wall_ns })
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = output(Command::new("podman").args(["rmi", "-f", &self.image]));
    }
}

fn compile(source: &str, root: &Path, name: &str) -> anyhow::Result<()> {
    let file = root.join(format!("{name}.c"));
    std::fs::write(&file, source)?;
    let to = root.join("bin").join(name);
    output(Command::new("cc").args(["-static", "-O2", "-s", "-o"]).arg(to).arg(&file))?;
    Ok(std::fs::remove_file(file)?)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
