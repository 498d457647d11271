//! `driftline analyze`: what the services would say about a recording, without Kafka, and how that differs from what
//! something else says.
//!
//! [`pipeline`] drives the services' own cores; [`source`] feeds it from a file; [`diff`] compares alerts.

mod adapters;
mod diff;
mod images;
mod newest;
mod pipeline;
mod source;
mod summary;

#[cfg(test)]
mod tests;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftline_enricher_core::Trust;
use driftline_formats::ocsf;
use driftline_schemas::text::terminal_json;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, Finding, Severity, decode};

use crate::output::out;
use crate::tail::Tailed;
use crate::trust::trust_values;
use adapters::Settings;
use diff::Alerts;
use newest::{Newest, Revision};
use source::{Analysis, analyse};

/// How an Avro object container file begins.
const AVRO_MAGIC: &[u8] = b"Obj\x01";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// File made by `driftline record`, with exec-events and the image tables, or with findings
    pub(crate) recording: PathBuf,
    /// What to print; ocsf is printed as it would stand on its topic
    #[arg(long, value_enum, default_value_t = Format::Alerts)]
    format: Format,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Print every revision as it is said, not only the newest of each alert or finding
    #[arg(long)]
    all_revisions: bool,
    /// Compare the alerts with those of another recording, or with what `analyze --json` printed, perhaps of another
    /// version. Prints what was added, is gone or changed since; exit code 1 when anything did
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["format", "all_revisions"])]
    diff: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArguments,
}

/// The services' settings that decide what is said.
#[derive(Debug, Args)]
struct SettingsArguments {
    /// How long a container's events wait for metadata and image
    #[arg(long, env = "DRIFTLINE_PARK_MS", default_value_t = 5_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    park_ms: u64,
    /// Whose publications of images count
    #[arg(long, env = "DRIFTLINE_TRUST", default_value = "any-node", value_parser = trust_values())]
    trust: Trust,
    /// Quiet time that ends a session
    #[arg(long, env = "DRIFTLINE_SESSION_GAP_S", default_value_t = 600, value_name = "S")]
    session_gap_s: u64,
    /// Longest session
    #[arg(long, env = "DRIFTLINE_SESSION_CAP_S", default_value_t = 21_600, value_name = "S")]
    session_cap_s: u64,
    /// How long a final session still takes late findings
    #[arg(long, env = "DRIFTLINE_SESSION_RETENTION_S", default_value_t = 3_600, value_name = "S")]
    session_retention_s: u64,
    /// Lowest severity that makes an alert
    #[arg(long, env = "DRIFTLINE_ALERT_THRESHOLD", value_enum, default_value_t = Threshold::Low)]
    threshold: Threshold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Alerts,
    Ocsf,
    Findings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Threshold {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl SettingsArguments {
    fn settings(&self) -> Settings {
        Settings {
            park: Duration::from_millis(self.park_ms),
            trust: self.trust,
            session_gap: Duration::from_secs(self.session_gap_s),
            session_cap: Duration::from_secs(self.session_cap_s),
            retention: Duration::from_secs(self.session_retention_s),
            threshold: match self.threshold {
                Threshold::Informational => Severity::Informational,
                Threshold::Low => Severity::Low,
                Threshold::Medium => Severity::Medium,
                Threshold::High => Severity::High,
                Threshold::Critical => Severity::Critical,
            },
        }
    }
}

pub(crate) fn analyze(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = arguments.settings.settings();
    match &arguments.diff {
        None => print(arguments, &settings),
        Some(other) => compare(arguments, other, &settings),
    }
}

fn print(arguments: &Arguments, settings: &Settings) -> anyhow::Result<()> {
    let printer = Printer { format: arguments.format, json: arguments.json };
    printer.header()?;
    let mut newest = Newest::default();
    let analysis = analyse(&arguments.recording, settings, |topic, revision| {
        if topic != printer.topic() {
            return Ok(());
        }
        if arguments.all_revisions {
            printer.revision(&revision)?;
        }
        newest.take(revision);
        Ok(())
    })?;
    let all = newest.len();
    let in_range = newest.since(analysis.since_ns);
    if !arguments.all_revisions {
        in_range.iter().try_for_each(|revision| printer.revision(revision))?;
    }
    anstream::eprintln!("{}", summary::text(&analysis, in_range.len(), all - in_range.len()));
    Ok(())
}

/// How revisions look.
#[derive(Debug, Clone, Copy)]
struct Printer {
    format: Format,
    json: bool,
}

impl Printer {
    fn topic(self) -> Topic {
        if self.format == Format::Findings { Topic::Findings } else { Topic::Alerts }
    }

    fn header(self) -> anyhow::Result<()> {
        match self.format {
            _ if self.json => Ok(()),
            Format::Alerts => Ok(out(Alert::header())?),
            Format::Findings => Ok(out(Finding::header())?),
            Format::Ocsf => Ok(()),
        }
    }

    fn revision(self, revision: &Revision) -> anyhow::Result<()> {
        match self.format {
            Format::Alerts => self.record(&decode::<Alert>(&revision.value)?),
            Format::Findings => self.record(&decode::<Finding>(&revision.value)?),
            Format::Ocsf => {
                let json = ocsf::encode(&decode(&revision.value)?)?;
                Ok(out(terminal_json(&String::from_utf8_lossy(&json)))?)
            }
        }
    }

    fn record<R: Tailed>(self, record: &R) -> anyhow::Result<()> {
        Ok(if self.json { out(terminal_json(&serde_json::to_string(record)?)) } else { out(record.line()) }?)
    }
}

fn compare(arguments: &Arguments, other: &Path, settings: &Settings) -> anyhow::Result<()> {
    let after = alerts_of_recording(&arguments.recording, settings)?;
    let before = alerts_of(other, settings).with_context(|| format!("{}, to compare with", other.display()))?;
    for line in diff::versions(&before, &after) {
        anstream::eprintln!("made by other versions: {line}");
    }
    let differences = diff::compare(&before, &after);
    for difference in &differences {
        out(if arguments.json { terminal_json(&difference.as_json().to_string()) } else { difference.as_line() })?;
    }
    if differences.is_empty() {
        anstream::eprintln!("no difference: {} alerts are the same", after.len());
        return Ok(());
    }
    let (count, here, there) = (differences.len(), after.len(), before.len());
    bail!("{count} alerts differ, of {here} here and {there} in {}", other.display())
}

/// The alerts of a recording, or of a file of JSON lines.
fn alerts_of(path: &Path, settings: &Settings) -> anyhow::Result<Alerts> {
    let mut begin = Vec::new();
    let mut file = File::open(path).context("cannot open it")?;
    file.by_ref().take(AVRO_MAGIC.len() as u64).read_to_end(&mut begin)?;
    if begin == AVRO_MAGIC {
        return alerts_of_recording(path, settings);
    }
    Alerts::of_lines(BufReader::new(File::open(path)?))
}

fn alerts_of_recording(path: &Path, settings: &Settings) -> anyhow::Result<Alerts> {
    let (analysis, newest) = newest_alerts(path, settings)?;
    let all = newest.len();
    let in_range = newest.since(analysis.since_ns);
    anstream::eprintln!("{}\n{}", path.display(), summary::text(&analysis, in_range.len(), all - in_range.len()));
    let mut alerts = Alerts::default();
    for revision in in_range {
        alerts.take(serde_json::to_value(decode::<Alert>(&revision.value)?)?)?;
    }
    Ok(alerts)
}

fn newest_alerts(path: &Path, settings: &Settings) -> anyhow::Result<(Analysis, Newest)> {
    let mut newest = Newest::default();
    let analysis = analyse(path, settings, |topic, revision| {
        if topic == Topic::Alerts {
            newest.take(revision);
        }
        Ok(())
    })?;
    Ok((analysis, newest))
}
