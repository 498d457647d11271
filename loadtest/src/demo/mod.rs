//! The demo: a fresh image with new names and bytes, a container, programs that must not lead to findings, programs
//! that must, and the comparison of the results with the executed steps.

mod engine;
mod image;
mod report;
mod scenario;

use anyhow::{Context as _, bail};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use driftline_kafka::ClientSettings;

use crate::collect::{Collected, Collector};
use crate::expected::Expected;

/// How long the last alert revision may take; far above the expected second.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long building the image and running the programs may take.
const WORKLOAD_MAX: Duration = Duration::from_secs(300);
/// How long to look for records that must not appear, after every expected one has arrived.
const SILENCE: Duration = Duration::from_secs(1);

/// Runs the workload in a container of this machine, of the named engine or the first that works, and waits for the
/// alerts.
///
/// # Errors
/// When the workload cannot be run, or when the results differ from the executed steps.
pub async fn live(kafka: &ClientSettings, engine: &str, out: &Path) -> anyhow::Result<()> {
    let mut collector = Collector::start(kafka).await?;
    let engine = engine.to_owned();
    let running = tokio::task::spawn_blocking(move || scenario::run(&engine));
    // Topics are read meanwhile: an alert's latency ends when the alert is readable, not when the workload ends.
    let expected = tokio::select! {
        expected = running => expected??,
        read = collector.for_a_while(WORKLOAD_MAX) => {
            read?;
            bail!("the workload took longer than {} s", WORKLOAD_MAX.as_secs());
        }
    };
    finish(&mut collector, &expected, out, report::Timing::Live).await
}

/// Waits for the alerts of a recording that is being replayed.
///
/// # Errors
/// As [`live`].
pub async fn replayed(kafka: &ClientSettings, expected: &Path, out: &Path) -> anyhow::Result<()> {
    let text = fs::read(expected).with_context(|| format!("cannot read {}", expected.display()))?;
    let expected: Expected = serde_json::from_slice(&text)?;
    let mut collector = Collector::start(kafka).await?;
    finish(&mut collector, &expected, out, report::Timing::Replayed).await
}

async fn finish(
    collector: &mut Collector,
    expected: &Expected,
    out: &Path,
    timing: report::Timing,
) -> anyhow::Result<()> {
    report::step("waiting for findings and alerts");
    let complete = collector.until(PATIENCE, |collected| expected.is_complete(collected)).await?;
    if complete {
        collector.for_a_while(SILENCE).await?;
    }
    let others = collector.collected.keep_only(&expected.container);
    if others > 0 {
        report::step(&format!("{others} records about other containers of this node are left out"));
    }
    write_out(out, expected, &collector.collected)?;
    report::findings(&collector.collected, timing);
    let differences = expected.differences(&collector.collected);
    report::verdict(expected, &differences, out);
    if !differences.is_empty() {
        bail!("findings or alerts are not what was expected");
    }
    Ok(())
}

fn write_out(out: &Path, expected: &Expected, collected: &Collected) -> anyhow::Result<()> {
    fs::create_dir_all(out)?;
    let alerts: Vec<_> = collected.alerts.iter().map(|(alert, _)| alert).collect();
    lines(&out.join("findings.jsonl"), collected.findings.iter().map(serde_json::to_string))?;
    lines(&out.join("alerts.jsonl"), alerts.iter().map(serde_json::to_string))?;
    lines(&out.join("alerts.ocsf.jsonl"), collected.ocsf.iter().cloned().map(Ok))?;
    fs::write(out.join("expected.json"), serde_json::to_string_pretty(expected)? + "\n")?;
    let newest = collected.newest_alerts();
    fs::write(out.join("alert-id"), newest.first().map_or("", |alert| alert.alert_id.as_str()))?;
    Ok(())
}

fn lines(path: &Path, texts: impl Iterator<Item = serde_json::Result<String>>) -> anyhow::Result<()> {
    let mut file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    for text in texts {
        writeln!(file, "{}", text?)?;
    }
    Ok(())
}
