use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Settings, is_of_kubernetes, unknown};
use crate::file::File;
use crate::kind::{Kind, Secret, Text};
use crate::{Described, Program, Setting, table};

fn environment(pairs: &'static [(&'static str, &'static str)]) -> Settings {
    Settings::of_values(pairs.iter().copied())
}

fn with_file(pairs: &'static [(&'static str, &'static str)], text: &str) -> Settings {
    let (file, problems) = File::parse(Path::new("d.toml"), text, Program::Enricher);
    Settings { file: Some(Arc::new(file)), problems, ..environment(pairs) }
}

#[test]
fn every_name_and_key_is_used_once_and_every_default_is_accepted() {
    let names: Vec<&str> = table::all().map(Described::name).collect();
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len());
    for setting in table::all() {
        assert!(!setting.programs().is_empty(), "{}", setting.name());
        if let Some(example) = setting.example() {
            assert_eq!(setting.check(example), Ok(()), "{}", setting.name());
        }
        assert!(Program::ALL.iter().all(|program| program.name() != setting.key()), "{}", setting.key());
    }
    let mut empty = environment(&[]);
    assert_eq!(empty.get(&table::RING_KIB), 4 << 20);
    assert_eq!(empty.get(&table::PARK_MS), Duration::from_secs(5));
    assert_eq!(empty.get(&table::STORE_MAX_MB), 4_000_000_000);
    assert_eq!(empty.get(&table::ALERT_FORMATS), ["ocsf"]);
    assert!(!empty.get(&table::NODE).is_empty());
    empty.finish().unwrap();
}

#[test]
fn what_is_not_set_takes_its_default_and_what_is_required_is_asked_for() {
    let mut empty = environment(&[("DRIFTLINE_CLUSTER", "  ")]);
    assert_eq!(empty.get(&table::PARTITIONS), 12);
    assert_eq!(empty.get(&table::CLUSTER), "default");
    assert_eq!(empty.optional(&table::CLUSTER), None);
    let _ = empty.required(&table::KAFKA_BOOTSTRAP);
    let message = empty.finish().unwrap_err().to_string();
    assert!(message.contains("KAFKA_BOOTSTRAP: is not set, for example KAFKA_BOOTSTRAP=127.0.0.1:9092"), "{message}");
}

#[test]
fn an_empty_array_is_an_empty_list_and_no_value_for_what_is_required() {
    let mut settings = with_file(&[], "alert_formats = []\nkafka_bootstrap = []\n");
    assert_eq!(settings.get(&table::ALERT_FORMATS), Vec::<String>::new());
    let _ = settings.required(&table::KAFKA_BOOTSTRAP);
    assert!(settings.finish().unwrap_err().to_string().contains("KAFKA_BOOTSTRAP: is not set"));
    let mut settings = with_file(&[], "kafka_bootstrap = 9092\n");
    let _ = settings.required(&table::KAFKA_BOOTSTRAP);
    let message = settings.finish().unwrap_err().to_string();
    assert!(message.contains("kafka_bootstrap: its value is an integer") && !message.contains("not set"), "{message}");
}

#[test]
fn the_environment_wins_over_the_file_which_wins_over_the_default() {
    let mut settings = with_file(
        &[("DRIFTLINE_CLUSTER", "environment"), ("DRIFTLINE_NODE", "")],
        "cluster = \"file\"\nnode = \"file\"\ninstance = \"\"\n",
    );
    assert_eq!(settings.get(&table::CLUSTER), "environment");
    assert_eq!(settings.get(&table::NODE), "file", "an empty variable counts as not set");
    assert_eq!(settings.optional(&table::INSTANCE), None, "so does an empty value of the file");
    assert_eq!(settings.get(&table::PARTITIONS), 12);
    settings.finish().unwrap();
}

#[test]
fn every_problem_of_both_sources_is_in_one_message_with_its_source_and_what_is_accepted() {
    let mut settings = with_file(
        &[("KAFKA_BOOTSTRAP", "nowhere"), ("DRIFTLINE_TOPIC_PREFIX", "a_b"), ("DRIFTLINE_RING_KIB", "100")],
        "partitions = 0\n\ntelemetry_addr = \"localhost\"\ntrust = \"nobody\"\nsesion_gap_s = 1\npark_ms = true\n",
    );
    let _ = settings.required(&table::KAFKA_BOOTSTRAP);
    let _ = settings.get(&table::TOPIC_PREFIX);
    let _ = settings.get(&table::RING_KIB);
    let _ = settings.get(&table::PARTITIONS);
    let _ = settings.get(&table::TELEMETRY_ADDR);
    let _ = settings.choice(&table::TRUST, &[("any-node", 0)]);
    let _ = settings.get(&table::PARK_MS);
    // A problem of a setting that is read twice is listed once.
    let _ = (settings.get(&table::PARTITIONS), settings.get(&table::PARK_MS));
    let message = settings.finish().unwrap_err().to_string();
    let lines: Vec<&str> = message.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "8 of the settings cannot be used:",
            "d.toml:5: sesion_gap_s is not a setting; did you mean session_gap_s?",
            "KAFKA_BOOTSTRAP: \"nowhere\" is not host:port (environment)",
            "DRIFTLINE_TOPIC_PREFIX: \"a_b\" contains '_': Kafka mixes it up with '.' in metric names (environment)",
            "DRIFTLINE_RING_KIB: 100 is not a power of two between 64 and 1048576 (environment)",
            "partitions: 0 is not between 1 and 1000 (d.toml:1)",
            "telemetry_addr: \"localhost\" is not an address like 127.0.0.1:9460 (d.toml:3)",
            "trust: \"nobody\" is none of any-node, same-node, verified-only (d.toml:4)",
            "park_ms: its value is a boolean; accepted: 0 to 60000 ms (d.toml:6)",
        ]
    );
}

#[test]
fn the_value_of_a_secret_is_in_no_error() {
    static PASSWORD: Setting<Secret<Pin>> =
        Setting { name: "DRIFTLINE_REGISTRY_PROXY", programs: &[Program::Indexer], kind: Secret(Pin), about: "" };
    for mut settings in
        [environment(&[("DRIFTLINE_REGISTRY_PROXY", "hunter2")]), with_file(&[], "registry_proxy = \"hunter2\"\n")]
    {
        let _ = settings.get(&PASSWORD);
        settings.refuse(&PASSWORD, "hunter2", "is not a URL");
        assert!(!format!("{settings:?}").contains("hunter2"));
        let message = settings.finish().unwrap_err().to_string();
        assert!(
            message.contains("its value is not a pin (") && message.contains("its value is not a URL ("),
            "{message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }
    let mut settings = with_file(&[], "registry_proxy = [\"hunter2\"]\n");
    let _ = settings.get(&table::REGISTRY_PROXY);
    let message = settings.finish().unwrap_err().to_string();
    assert!(message.contains("registry_proxy: its value is an array") && !message.contains("hunter2"), "{message}");
}

/// A kind that refuses every value, and shows it.
struct Pin;

impl Kind for Pin {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, crate::kind::Refusal> {
        Err(crate::kind::Refusal { value: text.to_owned(), why: "is not a pin".to_owned() })
    }

    fn default(&self) -> String {
        Text { default: "", form: "" }.default()
    }

    fn placeholder(&self) -> String {
        String::new()
    }

    fn accepts(&self) -> String {
        String::new()
    }
}

#[test]
fn a_word_without_meaning_to_the_program_is_refused() {
    let mut settings = environment(&[("DRIFTLINE_TRUST", "same-node")]);
    assert_eq!(settings.choice(&table::TRUST, &[("any-node", 1)]), None);
    assert!(settings.finish().unwrap_err().to_string().contains("\"same-node\" has no meaning"));
}

#[test]
fn variables_that_are_named_like_settings_and_are_none_are_warned_of() {
    assert_eq!(
        unknown("DRIFTLINE_SESION_GAP_S").as_deref(),
        Some("DRIFTLINE_SESION_GAP_S in the environment is not a setting; did you mean DRIFTLINE_SESSION_GAP_S?")
    );
    assert_eq!(unknown("DRIFTLINE_COLOUR").as_deref(), Some("DRIFTLINE_COLOUR in the environment is not a setting"));
    for known in ["DRIFTLINE_STRICT", "DRIFTLINE_CONFIG", "KAFKA_BOOTSTRAP", "PATH"] {
        assert_eq!(unknown(known), None);
    }
    let service = "DRIFTLINE_COLLECTOR";
    for rest in ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_9460_TCP", "PORT_9460_TCP_ADDR"] {
        assert!(is_of_kubernetes(&format!("{service}_{rest}")), "{rest}");
    }
    assert!(table::all().all(|setting| !is_of_kubernetes(setting.name())));
}
