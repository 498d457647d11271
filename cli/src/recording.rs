//! `driftline record` and `driftline replay`: topics to a file and back, bytes verbatim.

use anyhow::{Context as _, bail};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;

use driftline_kafka::{ClientSettings, Producer, ReadFrom, ReaderEvent, TopicReader, admin};
use driftline_schemas::recording::{Header, Recorded, read, write};
use driftline_schemas::topics::Topic;

/// Records between two progress lines.
const PROGRESS_EVERY: usize = 10_000;

pub(crate) async fn record(settings: &ClientSettings, file: &Path, stems: &[String]) -> anyhow::Result<()> {
    let topics = stems
        .iter()
        .map(|stem| {
            Topic::from_stem(stem).with_context(|| format!("there is no topic {stem:?}; see `driftline topics list`"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    admin::check(settings, &topics).await?;
    let mut records = Vec::new();
    for topic in topics {
        read_topic(settings, topic, &mut records).await?;
    }
    let mut out = BufWriter::new(File::create(file)?);
    write(&mut out, records.iter())?;
    out.flush()?;
    Ok(crate::output::out(format!("{} records in {}", records.len(), file.display()))?)
}

async fn read_topic(settings: &ClientSettings, topic: Topic, records: &mut Vec<Recorded>) -> anyhow::Result<()> {
    let mut reader = TopicReader::start(settings, &[topic], ReadFrom::Beginning)?;
    while let Some(event) = reader.next().await {
        match event {
            ReaderEvent::Record(record) => {
                records.push(Recorded {
                    topic: topic.spec().stem.to_owned(),
                    partition: record.partition,
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    key: record.key,
                    headers: record.headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
                    value: record.value,
                });
                if records.len().is_multiple_of(PROGRESS_EVERY) {
                    anstream::eprintln!("{} records read", records.len());
                }
            }
            ReaderEvent::CaughtUp => break,
            ReaderEvent::Failed(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub(crate) async fn replay(settings: &ClientSettings, file: &Path) -> anyhow::Result<()> {
    let records = read(BufReader::new(File::open(file)?))?;
    let topics: BTreeSet<Topic> = records.iter().filter_map(|record| Topic::from_stem(&record.topic)).collect();
    admin::check(settings, &topics.into_iter().collect::<Vec<_>>()).await?;
    let producer = Producer::new(settings)?;
    for (count, record) in records.iter().enumerate() {
        let Some(topic) = Topic::from_stem(&record.topic) else {
            bail!("the recording has a topic {:?} that this version does not know", record.topic);
        };
        let partition = target_partition(settings, topic, record);
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().map(|header| (header.name.as_str(), header.value.as_slice())).collect();
        let key = record.key.as_deref().unwrap_or_default();
        producer.send_to(topic, partition, key, record.value.as_deref(), &headers).await?;
        if (count + 1).is_multiple_of(PROGRESS_EVERY) {
            anstream::eprintln!("{} of {} records sent", count + 1, records.len());
        }
    }
    producer.settled().await?;
    Ok(crate::output::out(format!("{} records replayed into {}.*", records.len(), settings.prefix))?)
}

/// Partitions follow the keys, so a recording fits any partition count. Layer records are placed by their diff_id,
/// which only heads carry; layers are read whole, so any partition serves.
fn target_partition(settings: &ClientSettings, topic: Topic, record: &Recorded) -> i32 {
    let count = settings.partition_count(topic);
    match topic {
        Topic::ImageLayers => record.partition % count,
        _ => driftline_schemas::topics::partition_of(record.key.as_deref().unwrap_or_default(), count),
    }
}
