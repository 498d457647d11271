//! Options of the command line that correspond to settings. An option takes precedence over the environment, which
//! takes precedence over the configuration file. Names, ranges and explanations are those of the table of settings.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use driftline_correlator_core::SiemFormat;
use driftline_enricher_core::Trust;
use driftline_kafka::ClientSettings;
use driftline_settings::document::option_help;
use driftline_settings::kind::{Choice, Kind};
use driftline_settings::{Setting, Settings, table};

/// Default brokers: those of a trial on this machine.
const BROKERS: &str = "127.0.0.1:9092";

/// Which Kafka, and which topics.
#[derive(Debug, Args)]
pub(crate) struct KafkaOptions {
    #[arg(long, global = true, value_name = "BROKERS", help = option_help(&table::KAFKA_BOOTSTRAP), value_parser = text_of(&table::KAFKA_BOOTSTRAP))]
    bootstrap: Option<String>,
    #[arg(long, global = true, help = option_help(&table::TOPIC_PREFIX), value_parser = value_of(&table::TOPIC_PREFIX))]
    pub(crate) prefix: Option<String>,
    #[arg(long, global = true, help = option_help(&table::PARTITIONS), value_parser = value_of(&table::PARTITIONS))]
    partitions: Option<i64>,
}

impl KafkaOptions {
    /// The settings, with the options of the command line in their place.
    pub(crate) fn read(&self, settings: &mut Settings) -> ClientSettings {
        let Self { bootstrap, prefix, partitions } = self;
        let set = |settings: &mut Settings| match settings.optional(&table::KAFKA_BOOTSTRAP) {
            Some(brokers) => brokers.join(","),
            None => BROKERS.to_owned(),
        };
        let partitions = partitions.unwrap_or_else(|| settings.get(&table::PARTITIONS));
        ClientSettings {
            bootstrap: bootstrap.clone().unwrap_or_else(|| set(settings)),
            prefix: prefix.clone().unwrap_or_else(|| settings.get(&table::TOPIC_PREFIX)),
            partitions: i32::try_from(partitions).unwrap_or(1),
            client_id: "driftline-cli".to_owned(),
        }
    }
}

/// How many copies of each record new topics have.
#[derive(Debug, Args)]
pub(crate) struct ReplicationOption {
    #[arg(long, help = option_help(&table::REPLICATION), value_parser = value_of(&table::REPLICATION))]
    replication: Option<i64>,
}

impl ReplicationOption {
    /// The option, or the setting.
    pub(crate) fn read(&self, settings: &mut Settings) -> i32 {
        let replication = self.replication.unwrap_or_else(|| settings.get(&table::REPLICATION));
        i32::try_from(replication).unwrap_or(1)
    }
}

/// Whose publications of images count.
#[derive(Debug, Args)]
pub(crate) struct TrustOption {
    #[arg(long, help = option_help(&table::TRUST), value_parser = word_of(&table::TRUST, &Trust::NAMES))]
    trust: Option<Trust>,
}

impl TrustOption {
    /// The option, or the setting.
    pub(crate) fn read(&self, settings: &mut Settings) -> Trust {
        let set = |settings: &mut Settings| settings.choice(&table::TRUST, &Trust::NAMES).unwrap_or_default();
        self.trust.unwrap_or_else(|| set(settings))
    }
}

/// Parses an option like the setting.
pub(crate) fn value_of<K: Kind + Sync>(
    setting: &'static Setting<K>,
) -> impl Fn(&str) -> Result<K::Value, String> + Clone {
    |text| setting.kind.parse(text).map_err(|refusal| format!("{} {}", refusal.value, refusal.why))
}

/// Checks an option like the setting, and leaves it as text.
fn text_of<K: Kind + Sync>(setting: &'static Setting<K>) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |text| value_of(setting)(text).map(|_| text.to_owned())
}

/// Parses one of the words of a setting.
pub(crate) fn word_of<T: Copy + Send + Sync + 'static>(
    setting: &'static Setting<Choice>,
    values: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(setting.kind.words).try_map(|word| {
        let value = values.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        value.ok_or("it has no meaning in this program")
    })
}

/// The parser of an option that takes a SIEM format, or one of `own` values.
pub(crate) fn format_of<T: Copy + Send + Sync + 'static>(
    own: &'static [(&'static str, T)],
    siem: fn(&'static SiemFormat) -> T,
) -> impl TypedValueParser<Value = T> {
    let formats = driftline_formats::ALL.iter().map(|format| format.name);
    PossibleValuesParser::new(own.iter().map(|(name, _)| *name).chain(formats)).try_map(move |word| {
        let own = own.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        own.or_else(|| driftline_formats::named(&word).map(siem)).ok_or("it is no format")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches as _};

    fn kafka(arguments: &[&str], set: &'static [(&'static str, &'static str)]) -> Result<ClientSettings, String> {
        let command = KafkaOptions::augment_args(Command::new("test").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let options = KafkaOptions::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let mut settings = Settings::of_values(set.iter().copied());
        let read = options.read(&mut settings);
        settings.finish().map(|()| read).map_err(|error| error.to_string())
    }

    #[test]
    fn an_option_wins_over_the_setting_even_if_that_is_wrong() {
        let read = kafka(&["--partitions", "3"], &[("DRIFTLINE_PARTITIONS", "x"), ("DRIFTLINE_TOPIC_PREFIX", "p")]);
        let read = read.unwrap();
        assert_eq!((read.partitions, read.prefix.as_str(), read.bootstrap.as_str()), (3, "p", BROKERS));
        assert!(kafka(&[], &[("DRIFTLINE_PARTITIONS", "x")]).unwrap_err().contains("\"x\" is not a whole number"));
    }

    #[test]
    fn an_option_is_read_as_the_setting_is() {
        assert!(kafka(&["--partitions", "0"], &[]).unwrap_err().contains("0 is not between 1 and 1000"));
        assert!(kafka(&["--bootstrap", "nowhere"], &[]).unwrap_err().contains("\"nowhere\" is not host:port"));
        assert_eq!(kafka(&["--bootstrap", "a:1,b:2"], &[]).unwrap().bootstrap, "a:1,b:2");
    }
}
