//! The results of a doctor: one line for each check, with a remedy for each problem. `driftline-collector doctor` makes
//! those of a node; `driftline doctor` shows them with those of Kafka.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, but less well than possible.
    Warning,
    /// It does not work.
    Problem,
    /// The check could not run.
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

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The checked area: `kernel`, `rights`, `runtimes`, `cluster`, `node` or `kafka`.
    pub area: String,
    /// The checked item.
    pub name: String,
    /// Its health.
    pub health: Health,
    /// The finding of the check.
    pub found: String,
    /// The remedy; empty when none is needed.
    pub remedy: String,
}

impl Check {
    /// A check with health [`Health::Ok`].
    #[must_use]
    pub fn ok(area: &str, name: &str, found: impl fmt::Display) -> Self {
        Self::new(area, name, Health::Ok, found, "")
    }

    /// A check with a warning or problem, and its remedy.
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

/// Whether any check has a problem.
#[must_use]
pub fn has_problem(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.health == Health::Problem)
}

/// The checks as an aligned table; a remedy is on the line below its check.
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
