//! Tests that the topics are created from the topic table.

use driftline_kafka::{KafkaError, admin};
use driftline_schemas::topics::Topic;

use crate::harness::with_topics;

#[tokio::test]
async fn creating_topics_twice_is_harmless_and_another_partition_count_is_refused() {
    with_topics("topics", |bench| async move {
        let again = admin::create(&bench.kafka, 1).await.unwrap();
        assert_eq!(again.len(), Topic::ALL.len());
        assert!(again.iter().all(|topic| !topic.created));

        let mut other = bench.kafka.clone();
        other.partitions = 4;
        let refused = admin::create(&other, 1).await.unwrap_err();
        assert!(matches!(refused, KafkaError::PartitionCount { actual: 3, configured: 4, .. }), "{refused}");
        assert!(refused.to_string().contains("DRIFTLINE_PARTITIONS=3"), "{refused}");
        assert!(matches!(admin::check(&other, &[Topic::ExecEvents]).await, Err(KafkaError::PartitionCount { .. })));

        other.prefix.push_str("-none");
        assert!(matches!(admin::check(&other, &[Topic::Findings]).await, Err(KafkaError::NoTopic(_))));
    })
    .await;
}
