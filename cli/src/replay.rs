//! `driftline replay`: produces a recording into separate topics, tables first, then the streams merged by time.

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use driftline_kafka::admin::{self, Retention};
use driftline_kafka::{ClientSettings, Producer, TimeRange, offset_ranges};
use driftline_schemas::recording::{Damage, Merged, Order, Recorded, Recording, Scan};
use driftline_schemas::topics::{Cleanup, Topic, partition_of};
use driftline_service::{clock, shutdown};

use crate::options::ReplicationOption;
use crate::output::out;
use crate::progress::Progress;

/// How long Kafka may take to answer at the start.
const KAFKA_WAIT: Duration = Duration::from_secs(10);
/// Records after which the replay checks for an interrupt, while the client's queue has room for all of them.
const YIELD_EVERY: u64 = 1024;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// File made by `driftline record`
    pub(crate) file: PathBuf,
    /// Pauses between records: `original` as recorded, a number that much faster (0.5: half as fast), `max` none
    #[arg(long, default_value = "max", value_name = "original|NUMBER|max")]
    speed: Speed,
    /// Replay even if the topics hold records already
    #[arg(long)]
    append: bool,
    #[command(flatten)]
    pub(crate) replication: ReplicationOption,
    /// Print what was replayed as JSON
    #[arg(long)]
    json: bool,
}

/// The pauses between records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    Max,
    /// The pauses between the records' timestamps, divided by this number.
    Times(f64),
}

/// Counts of a replay.
#[derive(Debug, Default)]
struct Sent {
    counts: BTreeMap<Topic, u64>,
}

/// `named` is the prefix if it was given on the command line. Otherwise the replay gets topics of its own, so that it
/// never mixes with the topics of the environment.
pub(crate) async fn replay(
    mut settings: ClientSettings,
    named: Option<String>,
    replication: i32,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let mut stop = std::pin::pin!(shutdown::signalled().context("cannot handle signals")?);
    let file = File::open(&arguments.file).context("cannot open it")?;
    let mut recording = Recording::open(BufReader::new(file))?;
    // The whole file is checked before any record is sent, so a damaged file leaves no half replay.
    let scan = recording.scan(Damage::Refuse)?;
    let (total, topics) = (scan.records(), scan.by_topic());
    ensure!(total > 0, "it has no records");
    settings.prefix = named.unwrap_or_else(own_prefix);
    prepare(&settings, topics.keys().copied(), replication, arguments).await?;
    anstream::eprintln!("replaying {total} records into {}.*", settings.prefix);

    let mut replayer = Replayer {
        producer: Producer::new(&settings)?,
        schedule: Schedule { speed: arguments.speed, first: None },
        sent: Sent::default(),
        progress: Progress::new("replaying", "records", total),
    };
    let ended = tokio::select! {
        ended = replayer.run(recording, scan) => ended.map(|()| None),
        signal = &mut stop => Ok(Some(signal)),
    };
    let settled = replayer.producer.settled().await;
    let sent: u64 = replayer.sent.counts.values().sum();
    let far = || format!("{sent} of {total} records were sent to {}.*", settings.prefix);
    if let Some(signal) = ended.with_context(far)? {
        settled.with_context(far)?;
        bail!("stopped by {signal}: {}; a new replay gets topics of its own", far());
    }
    settled.with_context(far)?;
    print_summary(&settings, arguments, &replayer)
}

/// Creates the topics, and fails if they contain records.
async fn prepare(
    settings: &ClientSettings,
    topics: impl Iterator<Item = Topic>,
    replication: i32,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    admin::wait(settings, KAFKA_WAIT).await?;
    admin::create_with(settings, replication, Retention::Forever).await?;
    for topic in topics {
        let ranges = offset_ranges(settings, topic, TimeRange::default()).await?;
        ensure!(
            arguments.append || ranges.iter().all(|range| range.begin == range.end),
            "topic {} holds records already; choose another --prefix, leave it out to get a new one, or use --append",
            settings.topic(topic)
        );
    }
    Ok(())
}

fn print_summary(settings: &ClientSettings, arguments: &Arguments, replayer: &Replayer) -> anyhow::Result<()> {
    let counts = &replayer.sent.counts;
    let records: u64 = counts.values().sum();
    let seconds = replayer.progress.elapsed().as_secs_f64();
    let prefix = &settings.prefix;
    if arguments.json {
        let topics: BTreeMap<&str, u64> = counts.iter().map(|(topic, count)| (topic.spec().stem, *count)).collect();
        return Ok(out(json!({"prefix": prefix, "records": records, "topics": topics, "seconds": seconds}))?);
    }
    let counts: Vec<String> = counts.iter().map(|(topic, count)| format!("{} {count}", topic.spec().stem)).collect();
    Ok(out(format!("{records} records replayed into {prefix}.*: {}; {seconds:.1} s", counts.join(", ")))?)
}

struct Replayer {
    producer: Producer,
    schedule: Schedule,
    sent: Sent,
    progress: Progress,
}

impl Replayer {
    async fn run(&mut self, recording: Recording<impl Read + Seek>, scan: Scan) -> anyhow::Result<()> {
        let mut merged = Merged::new(recording, scan, Order::TablesFirst)?;
        let mut done = 0;
        let mut phase = Cleanup::Compact;
        while let Some((topic, record)) = merged.next_record()? {
            let cleanup = topic.spec().cleanup;
            if cleanup != phase {
                // An image must be readable before its execs are.
                self.producer.settled().await?;
                phase = cleanup;
            }
            if cleanup == Cleanup::Delete {
                self.schedule.wait(record.timestamp_ms).await;
            }
            self.send(topic, &record).await?;
            done += 1;
            self.progress.at(done);
            if done.is_multiple_of(YIELD_EVERY) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn send(&mut self, topic: Topic, record: &Recorded) -> anyhow::Result<()> {
        let partition = target_partition(self.producer.settings(), topic, record);
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().map(|header| (header.name.as_str(), header.value.as_slice())).collect();
        let key = record.key.as_deref().unwrap_or_default();
        self.producer.send_to(topic, partition, key, record.value.as_deref(), &headers).await?;
        *self.sent.counts.entry(topic).or_default() += 1;
        Ok(())
    }
}

/// Partitions follow the keys, so a recording fits any partition count. Layer records are partitioned by their diff_id,
/// which only heads contain; layers are read whole, so any partition is correct.
fn target_partition(settings: &ClientSettings, topic: Topic, record: &Recorded) -> i32 {
    let count = settings.partition_count(topic);
    match topic {
        Topic::ImageLayers => record.partition.rem_euclid(count.max(1)),
        _ => partition_of(record.key.as_deref().unwrap_or_default(), count),
    }
}

/// Pauses records by the distance of their timestamps.
struct Schedule {
    speed: Speed,
    /// When the first record was sent, and its timestamp.
    first: Option<(Instant, i64)>,
}

impl Schedule {
    async fn wait(&mut self, timestamp_ms: i64) {
        let Speed::Times(times) = self.speed else { return };
        let (began, first_ms) = *self.first.get_or_insert_with(|| (clock::monotonic(), timestamp_ms));
        tokio::time::sleep_until((began + due_after(timestamp_ms.saturating_sub(first_ms), times)).into()).await;
    }
}

/// The time at which a record that is `after_ms` younger than the first is due. A record with a timestamp before the
/// first is due at once.
fn due_after(after_ms: i64, times: f64) -> Duration {
    let recorded = Duration::from_millis(u64::try_from(after_ms).unwrap_or(0));
    Duration::try_from_secs_f64(recorded.as_secs_f64() / times).unwrap_or(Duration::MAX / 4)
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            "original" => Ok(Self::Times(1.0)),
            _ => match text.parse::<f64>() {
                Ok(times) if times.is_finite() && times >= 0.001 => Ok(Self::Times(times)),
                _ => Err("neither original, max, nor a number of at least 0.001".to_owned()),
            },
        }
    }
}

/// A new prefix: the time, to the millisecond.
fn own_prefix() -> String {
    let now = jiff::Timestamp::from_millisecond(clock::now_ns() / 1_000_000).unwrap_or_default();
    format!("replay-{}", now.strftime("%Y%m%d-%H%M%S-%3f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_word_or_a_multiple() {
        assert_eq!("original".parse(), Ok(Speed::Times(1.0)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("2.5".parse(), Ok(Speed::Times(2.5)));
        for text in ["", "0", "-1", "nan", "inf", "fast"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }

    #[test]
    fn pauses_are_divided_by_the_speed_and_never_negative() {
        assert_eq!(due_after(3_000, 1.0), Duration::from_secs(3));
        assert_eq!(due_after(3_000, 2.0), Duration::from_millis(1_500));
        assert_eq!(due_after(-5, 1.0), Duration::ZERO);
        assert!(due_after(i64::MAX, 0.001) > Duration::from_secs(1_000_000));
    }

    #[test]
    fn a_prefix_of_its_own_is_a_name_that_kafka_takes() {
        let prefix = own_prefix();
        assert!(prefix.starts_with("replay-2"), "{prefix}");
        assert!(prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{prefix}");
    }
}
