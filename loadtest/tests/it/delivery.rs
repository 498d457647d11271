//! Tests that nothing is lost when services are stopped, killed, or share the work, by comparison with the produced
//! records.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use driftline_loadtest::collect::Collected;
use driftline_loadtest::services::{self, Running};
use driftline_loadtest::workload::Workload;
use driftline_schemas::{ContainerId, Exec, FindingId};
use driftline_service::clock;

use crate::harness::{Bench, PATIENCE, with_topics};

pub(crate) async fn start(bench: &Bench, name: &str) -> Running {
    start_as(bench, name, "0").await
}

pub(crate) async fn start_as(bench: &Bench, name: &str, instance: &str) -> Running {
    let settings = [("DRIFTLINE_SESSION_GAP_S", "5"), ("DRIFTLINE_INSTANCE", instance)];
    services::start(name, &bench.kafka, &settings, bench.logs.path()).await.unwrap()
}

/// Findings of each container in the order of the topic, without later revisions.
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

/// Number of findings in the newest revisions of all alerts.
fn alerted(collected: &Collected) -> i64 {
    collected.newest_alerts().iter().map(|alert| alert.finding_count).sum()
}

pub(crate) async fn expect_everything(bench: &Bench, workload: &Workload) {
    let count = workload.expected_count();
    let mut reader = bench.collector().await;
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
    expect_nothing_twice(&reader.collected);
}

/// Checks that a reader of committed records gets each revision once, and that no number is missing.
fn expect_nothing_twice(collected: &Collected) {
    let findings = collected.findings.iter().map(|finding| (finding.finding_id.to_string(), finding.revision));
    let alerts = collected.alerts.iter().map(|(alert, _)| (alert.alert_id.to_string(), alert.revision));
    let mut last: BTreeMap<String, i32> = BTreeMap::new();
    for (id, revision) in findings.chain(alerts) {
        let before = last.insert(id.clone(), revision).unwrap_or(0);
        assert_eq!(revision, before + 1, "revisions of {id} come once and in order");
    }
}

/// Waits until the topic contains this many different findings.
async fn wait_for_findings(bench: &Bench, count: usize) {
    let mut reader = bench.collector().await;
    let enough = |seen: &Collected| found(seen).values().map(Vec::len).sum::<usize>() >= count;
    assert!(reader.until(PATIENCE, enough).await.unwrap(), "fewer than {count} findings");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_said_twice_by_sigterm_and_kill() {
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
async fn nothing_is_lost_without_transactions_and_what_stands_twice_has_the_same_id() {
    with_topics("delivery_at_least_once", |bench| async move {
        let workload = Workload::new(20, 40, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        let settings = [("DRIFTLINE_DELIVERY", "at-least-once")];
        for part in workload.execs.chunks(workload.execs.len() / 4) {
            let enricher = services::start("enricher", &bench.kafka, &settings, bench.logs.path()).await.unwrap();
            workload.produce_execs(&bench.producer, part).await.unwrap();
            let before = part.first().map_or(0, |exec| place(&workload, exec)) / 4;
            wait_for_findings(&bench, before + 1).await;
            enricher.kill().await.unwrap();
        }
        let _enricher = services::start("enricher", &bench.kafka, &settings, bench.logs.path()).await.unwrap();
        wait_for_findings(&bench, workload.expected_count()).await;
        let mut reader = bench.collector().await;
        reader.for_a_while(Duration::from_secs(2)).await.unwrap();
        assert_eq!(found(&reader.collected), workload.expected);
    })
    .await;
}

/// Number of execs before this one.
fn place(workload: &Workload, exec: &Exec) -> usize {
    workload.execs.iter().position(|other| other.event_id == exec.event_id).unwrap()
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
        // Records arrive while the partitions move.
        let joining = async {
            let second = start_as(&bench, "enricher", "1").await;
            let third = start_as(&bench, "enricher", "2").await;
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

/// Waits until every instance has some of the partitions, and together they have all.
pub(crate) async fn wait_for_share(instances: &[&Running], partitions: i32) {
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
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn gauge(instance: &Running, name: &str) -> i32 {
    let text = instance.get("/metrics").await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in:\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The activity of an instance when it is frozen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frozen {
    /// Under load, probably with an open transaction.
    UnderLoad,
    /// Idle, with everything committed.
    Idle,
}

impl Frozen {
    /// The possible ends of the instance. If it is frozen during a flush, it may first notice that its own requests
    /// have timed out, and end for that reason before it could find out that it was replaced.
    fn ends(self) -> &'static [&'static str] {
        match self {
            Self::UnderLoad => &["fenced", "did not answer to flush"],
            Self::Idle => &["fenced"],
        }
    }
}

/// Freezes an enricher until its transactions and its membership have timed out, lets `successor` take over, thaws it,
/// and returns how it ended.
async fn freeze_and_replace(bench: &Bench, frozen: Frozen, successor: &str) -> Result<(), String> {
    let workload = Workload::new(20, 400, clock::now_ns());
    workload.publish_image(&bench.producer).await.unwrap();
    workload.produce_containers(&bench.producer).await.unwrap();
    let parts: Vec<_> = workload.execs.chunks(workload.execs.len() / 2).collect();
    let _correlator = start(bench, "correlator").await;
    let mut first = start_as(bench, "enricher", "0").await;
    let load = async {
        for few in parts[0].chunks(40) {
            workload.produce_execs(&bench.producer, few).await.unwrap();
        }
    };
    let enough = if frozen == Frozen::UnderLoad { 100 } else { parts[0].len() / 4 };
    let freezing = async {
        wait_for_findings(bench, enough).await;
        first.freeze().unwrap();
    };
    tokio::join!(load, freezing);
    tokio::time::sleep(TRANSACTION_TIMEOUT.max(SESSION_TIMEOUT) + Duration::from_secs(2)).await;

    let second = start_as(bench, "enricher", successor).await;
    for part in &parts[1..] {
        workload.produce_execs(&bench.producer, part).await.unwrap();
    }
    wait_for_findings(bench, workload.expected_count() - 10).await;
    first.thaw().unwrap();
    let end = end_of(&mut first).await;
    if !frozen.ends().iter().any(|last_words| end.contains(last_words)) {
        return Err(format!("not fenced: {end}"));
    }
    expect_everything(bench, &workload).await;
    drop(second);
    Ok(())
}

/// The value in the services.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(25);
const SESSION_TIMEOUT: Duration = Duration::from_secs(15);

/// The last words of a process that should end by itself, or a note that it did not end.
pub(crate) async fn end_of(process: &mut Running) -> String {
    let deadline = tokio::time::Instant::now() + TRANSACTION_TIMEOUT.max(SESSION_TIMEOUT) + Duration::from_secs(10);
    while tokio::time::Instant::now() < deadline {
        if let Some((status, log)) = process.ended().unwrap() {
            assert!(!status.success(), "{log}");
            return log;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    "it goes on".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_frozen_under_load_is_fenced_and_nothing_is_lost_or_said_twice() {
    with_topics("delivery_fenced", |bench| async move {
        freeze_and_replace(&bench, Frozen::UnderLoad, "0").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_frozen_while_idle_is_fenced_by_its_successor() {
    with_topics("delivery_fenced_idle", |bench| async move {
        freeze_and_replace(&bench, Frozen::Idle, "0").await.unwrap();
    })
    .await;
}

/// The test above must be able to fail: a successor with another name, and therefore another transactional id, fences
/// no instance.
#[tokio::test(flavor = "multi_thread")]
async fn with_another_transactional_id_the_frozen_instance_is_not_fenced() {
    with_topics("delivery_not_fenced", |bench| async move {
        let other = format!("other-{}", std::process::id());
        let error = freeze_and_replace(&bench, Frozen::Idle, &other).await.unwrap_err();
        assert!(error.contains("it goes on"), "{error}");
    })
    .await;
}
