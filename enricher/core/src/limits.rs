//! Every maximum of the enricher's state, per container or partition, with where it comes from.

use driftline_schemas::limits::{AVRO_ITEMS_MAX, LABELS_BYTES_MAX, PATH_BYTES_MAX, RECORD_BYTES_MAX, TEXT_BYTES_MAX};

const SECOND_NS: i64 = 1_000_000_000;

/// Most memory of one container's parked execs: five seconds (the default deadline) of 800 execs a second, more than two
/// cores can fork, of 2 KiB each, where most take less. One more, and the head goes out unresolved. The largest exec takes
/// some 60 KiB.
pub const PARKED_BYTES_MAX: usize = 8 << 20;

/// Most memory of the execs parked in one partition: five seconds (the default deadline) of 13,000 execs a second of 1.5 KiB,
/// a node fleet's share of one partition while no image is known. Without it a partition could hold [`CONTAINERS_MAX`] ×
/// [`PARKED_BYTES_MAX`], which no memory does. One more, and the container that waits longest flows unresolved.
///
/// A compromise with confluence: whether it is reached depends on the neighbours in the partition, not on the container
/// alone. So it stands where only a fleet without images gets, and the finding says that it was reached.
pub const PARKED_PARTITION_BYTES_MAX: usize = 96 << 20;

/// Most containers tracked for one partition: 5,000 nodes × 100 containers over 12 partitions, halved by churn.
pub const CONTAINERS_MAX: usize = 20_000;

/// Reported execs per container whose repeats are recognised; a collector repeats at most what one Kafka client keeps in
/// flight for one partition, five requests of some hundred records. A repeat of an exec that led to nothing is judged
/// again, and leads to nothing again.
pub const REPORTED_MAX: usize = 512;

/// Paths per container for which a mismatch between node and manifest was reported; more are counted only.
pub const MISMATCHED_PATHS_MAX: usize = 64;

/// Findings per container that may still be amended when the image becomes known.
pub const UNRESOLVED_MAX: usize = 64;

/// How long an unresolved finding may be amended after it went out.
pub const AMEND_NS: i64 = 3_600 * SECOND_NS;

/// A container of which nothing was heard for this long is forgotten: collectors repeat container records every hour.
pub const SILENCE_NS: i64 = 2 * 3_600 * SECOND_NS + 300 * SECOND_NS;

/// How long an ended container is remembered. A collector that restarts sends again what it does not know to be
/// acknowledged, the end of a container and execs before it: without the container they would be new, and nobody would
/// describe it again. A restart takes a minute at most; ten leave room for a Kafka that is away.
pub const ENDED_KEPT_NS: i64 = 600 * SECOND_NS;

/// When something was heard of a container is remembered in steps of a quarter of [`SILENCE_NS`]: a busy container then
/// changes its state twice an hour, and one that is described every hour is still not taken for silent.
pub const HEARD_STEP_NS: i64 = SILENCE_NS / 4;

/// Execs judged and findings amended in one call: ten milliseconds' worth of judging and encoding, half a commit's
/// interval, when an image comes for which thousands of containers waited. The rest goes on with the next inputs, a tick
/// at the latest. Only a container that has to make room goes at once, with at most [`PARKED_BYTES_MAX`] of execs.
pub const JUDGED_PER_APPLY_MAX: usize = 512;

/// Containers whose timers one tick lets fire; the next ticks do the rest. Twice what may be judged in a tick: a container
/// whose timer fires and that has to wait for its turn costs little. [`CONTAINERS_MAX`] take 20 ticks.
pub const TIMERS_PER_TICK_MAX: usize = 2 * JUDGED_PER_APPLY_MAX;

/// State keys after whose change no further timer fires in a tick: a container that is forgotten has a key for each of
/// [`REPORTED_MAX`] and [`UNRESOLVED_MAX`]. As many as seven such containers have.
pub const TIMER_STATE_KEYS_MAX: usize = 4_096;

/// Pause before an image that nobody has indexed is asked for again.
pub const REQUEST_AGAIN_NS: i64 = 30 * SECOND_NS;

/// Images asked for again in one tick; at ten ticks a second 75,000 in [`REQUEST_AGAIN_NS`], more than a partition has
/// containers.
pub const REQUESTS_PER_TICK_MAX: usize = 250;

/// Longest reason why an image failed that a finding repeats; an indexer's reasons are one line. A record of the images
/// topic may carry a megabyte, which no finding could.
pub const REASON_BYTES_MAX: usize = 1_024;

/// A container without its mount table: fewer than 24 texts, and labels with two lengths of up to three bytes each.
const SEEN_BYTES_MAX: usize = 24 * TEXT_BYTES_MAX + LABELS_BYTES_MAX + 6 * AVRO_ITEMS_MAX;

// The longest value of the changelog, a container with all its mismatched paths, is a record that can be written; a test
// writes each kind at its largest.
const _: () = assert!(SEEN_BYTES_MAX + MISMATCHED_PATHS_MAX * (PATH_BYTES_MAX + 3) + 1_024 < RECORD_BYTES_MAX);
// Nothing that may still be amended belongs to a silent container, and no container that is described hourly is silent.
const _: () = assert!(AMEND_NS + HEARD_STEP_NS < SILENCE_NS && ENDED_KEPT_NS < SILENCE_NS);
