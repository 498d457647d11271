//! Tests the behaviour that the executor relies on and that only a real broker shows: the answers to a member while
//! another's transaction is open.

use std::collections::BTreeMap;
use std::time::Duration;

use driftline_kafka::{
    ClientSettings, Delivery, GroupEvent, GroupReader, KafkaError, KafkaLog, Producer, Sender, admin,
};
use driftline_schemas::topics::{Topic, partition_of};
use driftline_service_core::{Committed, Log as _, LogError, Outgoing, StateChange};

use crate::harness::{Bench, kafka, skip, with_topics};

/// Longer than an answer takes that does not wait.
const OPEN_FOR: Duration = Duration::from_secs(2);

const OVERSIZED_BYTES: usize = 13_000_000;

/// Half of the time that a rebalance waits for a service.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A record that exists arrives within this time.
const FIRST_MAX: Duration = Duration::from_secs(5);

async fn member(kafka: &ClientSettings, name: &str) -> (GroupReader, KafkaLog) {
    let group = format!("{}.log", kafka.prefix);
    let delivery = Delivery::ExactlyOnce(format!("{group}.{name}"));
    let sender = Sender::start(kafka, Topic::EnricherState, &delivery).await.unwrap();
    let reader = GroupReader::start(kafka, Topic::ExecEvents, &group, name).unwrap();
    let log = KafkaLog::new(kafka, Topic::ExecEvents, Topic::EnricherState, &reader, sender).unwrap();
    (reader, log)
}

/// A member whose input is the state that [`member`] writes.
async fn reading_state(kafka: &ClientSettings) -> (GroupReader, KafkaLog) {
    let group = format!("{}.state", kafka.prefix);
    let reader = GroupReader::start(kafka, Topic::EnricherState, &group, "member").unwrap();
    let sender = Sender::start(kafka, Topic::CorrelatorState, &Delivery::AtLeastOnce).await.unwrap();
    let log = KafkaLog::new(kafka, Topic::EnricherState, Topic::CorrelatorState, &reader, sender).unwrap();
    (reader, log)
}

/// A state record of partition 0.
fn change(key: &str, value: &[u8]) -> StateChange {
    StateChange { partition: 0, key: key.to_owned(), value: Some(value.to_vec()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_an_open_transaction_may_change_are_waited_for() {
    with_topics("log_stable", |bench| async move {
        let (mut reader, mut writing) = member(&bench.kafka, "writing").await;
        assert!(matches!(reader.next().await, Some(GroupEvent::Assigned(_))));
        let at = |offset| BTreeMap::from([(0, Committed { offset, state_next: Some(offset) })]);
        writing.send_offsets(&at(7)).await.unwrap();
        writing.commit().await.unwrap();
        writing.send_offsets(&at(8)).await.unwrap();

        let (_other, mut asking) = member(&bench.kafka, "asking").await;
        assert_eq!(asking.committed(&[1]).await.unwrap(), BTreeMap::new(), "knows its coordinator now");
        let commit = async {
            tokio::time::sleep(OPEN_FOR).await;
            writing.commit().await.unwrap();
        };
        let (committed, ()) = tokio::join!(asking.committed(&[0]), commit);
        assert_eq!(committed.unwrap(), at(8), "what the transaction made of it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_behind_a_zombie_s_open_transaction_is_read_once_that_has_ended() {
    with_topics("log_zombie", |bench| async move {
        let (_first, mut zombie) = member(&bench.kafka, "zombie").await;
        zombie.send_state(change("open", b"v")).await.unwrap();
        zombie.flush().await.unwrap();
        let (_second, mut successor) = member(&bench.kafka, "successor").await;
        successor.send_state(change("committed", b"v")).await.unwrap();
        successor.flush().await.unwrap();
        successor.commit().await.unwrap();

        let marks = successor.state_marks(&[0]).await.unwrap();
        assert!(marks[&0] >= 2, "the high watermark, not the last stable offset: {marks:?}");
        let abort = async {
            tokio::time::sleep(OPEN_FOR).await;
            zombie.abort().await.unwrap();
        };
        let (images, ()) = tokio::join!(successor.read_state(&marks), abort);
        let image = images.unwrap().remove(0);
        assert_eq!(image.values.keys().collect::<Vec<_>>(), ["committed"]);
        assert!(image.next >= marks[&0], "{image:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_replaced_while_idle_learns_it_before_joining_again() {
    with_topics("log_fenced", |bench| async move {
        let (mut reader, mut first) = member(&bench.kafka, "same").await;
        assert!(matches!(reader.next().await, Some(GroupEvent::Assigned(_))));
        let at = BTreeMap::from([(0, Committed { offset: 0, state_next: None })]);
        first.send_offsets(&at).await.unwrap();
        first.commit().await.unwrap();
        let group = format!("{}.log", bench.kafka.prefix);
        let delivery = Delivery::ExactlyOnce(format!("{group}.same"));
        let _successor = Sender::start(&bench.kafka, Topic::EnricherState, &delivery).await.unwrap();
        let learned = first.abort().await;
        assert!(matches!(learned, Err(LogError::Fatal(KafkaError::Fenced(_)))), "{learned:?}");
    })
    .await;
}

/// Fills the channel between the polling thread and the service, so that the thread blocks.
async fn stand_still(bench: &Bench) {
    for number in 0..50_000_u32 {
        bench.producer.send(Topic::ExecEvents, &number.to_be_bytes(), b"x", &[]).await.unwrap();
    }
    bench.producer.settled().await.unwrap();
}

async fn assigned(reader: &mut GroupReader) -> Vec<i32> {
    loop {
        if let GroupEvent::Assigned(partitions) = reader.next().await.unwrap() {
            return partitions;
        }
    }
}

/// Durations of restores that end when a client may have requested the end of a partition: at once, and half a second
/// later.
const RESTORES_MS: [u64; 8] = [0, 490, 495, 500, 503, 506, 510, 515];
const RESTORE_ROUNDS: usize = 3;
/// Many partitions, so that the answers to a client's requests take long enough to be overtaken.
const RESTORED_PARTITIONS: i32 = 48;
const RECORDS_EACH: i64 = 20;

/// Takes over all partitions, restores for so long, and reads them; returns the partitions that start or continue at a
/// wrong offset.
async fn skipped_after(kafka: &ClientSettings, round: usize, restore: Duration) -> Vec<String> {
    let group = format!("{}.round-{round}", kafka.prefix);
    let mut reader = GroupReader::start(kafka, Topic::ExecEvents, &group, "member").unwrap();
    let sender = Sender::start(kafka, Topic::EnricherState, &Delivery::AtLeastOnce).await.unwrap();
    let mut log = KafkaLog::new(kafka, Topic::ExecEvents, Topic::EnricherState, &reader, sender).unwrap();
    let from: BTreeMap<i32, i64> = assigned(&mut reader).await.into_iter().map(|partition| (partition, 0)).collect();
    let mut next = from.clone();
    tokio::time::sleep(restore).await;
    log.resume(&from).await.unwrap();
    let mut skipped = Vec::new();
    while next.values().any(|next| *next < RECORDS_EACH) {
        match tokio::time::timeout(FIRST_MAX, reader.next()).await.map(Option::unwrap) {
            Ok(GroupEvent::Batch(records)) => {
                for record in records {
                    let expected = next.get_mut(&record.partition).unwrap();
                    if record.offset != *expected {
                        skipped.push(format!("{} at {} for {expected}", record.partition, record.offset));
                    }
                    *expected = record.offset + 1;
                }
            }
            Ok(GroupEvent::Failed(error)) => panic!("{error}"),
            Ok(_) => {}
            Err(_) => {
                next.retain(|_, next| *next < RECORDS_EACH);
                skipped.push(format!("nothing comes of {next:?}"));
                break;
            }
        }
    }
    drop(log);
    reader.close().await;
    skipped
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_where_it_was_resumed_however_long_the_restore_took() {
    let Some(kafka) = kafka() else { return skip("log_begin", "KAFKA_BOOTSTRAP is not set; make test starts a Kafka") };
    let kafka = ClientSettings { partitions: RESTORED_PARTITIONS, ..kafka };
    admin::create(&kafka, 1).await.unwrap();
    let producer = Producer::new(&kafka).unwrap();
    for partition in 0..RESTORED_PARTITIONS {
        for number in 0..RECORDS_EACH {
            producer.send_to(Topic::ExecEvents, partition, &number.to_be_bytes(), Some(b"x"), &[]).await.unwrap();
        }
    }
    producer.settled().await.unwrap();
    for (round, ms) in RESTORES_MS.iter().cycle().take(RESTORES_MS.len() * RESTORE_ROUNDS).enumerate() {
        let skipped = skipped_after(&kafka, round, Duration::from_millis(*ms)).await;
        assert!(skipped.is_empty(), "round {round}, after {ms} ms: {skipped:?}");
    }
    admin::delete_all(&kafka).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_skipped_is_distinguished_from_what_transactions_leave() {
    with_topics("log_between", |bench| async move {
        let (_reader, mut log) = member(&bench.kafka, "member").await;
        for (key, is_committed) in [("first", true), ("undone", false), ("second", true)] {
            log.send_state(change(key, b"v")).await.unwrap();
            log.flush().await.unwrap();
            if is_committed { log.commit().await.unwrap() } else { log.abort().await.unwrap() }
        }
        // Records and markers alternate: 0 and 4 are committed, 2 is not.
        let (_reader, mut log) = reading_state(&bench.kafka).await;
        for (from, found) in [(1, None), (0, Some(0)), (2, None), (3, None)] {
            assert_eq!(log.first_committed(0, from, 4).await.unwrap(), found, "from {from}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_not_handed_on_because_another_is_read_again() {
    with_topics("log_resume", |bench| async move {
        stand_still(&bench).await;
        let (mut first, mut log) = member(&bench.kafka, "first").await;
        let partitions = assigned(&mut first).await;
        let from: BTreeMap<i32, i64> = partitions.iter().map(|partition| (*partition, 0)).collect();
        log.resume(&from).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        // As after an aborted transaction; the request is in the queue together with the rebalance.
        log.resume(&from).await.unwrap();
        let (mut second, mut other) = member(&bench.kafka, "second").await;
        tokio::time::sleep(Duration::from_secs(6)).await;

        let (gone, done) = loop {
            match first.next().await.unwrap() {
                GroupEvent::Revoked(gone, done) => break (gone, done),
                GroupEvent::Failed(error) => panic!("{error}"),
                _ => {}
            }
        };
        let taken = async {
            loop {
                let partitions = assigned(&mut second).await;
                if !partitions.is_empty() {
                    return partitions;
                }
            }
        };
        let mut taken = std::pin::pin!(taken);
        let early = tokio::time::timeout(Duration::from_secs(4), &mut taken).await;
        assert!(early.is_err(), "{gone:?} are not given back, and another has {early:?}");
        drop(done);
        let draining = async { while first.next().await.is_some() {} };
        let taken = tokio::select! { taken = taken => taken, () = draining => panic!("the reader ended") };
        assert_eq!(taken, gone);
        drop((log, other.abort().await));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_finish_with_its_partitions_is_closed_at_once() {
    with_topics("log_never", |bench| async move {
        let (mut first, log) = member(&bench.kafka, "first").await;
        assigned(&mut first).await;
        let _second = member(&bench.kafka, "second").await;
        loop {
            if let GroupEvent::Revoked(_, done) = first.next().await.unwrap() {
                break done.never();
            }
        }
        log.close().await;
        let closed = tokio::time::timeout(CLOSE_MAX, first.close()).await;
        assert!(closed.is_ok(), "not within {CLOSE_MAX:?}");
    })
    .await;
}

/// The aborted records are longer than one response of a broker to the client that reads again.
#[tokio::test(flavor = "multi_thread")]
async fn long_transactions_that_were_undone_are_not_taken_for_skipped_input() {
    with_topics("log_undone", |bench| async move {
        let (_reader, mut log) = member(&bench.kafka, "member").await;
        let noise = oversized();
        let mut next = 0;
        for (round, records) in [(0_usize, 1_usize), (1, 62), (2, 780), (3, 62), (4, 1)]
            .into_iter()
            .chain((5..25).map(|round| (round, round * 7)))
        {
            for at in 0..records {
                let begin = (round * 1_000 + at * 700) % (noise.len() - 1_000);
                let value = &noise[begin..begin + 600];
                log.send_state(change(&format!("{round} {at}"), value)).await.unwrap();
            }
            log.flush().await.unwrap();
            if round == 0 {
                log.commit().await.unwrap()
            } else {
                log.abort().await.unwrap()
            }
            next += records + 1;
        }
        log.send_state(change("last", b"v")).await.unwrap();
        log.flush().await.unwrap();
        log.commit().await.unwrap();
        let (_reader, mut log) = reading_state(&bench.kafka).await;
        let last = i64::try_from(next).unwrap();
        for from in (1..last).step_by(13) {
            assert_eq!(log.first_committed(0, from, last).await.unwrap(), None, "from {from}");
        }
    })
    .await;
}

/// More than the broker accepts, and not compressible.
fn oversized() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..OVERSIZED_BYTES).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_is_distinguished_from_one_that_was_not_answered_for() {
    with_topics("log_refused", |bench| async move {
        let producer = Producer::with_record_limit(&bench.kafka, 2 * OVERSIZED_BYTES).unwrap();
        producer.send(Topic::Findings, b"key", &oversized(), &[]).await.unwrap();
        let settled = producer.settled().await;
        assert!(matches!(settled, Err(KafkaError::Refused { failed: 1, .. })), "{settled:?}");
        producer.send(Topic::Findings, b"key", b"value", &[]).await.unwrap();
        producer.settled().await.unwrap();
    })
    .await;
}

/// A service that dies after its state was acknowledged and before its outputs were would read the input again and take
/// it for a repetition. Here the outputs can never be acknowledged: the topic has fewer partitions than this member
/// assumes.
#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_state_does_not_stand_before_the_outputs_it_remembers() {
    with_topics("log_at_least_once", |bench| async move {
        let group = format!("{}.log", bench.kafka.prefix);
        let wrong = ClientSettings { partitions: 64, ..bench.kafka.clone() };
        let sender = Sender::start(&wrong, Topic::EnricherState, &Delivery::AtLeastOnce).await.unwrap();
        let reader = GroupReader::start(&bench.kafka, Topic::ExecEvents, &group, "member").unwrap();
        let mut log = KafkaLog::new(&wrong, Topic::ExecEvents, Topic::EnricherState, &reader, sender).unwrap();
        let key = (0_u32..).map(|number| number.to_string().into_bytes());
        let key = key.into_iter().find(|key| partition_of(key, 64) >= bench.kafka.partitions).unwrap();
        let finding = Outgoing { topic: Topic::Findings, key, value: b"f".to_vec(), headers: Vec::new() };
        log.send(&finding).await.unwrap();
        let sent = log.send_state(change("reported", b"v")).await;
        assert!(sent.is_err() || log.flush().await.is_err(), "the finding reached nobody");
        assert_eq!(log.state_marks(&[0]).await.unwrap()[&0], 0, "the state remembers a finding that was not reported");
    })
    .await;
}
