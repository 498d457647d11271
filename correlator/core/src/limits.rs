//! Maxima of the correlator that are not settings, with where they come from. Those of records stand in
//! [`driftline_schemas::limits`].

/// Findings of one session that are tracked one by one, so that they can be amended and repeats recognised. Beyond
/// that the weakest are only counted, and the alert says `findings_capped`. A session of 1,024 distinct executions is a
/// build or a loop; nobody reads them singly. 1,024 × about 400 bytes keeps a session below half a megabyte.
pub const SESSION_FINDINGS_MAX: usize = 1_024;

/// Distinct labels (category, severity, techniques) of findings that are only counted: more than there are detectors.
pub const LABELS_MAX: usize = 256;

/// Categories listed in an alert: all of driftline's own, and as many again from a user's rules.
pub const ALERT_CATEGORIES_MAX: usize = 64;

/// Techniques listed in an alert; every shipped detector's together are fewer.
pub const ALERT_TECHNIQUES_MAX: usize = 64;

/// Digests listed in an alert for one kind of version: a session lasts hours, and rules change a few times a day.
pub const VERSION_VALUES_MAX: usize = 8;

/// Kinds of versions listed in an alert: rules, configuration, score and a few more.
pub const VERSION_KINDS_MAX: usize = 32;

/// Longest text that a name, reference or other single fact of a node, container or pod may have in an alert. Kubernetes
/// allows 253 for a name; image references are at most 255 for the repository, 128 for the tag, 71 for the digest.
pub const FACT_BYTES_MAX: usize = 512;

/// Program and arguments as shown in an alert's message: one line of a terminal.
pub const MESSAGE_COMMAND_BYTES_MAX: usize = 120;

/// Ranges of offsets remembered of sessions that are gone, per partition. They matter only while a session that is
/// older than them is open, at most its length cap; ranges that overlap count as one, so more than a handful takes
/// thousands of short-lived containers beside a long session. 4,096 × 16 bytes; beyond, neighbours are joined, which
/// only makes a restart read more.
pub const OFFSET_RANGES_MAX: usize = 4_096;

/// How long after a container's start an execution counts as part of starting up: image entry points that unpack or
/// generate a program do so at once.
pub const STARTUP_NS: i64 = 30 * 1_000_000_000;
