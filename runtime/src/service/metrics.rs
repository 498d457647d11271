//! The conservation counters of a service. They advance when offsets are committed, so that
//! `received = settled + held` holds at every scrape.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use std::collections::BTreeMap;
use std::time::Duration;

use driftline_runtime_core::Disposition;
use driftline_schemas::topics::Topic;

use crate::telemetry::Telemetry;

#[derive(Debug)]
pub(super) struct LoopMetrics {
    received: IntCounter,
    settled: IntCounterVec,
    handed_over: IntCounter,
    held: IntGauge,
    events: IntCounterVec,
    produced: IntCounterVec,
    commits: Histogram,
    commit_failures: IntCounter,
    pub(super) partitions: IntGauge,
    pending: Pending,
    telemetry: Telemetry,
}

/// What happened since the last commit.
#[derive(Debug, Default)]
struct Pending {
    received: u64,
    settled: BTreeMap<Disposition, u64>,
    handed_over: u64,
    held: u64,
}

impl LoopMetrics {
    pub(super) fn register(telemetry: &Telemetry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            received: telemetry.counter("records_received_total", "Input records read")?,
            settled: telemetry.counters(
                "records_settled_total",
                "Input records by what finally became of them",
                &["disposition"],
            )?,
            handed_over: telemetry
                .counter("records_handed_over_total", "Held input records whose partition went to another instance")?,
            held: telemetry.gauge("records_held", "Input records that wait for something")?,
            events: telemetry.counters("events_total", "Named events in the core", &["event"])?,
            produced: telemetry.counters("records_produced_total", "Records produced", &["topic"])?,
            commits: telemetry.seconds("commit_seconds", "Time to acknowledge output and commit offsets")?,
            commit_failures: telemetry.counter("commit_failures_total", "Commits that have to be tried again")?,
            partitions: telemetry.gauge("partitions_assigned", "Input partitions this instance works on")?,
            pending: Pending::default(),
            telemetry: telemetry.clone(),
        })
    }

    pub(super) fn received(&mut self) {
        self.pending.received += 1;
    }

    pub(super) fn settled(&mut self, settled: BTreeMap<Disposition, u64>, held: u64) {
        for (disposition, count) in settled {
            *self.pending.settled.entry(disposition).or_default() += count;
        }
        self.pending.held = held;
    }

    pub(super) fn handed_over(&mut self, count: u64, held: u64) {
        self.pending.handed_over += count;
        self.pending.held = held;
        self.publish();
    }

    pub(super) fn produced(&self, topic: Topic) {
        self.produced.with_label_values(&[topic.spec().stem]).inc();
    }

    pub(super) fn counted(&self, counts: BTreeMap<&'static str, u64>) {
        for (event, count) in counts {
            self.events.with_label_values(&[event]).inc_by(count);
        }
    }

    pub(super) fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    pub(super) fn commit_failed(&self) {
        self.commit_failures.inc();
    }

    /// Shows what was counted since the last commit.
    pub(super) fn publish(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let _together = self.telemetry.together();
        self.handed_over.inc_by(pending.handed_over);
        self.received.inc_by(pending.received);
        for (disposition, count) in pending.settled {
            self.settled.with_label_values(&[disposition.label()]).inc_by(count);
        }
        self.held.set(i64::try_from(pending.held).unwrap_or(i64::MAX));
        self.pending.held = pending.held;
    }
}
