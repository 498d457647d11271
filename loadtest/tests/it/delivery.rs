//! Nothing is lost when services are stopped, killed, or share the work: checked against what was produced.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use driftline_loadtest::collect::Collected;
use driftline_loadtest::services::{self, Running};
use driftline_loadtest::workload::Workload;
use driftline_runtime::clock;
use driftline_schemas::{ContainerId, Finding, FindingId};

use crate::harness::{Bench, PATIENCE, with_topics};

async fn start(bench: &Bench, name: &str) -> Running {
    services::start(name, &bench.kafka, &[("DRIFTLINE_SESSION_GAP_S", "5")], bench.logs.path()).await.unwrap()
}

/// Findings of each container in the order in which they stand on the topic, repeats left out.
fn found(collected: &Collected) -> BTreeMap<ContainerId, Vec<FindingId>> {
    let mut known = BTreeSet::new();
    let mut found: BTreeMap<ContainerId, Vec<FindingId>> = BTreeMap::new();
    for finding in &collected.findings {
        if known.insert(finding.finding_id.clone()) {
            let container = finding.container.as_ref().unwrap().id.clone();
            found.entry(container).or_default().push(finding.finding_id.clone());
        }
    }
    found
}

/// How many findings the newest revisions of all alerts count.
fn alerted(collected: &Collected) -> i64 {
    collected.newest_alerts().iter().map(|alert| alert.finding_count).sum()
}

async fn expect_everything(bench: &Bench, workload: &Workload) {
    let count = workload.expected_count();
    let mut reader = bench.collector();
    let alerts = i64::try_from(count).unwrap();
    let complete =
        |seen: &Collected| found(seen).values().map(Vec::len).sum::<usize>() >= count && alerted(seen) >= alerts;
    let done = reader.until(PATIENCE, complete).await.unwrap();
    let found = found(&reader.collected);
    let number: usize = found.values().map(Vec::len).sum();
    assert!(done, "{number} of {count} findings, {} in alerts", alerted(&reader.collected));
    assert_eq!(found, workload.expected, "the same findings in the order of the execs");
    assert_eq!(alerted(&reader.collected), alerts);
    assert_eq!(reader.collected.dead_letters.len(), 0);
    assert!(reader.collected.findings.iter().all(|finding| finding.unresolved.is_none()));
    let mut first: BTreeMap<&FindingId, &Finding> = BTreeMap::new();
    for finding in &reader.collected.findings {
        assert_eq!(*first.entry(&finding.finding_id).or_insert(finding), finding, "a repeat says the same");
    }
}

/// Waits until this many different findings stand on the topic.
async fn wait_for_findings(bench: &Bench, count: usize) {
    let mut reader = bench.collector();
    let enough = |seen: &Collected| found(seen).values().map(Vec::len).sum::<usize>() >= count;
    assert!(reader.until(PATIENCE, enough).await.unwrap(), "fewer than {count} findings");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_by_sigterm_and_kill() {
    with_topics("delivery_restart", |bench| async move {
        let workload = Workload::new(20, 40, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        let parts: Vec<_> = workload.execs.chunks(workload.execs.len() / 3).collect();

        let correlator = start(&bench, "correlator").await;
        let enricher = start(&bench, "enricher").await;
        workload.produce_execs(&bench.producer, parts[0]).await.unwrap();
        wait_for_findings(&bench, 20).await;
        assert!(enricher.terminate().await.unwrap().success(), "SIGTERM ends well");
        workload.produce_execs(&bench.producer, parts[1]).await.unwrap();
        let enricher = start(&bench, "enricher").await;
        wait_for_findings(&bench, 80).await;
        enricher.kill().await.unwrap();
        assert!(correlator.terminate().await.unwrap().success(), "SIGTERM ends well");
        let _enricher = start(&bench, "enricher").await;
        for part in &parts[2..] {
            workload.produce_execs(&bench.producer, part).await.unwrap();
        }
        let correlator = start(&bench, "correlator").await;
        wait_for_findings(&bench, 120).await;
        correlator.kill().await.unwrap();
        let _correlator = start(&bench, "correlator").await;
        expect_everything(&bench, &workload).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_share_the_partitions_and_nothing_is_lost_when_one_joins_or_leaves() {
    with_topics("delivery_scale", |bench| async move {
        let workload = Workload::new(30, 120, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        let parts: Vec<_> = workload.execs.chunks(workload.execs.len() / 2).collect();

        let _correlator = start(&bench, "correlator").await;
        let first = start(&bench, "enricher").await;
        workload.produce_execs(&bench.producer, parts[0]).await.unwrap();
        wait_for_findings(&bench, 20).await;
        // Records come while the partitions move.
        let joining = async {
            let second = start(&bench, "enricher").await;
            let third = start(&bench, "enricher").await;
            wait_for_share(&[&first, &second, &third], bench.kafka.partitions).await;
            (second, third)
        };
        let load = async {
            for few in parts[1..].iter().flat_map(|part| part.chunks(20)) {
                workload.produce_execs(&bench.producer, few).await.unwrap();
            }
        };
        let ((second, third), ()) = tokio::join!(joining, load);
        assert!(first.terminate().await.unwrap().success());
        wait_for_share(&[&second, &third], bench.kafka.partitions).await;
        expect_everything(&bench, &workload).await;
    })
    .await;
}

/// Waits until every instance has a part of the partitions, and together they have all.
async fn wait_for_share(instances: &[&Running], partitions: i32) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut shares = Vec::new();
        for instance in instances {
            shares.push(gauge(instance, "driftline_partitions_assigned").await);
        }
        let least = partitions / i32::try_from(instances.len()).unwrap();
        if shares.iter().sum::<i32>() == partitions && shares.iter().all(|share| *share >= least) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "shares {shares:?} of {partitions}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn gauge(instance: &Running, name: &str) -> i32 {
    let text = instance.get("/metrics").await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in:\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
