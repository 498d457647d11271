//! Tests that members of a group continue while others join and leave.

use std::pin::pin;
use std::time::Duration;

use driftline_loadtest::workload::Workload;
use driftline_schemas::Exec;
use driftline_service::clock;

use crate::delivery::{expect_everything, start, start_as, wait_for_share};
use crate::harness::{Bench, metric, with_topics};

const ABORTS: &str = "driftline_transactions_aborted_total";
const PACE: Duration = Duration::from_millis(20);
/// Execs per [`PACE`]: while a member joins, so many that nearly every commit, 20 ms apart, has output; while a member
/// leaves, which takes a session of 15 s, fewer.
const JOINING: usize = 12;
const LEAVING: usize = 4;

/// Produces so many execs per [`PACE`] until `done` resolves.
async fn under_load<T>(
    (bench, workload): (&Bench, &Workload),
    execs: &mut &[Exec],
    few: usize,
    done: impl Future<Output = T>,
) -> T {
    let mut done = pin!(done);
    let mut pace = tokio::time::interval(PACE);
    loop {
        tokio::select! {
            done = &mut done => return done,
            _ = pace.tick() => {
                let (now, later) = execs.split_at(few.min(execs.len()));
                *execs = later;
                workload.produce_execs(&bench.producer, now).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_undoes_nothing_while_others_join_and_leave() {
    with_topics("membership", |bench| async move {
        let workload = Workload::new(30, 230, clock::now_ns());
        workload.publish_image(&bench.producer).await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        let _correlator = start(&bench, "correlator").await;
        let first = start_as(&bench, "enricher", "0").await;
        let second = start_as(&bench, "enricher", "1").await;
        wait_for_share(&[&first, &second], bench.kafka.partitions).await;
        let aborts = async || metric(&first, ABORTS).await + metric(&second, ABORTS).await;
        let before = aborts().await;

        let (test, mut execs) = ((&bench, &workload), workload.execs.as_slice());
        let joining = async {
            let third = start_as(&bench, "enricher", "2").await;
            wait_for_share(&[&first, &second, &third], bench.kafka.partitions).await;
            (third, start_as(&bench, "enricher", "3").await)
        };
        let (third, fourth) = under_load(test, &mut execs, JOINING, joining).await;
        let leaving = async {
            assert!(third.terminate().await.unwrap().success());
            wait_for_share(&[&first, &second, &fourth], bench.kafka.partitions).await;
        };
        under_load(test, &mut execs, LEAVING, leaving).await;
        workload.produce_execs(&bench.producer, execs).await.unwrap();
        expect_everything(&bench, &workload).await;
        assert_eq!(aborts().await, before);
    })
    .await;
}
