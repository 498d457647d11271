//! The whole stage, driven by hand.

mod amendments;
mod limits;
mod revisions;
mod sessions;

use driftline_runtime_core::{Disposition, Effects, Position, Stage as _};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Activity, Alert, Finding, decode};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Ask, Correlator, Input, Options, Settings};

/// A correlator whose input is numbered by itself.
pub(crate) struct Rig {
    correlator: Correlator,
    effects: Effects<Ask>,
    next_offset: i64,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let correlator = Correlator::new(Settings::new(options).unwrap());
        Self { correlator, effects: Effects::default(), next_offset: 0 }
    }

    /// A finding on partition 0; its disposition and the alerts said.
    pub(crate) fn finding(&mut self, now_ns: i64, finding: Finding) -> (Disposition, Vec<Alert>) {
        let at = Position { partition: 0, offset: self.next_offset };
        self.next_offset += 1;
        let input = Input::Finding { at, finding: Box::new(finding) };
        self.correlator.apply(now_ns, input, &mut self.effects).unwrap();
        let settled = self.effects.take_settled();
        assert_eq!(settled.values().sum::<u64>(), 1, "one disposition for one input");
        (*settled.keys().next().unwrap(), self.said())
    }

    /// A finding that arrives when it happens.
    pub(crate) fn live(&mut self, finding: Finding) -> Vec<Alert> {
        self.finding(finding.event_time_ns, finding).1
    }

    pub(crate) fn tick(&mut self, now_ns: i64) -> Vec<Alert> {
        self.correlator.apply(now_ns, Input::Tick, &mut self.effects).unwrap();
        assert_eq!(self.effects.take_settled(), BTreeMap::new());
        self.said()
    }

    fn said(&mut self) -> Vec<Alert> {
        let outgoing = self.effects.take_outgoing();
        let (avro, ocsf): (Vec<_>, Vec<_>) = outgoing.iter().partition(|record| record.topic == Topic::Alerts);
        assert_eq!(avro.len(), ocsf.len());
        let alerts: Vec<Alert> = avro.iter().map(|record| decode(&record.value).unwrap()).collect();
        alerts.iter().for_each(check);
        alerts
    }

    pub(crate) fn count(&mut self, name: &str) -> u64 {
        self.effects.take_counts().get(name).copied().unwrap_or_default()
    }

    pub(crate) fn oldest_needed(&self) -> Option<i64> {
        self.correlator.oldest_needed(0)
    }
}

/// What holds of every alert.
fn check(alert: &Alert) {
    assert_eq!(alert.contributions.iter().map(|row| row.points).sum::<i32>(), alert.score);
    assert!((0..=100).contains(&alert.score));
    assert!(alert.findings.is_sorted_by_key(|finding| finding.event_time_ns));
    assert!(alert.flags.is_sorted() && alert.categories.is_sorted() && alert.techniques.is_sorted());
    assert!(!alert.title.is_empty() && !alert.message.is_empty() && !alert.response.is_empty());
}

/// `create 1`, `update 2 final`, …
pub(crate) fn told(alerts: &[Alert]) -> Vec<String> {
    let tell = |alert: &Alert| {
        let activity = match alert.activity {
            Activity::Create => "create",
            Activity::Update => "update",
            Activity::Close => "close",
        };
        format!("{activity} {}{}", alert.revision, if alert.r#final { " final" } else { "" })
    };
    alerts.iter().map(tell).collect()
}

/// Gap 10 s, cap 60 s, retention 100 s.
pub(crate) fn short() -> Options {
    Options {
        session_gap: Duration::from_secs(10),
        session_cap: Duration::from_mins(1),
        retention: Duration::from_secs(100),
        ..Options::default()
    }
}

/// The alert as it must be whatever the order, the interleaving and the time it was said.
pub(crate) fn canonical(alert: &Alert) -> Alert {
    Alert { revision: 0, activity: Activity::Update, emitted_ns: 0, ..alert.clone() }
}
