//! Values as other versions of driftline write them, for tests of upgrades and downgrades, here and in the packages
//! that keep state. Not for production: a value that is not a record of driftline, or lacks the field, causes a panic.
#![expect(clippy::panic, clippy::expect_used, reason = "called by tests only, where a panic is the failure")]

use serde::de::{Deserialize as _, IgnoredAny};
use serde_avro_fast::Schema;
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};
use std::io::BufRead as _;

use crate::codec::{header, split};

/// Every schema file; a test checks that none is missing.
pub(crate) const FILES: [(&str, &str); 20] = [
    ("alert", include_str!("../alert.avsc")),
    ("collector_loss", include_str!("../collector_loss.avsc")),
    ("container_ended", include_str!("../container_ended.avsc")),
    ("container_seen", include_str!("../container_seen.avsc")),
    ("container_state", include_str!("../container_state.avsc")),
    ("container_throttled", include_str!("../container_throttled.avsc")),
    ("correlator_beyond", include_str!("../correlator_beyond.avsc")),
    ("correlator_finding", include_str!("../correlator_finding.avsc")),
    ("correlator_partition", include_str!("../correlator_partition.avsc")),
    ("correlator_session", include_str!("../correlator_session.avsc")),
    ("exec", include_str!("../exec.avsc")),
    ("finding", include_str!("../finding.avsc")),
    ("image", include_str!("../image.avsc")),
    ("image_request", include_str!("../image_request.avsc")),
    ("layer_chunk", include_str!("../layer_chunk.avsc")),
    ("layer_entry", include_str!("../layer_entry.avsc")),
    ("layer_head", include_str!("../layer_head.avsc")),
    ("recorded", include_str!("../recorded.avsc")),
    ("reported_exec", include_str!("../reported_exec.avsc")),
    ("unresolved_finding", include_str!("../unresolved_finding.avsc")),
];

/// A field that this version does not know, and its value: a length in Avro's zigzag form and the text.
const ADDED: &str =
    r#"{"name": "added_by_next", "type": "string", "default": "", "doc": "what this version cannot know"}"#;
const ADDED_VALUE: &[u8] = b"\x08news";

/// Encodes `value` as the next version writes it, whose schema has one more field, `added_by_next`, in front of the
/// others. Returns the value and that schema.
#[must_use]
pub fn as_written_by_next(value: &[u8]) -> (Vec<u8>, String) {
    let (json, datum) = parts(value);
    let (before, mut fields, after) = fields(json);
    fields.insert(0, ADDED);
    with_schema(&[ADDED_VALUE, datum].concat(), &joined(before, &fields, after))
}

/// Encodes `value` as a version wrote it whose schema did not have the field `dropped` yet. Returns the value and that
/// schema. The field must not define a type that a later field uses.
#[must_use]
pub fn as_written_by_previous(value: &[u8], dropped: &str) -> (Vec<u8>, String) {
    let (json, datum) = parts(value);
    let (before, mut fields, after) = fields(json);
    let named = format!("\"name\": \"{dropped}\"");
    let at = fields.iter().position(|field| field.trim_start_matches(['{', ' ']).starts_with(&named));
    let at = at.unwrap_or_else(|| panic!("no field {dropped}"));
    // A field's bytes are the difference between what two schemas read: one that ends with the field, and one that ends
    // before it.
    let length = |count: usize| bytes_read(datum, &joined(before, fields.get(..count).unwrap_or_default(), after));
    let (start, end) = (length(at), length(at + 1));
    fields.remove(at);
    let datum = [datum.get(..start), datum.get(end..)].map(Option::unwrap_or_default).concat();
    with_schema(&datum, &joined(before, &fields, after))
}

/// The schema of a value of this version, and its datum.
fn parts(value: &[u8]) -> (&'static str, &[u8]) {
    let (fingerprint, datum) = split(value).expect("a single-object encoded value");
    let written = FILES.iter().find(|(_, json)| parse(json).rabin_fingerprint() == fingerprint);
    (written.expect("a value written with a current schema").1, datum)
}

fn parse(json: &str) -> Schema {
    json.parse().expect("a schema")
}

fn with_schema(datum: &[u8], json: &str) -> (Vec<u8>, String) {
    ([header(&parse(json)).as_slice(), datum].concat(), json.to_owned())
}

fn bytes_read(datum: &[u8], json: &str) -> usize {
    let schema = parse(json);
    let mut state = DeserializerState::with_config(SliceRead::new(datum), DeserializerConfig::new(&schema));
    IgnoredAny::deserialize(state.deserializer()).expect("a datum of this schema");
    datum.len() - state.into_reader().fill_buf().map_or(0, <[u8]>::len)
}

/// The text of a record's schema before its fields, the fields, and the text after them.
fn fields(json: &str) -> (&str, Vec<&str>, &str) {
    let begin = json.find("\"fields\": [").expect("a record") + "\"fields\": [".len();
    let (before, rest) = json.split_at(begin);
    let (mut fields, mut depth, mut from, mut quoted) = (Vec::new(), 0_usize, 0, false);
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b']' if depth == 0 => {
                fields.push(rest.get(from..at).unwrap_or_default().trim());
                return (before, fields, rest.get(at..).unwrap_or_default());
            }
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                fields.push(rest.get(from..at).unwrap_or_default().trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    panic!("the fields of a record have no end")
}

fn joined(before: &str, fields: &[&str], after: &str) -> String {
    [before, &fields.join(",\n"), after].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerEnded, ContainerId, DecodeError, Image, Platform, WriterSchemas, decode, encode};

    fn image() -> Image {
        Image {
            image_id: "sha256:00".into(),
            diff_ids: vec!["sha256:01".into()],
            platform: Platform::default(),
            references: vec!["app:1".into()],
            volumes: vec!["/data".into()],
            source: "any".into(),
            indexed_ns: 7,
            retry_ns: 9,
            ..Image::default()
        }
    }

    #[test]
    fn every_schema_file_is_known_here() {
        let files = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
        let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".avsc")?.to_owned())).collect();
        names.sort();
        assert_eq!(names, FILES.map(|(name, _)| name));
    }

    #[test]
    fn a_schema_taken_apart_and_put_together_is_the_same() {
        for (name, json) in FILES {
            let (before, fields, after) = fields(json);
            let same = parse(&joined(before, &fields, after));
            assert_eq!(same.rabin_fingerprint(), parse(json).rabin_fingerprint(), "{name}");
        }
    }

    #[test]
    fn what_the_next_version_writes_is_read_with_its_schema_only() {
        let (value, json) = as_written_by_next(&encode(&image()).unwrap());
        assert!(matches!(decode::<Image>(&value), Err(DecodeError::UnknownSchema(_))));
        let mut schemas = WriterSchemas::default();
        schemas.add(&json).unwrap();
        assert_eq!(schemas.decode::<Image>(&value), Ok(image()));
    }

    #[test]
    fn what_a_previous_version_wrote_lacks_the_field_and_nothing_else() {
        let ended = ContainerEnded {
            container_id: ContainerId::from("ab"),
            cluster: "c".into(),
            node: "n".into(),
            ended_ns: 5,
        };
        let (value, json) = as_written_by_previous(&encode(&ended).unwrap(), "cluster");
        let mut schemas = WriterSchemas::default();
        schemas.add(&json).unwrap();
        let error = schemas.decode::<ContainerEnded>(&value).unwrap_err();
        assert!(error.to_string().contains("missing field `cluster`"), "{error}");
        // An optional field has a default.
        let (value, json) = as_written_by_previous(&encode(&image()).unwrap(), "failed");
        schemas.add(&json).unwrap();
        assert_eq!(schemas.decode::<Image>(&value), Ok(image()));
    }
}
