//! Settings of the correlator. A test beside it compares the defaults with those of its core.

use crate::kind::{Choice, List, Size, SizeUnit, Time, TimeUnit};
use crate::{Described, Program, Setting};
use Program::{CommandLine, Correlator};

/// `driftline analyze` has the settings that affect alerts.
const BOTH: &[Program] = &[Correlator, CommandLine];

const DAY_S: i64 = 24 * 60 * 60;

/// Quiet time that ends a session.
pub static SESSION_GAP_S: Setting<Time> = Setting {
    name: "DRIFTLINE_SESSION_GAP_S",
    programs: BOTH,
    kind: Time { default: 600, range: 1..=DAY_S, unit: TimeUnit::Seconds },
    about: "quiet time that ends a session",
};

/// Longest session.
pub static SESSION_CAP_S: Setting<Time> = Setting {
    name: "DRIFTLINE_SESSION_CAP_S",
    programs: BOTH,
    kind: Time { default: 21_600, range: 1..=DAY_S, unit: TimeUnit::Seconds },
    about: "longest session; not shorter than `DRIFTLINE_SESSION_GAP_S`",
};

/// How long a final session stays: at least as long as the enricher may amend a finding, so that the amendment still finds
/// its session.
pub static SESSION_RETENTION_S: Setting<Time> = Setting {
    name: "DRIFTLINE_SESSION_RETENTION_S",
    programs: BOTH,
    kind: Time { default: 3_600, range: 60 * 60..=DAY_S, unit: TimeUnit::Seconds },
    about: "how long a final session still accepts late findings; at least an hour, because findings are amended for an hour",
};

/// Memory for sessions.
pub static SESSIONS_MAX_MB: Setting<Size> = Setting {
    name: "DRIFTLINE_SESSIONS_MAX_MB",
    programs: &[Correlator],
    kind: Size { default: 1_000, range: 32..=1_000_000, unit: SizeUnit::Megabytes },
    about: "memory for sessions of all partitions, as estimated",
};

/// Lowest severity of alerts.
pub static ALERT_THRESHOLD: Setting<Choice> = Setting {
    name: "DRIFTLINE_ALERT_THRESHOLD",
    programs: BOTH,
    kind: Choice { default: "low", words: &["informational", "low", "medium", "high", "critical"] },
    about: "lowest severity that makes an alert",
};

/// Formats for SIEMs.
pub static ALERT_FORMATS: Setting<List> = Setting {
    name: "DRIFTLINE_ALERT_FORMATS",
    programs: &[Correlator],
    kind: List { default: &["ocsf"], separator: ',', form: "names of formats, or `none`", fits: |_| true },
    about: "formats beside Avro",
};

pub(super) static SETTINGS: &[&dyn Described] =
    &[&SESSION_GAP_S, &SESSION_CAP_S, &SESSION_RETENTION_S, &SESSIONS_MAX_MB, &ALERT_THRESHOLD, &ALERT_FORMATS];
