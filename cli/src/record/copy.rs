//! Reads the planned offsets, one partition after another, and appends them to the file.

use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use driftline_kafka::{ClientSettings, OffsetRange, ReaderEvent, Record, TopicReader, low_watermark};
use driftline_schemas::recording::{Header, Recorded, RecordingWriter, Scan, Section, What};
use driftline_schemas::topics::Topic;

use super::partial::Partial;
use crate::progress::Progress;

/// The result of a copy.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) file: File,
    pub(super) counts: BTreeMap<Topic, u64>,
    /// Offsets that retention deleted before they could be read.
    pub(super) gone: i64,
    pub(super) elapsed: Duration,
}

pub(super) struct Copier<'a> {
    settings: &'a ClientSettings,
    writer: RecordingWriter<File>,
    /// All sections, with the offset from which each is missing.
    sections: Vec<(Section, i64)>,
    counts: BTreeMap<Topic, u64>,
    gone: i64,
    progress: Progress,
    /// Offsets that are done; tables count twice because they are read twice.
    done: u64,
}

/// How the records of a range are used.
enum Use<'a> {
    /// Append all records.
    Every,
    /// Append the records at these offsets, the newest of each key.
    Newest(&'a BTreeMap<Vec<u8>, i64>),
}

impl<'a> Copier<'a> {
    pub(super) fn new(settings: &'a ClientSettings, partial: Partial) -> Self {
        let Partial { info, writer, retained } = partial;
        let total = info.sections.iter().map(|section| passes(section) * length(section.begin, section.end)).sum();
        let counts =
            info.sections.iter().filter_map(|section| Topic::from_stem(&section.topic)).map(|topic| (topic, 0));
        let mut counts: BTreeMap<Topic, u64> = counts.collect();
        counts.extend(retained.iter().flat_map(Scan::by_topic));
        Self {
            settings,
            writer,
            sections: what_is_missing(info.sections, retained.as_ref()),
            counts,
            gone: 0,
            progress: Progress::new("recording", "offsets", total),
            done: 0,
        }
    }

    pub(super) async fn run(mut self) -> anyhow::Result<Copied> {
        for (section, from) in std::mem::take(&mut self.sections) {
            let done = self.done + passes(&section) * length(section.begin, section.end);
            if from < section.end {
                self.section(&section, from).await.with_context(|| at(&section))?;
            }
            self.writer.end_section().context("cannot write")?;
            self.done = done;
        }
        let elapsed = self.progress.elapsed();
        let file = self.writer.finish().context("cannot write")?;
        Ok(Copied { file, counts: self.counts, gone: self.gone, elapsed })
    }

    async fn section(&mut self, section: &Section, from: i64) -> anyhow::Result<()> {
        let Some(topic) = Topic::from_stem(&section.topic) else { return Ok(()) };
        let range = OffsetRange { topic, partition: section.partition, begin: from, end: section.end };
        if section.what == What::Every {
            self.note_gone(&range).await?;
            return self.range(range, Use::Every).await;
        }
        let newest = self.newest(OffsetRange { begin: section.begin, ..range }).await?;
        self.range(range, Use::Newest(&newest)).await
    }

    /// Retention continues during a recording. Missing offsets are reported; existing records are recorded.
    async fn note_gone(&mut self, range: &OffsetRange) -> anyhow::Result<()> {
        let low = low_watermark(self.settings, range.topic, range.partition).await?.min(range.end);
        if low > range.begin {
            let (stem, partition) = (range.topic.spec().stem, range.partition);
            anstream::eprintln!(
                "warning: {stem} partition {partition}: offsets {} to {} were deleted by retention before they could be read",
                range.begin,
                low - 1
            );
            self.gone += low - range.begin;
        }
        Ok(())
    }

    /// The newest offset of each key; values are read and dropped.
    async fn newest(&mut self, range: OffsetRange) -> anyhow::Result<BTreeMap<Vec<u8>, i64>> {
        let mut newest = BTreeMap::new();
        let before = self.done;
        let mut reader = TopicReader::ranges(self.settings, &[range])?;
        while let Some(record) = next(&mut reader).await? {
            self.progress.at(before + length(range.begin, record.offset));
            newest.insert(record.key.unwrap_or_default(), record.offset);
        }
        self.done = before + length(range.begin, range.end);
        Ok(newest)
    }

    async fn range(&mut self, range: OffsetRange, which: Use<'_>) -> anyhow::Result<()> {
        let mut reader = TopicReader::ranges(self.settings, &[range])?;
        while let Some(record) = next(&mut reader).await? {
            self.progress.at(self.done + length(range.begin, record.offset));
            let wanted = match which {
                Use::Every => true,
                Use::Newest(newest) => newest.get(record.key.as_deref().unwrap_or_default()) == Some(&record.offset),
            };
            if wanted {
                self.writer.append(&recorded(record)).context("cannot write")?;
                *self.counts.entry(range.topic).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// The sections, each with the offset from which it is missing. A partial file ends in the section of its last record.
fn what_is_missing(sections: Vec<Section>, retained: Option<&Scan>) -> Vec<(Section, i64)> {
    let last = retained.and_then(|scan| scan.lanes.last()).map(|lane| (lane.topic, lane.partition, lane.last_offset));
    let position = last.and_then(|(topic, partition, offset)| {
        let is_last = |section: &Section| section.topic == topic.spec().stem && section.partition == partition;
        sections.iter().position(is_last).map(|position| (position, offset + 1))
    });
    let from = |index: usize, section: &Section| match position {
        Some((last, _)) if index < last => section.end,
        Some((last, from)) if index == last => from,
        _ => section.begin,
    };
    sections
        .into_iter()
        .enumerate()
        .map(|(index, section)| {
            let from = from(index, &section);
            (section, from)
        })
        .collect()
}

/// The next record; `None` when all of the range was handed over.
async fn next(reader: &mut TopicReader) -> anyhow::Result<Option<Record>> {
    match reader.next().await.context("the topic reader ended")? {
        ReaderEvent::Record(record) => Ok(Some(record)),
        ReaderEvent::CaughtUp => Ok(None),
        ReaderEvent::Failed(error) => Err(error.into()),
    }
}

fn recorded(record: Record) -> Recorded {
    Recorded {
        topic: record.topic.spec().stem.to_owned(),
        partition: record.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key,
        headers: record.headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
        value: record.value,
    }
}

fn passes(section: &Section) -> u64 {
    if section.what == What::NewestOfKey { 2 } else { 1 }
}

fn length(begin: i64, end: i64) -> u64 {
    u64::try_from(end.saturating_sub(begin)).unwrap_or(0)
}

fn at(section: &Section) -> String {
    format!("{} partition {}", section.topic, section.partition)
}
