//! Reads settings, and collects problems.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use crate::file::File;
use crate::kind::{Choice, Kind, Required};
use crate::nearest::suggestion;
use crate::setting::PREFIX;
use crate::{Described, Program, Setting, table};

/// All problems of the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} of the settings cannot be used:\n  {}", .0.len(), .0.join("\n  "))]
pub struct SettingsError(Vec<String>);

/// Reads settings from the environment and a configuration file, and collects problems.
///
/// A clone reads the same sources, and starts with the problems of the original.
#[derive(Clone)]
pub struct Settings {
    environment: Arc<BTreeMap<String, String>>,
    file: Option<Arc<File>>,
    warnings: Vec<String>,
    problems: Vec<String>,
    names_read: Vec<&'static str>,
}

impl std::fmt::Debug for Settings {
    /// Prints no values, since some are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("problems", &self.problems).finish_non_exhaustive()
    }
}

/// A value that was set.
struct Found {
    text: String,
    /// The setting's name, as written in the source.
    name: String,
    /// Where it was set.
    source: String,
}

impl Settings {
    /// Reads the environment of this process, and the configuration file named by its command line (`config`) or else
    /// by `DRIFTLINE_CONFIG`.
    #[must_use]
    pub fn of_process(program: Program, config: Option<&Path>) -> Self {
        let settings = Self::of_environment();
        let named = settings.environment(table::CONFIG);
        match config.or(named.as_deref().map(Path::new)) {
            Some(path) => settings.with_file(path, program),
            None => settings,
        }
    }

    pub(crate) fn with_file(mut self, path: &Path, program: Program) -> Self {
        let (file, problems) = File::load(path, program);
        self.file = Some(Arc::new(file));
        self.problems.extend(problems);
        self
    }

    /// Reads only the environment of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_environment() -> Self {
        let mut values = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(values.insert(name, value)),
                Err(_) if is_setting(&name) => problems.push(format!("{name}: its value is not UTF-8 (environment)")),
                Err(_) => {}
            }
        }
        let warnings = values.keys().filter_map(|name| unknown(name)).collect();
        Self { warnings, problems, ..Self::of_values(values) }
    }

    /// Reads these variables in place of the environment.
    #[must_use]
    pub fn of_values<N: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (N, V)>) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self {
            environment: Arc::new(values.collect()),
            file: None,
            warnings: Vec::new(),
            problems: Vec::new(),
            names_read: Vec::new(),
        }
    }

    /// The value of a setting, or its default.
    pub fn get<K: Kind + Sync>(&mut self, setting: &Setting<K>) -> K::Value {
        let found = self.find(setting);
        self.value(setting, found)
    }

    /// The value, if one was set.
    pub fn optional<K: Kind + Sync>(&mut self, setting: &Setting<K>) -> Option<K::Value> {
        let found = self.find(setting)?;
        Some(self.value(setting, Some(found)))
    }

    /// The value of a setting that is required.
    pub fn required<K: Kind + Sync>(&mut self, setting: &Setting<Required<K>>) -> K::Value {
        let before = self.problems.len();
        let found = self.find(setting).filter(|found| !found.text.is_empty());
        if found.is_some() {
            return self.value(setting, found);
        }
        // The variable can be set to a text that is not a value of the setting.
        if self.problems.len() == before {
            let (name, example) = (setting.name, setting.kind.example);
            self.note(format!("{name}: is not set, for example {name}={example}"));
        }
        setting.kind.placeholder()
    }

    /// This program's value for the chosen word; `None` when the setting was refused. `values` contains every word of
    /// the setting.
    pub fn choice<T: Copy>(&mut self, setting: &Setting<Choice>, values: &[(&str, T)]) -> Option<T> {
        let word = self.get(setting);
        let value = values.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if value.is_none() {
            self.refuse(setting, format_args!("{word:?}"), "has no meaning in this program");
        }
        value
    }

    /// A variable of the environment that is not a setting, if it is set and not empty.
    #[must_use]
    pub fn environment(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Records a problem that a program found in a value. `why` continues `value`. The value of a secret is left out,
    /// so `why` must describe the problem without the value. For another setting `value` may be the whole sentence.
    pub fn refuse<K: Kind + Sync>(&mut self, setting: &Setting<K>, value: impl Display, why: impl Display) {
        let (name, source) = match self.find(setting) {
            Some(found) => (found.name, found.source),
            None => (setting.name.to_owned(), "default".to_owned()),
        };
        let value = if setting.is_secret() { "its value".to_owned() } else { value.to_string() };
        let what = format!("{value} {why}");
        self.note(format!("{name}: {} ({source})", what.trim()));
    }

    /// Records a contradiction between settings, each of which is valid alone.
    pub fn contradiction(&mut self, settings: &[&dyn Described], why: impl Display) {
        let names: Vec<&str> = settings.iter().map(|setting| setting.name()).collect();
        self.note(format!("{}: {why}", names.join(", ")));
    }

    /// Records a problem once, even if the setting is read twice.
    fn note(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The error that lists every problem so far, or nothing.
    ///
    /// # Errors
    /// When any setting read so far cannot be used, or when the configuration file has a key that no program knows.
    pub fn finish(&mut self) -> Result<(), SettingsError> {
        if self.problems.is_empty() { Ok(()) } else { Err(SettingsError(std::mem::take(&mut self.problems))) }
    }

    /// Warnings about the environment that do not keep a program from starting.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Names of the settings read so far, sorted.
    #[must_use]
    pub fn names_read(&self) -> Vec<&'static str> {
        let mut names = self.names_read.clone();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn value<K: Kind + Sync>(&mut self, setting: &Setting<K>, found: Option<Found>) -> K::Value {
        let text = found.map_or_else(|| setting.kind.default(), |found| found.text);
        match setting.kind.parse(&text) {
            Ok(value) => value,
            Err(refusal) => {
                self.refuse(setting, refusal.value, refusal.why);
                setting.kind.placeholder()
            }
        }
    }

    /// Finds the source of a setting. An empty value counts as not set.
    fn find(&mut self, setting: &dyn Described) -> Option<Found> {
        self.names_read.push(setting.name());
        if let Some(text) = self.environment(setting.name()) {
            return Some(Found { text, name: setting.name().to_owned(), source: "environment".to_owned() });
        }
        let (text, source) = self.file.as_ref()?.find(setting)?;
        let name = setting.key();
        match text {
            Ok(text) => Some(Found { text, name, source }),
            Err(why) => {
                self.note(format!("{name}: its value {why} ({source})"));
                None
            }
        }
    }
}

fn is_setting(name: &str) -> bool {
    name == table::CONFIG || table::all().any(|setting| setting.name() == name)
}

/// The warning about a variable that has the prefix of a setting but is not one.
fn unknown(name: &str) -> Option<String> {
    if !name.starts_with(PREFIX) || is_setting(name) || is_of_kubernetes(name) {
        return None;
    }
    let near = suggestion(name, table::all().map(Described::name).chain([table::CONFIG]));
    Some(format!("{name} in the environment is not a setting{near}"))
}

/// Kubernetes sets such variables in every pod for each service of its namespace. Those of a service named
/// `driftline-collector` begin with `DRIFTLINE_COLLECTOR_`.
fn is_of_kubernetes(name: &str) -> bool {
    let is_port = |rest: &str| rest.is_empty() || rest.starts_with('_');
    let has_port = name.match_indices("_PORT").any(|(at, found)| name.get(at + found.len()..).is_some_and(is_port));
    has_port || name.ends_with("_SERVICE_HOST")
}

#[cfg(test)]
mod tests;
