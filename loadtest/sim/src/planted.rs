//! The effect of a planted [`Mutant`] on records: those read, those sent, and those written as state. Called by
//! [`crate::process`] and [`crate::log`].

use driftline_schemas::topics::Topic;
use driftline_schemas::{Exec, ExecEvent, Finding, HashState, Sha256, decode, encode};
use driftline_service_core::{Outgoing, Record, StateChange};

use crate::mutant::Mutant;
use crate::world::World;

/// The record as the mutant passes it on after reading.
pub(crate) fn record_read(world: &World, record: Record) -> Record {
    if !world.has(Mutant::LateDigestIgnored) {
        return record;
    }
    match ExecEvent::decode(record.value.as_deref().unwrap_or_default()) {
        Ok(ExecEvent::Exec(exec)) if world.undigested.contains(exec.event_id.as_str()) => {
            let exec = Exec { hash_state: HashState::OverBudget, sha256: None, ..*exec };
            Record { value: encode(&exec).ok(), ..record }
        }
        _ => record,
    }
}

/// Whether a state change is written.
pub(crate) fn writes_change(world: &mut World, change: &StateChange) -> bool {
    match world.mutant {
        Some(Mutant::LostChangelogWrite) => !world.chance.one_in(20),
        Some(Mutant::TombstoneForgotten) => change.value.is_some(),
        _ => true,
    }
}

/// The outputs of one producer, as a mutant changes them.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// Outputs held back until the flush.
    held_back: Vec<Outgoing>,
    /// Number of outputs sent in the open transaction.
    sent: usize,
    /// Number of outputs of a refused transaction that will not be sent again.
    forgotten: usize,
}

impl Outputs {
    /// The record to send, unless the mutant drops it or holds it back.
    pub(crate) fn send(&mut self, mutant: Option<Mutant>, outgoing: Outgoing) -> Option<Outgoing> {
        self.sent += 1;
        match mutant {
            Some(Mutant::RefusedOutputsForgotten) if self.forgotten > 0 => {
                self.forgotten -= 1;
                None
            }
            Some(Mutant::DroppedAmendment) if is_amendment(&outgoing) => None,
            Some(Mutant::OrderByHash) => {
                self.held_back.push(outgoing);
                self.held_back.sort_by_key(|held| Sha256::of(&held.value));
                None
            }
            _ => Some(outgoing),
        }
    }

    /// Records that were held back.
    pub(crate) fn flush(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.held_back)
    }

    /// Notes that the transaction is committed.
    pub(crate) fn commit(&mut self) {
        self.sent = 0;
    }

    /// Notes that the transaction is undone; after a refusal its outputs are sent again.
    pub(crate) fn abort(&mut self, mutant: Option<Mutant>, is_refused: bool) {
        self.held_back.clear();
        let is_forgotten = is_refused && mutant == Some(Mutant::RefusedOutputsForgotten);
        self.forgotten = if is_forgotten { self.sent } else { 0 };
        self.sent = 0;
    }
}

fn is_amendment(outgoing: &Outgoing) -> bool {
    outgoing.topic == Topic::Findings && decode::<Finding>(&outgoing.value).is_ok_and(|finding| finding.revision > 1)
}
