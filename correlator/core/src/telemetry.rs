//! Names under which the correlator counts events, for `docs/telemetry.md` and the metrics of the shell.

/// First revision of an alert.
pub const ALERT_CREATED: &str = "alert_created";
/// Further revision of an alert, other than a final one or a close.
pub const ALERT_UPDATED: &str = "alert_updated";
/// Last revision of an alert whose session is quiet.
pub const ALERT_FINAL: &str = "alert_final";
/// Revision that withdraws an alert: everything in it was retracted.
pub const ALERT_CLOSED: &str = "alert_closed";
/// An alert was cut to the size limit of a record.
pub const ALERT_SHORTENED: &str = "alert_shortened";
/// An alert shows or tracks fewer findings than it counts.
pub const ALERT_FINDINGS_CAPPED: &str = "alert_findings_capped";
/// An alert lists fewer categories, techniques or versions than its findings have.
pub const ALERT_LISTS_CAPPED: &str = "alert_lists_capped";
/// An alert shows a finding whose process and file were not kept.
pub const ALERT_DETAILS_DROPPED: &str = "alert_details_dropped";
/// A session began.
pub const SESSION_OPENED: &str = "session_opened";
/// A quiet session was dropped after its retention.
pub const SESSION_FORGOTTEN: &str = "session_forgotten";
/// A session was ended early: its container had the maximum of sessions.
pub const SESSION_EVICTED_CONTAINER: &str = "session_evicted_container_full";
/// A session was ended early: its partition had the maximum of containers.
pub const SESSION_EVICTED_PARTITION: &str = "session_evicted_partition_full";
/// A session was ended early: the sessions of all partitions took the maximum of memory.
pub const SESSION_EVICTED_MEMORY: &str = "session_evicted_memory_full";
/// A finding would have made its session longer than the cap, and opened another.
pub const SESSION_LENGTH_CAPPED: &str = "session_length_capped";
/// A finding arrived so late that its session may have been forgotten.
pub const FINDING_LATE: &str = "finding_late";
/// A known finding changed.
pub const FINDING_AMENDED: &str = "finding_amended";
/// A finding is only counted: its session tracks the maximum.
pub const FINDING_UNTRACKED: &str = "finding_untracked";

/// A text or list of a finding was longer than any that driftline writes, and was cut.
pub const FINDING_SHORTENED: &str = "finding_shortened";

/// Every name above.
pub const COUNTS: [&str; 18] = [
    ALERT_CREATED,
    ALERT_UPDATED,
    ALERT_FINAL,
    ALERT_CLOSED,
    ALERT_SHORTENED,
    ALERT_FINDINGS_CAPPED,
    ALERT_LISTS_CAPPED,
    ALERT_DETAILS_DROPPED,
    SESSION_OPENED,
    SESSION_FORGOTTEN,
    SESSION_EVICTED_CONTAINER,
    SESSION_EVICTED_PARTITION,
    SESSION_EVICTED_MEMORY,
    SESSION_LENGTH_CAPPED,
    FINDING_LATE,
    FINDING_AMENDED,
    FINDING_UNTRACKED,
    FINDING_SHORTENED,
];
