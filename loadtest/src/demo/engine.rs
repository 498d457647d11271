//! The container engine of this machine, called by its command line: podman or Docker, whichever runs a container.

use anyhow::{Context as _, bail};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A way to call an engine that may work here.
struct Candidate {
    program: &'static str,
    /// Options before the subcommand.
    global: &'static [&'static str],
    /// Options after `run`.
    run: &'static [&'static str],
}

/// Plain calls first; then podman with the options for a machine without systemd, networking tools or high limits.
const CANDIDATES: [Candidate; 4] = [
    Candidate { program: "podman", global: &[], run: &[] },
    Candidate {
        program: "podman",
        global: &["--runtime=runc", "--cgroup-manager=cgroupfs"],
        run: &["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"],
    },
    Candidate { program: "docker", global: &[], run: &[] },
    Candidate { program: "docker", global: &[], run: &["--network=none"] },
];

/// An engine that ran a container.
pub(super) struct Engine {
    candidate: &'static Candidate,
}

impl Engine {
    /// Builds the image with the first engine that can (`only`, when it is named), and runs its `/bin/true` to check
    /// that containers start.
    pub(super) fn find(only: &str, context: &Path, image: &str) -> anyhow::Result<Self> {
        let mut tried = Vec::new();
        for candidate in CANDIDATES.iter().filter(|candidate| only.is_empty() || candidate.program == only) {
            let engine = Self { candidate };
            let attempt = engine.build(context, image).and_then(|()| engine.run(&["--rm", image, "/bin/true"]));
            match attempt {
                Ok(_) => return Ok(engine),
                Err(error) => tried.push(format!("{} {}: {error:#}", candidate.program, candidate.run.join(" "))),
            }
        }
        bail!("no container engine works here:\n  {}", tried.join("\n  "))
    }

    pub(super) fn name(&self) -> &'static str {
        self.candidate.program
    }

    fn build(&self, context: &Path, image: &str) -> anyhow::Result<()> {
        let context = context.to_str().context("the build directory's path is not UTF-8")?;
        self.call(&["build", "-q", "-t", image, context]).map(drop)
    }

    /// `run` with these arguments; returns the trimmed standard output.
    pub(super) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let all: Vec<&str> =
            std::iter::once("run").chain(self.candidate.run.iter().copied()).chain(arguments.iter().copied()).collect();
        self.call(&all)
    }

    /// Config digest of an image.
    pub(super) fn image_id(&self, image: &str) -> anyhow::Result<String> {
        let id = self.call(&["image", "inspect", "--format", "{{.Id}}", image])?;
        Ok(if id.starts_with("sha256:") { id } else { format!("sha256:{id}") })
    }

    /// Runs a program in the container.
    pub(super) fn exec(&self, container: &str, command: &[&str]) -> anyhow::Result<String> {
        let all: Vec<&str> = ["exec", container].iter().chain(command).copied().collect();
        self.call(&all)
    }

    /// Writes a program into the container, through its shell.
    pub(super) fn put_program(&self, container: &str, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let script = format!("cat > {path} && chmod 755 {path}");
        let mut child = self
            .command(&["exec", "-i", container, "/bin/sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("no standard input")?.write_all(bytes)?;
        check(&format!("writing {path}"), child.wait_with_output()?).map(drop)
    }

    /// Removes container, volume and image; prints errors but does not fail.
    pub(super) fn remove(&self, container: &str, volume: &str, image: &str) {
        // The container's first process ignores SIGTERM, so stopping would only wait for the timeout.
        for arguments in [
            vec!["kill", container],
            vec!["rm", "-f", container],
            vec!["volume", "rm", "-f", volume],
            vec!["rmi", "-f", image],
        ] {
            if let Err(error) = self.call(&arguments) {
                anstream::eprintln!("{} {}: {error:#}", self.candidate.program, arguments.join(" "));
            }
        }
    }

    fn call(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.candidate.program))?;
        check(arguments.first().copied().unwrap_or_default(), output)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.candidate.program);
        command.args(self.candidate.global).args(arguments);
        command
    }
}

fn check(what: &str, output: Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
