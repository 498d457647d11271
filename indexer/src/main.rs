//! `driftline-indexer`: indexes the images of the node it runs on, or the images of registries.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use driftline_indexer::node::{self, NodeSettings};
use driftline_indexer::registry::{self, RegistrySettings};
use driftline_service::shutdown;
use driftline_service::telemetry::{self, Telemetry};
use driftline_settings::{Program, Settings, document, table};

/// How long an indexing thread may take to notice the stop.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Indexes images: of the node it runs on, what its containers use and what the enricher asks for; or, as a central service,
/// what the enricher asks for and a registry has.
///
/// Settings come from the environment and from a configuration file.
#[derive(Debug, Parser)]
#[command(name = "driftline-indexer", version, after_help = document::help(Program::Indexer))]
struct Arguments {
    /// Configuration file, TOML [env: DRIFTLINE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The source of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Node,
    Registry,
}

enum Chosen {
    Node(Box<NodeSettings>),
    Registry(Box<RegistrySettings>),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    shutdown::exit_code("driftline-indexer", start(arguments.config.as_deref()))
}

/// Reads the settings of the chosen mode; records problems in `settings`.
fn choose(settings: &mut Settings) -> (Chosen, SocketAddr) {
    let modes = [("node", Mode::Node), ("registry", Mode::Registry)];
    let chosen = match settings.choice(&table::INDEXER_MODE, &modes).unwrap_or(Mode::Node) {
        Mode::Node => Chosen::Node(Box::new(NodeSettings::read(settings))),
        Mode::Registry => Chosen::Registry(Box::new(RegistrySettings::read(settings))),
    };
    (chosen, settings.get(&table::TELEMETRY_ADDR))
}

fn start(config: Option<&Path>) -> anyhow::Result<()> {
    let mut settings = Settings::of_process(Program::Indexer, config);
    telemetry::start_logs(&mut settings);
    let (chosen, address) = choose(&mut settings);
    settings.finish()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(async {
        let stop = shutdown::signalled()?;
        let telemetry = Telemetry::new("indexer");
        let bound = telemetry.serve(address).await?;
        tracing::info!(%bound, "telemetry served");
        match chosen {
            Chosen::Node(settings) => node::run(*settings, &telemetry, stop).await,
            Chosen::Registry(settings) => registry::run(*settings, &telemetry, stop).await,
        }
    });
    // A blocked read must not keep the process from ending.
    runtime.shutdown_timeout(STOP_MAX);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_the_indexer_is_read_in_one_mode_or_the_other_and_no_other_is() {
        let mut names = Vec::new();
        for mode in ["node", "registry"] {
            let set = [
                ("KAFKA_BOOTSTRAP", "a:1"),
                ("DRIFTLINE_REGISTRY_ALLOW", "docker.io"),
                ("DRIFTLINE_INDEXER_MODE", mode),
            ];
            let mut settings = Settings::of_values(set);
            telemetry::start_logs(&mut settings);
            let _ = choose(&mut settings);
            settings.finish().unwrap();
            names.extend(settings.names_read());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, table::names_of(Program::Indexer));
    }
}
