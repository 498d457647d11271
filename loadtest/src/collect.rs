//! Reads topics like a SIEM, and stores when each record was first readable.

use anyhow::bail;
use std::collections::BTreeMap;
use std::time::Duration;

use driftline_kafka::{ClientSettings, ReadFrom, ReaderEvent, Record as KafkaRecord, TopicReader, persist};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Alert, Container, ContainerId, ContainerThrottled, Exec, ExecEvent, Finding, decode};
use driftline_service::clock;

/// How long the ends of the topics are requested: a broker that was frozen takes a moment to lead partitions again.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// All records read so far.
#[derive(Debug, Default)]
pub struct Collected {
    /// Findings in the order in which they were read.
    pub findings: Vec<Finding>,
    /// Alert revisions with the time at which they were readable, nanoseconds since 1970.
    pub alerts: Vec<(Alert, i64)>,
    /// OCSF messages, verbatim.
    pub ocsf: Vec<String>,
    /// Execs that the collectors reported.
    pub execs: Vec<Exec>,
    /// Time at which each of them was readable, nanoseconds since 1970.
    pub exec_arrivals_ns: Vec<i64>,
    /// Reports of the collectors about execs that they left out.
    pub throttled: Vec<ContainerThrottled>,
    /// Dead letters.
    pub dead_letters: Vec<KafkaRecord>,
}

/// Reads the output topics and exec-events from their beginning.
#[derive(Debug)]
pub struct Collector {
    reader: TopicReader,
    /// The records read so far.
    pub collected: Collected,
}

impl Collector {
    /// Starts reading.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn start(kafka: &ClientSettings) -> anyhow::Result<Self> {
        let topics = [Topic::ExecEvents, Topic::Findings, Topic::Alerts, Topic::AlertsOcsf, Topic::DeadLetters];
        Ok(Self {
            reader: persist(ANSWER_MAX, "topics", || TopicReader::start(kafka, &topics, ReadFrom::Beginning)).await?,
            collected: Collected::default(),
        })
    }

    /// Reads until `done` returns true. Returns `false` when that did not happen in time.
    ///
    /// # Errors
    /// When the reader fails, or a record of ours cannot be decoded.
    pub async fn until(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&Collected) -> bool,
    ) -> anyhow::Result<bool> {
        let deadline = tokio::time::Instant::now() + patience;
        while !done(&self.collected) {
            match tokio::time::timeout_at(deadline, self.reader.next()).await {
                Err(_) => return Ok(false),
                Ok(Some(ReaderEvent::Record(record))) => self.collected.take(record)?,
                Ok(Some(ReaderEvent::CaughtUp)) => {}
                Ok(Some(ReaderEvent::Failed(error))) => return Err(error.into()),
                Ok(None) => bail!("the topic reader ended"),
            }
        }
        Ok(true)
    }

    /// Reads for a while, to find records that must not appear.
    ///
    /// # Errors
    /// As [`Self::until`].
    pub async fn for_a_while(&mut self, time: Duration) -> anyhow::Result<()> {
        self.until(time, |_| false).await.map(drop)
    }
}

impl Collected {
    fn take(&mut self, record: KafkaRecord) -> anyhow::Result<()> {
        let value = record.value.as_deref().unwrap_or_default();
        match record.topic {
            Topic::Findings => self.findings.push(decode(value)?),
            Topic::Alerts => self.alerts.push((decode(value)?, clock::now_ns())),
            Topic::AlertsOcsf => self.ocsf.push(String::from_utf8(value.to_vec())?),
            Topic::ExecEvents => {
                // Tests produce garbage to this topic on purpose.
                match ExecEvent::decode(value) {
                    Ok(ExecEvent::Exec(exec)) => {
                        self.execs.push(*exec);
                        self.exec_arrivals_ns.push(clock::now_ns());
                    }
                    Ok(ExecEvent::Throttled(throttled)) => self.throttled.push(*throttled),
                    _ => {}
                }
            }
            _ => self.dead_letters.push(record),
        }
        Ok(())
    }

    /// Removes the records of all other containers; returns how many findings and alerts were removed.
    pub fn keep_only(&mut self, container: &ContainerId) -> usize {
        let before = self.findings.len() + self.alerts.len();
        let about = |of: Option<&Container>| of.is_some_and(|of| of.id == *container);
        self.findings.retain(|finding| about(finding.container.as_ref()));
        self.alerts.retain(|(alert, _)| about(alert.container.as_ref()));
        self.ocsf.retain(|message| message.contains(container.as_str()));
        before - self.findings.len() - self.alerts.len()
    }

    /// The newest revision of each finding, in the order in which the findings first appeared.
    #[must_use]
    pub fn newest_findings(&self) -> Vec<&Finding> {
        newest(&self.findings, |finding| finding.finding_id.as_str(), |finding| finding.revision)
    }

    /// The newest revision of each alert.
    #[must_use]
    pub fn newest_alerts(&self) -> Vec<&Alert> {
        let alerts: Vec<&Alert> = self.alerts.iter().map(|(alert, _)| alert).collect();
        newest(&alerts, |alert| alert.alert_id.as_str(), |alert| alert.revision).into_iter().copied().collect()
    }
}

fn newest<'a, T>(items: &'a [T], id: impl Fn(&T) -> &str, revision: impl Fn(&T) -> i32) -> Vec<&'a T> {
    let mut order: Vec<&'a T> = Vec::new();
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    for item in items {
        match place.get(id(item)).and_then(|at| order.get_mut(*at)) {
            None => {
                place.insert(id(item).to_owned(), order.len());
                order.push(item);
            }
            Some(known) if revision(known) < revision(item) => *known = item,
            Some(_) => {}
        }
    }
    order
}
