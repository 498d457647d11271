//! The counters of the indexer.

use driftline_service::telemetry::Telemetry;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::plan::Answer;

/// Metrics of the indexer; listed in `docs/telemetry.md`.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) images: IntCounterVec,
    pub(super) requests: IntCounterVec,
    pub(super) rejected: IntCounter,
    pub(super) layers: IntCounter,
    pub(super) bytes: IntCounter,
    pub(super) waiting: IntGauge,
    pub(super) seconds: Histogram,
}

impl Metrics {
    pub(super) fn new(telemetry: &Telemetry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            images: telemetry.counters("indexer_images_total", "attempts at images by result", &["result"])?,
            requests: telemetry.counters("indexer_requests_total", "image requests by answer", &["answer"])?,
            rejected: telemetry
                .counter("indexer_image_records_rejected_total", "records of the images topic that cannot be read")?,
            layers: telemetry.counter("indexer_layers_published_total", "layer manifests published")?,
            bytes: telemetry
                .counter("indexer_read_bytes_total", "bytes read from runtimes or registries, as stored")?,
            waiting: telemetry.gauge("indexer_images_waiting", "images in line")?,
            seconds: telemetry
                .seconds("indexer_image_seconds", "time from starting on an image to its acknowledgement")?,
        })
    }

    pub(super) fn count_request(&self, answer: &str) {
        self.requests.with_label_values(&[answer]).inc();
    }
}

impl Answer {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Pending => "pending",
            Self::Known => "known",
            Self::BackingOff => "backing_off",
            Self::Full => "full",
        }
    }
}
