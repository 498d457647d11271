//! The parts of the services' shells around the cores, in one place: settings, and the conversion of records into
//! inputs.

use std::time::Duration;

use driftline_correlator_core as correlator;
use driftline_enricher_core as enricher;
use driftline_kafka::Record;
use driftline_schemas::Severity;
use driftline_schemas::recording::{Info, Recorded};
use driftline_schemas::topics::{Topic, partition_of};

/// Partition count of a recording that does not contain its own.
const PARTITIONS: i32 = 12;

/// The settings that affect the result; the services read the same from the environment.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) park: Duration,
    pub(super) trust: enricher::Trust,
    pub(super) session_gap: Duration,
    pub(super) session_cap: Duration,
    pub(super) retention: Duration,
    pub(super) threshold: Severity,
}

impl Default for Settings {
    fn default() -> Self {
        let correlator::Options { session_gap, session_cap, retention, threshold, .. } = correlator::Options::default();
        Self {
            park: Duration::from_secs(5),
            trust: enricher::Trust::default(),
            session_gap,
            session_cap,
            retention,
            threshold,
        }
    }
}

impl Settings {
    pub(super) fn enricher(&self, placing: Placing) -> enricher::Settings {
        let park_ns = nanoseconds(self.park);
        enricher::Settings {
            // Appears only in findings about missing input, which a recording does not have.
            cluster: String::new(),
            partitions: placing.count(),
            park_ns,
            trust: self.trust,
            versions: enricher::Settings::versions(park_ns, self.trust),
        }
    }

    pub(super) fn correlator(&self) -> Result<correlator::Settings, correlator::SettingsErrors> {
        let Self { session_gap, session_cap, retention, threshold, .. } = *self;
        let defaults = correlator::Options::default();
        let options = correlator::Options { session_gap, session_cap, retention, threshold, ..defaults };
        correlator::Settings::new(options.with_versions(), &driftline_formats::ALL)
    }
}

pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The partition count of the streams, and the handling of a recording without one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Placing {
    /// Each record must be in the partition of its key.
    Counted(i32),
    /// A recording of an old version has no count: each record is placed in the partition of its key.
    Unknown,
}

impl Placing {
    pub(super) fn of(info: Option<&Info>, topic: Topic) -> Self {
        let sections = info.into_iter().flat_map(|info| &info.sections);
        let partitions = sections.filter(|section| section.topic == topic.spec().stem).map(|section| section.partition);
        partitions.max().map_or(Self::Unknown, |last| Self::Counted(last.saturating_add(1)))
    }

    pub(super) fn count(self) -> i32 {
        match self {
            Self::Counted(count) => count,
            Self::Unknown => PARTITIONS,
        }
    }

    /// The partition of the findings with a key.
    pub(super) fn partition(self, key: &[u8]) -> i32 {
        partition_of(key, self.count())
    }

    /// The record as a service would read it.
    pub(super) fn record(self, topic: Topic, recorded: Recorded) -> Record {
        let partition = match self {
            Self::Counted(_) => recorded.partition,
            Self::Unknown => self.partition(recorded.key.as_deref().unwrap_or_default()),
        };
        Record {
            topic,
            partition,
            offset: recorded.offset,
            timestamp_ms: recorded.timestamp_ms,
            key: recorded.key,
            value: recorded.value,
            headers: recorded.headers.into_iter().map(|header| (header.name, header.value)).collect(),
        }
    }
}
