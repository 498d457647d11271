//! The codec against hostile bytes, and against an independent Avro implementation.

use super::*;
use crate::{
    CollectorLoss, ContainerEnded, ContainerId, ContainerThrottled, Exec, ExecEvent, FileClass, FileFacts, FoldedFile,
    HashState, Image, Loader, Mount, Node, Sha256,
};

fn ended() -> ContainerEnded {
    ContainerEnded { container_id: ContainerId::from("ab"), cluster: "c".into(), node: "n".into(), ended_ns: 5 }
}

#[test]
fn an_independent_implementation_reads_what_we_write() {
    let schema = apache_avro::Schema::parse_str(include_str!("../../container_ended.avsc")).unwrap();
    let bytes = encode(&ended()).unwrap();
    let fingerprint = schema.fingerprint::<apache_avro::rabin::Rabin>();
    assert_eq!(&bytes[2..10], fingerprint.bytes.as_slice());
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
    assert_eq!(reader.read_deser::<ContainerEnded>(&mut &bytes[10..]).unwrap(), ended());
}

#[test]
fn every_schema_is_documented_and_frozen() {
    for (name, text) in schema_files() {
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        check_docs(&name, &json);
        apache_avro::Schema::parse_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let newest = newest_frozen(&name);
        assert_eq!(newest, text, "{name}.avsc differs from its newest frozen version: freeze a new one");
    }
}

#[test]
fn frozen_schemas_never_change() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/frozen");
    let sums = std::fs::read_to_string(format!("{directory}/SHA256SUMS")).unwrap();
    let listed: Vec<_> = sums.lines().map(|line| line.split_once("  ").unwrap()).collect();
    for (sum, file) in &listed {
        let bytes = std::fs::read(format!("{directory}/{file}")).unwrap();
        assert_eq!(&crate::Sha256::of(&bytes).to_string(), sum, "{file} was changed after it was frozen");
    }
    let files = std::fs::read_dir(directory)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "avsc"));
    assert_eq!(files.count(), listed.len(), "every frozen schema stands in SHA256SUMS");
}

#[test]
fn every_frozen_version_and_the_current_one_read_each_other() {
    use apache_avro::schema_compatibility::SchemaCompatibility;
    for (name, text) in schema_files() {
        let current = apache_avro::Schema::parse_str(&text).unwrap();
        for frozen in frozen_versions(&name) {
            let frozen = apache_avro::Schema::parse_str(&frozen).unwrap();
            SchemaCompatibility::can_read(&frozen, &current).unwrap_or_else(|error| panic!("{name}: {error}"));
            SchemaCompatibility::can_read(&current, &frozen).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn hostile_bytes_each_have_their_reason() {
    let good = encode(&ended()).unwrap();
    let check = |bytes: &[u8], expect: &str| {
        let error = ExecEvent::decode(bytes).unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error}");
    };
    check(b"", "empty value");
    check(b"garbage that is long enough", "no avro single-object header");
    check(&good[..9], "no avro single-object header");
    check(&good[..good.len() - 1], "malformed ContainerEnded datum");
    check(&[good.as_slice(), b"\0"].concat(), "trailing bytes after the ContainerEnded datum");
    check(&vec![0; limits::RECORD_BYTES_MAX + 1], "1000001 bytes, more than");
    let mut other = good.clone();
    other[5] ^= 1;
    check(&other, "unknown schema fingerprint");
    let image = encode(&Image::default()).unwrap();
    check(&image, "unknown schema fingerprint");
}

#[test]
fn a_length_that_promises_more_than_there_is_allocates_nothing() {
    let mut bytes = encode(&ended()).unwrap()[..10].to_vec();
    bytes.extend_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(ExecEvent::decode(&bytes), Err(DecodeError::Malformed { .. })));
}

#[test]
fn optional_values_and_records_inside_records_go_both_ways() {
    let loss = CollectorLoss {
        node: Node { name: "n".into(), ..Node::default() },
        collector_start: "s".into(),
        from_ns: 1,
        to_ns: 2,
        lost: Some(3),
        reason: "ring_full".into(),
    };
    assert_eq!(ExecEvent::decode(&encode(&loss).unwrap()), Ok(ExecEvent::Loss(loss)));
}

#[test]
fn what_a_loader_is_goes_both_ways_and_keeps_the_limits_of_a_mount() {
    let mount = Mount { point: "/vol".into(), fs_type: "bind".into(), source: String::new(), read_only: true };
    let loader = Loader {
        class: FileClass::Volume,
        file: FileFacts { ino: 7, ..FileFacts::default() },
        mount: Some(mount.clone()),
        hash_state: HashState::Hashed,
        sha256: Some(Sha256([7; 32])),
    };
    let inner_container_id = Some(ContainerId::from("cd"));
    let exec = Exec { loader: Some(loader.clone()), inner_container_id, ..Exec::default() };
    assert_eq!(ExecEvent::decode(&encode(&exec).unwrap()), Ok(ExecEvent::Exec(Box::new(exec.clone()))));
    let long = Mount { source: "x".repeat(limits::PATH_BYTES_MAX + 1), ..mount };
    let exec = Exec { loader: Some(Loader { mount: Some(long), ..loader }), ..exec };
    let error = ExecEvent::decode(&encode(&exec).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "mount.source of the Exec is over its limit of 4096");
    let long = ContainerId::from("x".repeat(limits::ID_BYTES_MAX + 1).as_str());
    let exec = Exec { inner_container_id: Some(long), ..Exec::default() };
    let error = ExecEvent::decode(&encode(&exec).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "inner_container_id of the Exec is over its limit of 128");
}

#[test]
fn a_throttled_container_names_as_many_files_as_are_allowed_and_no_more() {
    let file = FoldedFile { path: vec![b'p'; limits::PATH_BYTES_MAX], execs: 7 };
    let mut throttled = ContainerThrottled {
        container_id: ContainerId::from("ab"),
        node: Node { name: "n".into(), ..Node::default() },
        collector_start: "s".into(),
        from_ns: 1,
        to_ns: 2,
        ordinary: 3,
        folded: 4,
        files: 1,
        examples: vec![file.clone(); limits::FOLDED_EXAMPLES_MAX],
    };
    let bytes = encode(&throttled).unwrap();
    let event = ExecEvent::decode(&bytes).unwrap();
    assert_eq!((event.key(), &event), ("ab", &ExecEvent::Throttled(Box::new(throttled.clone()))));
    throttled.examples.push(file.clone());
    let error = ExecEvent::decode(&encode(&throttled).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "examples of the ContainerThrottled is over its limit of 16");
    throttled.examples = vec![FoldedFile { path: [file.path, vec![b'p']].concat(), execs: 1 }];
    let error = ExecEvent::decode(&encode(&throttled).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "examples.path of the ContainerThrottled is over its limit of 4096");
}

fn schema_files() -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "avsc"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() >= 12, "the schema files are found");
    files
}

/// Frozen versions of a schema, oldest first.
fn frozen_versions(name: &str) -> Vec<String> {
    (1..)
        .map_while(|version| {
            let path = format!("{}/frozen/{name}.{version}.avsc", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).ok()
        })
        .collect()
}

fn newest_frozen(name: &str) -> String {
    frozen_versions(name).pop().unwrap_or_else(|| panic!("{name} has no frozen version"))
}

fn check_docs(place: &str, json: &serde_json::Value) {
    match json {
        serde_json::Value::Object(object) => {
            let named = object.contains_key("name");
            let documented = object.get("doc").and_then(|doc| doc.as_str()).is_some_and(|doc| !doc.is_empty());
            assert!(!named || documented, "{place}: {} has no doc", object["name"]);
            object.values().for_each(|value| check_docs(place, value));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| check_docs(place, item)),
        _ => {}
    }
}
