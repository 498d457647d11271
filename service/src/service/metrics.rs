//! The counters of a service. They advance when the counted events are committed, so that `received + taken over =
//! settled + held + handed over` holds at every scrape, and an aborted transaction counts nothing.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use std::time::Duration;

use driftline_service_core::Counts;

use crate::telemetry::Telemetry;

#[derive(Debug)]
pub(super) struct LoopMetrics {
    received: IntCounter,
    taken_over: IntCounter,
    settled: IntCounterVec,
    handed_over: IntCounter,
    held: IntGauge,
    events: IntCounterVec,
    produced: IntCounterVec,
    commits: Histogram,
    repeated: IntCounter,
    aborts: IntCounter,
    gaps: IntCounter,
    rejoins: IntCounter,
    rebalances_forced: IntCounter,
    state_written: IntCounter,
    state_restored: IntCounter,
    restores: Histogram,
    partitions: IntGauge,
    telemetry: Telemetry,
}

impl LoopMetrics {
    pub(super) fn register(telemetry: &Telemetry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            received: telemetry.counter("records_received_total", "Input records read")?,
            taken_over: telemetry
                .counter("records_taken_over_total", "Held input records that came with a partition's state")?,
            settled: telemetry.counters(
                "records_settled_total",
                "Input records by what finally became of them",
                &["disposition"],
            )?,
            handed_over: telemetry.counter(
                "records_handed_over_total",
                "Held input records whose state was dropped, with a partition that went or to be restored",
            )?,
            held: telemetry.gauge("records_held", "Input records that wait for something")?,
            events: telemetry.counters("events_total", "Named events in the core", &["event"])?,
            produced: telemetry.counters("records_produced_total", "Records produced", &["topic"])?,
            commits: telemetry.seconds("commit_seconds", "Time to write the changelog, acknowledge and commit")?,
            repeated: telemetry.counter(
                "commits_repeated_total",
                "Commits refused because the group had moved on, and made again under the next membership",
            )?,
            aborts: telemetry
                .counter("transactions_aborted_total", "Transactions undone; their input is read again")?,
            gaps: telemetry.counter("input_gaps_total", "Ranges of input that were gone before they were read")?,
            rejoins: telemetry
                .counter("rejoins_total", "Times the service joined Kafka anew after its clients could do no more")?,
            rebalances_forced: telemetry.counter(
                "rebalances_forced_total",
                "Times this instance made its group share out partitions that nobody had",
            )?,
            state_written: telemetry.counter("state_keys_written_total", "Changelog records written")?,
            state_restored: telemetry.counter("state_keys_restored_total", "State keys read back")?,
            restores: telemetry.seconds("restore_seconds", "Time to take over partitions with their state")?,
            partitions: telemetry.gauge("partitions_assigned", "Input partitions this instance works on")?,
            telemetry: telemetry.clone(),
        })
    }

    pub(super) fn rejoined(&self) {
        self.rejoins.inc();
    }

    pub(super) fn rebalances_forced(&self, count: u64) {
        self.rebalances_forced.inc_by(count);
    }

    pub(super) fn restored(&self, took: Duration, partitions: usize) {
        self.restores.observe(took.as_secs_f64());
        self.assigned(partitions);
    }

    pub(super) fn assigned(&self, partitions: usize) {
        self.partitions.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    /// Adds the counts of a commit.
    pub(super) fn publish(&self, took: Duration, counts: Counts) {
        let _together = self.telemetry.together();
        if counts.commits > 0 {
            self.commits.observe(took.as_secs_f64());
        }
        self.received.inc_by(counts.received);
        self.taken_over.inc_by(counts.taken_over);
        self.handed_over.inc_by(counts.handed_over);
        for (disposition, count) in counts.settled {
            self.settled.with_label_values(&[disposition.label()]).inc_by(count);
        }
        self.held.set(i64::try_from(counts.held).unwrap_or(i64::MAX));
        for (event, count) in counts.events {
            self.events.with_label_values(&[event]).inc_by(count);
        }
        for (topic, count) in counts.produced {
            self.produced.with_label_values(&[topic.spec().stem]).inc_by(count);
        }
        self.repeated.inc_by(counts.commits_repeated);
        self.aborts.inc_by(counts.aborts.len() as u64);
        self.gaps.inc_by(counts.gaps);
        self.state_written.inc_by(counts.state_keys);
        self.state_restored.inc_by(counts.restored_keys);
    }
}
