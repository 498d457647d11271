//! Measures what a transaction adds to a finding's latency: the same execs, one at a time, through an enricher with
//! transactions and one without, in turn.

use std::time::Duration;

use driftline_loadtest::services;
use driftline_loadtest::workload::Workload;
use driftline_service::clock;

use crate::harness::{Bench, PATIENCE, with_topics};

const ROUNDS: usize = 60;
/// The specified limit, at the median.
const ADDED_MAX_MS: f64 = 30.0;

/// One side of the comparison.
struct Lane {
    bench: Bench,
    workload: Workload,
    reader: driftline_loadtest::collect::Collector,
    took_ms: Vec<f64>,
    _enricher: services::Running,
}

impl Lane {
    async fn start(bench: Bench, delivery: &str) -> Self {
        let settings = [("DRIFTLINE_DELIVERY", delivery)];
        let enricher = services::start("enricher", &bench.kafka, &settings, bench.logs.path()).await.unwrap();
        let workload = Workload::new(1, ROUNDS * 4, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        let reader = bench.collector().await;
        Self { bench, workload, reader, took_ms: Vec::new(), _enricher: enricher }
    }

    /// Produces four execs, of which the last drifts, and waits until its finding is readable.
    async fn round(&mut self, number: usize) {
        let execs = &self.workload.execs[number * 4..(number + 1) * 4];
        let began = tokio::time::Instant::now();
        self.workload.produce_execs(&self.bench.producer, execs).await.unwrap();
        let found = self.reader.until(PATIENCE, |seen| seen.findings.len() > number).await.unwrap();
        assert!(found, "finding {number}");
        self.took_ms.push(began.elapsed().as_secs_f64() * 1000.0);
        // The pause is not in step with the commits.
        tokio::time::sleep(Duration::from_millis(u64::try_from(20 + number % 7).unwrap())).await;
    }

    fn median_ms(&mut self) -> f64 {
        self.took_ms.sort_by(f64::total_cmp);
        self.took_ms[self.took_ms.len() / 2]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_adds_little_to_a_finding_s_way() {
    with_topics("latency", |with| async move {
        with_topics("latency without", |without| async move {
            let mut with = Lane::start(with, "exactly-once").await;
            let mut without = Lane::start(without, "at-least-once").await;
            for number in 0..ROUNDS {
                with.round(number).await;
                without.round(number).await;
            }
            let (with, without) = (with.median_ms(), without.median_ms());
            println!(
                "exec to readable finding, median of {ROUNDS}: {with:.1} ms with transactions, {without:.1} ms without"
            );
            assert!(with - without <= ADDED_MAX_MS, "{with} ms with, {without} ms without transactions");
        })
        .await;
    })
    .await;
}
