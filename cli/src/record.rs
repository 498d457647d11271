//! `driftline record`: writes a range of topics to one file, bytes verbatim. The range ends at the ends of the topics
//! when the recording began.
//!
//! [`plan`] decides the offsets, [`partial`] holds the incomplete file, [`copy`] reads and writes.

mod copy;
mod partial;
mod plan;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftline_kafka::{ClientSettings, admin};
use driftline_schemas::recording;
use driftline_service::{clock, shutdown};

use crate::output::out;
use crate::progress::bytes;
use crate::times::{Span, When};
use copy::{Copied, Copier};
use partial::Partial;

/// How long Kafka may take to answer at the start.
const KAFKA_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// File to write, an Avro object container; `FILE.partial` until it is whole. After an interruption the same command
    /// goes on where it was
    pub(crate) file: PathBuf,
    /// Topics to record, by the middle part of their names. Of tables (images, image-layers) the newest record of each key
    #[arg(long, value_delimiter = ',', default_value = "exec-events,images,image-layers")]
    topics: Vec<String>,
    /// Begin with records of this time: RFC 3339, or counted back from now like 2h, 90m, 1d12h [default: the oldest]
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Leave out records of this time and later; tables are recorded as they were then [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// Also record this much before --since, so that containers and sessions of the range are not cut open
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pre_roll: Span,
    /// Replace FILE if it is there, and write a recording without records too
    #[arg(long)]
    force: bool,
    /// Print what was recorded as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn record(settings: &ClientSettings, arguments: &Arguments) -> anyhow::Result<()> {
    let stop = shutdown::signalled().context("cannot handle signals")?;
    let topics = plan::topics(&arguments.topics)?;
    let file = &arguments.file;
    let existing = if arguments.force { Existing::Replaced } else { Existing::Retained };
    may_be_written(file, existing)?;
    admin::wait(settings, KAFKA_WAIT).await?;
    admin::check(settings, &topics).await?;
    let requested = recording::Arguments {
        cluster: admin::cluster_id(settings).await?,
        prefix: settings.prefix.clone(),
        topics: topics.iter().map(|topic| topic.spec().stem.to_owned()).collect(),
        since: arguments.since.as_ref().map_or_else(String::new, |when| when.text.clone()),
        until: arguments.until.as_ref().map_or_else(String::new, |when| when.text.clone()),
        // Without a beginning there is no pre-roll.
        pre_roll: arguments.since.as_ref().map_or_else(String::new, |_| arguments.pre_roll.text.clone()),
    };
    let path = partial_path(&arguments.file);
    let partial = match Partial::resume(&path, &requested)? {
        Some(partial) => partial,
        None => {
            let times = plan::times(arguments, clock::now_ns() / 1_000_000)?;
            Partial::begin(&path, plan::make(settings, &topics, requested, &times).await?)?
        }
    };
    let resumed_bytes = partial.retained.as_ref().map_or(0, |scan| scan.end);
    let info = partial.info.clone();
    let copied = tokio::select! {
        copied = Copier::new(settings, partial).run() => copied,
        signal = stop => bail!("stopped by {signal}; {} holds what was read, run the same command again to go on", path.display()),
    };
    let copied = copied
        .with_context(|| format!("{} holds what was read, run the same command again to go on", path.display()))?;
    if plan::is_empty(&copied.counts) && !arguments.force {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        bail!("the range has no records, so {} is not written; --force writes it without any", file.display());
    }
    let size_bytes = partial::publish(&copied.file, &path, file, existing)?;
    print_summary(arguments, &info, &copied, size_bytes, resumed_bytes)
}

/// Handling of an existing file: a finished recording may be the only copy of records that Kafka has deleted since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Retained,
    Replaced,
}

/// Fails at once if the file would be refused in the end.
fn may_be_written(file: &Path, existing: Existing) -> anyhow::Result<()> {
    ensure!(!file.exists() || file.is_file(), "{} is no file, and would be replaced by one", file.display());
    let is_free = existing == Existing::Replaced || !file.exists();
    ensure!(is_free, "{}", is_there(file));
    Ok(())
}

fn is_there(file: &Path) -> String {
    format!("{} is there already; name another file, or --force replaces it", file.display())
}

fn print_summary(
    arguments: &Arguments,
    info: &recording::Info,
    copied: &Copied,
    size_bytes: u64,
    resumed_bytes: u64,
) -> anyhow::Result<()> {
    let records: u64 = copied.counts.values().sum();
    let seconds = copied.elapsed.as_secs_f64();
    let file = arguments.file.display();
    if arguments.json {
        let topics: BTreeMap<&str, u64> =
            copied.counts.iter().map(|(topic, count)| (topic.spec().stem, *count)).collect();
        let summary = json!({
            "file": file.to_string(), "bytes": size_bytes, "records": records, "topics": topics,
            "since_ms": info.since_ms, "until_ms": info.until_ms, "pre_roll_ms": info.pre_roll_ms,
            "seconds": seconds, "resumed_at_bytes": resumed_bytes, "gone_before_read": copied.gone,
        });
        return Ok(out(summary)?);
    }
    let counts: Vec<String> =
        copied.counts.iter().map(|(topic, count)| format!("{} {count}", topic.spec().stem)).collect();
    let resumed = if resumed_bytes == 0 { String::new() } else { format!(", resumed at {}", bytes(resumed_bytes)) };
    Ok(out(format!(
        "{records} records in {file}: {}; {}, {seconds:.1} s{resumed}",
        counts.join(", "),
        bytes(size_bytes)
    ))?)
}

/// Name of the file while it is incomplete.
fn partial_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_replaced_only_by_force() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.avro");
        may_be_written(&file, Existing::Retained).unwrap();
        fs::write(&file, "a recording").unwrap();
        let error = may_be_written(&file, Existing::Retained).unwrap_err().to_string();
        assert!(error.contains("is there already") && error.contains("--force"), "{error}");
        may_be_written(&file, Existing::Replaced).unwrap();
        assert!(may_be_written(directory.path(), Existing::Replaced).is_err(), "a directory");
    }
}
