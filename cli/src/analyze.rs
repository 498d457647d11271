//! `driftline analyze`: computes the alerts of a recording without Kafka, and compares them with another set of alerts.
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
use clap::Args;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftline_correlator_core::{SiemFormat, THRESHOLDS};
use driftline_schemas::text::terminal_json;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, Finding, Severity, decode};
use driftline_settings::document::option_help;
use driftline_settings::table;

use crate::options::{TrustOption, format_of, value_of, word_of};
use crate::output::out;
use crate::tail::Tailed;
pub(crate) use adapters::Settings;
use diff::Alerts;
use newest::{Newest, Revision};
use source::{Analysis, analyse};

/// First bytes of an Avro object container file.
const AVRO_MAGIC: &[u8] = b"Obj\x01";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// File made by `driftline record`, with exec-events and the image tables, or with findings
    pub(crate) recording: PathBuf,
    /// What to print; a SIEM format is printed as it would stand on its topic
    #[arg(long, default_value = "alerts", value_parser = format_of(OWN_FORMATS, Format::Siem))]
    format: Format,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Print every revision as it is emitted, not only the newest of each alert or finding
    #[arg(long)]
    all_revisions: bool,
    /// Compare the alerts with those of another recording, or with what `analyze --json` printed, perhaps of another
    /// version. Prints what was added, is gone or changed since; exit code 1 when anything did
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["format", "all_revisions"])]
    diff: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingsOptions,
}

/// The services' settings that decide what is emitted.
#[derive(Debug, Args)]
pub(crate) struct SettingsOptions {
    #[arg(long, value_name = "MS", help = option_help(&table::PARK_MS), value_parser = value_of(&table::PARK_MS))]
    park_ms: Option<Duration>,
    #[command(flatten)]
    trust: TrustOption,
    #[arg(long, value_name = "S", help = option_help(&table::SESSION_GAP_S), value_parser = value_of(&table::SESSION_GAP_S))]
    session_gap_s: Option<Duration>,
    #[arg(long, value_name = "S", help = option_help(&table::SESSION_CAP_S), value_parser = value_of(&table::SESSION_CAP_S))]
    session_cap_s: Option<Duration>,
    #[arg(long, value_name = "S", help = option_help(&table::SESSION_RETENTION_S), value_parser = value_of(&table::SESSION_RETENTION_S))]
    session_retention_s: Option<Duration>,
    #[arg(long, help = option_help(&table::ALERT_THRESHOLD), value_parser = word_of(&table::ALERT_THRESHOLD, &THRESHOLDS))]
    threshold: Option<Severity>,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Alerts,
    Siem(&'static SiemFormat),
    Findings,
}

const OWN_FORMATS: &[(&str, Format)] = &[("alerts", Format::Alerts), ("findings", Format::Findings)];

impl SettingsOptions {
    /// The settings, with the options of the command line in their place.
    pub(crate) fn read(&self, settings: &mut driftline_settings::Settings) -> Settings {
        let mut time = |typed: Option<Duration>, setting| typed.unwrap_or_else(|| settings.get(setting));
        let park = time(self.park_ms, &table::PARK_MS);
        let session_gap = time(self.session_gap_s, &table::SESSION_GAP_S);
        let session_cap = time(self.session_cap_s, &table::SESSION_CAP_S);
        let retention = time(self.session_retention_s, &table::SESSION_RETENTION_S);
        let threshold = self.threshold.or_else(|| settings.choice(&table::ALERT_THRESHOLD, &THRESHOLDS));
        Settings {
            park,
            trust: self.trust.read(settings),
            session_gap,
            session_cap,
            retention,
            threshold: threshold.unwrap_or(Severity::Low),
        }
    }
}

pub(crate) fn analyze(arguments: &Arguments, settings: &Settings) -> anyhow::Result<()> {
    match &arguments.diff {
        None => print(arguments, settings),
        Some(other) => compare(arguments, other, settings),
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

/// The form in which revisions are printed.
#[derive(Debug, Clone, Copy)]
struct Printer {
    format: Format,
    json: bool,
}

impl Printer {
    fn topic(self) -> Topic {
        match self.format {
            Format::Findings => Topic::Findings,
            Format::Alerts | Format::Siem(_) => Topic::Alerts,
        }
    }

    fn header(self) -> anyhow::Result<()> {
        match self.format {
            _ if self.json => Ok(()),
            Format::Alerts => Ok(out(Alert::header())?),
            Format::Findings => Ok(out(Finding::header())?),
            Format::Siem(_) => Ok(()),
        }
    }

    fn revision(self, revision: &Revision) -> anyhow::Result<()> {
        match self.format {
            Format::Alerts => self.record(&decode::<Alert>(&revision.value)?),
            Format::Findings => self.record(&decode::<Finding>(&revision.value)?),
            Format::Siem(format) => {
                let text = (format.encode)(&decode(&revision.value)?)?;
                Ok(out(terminal_json(&String::from_utf8_lossy(&text)))?)
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
