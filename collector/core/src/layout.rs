//! Where each field of a raw record stands. The same numbers are in `collector/bpf/src/record.h`; package
//! `driftline-collector-bpf` compares the two when it is compiled.

/// Version of the layout that this code reads.
pub const VERSION_NOW: u32 = 1;
/// Length of the fixed part; the variable parts follow it.
pub const SIZE: usize = 216;
/// Length of `parent_comm`.
pub const PARENT_COMM_SIZE: usize = 16;

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
    PARENT_START_NS: usize = 32;
    INO: usize = 40;
    REAL_INO: usize = 48;
    SIZE_BYTES: usize = 56;
    MTIME_SEC: usize = 64;
    CTIME_SEC: usize = 72;
    FS_MAGIC: usize = 80;
    ROOT_FS_MAGIC: usize = 88;
    MTIME_NSEC: usize = 96;
    CTIME_NSEC: usize = 100;
    VERSION: usize = 104;
    FLAGS: usize = 108;
    CPU: usize = 112;
    TGID: usize = 116;
    NS_PID: usize = 120;
    PARENT_TGID: usize = 124;
    UID: usize = 128;
    GID: usize = 132;
    EUID: usize = 136;
    EGID: usize = 140;
    NS_ROOT_UID: usize = 144;
    DEV: usize = 148;
    ROOT_DEV: usize = 152;
    MNT_ID: usize = 156;
    ROOT_MNT_ID: usize = 160;
    MNT_NS: usize = 164;
    OUTER_MNT_NS: usize = 168;
    PID_NS: usize = 172;
    NLINK: usize = 176;
    LOWER_COUNT: usize = 180;
    MODE: usize = 184;
    CGROUP_BYTES: usize = 186;
    PATH_BYTES: usize = 188;
    FILENAME_BYTES: usize = 190;
    ARGS_BYTES: usize = 192;
    CWD_BYTES: usize = 194;
    TTY_BYTES: usize = 196;
    RESERVED: usize = 198;
    PARENT_COMM: usize = 200;
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
}
