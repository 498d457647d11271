use std::path::PathBuf;

use super::{MARKER, example, help, markdown};
use crate::{Described, Program, Settings, table};

fn repository(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

/// Compares a committed file with the text generated from the table; `make generate` writes it first.
#[track_caller]
fn check(file: &str, expected: &str) {
    let path = repository(file);
    if Settings::of_environment().environment("UPDATE_GENERATED").as_deref() == Some("1") {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == expected, "{file} is not what the table of settings says: make generate");
}

#[test]
fn the_page_of_settings_is_generated() {
    const FILE: &str = "docs/settings.md";
    let found = std::fs::read_to_string(repository(FILE)).unwrap();
    let (by_hand, _) = found.split_once(MARKER).expect("the page has the marker");
    check(FILE, &format!("{by_hand}{}", markdown()));
}

#[test]
fn the_example_is_generated_and_every_line_of_it_is_accepted() {
    const FILE: &str = "deploy/driftline.toml";
    check(FILE, &example());
    let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
    let text = example();
    let lines: Vec<&str> = text.lines().filter(is_setting).map(|line| &line[1..]).collect();
    assert_eq!(lines.len(), table::all().count());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("driftline.toml");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let (found, problems) = crate::file::File::parse(&file, &lines.join("\n"), Program::Enricher);
    assert!(problems.is_empty(), "{problems:?}");
    for setting in table::all() {
        if let Some((text, place)) = found.find(setting) {
            assert_eq!(setting.check(&text.unwrap()), Ok(()), "{place}");
        }
    }
    for program in Program::ALL {
        let mut settings = Settings::of_values::<&str, &str>([]).with_file(&file, program);
        assert_eq!(settings.get(&table::PARTITIONS), 12);
        assert_eq!(settings.required(&table::KAFKA_BOOTSTRAP), ["127.0.0.1:9092"]);
        settings.finish().unwrap();
    }
}

#[test]
fn help_names_what_the_program_reads_and_nothing_else() {
    for program in Program::ALL {
        let help = help(program);
        for setting in table::all() {
            let is_named = help.contains(&format!("\n  {}\n", setting.name()));
            assert_eq!(is_named, setting.programs().contains(&program), "{} {program:?}", Described::name(setting));
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}
