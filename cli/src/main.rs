//! `driftline`: inspects and prepares the topics.
//!
//! This file has the commands and their options; each group of commands has a module of its own.

mod analyze;
mod dead_letters;
mod doctor;
mod images;
mod options;
mod output;
mod progress;
mod record;
mod render;
mod replay;
mod tail;
mod times;
mod topics;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

use driftline_correlator_core::SiemFormat;
use driftline_kafka::ClientSettings;
use driftline_schemas::{Alert, Finding};
use driftline_settings::{Program, Settings, SettingsError, document};

use options::{KafkaOptions, ReplicationOption, format_of};

/// Tells a security team, within seconds, that a container ran a program its image does not contain.
#[derive(Debug, Parser)]
#[command(name = "driftline", version, propagate_version = true, after_long_help = document::help(Program::CommandLine))]
struct Cli {
    /// Configuration file, TOML [env: DRIFTLINE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    kafka: KafkaOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, check and list driftline's topics
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Read findings
    #[command(subcommand)]
    Findings(FindingsCommand),
    /// Read alerts
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Publish what images contain, and show and check what is published
    #[command(subcommand)]
    Images(ImagesCommand),
    /// Read records that could not be used, with the reason
    DeadLetters(TailArguments),
    /// Say what Kafka and this node allow, each with a remedy; exits 1 when there is a problem
    Doctor(doctor::Arguments),
    /// Keep a time of the topics in a file, bytes verbatim
    Record(record::Arguments),
    /// Produce the records of a recording again, into topics of their own unless --prefix says which
    Replay(replay::Arguments),
    /// Say what the services would say about a recording, without Kafka, and how that differs from something else
    Analyze(analyze::Arguments),
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    /// Create what is missing and check the rest; twice is harmless
    Create {
        #[command(flatten)]
        replication: ReplicationOption,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the topics with what they carry
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Wait until Kafka answers
    Wait {
        /// Give up after this long
        #[arg(long, default_value_t = 30)]
        timeout_s: u64,
    },
}

#[derive(Debug, Subcommand)]
enum FindingsCommand {
    /// Print findings as they come
    Tail(TailArguments),
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// Print alert revisions as they come
    Tail {
        #[command(flatten)]
        tail: TailArguments,
        /// Which of the alert topics to read; a SIEM format is printed as it stands
        #[arg(long, default_value = "avro", value_parser = format_of(&[("avro", AlertFormat::Avro)], AlertFormat::Siem))]
        format: AlertFormat,
    },
    /// Show the newest revision of one alert: what happened, why it matters, what to do
    Show {
        /// Alert id, or its first characters
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ImagesCommand {
    /// Publish an image's content, so that it is known before it runs: for CI systems
    Add(images::Add),
    /// List the images that are published
    List {
        /// Only those that nobody could read
        #[arg(long)]
        failed: bool,
        #[command(flatten)]
        viewpoint: images::ViewpointOptions,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Show everything that is published of one image, or what it has at a path or with a content
    Show(images::Show),
    /// Delete what is published of an image, and its layers that no other image has; asks first. Where it still runs, its
    /// node publishes it again at the next use
    Remove(images::Remove),
    /// Index an image anew and compare: exits 1 when it is not as published, 2 when it cannot be compared
    Verify {
        /// Image id, its first characters, or a reference
        image: String,
        /// An OCI layout directory, an archive, or docker://REFERENCE
        #[arg(long, value_name = "SOURCE")]
        against: String,
    },
}

#[derive(Debug, Clone, Copy)]
enum AlertFormat {
    Avro,
    Siem(&'static SiemFormat),
}

#[derive(Debug, Args)]
struct TailArguments {
    /// Begin with the oldest record instead of the next one
    #[arg(long)]
    from_beginning: bool,
    /// Stop at the end instead of waiting for more
    #[arg(long)]
    no_follow: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = run(Cli::parse()).await;
    let ended = ended.or_else(|error| if output::is_closed_pipe(&error) { Ok(()) } else { Err(error) });
    let unverifiable = ended.as_ref().is_err_and(anyhow::Error::is::<images::Unverifiable>);
    let code = driftline_service::shutdown::exit_code("driftline", ended);
    if unverifiable { ExitCode::from(2) } else { code }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let mut settings = Settings::of_process(Program::CommandLine, cli.config.as_deref());
    for warning in settings.warnings() {
        anstream::eprintln!("driftline: {warning}");
    }
    match cli.command {
        Command::Topics(command) => run_topics(command, &cli.kafka, settings).await,
        Command::Findings(FindingsCommand::Tail(arguments)) => {
            tail::records::<Finding>(&kafka(&cli.kafka, settings)?, &arguments).await
        }
        Command::Alerts(command) => run_alerts(command, &kafka(&cli.kafka, settings)?).await,
        Command::Images(command) => run_images(command, &cli.kafka, settings).await,
        Command::DeadLetters(arguments) => dead_letters::tail(&kafka(&cli.kafka, settings)?, &arguments).await,
        Command::Doctor(arguments) => {
            doctor::examine(&kafka(&cli.kafka, settings)?, cli.config.as_deref(), &arguments).await
        }
        Command::Record(arguments) => record::record(&kafka(&cli.kafka, settings)?, &arguments)
            .await
            .with_context(|| format!("recording {}", arguments.file.display())),
        Command::Replay(arguments) => {
            let replication = arguments.replication.read(&mut settings);
            let kafka = kafka(&cli.kafka, settings)?;
            replay::replay(kafka, cli.kafka.prefix, replication, &arguments)
                .await
                .with_context(|| format!("replaying {}", arguments.file.display()))
        }
        Command::Analyze(arguments) => {
            let chosen = arguments.settings.read(&mut settings);
            settings.finish()?;
            analyze::analyze(&arguments, &chosen)
                .with_context(|| format!("analysing {}", arguments.recording.display()))
        }
    }
}

/// Reads the last settings of a command, and reports the problems of all settings.
fn kafka(options: &KafkaOptions, mut settings: Settings) -> Result<ClientSettings, SettingsError> {
    let kafka = options.read(&mut settings);
    settings.finish()?;
    Ok(kafka)
}

async fn run_topics(command: TopicsCommand, options: &KafkaOptions, mut settings: Settings) -> anyhow::Result<()> {
    match command {
        TopicsCommand::Create { replication, json } => {
            let replication = replication.read(&mut settings);
            topics::create(&kafka(options, settings)?, replication, json).await
        }
        TopicsCommand::List { json } => topics::list(&kafka(options, settings)?, json).await,
        TopicsCommand::Wait { timeout_s } => topics::wait(&kafka(options, settings)?, timeout_s).await,
    }
}

async fn run_alerts(command: AlertsCommand, kafka: &ClientSettings) -> anyhow::Result<()> {
    match command {
        AlertsCommand::Tail { tail, format: AlertFormat::Avro } => tail::records::<Alert>(kafka, &tail).await,
        AlertsCommand::Tail { tail, format: AlertFormat::Siem(format) } => tail::siem(kafka, format, &tail).await,
        AlertsCommand::Show { id, json } => tail::show_alert(kafka, &id, json).await,
    }
}

async fn run_images(command: ImagesCommand, options: &KafkaOptions, mut settings: Settings) -> anyhow::Result<()> {
    match command {
        ImagesCommand::Add(arguments) => {
            let registry = settings.clone();
            images::add(&kafka(options, settings)?, registry, &arguments).await
        }
        ImagesCommand::List { failed, viewpoint, json } => {
            let which = if failed { images::Which::Failed } else { images::Which::All };
            let viewpoint = viewpoint.read(&mut settings);
            images::list(&kafka(options, settings)?, &viewpoint, which, json).await
        }
        ImagesCommand::Show(arguments) => {
            let viewpoint = arguments.viewpoint.read(&mut settings);
            images::show(&kafka(options, settings)?, &viewpoint, &arguments).await
        }
        ImagesCommand::Remove(arguments) => images::remove(&kafka(options, settings)?, &arguments).await,
        ImagesCommand::Verify { image, against } => {
            let registry = settings.clone();
            images::verify(&kafka(options, settings)?, registry, &image, &against).await
        }
    }
}
