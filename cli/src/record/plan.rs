//! The plan of a recording: which offsets of which partitions, in which order. It is made once, at the beginning.

use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;

use driftline_kafka::{ClientSettings, OffsetRange, TimeRange, offset_ranges};
use driftline_schemas::recording::{Arguments as Requested, FORMAT, Info, Section, What};
use driftline_schemas::topics::{Cleanup, Topic};
use driftline_service::clock;

use super::Arguments;
use crate::times::rfc3339;

/// The range, resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    pre_roll_ms: i64,
}

/// The topics with these stems: tables first, each once.
pub(super) fn topics(stems: &[String]) -> anyhow::Result<Vec<Topic>> {
    let mut topics = stems
        .iter()
        .map(|stem| {
            Topic::from_stem(stem).with_context(|| format!("there is no topic {stem:?}; see `driftline topics list`"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    topics.sort_by_key(|topic| (is_stream(*topic), *topic));
    topics.dedup();
    Ok(topics)
}

pub(super) fn times(arguments: &Arguments, now_ms: i64) -> anyhow::Result<Times> {
    let at = |when: Option<&crate::times::When>| when.map(|when| when.at_ms(now_ms));
    let (since_ms, until_ms) = (at(arguments.since.as_ref()), at(arguments.until.as_ref()));
    let (since, until) = (since_ms.unwrap_or(i64::MIN), until_ms.unwrap_or(i64::MAX));
    ensure!(since < until, "nothing can be in the range: --since is not before --until");
    Ok(Times { since_ms, until_ms, pre_roll_ms: if since_ms.is_some() { arguments.pre_roll.ms } else { 0 } })
}

/// Looks the offsets up.
pub(super) async fn make(
    settings: &ClientSettings,
    topics: &[Topic],
    requested: Requested,
    times: &Times,
) -> anyhow::Result<Info> {
    let Times { since_ms, until_ms, pre_roll_ms } = *times;
    let mut sections = Vec::new();
    for topic in topics {
        let since_ms = since_ms.filter(|_| is_stream(*topic));
        let from_ms = since_ms.map(|since| since.saturating_sub(pre_roll_ms));
        let whole = offset_ranges(settings, *topic, TimeRange { from_ms, until_ms }).await?;
        let wanted = offset_ranges(settings, *topic, TimeRange { from_ms: since_ms, until_ms }).await?;
        sections.extend(whole.iter().zip(wanted).map(|(whole, wanted)| section(*whole, wanted.begin)));
    }
    Ok(Info {
        format: FORMAT,
        driftline: env!("CARGO_PKG_VERSION").to_owned(),
        recorded: rfc3339(clock::now_ns() / 1_000_000),
        arguments: requested,
        since_ms,
        until_ms,
        pre_roll_ms,
        sections,
    })
}

/// The end was looked up first and is fixed; records appended since are not part of the recording.
fn section(whole: OffsetRange, range: i64) -> Section {
    Section {
        topic: whole.topic.spec().stem.to_owned(),
        partition: whole.partition,
        what: if is_stream(whole.topic) { What::Every } else { What::NewestOfKey },
        begin: whole.begin,
        range: range.clamp(whole.begin, whole.end),
        end: whole.end,
    }
}

/// Whether no record of the range was recorded. Tables have records whatever the range is, so they count only when
/// nothing else is recorded.
pub(super) fn is_empty(counts: &BTreeMap<Topic, u64>) -> bool {
    let any_stream = counts.keys().any(|topic| is_stream(*topic));
    counts.iter().filter(|(topic, _)| is_stream(**topic) == any_stream).all(|(_, count)| *count == 0)
}

fn is_stream(topic: Topic) -> bool {
    topic.spec().cleanup == Cleanup::Delete
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_empty_when_its_streams_are() {
        let empty = |counts: &[(Topic, u64)]| is_empty(&counts.iter().copied().collect());
        assert!(empty(&[(Topic::Images, 3), (Topic::ImageLayers, 9), (Topic::ExecEvents, 0)]));
        assert!(!empty(&[(Topic::Images, 0), (Topic::ExecEvents, 1), (Topic::Findings, 0)]));
        assert!(!empty(&[(Topic::Images, 3), (Topic::ImageLayers, 0)]));
        assert!(empty(&[(Topic::Images, 0)]));
    }

    #[test]
    fn tables_come_first_and_each_topic_once() {
        let stems = ["exec-events", "image-layers", "exec-events", "images"].map(str::to_owned);
        assert_eq!(topics(&stems).unwrap(), [Topic::Images, Topic::ImageLayers, Topic::ExecEvents]);
        let error = topics(&["exec".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("there is no topic \"exec\""), "{error}");
    }

    #[test]
    fn the_pre_roll_counts_only_with_a_beginning_and_a_range_must_not_be_empty() {
        let typed = |since: Option<&str>, until: Option<&str>| Arguments {
            file: "f".into(),
            topics: vec![],
            since: since.map(|text| text.parse().unwrap()),
            until: until.map(|text| text.parse().unwrap()),
            pre_roll: "1h".parse().unwrap(),
            force: false,
            json: false,
        };
        let hour = 3_600_000;
        assert_eq!(
            times(&typed(Some("2h"), None), 5 * hour).unwrap(),
            Times { since_ms: Some(3 * hour), until_ms: None, pre_roll_ms: hour }
        );
        assert_eq!(times(&typed(None, Some("1h")), 5 * hour).unwrap().pre_roll_ms, 0);
        assert!(times(&typed(Some("1h"), Some("2h")), 5 * hour).is_err());
    }
}
