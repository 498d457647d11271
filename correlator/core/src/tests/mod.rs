//! Tests that drive the whole stage by hand.

mod amendments;
mod bounded;
mod input;
mod limits;
mod memory;
mod news;
mod revisions;
mod sessions;
mod state;
mod ticks;

use driftline_schemas::topics::Topic;
use driftline_schemas::{Activity, Alert, Finding, Sha256, WriterSchemas, decode, encode};
use driftline_service_core::{BrokenInvariant, Disposition, Effects, Gap, Outgoing, Stage as _};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::fixtures::T0;
use crate::{Command, Correlator, Input, Options, Settings, SiemFormat};

/// A correlator that is driven twice: one instance runs on, the other is discarded after every step and restored from
/// the changelog. Both must behave the same.
pub(crate) struct Rig {
    options: Options,
    correlator: Correlator,
    restarted: Correlator,
    changelog: BTreeMap<String, Vec<u8>>,
    counts: BTreeMap<&'static str, u64>,
    steps: usize,
}

/// Larger states are compared as a whole only every so many steps, because that takes time.
const COMPARED_KEYS: usize = 40;
const COMPARED_STEPS: usize = 101;

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let correlator = || correlator(options.clone());
        let (correlator, restarted) = (correlator(), correlator());
        Self { options, correlator, restarted, changelog: BTreeMap::new(), counts: BTreeMap::new(), steps: 0 }
    }

    /// Sends a finding on partition 0; returns its disposition and the alerts emitted.
    pub(crate) fn finding(&mut self, now_ns: i64, finding: Finding) -> (Disposition, Vec<Alert>) {
        let (settled, alerts) = self.step(|correlator, effects| correlator.apply(now_ns, found(&finding), effects));
        assert_eq!(settled.values().sum::<u64>(), 1, "one disposition for one input");
        (*settled.keys().next().unwrap(), alerts)
    }

    /// Sends a finding that arrives when it happens.
    pub(crate) fn live(&mut self, finding: Finding) -> Vec<Alert> {
        self.finding(finding.event_time_ns, finding).1
    }

    pub(crate) fn tick(&mut self, now_ns: i64) -> Vec<Alert> {
        self.unsettled(|correlator, effects| correlator.apply(now_ns, Input::Tick, effects))
    }

    pub(crate) fn gap(&mut self, now_ns: i64, from: i64, to: i64) -> Vec<Alert> {
        self.unsettled(|correlator, effects| correlator.gap(now_ns, Gap { partition: 0, from, to }, effects))
    }

    fn unsettled(&mut self, input: impl Fn(&mut Correlator, &mut Effects<Command>) -> Applied) -> Vec<Alert> {
        let (settled, alerts) = self.step(input);
        assert_eq!(settled, BTreeMap::new());
        alerts
    }

    fn step(
        &mut self,
        input: impl Fn(&mut Correlator, &mut Effects<Command>) -> Applied,
    ) -> (BTreeMap<Disposition, u64>, Vec<Alert>) {
        let (mut effects, mut restarted) = (Effects::default(), Effects::default());
        input(&mut self.correlator, &mut effects).unwrap();
        input(&mut self.restarted, &mut restarted).unwrap();
        let outgoing = effects.take_outgoing();
        assert_eq!(summary(&restarted.take_outgoing()), summary(&outgoing));
        let settled = effects.take_settled();
        assert_eq!(restarted.take_settled(), settled);
        let counts = effects.take_counts();
        assert_eq!(restarted.take_counts(), counts);
        counts.into_iter().for_each(|(name, count)| *self.counts.entry(name).or_default() += count);
        let touched = effects.take_touched();
        assert_eq!(restarted.take_touched(), touched);
        touched.into_iter().for_each(|key| self.write(&key.key));
        assert_eq!(self.restarted.sessions_bytes(), self.correlator.sessions_bytes());
        self.steps += 1;
        if self.changelog.len() <= COMPARED_KEYS || self.steps.is_multiple_of(COMPARED_STEPS) {
            self.restart();
        }
        (settled, alerts_in(&outgoing))
    }

    /// Writes a touched key: its value must differ from the one before.
    fn write(&mut self, key: &str) {
        let value = self.correlator.state(0, key).unwrap();
        assert_ne!(value.as_ref(), self.changelog.get(key), "{key} was touched for nothing");
        match value {
            Some(value) => drop(self.changelog.insert(key.to_owned(), value)),
            None => drop(self.changelog.remove(key)),
        }
    }

    /// Restores one of the two from the changelog, which must hold the state of the other.
    fn restart(&mut self) {
        assert_eq!(image(&self.correlator), self.changelog, "a change was not touched");
        self.restarted = correlator(self.options.clone());
        restore(&mut self.restarted, self.changelog.clone());
        assert_eq!(image(&self.restarted), self.changelog);
        let counted = self.correlator.count_sessions_bytes();
        assert_eq!((self.correlator.sessions_bytes(), self.restarted.sessions_bytes()), (counted, counted));
    }

    /// How often this name was counted since the beginning.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// Number of state keys with this prefix, and bytes under them.
    pub(crate) fn state_size(&self, prefix: &str) -> (usize, usize) {
        let values = self.changelog.iter().filter(|(key, _)| key.starts_with(prefix));
        values.fold((0, 0), |(keys, bytes), (_, value)| (keys + 1, bytes + value.len()))
    }
}

pub(crate) fn found(finding: &Finding) -> Input {
    Input::Finding { partition: 0, finding: Box::new(finding.clone()) }
}

type Applied = Result<(), BrokenInvariant>;

/// Replaces the formats, which this package does not know.
pub(crate) const FORMAT: SiemFormat =
    SiemFormat { name: "test", topic: Topic::AlertsOcsf, schema: "test/1", encode: |alert| Ok(encode(alert).unwrap()) };

fn correlator(options: Options) -> Correlator {
    let options = Options { formats: BTreeSet::from([FORMAT.name]), ..options };
    Correlator::new(Settings::new(options, &[FORMAT]).unwrap(), 1)
}

/// All keys and values of partition 0.
pub(crate) fn image(correlator: &Correlator) -> BTreeMap<String, Vec<u8>> {
    let value = |key: &String| correlator.state(0, key).unwrap().expect("something stands under a live key");
    correlator.state_keys(0).into_iter().map(|key| (key.clone(), value(&key))).collect()
}

pub(crate) fn restore(correlator: &mut Correlator, image: BTreeMap<String, Vec<u8>>) {
    let mut effects = Effects::default();
    correlator.restore(T0, 0, image, &WriterSchemas::default(), &mut effects).unwrap();
    assert_eq!((effects.take_outgoing(), effects.take_touched().len()), (vec![], 0), "a restore says nothing");
}

/// A form short enough to print when two outputs differ.
fn summary(outgoing: &[Outgoing]) -> Vec<(Topic, String, Sha256)> {
    let key = |record: &Outgoing| String::from_utf8_lossy(&record.key).into_owned();
    outgoing.iter().map(|record| (record.topic, key(record), Sha256::of(&record.value))).collect()
}

fn alerts_in(outgoing: &[Outgoing]) -> Vec<Alert> {
    let (avro, ocsf): (Vec<_>, Vec<_>) = outgoing.iter().partition(|record| record.topic == Topic::Alerts);
    assert_eq!(avro.len(), ocsf.len());
    let alerts: Vec<Alert> = avro.iter().map(|record| decode(&record.value).unwrap()).collect();
    alerts.iter().for_each(check);
    alerts
}

/// Checks the rules that hold for every alert.
fn check(alert: &Alert) {
    assert_eq!(alert.contributions.iter().map(|row| row.points).sum::<i32>(), alert.score);
    assert!((0..=100).contains(&alert.score));
    assert!(alert.findings.is_sorted_by_key(|finding| finding.event_time_ns));
    assert!(alert.flags.is_sorted() && alert.categories.is_sorted() && alert.techniques.is_sorted());
    assert!(!alert.title.is_empty() && !alert.message.is_empty() && !alert.response.is_empty());
}

/// `create 1`, `update 2 final`, …
pub(crate) fn summaries(alerts: &[Alert]) -> Vec<String> {
    let summary = |alert: &Alert| {
        let activity = match alert.activity {
            Activity::Create => "create",
            Activity::Update => "update",
            Activity::Close => "close",
        };
        format!("{activity} {}{}", alert.revision, if alert.r#final { " final" } else { "" })
    };
    alerts.iter().map(summary).collect()
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

/// The alert in a form that must not depend on order, interleaving and time of emission.
pub(crate) fn canonical(alert: &Alert) -> Alert {
    Alert { revision: 0, activity: Activity::Update, emitted_ns: 0, ..alert.clone() }
}
