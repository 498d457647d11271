//! Tests how the collector handles records while Kafka is unreachable: its outbox on a frozen broker, and the whole
//! collector, killed and restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use driftline_collector::outbox::{KafkaClient, Numbers, Outbox, OutboxSettings, origin_of};
use driftline_kafka::{ClientSettings, ReadFrom, ReaderEvent, TopicReader, admin};
use driftline_loadtest::own_kafka::OwnKafka;
use driftline_loadtest::services;
use driftline_loadtest::workload::Workload;
use driftline_schemas::topics::Topic;
use driftline_schemas::{CollectorLoss, Exec, ExecEvent, Node, encode};
use driftline_service::clock;
use driftline_service_core::Outgoing;

use crate::harness::{PATIENCE, can_load_ebpf, kafka, skip, with_topics};

const TICK: Duration = Duration::from_millis(20);

fn outbox(kafka: &ClientSettings, directory: &Path, run: &str) -> Outbox<KafkaClient> {
    let settings = OutboxSettings {
        directory: directory.to_owned(),
        bytes_max: 16 << 20,
        node: Node { cluster: "test".into(), name: "node".into(), ..Node::default() },
        collector_start: run.into(),
        boot_id: "boot".into(),
        origin: origin_of(kafka),
    };
    Outbox::new(settings, KafkaClient::new(kafka).unwrap()).unwrap()
}

fn push(outbox: &mut Outbox<KafkaClient>, exec: &Exec) {
    let (key, value) = (exec.container_id.as_str().as_bytes().to_vec(), encode(exec).unwrap());
    outbox.push(clock::now_ns(), Outgoing { topic: Topic::ExecEvents, key, value, headers: Vec::new() });
}

async fn tick_for(outbox: &mut Outbox<KafkaClient>, time: Duration) -> Numbers {
    let end = clock::monotonic() + time;
    while clock::monotonic() < end {
        outbox.tick(clock::now_ns(), 0);
        tokio::time::sleep(TICK).await;
    }
    outbox.numbers()
}

async fn settle(outbox: &mut Outbox<KafkaClient>) {
    let end = clock::monotonic() + PATIENCE;
    // The next tick reports the missing records.
    for _ in 0..3 {
        outbox.tick(clock::now_ns(), 0);
        while !outbox.is_settled() {
            assert!(clock::monotonic() < end, "{:?}", outbox.numbers());
            outbox.tick(clock::now_ns(), 0);
            tokio::time::sleep(TICK).await;
        }
    }
}

/// The content of the topic: times of execs by container, without repeats, and losses.
async fn topic(kafka: &ClientSettings) -> (BTreeMap<String, Vec<i64>>, Vec<CollectorLoss>) {
    let mut reader = TopicReader::start(kafka, &[Topic::ExecEvents], ReadFrom::Beginning).await.unwrap();
    let (mut execs, mut losses) = (BTreeMap::<String, Vec<i64>>::new(), Vec::new());
    let mut known = BTreeSet::new();
    while let Some(ReaderEvent::Record(record)) = reader.next().await {
        match ExecEvent::decode(record.value.as_deref().unwrap_or_default()) {
            Ok(ExecEvent::Exec(exec)) => {
                let id = exec.container_id.as_str().to_owned();
                if known.insert((id.clone(), exec.time_ns)) {
                    execs.entry(id).or_default().push(exec.time_ns);
                }
            }
            Ok(ExecEvent::Loss(loss)) => losses.push(loss),
            _ => {}
        }
    }
    (execs, losses)
}

/// Times of the produced execs, by container.
fn made(execs: &[Exec]) -> BTreeMap<String, Vec<i64>> {
    let mut made = BTreeMap::<String, Vec<i64>>::new();
    for exec in execs {
        made.entry(exec.container_id.as_str().to_owned()).or_default().push(exec.time_ns);
    }
    assert!(made.values().all(|times| times.is_sorted()));
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_while_the_broker_stands_still_arrives_in_order_and_at_the_bound_what_is_missing_is_reported() {
    let Some(shared) = kafka() else { return skip("spool", "KAFKA_BOOTSTRAP is not set") };
    let own = match OwnKafka::start(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))) {
        Ok(own) => own,
        Err(error) => return skip("spool", &format!("needs a Kafka of its own: {error}")),
    };
    let settings = ClientSettings { bootstrap: own.bootstrap.clone(), ..shared };
    admin::create(&settings, 1).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut outbox = outbox(&settings, directory.path(), "run");
    outbox.attached(clock::now_ns());
    outbox.open_gate();

    // Half of it is sent while the broker works, half while it does not.
    let workload = Workload::new(10, 2_000, clock::now_ns());
    let (before, while_away) = workload.execs.split_at(workload.execs.len() / 2);
    before.iter().for_each(|exec| push(&mut outbox, exec));
    tick_for(&mut outbox, Duration::from_millis(100)).await;
    own.freeze().unwrap();
    while_away.iter().for_each(|exec| push(&mut outbox, exec));
    let away = tick_for(&mut outbox, Duration::from_secs(4)).await;
    assert!(away.spool_records > 0 && away.window > 0, "{away:?}");
    own.thaw().unwrap();
    settle(&mut outbox).await;
    let (arrived, losses) = topic(&settings).await;
    assert_eq!(arrived, made(&workload.execs));
    assert_eq!(losses.len(), 0);
    println!("spooled {} records, {} KiB", away.spool_records, away.spool_bytes / 1024);

    // More records than the spool may hold.
    let many = Workload::new(10, 9_000, clock::now_ns());
    own.freeze().unwrap();
    many.execs.iter().for_each(|exec| push(&mut outbox, exec));
    tick_for(&mut outbox, Duration::from_secs(3)).await;
    own.thaw().unwrap();
    settle(&mut outbox).await;
    let (arrived, losses) = topic(&settings).await;
    let count = |all: &BTreeMap<String, Vec<i64>>| all.values().map(Vec::len).sum::<usize>();
    let missing = workload.execs.len() + many.execs.len() - count(&arrived);
    println!("{missing} of {} missing, {losses:?}", many.execs.len());
    assert!(missing > 0);
    assert_eq!(losses.len(), 1);
    let loss = &losses[0];
    assert_eq!((loss.reason.as_str(), loss.lost), ("spool_full", Some(i64::try_from(missing).unwrap())));
    let arrived: BTreeSet<(&str, i64)> =
        arrived.iter().flat_map(|(id, times)| times.iter().map(|time| (id.as_str(), *time))).collect();
    let gone: Vec<i64> = many
        .execs
        .iter()
        .filter(|exec| !arrived.contains(&(exec.container_id.as_str(), exec.time_ns)))
        .map(|exec| exec.time_ns)
        .collect();
    assert_eq!((gone.iter().min(), gone.iter().max()), (Some(&loss.from_ns), Some(&loss.to_ns)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_collector_says_since_when_nobody_watched_and_starts_without_kafka() {
    if !can_load_ebpf() {
        return skip("restart of the collector", "needs root and BTF");
    }
    with_topics("restart of the collector", |bench| async move {
        let spool = bench.logs.path().join("spool");
        let extra = [("DRIFTLINE_SPOOL_DIR", spool.to_str().unwrap()), ("DRIFTLINE_KAFKA_WAIT_S", "2")];
        let started_ns = clock::now_ns();
        let first = services::start("collector", &bench.kafka, &extra, bench.logs.path()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        first.kill().await.unwrap();
        let killed_ns = clock::now_ns();
        let second = services::start("collector", &bench.kafka, &extra, bench.logs.path()).await.unwrap();
        let end = clock::monotonic() + PATIENCE;
        let mut losses = Vec::new();
        while losses.is_empty() && clock::monotonic() < end {
            tokio::time::sleep(TICK).await;
            losses = topic(&bench.kafka).await.1;
        }
        assert_eq!(losses.len(), 1, "{losses:?}");
        let loss = &losses[0];
        assert_eq!((loss.reason.as_str(), loss.lost), ("collector_restart", None));
        assert!(started_ns < loss.from_ns && loss.from_ns < killed_ns && killed_ns < loss.to_ns, "{loss:?}");
        assert!(killed_ns - loss.from_ns < 3_000_000_000, "the moment is written down: {loss:?}");
        assert!(second.terminate().await.unwrap().success());

        // The other Kafka was never reached with this spool, so an unreachable Kafka is still an error.
        let nowhere = ClientSettings { bootstrap: "127.0.0.1:1".to_owned(), ..bench.kafka.clone() };
        let error = services::start("collector", &nowhere, &extra, bench.logs.path()).await.unwrap_err().to_string();
        assert!(error.contains("no Kafka answers at 127.0.0.1:1"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_was_attached_before_starts_while_its_kafka_is_away() {
    let Some(shared) = kafka() else { return skip("start without Kafka", "KAFKA_BOOTSTRAP is not set") };
    if !can_load_ebpf() {
        return skip("start without Kafka", "needs root and BTF");
    }
    let own = match OwnKafka::start(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))) {
        Ok(own) => own,
        Err(error) => return skip("start without Kafka", &format!("needs a Kafka of its own: {error}")),
    };
    let settings = ClientSettings { bootstrap: own.bootstrap.clone(), ..shared };
    admin::create(&settings, 1).await.unwrap();
    let logs = tempfile::tempdir().unwrap();
    let spool = logs.path().join("spool");
    let extra = [("DRIFTLINE_SPOOL_DIR", spool.to_str().unwrap()), ("DRIFTLINE_KAFKA_WAIT_S", "2")];
    let first = services::start("collector", &settings, &extra, logs.path()).await.unwrap();
    assert!(first.terminate().await.unwrap().success());
    own.freeze().unwrap();
    // The collector is ready although no broker answers.
    let second = services::start("collector", &settings, &extra, logs.path()).await.unwrap();
    let end = clock::monotonic() + PATIENCE;
    own.thaw().unwrap();
    let mut losses = Vec::new();
    while losses.is_empty() && clock::monotonic() < end {
        tokio::time::sleep(TICK).await;
        losses = topic(&settings).await.1;
    }
    assert_eq!(losses.len(), 1, "{}", second.log_end());
    assert_eq!((losses[0].reason.as_str(), losses[0].lost), ("collector_restart", None));
    assert!(second.terminate().await.unwrap().success());
}
