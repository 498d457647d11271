use std::path::Path;

use super::File;
use crate::{Program, table};

fn parse(text: &str, program: Program) -> (File, Vec<String>) {
    File::parse(Path::new("driftline.toml"), text, program)
}

#[track_caller]
fn check_problems(text: &str, expect: &[&str]) {
    assert_eq!(parse(text, Program::Enricher).1, expect, "{text}");
}

#[test]
fn keys_of_every_program_are_accepted_and_others_refused_with_the_nearest() {
    check_problems(
        "kafka_bootstrap = \"a:1\"\nsession_gap_s = 5\nstrict = \"off\"\n[correlator]\nsession_gap_s = 6\n",
        &[],
    );
    check_problems(
        "# comment\n\nsesion_gap_s = 5\n",
        &["driftline.toml:3: sesion_gap_s is not a setting; did you mean session_gap_s?"],
    );
    check_problems("colour = 5", &["driftline.toml:1: colour is not a setting"]);
    check_problems("config = \"x\"", &["driftline.toml:1: config is not a setting"]);
    check_problems("[corelator]\n", &["driftline.toml:1: corelator is not a setting; did you mean correlator?"]);
    check_problems(
        "correlator = 1\n",
        &["driftline.toml:1: correlator is a program: its settings stand below [correlator]"],
    );
}

#[test]
fn the_table_of_a_program_has_its_settings_only_whoever_reads_it() {
    check_problems(
        "[enricher]\nsession_gap_s = 5\n",
        &["driftline.toml:2: session_gap_s is not a setting of [enricher]"],
    );
    check_problems(
        "[correlator]\nsession_gp_s = 5\n",
        &["driftline.toml:2: session_gp_s in [correlator] is not a setting; did you mean session_gap_s?"],
    );
    check_problems(
        "[enricher]\nprak_ms = 5\n",
        &["driftline.toml:2: prak_ms in [enricher] is not a setting; did you mean park_ms?"],
    );
}

#[test]
fn a_program_reads_its_table_before_the_top_level_and_no_other() {
    let text = "cluster = \"top\"\n[enricher]\ncluster = \"own\"\n[indexer]\nnode = \"n\"\n";
    let cluster = |program| parse(text, program).0.find(&table::CLUSTER).unwrap();
    assert_eq!(cluster(Program::Enricher), (Ok("own".to_owned()), "driftline.toml:3".to_owned()));
    assert_eq!(cluster(Program::Collector), (Ok("top".to_owned()), "driftline.toml:1".to_owned()));
    assert!(parse(text, Program::Collector).0.find(&table::NODE).is_none());
}

#[test]
fn every_error_of_syntax_is_reported_without_what_the_file_says() {
    let (_, problems) = parse("registry_proxy = hunter2\ncluster = \"a\"\ncluster = \"b\"\n", Program::Indexer);
    assert!(problems.len() >= 2, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.starts_with("driftline.toml:1: ")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.starts_with("driftline.toml:3: ")), "{problems:?}");
    assert!(!problems.concat().contains("hunter2"), "{problems:?}");
}

#[test]
fn values_may_be_native_or_text() {
    let (file, problems) = parse(
        "partitions = 0x10\npark_ms = \"7\"\nalert_formats = [\"ocsf\", \"none\"]\nredact_args = [\"a b\", 'c\\d']\n\
         trust = 5\ncluster = true\nstore_max_mb = 1.5\npod_annotations = [\"a,b\"]\ncri_socket = [1]\nnode = [\"n\"]\n",
        Program::Enricher,
    );
    assert!(problems.is_empty(), "{problems:?}");
    let text = |setting| file.find(setting).unwrap().0;
    assert_eq!(text(&table::PARTITIONS).as_deref(), Ok("16"));
    assert_eq!(text(&table::PARK_MS).as_deref(), Ok("7"));
    assert_eq!(text(&table::ALERT_FORMATS).as_deref(), Ok("ocsf,none"));
    assert_eq!(text(&table::REDACT_ARGS).as_deref(), Ok("a b\nc\\d"));
    let refused = |setting| text(setting).unwrap_err();
    assert_eq!(refused(&table::TRUST), "is an integer; accepted: `any-node`, `same-node`, `verified-only`");
    assert!(refused(&table::CLUSTER).starts_with("is a boolean; accepted: 1 to 200 letters"));
    assert_eq!(refused(&table::STORE_MAX_MB), "is a number with a fraction; accepted: 64 to 1000000000 MB");
    assert_eq!(
        refused(&table::POD_ANNOTATIONS),
        "is an array with a string that contains ','; accepted: names, comma-separated"
    );
    assert!(refused(&table::CRI_SOCKET).starts_with("is an array with something else than strings"));
    assert!(refused(&table::NODE).starts_with("is an array; accepted: "));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (_, problems) = File::load(Path::new("/nowhere/driftline.toml"), Program::Enricher);
    assert!(
        matches!(&problems[..], [problem] if problem.starts_with("/nowhere/driftline.toml: cannot read")),
        "{problems:?}"
    );
}
