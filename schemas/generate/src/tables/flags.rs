//! Constants and flags of the record that the kernel program writes.

/// How often a structure is repeated: the constant in C, in Rust, its value, why.
pub(crate) const COUNTS: [(&str, &str, usize, &str); 2] = [
    ("FDS", "FD_COUNT", 3, "standard input, output and error"),
    (
        "ANCESTORS",
        "ANCESTOR_COUNT_MAX",
        5,
        "program, shell, entry point, runtime's shim, init: enough to see who let it in",
    ),
];

/// The bits of `flags`, from the lowest: the constant without `FLAG_`, the method that reads it, what it says.
pub(crate) const FLAGS: [(&str, Option<&str>, &str); 22] = [
    ("SCRIPT", Some("is_script"), "a script or binfmt program was executed; the file is its interpreter"),
    ("OVERLAY", Some("is_overlay"), "the file is on an overlay"),
    ("UPPER", Some("has_upper"), "its overlay inode has an upper part"),
    ("ROOT_OVERLAY", Some("has_overlay_root"), "the process's root directory is on an overlay"),
    ("CHROOTED", Some("is_chrooted"), "its root directory is not the root of its mount"),
    ("OUTSIDE", Some("is_from_outside"), "its topmost ancestor in its pid namespace is not pid 1 there"),
    ("PARENT_OUTSIDE", Some("has_parent_outside"), "the parent is in another pid namespace"),
    ("PATH_COMPLETE", Some("has_whole_path"), "the walk reached the root of the mount namespace"),
    ("PATH_TRUNCATED", Some("has_truncated_path"), "the walk stopped at a limit: the path lost its beginning"),
    ("PATH_ANONYMOUS", Some("is_anonymous"), "the file has no directory: memfd"),
    ("ARGS_TRUNCATED", Some("has_truncated_args"), "the arguments lost their end"),
    ("ARGS_UNREADABLE", Some("has_unreadable_args"), "the arguments could not be read"),
    ("CWD_COMPLETE", None, "the walk from the working directory reached the root"),
    ("SUSPICIOUS", Some("is_suspicious"), "it went to the ring that wakes the reader, unless it is known"),
    ("HOST_PID", Some("is_in_host_pid_ns"), "its pid namespace is the host's"),
    ("UPPER_DATA", Some("has_upper_data"), "the upper part has the data, not only attributes (metacopy)"),
    ("ENV_TRUNCATED", None, "the environment lost its end"),
    ("ENV_UNREADABLE", None, "the environment could not be read"),
    (
        "SNAPSHOT",
        Some("is_snapshot"),
        "it ran already when the program was attached; its time is the start of the process",
    ),
    ("KNOWN", Some("is_known"), "its content is known: the reader was not woken"),
    ("NESTED_PID", Some("is_in_nested_pid_ns"), "its pid namespace lies in another one than the host's"),
    (
        "CGROUPS_TRUNCATED",
        Some("has_truncated_cgroups"),
        "up to a limit no cgroup above its process is a container's; there are more",
    ),
];
