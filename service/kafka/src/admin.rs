//! Creates the topics of the topic table, and checks that the cluster's topics are as configured.

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::time::Duration;

use driftline_schemas::topics::Topic;

use crate::blocking::blocking;
use crate::outage::answered;
use crate::{ClientSettings, KafkaError};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The topic setting behind [`Retention`].
const RETENTION: &str = "retention.ms";
const MIN_IN_SYNC: &str = "min.insync.replicas";
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Attempts, [`RETRY_PAUSE`] apart, to find leaders of new partitions: they are elected within a second on a healthy
/// cluster.
const LEADER_TRIES: usize = 20;

/// The state of a topic after [`create`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// The topic.
    pub topic: Topic,
    /// Name on the cluster.
    pub name: String,
    /// Partition count.
    pub partitions: i32,
    /// Whether this call created it.
    pub created: bool,
}

/// Retention of the record streams that [`create_with`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// The retention in the topic table.
    AsInTable,
    /// Until somebody deletes the topic: replayed records can be inspected for as long as one likes.
    Forever,
}

/// A topic on the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingTopic {
    /// Name.
    pub name: String,
    /// Partition count.
    pub partitions: i32,
    /// Partitions that have no leader at the moment.
    pub leaderless: i32,
    /// Smallest number of replicas of a partition.
    pub replicas: i32,
    /// Smallest number of in-sync replicas of a partition.
    pub in_sync: i32,
}

/// Waits until the cluster answers a metadata request. Dropping the future ends the waiting.
///
/// # Errors
/// [`KafkaError::Unreachable`] after `patience`.
pub async fn wait(settings: &ClientSettings, patience: Duration) -> Result<(), KafkaError> {
    answered(settings, patience).await
}

/// Creates missing topics. Existing topics must have the configured partition count. Calling it twice is harmless.
///
/// # Errors
/// [`KafkaError::PartitionCount`] before anything is created; [`KafkaError::Create`] when the cluster refuses.
pub async fn create(settings: &ClientSettings, replication: i32) -> Result<Vec<TopicState>, KafkaError> {
    create_with(settings, replication, Retention::AsInTable).await
}

/// Like [`create`]; existing topics keep their retention.
///
/// # Errors
/// As [`create`].
pub async fn create_with(
    settings: &ClientSettings,
    replication: i32,
    retention: Retention,
) -> Result<Vec<TopicState>, KafkaError> {
    let existing = metadata(settings.clone(), REQUEST_TIMEOUT).await?;
    let mut states = Vec::new();
    for &topic in Topic::ALL {
        let name = settings.topic(topic);
        let partitions = settings.partition_count(topic);
        let created = match existing.iter().find(|existing| existing.name == name) {
            Some(existing) => check_count(existing, partitions).map(|()| false)?,
            None => true,
        };
        states.push(TopicState { topic, name, partitions, created });
    }
    let client: AdminClient<DefaultClientContext> = settings.config().create()?;
    for state in &mut states {
        if state.created {
            let mut topic_settings = state.topic.spec().settings(replication);
            if retention == Retention::Forever {
                topic_settings.iter_mut().filter(|(name, _)| *name == RETENTION).for_each(|(_, ms)| *ms = "-1".into());
            }
            let topic = topic_settings.iter().fold(
                NewTopic::new(&state.name, state.partitions, TopicReplication::Fixed(replication)),
                |topic, (key, value)| topic.set(key, value),
            );
            state.created = create_one(&client, topic, &state.name).await?;
        }
    }
    wait_for_leaders(settings).await?;
    Ok(states)
}

/// Checks that topics exist with the configured partition counts. Every service does this first.
///
/// # Errors
/// [`KafkaError::NoTopic`], [`KafkaError::PartitionCount`], or the cluster does not answer.
pub async fn check(settings: &ClientSettings, topics: &[Topic]) -> Result<(), KafkaError> {
    let existing = metadata(settings.clone(), REQUEST_TIMEOUT).await?;
    for topic in topics {
        let name = settings.topic(*topic);
        let existing =
            existing.iter().find(|existing| existing.name == name).ok_or_else(|| KafkaError::NoTopic(name.clone()))?;
        check_count(existing, settings.partition_count(*topic))?;
    }
    Ok(())
}

/// All topics with the settings' prefix, by name.
///
/// # Errors
/// When the cluster does not answer.
pub async fn list(settings: &ClientSettings) -> Result<Vec<ExistingTopic>, KafkaError> {
    let prefix = format!("{}.", settings.prefix);
    let mut topics = metadata(settings.clone(), REQUEST_TIMEOUT).await?;
    topics.retain(|topic| topic.name.starts_with(&prefix));
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

/// Number of in-sync replicas that a produce request to each of these topics requires, by name. Topics whose setting
/// the cluster does not report, for lack of a right, are left out.
///
/// # Errors
/// When the cluster does not answer.
pub async fn min_in_sync(settings: &ClientSettings, topics: &[String]) -> Result<BTreeMap<String, i32>, KafkaError> {
    let client: AdminClient<DefaultClientContext> = settings.config().create()?;
    let resources: Vec<ResourceSpecifier<'_>> = topics.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let answers = client.describe_configs(&resources, &options).await?;
    let minimums = topics.iter().zip(answers).filter_map(|(name, answer)| {
        let minimum = answer.ok()?.get(MIN_IN_SYNC)?.value.as_ref()?.parse().ok()?;
        Some((name.clone(), minimum))
    });
    Ok(minimums.collect())
}

/// The cluster's own id, the same for every client and broker.
///
/// # Errors
/// When the cluster does not answer.
pub async fn cluster_id(settings: &ClientSettings) -> Result<String, KafkaError> {
    let settings = settings.clone();
    let fetch = move || -> Result<String, KafkaError> {
        let consumer: BaseConsumer = settings.config().create()?;
        let id = consumer.client().fetch_cluster_id(REQUEST_TIMEOUT);
        id.ok_or_else(|| KafkaError::Failed("the cluster reports no id".to_owned()))
    };
    blocking(fetch).await
}

/// Deletes every topic with the settings' prefix: for tests and demos that created them.
///
/// # Errors
/// When the cluster does not answer.
pub async fn delete_all(settings: &ClientSettings) -> Result<(), KafkaError> {
    let names: Vec<String> = list(settings).await?.into_iter().map(|topic| topic.name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let client: AdminClient<DefaultClientContext> = settings.config().create()?;
    client.delete_topics(&names, &AdminOptions::new()).await?;
    Ok(())
}

/// Deletes the records of a topic before these offsets, as retention does: for tests.
///
/// # Errors
/// When the cluster does not answer or refuses.
pub async fn delete_before(
    settings: &ClientSettings,
    topic: Topic,
    offsets: &BTreeMap<i32, i64>,
) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(&settings.topic(topic), *partition, Offset::Offset(*offset))?;
    }
    let client: AdminClient<DefaultClientContext> = settings.config().create()?;
    for element in client.delete_records(&list, &AdminOptions::new()).await?.elements() {
        element.error()?;
    }
    Ok(())
}

fn check_count(topic: &ExistingTopic, configured: i32) -> Result<(), KafkaError> {
    if topic.partitions == configured {
        return Ok(());
    }
    Err(KafkaError::PartitionCount { topic: topic.name.clone(), actual: topic.partitions, configured })
}

/// Returns `false` when another client created it meanwhile.
async fn create_one(
    client: &AdminClient<DefaultClientContext>,
    topic: NewTopic<'_>,
    name: &str,
) -> Result<bool, KafkaError> {
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    match client.create_topics([&topic], &options).await?.first() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(KafkaError::Create { topic: name.to_owned(), why: code.to_string() }),
        _ => Ok(true),
    }
}

/// Waits for the leaders of new topics, which answer "unknown partition" until then.
async fn wait_for_leaders(settings: &ClientSettings) -> Result<(), KafkaError> {
    let mut missing = String::new();
    for _ in 0..LEADER_TRIES {
        let existing = metadata(settings.clone(), REQUEST_TIMEOUT).await?;
        let ready = |name: &str| existing.iter().any(|topic| topic.name == name && topic.leaderless == 0);
        match Topic::ALL.iter().map(|topic| settings.topic(*topic)).find(|name| !ready(name)) {
            None => return Ok(()),
            Some(name) => missing = name,
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Err(KafkaError::Create { topic: missing, why: "its partitions have no leader yet".to_owned() })
}

/// All topics of the cluster. The blocking call runs off the async runtime.
async fn metadata(settings: ClientSettings, timeout: Duration) -> Result<Vec<ExistingTopic>, KafkaError> {
    let fetch = move || -> Result<Vec<ExistingTopic>, KafkaError> {
        let consumer: BaseConsumer = settings.config().create()?;
        Ok(topics_of(&consumer.fetch_metadata(None, timeout)?))
    };
    blocking(fetch).await
}

fn topics_of(metadata: &Metadata) -> Vec<ExistingTopic> {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    metadata
        .topics()
        .iter()
        .map(|topic| ExistingTopic {
            name: topic.name().to_owned(),
            partitions: count(topic.partitions().len()),
            leaderless: count(topic.partitions().iter().filter(|partition| partition.leader() < 0).count()),
            replicas: count(topic.partitions().iter().map(|each| each.replicas().len()).min().unwrap_or(0)),
            in_sync: count(topic.partitions().iter().map(|each| each.isr().len()).min().unwrap_or(0)),
        })
        .collect()
}
