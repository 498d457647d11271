//! Tests that a slow broker slows intake, and that no memory grows: services process a backlog while their broker is
//! stopped for most of the time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use driftline_kafka::{ClientSettings, Producer, admin};
use driftline_loadtest::memory::ProcessMemory;
use driftline_loadtest::own_kafka::OwnKafka;
use driftline_loadtest::services::{self, Running};
use driftline_loadtest::workload::Workload;
use driftline_service::clock;

use crate::harness::{PATIENCE, kafka, metric, skip};

/// Enough for half a minute of a slow broker, and for 300 MiB if all of it were in memory.
const CONTAINERS: usize = 100;
const EXECS_EACH: usize = 3_000;
const RECEIVED: &str = "driftline_records_received_total";
/// Time per second during which the broker runs.
const WORKS: Duration = Duration::from_millis(150);
const RESTS: Duration = Duration::from_millis(850);
const SLOW_FOR: Duration = Duration::from_secs(20);
/// Memory limit of a service: 16 MiB fetched ahead, batches in the channel, 4 MiB of a transaction, its program, and as
/// much again for the allocator.
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
    workload.produce_execs(&producer, &workload.execs).await.unwrap();

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

    let total = CONTAINERS + workload.execs.len();
    let end = tokio::time::Instant::now() + PATIENCE;
    while metric(&enricher, RECEIVED).await < f64::from(u32::try_from(total).unwrap()) {
        assert!(tokio::time::Instant::now() < end, "the rest comes when the broker is quick again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let most = resident_mib(&enricher).max(resident_mib(&correlator));
    assert!(most <= RESIDENT_MAX_MIB, "{most} MiB at full speed");
}

fn resident_mib(service: &Running) -> u64 {
    ProcessMemory::of(service.pid()).unwrap().resident_mib()
}

/// Stops and continues the broker until the test ends it.
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
