//! The configuration file: TOML, whose keys are the names of settings.
//!
//! One file serves every program. A key at the top level applies to every program that has the setting; a key in the
//! table of a program (`[enricher]`) applies to that program, and takes precedence. Every program refuses a key that no
//! program knows, so that a misspelled name is found in any table. A program does not read the values of other
//! programs' settings.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::kind::Shape;
use crate::nearest::suggestion;
use crate::{Described, Program, table};

/// Keys and values of a file, as far as one program may read them.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    line: usize,
    value: Value,
}

/// A value of TOML, in the forms that a setting can have.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Integer(i64),
    Texts(Vec<String>),
    /// Another type, with its name.
    Other(&'static str),
}

impl File {
    /// Reads a file for a program. The second part of the result lists the problems, one line each.
    pub(crate) fn load(path: &Path, program: Program) -> (Self, Vec<String>) {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, program),
            Err(error) => {
                let problem = format!("{}: cannot read the configuration file: {error}", path.display());
                (Self { path: path.to_owned(), entries: Vec::new() }, vec![problem])
            }
        }
    }

    pub(crate) fn parse(path: &Path, text: &str, program: Program) -> (Self, Vec<String>) {
        let line_at = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut problems = Vec::new();
        for error in errors {
            let line = line_at(error.span().map_or(0, |span| span.start));
            // Only the message: the excerpt that the error shows of the file can contain a secret.
            problems.push(format!("{}:{line}: {}", path.display(), error.message()));
        }
        let mut reader = Reader { path, program, line_at: &line_at, problems, top: Vec::new(), own: Vec::new() };
        reader.top_level(document.get_ref());
        let Reader { problems, top, own, .. } = reader;
        // The first entry of a key is used.
        let entries = own.into_iter().chain(top).collect();
        (Self { path: path.to_owned(), entries }, problems)
    }

    /// The text that the file has for a setting, in the form of the environment, and its position.
    pub(crate) fn find(&self, setting: &dyn Described) -> Option<(Result<String, String>, String)> {
        let key = setting.key();
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        // As in the environment, an empty text counts as not set; an empty array is an empty list.
        if matches!(&entry.value, Value::Text(text) if text.trim().is_empty()) {
            return None;
        }
        Some((entry.value.text(setting), format!("{}:{}", self.path.display(), entry.line)))
    }
}

struct Reader<'a> {
    path: &'a Path,
    program: Program,
    line_at: &'a dyn Fn(usize) -> usize,
    problems: Vec<String>,
    top: Vec<Entry>,
    own: Vec<Entry>,
}

impl Reader<'_> {
    fn top_level(&mut self, document: &DeTable<'_>) {
        for (key, value) in document {
            let name = key.get_ref().as_ref();
            match (program_named(name), value.get_ref()) {
                (Some(program), DeValue::Table(table)) => self.program_table(program, table),
                (Some(program), _) => {
                    self.refuse(key, &format!("is a program: its settings stand below [{}]", program.name()))
                }
                _ if is_known(name) => {
                    let entry = self.entry(key, value.get_ref());
                    self.top.push(entry);
                }
                _ => {
                    let programs = Program::ALL.into_iter().map(|program| program.name().to_owned());
                    let names: Vec<String> = table::all().map(Described::key).chain(programs).collect();
                    let near = suggestion(name, names.iter().map(String::as_str));
                    self.refuse(key, &format!("is not a setting{near}"));
                }
            }
        }
    }

    fn program_table(&mut self, program: Program, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let owner = program.name();
            if table::of(program).any(|setting| setting.key() == name) {
                let entry = self.entry(key, value.get_ref());
                if program == self.program {
                    self.own.push(entry);
                }
            } else if is_known(name) {
                self.refuse(key, &format!("is not a setting of [{owner}]"));
            } else {
                let keys: Vec<String> = table::of(program).map(Described::key).collect();
                let near = suggestion(name, keys.iter().map(String::as_str));
                self.refuse(key, &format!("in [{owner}] is not a setting{near}"));
            }
        }
    }

    fn entry(&self, key: &Spanned<DeString<'_>>, value: &DeValue<'_>) -> Entry {
        Entry { key: key.get_ref().to_string(), line: (self.line_at)(key.span().start), value: Value::of(value) }
    }

    fn refuse(&mut self, key: &Spanned<DeString<'_>>, why: &str) {
        let line = (self.line_at)(key.span().start);
        self.problems.push(format!("{}:{line}: {} {why}", self.path.display(), key.get_ref()));
    }
}

fn program_named(name: &str) -> Option<Program> {
    Program::ALL.into_iter().find(|program| program.name() == name)
}

fn is_known(key: &str) -> bool {
    table::all().any(|setting| setting.key() == key)
}

impl Value {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => Self::Integer(number),
                Err(_) => Self::Other("an integer of more than 64 bits"),
            },
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Boolean(_) => Self::Other("a boolean"),
            DeValue::Datetime(_) => Self::Other("a time"),
            DeValue::Table(_) => Self::Other("a table"),
            DeValue::Array(parts) => {
                let text = |part: &Spanned<DeValue<'_>>| part.get_ref().as_str().map(str::to_owned);
                let texts: Option<Vec<String>> = parts.iter().map(text).collect();
                texts.map_or(Self::Other("an array with something else than strings"), Self::Texts)
            }
        }
    }

    /// The value in the form of the environment.
    fn text(&self, setting: &dyn Described) -> Result<String, String> {
        let other = |what: &str| Err(format!("is {what}; accepted: {}", setting.accepts()));
        match (self, setting.shape()) {
            (Self::Text(text), _) => Ok(text.trim().to_owned()),
            (Self::Integer(number), Shape::Number) => Ok(number.to_string()),
            (Self::Texts(texts), Shape::List(separator)) => match texts.iter().find(|text| text.contains(separator)) {
                Some(_) => other(&format!("an array with a string that contains {separator:?}")),
                None => Ok(texts.join(&separator.to_string())),
            },
            (Self::Integer(_), _) => other("an integer"),
            (Self::Texts(_), _) => other("an array"),
            (Self::Other(what), _) => other(what),
        }
    }
}

#[cfg(test)]
mod tests;
