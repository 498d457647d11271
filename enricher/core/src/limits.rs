//! Every maximum of the enricher's state, per container or partition, with where it comes from.

const SECOND_NS: i64 = 1_000_000_000;

/// Most events one container may have parked: five seconds (the default deadline) of 800 execs a second, more than
/// two cores can fork. One more, and the head goes out unresolved.
pub const PARKED_MAX: usize = 4_096;

/// Most containers tracked for one partition: 5,000 nodes × 100 containers over 12 partitions, halved by churn.
pub const CONTAINERS_MAX: usize = 20_000;

/// Event ids remembered per container to recognise repeats; a collector repeats at most what one Kafka client keeps in
/// flight for one partition, five requests of some hundred records.
pub const RECENT_EVENTS_MAX: usize = 512;

/// Paths per container for which a mismatch between node and manifest was reported; more are counted only.
pub const MISMATCHED_PATHS_MAX: usize = 64;

/// Findings per container that may still be amended when the image becomes known.
pub const UNRESOLVED_MAX: usize = 64;

/// How long an unresolved finding may be amended.
pub const AMEND_NS: i64 = 3_600 * SECOND_NS;

/// A container of which nothing was heard for this long is forgotten: collectors repeat container records every hour.
pub const SILENCE_NS: i64 = 2 * 3_600 * SECOND_NS + 300 * SECOND_NS;

/// Pause before an image that nobody has indexed is asked for again.
pub const REQUEST_AGAIN_NS: i64 = 30 * SECOND_NS;
