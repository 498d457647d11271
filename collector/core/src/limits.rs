//! Every maximum of the collector, in one place, with where it comes from. Times are nanoseconds.

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// How long the execs of a container wait for its description: a runtime's socket answers in 1–20 ms, podman's command
/// in 100–200 ms; beyond that an analyst prefers the exec without its pod.
pub const DESCRIPTION_WAIT: i64 = 300 * MS;

/// How long an exec waits for its digest: 500 ms hash 500 MB at the 1 GB/s of one slow core.
pub const DIGEST_WAIT: i64 = 500 * MS;

/// How long an exec waits for others that happened before it and may still lie in the other ring: two poll intervals
/// of 50 ms, and as much again for a busy machine.
pub const ORDER_WAIT: i64 = 200 * MS;

/// A record may lie in a ring this long after the moment written in it: the program runs 2 µs, an interrupt in it 1 ms.
pub const RING_DELAY: u64 = 5_000_000;

/// Most memory of one container's execs that wait for anything: 4,096 of 2 KiB, where most take less. An exec loop makes
/// 1,000 per second and waits at most half a second, so a loop of such execs stays below it. A loop of the largest ones,
/// some 50 KiB each, does not: 160 of them may wait, and then the oldest goes out with what is known, its digest later.
pub const HELD_BYTES_PER_CONTAINER: usize = 8 << 20;

/// Most containers known at a time; a node runs at most 110 pods by default and some hundreds at the utmost. The one
/// unheard of for the longest time is evicted first, and described again when it executes something.
pub const CONTAINERS: usize = 4_096;

/// Namespaces remembered of a container beside those of its first process: processes in it make others, few at a time.
pub const NAMESPACES: usize = 16;

/// How long the kernel program does not record execs in a mount namespace of the node's own: one record in ten seconds of
/// each costs nothing, and a container whose root is not known yet is known by then. Boot clock.
pub const UNCONTAINED: u64 = 10_000_000_000;

/// First and longest pause before the runtimes are asked again for a container that none of them knows.
pub const DESCRIBE_RETRY: i64 = 100 * MS;
/// See [`DESCRIBE_RETRY`].
pub const DESCRIBE_RETRY_MAX: i64 = 60 * SECOND;

/// A container without an init process to watch is forgotten after this silence.
pub const IDLE: i64 = 3_600 * SECOND;

/// Losses are gathered for this long into one record.
pub const LOSS_INTERVAL: i64 = 10 * SECOND;

/// Bytes that may be hashed for one container at once, and how many come back per second: one core hashes 1.5 GB/s, so
/// one container gets at most a 25th of a core for good.
pub const HASH_BYTES_BURST: u64 = 1 << 30;
/// See [`HASH_BYTES_BURST`].
pub const HASH_BYTES_PER_SECOND: u64 = 64 << 20;

/// Files that may be hashed for one container at once, and per second: an open, stat and close cost about 20 µs.
pub const HASH_FILES_BURST: u64 = 1_000;
/// See [`HASH_FILES_BURST`].
pub const HASH_FILES_PER_SECOND: u64 = 200;

/// Execs of one container that went out without their digest and may still get it: as many as 300 ms of the file budget
/// pay for. An enricher can amend the last 512 findings of a container, so eight times as many may come in between.
pub const LATE_PER_CONTAINER: usize = 64;

/// Memory of such execs of all containers: 32 that are over their budget at a time, 2,048 execs of 2 KiB, where most take
/// less. Where it is used up, the container that takes most gives way to one that takes less: [`LATE_PER_CONTAINER`] of the
/// largest execs, some 30 KiB each, take nearly half of it.
pub const LATE_BYTES: usize = 4 << 20;

/// How long such a digest is waited for: ten minutes give back 37 GiB of budget. Enrichers amend for an hour.
pub const LATE_WAIT: i64 = 600 * SECOND;

/// Execs of untouched image files that are reported of one container at once, and how many more per second. An exec costs
/// about 1 ms of a core (fork, exec, wait), so 2,000 per second keep two cores busy with nothing else; at 10 µs each they
/// cost the collector a fiftieth of one. Ten seconds of it at once let a parallel build's configure step through.
pub const ORDINARY_BURST: u64 = 10 * ORDINARY_PER_SECOND;
/// See [`ORDINARY_BURST`].
pub const ORDINARY_PER_SECOND: u64 = 2_000;

/// The share that suspicious execs of a container have for themselves: they are judged one by one and may be hashed, so a
/// quarter of the ordinary ones. Beyond it they are folded by file.
pub const SUSPICIOUS_BURST: u64 = 10 * SUSPICIOUS_PER_SECOND;
/// See [`SUSPICIOUS_BURST`].
pub const SUSPICIOUS_PER_SECOND: u64 = 500;

/// Of a file's execs beyond the share, one of so many is reported: a container's flood of 10,000 per second becomes 100.
pub const FOLD_ONE_OF: u64 = 100;

/// Files that are counted separately while folding; 1,024 of 200 bytes. A container that makes more in an interval has them folded together.
pub const FOLDED_FILES: usize = 1_024;

/// Length of their paths together: five times what 1,024 of them usually take. A path joined from a working directory and a
/// typed name may have 8 KiB.
pub const FOLDED_PATH_BYTES: usize = 1 << 20;

/// What was left out of a container is gathered for this long into one record, as losses are.
pub const THROTTLE_INTERVAL: i64 = 10 * SECOND;

/// What a script costs of the byte budget before its size is known.
pub const SCRIPT_COST_BYTES: u64 = 64 << 10;

/// What a program that a loader runs costs before its size is known; most are of some hundred KiB.
pub const LOADED_COST_BYTES: u64 = 1 << 20;

/// Remembered programs of processes, and of files: a node runs some thousand processes at a time; 16,384 of 150 bytes, twice.
pub const PROGRAMS: usize = 16_384;

/// Largest compiled pattern of what is redacted; passwords on command lines take some KiB.
pub const REDACTION_BYTES_MAX: usize = 1 << 20;

/// How far the wall clock may go from the boot clock before event times follow it: below this they keep their distance, so
/// that the clock's slewing does not show in them; above, somebody set the clock.
pub const CLOCK_JUMP: i64 = 10 * MS;

/// How much of a runtime's name and of a container's id (as engines shorten it) stands in the reason of a loss, which
/// has at most 128 bytes.
pub const HANDLER_BYTES: usize = 64;
/// See [`HANDLER_BYTES`].
pub const SHORT_ID_BYTES: usize = 12;

/// Remembered digests; 8,192 of 100 bytes.
pub const DIGESTS: usize = 8_192;

/// A digest is remembered only when the file had not changed for this long when it was hashed: a change time has the
/// granularity of a tick, so two changes within one look alike.
pub const SETTLED: i64 = SECOND;

/// How far a file system's clock is behind: a change time is that of the last tick, and a kernel has at least 100 a second.
/// Newer kernels are finer for some files (multigrain timestamps).
pub const FILE_CLOCK_GRAIN: i64 = 10 * MS;

/// A file that is written after an exec has a change time that is no more than this before the exec: the time of an exec is
/// converted from the boot clock, and may be wrong by [`CLOCK_JUMP`].
pub const WRITTEN_BEFORE: i64 = FILE_CLOCK_GRAIN + CLOCK_JUMP;

/// Strict mode: files that were opened to be executed and are retained until the digest of their exec is commanded; 1,024 of
/// 300 bytes, without open descriptors. A record comes after some milliseconds.
pub const OPEN_EXECS: usize = 1_024;

/// Strict mode: how long they are remembered; an exec waits no longer than half a second for its digest.
pub const OPEN_EXEC_RETENTION: i64 = 2 * SECOND;

/// Strict mode: files that are being hashed or wait for it, of all containers; each has a descriptor, and takes one of the
/// 128 inotify instances that a user may have, of which the reader of the rings takes 32.
pub const OPEN_EXECS_HASHED: usize = 32;

/// The same of one file system or mount: a quarter, so that one container's flood leaves places to others.
pub const OPEN_EXECS_HASHED_EACH: usize = OPEN_EXECS_HASHED / 4;

/// Strict mode: superblocks with images and budgets of their own; a container has one of its own and some volumes.
pub const WATCHED: usize = 2 * CONTAINERS;

const _: () = assert!(DIGEST_WAIT < OPEN_EXEC_RETENTION);
const _: () = assert!(LATE_WAIT < 3_600 * SECOND);
/// Everything that was given to the core has gone out after this long: the two longest waits one after the other.
pub const EMITTED_AFTER: i64 = DIGEST_WAIT + ORDER_WAIT;

/// Most records that are in memory until Kafka acknowledges them: 50 ms, between two polls of the acknowledgements, of the
/// 10,000 a second that the rings were tried with, 8 times over. Kafka's client has a copy of each.
pub const WINDOW_RECORDS: usize = 4_096;
/// Most bytes of them; a record has 1 KiB, and twice this is a fifth of the memory a collector may have.
pub const WINDOW_BYTES: usize = 4 << 20;

/// A record that is not acknowledged after this long is written to the disk: longer than a broker's pause or the election
/// of a leader. What a killed collector takes with it is not older.
pub const SPILL_AFTER: i64 = 2 * SECOND;

/// A segment of the spool takes no more records once it is this long: what goes at once when the disk's share is used up.
pub const SEGMENT_BYTES: u64 = 1 << 20;

/// Least that the spool may be given: twice what the window keeps from being given up, and the segment written to.
pub const SPOOL_MIB_MIN: i64 = 16;

/// Losses on the way to Kafka are reported when Kafka has caught up, because their records would displace others before. After
/// this long they are reported anyway, because a Kafka that is always too slow never catches up.
pub const UNREPORTED_MAX: i64 = 60 * SECOND;

/// Reasons for which records can be missing: the shell and the core have ten.
pub const SPOOL_REASONS: usize = 12;
/// Longest name of one.
pub const SPOOL_REASON_BYTES: usize = 32;

/// Length of a checkpoint: 500 bytes, and every reason twice.
pub const CHECKPOINT_SLOT_BYTES: usize = 8_192;
/// How often it is written.
pub const CHECKPOINT_EVERY: i64 = SECOND;

/// What the kernel has not written to the disk yet is gone after a crash of the machine: by default the kernel writes it after
/// 30 s, checked every 5 s.
pub const DIRTY_MAX: i64 = 60 * SECOND;

const _: () = assert!(WINDOW_BYTES as u64 + 2 * SEGMENT_BYTES < (SPOOL_MIB_MIN as u64) << 20);
const _: () = assert!(ORDER_WAIT < DESCRIPTION_WAIT && DESCRIPTION_WAIT < DIGEST_WAIT);
