//! The kinds of faults, and how often each was hit.

use std::collections::BTreeMap;

/// A kind of fault or disorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process ends before an effect.
    CrashBefore,
    /// The process ends after an effect, before it knows of it.
    CrashAfter,
    /// The process ends in the middle of taking a partition over.
    CrashInRestore,
    /// The process ends between two inputs.
    CrashIdle,
    /// An effect finds its transaction aborted.
    Abort,
    /// A process hangs for a moment, nobody notices.
    Freeze,
    /// A process hangs, the group gives its partitions to another, it comes back.
    FreezeMoved,
    /// A process hangs, its successor starts with the same transactional id, it comes back.
    FreezeReplaced,
    /// A transaction was open for so long that the broker aborted it.
    TransactionTimeout,
    /// A restore reads less than the state.
    TornRestore,
    /// A partition goes to another instance.
    Rebalance,
    /// A commit is refused because the group has moved on.
    Outdated,
    /// Input is taken while a refused commit waits.
    OutdatedInput,
    /// A partition has to be handed over while a refused commit waits.
    OutdatedRevoked,
    /// Partitions are lost while a refused commit waits.
    OutdatedLost,
    /// The process ends while a refused commit waits.
    OutdatedCrash,
    /// A collector sends a record again.
    DuplicateDelivery,
    /// A record of the past arrives late.
    LateDelivery,
    /// An exec comes first without its digest.
    LateDigest,
    /// Execs of a container were left out.
    Throttle,
    /// An image or one of its layers comes after the execs.
    TableLate,
    /// A layer stands half on the topic while execs come.
    HalfLayer,
    /// An image cannot be had.
    ImageFailed,
    /// Content of an image is not what its digest says.
    ImageMismatch,
    /// Somebody contradicts what is published of an image.
    ImageConflict,
    /// An image is never published.
    ImageMissing,
    /// A container's record comes after its execs.
    MetadataLate,
    /// A container's record never comes.
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
    /// Retention takes input that nobody has read.
    RetentionGap,
    /// A session is ended early because sessions take all the memory that they may.
    SessionsFull,
}

impl Fault {
    /// Every kind.
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

    /// As shown.
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
