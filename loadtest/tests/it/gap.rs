//! Tests that input deleted before it was read is reported with its range, whether the service was stopped or running.

use std::collections::BTreeMap;

use driftline_kafka::{TimeRange, admin, offset_ranges};
use driftline_loadtest::collect::Collected;
use driftline_loadtest::services;
use driftline_loadtest::workload::Workload;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Exec, Finding};
use driftline_service::clock;

use crate::delivery::end_of;
use crate::harness::{Bench, PATIENCE, with_topics};

/// Produces execs and deletes them before any service reads them; returns the number of affected partitions.
async fn produce_and_delete(bench: &Bench, workload: &Workload, execs: &[Exec]) -> usize {
    let ends = async || {
        let ranges = offset_ranges(&bench.kafka, Topic::ExecEvents, TimeRange::default()).await.unwrap();
        ranges.into_iter().map(|range| (range.partition, range.end)).collect::<BTreeMap<i32, i64>>()
    };
    let before = ends().await;
    workload.produce_execs(&bench.producer, execs).await.unwrap();
    let after = ends().await;
    admin::delete_before(&bench.kafka, Topic::ExecEvents, &after).await.unwrap();
    after.iter().filter(|(partition, end)| before[partition] < **end).count()
}

fn gaps(seen: &Collected) -> Vec<&Finding> {
    seen.findings.iter().filter(|finding| finding.detector == "loss").collect()
}

async fn expect(bench: &Bench, gap_count: usize, drift_count: usize) {
    let complete = |seen: &Collected| {
        let gaps = gaps(seen).len();
        gaps >= gap_count && seen.findings.len() - gaps >= drift_count
    };
    let mut reader = bench.collector().await;
    let done = reader.until(PATIENCE, complete).await.unwrap();
    let gaps = gaps(&reader.collected);
    assert!(
        done && gaps.len() == gap_count,
        "{} gaps of {gap_count} in {:?}",
        gaps.len(),
        reader.collected.findings.len()
    );
    for gap in gaps {
        assert!(gap.note.contains("partition") && gap.container.is_none(), "{}", gap.note);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_was_deleted_before_it_was_read_is_reported() {
    with_topics("gap", |bench| async move {
        let workload = Workload::new(20, 16, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        let parts: Vec<_> = workload.execs.chunks(workload.execs.len() / 4).collect();
        let found_each = parts[0].len() / 4;
        let start = async || services::start("enricher", &bench.kafka, &[], bench.logs.path()).await.unwrap();

        let enricher = start().await;
        workload.produce_execs(&bench.producer, parts[0]).await.unwrap();
        expect(&bench, 0, found_each).await;
        assert!(enricher.terminate().await.unwrap().success());
        let away = produce_and_delete(&bench, &workload, parts[1]).await;
        let mut enricher = start().await;
        expect(&bench, away, found_each).await;

        enricher.freeze().unwrap();
        let running = produce_and_delete(&bench, &workload, parts[2]).await;
        workload.produce_execs(&bench.producer, parts[3]).await.unwrap();
        enricher.thaw().unwrap();
        let end = end_of(&mut enricher).await;
        assert!(end.contains("deleted before it was read"), "{end}");
        let _enricher = start().await;
        expect(&bench, away + running, 2 * found_each).await;
    })
    .await;
}
