//! Bugs planted on purpose, in the log and around the cores, never in them. Each must be noticed; otherwise the
//! simulation covers less than it claims.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Some state changes are not written.
    LostChangelogWrite,
    /// Offsets are committed before the outputs.
    OffsetsCommittedEarly,
    /// A restore ends at the last stable offset.
    RestoreToLastStableOffset,
    /// Amendments of findings are not sent.
    DroppedAmendment,
    /// The committed offset is read while a transaction may change it.
    UnstableCommittedOffset,
    /// Producer epochs and the group's generation are not checked.
    NoFencing,
    /// An abort keeps the state instead of restoring it.
    StateKeptAfterAbort,
    /// Reading begins one record too late.
    SkipsARecordAtResume,
    /// A restore that ended before its mark counts as complete.
    TornRestoreAccepted,
    /// Outputs are readable before the commit.
    OutputsOutsideTheTransaction,
    /// A finding's time of arrival decides which session it joins.
    WallClockDecidesMembership,
    /// Outputs of a transaction are sent in the order of their digests.
    OrderByHash,
    /// State that was dropped stays in the changelog.
    TombstoneForgotten,
    /// An image is used although layers are missing.
    HalfLayerUsed,
    /// A reader whose next record was deleted continues at the oldest record without reporting it.
    SilentOffsetReset,
    /// The group's generation is read when offsets are sent, instead of taken from the last event that the service
    /// took: a member that lost its partitions and joined again commits the work that it did for them.
    GenerationReadLate,
    /// Outputs of a transaction that was refused because of a new generation are not sent again.
    RefusedOutputsForgotten,
    /// A transaction that was refused is committed instead of aborted, and then sent again.
    RefusedTransactionCommitted,
    /// Digests that arrive late are ignored.
    LateDigestIgnored,
    /// The response to a request for the end, made at the assignment, moves the position there after reading was
    /// resumed, as librdkafka 2.12.1 does to partitions that are assigned at `Offset::End`.
    EndAtAssignment,
    /// The clock reaches the correlator only every half minute. It is planted in the run without faults as well.
    RareTicks,
}

impl Mutant {
    /// All mutants.
    pub const ALL: [Self; 21] = [
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
        Self::RareTicks,
    ];

    /// The name on the command line.
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
            Self::RareTicks => "rare-ticks",
        }
    }

    /// Whether it needs no fault to take effect, and changes no content of an alert.
    pub(crate) fn is_of_pace(self) -> bool {
        self == Self::RareTicks
    }

    /// The mutant with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}
