//! Writes topics as text, one JSON object per line, for the analysis of a failure. Called by [`super::rig`].

use anyhow::Context as _;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use driftline_kafka::{ClientSettings, ReaderEvent, Record, TopicReader};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, ExecEvent, Finding, decode};

/// Writes `STEM.jsonl` for each of these topics.
///
/// # Errors
/// When the cluster does not answer or a file cannot be written.
pub(super) async fn write(kafka: &ClientSettings, topics: &[Topic], directory: &Path) -> anyhow::Result<()> {
    for topic in topics {
        let mut file = BufWriter::new(File::create(directory.join(format!("{}.jsonl", topic.spec().stem)))?);
        let ranges = TopicReader::extent(kafka, &[*topic]).await?;
        let mut reader = TopicReader::ranges(kafka, &ranges)?;
        while let Some(ReaderEvent::Record(record)) = reader.next().await {
            serde_json::to_writer(&mut file, &line(&record))?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
    }
    Ok(())
}

/// Copies the log of a topic from every broker's disk: only there are the records of aborted transactions.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn keep_logs(topic: &str, disks: &[PathBuf], directory: &Path) -> anyhow::Result<()> {
    for disk in disks {
        let name = disk.file_name().context("a disk without a name")?;
        for entry in std::fs::read_dir(disk)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(&format!("{topic}-")) {
                continue;
            }
            let saved = directory.join("logs").join(name).join(entry.file_name());
            std::fs::create_dir_all(&saved)?;
            for file in std::fs::read_dir(entry.path())? {
                let file = file?;
                // Running brokers may delete segments meanwhile.
                let _ = std::fs::copy(file.path(), saved.join(file.file_name()));
            }
        }
    }
    Ok(())
}

fn line(record: &Record) -> Value {
    json!({
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": record.key.as_deref().map(String::from_utf8_lossy),
        "value": facts(record),
    })
}

/// The fields of a record that identify it.
fn facts(record: &Record) -> Value {
    let value = record.value.as_deref().unwrap_or_default();
    match record.topic {
        Topic::ExecEvents => match ExecEvent::decode(value) {
            Ok(ExecEvent::Exec(exec)) => json!({
                "event_id": exec.event_id.as_str(),
                "path": String::from_utf8_lossy(&exec.path),
                "time_ns": exec.time_ns,
            }),
            Ok(ExecEvent::Seen(_)) => json!("seen"),
            Ok(ExecEvent::Ended(_)) => json!("ended"),
            other => json!(format!("{other:?}")),
        },
        Topic::Findings => decode::<Finding>(value).map_or_else(unreadable, |finding| {
            json!({
                "finding_id": finding.finding_id.as_str(),
                "event_id": finding.event_id.as_str(),
                "revision": finding.revision,
                "event_time_ns": finding.event_time_ns,
                "unresolved": finding.unresolved,
            })
        }),
        Topic::Alerts => decode::<Alert>(value).map_or_else(unreadable, |alert| {
            json!({
                "alert_id": alert.alert_id.as_str(),
                "revision": alert.revision,
                "final": alert.r#final,
                "findings": alert.findings.iter().map(|finding| finding.finding_id.as_str()).collect::<Vec<_>>(),
            })
        }),
        _ => json!(String::from_utf8_lossy(value)),
    }
}

fn unreadable(error: impl std::fmt::Display) -> Value {
    json!(error.to_string())
}
