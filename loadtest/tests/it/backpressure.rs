//! A slow broker slows intake, and nothing grows: a backlog is worked off by services whose broker does nothing for most
//! of the time.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use driftline_kafka::{ClientSettings, Producer, ReadFrom, ReaderEvent, TopicReader, admin};
use driftline_loadtest::own_kafka::OwnKafka;
use driftline_loadtest::services::{self, Running};
use driftline_loadtest::workload::Workload;
use driftline_runtime::clock;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Finding, FindingId, decode};

use crate::delivery::end_of;
use crate::harness::{PATIENCE, kafka, metric, skip};

/// Enough for half a minute of a slow broker, and for 300 MiB if all of it were in memory.
const CONTAINERS: usize = 100;
const EXECS_EACH: usize = 4_500;
const RECEIVED: &str = "driftline_records_received_total";
/// Of every second the broker works this long.
const WORKS: Duration = Duration::from_millis(150);
const RESTS: Duration = Duration::from_millis(850);
const SLOW_FOR: Duration = Duration::from_secs(20);
/// Most a service may come to hold: 16 MiB fetched ahead, batches in the channel, 4 MiB of a transaction, its program, and
/// as much again for the allocator.
const RESIDENT_MAX_MIB: u64 = 160;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_broker_slows_intake_and_nothing_grows() {
    let Some(shared) = kafka() else { return skip("backpressure", "KAFKA_BOOTSTRAP is not set") };
    let own = match OwnKafka::start(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))) {
        Ok(own) => Arc::new(own),
        Err(error) => return skip("backpressure", &format!("needs a Kafka of its own: {error}")),
    };
    let settings = ClientSettings { bootstrap: own.bootstrap.clone(), ..shared };
    admin::create(&settings, 1).await.unwrap();
    let producer = Producer::new(&settings).unwrap();
    let workload = Workload::new(CONTAINERS, EXECS_EACH, clock::now_ns());
    workload.publish_image(&producer).await.unwrap();
    workload.produce_containers(&producer).await.unwrap();
    let (first, rest) = workload.execs.split_at(workload.execs.len() / 3 * 2);
    workload.produce_execs(&producer, first).await.unwrap();

    let logs = tempfile::tempdir().unwrap();
    let slow = Slow::begin(&own);
    let enricher = services::start("enricher", &settings, &[], logs.path()).await.unwrap();
    let correlator = services::start("correlator", &settings, &[], logs.path()).await.unwrap();
    let mut most = 0;
    let end = tokio::time::Instant::now() + SLOW_FOR;
    while tokio::time::Instant::now() < end {
        most = most.max(resident_mib(&enricher)).max(resident_mib(&correlator));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let taken = metric(&enricher, RECEIVED).await;
    slow.end();
    println!("{taken} records through a slow broker in {SLOW_FOR:?}; most memory {most} MiB");
    assert!(taken > 0.0, "it goes on, slowly");
    assert!(most <= RESIDENT_MAX_MIB, "{most} MiB");

    let total = CONTAINERS + first.len();
    let end = tokio::time::Instant::now() + PATIENCE;
    while metric(&enricher, RECEIVED).await < f64::from(u32::try_from(total).unwrap()) {
        assert!(tokio::time::Instant::now() < end, "the rest comes when the broker is quick again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let most = resident_mib(&enricher).max(resident_mib(&correlator));
    assert!(most <= RESIDENT_MAX_MIB, "{most} MiB at full speed");
    drop(correlator);
    let counted = metric(&enricher, RECEIVED).await;
    // While the rest is still being produced, or a quick enricher would have nothing left to wait for.
    let produced = workload.produce_execs(&producer, rest);
    let ((), produced) = tokio::join!(hang(&own, &settings, &workload, enricher, counted, logs.path()), produced);
    produced.unwrap();
}

/// A broker that hangs in the middle of a transaction: the watchdog ends the process before the broker could take the
/// transaction for abandoned, and the next instance goes on as if nothing had been.
async fn hang(
    own: &OwnKafka,
    settings: &ClientSettings,
    workload: &Workload,
    mut enricher: Running,
    counted: f64,
    logs: &Path,
) {
    let begins = tokio::time::Instant::now() + PATIENCE;
    while metric(&enricher, RECEIVED).await <= counted {
        assert!(tokio::time::Instant::now() < begins, "nothing is taken");
        tokio::task::yield_now().await;
    }
    own.freeze().unwrap();
    let end = end_of(&mut enricher).await;
    own.thaw().unwrap();
    assert!(end.contains("kafka did not answer to"), "{end}");

    let _enricher = services::start("enricher", settings, &[], logs).await.unwrap();
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut found = findings(settings).await;
    while found.len() < workload.expected_count() && tokio::time::Instant::now() < end {
        found = findings(settings).await;
    }
    assert_eq!(found.len(), workload.expected_count());
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "nothing stands twice");
}

/// Ids of all findings that a reader of committed records sees now.
async fn findings(settings: &ClientSettings) -> Vec<FindingId> {
    let mut reader = TopicReader::start(settings, &[Topic::Findings], ReadFrom::Beginning).unwrap();
    let mut found = Vec::new();
    while let Some(ReaderEvent::Record(record)) = reader.next().await {
        found.push(decode::<Finding>(record.value.as_deref().unwrap_or_default()).unwrap().finding_id);
    }
    found
}

fn resident_mib(service: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Stops and continues the broker until it is told to end.
struct Slow {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Slow {
    fn begin(own: &Arc<OwnKafka>) -> Self {
        let (stop, own) = (Arc::new(AtomicBool::new(false)), Arc::clone(own));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                own.freeze().unwrap();
                std::thread::sleep(RESTS);
                own.thaw().unwrap();
                std::thread::sleep(WORKS);
            }
        });
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
    }
}
