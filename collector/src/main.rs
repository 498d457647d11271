//! Reports every exec in every container of a node to Kafka.

use clap::{Parser, Subcommand};
use driftline_collector::collector;
use driftline_collector::proc::Proc;
use driftline_collector::self_test::{self, SelfTest};
use driftline_collector::settings::{self, CollectorSettings, node_name};
use driftline_collector::strict::Prepared;
use driftline_collector::{doctor, rights};
use driftline_engines::RuntimeSettings;
use driftline_engines::kubernetes::KubernetesSettings;
use driftline_service::checks;
use driftline_service::env::Settings;
use driftline_service::{shutdown, telemetry};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// Threads of the runtime: one for the collector's task, and one for the tasks around it. A node's 64 processors are not
/// the collector's.
const WORKERS: usize = 2;

/// Reports every exec in every container of this node to Kafka. Needs root (or `CAP_BPF`, `CAP_PERFMON`, `CAP_SYS_PTRACE`
/// and `CAP_DAC_READ_SEARCH`, and gives up whatever else it has) and a kernel with BTF. All settings come from the
/// environment.
#[derive(Parser)]
#[command(version, after_help = driftline_collector::settings::HELP)]
struct Arguments {
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
    #[command(name = self_test::HELPER, hide = true)]
    SelfTestHelper { proc: PathBuf },
    #[command(name = self_test::EXIT, hide = true)]
    SelfTestExit { ignored: Vec<String> },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        None => ended(collect()),
        Some(Command::SelfTest { json }) => ended(test(json)),
        Some(Command::Doctor { json }) => examine(json),
        Some(Command::SelfTestHelper { proc }) => ended(self_test::serve(&proc)),
        Some(Command::SelfTestExit { .. }) => ExitCode::SUCCESS,
    }
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    shutdown::exit_code("driftline-collector", result)
}

fn collect() -> anyhow::Result<()> {
    let mut settings = Settings::of_process();
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

fn test(json: bool) -> anyhow::Result<()> {
    let report = doctor::self_test(&Proc::at(&runtimes().proc))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("kernel {}\n{report}", report.kernel);
    }
    Ok(())
}

fn examine(json: bool) -> ExitCode {
    let examined = Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let runtimes = runtimes();
        let cluster = cluster(&runtimes);
        let strict = settings::strict(&mut Settings::of_process());
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

fn cluster(runtimes: &RuntimeSettings) -> KubernetesSettings {
    let mut settings = Settings::of_process();
    let node = node_name(&mut settings);
    KubernetesSettings::read(&node, &runtimes.annotations, |name| settings.optional(name))
}

fn runtimes() -> RuntimeSettings {
    let settings = Settings::of_process();
    RuntimeSettings::read(|name| settings.optional(name))
}
