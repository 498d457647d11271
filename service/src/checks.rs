//! What a doctor finds out: one line for each thing looked at, with a remedy where something is not well. Made by
//! `driftline-collector doctor` of a node, and shown with that of Kafka by `driftline doctor`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, and less well than it could.
    Warning,
    /// It does not work.
    Problem,
    /// It could not be looked at.
    NotRun,
}

impl Health {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
            Self::NotRun => "not run",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it is part of: `kernel`, `rights`, `runtimes`, `cluster`, `node` or `kafka`.
    pub area: String,
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing is to be done.
    pub remedy: String,
}

impl Check {
    /// All is well.
    #[must_use]
    pub fn ok(area: &str, name: &str, found: impl fmt::Display) -> Self {
        Self::new(area, name, Health::Ok, found, "")
    }

    /// Not all is well, and this is what to do.
    #[must_use]
    pub fn new(area: &str, name: &str, health: Health, found: impl fmt::Display, remedy: &str) -> Self {
        Self {
            area: area.to_owned(),
            name: name.to_owned(),
            health,
            found: found.to_string(),
            remedy: remedy.to_owned(),
        }
    }
}

/// Whether anything does not work.
#[must_use]
pub fn has_problem(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.health == Health::Problem)
}

/// The checks as an aligned table; a remedy stands below its line.
#[must_use]
pub fn table(checks: &[Check]) -> String {
    let width = |of: fn(&Check) -> &str| checks.iter().map(|check| of(check).chars().count()).max().unwrap_or(0);
    let (areas, names) = (width(|check| &check.area), width(|check| &check.name));
    let mut lines = Vec::new();
    for check in checks {
        let begin = format!("{:<areas$}  {:<names$}  {:<7}  ", check.area, check.name, check.health.as_str());
        let margin = " ".repeat(begin.chars().count());
        let mut found = check.found.lines();
        lines.push(format!("{begin}{}", found.next().unwrap_or_default()));
        lines.extend(found.map(|line| format!("{margin}{line}")));
        if !check.remedy.is_empty() {
            lines.push(format!("{margin}-> {}", check.remedy));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_remedies_below_what_was_found() {
        let checks = [
            Check::ok("kernel", "type information", "there"),
            Check::new("kafka", "brokers", Health::Problem, "nobody answers\nat b:1", "start it"),
        ];
        let expected = "\
kernel  type information  ok       there
kafka   brokers           PROBLEM  nobody answers
                                   at b:1
                                   -> start it";
        assert_eq!(table(&checks), expected);
        assert!(has_problem(&checks) && !has_problem(&checks[..1]));
    }
}
