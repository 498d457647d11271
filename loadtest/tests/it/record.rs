//! Tests `driftline record` and `driftline replay` on a real Kafka: interruptions, time ranges, tables, other partition
//! counts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};

use driftline_kafka::{ClientSettings, TimeRange, admin, offset_ranges};
use driftline_loadtest::services::binary;
use driftline_loadtest::workload::Workload;
use driftline_schemas::recording::{Damage, Info, Merged, Order, Recorded, Recording, Section};
use driftline_schemas::topics::{Topic, partition_of};
use driftline_service::clock;
use rustix::process::{Pid, Signal, kill_process};

use crate::command_line::{driftline, text};
use crate::harness::{Bench, PATIENCE, with_topics};

fn open(file: &Path) -> Recording<BufReader<File>> {
    Recording::open(BufReader::new(File::open(file).unwrap())).unwrap()
}

fn info(file: &Path) -> Info {
    open(file).info().unwrap().clone()
}

fn records(file: &Path) -> Vec<Recorded> {
    let mut recording = open(file);
    let scan = recording.scan(Damage::Refuse).unwrap();
    let mut merged = Merged::new(recording, scan, Order::TablesFirst).unwrap();
    std::iter::from_fn(|| merged.next_record().unwrap().map(|(_, record)| record)).collect()
}

/// The bytes without the time of recording.
fn without_time(file: &Path) -> Vec<u8> {
    let recorded = info(file).recorded;
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(recorded.len()).position(|window| window == recorded.as_bytes()).unwrap();
    bytes.drain(at..at + recorded.len());
    bytes
}

async fn wait_for(mut done: impl FnMut() -> bool) {
    let deadline = clock::monotonic() + PATIENCE;
    while !done() {
        assert!(clock::monotonic() < deadline, "it does not happen");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// Runs `driftline` on other topics than the test's own.
fn on(kafka: &ClientSettings, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("driftline").unwrap());
    command
        .args(["--bootstrap", &kafka.bootstrap, "--prefix", &kafka.prefix])
        .args(["--partitions", &kafka.partitions.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_was_killed_goes_on_and_ends_as_the_same_bytes() {
    with_topics("record_killed", |bench| async move {
        for number in 0_u32..600 {
            let value = vec![u8::try_from(number % 251).unwrap(); 100_000];
            bench.producer.send(Topic::ExecEvents, &number.to_be_bytes(), &value, &[("h", b"v")]).await.unwrap();
        }
        bench.producer.settled().await.unwrap();
        let (whole, killed) = (bench.logs.path().join("whole.avro"), bench.logs.path().join("killed.avro"));
        let (whole_name, killed_name) = (whole.to_str().unwrap(), killed.to_str().unwrap());
        assert!(text(&driftline(&bench, &["record", whole_name])).contains("exec-events 600"));

        let partial = bench.logs.path().join("killed.avro.partial");
        for megabytes in [5, 30] {
            let mut child = on(&bench.kafka, &["record", killed_name]).spawn().unwrap();
            wait_for(|| fs::metadata(&partial).is_ok_and(|file| file.len() > megabytes * 1_000_000)).await;
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(partial.exists() && !killed.exists(), "it was not done yet");
        }
        // A kill may occur in the middle of a write.
        let length = fs::metadata(&partial).unwrap().len();
        File::options().write(true).open(&partial).unwrap().set_len(length - 1_000).unwrap();

        let other = driftline(&bench, &["record", killed_name, "--since", "1h"]);
        let why = String::from_utf8_lossy(&other.stderr).into_owned();
        assert!(!other.status.success() && why.contains("--since was nothing and is now 1h"), "{why}");
        let summary = text(&driftline(&bench, &["record", killed_name, "--json"]));
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["topics"]["exec-events"], 600);
        assert!(summary["resumed_at_bytes"].as_u64().unwrap() > 29_000_000, "{summary}");
        assert!(!partial.exists());
        assert!(without_time(&whole) == without_time(&killed), "the same bytes");
    })
    .await;
}

/// Sends a record of a stream and one of a table; the next is more than a second later.
async fn step(bench: &Bench, name: &str) {
    bench.producer.send(Topic::ExecEvents, b"c", name.as_bytes(), &[]).await.unwrap();
    bench.producer.send(Topic::Images, b"i", name.as_bytes(), &[]).await.unwrap();
    bench.producer.settled().await.unwrap();
    let now_ns = clock::now_ns();
    wait_for(|| clock::now_ns() > now_ns + 1_100_000_000).await;
}

fn values(file: &Path, topic: Topic) -> Vec<String> {
    let of_topic = records(file).into_iter().filter(|record| record.topic == topic.spec().stem);
    of_topic.map(|record| String::from_utf8(record.value.unwrap_or_default()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_recorded_with_its_pre_roll_and_the_tables_as_they_were_at_its_end() {
    with_topics("record_time", |bench| async move {
        bench.producer.send(Topic::Images, b"other", b"kept", &[]).await.unwrap();
        bench.producer.send(Topic::Images, b"gone", b"value", &[]).await.unwrap();
        bench.producer.send_to(Topic::Images, 0, b"gone", None, &[]).await.unwrap();
        for name in ["one", "two", "three", "four"] {
            step(&bench, name).await;
        }
        let file = bench.logs.path().join("range.avro");
        let name = file.to_str().unwrap();
        text(&driftline(&bench, &["record", name, "--topics", "exec-events"]));
        let times: Vec<i64> = records(&file).iter().map(|record| record.timestamp_ms).collect();
        assert_eq!(times.len(), 4);

        // The range starts half a second after record two, which is pre-roll; record one is older than the pre-roll,
        // and record four is too late.
        let rfc3339 = |ms| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
        let (since, until) = (rfc3339(times[1] + 500), rfc3339(times[3]));
        text(&driftline(
            &bench,
            &["record", name, "--since", &since, "--until", &until, "--pre-roll", "1s", "--force"],
        ));
        assert_eq!(values(&file, Topic::ExecEvents), ["two", "three"]);
        assert_eq!(values(&file, Topic::Images), ["kept", "", "three"], "the newest of each key, tombstones too");

        let info = info(&file);
        let offsets = |topic: &str, partition| {
            let here = |section: &&Section| section.topic == topic && section.partition == partition;
            info.sections.iter().find(here).map(|section| (section.begin, section.range, section.end)).unwrap()
        };
        assert_eq!(offsets("exec-events", partition_of(b"c", 3)), (1, 2, 3), "the range begins after the pre-roll");
        assert_eq!(offsets("images", 0), (0, 0, 6));
        assert_eq!((info.pre_roll_ms, info.since_ms), (1_000, Some(times[1] + 500)));

        let empty = driftline(&bench, &["record", name, "--since", "1h", "--until", "2h", "--force"]);
        assert!(String::from_utf8_lossy(&empty.stderr).contains("--since is not before --until"));
        paces(&bench, name).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_recording_is_replaced_only_by_force_and_nothing_is_no_recording() {
    with_topics("record_force", |bench| async move {
        bench.producer.send(Topic::ExecEvents, b"c", b"value", &[]).await.unwrap();
        bench.producer.settled().await.unwrap();
        let file = bench.logs.path().join("a.avro");
        let name = file.to_str().unwrap();
        let refused = |arguments: &[&str], part: &str| {
            let output = driftline(&bench, arguments);
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(1) && why.contains(part), "{part} in {why}");
        };
        refused(&["record", name, "--topics", "findings"], "the range has no records");
        assert!(!file.exists() && !bench.logs.path().join("a.avro.partial").exists());
        text(&driftline(&bench, &["record", name]));
        let bytes = fs::read(&file).unwrap();
        refused(&["record", name, "--topics", "findings"], "--force replaces it");
        assert!(fs::read(&file).unwrap() == bytes, "it is as it was");
        let printed = text(&driftline(&bench, &["record", name, "--topics", "findings", "--force"]));
        assert!(printed.starts_with("0 records"), "{printed}");
    })
    .await;
}

/// The two execs are a good second apart.
async fn paces(bench: &Bench, file: &str) {
    let own = ClientSettings { prefix: format!("{}-paced", bench.kafka.prefix), ..bench.kafka.clone() };
    let replay = |speed| ["replay", file, "--replication", "1", "--speed", speed];
    let fast = text(&on(&own, &[&replay("2")[..], &["--json"]].concat()).output().unwrap());
    let fast: serde_json::Value = serde_json::from_str(&fast).unwrap();
    assert!(fast["seconds"].as_f64().unwrap() > 0.5, "{fast}");

    let mut slow = on(&own, &[&replay("0.001")[..], &["--append"]].concat()).spawn().unwrap();
    let ends = || async { end_of(&own, Topic::ExecEvents).await };
    let before = ends().await;
    while ends().await == before {
        assert!(slow.try_wait().unwrap().is_none(), "it is still at its first exec");
    }
    kill_process(Pid::from_child(&slow), Signal::INT).unwrap();
    let output = slow.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("stopped by SIGINT: 4 of 5 records were sent"), "{text}");
    assert_eq!(ends().await, before + 1, "what was reported as sent is there");
    admin::delete_all(&own).await.unwrap();
}

/// Number of offsets of a topic.
async fn end_of(kafka: &ClientSettings, topic: Topic) -> i64 {
    let ranges = offset_ranges(kafka, topic, TimeRange::default()).await.unwrap();
    ranges.iter().map(|range| range.end).sum()
}

/// Key and value of each record, by key, in order; the order between keys is that of the partitions.
fn by_key(file: &Path, topic: Topic) -> BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>> {
    let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records(file).into_iter().filter(|record| record.topic == topic.spec().stem) {
        keys.entry(record.key.unwrap()).or_default().push(record.value);
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_replays_into_any_number_of_partitions_and_only_where_nothing_is() {
    with_topics("replay", |bench| async move {
        let workload = Workload::new(7, 20, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        workload.produce_execs(&bench.producer, &workload.execs).await.unwrap();
        let (file, again) = (bench.logs.path().join("a.avro"), bench.logs.path().join("again.avro"));
        let (name, again_name) = (file.to_str().unwrap(), again.to_str().unwrap());
        text(&driftline(&bench, &["record", name]));
        for partitions in ["1", "3"] {
            let replayed = Command::new(binary("driftline").unwrap())
                .args(["--bootstrap", &bench.kafka.bootstrap, "--partitions", partitions])
                // A replay does not write to the topics that the environment names.
                .env("DRIFTLINE_TOPIC_PREFIX", &bench.kafka.prefix)
                .args(["replay", name, "--replication", "1", "--json"])
                .output()
                .unwrap();
            let summary: serde_json::Value = serde_json::from_str(&text(&replayed)).unwrap();
            let prefix = summary["prefix"].as_str().unwrap();
            assert!(prefix.starts_with("replay-"), "{summary}");
            assert_eq!(summary["topics"]["exec-events"], 7 * 21);
            let partitions = partitions.parse().unwrap();
            let own = ClientSettings { prefix: prefix.to_owned(), partitions, ..bench.kafka.clone() };
            text(&on(&own, &["record", again_name, "--force"]).output().unwrap());
            for topic in [Topic::Images, Topic::ImageLayers, Topic::ExecEvents] {
                assert!(by_key(&file, topic) == by_key(&again, topic), "{topic:?} in {partitions} partitions");
            }
            let twice = on(&own, &["replay", name]).output().unwrap();
            let why = String::from_utf8_lossy(&twice.stderr).into_owned();
            assert!(!twice.status.success() && why.contains("holds records already"), "{why}");
            admin::delete_all(&own).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_recording_is_refused_before_anything_is_made() {
    with_topics("replay_damaged", |bench| async move {
        bench.producer.send(Topic::ExecEvents, b"c", b"value", &[]).await.unwrap();
        bench.producer.settled().await.unwrap();
        let file = bench.logs.path().join("a.avro");
        text(&driftline(&bench, &["record", file.to_str().unwrap()]));
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        let own = ClientSettings { prefix: format!("{}-none", bench.kafka.prefix), ..bench.kafka.clone() };
        let refused = on(&own, &["replay", file.to_str().unwrap()]).output().unwrap();
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && why.contains("cut off or damaged at byte"), "{why}");
        assert!(admin::list(&own).await.unwrap().is_empty());
    })
    .await;
}
