//! Bugs planted on purpose, in the log and around the cores, never in them: each must be caught, or the simulation sees
//! less than it claims.

use driftline_schemas::topics::Topic;
use driftline_schemas::{Exec, ExecEvent, Finding, HashState, Sha256, decode, encode};
use driftline_service_core::{Outgoing, Record, StateChange};

use crate::log::SimLog;
use crate::world::World;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// Some state changes are not written.
    LostChangelogWrite,
    /// Offsets count before the outputs do.
    OffsetsCommittedEarly,
    /// A restore ends at the last stable offset.
    RestoreToLastStableOffset,
    /// Amendments of findings are not sent.
    DroppedAmendment,
    /// The committed offset is read while a transaction may change it.
    UnstableCommittedOffset,
    /// Neither a producer's epoch nor the group's generation is looked at.
    NoFencing,
    /// An abort leaves the state as it is.
    StateKeptAfterAbort,
    /// Reading begins one record too late.
    SkipsARecordAtResume,
    /// A restore that ended before its mark passes for whole.
    TornRestoreAccepted,
    /// Outputs can be read before the commit.
    OutputsOutsideTheTransaction,
    /// When a finding arrives decides which session it joins.
    WallClockDecidesMembership,
    /// Outputs of a transaction are sent in the order of their digests.
    OrderByHash,
    /// What is gone from the state stays in the changelog.
    TombstoneForgotten,
    /// An image is used although layers are missing.
    HalfLayerUsed,
    /// A reader whose next record is gone goes on at the oldest there is, and nobody is told.
    SilentOffsetReset,
    /// The group's generation is asked for when offsets are sent, instead of taken from what the service was last told:
    /// a member that lost its partitions and joined anew commits what it did for them.
    GenerationReadLate,
    /// Outputs of a transaction that was refused because the group had moved on are not sent again.
    RefusedOutputsForgotten,
    /// A transaction that was refused is committed instead of aborted, and then sent again.
    RefusedTransactionCommitted,
    /// Digests that come late are not looked at.
    LateDigestIgnored,
    /// The answer to a question for the end, asked at the assignment, turns the position there after reading was resumed,
    /// as librdkafka 2.12.1 does to partitions that are assigned at `Offset::End`.
    EndAtAssignment,
}

impl Plant {
    /// Every one.
    pub const ALL: [Self; 20] = [
        Self::LostChangelogWrite,
        Self::OffsetsCommittedEarly,
        Self::RestoreToLastStableOffset,
        Self::DroppedAmendment,
        Self::UnstableCommittedOffset,
        Self::NoFencing,
        Self::StateKeptAfterAbort,
        Self::SkipsARecordAtResume,
        Self::TornRestoreAccepted,
        Self::OutputsOutsideTheTransaction,
        Self::WallClockDecidesMembership,
        Self::OrderByHash,
        Self::TombstoneForgotten,
        Self::HalfLayerUsed,
        Self::SilentOffsetReset,
        Self::GenerationReadLate,
        Self::RefusedOutputsForgotten,
        Self::RefusedTransactionCommitted,
        Self::LateDigestIgnored,
        Self::EndAtAssignment,
    ];

    /// As typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LostChangelogWrite => "lost-changelog-write",
            Self::OffsetsCommittedEarly => "offsets-committed-early",
            Self::RestoreToLastStableOffset => "restore-to-last-stable-offset",
            Self::DroppedAmendment => "dropped-amendment",
            Self::UnstableCommittedOffset => "unstable-committed-offset",
            Self::NoFencing => "no-fencing",
            Self::StateKeptAfterAbort => "state-kept-after-abort",
            Self::SkipsARecordAtResume => "skips-a-record-at-resume",
            Self::TornRestoreAccepted => "torn-restore-accepted",
            Self::OutputsOutsideTheTransaction => "outputs-outside-the-transaction",
            Self::WallClockDecidesMembership => "wall-clock-decides-membership",
            Self::OrderByHash => "order-by-hash",
            Self::TombstoneForgotten => "tombstone-forgotten",
            Self::HalfLayerUsed => "half-layer-used",
            Self::SilentOffsetReset => "silent-offset-reset",
            Self::GenerationReadLate => "generation-read-late",
            Self::RefusedOutputsForgotten => "refused-outputs-forgotten",
            Self::RefusedTransactionCommitted => "refused-transaction-committed",
            Self::LateDigestIgnored => "late-digest-ignored",
            Self::EndAtAssignment => "end-at-assignment",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plant| plant.name() == name)
    }
}

/// What is left of a record that was read.
pub(crate) fn read(world: &World, record: Record) -> Record {
    if !is(world, Plant::LateDigestIgnored) {
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

/// Whether this bug is planted.
pub(crate) fn is(world: &World, plant: Plant) -> bool {
    world.plant == Some(plant)
}

/// What is left of a record to send.
pub(crate) fn sent(log: &mut SimLog, outgoing: Outgoing) -> Option<Outgoing> {
    let plant = log.world.lock().plant;
    match plant {
        Some(Plant::RefusedOutputsForgotten) if log.forgotten > 0 => {
            log.forgotten -= 1;
            None
        }
        Some(Plant::DroppedAmendment) if is_amendment(&outgoing) => None,
        Some(Plant::OrderByHash) => {
            log.held_back.push(outgoing);
            log.held_back.sort_by_key(|held| Sha256::of(&held.value));
            None
        }
        _ => Some(outgoing),
    }
}

/// How many outputs of a refused transaction are not sent again.
pub(crate) fn forgotten(log: &SimLog) -> usize {
    if is(&log.world.lock(), Plant::RefusedOutputsForgotten) { log.sent } else { 0 }
}

fn is_amendment(outgoing: &Outgoing) -> bool {
    outgoing.topic == Topic::Findings && decode::<Finding>(&outgoing.value).is_ok_and(|finding| finding.revision > 1)
}

/// Whether a state change is written.
pub(crate) fn keeps_change(log: &SimLog, change: &StateChange) -> bool {
    let mut world = log.world.lock();
    match world.plant {
        Some(Plant::LostChangelogWrite) => !world.chance.one_in(20),
        Some(Plant::TombstoneForgotten) => change.value.is_some(),
        _ => true,
    }
}
