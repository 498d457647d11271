//! `driftline topics`: creates and lists the topics of the topic table.

use comfy_table::{Table, presets};
use serde::Serialize;
use std::time::Duration;

use driftline_kafka::{ClientSettings, admin};
use driftline_schemas::topics::{Cleanup, Topic};

use crate::output::out;

#[derive(Debug, Serialize)]
struct TopicRow {
    name: String,
    partitions: i32,
    state: &'static str,
    cleanup: &'static str,
    key: &'static str,
    value: &'static str,
}

pub(crate) async fn create(settings: &ClientSettings, replication: i32, json: bool) -> anyhow::Result<()> {
    let states = admin::create(settings, replication).await?;
    let rows = states.into_iter().map(|state| {
        let spec = state.topic.spec();
        TopicRow {
            name: state.name,
            partitions: state.partitions,
            state: if state.created { "created" } else { "there" },
            cleanup: cleanup(spec.cleanup),
            key: spec.key,
            value: spec.value,
        }
    });
    print(rows.collect(), json)
}

pub(crate) async fn list(settings: &ClientSettings, json: bool) -> anyhow::Result<()> {
    let existing = admin::list(settings).await?;
    let rows = Topic::ALL.iter().map(|topic| {
        let (name, spec) = (settings.topic(*topic), topic.spec());
        let found = existing.iter().find(|found| found.name == name);
        let wanted = settings.partition_count(*topic);
        TopicRow {
            partitions: found.map_or(0, |topic| topic.partitions),
            state: match found {
                None => "missing",
                Some(topic) if topic.partitions != wanted => "wrong count",
                Some(topic) if topic.leaderless > 0 => "no leader",
                Some(_) => "there",
            },
            name,
            cleanup: cleanup(spec.cleanup),
            key: spec.key,
            value: spec.value,
        }
    });
    print(rows.collect(), json)
}

pub(crate) async fn wait(settings: &ClientSettings, timeout_s: u64) -> anyhow::Result<()> {
    Ok(admin::wait(settings, Duration::from_secs(timeout_s)).await?)
}

fn cleanup(cleanup: Cleanup) -> &'static str {
    match cleanup {
        Cleanup::Delete => "delete",
        Cleanup::Compact => "compact",
        Cleanup::State => "compact, state",
    }
}

fn print(rows: Vec<TopicRow>, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(out(serde_json::to_string_pretty(&rows)?)?);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["TOPIC", "PARTITIONS", "STATE", "CLEANUP", "KEY", "VALUE"]);
    for row in rows {
        let partitions = row.partitions.to_string();
        table.add_row([row.name.as_str(), &partitions, row.state, row.cleanup, row.key, row.value]);
    }
    Ok(out(table.trim_fmt())?)
}
