//! What the next start has to know, in a slot of fixed length. Two slots are written in turn, each over its own
//! predecessor, so that there is always a whole one and a full disk does not matter.

use serde::{Deserialize, Serialize};

use super::Gaps;
use crate::limits;

/// Length and checksum in front of the text.
const HEAD_BYTES: usize = 8;

/// What the next start has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// One more than in the checkpoint before.
    pub number: u64,
    /// Which Kafka and topics this collector was attached to; empty when it never was.
    pub origin: String,
    /// Boot in which it was written.
    pub boot_id: String,
    /// Every exec up to this moment was acknowledged, spooled or counted; nanoseconds since 1970, 0 when it is not known.
    pub safe_ns: i64,
    /// Records up to this sequence number were acknowledged.
    pub done: u64,
    /// Records up to this sequence number were written to segments.
    pub spooled: u64,
    /// What was given up and is in no loss record yet.
    pub gaps: Gaps,
    /// What is in loss records that are not acknowledged yet. Its name on the disk is older, so that spools stay readable.
    #[serde(rename = "saying")]
    pub reporting: Gaps,
    /// Run whose records those are: emitted again they have the same id.
    #[serde(rename = "said_by")]
    pub reported_by: String,
}

impl Checkpoint {
    /// A slot with it; nothing when it does not fit, which limits rule out.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let text = serde_json::to_vec(self).ok()?;
        let mut slot = Vec::with_capacity(limits::CHECKPOINT_SLOT_BYTES);
        slot.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
        slot.extend_from_slice(&crc32fast::hash(&text).to_le_bytes());
        slot.extend_from_slice(&text);
        if slot.len() > limits::CHECKPOINT_SLOT_BYTES {
            return None;
        }
        slot.resize(limits::CHECKPOINT_SLOT_BYTES, 0);
        Some(slot)
    }

    /// The newer of the slots that are whole.
    #[must_use]
    pub fn newest(slots: &[u8]) -> Option<Self> {
        let whole = slots.chunks(limits::CHECKPOINT_SLOT_BYTES).filter_map(Self::decode);
        whole.max_by_key(|checkpoint| checkpoint.number)
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let (length, rest) = slot.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let text = rest.get(..length)?;
        (crc32fast::hash(text) == u32::from_le_bytes(*sum)).then(|| serde_json::from_slice(text).ok())?
    }
}

const _: () = assert!(
    HEAD_BYTES + 1_024 + 2 * limits::SPOOL_REASONS * (limits::SPOOL_REASON_BYTES + 128)
        <= limits::CHECKPOINT_SLOT_BYTES
);

#[cfg(test)]
mod tests {
    use super::super::Gap;
    use super::*;

    fn checkpoint(number: u64) -> Checkpoint {
        let mut gaps = Gaps::default();
        for reason in 0..limits::SPOOL_REASONS {
            let reason = format!("{reason:0>width$}", width = limits::SPOOL_REASON_BYTES);
            assert!(gaps.add(&reason, Gap { lost: Some(u64::MAX), from_ns: i64::MIN, to_ns: i64::MAX }));
        }
        let (origin, boot_id, reported_by) = ("f".repeat(64), "b".repeat(36), "c".repeat(36));
        let reporting = gaps.clone();
        Checkpoint {
            number,
            origin,
            boot_id,
            safe_ns: i64::MAX,
            done: u64::MAX,
            spooled: u64::MAX,
            gaps,
            reporting,
            reported_by,
        }
    }

    #[test]
    fn the_longest_fits_a_slot_and_is_read_back() {
        let slot = checkpoint(7).encode().unwrap();
        assert_eq!(slot.len(), limits::CHECKPOINT_SLOT_BYTES);
        assert_eq!(Checkpoint::newest(&slot), Some(checkpoint(7)));
    }

    #[test]
    fn a_slot_that_is_damaged_or_half_written_leaves_the_other() {
        let (old, new) = (checkpoint(7).encode().unwrap(), checkpoint(8).encode().unwrap());
        let both = [new.clone(), old.clone()].concat();
        assert_eq!(Checkpoint::newest(&both).unwrap().number, 8);
        let used = usize::try_from(u32::from_le_bytes(*new.first_chunk().unwrap())).unwrap() + HEAD_BYTES;
        for at in 0..used {
            let mut damaged = both.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Checkpoint::newest(&damaged).unwrap().number, 7, "byte {at}");
        }
        for cut in 0..old.len() {
            let number = Checkpoint::newest(&both[..cut]).map(|checkpoint| checkpoint.number);
            assert_eq!(number, (cut >= used).then_some(8), "cut at {cut}");
        }
    }
}
