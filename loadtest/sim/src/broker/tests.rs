//! Tests that the broker behaves as Kafka's documentation describes.

use super::*;

const OUT: TopicPartition = (Topic::Findings, 0);
const STATE: TopicPartition = (Topic::EnricherState, 0);
const INPUT: TopicPartition = (Topic::ExecEvents, 0);

fn data(key: &str, value: Option<&str>) -> Data {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Data { key: Some(bytes(key)), value: value.map(bytes), ..Data::default() }
}

fn values(broker: &Broker, topic_partition: TopicPartition) -> Vec<String> {
    let fetched = broker.fetch(topic_partition, 0, usize::MAX);
    fetched.records.iter().map(|(_, data)| String::from_utf8(data.value.clone().unwrap_or_default()).unwrap()).collect()
}

fn offsets(offset: i64) -> BTreeMap<TopicPartition, Committed> {
    BTreeMap::from([(INPUT, Committed { offset, state_next: None })])
}

#[test]
fn nothing_of_a_transaction_is_seen_before_its_markers() {
    let mut broker = Broker::new(1);
    let epoch = broker.init("a");
    broker.produce(("a", epoch), OUT, data("k", Some("1")), 0).unwrap();
    broker.add_offsets(("a", epoch), &offsets(7), 0).unwrap();
    assert_eq!((broker.high_watermark(OUT), broker.last_stable(OUT)), (1, 0));
    assert!(broker.is_offset_pending(INPUT));
    broker.commit(("a", epoch), Markers::At(50)).unwrap();
    broker.advance(49);
    assert!(values(&broker, OUT).is_empty() && broker.is_offset_pending(INPUT) && broker.is_ending("a"));
    broker.advance(50);
    assert_eq!(
        (values(&broker, OUT), broker.high_watermark(OUT)),
        (vec!["1".to_owned()], 2),
        "a marker takes an offset"
    );
    assert_eq!(broker.offset(INPUT).unwrap().offset, 7);
}

#[test]
fn what_is_committed_behind_an_open_transaction_waits_for_it() {
    let mut broker = Broker::new(1);
    let (a, b) = (broker.init("a"), broker.init("b"));
    broker.produce(("a", a), OUT, data("k", Some("open")), 0).unwrap();
    broker.produce(("b", b), OUT, data("k", Some("done")), 0).unwrap();
    broker.commit(("b", b), Markers::Now).unwrap();
    assert!(values(&broker, OUT).is_empty());
    broker.abort(("a", a), Markers::Now).unwrap();
    assert_eq!(values(&broker, OUT), ["done"]);
}

#[test]
fn a_successor_fences_and_undoes_what_was_open() {
    let mut broker = Broker::new(1);
    let old = broker.init("a");
    broker.produce(("a", old), OUT, data("k", Some("1")), 0).unwrap();
    let new = broker.init("a");
    assert_eq!(broker.produce(("a", old), OUT, data("k", Some("2")), 0), Err(Fenced));
    assert_eq!(broker.commit(("a", old), Markers::Now), Err(Fenced));
    broker.produce(("a", new), OUT, data("k", Some("3")), 0).unwrap();
    broker.commit(("a", new), Markers::Now).unwrap();
    assert_eq!(values(&broker, OUT), ["3"]);
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted_and_its_producer_fenced() {
    let mut broker = Broker::new(1);
    let epoch = broker.init("a");
    broker.produce(("a", epoch), OUT, data("k", Some("1")), 0).unwrap();
    assert_eq!(broker.advance(broker.due_ns()), 1);
    assert_eq!((broker.last_stable(OUT), broker.high_watermark(OUT)), (2, 2));
    assert_eq!(broker.commit(("a", epoch), Markers::Now), Err(Fenced));
}

#[test]
fn compaction_keeps_the_newest_committed_of_each_key_in_order() {
    let mut broker = Broker::new(1);
    let epoch = broker.init("a");
    for (key, value) in [("x", Some("1")), ("y", Some("1")), ("z", Some("1")), ("x", Some("2")), ("z", None)] {
        broker.produce(("a", epoch), STATE, data(key, value), 0).unwrap();
    }
    broker.commit(("a", epoch), Markers::Now).unwrap();
    broker.produce(("a", epoch), STATE, data("y", Some("aborted")), 0).unwrap();
    broker.abort(("a", epoch), Markers::Now).unwrap();
    broker.produce(("a", epoch), STATE, data("x", Some("open")), 0).unwrap();
    assert!(broker.compact(STATE, i64::MAX, Tombstones::Dropped) > 0);
    assert_eq!(values(&broker, STATE), ["1", "2"], "y, then x; z is gone");
    let end = broker.fetch(STATE, 0, usize::MAX).next;
    assert_eq!(end, broker.last_stable(STATE), "a reader passes what is gone");
}

#[test]
fn a_committed_offset_that_goes_back_is_noticed() {
    let mut broker = Broker::new(1);
    broker.set_offset(INPUT, Committed { offset: 5, state_next: None });
    broker.set_offset(INPUT, Committed { offset: 4, state_next: None });
    assert_eq!(broker.violations.len(), 1);
}
