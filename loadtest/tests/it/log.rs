//! What the executor relies on and only a real broker shows: what a member is told while another's transaction is open.

use std::collections::BTreeMap;
use std::time::Duration;

use driftline_kafka::{ClientSettings, Delivery, GroupEvent, GroupReader, KafkaLog, Sender};
use driftline_runtime_core::{Committed, Log as _};
use driftline_schemas::topics::Topic;

use crate::harness::with_topics;

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
