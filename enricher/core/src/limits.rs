//! Every maximum of the enricher's state, per container or partition, with its derivation.

use driftline_schemas::limits::{AVRO_ITEMS_MAX, LABELS_BYTES_MAX, PATH_BYTES_MAX, RECORD_BYTES_MAX, TEXT_BYTES_MAX};

const SECOND_NS: i64 = 1_000_000_000;

/// Most memory of one container's parked execs: five seconds (the default deadline) of 800 execs a second, more than
/// two cores can fork, of 2 KiB each, where most take less. Above it, the head is judged unresolved. The largest
/// exec takes some 60 KiB.
pub const PARKED_BYTES_MAX: usize = 8 << 20;

/// Most memory of the execs parked in one partition: five seconds (the default deadline) of 13,000 execs a second of
/// 1.5 KiB, a node fleet's share of one partition while no image is known. Without it, a partition could hold
/// [`CONTAINERS_MAX`] × [`PARKED_BYTES_MAX`], more than any memory. Above it, the container that waits longest is
/// judged unresolved.
///
/// This limit is a compromise with confluence: whether it is reached depends on the neighbours in the partition, not on
/// the container alone. So it is high enough that only a fleet without images reaches it, and the finding names it as
/// the reason.
pub const PARKED_PARTITION_BYTES_MAX: usize = 96 << 20;

/// Most containers tracked for one partition: 5,000 nodes × 100 containers over 12 partitions, halved by churn.
pub const CONTAINERS_MAX: usize = 20_000;

/// Reported execs per container whose repeats are recognised. A collector repeats at most what one Kafka client has in
/// flight for one partition, five requests of some hundred records. A repeat of an exec without a finding is judged
/// again, again without a finding.
pub const REPORTED_MAX: usize = 512;

/// Paths per container for which a mismatch between node and manifest is reported; further ones are only counted.
pub const MISMATCHED_PATHS_MAX: usize = 64;

/// Execs per container that are judged again when the image becomes known: as many as their memory allows if each is as
/// small as most are (2 KiB).
pub const UNRESOLVED_MAX: usize = 512;

/// Most memory of these execs; 17 of the largest. Above either limit the weakest gives way, and its finding reports that
/// it will not be amended.
pub const UNRESOLVED_BYTES_MAX: usize = 1 << 20;

/// Event time within which the unproven execs of one reason are one finding: the gap that ends a session by default, so
/// that an alert about a later session has a finding of its own.
pub const UNPROVEN_FOLD_NS: i64 = 600 * SECOND_NS;

/// Findings about unproven execs per container that may still change: of two reasons all that begin within [`AMEND_NS`],
/// rounded up. Beyond it the oldest stays as it is.
pub const UNPROVEN_FOLDS_MAX: usize = 32;

/// How long an unresolved finding may be amended after its publication.
pub const AMEND_NS: i64 = 3_600 * SECOND_NS;

/// Silence after which a container is forgotten: collectors repeat container records every hour.
pub const SILENCE_NS: i64 = 2 * 3_600 * SECOND_NS + 300 * SECOND_NS;

/// How long an ended container is retained. A restarted collector sends unacknowledged records again, including the end
/// of a container and execs before it: without the container these execs would be new, and no record would describe the
/// container again. A restart takes a minute at most; ten leave room for an outage of Kafka.
pub const ENDED_KEPT_NS: i64 = 600 * SECOND_NS;

/// Resolution of the time at which a container was last heard of: a quarter of [`SILENCE_NS`]. A busy container then
/// changes its state twice an hour, and a container that is described every hour never counts as silent.
pub const HEARD_STEP_NS: i64 = SILENCE_NS / 4;

/// Execs judged and findings amended in one call, for an image that arrives while thousands of containers wait for it.
/// They take ten milliseconds of judging and encoding, half a commit's interval. The rest follows with the next inputs,
/// at the latest with a tick. Only a container that must make room is settled at once, with at most
/// [`PARKED_BYTES_MAX`] of execs.
pub const JUDGED_PER_APPLY_MAX: usize = 512;

/// Containers whose timers fire in one tick; the next ticks handle the rest. Twice the number judged in a tick: a
/// container whose timer fires and that must wait for its turn costs little. [`CONTAINERS_MAX`] take 20 ticks.
pub const TIMERS_PER_TICK_MAX: usize = 2 * JUDGED_PER_APPLY_MAX;

/// Changed state keys after which no further timer fires in a tick: a forgotten container has a key for each of
/// [`REPORTED_MAX`] and [`UNRESOLVED_MAX`]. The limit is the number of keys of four such containers.
pub const TIMER_STATE_KEYS_MAX: usize = 4_096;

/// Pause before the request for an image that is not published is repeated.
pub const REQUEST_AGAIN_NS: i64 = 30 * SECOND_NS;

/// Images requested again in one tick; at ten ticks a second 75,000 in [`REQUEST_AGAIN_NS`], more than a partition has
/// containers.
pub const REQUESTS_PER_TICK_MAX: usize = 250;

/// Longest reason for an image's failure that a finding repeats; an indexer's reasons are one line. A record of the
/// images topic may carry a megabyte, which is too long for a finding.
pub const REASON_BYTES_MAX: usize = 1_024;

/// Size of a container record without its mount table: fewer than 24 texts, and labels with two lengths of up to three
/// bytes each.
const SEEN_BYTES_MAX: usize = 24 * TEXT_BYTES_MAX + LABELS_BYTES_MAX + 6 * AVRO_ITEMS_MAX;

/// Size of the state of one finding about unproven execs: reason, event id, and four numbers.
const FOLD_BYTES_MAX: usize = 128;

// The longest value of the changelog, a container with all its mismatched paths, fits in a record; a test writes each
// kind at its largest.
const _: () = assert!(
    SEEN_BYTES_MAX + MISMATCHED_PATHS_MAX * (PATH_BYTES_MAX + 3) + UNPROVEN_FOLDS_MAX * FOLD_BYTES_MAX + 1_024
        < RECORD_BYTES_MAX
);
// A silent container has no finding that may still be amended, and a container that is described hourly is never
// silent.
const _: () = assert!(AMEND_NS + HEARD_STEP_NS < SILENCE_NS && ENDED_KEPT_NS < SILENCE_NS);
