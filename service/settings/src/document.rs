//! `--help`, `docs/settings.md` and `deploy/driftline.toml`, generated from the table. A test of this package compares
//! the committed files; `make generate` writes them.

use std::fmt::Write as _;

use crate::kind::Shape;
use crate::{Described, Program, table};

/// Ends the hand-written part of `docs/settings.md`.
pub const MARKER: &str = "<!-- What follows is made from service/settings/src/table by `make generate`. -->";

/// Columns of a terminal, and the indentation of the texts below a name.
const COLUMNS: usize = 100;
const INDENT: &str = "          ";

/// The settings of a program, for the end of its `--help`.
#[must_use]
pub fn help(program: Program) -> String {
    let mut text =
        "Settings, from the environment or in lower case and without DRIFTLINE_ from the configuration file:\n"
            .to_owned();
    for setting in table::of(program) {
        let plain = format!("{} ({})", setting.about(), facts(setting, program)).replace('`', "");
        let _ = writeln!(text, "\n  {}\n{}", setting.name(), wrapped(&plain));
    }
    text
}

/// The explanation of a command line option that corresponds to a setting.
#[must_use]
pub fn option_help(setting: &dyn Described) -> String {
    let default = Some(setting.default()).filter(|default| !default.is_empty());
    let default = default.map_or_else(String::new, |default| format!(" [default: {}]", one_line(&default)));
    format!("{} [env: {}]{default}", setting.about(), setting.name()).replace('`', "")
}

/// The part of `docs/settings.md` after the marker.
#[must_use]
pub fn markdown() -> String {
    let mut text = format!("{MARKER}\n");
    for section in &table::SECTIONS {
        let _ = write!(
            text,
            "\n## {}\n\n| setting | read by | default | values | meaning |\n| --- | --- | --- | --- | --- |\n",
            section.title
        );
        for setting in section.settings {
            let programs: Vec<&str> = setting.programs().iter().map(|program| program.name()).collect();
            let programs = if programs.len() == Program::ALL.len() { "all".to_owned() } else { programs.join(", ") };
            let default = default_markdown(*setting);
            let secret = if setting.is_secret() { ". The value is never printed" } else { "" };
            let _ = writeln!(
                text,
                "| `{}` | {programs} | {default} | {} | {}{secret} |",
                setting.name(),
                setting.accepts(),
                setting.about().replace('|', "\\|")
            );
        }
    }
    text
}

/// A configuration file with every setting, commented out.
#[must_use]
pub fn example() -> String {
    let mut text = "\
# Every setting of driftline, commented out, with its default or an example. One file serves all programs; a table like
# [enricher] is for one of them, and wins. The environment wins over both. See docs/settings.md.
# Made from service/settings/src/table by `make generate`.
"
    .to_owned();
    for section in &table::SECTIONS {
        let _ = writeln!(text, "\n# --- {} ---", section.title);
        for setting in section.settings {
            let about = format!("{} ({})", setting.about(), setting.accepts()).replace('`', "");
            let _ = write!(text, "\n{}\n#{} = {}\n", commented(&about), setting.key(), toml_value(*setting));
        }
    }
    text
}

/// Values, default and whether the setting is required, in brackets after the description.
fn facts(setting: &dyn Described, program: Program) -> String {
    let default = one_line(&setting.default());
    match setting.example() {
        Some(example) if program != Program::CommandLine => {
            format!("{}; has to be set, for example {example}", setting.accepts())
        }
        _ if default.is_empty() => setting.accepts(),
        _ => format!("{}; default {default}", setting.accepts()),
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

fn default_markdown(setting: &dyn Described) -> String {
    let default = setting.default();
    match setting.example() {
        Some(_) => "required".to_owned(),
        None if default.is_empty() => String::new(),
        None if default.contains(' ') || setting.shape() == Shape::Number => default,
        None if matches!(setting.shape(), Shape::List(_)) => format!("`{}`", default.replace(',', "`, `")),
        None => format!("`{default}`"),
    }
}

fn toml_value(setting: &dyn Described) -> String {
    let default = setting.default();
    let value = setting.example().map_or(default, str::to_owned);
    match setting.shape() {
        Shape::Number => value,
        Shape::List(separator) => {
            let parts: Vec<String> = value.split(separator).filter(|part| !part.is_empty()).map(quoted).collect();
            format!("[{}]", parts.join(", "))
        }
        // Not a value, but its source: the host's name.
        Shape::Text if setting.check(&value).is_err() => quoted(""),
        Shape::Text => quoted(&value),
    }
}

/// Quotes a text. Defaults and examples contain nothing that a TOML string has to escape; a test parses the file.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn commented(text: &str) -> String {
    lines(text, "# ").join("\n")
}

fn wrapped(text: &str) -> String {
    lines(text, INDENT).join("\n")
}

/// The words of a text, wrapped in lines that begin with `start`.
fn lines(text: &str, start: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = start.to_owned();
    for word in text.split_whitespace() {
        if line.len() > start.len() {
            if line.chars().count() + 1 + word.chars().count() > COLUMNS {
                lines.push(std::mem::replace(&mut line, start.to_owned()));
            } else {
                line.push(' ');
            }
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests;
