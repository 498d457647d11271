//! Where each field of a raw record stands. The same numbers are in `collector/bpf/src/record.h`; package
//! `driftline-collector-bpf` compares the two when it is compiled.

/// Version of the layout that this code reads.
pub const VERSION_NOW: u32 = 3;
/// Length of the fixed part; the variable parts follow it.
pub const EXEC_SIZE: usize = 552;
/// Length of an open file's part.
pub const FD_SIZE: usize = 40;
/// How many there are: standard input, output and error.
pub const FD_COUNT: usize = 3;
/// Length of an ancestor's part.
pub const ANCESTOR_SIZE: usize = 40;
/// How many there may be.
pub const ANCESTOR_COUNT_MAX: usize = 5;
/// Length of a command name with its NUL.
pub const COMM_SIZE: usize = 16;

macro_rules! layout {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(#[allow(missing_docs, reason = "described in record.h")] pub const $name: $type = $value;)*
    };
}

layout! {
    TIME_NS: usize = 0;
    SEQ: usize = 8;
    START_NS: usize = 16;
    EXEC_COUNT: usize = 24;
    INO: usize = 32;
    REAL_INO: usize = 40;
    LOWER_INO: usize = 48;
    SIZE_BYTES: usize = 56;
    MTIME_SEC: usize = 64;
    CTIME_SEC: usize = 72;
    FS_MAGIC: usize = 80;
    ROOT_FS_MAGIC: usize = 88;
    CAPABILITIES: usize = 96;
    CAPABILITIES_GAINED: usize = 104;
    MTIME_NSEC: usize = 112;
    CTIME_NSEC: usize = 116;
    VERSION: usize = 120;
    FLAGS: usize = 124;
    CPU: usize = 128;
    TGID: usize = 132;
    NS_PID: usize = 136;
    UID: usize = 140;
    GID: usize = 144;
    EUID: usize = 148;
    EGID: usize = 152;
    NS_UID: usize = 156;
    NS_GID: usize = 160;
    NS_EUID: usize = 164;
    NS_EGID: usize = 168;
    DEV: usize = 172;
    ROOT_DEV: usize = 176;
    MNT_ID: usize = 180;
    ROOT_MNT_ID: usize = 184;
    MNT_NS: usize = 188;
    OUTER_MNT_NS: usize = 192;
    PID_NS: usize = 196;
    SESSION_ID: usize = 200;
    NLINK: usize = 204;
    LOWER_COUNT: usize = 208;
    ANCESTOR_COUNT: usize = 212;
    MODE: usize = 216;
    CGROUP_BYTES: usize = 218;
    PATH_BYTES: usize = 220;
    FILENAME_BYTES: usize = 222;
    ARGS_BYTES: usize = 224;
    CWD_BYTES: usize = 226;
    TTY_BYTES: usize = 228;
    ENV_BYTES: usize = 230;
    FDS: usize = 232;
    ANCESTORS: usize = 352;
}

layout! {
    FD_INO: usize = 0;
    FD_ADDRESS: usize = 8;
    FD_RDEV: usize = 24;
    FD_MODE: usize = 28;
    FD_FAMILY: usize = 30;
    FD_PORT: usize = 32;
    ANCESTOR_START_NS: usize = 0;
    ANCESTOR_INO: usize = 8;
    ANCESTOR_DEV: usize = 16;
    ANCESTOR_TGID: usize = 20;
    ANCESTOR_COMM: usize = 24;
}

layout! {
    FLAG_SCRIPT: u32 = 1 << 0;
    FLAG_OVERLAY: u32 = 1 << 1;
    FLAG_UPPER: u32 = 1 << 2;
    FLAG_ROOT_OVERLAY: u32 = 1 << 3;
    FLAG_CHROOTED: u32 = 1 << 4;
    FLAG_OUTSIDE: u32 = 1 << 5;
    FLAG_PARENT_OUTSIDE: u32 = 1 << 6;
    FLAG_PATH_COMPLETE: u32 = 1 << 7;
    FLAG_PATH_TRUNCATED: u32 = 1 << 8;
    FLAG_PATH_ANONYMOUS: u32 = 1 << 9;
    FLAG_ARGS_TRUNCATED: u32 = 1 << 10;
    FLAG_ARGS_UNREADABLE: u32 = 1 << 11;
    FLAG_CWD_COMPLETE: u32 = 1 << 12;
    FLAG_SUSPICIOUS: u32 = 1 << 13;
    FLAG_HOST_PID: u32 = 1 << 14;
    FLAG_UPPER_DATA: u32 = 1 << 15;
    FLAG_ENV_TRUNCATED: u32 = 1 << 16;
    FLAG_ENV_UNREADABLE: u32 = 1 << 17;
    FLAG_SNAPSHOT: u32 = 1 << 18;
    FLAG_KNOWN: u32 = 1 << 19;
}
