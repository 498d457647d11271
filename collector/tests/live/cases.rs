//! The table: what is done in the container, and what must be told of it.

use driftline_schemas::FileClass;

/// Whose digest is expected.
pub(crate) enum Content {
    /// None: an untouched file of the image.
    NotHashed,
    /// The image's busybox.
    Image,
    /// A program that is not in the image.
    Added,
    /// The script.
    Script,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Run in the container by a shell.
    pub(crate) command: &'static str,
    /// File whose exec is looked at.
    pub(crate) path: &'static str,
    pub(crate) class: FileClass,
    pub(crate) content: Content,
    pub(crate) mount: Option<&'static str>,
}

const fn case(
    name: &'static str,
    command: &'static str,
    path: &'static str,
    class: FileClass,
    content: Content,
    mount: Option<&'static str>,
) -> Case {
    Case { name, command, path, class, content, mount }
}

use Content::{Added, Image, NotHashed, Script};
use FileClass::{CopiedUp, Foreign, New, RootfsPlain, Volume};

/// Programs are named `busybox-…`: under such a name busybox runs the applet that its first argument names.
pub(crate) const CASES: &[Case] = &[
    case("image program", "/opt/busybox-plain true", "/opt/busybox-plain", FileClass::Image, NotHashed, None),
    case("chmod", "chmod 700 /opt/busybox-chmod; /opt/busybox-chmod true", "/opt/busybox-chmod", CopiedUp, Image, None),
    case("touch", "touch /opt/busybox-touch; /opt/busybox-touch true", "/opt/busybox-touch", CopiedUp, Image, None),
    case("mv", "mv /opt/busybox-mv /opt/busybox-mv2; /opt/busybox-mv2 true", "/opt/busybox-mv2", CopiedUp, Image, None),
    case("ln", "ln /opt/busybox-ln /opt/busybox-ln2; /opt/busybox-ln2 true", "/opt/busybox-ln2", CopiedUp, Image, None),
    case(
        "symlink",
        "ln -s /opt/busybox-plain /tmp/busybox-s; /tmp/busybox-s true",
        "/opt/busybox-plain",
        FileClass::Image,
        NotHashed,
        None,
    ),
    case("copy", "cp /bin/busybox /tmp/busybox-cp; /tmp/busybox-cp true", "/tmp/busybox-cp", New, Image, None),
    case("new", "cp /data/busybox-added /tmp/busybox-new; /tmp/busybox-new true", "/tmp/busybox-new", New, Added, None),
    case(
        "overwritten in place",
        "cat /data/busybox-added > /opt/busybox-over; /opt/busybox-over true",
        "/opt/busybox-over",
        CopiedUp,
        Added,
        None,
    ),
    case(
        "appended",
        "printf added >> /opt/busybox-append; /opt/busybox-append true",
        "/opt/busybox-append",
        CopiedUp,
        Added,
        None,
    ),
    case(
        "replaced by rename",
        "cp /data/busybox-added /tmp/r; mv /tmp/r /opt/busybox-rename; /opt/busybox-rename true",
        "/opt/busybox-rename",
        New,
        Added,
        None,
    ),
    case(
        "in a new tree",
        "mkdir -p /a/b; cp /data/busybox-added /a/b/busybox-t; /a/b/busybox-t true",
        "/a/b/busybox-t",
        New,
        Added,
        None,
    ),
    case(
        "removed while it runs",
        "cp /data/busybox-added /tmp/busybox-rm; /tmp/busybox-rm sleep 0.2 & sleep 0.1; rm /tmp/busybox-rm; wait",
        "/tmp/busybox-rm",
        New,
        Added,
        None,
    ),
    case(
        "odd name",
        "cp /data/busybox-added '/tmp/busybox a\n\u{1b}[1m'; '/tmp/busybox a\n\u{1b}[1m' true",
        "/tmp/busybox a\n\u{1b}[1m",
        New,
        Added,
        None,
    ),
    case(
        "tmpfs",
        "cp /data/busybox-added /dev/shm/busybox-shm; /dev/shm/busybox-shm true",
        "/dev/shm/busybox-shm",
        Volume,
        Added,
        Some("/dev/shm"),
    ),
    case("bind mount", "/data/busybox-added true", "/data/busybox-added", Volume, Added, Some("/data")),
    case("new script", "cp /data/script /tmp/s.sh; cd /tmp; ./s.sh", "/tmp/s.sh", RootfsPlain, Script, None),
    case("script on a mount", "/data/script", "/data/script", Volume, Script, Some("/data")),
    case("script of the image", "/opt/script.sh", "/opt/script.sh", RootfsPlain, Script, None),
    case(
        "script by a symlink",
        "ln -s /opt/script.sh /tmp/link.sh; /tmp/link.sh",
        "/opt/script.sh",
        RootfsPlain,
        Script,
        None,
    ),
    case(
        "overlay in a user namespace",
        "mkdir /dev/shm/l /dev/shm/m; cp /data/busybox-added /dev/shm/l/busybox-f; \
         unshare -Urm sh -c 'mount -t overlay -o lowerdir=/dev/shm/l:/opt none /dev/shm/m; /dev/shm/m/busybox-f sleep 0.1'",
        "/dev/shm/m/busybox-f",
        Foreign,
        Added,
        None,
    ),
];
