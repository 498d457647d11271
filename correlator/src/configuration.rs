//! Settings of the correlator: read, checked as a whole, ready to use.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use driftline_correlator_core::{Options, Settings as CoreSettings, SettingsErrors, SiemFormat, THRESHOLDS};
use driftline_kafka::ClientSettings;
use driftline_schemas::topics::Topic;
use driftline_service::settings::{Identity, kafka};
use driftline_service::telemetry::start_logs;
use driftline_settings::{Described, Program, Settings, table};

/// All settings, validated.
pub(crate) struct Configuration {
    pub(crate) kafka: ClientSettings,
    pub(crate) kafka_wait: Duration,
    pub(crate) identity: Identity,
    pub(crate) telemetry: SocketAddr,
    pub(crate) core: CoreSettings,
    formats: Vec<&'static SiemFormat>,
}

impl Configuration {
    /// Topics that must exist.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        let own = [Topic::Findings, Topic::Alerts, Topic::DeadLetters, Topic::CorrelatorState];
        own.into_iter().chain(self.formats.iter().map(|format| format.topic)).collect()
    }
}

/// Reads the settings.
pub(crate) fn read(config: Option<&Path>) -> anyhow::Result<Configuration> {
    let mut settings = Settings::of_process(Program::Correlator, config);
    start_logs(&mut settings);
    let configuration = Configuration::read(&mut settings);
    settings.finish()?;
    Ok(configuration?)
}

impl Configuration {
    /// Reads the settings; records problems in `settings`.
    fn read(settings: &mut Settings) -> Result<Self, SettingsErrors> {
        let formats = formats(settings);
        let options = options(settings, formats.iter().map(|format| format.name).collect());
        let core = CoreSettings::new(options, &driftline_formats::ALL);
        if let Err(errors) = &core {
            let about: [&dyn Described; 3] =
                [&table::SESSION_GAP_S, &table::SESSION_CAP_S, &table::SESSION_RETENTION_S];
            errors.0.iter().for_each(|error| settings.contradiction(&about, error));
        }
        Ok(Self {
            kafka: kafka(settings, "correlator"),
            kafka_wait: settings.get(&table::KAFKA_WAIT_S),
            identity: Identity::read(settings),
            telemetry: settings.get(&table::TELEMETRY_ADDR),
            core: core?,
            formats,
        })
    }
}

fn options(settings: &mut Settings, formats: BTreeSet<&'static str>) -> Options {
    let defaults = Options::default();
    let options = Options {
        session_gap: settings.get(&table::SESSION_GAP_S),
        session_cap: settings.get(&table::SESSION_CAP_S),
        retention: settings.get(&table::SESSION_RETENTION_S),
        threshold: settings.choice(&table::ALERT_THRESHOLD, &THRESHOLDS).unwrap_or(defaults.threshold),
        sessions_bytes_max: usize::try_from(settings.get(&table::SESSIONS_MAX_MB)).unwrap_or(usize::MAX),
        formats,
        ..defaults
    };
    options.with_versions()
}

/// Formats beside Avro, by name; `none` for none.
fn formats(settings: &mut Settings) -> Vec<&'static SiemFormat> {
    let mut formats = Vec::new();
    for name in settings.get(&table::ALERT_FORMATS).iter().filter(|name| *name != "none") {
        match driftline_formats::named(name) {
            Some(format) => formats.push(format),
            None => {
                let known: Vec<_> = driftline_formats::ALL.iter().map(|format| format.name).chain(["none"]).collect();
                let why = format!("is no alert format; known: {}", known.join(", "));
                settings.refuse(&table::ALERT_FORMATS, format_args!("{name:?}"), why);
            }
        }
    }
    formats
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_correlator_core::limits::{SESSIONS_BYTES_MAX, SESSIONS_BYTES_MIN};

    fn settings(pairs: &'static [(&'static str, &'static str)]) -> Settings {
        Settings::of_values(pairs.iter().copied())
    }

    #[test]
    fn every_setting_of_the_correlator_is_read_and_no_other() {
        let mut settings = settings(&[("KAFKA_BOOTSTRAP", "a:1")]);
        start_logs(&mut settings);
        Configuration::read(&mut settings).ok().unwrap();
        settings.finish().unwrap();
        assert_eq!(settings.names_read(), table::names_of(Program::Correlator));
    }

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_core() {
        let read = options(&mut settings(&[]), BTreeSet::new());
        assert_eq!(read, Options::default().with_versions());
        let least = settings(&[("DRIFTLINE_SESSIONS_MAX_MB", "32")]).get(&table::SESSIONS_MAX_MB);
        assert_eq!(usize::try_from(least), Ok(SESSIONS_BYTES_MIN));
        assert_eq!(read.sessions_bytes_max, SESSIONS_BYTES_MAX);
    }

    #[test]
    fn contradictions_and_unknown_formats_are_refused_together() {
        let mut settings = settings(&[
            ("KAFKA_BOOTSTRAP", "a:1"),
            ("DRIFTLINE_SESSION_CAP_S", "60"),
            ("DRIFTLINE_ALERT_FORMATS", "ocsf,xml"),
        ]);
        let _ = Configuration::read(&mut settings);
        let message = settings.finish().unwrap_err().to_string();
        let names = "DRIFTLINE_SESSION_GAP_S, DRIFTLINE_SESSION_CAP_S, DRIFTLINE_SESSION_RETENTION_S: ";
        assert!(message.contains(&format!("{names}the session cap must not be shorter")), "{message}");
        assert!(message.contains("DRIFTLINE_ALERT_FORMATS: \"xml\" is no alert format"), "{message}");
    }
}
