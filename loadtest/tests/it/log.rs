//! What the executor relies on and only a real broker shows: what a member is told while another's transaction is open.

use std::collections::BTreeMap;
use std::time::Duration;

use driftline_kafka::{ClientSettings, Delivery, GroupEvent, GroupReader, KafkaError, KafkaLog, Sender};
use driftline_runtime_core::{Committed, Log as _, LogError, Outgoing, StateChange};
use driftline_schemas::topics::{Topic, partition_of};

use crate::harness::{Bench, with_topics};

/// Longer than an answer takes that does not wait.
const OPEN_FOR: Duration = Duration::from_secs(2);

async fn member(kafka: &ClientSettings, name: &str) -> (GroupReader, KafkaLog) {
    let group = format!("{}.log", kafka.prefix);
    let delivery = Delivery::ExactlyOnce(format!("{group}.{name}"));
    let sender = Sender::start(kafka, Topic::EnricherState, &delivery).await.unwrap();
    let reader = GroupReader::start(kafka, Topic::ExecEvents, &group, Some(name)).unwrap();
    let log = KafkaLog::new(kafka, Topic::ExecEvents, Topic::EnricherState, &reader, sender).unwrap();
    (reader, log)
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
        let change = |key: &str| StateChange { partition: 0, key: key.to_owned(), value: Some(b"v".to_vec()) };
        let (_first, mut zombie) = member(&bench.kafka, "zombie").await;
        zombie.send_state(change("open")).await.unwrap();
        zombie.flush().await.unwrap();
        let (_second, mut successor) = member(&bench.kafka, "successor").await;
        successor.send_state(change("committed")).await.unwrap();
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

/// Fills what lies between the polling thread and the service, so that the thread stands still.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_not_handed_on_because_another_is_read_again() {
    with_topics("log_resume", |bench| async move {
        stand_still(&bench).await;
        let (mut first, mut log) = member(&bench.kafka, "first").await;
        let partitions = assigned(&mut first).await;
        let from: BTreeMap<i32, i64> = partitions.iter().map(|partition| (*partition, 0)).collect();
        log.resume(&from).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        // As after an aborted transaction; it stands in the queue together with the rebalance.
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

/// A service that dies after its state was acknowledged and before its outputs were would take the input, read again, for a
/// repetition. Here the outputs never can be: the topic has fewer partitions than this member believes.
#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_state_does_not_stand_before_the_outputs_it_remembers() {
    with_topics("log_at_least_once", |bench| async move {
        let group = format!("{}.log", bench.kafka.prefix);
        let wrong = ClientSettings { partitions: 64, ..bench.kafka.clone() };
        let sender = Sender::start(&wrong, Topic::EnricherState, &Delivery::AtLeastOnce).await.unwrap();
        let reader = GroupReader::start(&bench.kafka, Topic::ExecEvents, &group, Some("member")).unwrap();
        let mut log = KafkaLog::new(&wrong, Topic::ExecEvents, Topic::EnricherState, &reader, sender).unwrap();
        let key = (0_u32..).map(|number| number.to_string().into_bytes());
        let key = key.into_iter().find(|key| partition_of(key, 64) >= bench.kafka.partitions).unwrap();
        let finding = Outgoing { topic: Topic::Findings, key, value: b"f".to_vec(), headers: Vec::new() };
        log.send(finding).await.unwrap();
        let change = StateChange { partition: 0, key: "told".to_owned(), value: Some(b"v".to_vec()) };
        let sent = log.send_state(change).await;
        assert!(sent.is_err() || log.flush().await.is_err(), "the finding reached nobody");
        assert_eq!(log.state_marks(&[0]).await.unwrap()[&0], 0, "state says it was told");
    })
    .await;
}
