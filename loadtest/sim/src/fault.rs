//! The kinds of faults, and how often each was hit.

use std::collections::BTreeMap;

/// A kind of fault or disorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process ends before an effect.
    CrashBefore,
    /// The process ends after an effect, before it receives the result.
    CrashAfter,
    /// The process ends while it takes over a partition.
    CrashInRestore,
    /// The process ends between two inputs.
    CrashIdle,
    /// An effect finds its transaction aborted.
    Abort,
    /// A process hangs for a short time, unnoticed by the group.
    Freeze,
    /// A process hangs, the group gives its partitions to another member, and the process resumes.
    FreezeMoved,
    /// A process hangs, its successor starts with the same transactional id, and the process resumes.
    FreezeReplaced,
    /// A transaction was open for so long that the broker aborted it.
    TransactionTimeout,
    /// A restore reads less than the state.
    TornRestore,
    /// A partition is assigned to another instance.
    Rebalance,
    /// A commit is refused because the group has a new generation.
    Outdated,
    /// Input is taken while a refused commit waits.
    OutdatedInput,
    /// A partition is revoked while a refused commit waits.
    OutdatedRevoked,
    /// Partitions are lost while a refused commit waits.
    OutdatedLost,
    /// The process ends while a refused commit waits.
    OutdatedCrash,
    /// A collector sends a record again.
    DuplicateDelivery,
    /// A record of the past arrives late.
    LateDelivery,
    /// An exec arrives without its digest first.
    LateDigest,
    /// Execs of a container were left out.
    Throttle,
    /// An image or one of its layers arrives after the execs.
    TableLate,
    /// A layer is incomplete on the topic while execs arrive.
    HalfLayer,
    /// An image is not available.
    ImageFailed,
    /// A blob of an image does not match its digest.
    ImageMismatch,
    /// A publisher contradicts the publication of an image.
    ImageConflict,
    /// An image is never published.
    ImageMissing,
    /// A container's record arrives after its execs.
    MetadataLate,
    /// A container's record never arrives.
    MetadataMissing,
    /// A container's image becomes known later.
    ImageIdLate,
    /// A container ends.
    ContainerEnd,
    /// The wall clock of an instance jumps forward.
    ClockForward,
    /// The wall clock of an instance jumps back.
    ClockBack,
    /// A record that cannot be used.
    Poison,
    /// A state partition is compacted.
    Compaction,
    /// Retention deletes input that no instance has read.
    RetentionGap,
    /// A session is ended early because the memory limit of the sessions is reached.
    SessionsFull,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 36] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::CrashInRestore,
        Self::CrashIdle,
        Self::Abort,
        Self::Freeze,
        Self::FreezeMoved,
        Self::FreezeReplaced,
        Self::TransactionTimeout,
        Self::TornRestore,
        Self::Rebalance,
        Self::Outdated,
        Self::OutdatedInput,
        Self::OutdatedRevoked,
        Self::OutdatedLost,
        Self::OutdatedCrash,
        Self::DuplicateDelivery,
        Self::LateDelivery,
        Self::LateDigest,
        Self::Throttle,
        Self::TableLate,
        Self::HalfLayer,
        Self::ImageFailed,
        Self::ImageMismatch,
        Self::ImageConflict,
        Self::ImageMissing,
        Self::MetadataLate,
        Self::MetadataMissing,
        Self::ImageIdLate,
        Self::ContainerEnd,
        Self::ClockForward,
        Self::ClockBack,
        Self::Poison,
        Self::Compaction,
        Self::RetentionGap,
        Self::SessionsFull,
    ];

    /// The name as printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CrashBefore => "crash before an effect",
            Self::CrashAfter => "crash after an effect",
            Self::CrashInRestore => "crash in a restore",
            Self::CrashIdle => "crash between inputs",
            Self::Abort => "abort",
            Self::Freeze => "freeze",
            Self::FreezeMoved => "freeze, partitions moved",
            Self::FreezeReplaced => "freeze, successor started",
            Self::TransactionTimeout => "transaction timeout",
            Self::TornRestore => "torn restore",
            Self::Rebalance => "rebalance",
            Self::Outdated => "commit refused, group moved on",
            Self::OutdatedInput => "refused, then input",
            Self::OutdatedRevoked => "refused, then revoked",
            Self::OutdatedLost => "refused, then lost",
            Self::OutdatedCrash => "refused, then a crash",
            Self::DuplicateDelivery => "duplicate delivery",
            Self::LateDelivery => "late delivery",
            Self::LateDigest => "digest late",
            Self::Throttle => "container throttled",
            Self::TableLate => "image late",
            Self::HalfLayer => "half a layer",
            Self::ImageFailed => "image failed",
            Self::ImageMismatch => "image mismatch",
            Self::ImageConflict => "image contradicted",
            Self::ImageMissing => "image never published",
            Self::MetadataLate => "metadata late",
            Self::MetadataMissing => "metadata missing",
            Self::ImageIdLate => "image id late",
            Self::ContainerEnd => "container end",
            Self::ClockForward => "clock forward",
            Self::ClockBack => "clock back",
            Self::Poison => "poison",
            Self::Compaction => "compaction",
            Self::RetentionGap => "retention gap",
            Self::SessionsFull => "sessions full",
        }
    }
}

/// How often each kind was hit.
pub type Hits = BTreeMap<Fault, u64>;
