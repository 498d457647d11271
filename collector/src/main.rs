//! Reports every exec in every container of a node to Kafka.

use clap::{Parser, Subcommand};
use driftline_collector::collector;
use driftline_collector::proc::Proc;
use driftline_collector::self_test::{self, SelfTest};
use driftline_collector::settings::{CollectorSettings, kubernetes, runtimes, strict};
use driftline_collector::strict::Prepared;
use driftline_collector::{doctor, rights};
use driftline_service::checks;
use driftline_service::{shutdown, telemetry};
use driftline_settings::{Program, Settings, document};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// Threads of the runtime: one for the collector's task, and one for the tasks around it. A node's 64 processors are not
/// the collector's.
const WORKERS: usize = 2;

/// Reports every exec in every container of this node to Kafka. Needs root (or `CAP_BPF`, `CAP_PERFMON`, `CAP_SYS_PTRACE`
/// and `CAP_DAC_READ_SEARCH`, and gives up whatever else it has) and a kernel with BTF. Settings come from the
/// environment and from a configuration file.
#[derive(Parser)]
#[command(version, after_help = document::help(Program::Collector))]
struct Arguments {
    /// Configuration file, TOML [env: DRIFTLINE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prove that the kernel program reads the truth on this kernel, without Kafka; exits 1 when it does not
    SelfTest {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check what kernel, rights and runtimes of this node allow, each with a remedy; exits 1 when there is a problem
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a file of a container to standard output, by a process of the container. Links stay in the container
    Copy {
        /// Process, by its id on the node
        pid: u32,
        /// Path as the process sees it
        path: PathBuf,
    },
    #[command(name = self_test::HELPER, hide = true)]
    SelfTestHelper { proc: PathBuf },
    #[command(name = self_test::EXIT, hide = true)]
    SelfTestExit { ignored: Vec<String> },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = || Settings::of_process(Program::Collector, arguments.config.as_deref());
    match arguments.command {
        None => ended(collect(settings())),
        Some(Command::SelfTest { json }) => ended(test(settings(), json)),
        Some(Command::Doctor { json }) => examine(settings(), json),
        Some(Command::Copy { pid, path }) => ended(copy(settings(), pid, &path)),
        Some(Command::SelfTestHelper { proc }) => ended(self_test::serve(&proc)),
        Some(Command::SelfTestExit { .. }) => ExitCode::SUCCESS,
    }
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    shutdown::exit_code("driftline-collector", result)
}

fn collect(mut settings: Settings) -> anyhow::Result<()> {
    telemetry::start_logs(&mut settings);
    let collector = CollectorSettings::read(&mut settings);
    settings.finish()?;
    rights::require()?;
    // The one process that retains more capabilities, until the test is over.
    let self_test = SelfTest::prepare(&collector.runtimes.proc)?;
    // In strict mode one thread does, too.
    let strict = Prepared::new(collector.strict, &Proc::at(&collector.runtimes.proc))?;
    rights::give_up_others()?;
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    // As a task: then the thread that polls time and sockets mostly goes on with it.
    runtime.block_on(async { tokio::spawn(collector::run(collector, self_test, strict)).await? })
}

fn test(mut settings: Settings, json: bool) -> anyhow::Result<()> {
    let runtimes = runtimes(&mut settings);
    settings.finish()?;
    let report = doctor::self_test(&Proc::at(&runtimes.proc))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("kernel {}\n{report}", report.kernel);
    }
    Ok(())
}

fn copy(mut settings: Settings, pid: u32, path: &Path) -> anyhow::Result<()> {
    let runtimes = runtimes(&mut settings);
    settings.finish()?;
    driftline_collector::copy::copy(&Proc::at(&runtimes.proc), pid, path, &mut std::io::stdout().lock())?;
    Ok(())
}

fn examine(mut settings: Settings, json: bool) -> ExitCode {
    let examined = Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let runtimes = runtimes(&mut settings);
        let cluster = kubernetes(&mut settings, &runtimes);
        let strict = strict(&mut settings);
        settings.finish()?;
        let checks = runtime.block_on(doctor::examine(&runtimes, &cluster, strict.mode));
        let text = if json { serde_json::to_string_pretty(&checks)? } else { checks::table(&checks) };
        println!("{text}");
        Ok(checks)
    });
    match examined {
        Ok(checks) if checks::has_problem(&checks) => ExitCode::FAILURE,
        other => ended(other.map(|_| ())),
    }
}
