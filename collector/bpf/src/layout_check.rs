//! Compares, when compiled, the record that C writes with the one that Rust reads. The first is found in `record.h` by
//! build.rs, and true there by static assertions of the C compiler.

mod c {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}

use driftline_collector_core::layout as rust;

macro_rules! same {
    ($($name:ident)*) => {
        $(const _: () = assert!(c::$name == rust::$name, concat!(stringify!($name), " differs between record.h and layout.rs"));)*
    };
}

same! {
    SIZE VERSION_NOW
    TIME_NS SEQ START_NS EXEC_COUNT PARENT_START_NS INO REAL_INO SIZE_BYTES MTIME_SEC CTIME_SEC FS_MAGIC
    ROOT_FS_MAGIC MTIME_NSEC CTIME_NSEC VERSION FLAGS CPU TGID NS_PID PARENT_TGID UID GID EUID EGID NS_ROOT_UID
    DEV ROOT_DEV MNT_ID ROOT_MNT_ID MNT_NS OUTER_MNT_NS PID_NS NLINK LOWER_COUNT MODE CGROUP_BYTES PATH_BYTES
    FILENAME_BYTES ARGS_BYTES CWD_BYTES TTY_BYTES RESERVED PARENT_COMM
    FLAG_SCRIPT FLAG_OVERLAY FLAG_UPPER FLAG_ROOT_OVERLAY FLAG_CHROOTED FLAG_OUTSIDE FLAG_PARENT_OUTSIDE
    FLAG_PATH_COMPLETE FLAG_PATH_TRUNCATED FLAG_PATH_ANONYMOUS FLAG_ARGS_TRUNCATED FLAG_ARGS_UNREADABLE
    FLAG_CWD_COMPLETE FLAG_SUSPICIOUS FLAG_HOST_PID
}
