//! What the services' shells do around the cores, in one place: settings, and records into inputs.

use std::time::Duration;

use driftline_correlator_core as correlator;
use driftline_enricher_core as enricher;
use driftline_kafka::Record;
use driftline_schemas::Severity;
use driftline_schemas::recording::{Info, Recorded};
use driftline_schemas::topics::{Topic, partition_of};

/// Partitions that records are put into when the recording does not say how many there were.
const PARTITIONS: i32 = 12;

/// What decides the outcome; the same that the services read from the environment.
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
            // Named in what says that input is gone, which in a recording is not.
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

/// How many partitions the streams had, and what to do when that is not known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Placing {
    /// Records have to stand in the partition of their key.
    Counted(i32),
    /// A recording of an old version has no count: records are put where their keys belong.
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

    /// The partition that findings of a key come from.
    pub(super) fn partition(self, key: &[u8]) -> i32 {
        partition_of(key, self.count())
    }

    /// The record as a service reads it.
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
