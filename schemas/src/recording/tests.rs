use std::io::Cursor;

use super::*;
use crate::topics::Topic;

const OLD: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../loadtest/testdata/first-alert/recording.avro"));

fn info() -> Info {
    Info {
        format: FORMAT,
        driftline: "0.1.0".into(),
        recorded: "2026-01-02T03:04:05.678Z".into(),
        arguments: Arguments {
            cluster: "c".into(),
            prefix: "driftline".into(),
            topics: vec!["images".into(), "exec-events".into()],
            since: "2h".into(),
            until: String::new(),
            pre_roll: "1h".into(),
        },
        since_ms: Some(5),
        until_ms: None,
        pre_roll_ms: 3_600_000,
        sections: vec![Section {
            topic: "images".into(),
            partition: 0,
            what: What::NewestOfKey,
            begin: 0,
            range: 0,
            end: 9,
        }],
    }
}

fn at(topic: &str, partition: i32, offset: i64, timestamp_ms: i64) -> Recorded {
    Recorded {
        topic: topic.into(),
        partition,
        offset,
        timestamp_ms,
        key: Some(vec![0xff, 0]),
        headers: vec![Header { name: "h".into(), value: vec![1] }],
        value: None,
    }
}

/// A recording of these partitions, one after another.
fn written(info: &Info, sections: &[&[Recorded]]) -> Vec<u8> {
    let mut writer = RecordingWriter::begin(Vec::new(), info).unwrap();
    for section in sections {
        section.iter().for_each(|record| writer.append(record).unwrap());
        writer.end_section().unwrap();
    }
    writer.finish().unwrap()
}

fn merged(file: &[u8], order: Order) -> Vec<Recorded> {
    let mut recording = Recording::open(Cursor::new(file)).unwrap();
    let scan = recording.scan(Damage::Refuse).unwrap();
    let mut merged = Merged::new(recording, scan, order).unwrap();
    std::iter::from_fn(|| merged.next_record().unwrap().map(|(_, record)| record)).collect()
}

fn refusal(file: &[u8]) -> String {
    let opened = Recording::open(Cursor::new(file)).and_then(|mut recording| recording.scan(Damage::Refuse));
    opened.unwrap_err().to_string()
}

/// Two partitions of about five blocks each.
fn two_partitions() -> Vec<Vec<Recorded>> {
    let big = |partition, offset| Recorded {
        value: Some(vec![u8::try_from(offset).unwrap(); 30_000]),
        ..at("exec-events", partition, offset, 10 * offset + i64::from(partition))
    };
    (0..2).map(|partition| (0..12).map(|offset| big(partition, offset)).collect()).collect()
}

#[test]
fn every_byte_is_kept_and_what_was_recorded_is_said() {
    let long = Recorded { value: Some(vec![7; 2_000_000]), ..at("exec-events", 2, 8, 9) };
    let records = [at("exec-events", 2, 7, 9), long];
    let file = written(&info(), &[&records]);
    assert_eq!(merged(&file, Order::Time), records);
    assert_eq!(Recording::open(Cursor::new(&file)).unwrap().info(), Some(&info()));
}

#[test]
fn another_avro_library_reads_it() {
    let partitions = two_partitions();
    let file = written(&info(), &[&partitions[0], &partitions[1]]);
    let reader = apache_avro::Reader::new(file.as_slice()).unwrap();
    let metadata: Info = serde_json::from_slice(&reader.user_metadata()["driftline.recording"]).unwrap();
    assert_eq!(metadata, info());
    assert_eq!(reader.map(Result::unwrap).count(), 24);
}

#[test]
fn an_interrupted_recording_goes_on_and_ends_as_the_same_bytes() {
    let partitions = two_partitions();
    let sections: Vec<&[Recorded]> = partitions.iter().map(Vec::as_slice).collect();
    let whole = written(&info(), &sections);
    let head = written(&info(), &[]).len();
    for cut in (head..whole.len()).step_by(7_919).chain([whole.len() - 1, whole.len()]) {
        let mut recording = Recording::open(Cursor::new(&whole[..cut])).unwrap();
        let scan = recording.scan(Damage::CutOff).unwrap();
        let end = usize::try_from(scan.end).unwrap();
        assert!(end <= cut && cut - end < 2 * BLOCK_BYTES + 64, "at most one block is dropped");
        let mut file = whole[..end].to_vec();
        let mut writer = RecordingWriter::resume(&mut file, &info()).unwrap();
        let next = |partition: usize| {
            let lane = scan.lanes.iter().find(|lane| usize::try_from(lane.partition) == Ok(partition));
            lane.map_or(0, |lane| lane.last_offset + 1)
        };
        for (partition, section) in sections.iter().enumerate() {
            let rest = section.iter().filter(|record| record.offset >= next(partition));
            rest.for_each(|record| writer.append(record).unwrap());
            writer.end_section().unwrap();
        }
        writer.finish().unwrap();
        assert!(file == whole, "cut at {cut}");
    }
}

#[test]
fn the_same_range_gives_the_same_bytes_apart_from_the_time_of_recording() {
    let later = Info { recorded: "2026-01-02T03:04:06.000Z".into(), ..info() };
    let (one, other) = (written(&info(), &[&[at("images", 0, 1, 1)]]), written(&later, &[&[at("images", 0, 1, 1)]]));
    let different = one.iter().zip(&other).filter(|(a, b)| a != b).count();
    assert_eq!((one.len(), different), (other.len(), 4), "only digits of the time");
}

#[test]
fn partitions_are_merged_by_time_each_in_its_own_order() {
    let streams: [&[Recorded]; 2] = [
        // The second record of partition 0 is older than the first, and still follows it.
        &[at("exec-events", 0, 1, 50), at("exec-events", 0, 2, 10), at("exec-events", 0, 3, 60)],
        &[at("exec-events", 1, 1, 20), at("exec-events", 1, 2, 50)],
    ];
    let tables = [at("images", 0, 4, 50), at("image-layers", 2, 1, 55)];
    let file = written(&info(), &[&tables[..1], &tables[1..], streams[0], streams[1]]);
    let order = |order| -> Vec<(String, i32, i64)> {
        merged(&file, order).into_iter().map(|r| (r.topic, r.partition, r.offset)).collect()
    };
    let exec = |partition, offset| ("exec-events".to_owned(), partition, offset);
    let (image, layer) = (("images".to_owned(), 0, 4), ("image-layers".to_owned(), 2, 1));
    let by_time = [exec(1, 1), image.clone(), exec(0, 1), exec(0, 2), exec(1, 2), layer.clone(), exec(0, 3)];
    assert_eq!(order(Order::Time), by_time);
    let tables_first = [image, layer, exec(1, 1), exec(0, 1), exec(0, 2), exec(1, 2), exec(0, 3)];
    assert_eq!(order(Order::TablesFirst), tables_first);
}

#[test]
fn partitions_may_be_interleaved_in_the_file() {
    let partitions = two_partitions();
    let pairs = partitions[0].iter().zip(&partitions[1]);
    let mixed: Vec<Recorded> = pairs.flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let file = written(&info(), &[&mixed]);
    assert_eq!(merged(&file, Order::Time), mixed);
    assert_eq!(merged(&file, Order::Time), merged(&written(&info(), &[&partitions[0], &partitions[1]]), Order::Time));
}

#[test]
fn a_recording_from_before_there_was_an_info_is_read() {
    let recording = Recording::open(Cursor::new(OLD)).unwrap();
    assert_eq!(recording.info(), None);
    let records = merged(OLD, Order::TablesFirst);
    assert_eq!((records[0].topic.as_str(), records.last().unwrap().topic.as_str()), ("image-layers", "exec-events"));
    assert!(records.len() > 100, "{}", records.len());
}

#[test]
fn what_is_not_a_whole_recording_is_refused_in_words() {
    let file = written(&info(), &[&[at("exec-events", 0, 1, 1)], &[at("exec-events", 1, 1, 1)]]);
    let cut = refusal(&file[..file.len() - 3]);
    assert!(cut.contains("cut off or damaged at byte") && cut.contains("in the middle of a block"), "{cut}");
    let mut changed = file.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(refusal(&changed).contains("does not end with its marker"));
    assert!(refusal(&file[..200]).contains("cut off or damaged at byte 0"));
    assert!(refusal(b"hello").contains("not a recording"));
    assert!(refusal(b"").contains("not a recording"));

    let newer = Info { format: FORMAT + 1, driftline: "9.0.0".into(), ..info() };
    assert!(refusal(&written(&newer, &[])).contains("use driftline 9.0.0 or newer"));
    assert!(refusal(&written(&info(), &[&[at("rules", 0, 1, 1)]])).contains("a topic \"rules\""));
    let twice = [at("exec-events", 0, 1, 1), at("exec-events", 0, 1, 1)];
    assert!(refusal(&written(&info(), &[&twice])).contains("offset 1 comes after 1"));

    let schema = apache_avro::Schema::parse_str(r#"{"type": "record", "name": "Other", "fields": []}"#).unwrap();
    let other = apache_avro::Writer::new(&schema, Vec::new()).unwrap().into_inner().unwrap();
    assert!(refusal(&other).contains("its records are \"Other\""));
}

#[test]
fn the_lanes_say_how_much_there_is() {
    let file = written(&info(), &[&[at("images", 0, 4, 3)], &[at("exec-events", 1, 5, 7), at("exec-events", 1, 9, 8)]]);
    let scan = Recording::open(Cursor::new(&file)).unwrap().scan(Damage::Refuse).unwrap();
    assert_eq!((scan.records(), scan.end), (3, file.len() as u64));
    assert_eq!(scan.by_topic()[&Topic::ExecEvents], 2);
    assert_eq!((scan.lanes[1].last_offset, scan.lanes[1].first_ms), (9, 7));
}
