//! Tests which records of the topic are taken, and what is emitted for lost input.

use driftline_schemas::topics::{Topic, partition_of};
use driftline_schemas::{Finding, encode};
use driftline_service_core::{Effects, Gap, Record, Stage as _};

use super::FORMAT;
use super::{Rig, alerts_in, short, summaries};
use crate::fixtures::{S, T0, added, loss};
use crate::{Correlator, Input, Options, Settings};

const PARTITIONS: i32 = 12;

fn correlator() -> Correlator {
    let options = Options { formats: std::collections::BTreeSet::from([FORMAT.name]), ..Options::default() };
    Correlator::new(Settings::new(options, &[FORMAT]).unwrap(), PARTITIONS)
}

fn record(key: &str, finding: &Finding) -> Record {
    Record {
        topic: Topic::Findings,
        partition: partition_of(key.as_bytes(), PARTITIONS),
        offset: 7,
        timestamp_ms: 1,
        key: Some(key.as_bytes().to_vec()),
        value: Some(encode(finding).unwrap()),
        headers: Vec::new(),
    }
}

#[test]
fn findings_of_containers_and_nodes_are_taken_where_they_belong() {
    for (key, finding) in [("c1c1", added("f0", T0)), ("node-1", loss("f1", T0))] {
        let record = record(key, &finding);
        match correlator().decode(&record).unwrap() {
            Input::Finding { partition, finding: taken } => {
                assert_eq!((partition, *taken), (record.partition, finding));
            }
            Input::Tick => panic!("a record is a finding"),
        }
    }
}

#[test]
fn records_that_cannot_be_used_each_have_their_reason() {
    let good = record("c1c1", &added("f0", T0));
    let check = |record: Record, expected: &str| {
        let error = correlator().decode(&record).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check(Record { value: None, ..good.clone() }, "empty value");
    check(Record { value: Some(b"no finding at all".to_vec()), ..good.clone() }, "no avro single-object header");
    check(Record { key: Some(b"c2c2".to_vec()), ..good.clone() }, "key is not its subject's id");
    check(Record { key: None, ..good.clone() }, "key is not its subject's id");
    check(Record { partition: (good.partition + 1) % PARTITIONS, ..good.clone() }, "its key belongs in");
}

#[test]
fn findings_that_are_gone_are_an_alert_about_the_service() {
    let mut rig = Rig::with(short());
    let alert = rig.gap(T0, 5, 17).remove(0);
    assert_eq!(summaries(std::slice::from_ref(&alert)), ["create 1"]);
    assert_eq!((alert.node.name.as_str(), alert.title.as_str()), ("driftline-correlator", "Findings Lost"));
    assert_eq!(
        alert.message,
        "node driftline-correlator: records of findings were gone before they were read: partition 0, offsets 5 to 16"
    );
    assert_eq!(alert.container, None);
    assert_eq!(rig.gap(T0 + S, 5, 17), [], "the same gap is the same finding");
    let second = rig.gap(T0 + S, 30, 31).remove(0);
    assert_eq!(
        (summaries(std::slice::from_ref(&second)), second.alert_id),
        (vec!["update 2".to_owned()], alert.alert_id)
    );
    assert_eq!(summaries(&rig.tick(T0 + 11 * S)), ["update 3 final"]);
}

#[test]
fn gaps_of_two_partitions_are_two_alerts() {
    let mut effects = Effects::default();
    let mut correlator = correlator();
    for partition in [3, 4] {
        correlator.gap(T0, Gap { partition, from: 5, to: 17 }, &mut effects).unwrap();
        assert_eq!(correlator.state_keys(partition).len(), 2);
    }
    let alerts = alerts_in(&effects.take_outgoing());
    assert_eq!(summaries(&alerts), ["create 1"; 2]);
    assert_ne!(alerts[0].alert_id, alerts[1].alert_id);
    assert_eq!(effects.take_settled().len(), 0, "no record was received");
}
