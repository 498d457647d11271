//! Settings of the correlator: what was typed, checked as a whole, ready to use.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use driftline_correlator_core::limits::{SESSIONS_BYTES_MAX, SESSIONS_BYTES_MIN};
use driftline_correlator_core::{Options, Settings as CoreSettings, SiemFormat};
use driftline_kafka::ClientSettings;
use driftline_schemas::Severity;
use driftline_schemas::topics::Topic;
use driftline_service::env::{Identity, Settings};
use driftline_service::telemetry::start_logs;

const DAY_S: i64 = 24 * 60 * 60;
const MEGABYTE: usize = 1_000_000;
/// As long as the enricher may amend a finding: the amendment must still find its session.
const RETENTION_MIN_S: i64 = 60 * 60;

/// Everything configurable, validated.
pub(crate) struct Configuration {
    pub(crate) kafka: ClientSettings,
    pub(crate) kafka_wait: Duration,
    pub(crate) identity: Identity,
    pub(crate) telemetry: SocketAddr,
    pub(crate) core: CoreSettings,
    formats: Vec<&'static SiemFormat>,
}

impl Configuration {
    /// Topics that must be there.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        let own = [Topic::Findings, Topic::Alerts, Topic::DeadLetters, Topic::CorrelatorState];
        own.into_iter().chain(self.formats.iter().map(|format| format.topic)).collect()
    }
}

/// Reads the environment.
pub(crate) fn read() -> anyhow::Result<Configuration> {
    let mut settings = Settings::of_process();
    start_logs(&mut settings);
    let formats = formats(&mut settings);
    let options = options(&mut settings, formats.iter().map(|format| format.name).collect());
    let core = CoreSettings::new(options, &driftline_formats::ALL);
    if let Err(errors) = &core {
        for error in &errors.0 {
            settings.refuse("sessions", error);
        }
    }
    let kafka = settings.kafka("correlator");
    let kafka_wait = settings.kafka_wait();
    let identity = settings.identity();
    let telemetry = settings.telemetry_address();
    settings.finish()?;
    Ok(Configuration { kafka, kafka_wait, identity, telemetry, core: core?, formats })
}

fn options(settings: &mut Settings, formats: BTreeSet<&'static str>) -> Options {
    let defaults = Options::default();
    let mut seconds = |name: &str, default: Duration, least_s: i64| {
        let default_s = i64::try_from(default.as_secs()).unwrap_or(DAY_S);
        let chosen = settings.number(name, default_s, least_s..=DAY_S);
        Duration::from_secs(u64::try_from(chosen).unwrap_or(0))
    };
    let session_gap = seconds("DRIFTLINE_SESSION_GAP_S", defaults.session_gap, 0);
    let session_cap = seconds("DRIFTLINE_SESSION_CAP_S", defaults.session_cap, 0);
    let retention = seconds("DRIFTLINE_SESSION_RETENTION_S", defaults.retention, RETENTION_MIN_S);
    let severities = [
        ("informational", Severity::Informational),
        ("low", Severity::Low),
        ("medium", Severity::Medium),
        ("high", Severity::High),
        ("critical", Severity::Critical),
    ];
    let (default_mb, least_mb) = (SESSIONS_BYTES_MAX / MEGABYTE, SESSIONS_BYTES_MIN / MEGABYTE);
    let as_number = |mb: usize| i64::try_from(mb).unwrap_or(i64::MAX);
    let sessions_mb =
        settings.number("DRIFTLINE_SESSIONS_MAX_MB", as_number(default_mb), as_number(least_mb)..=1_000_000);
    let sessions_bytes_max = usize::try_from(sessions_mb).unwrap_or(default_mb).saturating_mul(MEGABYTE);
    let threshold = settings.choice("DRIFTLINE_ALERT_THRESHOLD", &severities, defaults.threshold);
    Options { session_gap, session_cap, retention, threshold, formats, sessions_bytes_max, ..defaults }.with_versions()
}

/// Formats beside Avro, by name; `none` for none.
fn formats(settings: &mut Settings) -> Vec<&'static SiemFormat> {
    let text = settings.text("DRIFTLINE_ALERT_FORMATS", "ocsf");
    let mut formats = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| *name != "none") {
        match driftline_formats::named(name) {
            Some(format) => formats.push(format),
            None => settings
                .refuse("DRIFTLINE_ALERT_FORMATS", format_args!("{name:?} is no alert format; known: ocsf, none")),
        }
    }
    formats
}
