//! Every maximum of a record, in one place, with its derivation.

/// Longest value that driftline reads from a topic. A producer's default maximum is 1 MiB (librdkafka
/// `message.max.bytes`, 1,000,000), so driftline writes no longer value; a longer one has another origin.
pub const RECORD_BYTES_MAX: usize = 1_000_000;

/// Most items in one Avro array or map while decoding: an argument vector of one-byte strings at the capture limit.
pub const AVRO_ITEMS_MAX: usize = 65_536;

/// Longest path the collector reports; the kernel's `PATH_MAX`.
pub const PATH_BYTES_MAX: usize = 4_096;

/// Longest argument vector that the collector reports, all arguments with their terminators. Longer vectors are
/// truncated and flagged. Four pages hold as much as a person reads, and keep a record far below [`RECORD_BYTES_MAX`].
pub const ARGS_BYTES_MAX: usize = 4_096;

/// Longest argument vector of a record, each argument counted with its terminator: the last argument may be truncated
/// before its terminator.
pub const ARGS_ENDED_BYTES_MAX: usize = ARGS_BYTES_MAX + 1;

/// Most open files recorded of a process: standard input, output and error.
pub const FDS_MAX: usize = 3;

/// Most ancestors recorded of a process: program, shell, entry point, runtime's shim, init.
pub const ANCESTORS_MAX: usize = 5;

/// Most names of environment variables recorded of a process: three of the C library, and six of proxies in upper and
/// lower case.
pub const ENVIRONMENT_NAMES_MAX: usize = 15;

/// Longest identifier: a container id has 64 digits, a digest 71 characters, a UUID 36.
pub const ID_BYTES_MAX: usize = 128;

/// Longest name, reference or other short text of a container or node record: a collector truncates texts to this
/// length.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// Longest text of all labels of a pod together: a collector keeps 128 labels, with 512 bytes each for name and value.
pub const LABELS_BYTES_MAX: usize = 128 * 1024;

/// Most mounts in a container record; kubelet pods have 10 to 30, and a longer table would not fit in a Kafka record.
pub const MOUNTS_MAX: usize = 256;

/// Most files that a container's throttling record names: as many as a person reads of a list. The rest is counted.
pub const FOLDED_EXAMPLES_MAX: usize = 16;

/// Longest text of a schema that is stored beside state; driftline's own are below 16 KiB.
pub const SCHEMA_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a layer manifest in one chunk: with Avro header and key it stays below 512 KiB, the design's limit of a
/// value.
pub const CHUNK_BYTES: usize = 480 * 1024;

/// Most chunks of one layer manifest: 256 × 480 KiB = 120 MiB, a million entries of 120 bytes.
pub const CHUNKS_MAX: u32 = 256;

/// Most layers of one image: overlayfs mounts at most 500 lower directories (`OVL_MAX_STACK`).
pub const LAYERS_MAX: usize = 500;

/// Longest reason why an image could not be indexed: a sentence with two digests and a path.
pub const FAILURE_BYTES_MAX: usize = 1_024;

/// Longest original value that a dead letter carries whole; longer ones are truncated to [`DEAD_LETTER_HEAD_BYTES`].
pub const DEAD_LETTER_BYTES_MAX: usize = 512 * 1024;

/// Length of the retained beginning of a value that is too long for a dead letter; its length and SHA-256 are recorded
/// as well.
pub const DEAD_LETTER_HEAD_BYTES: usize = 64 * 1024;

/// Most findings retained in one alert; OCSF consumers page evidences, and 32 with full arguments stay below 256 KiB.
pub const ALERT_FINDINGS_MAX: usize = 32;

/// Longest revision of an alert in any format.
pub const ALERT_BYTES_MAX: usize = 256 * 1024;

const _: () = assert!(CHUNK_BYTES < RECORD_BYTES_MAX && DEAD_LETTER_BYTES_MAX < RECORD_BYTES_MAX);
const _: () = assert!(ALERT_BYTES_MAX < RECORD_BYTES_MAX);
// An alert holds at most ALERT_FINDINGS_MAX findings; each has path, typed path and arguments once. The correlator
// shortens arguments until the alert fits, see its `bounds` module.
