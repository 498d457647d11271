//! Compares two sets of alerts by their content, regardless of how and when they were emitted.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use driftline_schemas::text::printable;

/// Fields of an alert that are not content: its revision, the time of emission, and the versions, which are compared as
/// a whole.
const NOT_CONTENT: [&str; 5] = ["revision", "activity", "emitted_ns", "final", "versions"];

/// Alerts by id, as JSON, so that alerts of another version can be compared field by field.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Alerts(BTreeMap<String, Map<String, Value>>);

/// An alert that differs between the two sets.
#[derive(Debug, PartialEq)]
pub(super) struct Difference<'a> {
    id: &'a str,
    before: Option<&'a Map<String, Value>>,
    after: Option<&'a Map<String, Value>>,
    /// Names of the fields that differ, if both sets have the alert.
    fields: Vec<&'a str>,
}

impl Alerts {
    /// Takes a revision; keeps the highest, and of equal ones the later.
    pub(super) fn take(&mut self, alert: Value) -> anyhow::Result<()> {
        let Value::Object(alert) = alert else { bail!("it is no JSON object") };
        let id = alert.get("alert_id").and_then(Value::as_str).context("it has no alert_id")?.to_owned();
        let number = |alert: &Map<String, Value>| alert.get("revision").and_then(Value::as_i64).unwrap_or(0);
        if self.0.get(&id).is_none_or(|present| number(present) <= number(&alert)) {
            self.0.insert(id, alert);
        }
        Ok(())
    }

    /// Reads the output of `analyze --json` or `alerts tail --json`, perhaps of another version.
    pub(super) fn of_lines(lines: impl BufRead) -> anyhow::Result<Self> {
        let mut alerts = Self::default();
        for (number, line) in (1..).zip(lines.lines()) {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let alert = serde_json::from_str(&line).map_err(anyhow::Error::from);
            alert.and_then(|alert| alerts.take(alert)).with_context(|| format!("line {number} is not an alert"))?;
        }
        Ok(alerts)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All versions that produced these alerts, by kind of version.
    fn versions(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let all = self.0.values().filter_map(|alert| alert.get("versions")?.as_object()).flatten();
        for (of, version) in all {
            versions.entry(of).or_default().extend(version.as_str());
        }
        versions
    }
}

/// The differences, by alert id.
pub(super) fn compare<'a>(before: &'a Alerts, after: &'a Alerts) -> Vec<Difference<'a>> {
    let ids: BTreeSet<&String> = before.0.keys().chain(after.0.keys()).collect();
    let differences = ids.into_iter().map(|id| {
        let (before, after) = (before.0.get(id), after.0.get(id));
        let fields = before.zip(after).map(|(before, after)| fields(before, after)).unwrap_or_default();
        Difference { id, before, after, fields }
    });
    differences.filter(|it| it.before.is_none() || it.after.is_none() || !it.fields.is_empty()).collect()
}

/// The kinds of versions that differ, with both values.
pub(super) fn versions(before: &Alerts, after: &Alerts) -> Vec<String> {
    let (before, after) = (before.versions(), after.versions());
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let show = |versions: Option<&BTreeSet<&str>>| match versions {
        Some(versions) => shown(&versions.iter().copied().collect::<Vec<_>>().join(" ")),
        None => "none".to_owned(),
    };
    let different = names.into_iter().filter(|name| before.get(name) != after.get(name));
    different.map(|name| format!("{}: {} → {}", shown(name), show(before.get(name)), show(after.get(name)))).collect()
}

fn fields<'a>(before: &'a Map<String, Value>, after: &'a Map<String, Value>) -> Vec<&'a str> {
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
    let content = names.into_iter().filter(|name| !NOT_CONTENT.contains(name));
    content.filter(|name| before.get(*name) != after.get(*name)).collect()
}

impl Difference<'_> {
    fn change(&self) -> &'static str {
        match (self.before, self.after) {
            (None, _) => "added",
            (_, None) => "gone",
            _ => "changed",
        }
    }

    pub(super) fn as_line(&self) -> String {
        let id: String = self.id.chars().take(8).collect();
        let alert = self.after.or(self.before);
        let (severity, score) = (self.values("severity"), self.values("score"));
        let title = alert.and_then(|alert| alert.get("title")).map(plain).unwrap_or_default();
        let fields = if self.fields.is_empty() { String::new() } else { format!("  [{}]", self.fields.join(", ")) };
        let line = format!("{:<8}  {id:<8}  {severity:<18}  {score:<9}  {title}{fields}", self.change());
        shown(&line)
    }

    pub(super) fn as_json(&self) -> Value {
        let shown = |alert: Option<&Map<String, Value>>| {
            alert.map(|alert| json!({"severity": alert.get("severity"), "score": alert.get("score"), "title": alert.get("title")}))
        };
        json!({
            "change": self.change(), "alert_id": self.id, "fields": self.fields,
            "before": shown(self.before), "after": shown(self.after),
        })
    }

    /// The value of a field, and its former value if that differs.
    fn values(&self, field: &str) -> String {
        let value = |alert: Option<&Map<String, Value>>| alert.and_then(|alert| alert.get(field)).map(plain);
        match (value(self.before), value(self.after)) {
            (Some(before), Some(after)) if before != after => format!("{before} → {after}"),
            (before, after) => after.or(before).unwrap_or_default(),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn shown(text: &str) -> String {
    printable(text.as_bytes()).text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts(alerts: &[Value]) -> Alerts {
        let lines: Vec<String> = alerts.iter().map(Value::to_string).collect();
        Alerts::of_lines(lines.join("\n").as_bytes()).unwrap()
    }

    fn alert(id: &str, score: i32) -> Value {
        json!({"alert_id": id, "revision": 2, "activity": "update", "final": false, "emitted_ns": 5, "title": "t\u{1b}",
               "severity": if score > 50 { "high" } else { "low" }, "score": score, "versions": {"enricher": "1"}})
    }

    #[test]
    fn what_is_not_content_is_no_difference() {
        let mut later = alert("a", 10);
        for (field, value) in [("revision", json!(9)), ("activity", json!("create")), ("final", json!(true))] {
            later[field] = value;
        }
        (later["emitted_ns"], later["versions"]) = (json!(7), json!({"enricher": "2"}));
        let (before, after) = (alerts(&[alert("a", 10)]), alerts(&[later]));
        assert_eq!(compare(&before, &after), []);
        assert_eq!(versions(&before, &after), ["enricher: 1 → 2"]);
    }

    #[test]
    fn added_gone_and_changed_alerts_are_reported_with_what_changed() {
        let mut changed = alert("c", 60);
        changed["extra"] = json!(1);
        let (before, after) = (alerts(&[alert("b", 10), alert("c", 10)]), alerts(&[alert("a", 10), changed]));
        let differences = compare(&before, &after);
        let lines: Vec<String> = differences.iter().map(Difference::as_line).collect();
        assert!(lines[0].starts_with("added     a "), "{lines:#?}");
        assert!(lines[1].starts_with("gone      b "), "{lines:#?}");
        for part in ["changed   c ", "low → high", "10 → 60", "[extra, score, severity]", "t\\x1b"] {
            assert!(lines[2].contains(part), "{part} in {}", lines[2]);
        }
        let json = differences[2].as_json();
        assert_eq!((json["change"].as_str(), json["before"]["score"].as_i64()), (Some("changed"), Some(10)));
        assert_eq!(json["fields"], json!(["extra", "score", "severity"]));
    }

    #[test]
    fn of_several_revisions_the_highest_is_compared() {
        let first = json!({"alert_id": "a", "revision": 1, "score": 1});
        let second = json!({"alert_id": "a", "revision": 2, "score": 2});
        assert_eq!(alerts(&[second.clone(), first]), alerts(&[second]));
    }

    #[test]
    fn a_line_that_is_no_alert_is_named() {
        for line in ["[]", "{}", "x"] {
            let error = format!("{:#}", Alerts::of_lines(format!("\n{line}").as_bytes()).unwrap_err());
            assert!(error.contains("line 2 is not an alert"), "{error}");
        }
    }
}
