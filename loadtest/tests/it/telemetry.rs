//! Tests that the metrics of the services equal those in `docs/telemetry.md`.

use std::collections::BTreeSet;

use driftline_loadtest::services;
use driftline_loadtest::workload::Workload;
use driftline_service::clock;

use crate::harness::{PATIENCE, can_load_ebpf, skip, with_topics};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/telemetry.md");

/// Names in the first column of the page's tables.
fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string(PAGE).unwrap();
    page.lines()
        .filter_map(|line| line.strip_prefix("| `driftline_")?.split('`').next())
        .map(|name| format!("driftline_{name}"))
        .collect()
}

fn served(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_metric_is_served() {
    with_topics("telemetry", |bench| async move {
        let mut names = vec!["enricher", "correlator", "indexer"];
        if can_load_ebpf() {
            names.push("collector");
        } else {
            skip("telemetry of the collector", "needs root and BTF");
        }
        let mut running = Vec::new();
        for name in &names {
            running.push(services::start(name, &bench.kafka, &[], bench.logs.path()).await.unwrap());
        }
        let workload = Workload::new(1, 4, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        workload.produce_execs(&bench.producer, &workload.execs).await.unwrap();
        let mut reader = bench.collector().await;
        assert!(reader.until(PATIENCE, |seen| !seen.alerts.is_empty()).await.unwrap());

        let documented = documented();
        let mut all = BTreeSet::new();
        for service in &running {
            let text = service.get("/metrics").await.unwrap();
            all.extend(served(&text));
            assert!(service.get("/healthz").await.unwrap().contains("ok"));
        }
        let undocumented: Vec<_> = all.difference(&documented).collect();
        assert!(undocumented.is_empty(), "not in docs/telemetry.md: {undocumented:?}");
        if can_load_ebpf() {
            // A counter with labels is served from its first event on; the page lists such counters with their labels.
            let page = std::fs::read_to_string(PAGE).unwrap();
            let labelled = |name: &&String| {
                page.lines().any(|line| line.starts_with(&format!("| `{name}` | ")) && line.contains("| `"))
            };
            let missing: Vec<_> = documented.difference(&all).filter(|name| !labelled(name)).collect();
            assert!(missing.is_empty(), "documented but not served: {missing:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn received_records_are_settled_or_held_at_every_scrape() {
    with_topics("conservation", |bench| async move {
        let enricher = services::start("enricher", &bench.kafka, &[], bench.logs.path()).await.unwrap();
        let workload = Workload::new(10, 100, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        workload.produce_execs(&bench.producer, &workload.execs).await.unwrap();
        let total = 10 + workload.execs.len() as u64;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let text = enricher.get("/metrics").await.unwrap();
            let sum = |name: &str| -> u64 {
                text.lines()
                    .filter(|line| line.starts_with(name))
                    .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                    .sum()
            };
            let received = sum("driftline_records_received_total") + sum("driftline_records_taken_over_total");
            let accounted = sum("driftline_records_settled_total")
                + sum("driftline_records_held")
                + sum("driftline_records_handed_over_total");
            assert_eq!(received, accounted, "{text}");
            if received == total {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{received} of {total}");
        }
    })
    .await;
}
