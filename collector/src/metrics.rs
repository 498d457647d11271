//! The metrics of the collector, for Prometheus. Every name is in `docs/telemetry.md`.
//!
//! Conservation: execs the kernel saw = records in the rings + records lost; records in the rings = outcomes + held.

use driftline_collector_bpf::Counters;
use driftline_service::telemetry::Telemetry;
use driftline_service_core::Disposition;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use std::time::Duration;

use crate::outbox::Numbers;

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    kernel: IntCounterVec,
    outcomes: IntCounterVec,
    held: IntGauge,
    containers: IntGauge,
    digests: IntCounterVec,
    events: IntCounterVec,
    sent: IntCounter,
    acknowledged: IntCounter,
    lost: IntCounterVec,
    waiting: IntGauge,
    spool_records: IntGauge,
    spool_bytes: IntGauge,
    api_troubles: IntCounterVec,
    reading: Histogram,
    strict: IntCounterVec,
    last: Counters,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(telemetry: &Telemetry) -> Result<Self, prometheus::Error> {
        let outcome = "Execs of containers by what became of them: reported, or dropped for a reason";
        Ok(Self {
            kernel: telemetry.counters(
                "collector_kernel_execs_total",
                "Execs as the kernel program counted them",
                &["what"],
            )?,
            outcomes: telemetry.counters("collector_execs_total", outcome, &["outcome"])?,
            held: telemetry.gauge("collector_execs_held", "Execs that wait for order, description or digest")?,
            containers: telemetry.gauge("collector_containers", "Containers that are known")?,
            digests: telemetry.counters(
                "collector_digests_total",
                "Digests commanded, by how hashing ended",
                &["state"],
            )?,
            events: telemetry.counters("collector_events_total", "Named events in the core", &["event"])?,
            sent: telemetry.counter("collector_records_sent_total", "Records handed to the Kafka client")?,
            acknowledged: telemetry
                .counter("collector_records_acknowledged_total", "Records that Kafka acknowledged")?,
            lost: telemetry.counters("collector_records_lost_total", "Records given up, by reason", &["reason"])?,
            waiting: telemetry.gauge("collector_records_waiting", "Records in memory that are not acknowledged")?,
            spool_records: telemetry.gauge("collector_spool_records", "Records in the segments of the spool")?,
            spool_bytes: telemetry.gauge("collector_spool_bytes", "Length of the segments of the spool")?,
            api_troubles: telemetry.counters(
                "collector_kubernetes_troubles_total",
                "What the Kubernetes API did not return, by reason",
                &["reason"],
            )?,
            reading: telemetry
                .seconds("collector_reading_seconds", "From exec to its record in the collector's hands")?,
            strict: telemetry.counters(
                "collector_strict_total",
                "Files opened to be executed, as strict mode counted them",
                &["what"],
            )?,
            last: Counters::default(),
        })
    }

    /// The counter of strict mode.
    pub(crate) fn strict(&self) -> &IntCounterVec {
        &self.strict
    }

    /// Takes the kernel's counters; returns how many records were lost since the last time.
    pub fn kernel(&mut self, now: Counters) -> u64 {
        let last = std::mem::replace(&mut self.last, now);
        let steps = [
            ("seen", last.seen, now.seen),
            ("host", last.host, now.host),
            ("ordinary", last.ordinary, now.ordinary),
            ("suspicious", last.suspicious, now.suspicious),
            ("ordinary_lost", last.ordinary_lost, now.ordinary_lost),
            ("suspicious_lost", last.suspicious_lost, now.suspicious_lost),
            ("known", last.known, now.known),
        ];
        for (what, before, after) in steps {
            self.kernel.with_label_values(&[what]).inc_by(after.saturating_sub(before));
        }
        now.lost().saturating_sub(last.lost())
    }

    /// Notes how old the oldest record of a reading was.
    pub(crate) fn read(&self, age_ns: u64) {
        self.reading.observe(Duration::from_nanos(age_ns).as_secs_f64());
    }

    pub(crate) fn outcome(&self, disposition: Disposition, count: u64) {
        self.outcomes.with_label_values(&[disposition.label()]).inc_by(count);
    }

    pub(crate) fn digest(&self, state: &str) {
        self.digests.with_label_values(&[state]).inc();
    }

    pub(crate) fn api_trouble(&self, reason: &str) {
        self.api_troubles.with_label_values(&[reason]).inc();
    }

    pub(crate) fn event(&self, event: &str, count: u64) {
        self.events.with_label_values(&[event]).inc_by(count);
    }

    pub(crate) fn outbox(&self, numbers: &Numbers) {
        self.sent.inc_by(numbers.sent);
        self.acknowledged.inc_by(numbers.acknowledged);
        for (reason, records) in &numbers.given_up.records {
            self.lost.with_label_values(&[reason.label()]).inc_by(*records);
        }
        self.waiting.set(i64::try_from(numbers.window).unwrap_or(i64::MAX));
        self.spool_records.set(i64::try_from(numbers.spool_records).unwrap_or(i64::MAX));
        self.spool_bytes.set(i64::try_from(numbers.spool_bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn sizes(&self, held: usize, containers: usize) {
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.containers.set(i64::try_from(containers).unwrap_or(i64::MAX));
    }
}
