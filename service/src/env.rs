//! Settings from the environment: read everything, then report every problem at once.
//!
//! ```no_run
//! # use driftline_service::env::Settings;
//! let mut settings = Settings::of_process();
//! let kafka = settings.kafka("enricher");
//! let park_ms = settings.number("DRIFTLINE_PARK_MS", 5_000, 0..=60_000);
//! settings.finish()?; // lists what is wrong, all of it
//! # Ok::<(), driftline_service::env::SettingsError>(())
//! ```

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use driftline_kafka::ClientSettings;

/// Most partitions a setting may ask for; beyond this a Kafka topic becomes a burden of its own.
const PARTITIONS_MAX: i64 = 1_000;

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} of the settings cannot be used:\n  {}", .0.len(), .0.join("\n  "))]
pub struct SettingsError(Vec<String>);

/// Where settings come from; a function in tests.
pub trait Source {
    /// Value of a variable, if it is set.
    fn get(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Source for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Reads settings and remembers what was wrong.
pub struct Settings {
    source: Box<dyn Source>,
    problems: Vec<String>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("problems", &self.problems).finish_non_exhaustive()
    }
}

/// Which instance of a service this is, and how it delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Stable name: the same after a restart, different from every other instance's.
    pub instance: String,
    /// Delivery.
    pub mode: Mode,
}

/// Whether a crash can make outputs stand twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never, for readers of committed records; costs a transaction per commit.
    ExactlyOnce,
    /// Yes, with the same ids.
    AtLeastOnce,
}

impl Settings {
    /// Reads the environment of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self::from_source(|name: &str| std::env::var(name).ok())
    }

    /// Reads another source.
    #[must_use]
    pub fn from_source(source: impl Source + 'static) -> Self {
        Self { source: Box::new(source), problems: Vec::new() }
    }

    /// The error that lists every problem, or nothing.
    ///
    /// # Errors
    /// When any setting read so far cannot be used.
    pub fn finish(self) -> Result<(), SettingsError> {
        if self.problems.is_empty() { Ok(()) } else { Err(SettingsError(self.problems)) }
    }

    /// Notes a problem that a caller found in a value.
    pub fn refuse(&mut self, name: &str, why: impl std::fmt::Display) {
        self.problems.push(format!("{name}: {why}"));
    }

    /// Text, or nothing when it is unset or empty.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<String> {
        self.source.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Text with a default.
    #[must_use]
    pub fn text(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    /// Text that must be there.
    pub fn required(&mut self, name: &str, example: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.refuse(name, format_args!("is not set, for example {name}={example}"));
            String::new()
        })
    }

    /// A whole number within a range.
    pub fn number(&mut self, name: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let Some(text) = self.optional(name) else { return default };
        match text.parse::<i64>() {
            Ok(number) if range.contains(&number) => return number,
            Ok(number) => {
                self.refuse(name, format_args!("{number} is not between {} and {}", range.start(), range.end()));
            }
            Err(_) => self.refuse(name, format_args!("{text:?} is not a whole number")),
        }
        default
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)], default: T) -> T {
        let Some(text) = self.optional(name) else { return default };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.refuse(name, format_args!("{text:?} is none of {}", words.join(", ")));
        default
    }

    /// A socket address to listen on.
    pub fn address(&mut self, name: &str, default: SocketAddr) -> SocketAddr {
        let Some(text) = self.optional(name) else { return default };
        text.parse().unwrap_or_else(|_| {
            self.refuse(name, format_args!("{text:?} is not an address like {default}"));
            default
        })
    }

    /// A name that becomes part of a topic, group or record: letters, digits, `-`, `_`, `.`.
    pub fn name(&mut self, name: &str, default: &str) -> String {
        let text = self.text(name, default);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > 200 || !text.chars().all(fits) {
            self.refuse(name, format_args!("{text:?} is not 1 to 200 letters, digits, '-', '_' or '.'"));
        }
        text
    }

    /// Cluster, prefix and partition count, which every part of driftline shares.
    pub fn kafka(&mut self, client: &str) -> ClientSettings {
        let bootstrap = self.required("KAFKA_BOOTSTRAP", "127.0.0.1:9092");
        let malformed = |broker: &str| {
            broker.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        };
        if let Some(broker) = bootstrap.split(',').find(|broker| !bootstrap.is_empty() && malformed(broker)) {
            self.refuse("KAFKA_BOOTSTRAP", format_args!("{broker:?} is not host:port"));
        }
        let prefix = self.name("DRIFTLINE_TOPIC_PREFIX", "driftline");
        if prefix.contains('_') {
            self.refuse("DRIFTLINE_TOPIC_PREFIX", "must not contain '_': Kafka mixes it up with '.' in metric names");
        }
        let partitions = self.number("DRIFTLINE_PARTITIONS", 12, 1..=PARTITIONS_MAX);
        ClientSettings {
            bootstrap,
            prefix,
            partitions: i32::try_from(partitions).unwrap_or(1),
            client_id: format!("driftline-{client}"),
        }
    }

    /// Which instance of a service this is. Its name is the host's unless it is set; two instances of a service with the
    /// same name take each other's place.
    pub fn identity(&mut self) -> Identity {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let modes = [("exactly-once", Mode::ExactlyOnce), ("at-least-once", Mode::AtLeastOnce)];
        Identity {
            instance: self.name("DRIFTLINE_INSTANCE", &host),
            mode: self.choice("DRIFTLINE_DELIVERY", &modes, Mode::ExactlyOnce),
        }
    }

    /// How long to wait for Kafka at the start.
    pub fn kafka_wait(&mut self) -> Duration {
        let seconds = self.number("DRIFTLINE_KAFKA_WAIT_S", 30, 1..=3_600);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
    }

    /// Name of the cluster that records are attributed to.
    pub fn cluster(&mut self) -> String {
        self.name("DRIFTLINE_CLUSTER", "default")
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub fn telemetry_address(&mut self) -> SocketAddr {
        self.address("DRIFTLINE_TELEMETRY_ADDR", SocketAddr::from(([127, 0, 0, 1], 9460)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &'static [(&'static str, &'static str)]) -> Settings {
        Settings::from_source(move |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_problem_is_listed_in_one_message() {
        let mut settings = settings(&[
            ("KAFKA_BOOTSTRAP", "nowhere"),
            ("DRIFTLINE_TOPIC_PREFIX", "a b"),
            ("DRIFTLINE_PARTITIONS", "0"),
            ("DRIFTLINE_TELEMETRY_ADDR", "localhost"),
            ("DRIFTLINE_CLUSTER", "prod"),
        ]);
        let _ = settings.kafka("test");
        let _ = settings.telemetry_address();
        assert_eq!(settings.cluster(), "prod");
        let message = settings.finish().unwrap_err().to_string();
        for part in [
            "4 of the settings",
            "\"nowhere\" is not host:port",
            "\"a b\"",
            "0 is not between 1 and 1000",
            "\"localhost\"",
        ] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }

    #[test]
    fn what_is_not_set_takes_its_default_and_what_is_required_is_asked_for() {
        let mut empty = settings(&[]);
        assert_eq!(empty.number("N", 7, 0..=9), 7);
        let _ = empty.kafka("test");
        assert!(empty.finish().unwrap_err().to_string().contains("KAFKA_BOOTSTRAP: is not set"));
    }
}
