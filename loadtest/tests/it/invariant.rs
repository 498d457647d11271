//! Tests that a core that contradicts itself stops the process, and that the record is neither a dead letter nor lost.

use std::collections::BTreeMap;
use std::time::Duration;

use driftline_schemas::topics::Topic;
use driftline_schemas::{WriterSchema, WriterSchemas};
use driftline_service::service::{Backlog, Membership, Service, ServiceError, Shell};
use driftline_service::settings::{Identity, Mode};
use driftline_service::telemetry::Telemetry;
use driftline_service_core::{BrokenInvariant, Disposition, Effects, Gap, Outgoing, Record, Stage};

use crate::harness::{Bench, PATIENCE, with_topics};

/// A core that passes values on, and fails as planted.
struct Planted {
    breaks: Break,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Break {
    /// `apply` fails at a bomb.
    Apply,
    /// A bomb gets no disposition.
    Conservation,
    Never,
}

enum Never {}

impl Stage for Planted {
    type Input = Option<Vec<u8>>;
    type Command = Never;

    fn apply(&mut self, _: i64, input: Option<Vec<u8>>, effects: &mut Effects<Never>) -> Result<(), BrokenInvariant> {
        let Some(value) = input else { return Ok(()) };
        let bomb = value == b"bomb";
        if bomb && self.breaks == Break::Apply {
            return Err(BrokenInvariant("planted".to_owned()));
        }
        if !(bomb && self.breaks == Break::Conservation) {
            effects.settle(Disposition::Reported);
        }
        effects.emit_raw(Outgoing { topic: Topic::Findings, key: b"k".to_vec(), value, headers: vec![] });
        Ok(())
    }

    fn decode(&self, record: &Record) -> Result<Option<Vec<u8>>, String> {
        Ok(record.value.clone())
    }

    fn gap(&mut self, _: i64, _: Gap, _: &mut Effects<Never>) -> Result<(), BrokenInvariant> {
        Ok(())
    }

    fn state_schemas() -> Vec<WriterSchema> {
        Vec::new()
    }

    fn state(&self, _: i32, _: &str) -> Result<Option<Vec<u8>>, BrokenInvariant> {
        Ok(None)
    }

    fn restore(
        &mut self,
        _: i64,
        _: i32,
        _: BTreeMap<String, Vec<u8>>,
        _: &WriterSchemas,
        _: &mut Effects<Never>,
    ) -> Result<(), BrokenInvariant> {
        Ok(())
    }

    fn held(&self) -> u64 {
        0
    }

    fn drop_partition(&mut self, _: i32) {}
}

struct PlantedShell;

impl Shell for PlantedShell {
    type Stage = Planted;

    fn tick(&mut self, _: Backlog) -> Option<Option<Vec<u8>>> {
        Some(None)
    }

    fn command(&mut self, command: Never) {
        match command {}
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>, ServiceError> {
        std::future::pending().await
    }
}

async fn run(bench: &Bench, breaks: Break, at_most: Duration) -> Result<(), ServiceError> {
    let membership = Membership {
        service: "planted",
        input: Topic::ExecEvents,
        state: Topic::EnricherState,
        identity: Identity { instance: "0".to_owned(), mode: Mode::ExactlyOnce },
        kafka_wait: Duration::from_secs(30),
    };
    let telemetry = Telemetry::new("planted");
    let stop = async move {
        tokio::time::sleep(at_most).await;
        "test"
    };
    Service::join(membership, PlantedShell, Planted { breaks }, &bench.kafka, &telemetry).await?.run(stop).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_invariant_stops_the_process_and_the_record_is_read_again() {
    with_topics("invariant", |bench| async move {
        for value in ["before", "bomb", "after"] {
            bench.producer.send(Topic::ExecEvents, b"k", value.as_bytes(), &[]).await.unwrap();
        }
        bench.producer.settled().await.unwrap();
        for breaks in [Break::Apply, Break::Conservation] {
            let ended = run(&bench, breaks, PATIENCE).await;
            assert!(matches!(ended, Err(ServiceError::Broken(_))), "{ended:?}");
        }
        run(&bench, Break::Never, Duration::from_secs(5)).await.unwrap();

        let values = read_values(&bench).await;
        assert!(values.contains(&b"bomb".to_vec()) && values.contains(&b"after".to_vec()), "{values:?}");
        let mut letters = driftline_kafka::TopicReader::start(
            &bench.kafka,
            &[Topic::DeadLetters],
            driftline_kafka::ReadFrom::Beginning,
        )
        .await
        .unwrap();
        assert!(matches!(letters.next().await, Some(driftline_kafka::ReaderEvent::CaughtUp)), "no dead letter");
    })
    .await;
}

async fn read_values(bench: &Bench) -> Vec<Vec<u8>> {
    use driftline_kafka::{ReadFrom, ReaderEvent, TopicReader};
    let mut reader = TopicReader::start(&bench.kafka, &[Topic::Findings], ReadFrom::Beginning).await.unwrap();
    let mut values = Vec::new();
    while let Some(ReaderEvent::Record(record)) = reader.next().await {
        values.push(record.value.unwrap_or_default());
    }
    values
}
