//! Settings that several services turn into the same type. The names and grammars are in `driftline-settings`.

use driftline_kafka::ClientSettings;
use driftline_settings::{Settings, table};

/// The instance of a service, and its delivery guarantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Stable name: the same after a restart, different from every other instance's.
    pub instance: String,
    /// Delivery.
    pub mode: Mode,
}

/// Whether a crash can lead to duplicate outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never, for readers of committed records; costs a transaction per commit.
    ExactlyOnce,
    /// Yes, with the same ids.
    AtLeastOnce,
}

impl Identity {
    /// Reads the settings. Two instances of a service with the same name fence each other.
    #[must_use]
    pub fn read(settings: &mut Settings) -> Self {
        let modes = [("exactly-once", Mode::ExactlyOnce), ("at-least-once", Mode::AtLeastOnce)];
        Self {
            instance: settings.get(&table::INSTANCE),
            mode: settings.choice(&table::DELIVERY, &modes).unwrap_or(Mode::ExactlyOnce),
        }
    }
}

/// Cluster, prefix and partition count, which every part of driftline shares. The client id is the part's name.
#[must_use]
pub fn kafka(settings: &mut Settings, client: &str) -> ClientSettings {
    ClientSettings {
        bootstrap: settings.required(&table::KAFKA_BOOTSTRAP).join(","),
        prefix: settings.get(&table::TOPIC_PREFIX),
        partitions: i32::try_from(settings.get(&table::PARTITIONS)).unwrap_or(1),
        client_id: format!("driftline-{client}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &'static [(&'static str, &'static str)]) -> Settings {
        Settings::of_values(pairs.iter().copied())
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
        let _ = kafka(&mut settings, "test");
        let _ = settings.get(&table::TELEMETRY_ADDR);
        assert_eq!(settings.get(&table::CLUSTER), "prod");
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
    fn the_brokers_must_be_named_and_the_rest_has_defaults() {
        let mut empty = settings(&[]);
        let kafka = kafka(&mut empty, "test");
        assert_eq!((kafka.prefix.as_str(), kafka.partitions), ("driftline", 12));
        assert!(empty.finish().unwrap_err().to_string().contains("KAFKA_BOOTSTRAP: is not set"));
        let mut brokers = settings(&[("KAFKA_BOOTSTRAP", "a:1, b:2")]);
        assert_eq!(super::kafka(&mut brokers, "test").bootstrap, "a:1,b:2");
    }
}
