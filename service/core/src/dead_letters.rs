//! Dead letters: records that cannot be used, kept with their origin and the reason, so that no record disappears.

use driftline_schemas::Sha256;
use driftline_schemas::limits::{DEAD_LETTER_BYTES_MAX, DEAD_LETTER_HEAD_BYTES};
use driftline_schemas::topics::Topic;

use crate::{Outgoing, Record};

/// Makes the dead letter of a record. The value is the original one. If it is longer than [`DEAD_LETTER_BYTES_MAX`],
/// the dead letter contains its beginning, and headers contain length and SHA-256 of the whole.
pub(crate) fn dead_letter(record: &Record, service: &str, reason: &str) -> Outgoing {
    let original = record.value.as_deref().unwrap_or_default();
    let mut headers = vec![
        ("driftline-service", service.as_bytes().to_vec()),
        ("driftline-reason", reason.as_bytes().to_vec()),
        ("driftline-topic", record.topic.spec().stem.as_bytes().to_vec()),
        ("driftline-partition", record.partition.to_string().into_bytes()),
        ("driftline-offset", record.offset.to_string().into_bytes()),
        ("driftline-timestamp-ms", record.timestamp_ms.to_string().into_bytes()),
    ];
    let mut value = original;
    if original.len() > DEAD_LETTER_BYTES_MAX {
        value = original.get(..DEAD_LETTER_HEAD_BYTES).unwrap_or(original);
        headers.push(("driftline-length", original.len().to_string().into_bytes()));
        headers.push(("driftline-sha256", Sha256::of(original).to_string().into_bytes()));
    }
    let key = record.key.clone().unwrap_or_default();
    let key = key.get(..DEAD_LETTER_HEAD_BYTES).map_or(key.clone(), <[u8]>::to_vec);
    Outgoing { topic: Topic::DeadLetters, key, value: value.to_vec(), headers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: Vec<u8>) -> Record {
        Record {
            topic: Topic::ExecEvents,
            partition: 3,
            offset: 8,
            timestamp_ms: 1,
            key: Some(b"k".to_vec()),
            value: Some(value),
            headers: vec![],
        }
    }

    fn header<'a>(letter: &'a Outgoing, name: &str) -> Option<&'a [u8]> {
        letter.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_slice())
    }

    #[test]
    fn a_dead_letter_keeps_bytes_origin_and_reason() {
        let letter = dead_letter(&record(vec![1, 2]), "enricher", "because");
        assert_eq!((letter.key.as_slice(), letter.value.as_slice()), (b"k".as_slice(), [1, 2].as_slice()));
        assert_eq!(header(&letter, "driftline-reason"), Some(b"because".as_slice()));
        assert_eq!(header(&letter, "driftline-topic"), Some(b"exec-events".as_slice()));
        assert_eq!(header(&letter, "driftline-offset"), Some(b"8".as_slice()));
    }

    #[test]
    fn only_what_is_over_the_limit_is_cut_and_says_so() {
        let whole = dead_letter(&record(vec![7; DEAD_LETTER_BYTES_MAX]), "s", "r");
        assert_eq!((whole.value.len(), header(&whole, "driftline-length")), (DEAD_LETTER_BYTES_MAX, None));
        let cut = dead_letter(&record(vec![7; DEAD_LETTER_BYTES_MAX + 1]), "s", "r");
        assert_eq!(cut.value.len(), DEAD_LETTER_HEAD_BYTES);
        assert_eq!(header(&cut, "driftline-length"), Some((DEAD_LETTER_BYTES_MAX + 1).to_string().as_bytes()));
        assert!(header(&cut, "driftline-sha256").is_some());
    }
}
