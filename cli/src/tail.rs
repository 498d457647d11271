//! `driftline findings tail`, `driftline alerts tail|show`: reads a topic without a group and prints it.

use anyhow::{Context as _, bail};
use serde::Serialize;

use driftline_correlator_core::SiemFormat;
use driftline_kafka::{ClientSettings, ReadFrom, ReaderEvent, Record as KafkaRecord, TopicReader, admin};
use driftline_schemas::text::terminal_json;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, Finding, Record, decode};

use crate::TailArguments;
use crate::output::out;
use crate::render;

/// A record type with a topic of its own and a line for people.
pub(crate) trait Tailed: Record + Serialize {
    const TOPIC: Topic;
    fn header() -> String;
    fn line(&self) -> String;
}

impl Tailed for Finding {
    const TOPIC: Topic = Topic::Findings;
    fn header() -> String {
        render::finding_header()
    }
    fn line(&self) -> String {
        render::finding_line(self)
    }
}

impl Tailed for Alert {
    const TOPIC: Topic = Topic::Alerts;
    fn header() -> String {
        render::alert_header()
    }
    fn line(&self) -> String {
        render::alert_line(self)
    }
}

pub(crate) async fn records<R: Tailed>(settings: &ClientSettings, arguments: &TailArguments) -> anyhow::Result<()> {
    if !arguments.json {
        out(R::header())?;
    }
    each(settings, R::TOPIC, arguments, |record| {
        match decode::<R>(record.value.as_deref().unwrap_or_default()) {
            Ok(value) if arguments.json => out(terminal_json(&serde_json::to_string(&value)?))?,
            Ok(value) => out(value.line())?,
            Err(error) => anstream::eprintln!("{}", at(record, &error.to_string())),
        }
        Ok(())
    })
    .await
}

pub(crate) async fn siem(
    settings: &ClientSettings,
    format: &SiemFormat,
    arguments: &TailArguments,
) -> anyhow::Result<()> {
    each(settings, format.topic, arguments, |record| {
        let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        Ok(out(terminal_json(&text))?)
    })
    .await
}

pub(crate) async fn show_alert(settings: &ClientSettings, id: &str, json: bool) -> anyhow::Result<()> {
    let mut found: Option<Alert> = None;
    let everything = TailArguments { from_beginning: true, no_follow: true, json };
    each(settings, Topic::Alerts, &everything, |record| {
        let Ok(alert) = decode::<Alert>(record.value.as_deref().unwrap_or_default()) else { return Ok(()) };
        if !alert.alert_id.as_str().starts_with(id) {
            return Ok(());
        }
        if let Some(other) = found.as_ref().filter(|other| other.alert_id != alert.alert_id) {
            bail!("{id} could be {} or {}: give more characters", other.alert_id, alert.alert_id);
        }
        if found.as_ref().is_none_or(|older| older.revision <= alert.revision) {
            found = Some(alert);
        }
        Ok(())
    })
    .await?;
    let alert = found.with_context(|| {
        format!("no alert begins with {id}; `driftline alerts tail --from-beginning --no-follow` lists them")
    })?;
    if json {
        out(terminal_json(&serde_json::to_string_pretty(&alert)?))?;
    } else {
        out(render::alert(&alert))?;
    }
    Ok(())
}

/// Calls `take` for each record of a topic, until the end of the topic or an interrupt.
pub(crate) async fn each(
    settings: &ClientSettings,
    topic: Topic,
    arguments: &TailArguments,
    mut take: impl FnMut(&KafkaRecord) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    admin::check(settings, &[topic]).await?;
    let from = if arguments.from_beginning { ReadFrom::Beginning } else { ReadFrom::End };
    let mut reader = TopicReader::start(settings, &[topic], from).await?;
    let mut stop = std::pin::pin!(driftline_service::shutdown::signalled()?);
    loop {
        let event = tokio::select! {
            event = reader.next() => event,
            _ = &mut stop => return Ok(()),
        };
        match event {
            Some(ReaderEvent::Record(record)) => take(&record)?,
            Some(ReaderEvent::CaughtUp) if arguments.no_follow => return Ok(()),
            Some(ReaderEvent::CaughtUp) => {}
            Some(ReaderEvent::Failed(error)) => return Err(error.into()),
            None => return Ok(()),
        }
    }
}

pub(crate) fn at(record: &KafkaRecord, what: &str) -> String {
    format!("{} partition {} offset {}: {what}", record.topic.spec().stem, record.partition, record.offset)
}
