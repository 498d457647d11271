//! Tests the pipeline on the committed recording of a real run, whole and with parts left out or late.

use std::io::Cursor;

use super::adapters::{Placing, Settings};
use super::newest::{Newest, Revision};
use super::pipeline::{CORRELATOR, ENRICHER, Emission, Pipeline, Tally};
use driftline_schemas::recording::{Damage, Merged, Order, Recorded, Recording};
use driftline_schemas::topics::{Cleanup, Topic};
use driftline_schemas::{Alert, Finding, Severity, decode};
use driftline_service_core::Disposition;

const RECORDING: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../loadtest/testdata/first-alert/recording.avro"));
/// Number of execs in that run that did not match the image.
const DRIFTS: usize = 4;

fn records() -> Vec<(Topic, Recorded)> {
    let mut recording = Recording::open(Cursor::new(RECORDING)).unwrap();
    let scan = recording.scan(Damage::Refuse).unwrap();
    let mut merged = Merged::new(recording, scan, Order::Time).unwrap();
    std::iter::from_fn(|| merged.next_record().unwrap()).collect()
}

fn is_table(topic: Topic) -> bool {
    topic.spec().cleanup == Cleanup::Compact
}

/// All records emitted for these records, in the order of their timestamps.
fn analysed(mut records: Vec<(Topic, Recorded)>) -> (Vec<Emission>, Tally) {
    records.sort_by_key(|(topic, record)| (record.timestamp_ms, !is_table(*topic)));
    let mut pipeline = Pipeline::new(&Settings::default(), Placing::Unknown).unwrap();
    for (topic, record) in records {
        pipeline.record(&Placing::Unknown.record(topic, record)).unwrap();
    }
    pipeline.finish().unwrap();
    (pipeline.take_emitted(), pipeline.into_tally())
}

fn newest(emitted: &[Emission], topic: Topic) -> Vec<Revision> {
    let mut newest = Newest::default();
    for emission in emitted.iter().filter(|emission| emission.what.topic == topic) {
        newest.take(Revision::of(emission).unwrap().unwrap());
    }
    newest.since(i64::MIN)
}

fn alerts(emitted: &[Emission]) -> Vec<Alert> {
    newest(emitted, Topic::Alerts).iter().map(|revision| decode(&revision.value).unwrap()).collect()
}

/// The fields that a reader of several versions would compare.
fn content(alert: &Alert) -> Alert {
    Alert { revision: 0, activity: driftline_schemas::Activity::Create, emitted_ns: 0, ..alert.clone() }
}

#[test]
fn a_real_run_leads_to_its_findings_and_its_final_alert() {
    let (emitted, tally) = analysed(records());
    assert_eq!(newest(&emitted, Topic::Findings).len(), DRIFTS);
    let alerts = alerts(&emitted);
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].severity, alerts[0].finding_count, alerts[0].r#final), (Severity::Critical, 4, true));
    assert_eq!(tally.settled[&(ENRICHER, Disposition::Reported)], DRIFTS as u64);
    assert_eq!(tally.settled.get(&(ENRICHER, Disposition::DeadLettered)), None);
    assert!(tally.refused.is_empty(), "{:?}", tally.refused);
    // One exec of another container, which ended before it could be described.
    assert_eq!(tally.events.get(&(ENRICHER, "deadline_fired")), Some(&1));
    assert_eq!(tally.events.get(&(ENRICHER, "exec_unproven")), None, "it ran an untouched file of a lower layer");
}

#[test]
fn the_same_records_give_the_same_bytes() {
    assert_eq!(analysed(records()), analysed(records()));
}

#[test]
fn the_findings_alone_give_the_same_alert() {
    let (emitted, _) = analysed(records());
    let findings = emitted.iter().filter(|emission| emission.what.topic == Topic::Findings).cloned();
    let findings = (0..).zip(findings).map(|(offset, emission)| {
        let record = Recorded {
            topic: "findings".into(),
            partition: 0,
            offset,
            timestamp_ms: emission.at_ns / 1_000_000,
            key: Some(emission.what.key),
            headers: vec![],
            value: Some(emission.what.value),
        };
        (Topic::Findings, record)
    });
    let (of_findings, tally) = analysed(findings.collect());
    assert_eq!(
        alerts(&of_findings).iter().map(content).collect::<Vec<_>>(),
        alerts(&emitted).iter().map(content).collect::<Vec<_>>()
    );
    let settled: u64 = tally.settled.iter().filter(|((of, _), _)| *of == CORRELATOR).map(|(_, count)| count).sum();
    assert_eq!(settled, DRIFTS as u64);
}

#[test]
fn without_the_image_the_deadline_fires_even_after_the_last_record() {
    let execs: Vec<_> = records().into_iter().filter(|(topic, _)| !is_table(*topic)).collect();
    let (emitted, tally) = analysed(execs);
    assert_eq!(tally.events[&(ENRICHER, "deadline_fired")], 2);
    let findings = newest(&emitted, Topic::Findings);
    let unresolved = findings.iter().map(|finding| decode::<Finding>(&finding.value).unwrap().unresolved);
    assert!(unresolved.flatten().any(|reason| reason == "no_manifest"));
    assert!(alerts(&emitted).iter().all(|alert| alert.r#final));
}

#[test]
fn an_image_that_comes_late_amends_to_the_same_alert() {
    let late_ms = 60_000;
    let last_ms = records().iter().map(|(_, record)| record.timestamp_ms).max().unwrap();
    let records_late = records().into_iter().map(|(topic, record)| {
        let timestamp_ms = if is_table(topic) { last_ms + late_ms } else { record.timestamp_ms };
        (topic, Recorded { timestamp_ms, ..record })
    });
    let (emitted, tally) = analysed(records_late.collect());
    assert!(tally.events[&(ENRICHER, "finding_amended")] >= 1, "{tally:?}");
    let (late, in_time) = (alerts(&emitted), alerts(&analysed(records()).0));
    assert_eq!(late.len(), 1);
    assert_eq!((late[0].score, &late[0].categories), (in_time[0].score, &in_time[0].categories));
}

#[test]
fn a_bad_record_is_a_dead_letter_with_its_reason_and_the_rest_goes_on() {
    let mut records = records();
    let (topic, last) = records.last().unwrap().clone();
    records.push((topic, Recorded { value: Some(b"garbage".to_vec()), offset: last.offset + 1, ..last }));
    let (emitted, tally) = analysed(records);
    assert_eq!(tally.settled[&(ENRICHER, Disposition::DeadLettered)], 1);
    assert!(tally.refused[0].contains("no avro single-object header"), "{:?}", tally.refused);
    assert_eq!(alerts(&emitted).len(), 1);
}

#[test]
fn a_timestamp_that_is_missing_or_years_away_does_not_take_years() {
    let mut records = records();
    records[0].1.timestamp_ms = 0;
    let (emitted, _) = analysed(records);
    assert_eq!(alerts(&emitted).len(), 1);
}
