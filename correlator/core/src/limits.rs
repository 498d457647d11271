//! Maxima of the correlator that are not settings, with their derivation. The maxima of records are in
//! [`driftline_schemas::limits`].

use driftline_schemas::limits::RECORD_BYTES_MAX;

/// Findings of one session that are tracked one by one, so that they can be amended and repeats recognised. Beyond this
/// number the weakest are only counted, and the alert has the flag `findings_capped`. A session of 1,024 distinct
/// executions is a build or a loop; nobody reads them one by one. 1,024 × about 400 bytes keeps a session below half a
/// megabyte.
pub const SESSION_FINDINGS_MAX: usize = 1_024;

/// Distinct labels (category, severity, techniques) of findings that are only counted: more than there are detectors.
pub const LABELS_MAX: usize = 256;

/// Distinct (detector, path, digest) whose repeats are counted separately among findings that are only counted: as many
/// as are tracked. Further repeats count in the total only.
pub const REPEATS_MAX: usize = SESSION_FINDINGS_MAX;

/// Longest finding id; ours have 32 characters.
pub const FINDING_ID_BYTES_MAX: usize = 64;

/// Techniques kept of one finding; the detectors report one to three.
pub const FINDING_TECHNIQUES_MAX: usize = 16;

/// Longest name of a technique; `T1059.004` has nine characters, other catalogues' ids are not much longer.
pub const TECHNIQUE_BYTES_MAX: usize = 64;

/// Categories listed in an alert: all of driftline's own, and as many again from a user's rules.
pub const ALERT_CATEGORIES_MAX: usize = 64;

/// Techniques listed in an alert; all shipped detectors together report fewer.
pub const ALERT_TECHNIQUES_MAX: usize = 64;

/// Digests listed in an alert for one kind of version: a session lasts hours, and rules change a few times a day.
pub const VERSION_VALUES_MAX: usize = 8;

/// Kinds of versions listed in an alert: rules, configuration, score and a few more.
pub const VERSION_KINDS_MAX: usize = 32;

/// Most capabilities of a process: the kernel's sets have 64 bits.
pub const CAPABILITIES_MAX: usize = 64;

/// Longest text that a name, reference or other single fact of a node, container or pod may have in an alert. Kubernetes
/// allows 253 for a name; image references are at most 255 for the repository, 128 for the tag, 71 for the digest.
pub const FACT_BYTES_MAX: usize = 512;

/// Labels of a pod that are kept; deployments have 5 to 15.
pub const POD_LABELS_MAX: usize = 64;

/// Host namespaces that are kept of a container; the kernel has eight kinds.
pub const HOST_NAMESPACES_MAX: usize = 8;

/// Program and arguments as shown in an alert's message: one line of a terminal.
pub const MESSAGE_COMMAND_BYTES_MAX: usize = 120;

/// Most sessions that one tick ends or forgets; the next ticks do the rest. The last alert of a session of one finding
/// is 10 KiB in its two forms, so the alerts of one tick stay below [`TICK_OUTPUT_BYTES_MAX`].
pub const TICK_SESSIONS_MAX: usize = 256;

/// Output after which a tick ends no further session: three quarters of the service loop's limit for one transaction (4
/// MiB), so that a tick seldom makes a transaction exceed that. The last alert of a tick may exceed it, in each form.
pub const TICK_OUTPUT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Changed state keys after which a tick ends or forgets no further session: a forgotten session has a key for each of
/// its findings. The number is that of four sessions that track the maximum.
pub const TICK_STATE_KEYS_MAX: usize = 4 * SESSION_FINDINGS_MAX;

/// Most sessions of one container, however short the gap between them is: those of an hour of retention with a gap of 15
/// s. A finding looks at each of them. With a shorter gap a container that keeps opening sessions has its oldest evicted.
pub const SESSIONS_PER_CONTAINER_MAX: usize = 256;

/// Sessions that one finding may evict after a setting was lowered. A finding opens at most one session, so the second
/// and further evictions bring the state down to the setting. The number is the default maximum of sessions of one
/// container, all of which are evicted when the container makes room for another.
pub const EVICTED_PER_FINDING_MAX: usize = 8;

/// Default of the memory of all sessions, as estimated, in bytes.
pub const SESSIONS_BYTES_MAX: usize = 1_000_000_000;

/// Minimum of that setting: room for several of the largest sessions. The shown findings of such a session have 32
/// times 0.1 MB of paths and arguments, and as much again while news waits for its revision; its 1,024 findings have 4 KB
/// each when categories and techniques are at their longest.
pub const SESSIONS_BYTES_MIN: usize = 32_000_000;

/// Least time from a revision to the next one for news: a program (path and digest), origin or way of entry that the
/// alert did not have. News within it share one revision. Ten seconds are short enough for an analyst who watches an
/// attack. A build that runs a new program every second gets 360 revisions an hour, about 10 MB at 30 KiB each.
pub const NEWS_PACE_NS: i64 = 10 * 1_000_000_000;

/// How long after a container's start an execution counts as part of starting up: image entry points that unpack or
/// generate a program do so at once.
pub const STARTUP_NS: i64 = 30 * 1_000_000_000;

// The largest state record of a session is that of the findings which are only counted. It fits a record with labels at
// their longest, and repeats as two digests and numbers. A test writes the largest record of each kind.
const _: () = assert!(
    LABELS_MAX * (FACT_BYTES_MAX + FINDING_TECHNIQUES_MAX * (TECHNIQUE_BYTES_MAX + 8) + 64) + REPEATS_MAX * 128
        < RECORD_BYTES_MAX
);
