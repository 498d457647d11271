//! `driftline dead-letters`: shows records that could not be used, with their origin and the reason.

use serde_json::json;

use driftline_kafka::{ClientSettings, Record};
use driftline_schemas::text::{base64, printable};
use driftline_schemas::topics::Topic;

use crate::output::out;
use crate::{TailArguments, render, tail};

pub(crate) async fn tail(settings: &ClientSettings, arguments: &TailArguments) -> anyhow::Result<()> {
    tail::each(settings, Topic::DeadLetters, arguments, |record| {
        Ok(out(if arguments.json { as_json(record) } else { as_line(record) })?)
    })
    .await
}

fn header(record: &Record, name: &str) -> String {
    let value = record.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    printable(value.unwrap_or_default()).text
}

fn as_line(record: &Record) -> String {
    format!(
        "{}  {:<10} {}/{}@{}  {} bytes  {}",
        render::clock_ms(record.timestamp_ms),
        header(record, "driftline-service"),
        header(record, "driftline-topic"),
        header(record, "driftline-partition"),
        header(record, "driftline-offset"),
        record.value.as_deref().unwrap_or_default().len(),
        header(record, "driftline-reason"),
    )
}

fn as_json(record: &Record) -> String {
    let headers: serde_json::Map<_, _> =
        record.headers.iter().map(|(key, value)| (key.clone(), json!(printable(value).text))).collect();
    json!({
        "timestamp_ms": record.timestamp_ms,
        "headers": headers,
        "key": printable(record.key.as_deref().unwrap_or_default()).text,
        "value_base64": base64(record.value.as_deref().unwrap_or_default()),
    })
    .to_string()
}
