//! `driftline`: looks at and prepares what stands on the topics.
//!
//! This file has the commands and their options; each group of commands has a module of its own.

mod analyze;
mod dead_letters;
mod doctor;
mod images;
mod output;
mod progress;
mod record;
mod render;
mod replay;
mod tail;
mod times;
mod topics;
mod trust;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use std::process::ExitCode;

use driftline_kafka::ClientSettings;
use driftline_schemas::{Alert, Finding};

/// Tells a security team, within seconds, that a container ran a program its image does not contain.
#[derive(Debug, Parser)]
#[command(name = "driftline", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    kafka: KafkaArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct KafkaArguments {
    /// Kafka brokers, host:port[,host:port]
    #[arg(long, global = true, env = "KAFKA_BOOTSTRAP", default_value = "127.0.0.1:9092", value_name = "BROKERS")]
    bootstrap: String,
    /// First part of every topic's name
    #[arg(long, global = true, env = "DRIFTLINE_TOPIC_PREFIX", default_value = "driftline")]
    prefix: String,
    /// Partitions of the topics that are shared out by container
    #[arg(long, global = true, env = "DRIFTLINE_PARTITIONS", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
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
        /// Copies of each record
        #[arg(long, env = "DRIFTLINE_REPLICATION", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=9))]
        replication: i32,
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
        /// Which of the alert topics to read; ocsf is printed as it stands
        #[arg(long, value_enum, default_value_t = AlertFormat::Avro)]
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
        viewpoint: images::Viewpoint,
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AlertFormat {
    Avro,
    Ocsf,
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
    let matches = Cli::command().get_matches();
    let typed_prefix = matches.value_source("prefix") == Some(ValueSource::CommandLine);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let named_prefix = typed_prefix.then(|| cli.kafka.prefix.clone());
    let ended = run(cli, named_prefix).await;
    let ended = ended.or_else(|error| if output::is_closed_pipe(&error) { Ok(()) } else { Err(error) });
    let unverifiable = ended.as_ref().is_err_and(anyhow::Error::is::<images::Unverifiable>);
    let code = driftline_service::shutdown::exit_code("driftline", ended);
    if unverifiable { ExitCode::from(2) } else { code }
}

/// `named_prefix` is the prefix when it was typed, not taken from the environment.
async fn run(cli: Cli, named_prefix: Option<String>) -> anyhow::Result<()> {
    let settings = ClientSettings {
        bootstrap: cli.kafka.bootstrap,
        prefix: cli.kafka.prefix,
        partitions: cli.kafka.partitions,
        client_id: "driftline-cli".to_owned(),
    };
    match cli.command {
        Command::Topics(TopicsCommand::Create { replication, json }) => {
            topics::create(&settings, replication, json).await
        }
        Command::Topics(TopicsCommand::List { json }) => topics::list(&settings, json).await,
        Command::Topics(TopicsCommand::Wait { timeout_s }) => topics::wait(&settings, timeout_s).await,
        Command::Findings(FindingsCommand::Tail(arguments)) => tail::records::<Finding>(&settings, &arguments).await,
        Command::Alerts(AlertsCommand::Tail { tail, format: AlertFormat::Avro }) => {
            tail::records::<Alert>(&settings, &tail).await
        }
        Command::Alerts(AlertsCommand::Tail { tail, format: AlertFormat::Ocsf }) => tail::ocsf(&settings, &tail).await,
        Command::Alerts(AlertsCommand::Show { id, json }) => tail::show_alert(&settings, &id, json).await,
        Command::Images(ImagesCommand::Add(arguments)) => images::add(&settings, &arguments).await,
        Command::Images(ImagesCommand::List { failed, viewpoint, json }) => {
            let which = if failed { images::Which::Failed } else { images::Which::All };
            images::list(&settings, &viewpoint, which, json).await
        }
        Command::Images(ImagesCommand::Show(arguments)) => images::show(&settings, &arguments).await,
        Command::Images(ImagesCommand::Remove(arguments)) => images::remove(&settings, &arguments).await,
        Command::Images(ImagesCommand::Verify { image, against }) => images::verify(&settings, &image, &against).await,
        Command::DeadLetters(arguments) => dead_letters::tail(&settings, &arguments).await,
        Command::Doctor(arguments) => doctor::examine(&settings, &arguments).await,
        Command::Record(arguments) => record::record(&settings, &arguments)
            .await
            .with_context(|| format!("recording {}", arguments.file.display())),
        Command::Replay(arguments) => replay::replay(settings, named_prefix, &arguments)
            .await
            .with_context(|| format!("replaying {}", arguments.file.display())),
        Command::Analyze(arguments) => {
            analyze::analyze(&arguments).with_context(|| format!("analysing {}", arguments.recording.display()))
        }
    }
}
