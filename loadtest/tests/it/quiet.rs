//! Many sessions that become quiet at once: the correlator ends them in steps, takes findings and stops in between, and
//! its memory stays bounded. `DRIFTLINE_QUIET_SESSIONS=110000` makes it a measurement of the largest number seen so
//! far.

use std::collections::BTreeMap;
use std::time::Duration;

use driftline_kafka::{ClientSettings, Producer, ReadFrom, ReaderEvent, Record, TopicReader, admin};
use driftline_loadtest::memory::ProcessMemory;
use driftline_loadtest::services::{self, Running};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Activity, Alert, Container, ContainerId, Finding, decode, encode};
use driftline_service::clock;
use driftline_settings::Settings;

use crate::harness::{kafka, skip};

#[path = "../../../correlator/core/src/fixtures.rs"]
mod fixtures;
use fixtures::{added, container};

const SESSIONS: usize = 10_000;
/// A partition keeps 10,000 containers.
const PARTITIONS: i32 = 12;
/// How often a finding of a new container is produced while sessions end.
const PROBE: Duration = Duration::from_millis(50);
/// Older records count as a backlog, during which no time passes for sessions.
const BACKLOG_AGE: Duration = Duration::from_secs(2);
/// Longest wait for an alert, and for the end: a step is some 50 ms, a restart takes over the state.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// Memory that a step may add: its output in both forms, encoded and in the client's queue, and the allocator's share.
const GROWTH_MAX_MIB: u64 = 100;

/// The alerts seen so far.
#[derive(Debug, Default)]
struct Seen {
    /// Number of first and of final revisions, by container.
    containers: BTreeMap<String, (u32, u32)>,
    finals: usize,
    /// Time of each probe, and the longest time until a probe became an alert.
    probes: BTreeMap<String, i64>,
    slowest: Duration,
    /// Partitions with a probe after a final revision, and final revisions after such a probe.
    between: BTreeMap<i32, bool>,
    interleaved: usize,
}

impl Seen {
    fn event(&mut self, event: ReaderEvent) {
        match event {
            ReaderEvent::Record(record) => self.take(&record),
            ReaderEvent::CaughtUp => {}
            ReaderEvent::Failed(error) => panic!("{error}"),
        }
    }

    fn take(&mut self, record: &Record) {
        let alert: Alert = decode(record.value.as_deref().unwrap()).unwrap();
        let id = String::from_utf8(record.key.clone().unwrap()).unwrap();
        if let Some(produced_ns) = self.probes.get(&id) {
            if alert.activity == Activity::Create {
                let took = clock::now_ns().saturating_sub(*produced_ns);
                self.slowest = self.slowest.max(Duration::from_nanos(u64::try_from(took).unwrap_or(0)));
                self.between.entry(record.partition).and_modify(|probed| *probed = true);
            }
            return;
        }
        let (created, ended) = self.containers.entry(id).or_default();
        *created += u32::from(alert.activity == Activity::Create);
        if alert.r#final {
            *ended += 1;
            self.finals += 1;
            let probed = self.between.insert(record.partition, false);
            self.interleaved += usize::from(probed == Some(true));
        }
    }

    async fn probe(&mut self, producer: &Producer) {
        let id = format!("probe-{}", self.probes.len());
        self.probes.insert(id.clone(), clock::now_ns());
        produce(producer, &id, clock::now_ns()).await;
    }
}

async fn produce(producer: &Producer, id: &str, time_ns: i64) {
    let container = Container { id: ContainerId::from(id), ..container() };
    let finding = Finding { container: Some(container), ..added(&format!("f-{id}"), time_ns) };
    producer.send(Topic::Findings, id.as_bytes(), &encode(&finding).unwrap(), &[]).await.unwrap();
}

/// Resident memory and its peak, MiB.
fn memory_mib(service: &Running) -> (u64, u64) {
    let memory = ProcessMemory::of(service.pid()).unwrap();
    (memory.resident_mib(), memory.peak_mib())
}

/// Reads alerts and produces probes until as many sessions have ended.
async fn until(reader: &mut TopicReader, seen: &mut Seen, producer: &Producer, finals: usize) {
    let mut probe = tokio::time::interval(PROBE);
    while seen.finals < finals {
        tokio::select! {
            event = reader.next() => seen.event(event.unwrap()),
            _ = probe.tick() => seen.probe(producer).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_become_quiet_at_once_end_in_steps_between_which_the_service_works_and_stops() {
    let Some(shared) = kafka() else { return skip("quiet", "KAFKA_BOOTSTRAP is not set") };
    let configured = Settings::of_environment().environment("DRIFTLINE_QUIET_SESSIONS");
    let sessions = configured.map_or(SESSIONS, |text| text.parse().unwrap());
    let settings = ClientSettings { partitions: PARTITIONS, ..shared };
    admin::create(&settings, 1).await.unwrap();
    let producer = Producer::new(&settings).unwrap();
    let time_ns = clock::now_ns();
    for at in 0..sessions {
        // The deadlines of the partitions interleave.
        let earlier_ns = i64::try_from(at).unwrap();
        produce(&producer, &format!("{at:032x}"), time_ns.saturating_sub(earlier_ns)).await;
    }
    producer.settled().await.unwrap();
    tokio::time::sleep(BACKLOG_AGE).await;

    let logs = tempfile::tempdir().unwrap();
    let extra = [("DRIFTLINE_SESSION_GAP_S", "1")];
    let service = services::start("correlator", &settings, &extra, logs.path()).await.unwrap();
    let mut reader = TopicReader::start(&settings, &[Topic::Alerts], ReadFrom::Beginning).await.unwrap();
    let mut seen = Seen::default();
    // The measurement starts when all first revisions have been read.
    while seen.containers.len() < sessions {
        seen.event(reader.next().await.unwrap());
    }
    let (before_mib, _) = memory_mib(&service);
    let began = tokio::time::Instant::now();
    until(&mut reader, &mut seen, &producer, sessions / 2).await;
    let (_, most_mib) = memory_mib(&service);
    let (slowest, interleaved) = (seen.slowest, seen.interleaved);
    let requested = tokio::time::Instant::now();
    assert!(service.terminate().await.unwrap().success());
    let stopped = requested.elapsed();
    let _successor = services::start("correlator", &settings, &extra, logs.path()).await.unwrap();
    until(&mut reader, &mut seen, &producer, sessions).await;

    println!(
        "{sessions} sessions ended in {:?}; slowest alert meanwhile {slowest:?}, end after SIGTERM {stopped:?}, memory {before_mib} to {most_mib} MiB, {interleaved} times input in between",
        began.elapsed()
    );
    let once = seen.containers.values().filter(|counts| **counts == (1, 1)).count();
    assert_eq!((once, seen.containers.len()), (sessions, sessions), "each begins and ends once");
    assert!(interleaved > 0, "input is taken between the steps");
    assert!(slowest < WAIT_MAX && stopped < WAIT_MAX, "{slowest:?}, {stopped:?}");
    assert!(most_mib - before_mib < GROWTH_MAX_MIB, "{before_mib} MiB became {most_mib}");
    admin::delete_all(&settings).await.unwrap();
}
