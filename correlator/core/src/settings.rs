//! The settings of the core, checked as a whole before anything runs.

use driftline_schemas::limits::ALERT_FINDINGS_MAX;
use driftline_schemas::{Severity, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::SiemFormat;
use crate::limits::{SESSIONS_BYTES_MAX, SESSIONS_PER_CONTAINER_MAX, TICK_SESSIONS_MAX};

/// Names and values of the setting `DRIFTLINE_ALERT_THRESHOLD`.
pub const THRESHOLDS: [(&str, Severity); 5] = [
    ("informational", Severity::Informational),
    ("low", Severity::Low),
    ("medium", Severity::Medium),
    ("high", Severity::High),
    ("critical", Severity::Critical),
];

/// The settings as given; [`Settings::new`] checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Quiet time that ends a session.
    pub session_gap: Duration,
    /// Longest time from a session's first to its last event.
    pub session_cap: Duration,
    /// How long a final session still takes late findings and amendments.
    pub retention: Duration,
    /// Lowest severity, by score, that makes a session an alert.
    pub threshold: Severity,
    /// Findings shown in an alert.
    pub findings_kept: usize,
    /// Sessions of one container, open and retained; `None` for as many as begin within the retention, at most
    /// [`SESSIONS_PER_CONTAINER_MAX`].
    pub sessions_per_container: Option<usize>,
    /// Containers of one partition.
    pub containers_per_partition: usize,
    /// Memory of all sessions, as estimated, in bytes.
    pub sessions_bytes_max: usize,
    /// Sessions that one tick ends or forgets.
    pub sessions_per_tick: usize,
    /// Names of the formats written beside Avro.
    pub formats: BTreeSet<&'static str>,
    /// Digests of configuration and policies, written into every alert. The score table adds its own.
    pub versions: BTreeMap<String, String>,
}

const MINUTE: Duration = Duration::from_mins(1);

impl Default for Options {
    /// 10,000 containers on a partition are 90 full nodes of 110 pods each; a session of two
    /// findings takes about 4 KiB, so 10,000 containers take 40 MiB.
    fn default() -> Self {
        Self {
            session_gap: 10 * MINUTE,
            session_cap: 360 * MINUTE,
            retention: 60 * MINUTE,
            threshold: Severity::Low,
            findings_kept: ALERT_FINDINGS_MAX,
            sessions_per_container: None,
            containers_per_partition: 10_000,
            sessions_bytes_max: SESSIONS_BYTES_MAX,
            sessions_per_tick: TICK_SESSIONS_MAX,
            formats: BTreeSet::new(),
            versions: BTreeMap::new(),
        }
    }
}

impl Options {
    /// Adds the version and a digest of the settings, which an alert must name so that somebody can repeat the
    /// judgement.
    #[must_use]
    pub fn with_versions(mut self) -> Self {
        let Self { session_gap, session_cap, retention, threshold, .. } = &self;
        let config = format!("{session_gap:?} {session_cap:?} {retention:?} {threshold:?}");
        self.versions.insert("correlator".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        self.versions.insert("correlator_config".to_owned(), Sha256::of(config.as_bytes()).to_string());
        self
    }
}

/// Checked settings. Times are nanoseconds.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) gap_ns: i64,
    pub(crate) cap_ns: i64,
    pub(crate) retention_ns: i64,
    pub(crate) threshold: Severity,
    pub(crate) findings_kept: usize,
    pub(crate) sessions_per_container: usize,
    pub(crate) containers_per_partition: usize,
    pub(crate) sessions_bytes_max: usize,
    pub(crate) sessions_per_tick: usize,
    pub(crate) known_formats: &'static [SiemFormat],
    pub(crate) formats: BTreeSet<&'static str>,
    pub(crate) versions: BTreeMap<String, String>,
}

/// All problems of [`Options`] together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingsErrors(pub Vec<String>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Settings {
    /// Checks `options`. An alert fits a record in every known format, whether or not that format is written: its
    /// content must not depend on its readers.
    ///
    /// # Errors
    /// Returns every contradiction in `options`.
    pub fn new(options: Options, known_formats: &'static [SiemFormat]) -> Result<Self, SettingsErrors> {
        let mut errors = Vec::new();
        let mut require = |holds: bool, error: &str| {
            if !holds {
                errors.push(error.to_owned());
            }
        };
        require(options.session_gap >= Duration::from_secs(1), "the session gap must be at least one second");
        require(options.session_cap >= options.session_gap, "the session cap must not be shorter than the session gap");
        require(options.session_cap <= 1_440 * MINUTE, "the session cap must be at most a day");
        require(options.retention <= 1_440 * MINUTE, "the retention of sessions must be at most a day");
        require(
            (1..=ALERT_FINDINGS_MAX).contains(&options.findings_kept),
            &format!("the findings kept in an alert must be 1 to {ALERT_FINDINGS_MAX}"),
        );
        require(options.sessions_per_container != Some(0), "a container must be allowed one session at least");
        require(options.containers_per_partition > 0, "a partition must be allowed one container at least");
        require(options.sessions_bytes_max > 0, "sessions must be allowed some memory");
        require(
            (1..=TICK_SESSIONS_MAX).contains(&options.sessions_per_tick),
            &format!("the sessions of one tick must be 1 to {TICK_SESSIONS_MAX}"),
        );
        for name in &options.formats {
            let is_known = known_formats.iter().any(|format| format.name == *name);
            require(is_known, &format!("{name} is no alert format"));
        }
        if !errors.is_empty() {
            return Err(SettingsErrors(errors));
        }
        Ok(Self {
            gap_ns: nanoseconds(options.session_gap),
            cap_ns: nanoseconds(options.session_cap),
            retention_ns: nanoseconds(options.retention),
            threshold: options.threshold,
            findings_kept: options.findings_kept,
            sessions_per_container: options.sessions_per_container.unwrap_or_else(|| sessions_within(&options)),
            containers_per_partition: options.containers_per_partition,
            sessions_bytes_max: options.sessions_bytes_max,
            sessions_per_tick: options.sessions_per_tick,
            known_formats,
            formats: options.formats,
            versions: options.versions,
        })
    }
}

/// Sessions of a container are separated by more than the gap, so the retention holds at most so many; eight by default.
fn sessions_within(options: &Options) -> usize {
    let within = (options.retention + options.session_gap).as_nanos() / options.session_gap.as_nanos().max(1) + 1;
    usize::try_from(within).unwrap_or(usize::MAX).min(SESSIONS_PER_CONTAINER_MAX)
}

/// A duration is at most a day, so the number fits.
fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Settings::new(Options::default(), &[]).unwrap().gap_ns, 600_000_000_000);
    }

    #[test]
    fn a_container_has_room_for_the_sessions_of_the_retention() {
        for (gap_s, expected) in [(600, 8), (60, 62), (15, 242), (1, SESSIONS_PER_CONTAINER_MAX)] {
            let options = Options { session_gap: Duration::from_secs(gap_s), ..Options::default() };
            assert_eq!(Settings::new(options, &[]).unwrap().sessions_per_container, expected, "{gap_s} s");
        }
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let errors = Options {
            session_gap: Duration::ZERO,
            session_cap: 1_441 * MINUTE,
            retention: 1_441 * MINUTE,
            findings_kept: ALERT_FINDINGS_MAX + 1,
            sessions_per_container: Some(0),
            containers_per_partition: 0,
            sessions_bytes_max: 0,
            sessions_per_tick: 0,
            formats: BTreeSet::from(["xml"]),
            ..Options::default()
        };
        assert_eq!(Settings::new(errors, &[]).unwrap_err().0.len(), 9);
        let errors = Settings::new(Options { session_cap: MINUTE, ..Options::default() }, &[]);
        assert_eq!(errors.unwrap_err().0, ["the session cap must not be shorter than the session gap"]);
    }
}
