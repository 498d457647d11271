//! What is done in a container, and what must be reported of it: section by section the ways in which a program gets into a
//! container and out of its image.

use driftline_schemas::{Exec, FileClass, Origin};

/// Whose digest is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CaseContent {
    /// None: an untouched file of the image.
    NotHashed,
    /// The image's busybox.
    Image,
    /// A program that is not in the image.
    Added,
    /// One that lower layers of the image had, and upper ones hide.
    Hidden,
    /// The image's script.
    Script,
    /// Another one.
    NewScript,
    /// The script with something added.
    ChangedScript,
    /// The image's script with an interpreter of its own.
    OwnScript,
    /// The image's script whose interpreter is in `/dev/shm`.
    ShmScript,
    /// The image's script whose interpreter is on the bind mount.
    MountScript,
    /// The image's program with dynamic libraries.
    Dynamic,
    /// Another one.
    NewDynamic,
    /// The same with something added.
    ChangedDynamic,
    /// A program for musl's loader.
    Musl,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Run in the container by a shell; the last command has to succeed.
    pub(crate) command: &'static str,
    /// File that is judged.
    pub(crate) path: &'static [u8],
    pub(crate) class: FileClass,
    pub(crate) content: CaseContent,
    pub(crate) origin: Origin,
    pub(crate) mount: Option<&'static str>,
    /// What else has to be so.
    pub(crate) also: fn(&Exec) -> bool,
}

impl Case {
    const fn on(self, mount: &'static str) -> Self {
        Self { mount: Some(mount), ..self }
    }

    const fn also(self, also: fn(&Exec) -> bool) -> Self {
        Self { also, ..self }
    }
}

/// A script that an interpreter was given as its program.
const fn given(
    name: &'static str,
    command: &'static str,
    path: &'static str,
    class: FileClass,
    content: CaseContent,
    origin: Origin,
) -> Case {
    case(name, command, path, class, content, origin).also(|exec| {
        let is_by_shell = exec.path == b"/bin/busybox" || exec.path == b"/bin/sh";
        exec.interpreted.as_deref() == Some(exec.subject_path()) && is_by_shell
    })
}

/// Whether the record has the interpreter, with its digest.
fn is_foreign_interpreter(exec: &Exec, class: FileClass) -> bool {
    exec.loader.as_ref().is_some_and(|loader| loader.class == class && loader.sha256.is_some())
}

const fn case(
    name: &'static str,
    command: &'static str,
    path: &'static str,
    class: FileClass,
    content: CaseContent,
    origin: Origin,
) -> Case {
    let path = path.as_bytes();
    Case { name, command, path, class, content, origin, mount: None, also: |_| true }
}

use CaseContent::{
    Added, ChangedDynamic, ChangedScript, Dynamic, Hidden, MountScript, NewDynamic, NewScript, NotHashed, OwnScript,
    Script, ShmScript,
};
use FileClass::{CopiedUp, Foreign, New, RootfsPlain, Volume};

/// Files of the image's `/opt` that cases change, each its own. Under a name that begins with `busybox` the program runs
/// the applet that its first argument names.
pub(crate) const PROGRAMS: &[&str] = &[
    "busybox-plain",
    "busybox-symlink",
    "busybox-over",
    "busybox-append",
    "busybox-rename",
    "busybox-again",
    "busybox-chmod",
    "busybox-chown",
    "busybox-touch",
    "busybox-suid",
    "busybox-mv",
    "busybox-ln",
    "busybox-bound",
    "busybox-same",
    "busybox-args",
    "busybox-restored",
    "busybox-nest",
    "jail/busybox-j",
    "tree/busybox-t",
    "tree/busybox-u",
];

/// Where the image's dynamic loader is, and another of it that cases change.
pub(crate) const LOADER: &str = "/lib/ld-linux-test.so.2";
pub(crate) const CHANGED_LOADER: &str = "/lib/ld-linux-touch.so.2";
/// Where that of musl is, which is its C library too; and a link to it, by the name that programs have in them.
pub(crate) const MUSL: &str = "/lib/libc.so";
pub(crate) const MUSL_LINK: &str = "/lib/ld-musl-test.so.1";

/// 300 bytes in two names.
const LONG: &str = "/tmp/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/busybox-long";

/// Of an ordinary image, and of large ones.
const NEW_FILE: Case = case(
    "new file",
    "cp /data/busybox-added /tmp/busybox-new; /tmp/busybox-new true",
    "/tmp/busybox-new",
    New,
    Added,
    Origin::Added,
);

pub(crate) const CASES: &[Case] = &[
    case("image binary", "/opt/busybox-plain true", "/opt/busybox-plain", FileClass::Image, NotHashed, Origin::Image),
    NEW_FILE,
    case(
        "copy of an image binary",
        "cp /bin/busybox /tmp/busybox-cp; /tmp/busybox-cp true",
        "/tmp/busybox-cp",
        New,
        CaseContent::Image,
        Origin::Relocated,
    ),
    case(
        "overwritten in place",
        "cat /data/busybox-added >/opt/busybox-over; /opt/busybox-over true",
        "/opt/busybox-over",
        CopiedUp,
        Added,
        Origin::Modified,
    ),
    case(
        "bytes appended",
        "printf added >>/opt/busybox-append; /opt/busybox-append true",
        "/opt/busybox-append",
        CopiedUp,
        Added,
        Origin::Modified,
    ),
    case(
        "replaced by rename",
        "cp /data/busybox-added /tmp/r; mv /tmp/r /opt/busybox-rename; /opt/busybox-rename true",
        "/opt/busybox-rename",
        New,
        Added,
        Origin::Modified,
    ),
    case(
        "re-created, same content",
        "rm /opt/busybox-again; cp /bin/busybox /opt/busybox-again; sleep 0.1; /opt/busybox-again true",
        "/opt/busybox-again",
        New,
        CaseContent::Image,
        Origin::Image,
    ),
    case(
        "chmod",
        "chmod 700 /opt/busybox-chmod; sleep 0.1; /opt/busybox-chmod true",
        "/opt/busybox-chmod",
        CopiedUp,
        CaseContent::Image,
        Origin::Touched,
    ),
    case(
        "chown",
        "chown 7:7 /opt/busybox-chown; sleep 0.1; /opt/busybox-chown true",
        "/opt/busybox-chown",
        CopiedUp,
        CaseContent::Image,
        Origin::Touched,
    ),
    case(
        "touch",
        "touch /opt/busybox-touch; sleep 0.1; /opt/busybox-touch true",
        "/opt/busybox-touch",
        CopiedUp,
        CaseContent::Image,
        Origin::Touched,
    ),
    case(
        "setuid bit, as another user",
        "chmod 4755 /opt/busybox-suid; sleep 0.1; /data/ways as 1000 /opt/busybox-suid true",
        "/opt/busybox-suid",
        CopiedUp,
        CaseContent::Image,
        Origin::Touched,
    )
    .also(|exec| (exec.container_uid, exec.container_euid) == (Some(1_000), Some(0)) && exec.capabilities_gained != 0),
    case(
        "mv",
        "mv /opt/busybox-mv /opt/busybox-mv2; /opt/busybox-mv2 true",
        "/opt/busybox-mv2",
        CopiedUp,
        CaseContent::Image,
        Origin::Relocated,
    ),
    case(
        "ln",
        "ln /opt/busybox-ln /opt/busybox-ln2; /opt/busybox-ln2 true",
        "/opt/busybox-ln2",
        CopiedUp,
        CaseContent::Image,
        Origin::Relocated,
    ),
    case(
        "symlink to an image binary",
        "ln -s /opt/busybox-symlink /tmp/busybox-s; /tmp/busybox-s true",
        "/opt/busybox-symlink",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    ),
    case(
        "busybox applet, symlink",
        "/opt/applets/true",
        "/opt/applets/busybox",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    )
    .also(|exec| exec.typed_path == b"/opt/applets/true"),
    case("busybox applet, hard link", "/opt/hard/true", "/opt/hard/true", FileClass::Image, NotHashed, Origin::Image),
    case(
        "busybox applet, new symlink",
        "ln -s /opt/own/busybox /tmp/true; /tmp/true",
        "/opt/own/busybox",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    ),
    case(
        "new script",
        "cp /data/script /tmp/s.sh; cd /tmp; ./s.sh",
        "/tmp/s.sh",
        RootfsPlain,
        NewScript,
        Origin::Added,
    ),
    case("image script", "/opt/script.sh", "/opt/script.sh", RootfsPlain, Script, Origin::Image),
    case(
        "image script, chmod",
        "chmod 700 /opt/chmod.sh; sleep 0.1; /opt/chmod.sh",
        "/opt/chmod.sh",
        RootfsPlain,
        Script,
        Origin::Image,
    ),
    case(
        "image script, changed",
        "echo true >>/opt/changed.sh; /opt/changed.sh",
        "/opt/changed.sh",
        RootfsPlain,
        ChangedScript,
        Origin::Modified,
    ),
    case(
        "image script by a symlink",
        "ln -s /opt/linked.sh /tmp/link.sh; sleep 0.1; /tmp/link.sh",
        "/opt/linked.sh",
        RootfsPlain,
        Script,
        Origin::Image,
    ),
    case(
        "image script, its directory written to",
        "echo >/opt/data/app/log; /opt/data/app/start.sh",
        "/opt/data/app/start.sh",
        RootfsPlain,
        Script,
        Origin::Image,
    ),
    given("image script given to sh", "sh /opt/given.sh", "/opt/given.sh", RootfsPlain, Script, Origin::Image),
    given(
        "changed image script given to sh",
        "echo true >>/opt/given-changed.sh; cd /opt; sh -eu given-changed.sh",
        "/opt/given-changed.sh",
        RootfsPlain,
        ChangedScript,
        Origin::Modified,
    ),
    given(
        "new script given to sh",
        "cp /data/script /tmp/given.sh; chmod 600 /tmp/given.sh; sh -o noglob /tmp/given.sh",
        "/tmp/given.sh",
        RootfsPlain,
        NewScript,
        Origin::Added,
    ),
    given("script on a bind mount given to sh", "sh /data/given", "/data/given", Volume, NewScript, Origin::Mounted)
        .on("/data"),
    given(
        "script in /dev/shm given to sh",
        "cp /data/script /dev/shm/given.sh; sh /dev/shm/given.sh",
        "/dev/shm/given.sh",
        Volume,
        NewScript,
        Origin::FilelessShm,
    )
    .on("/dev/shm"),
    case(
        "image script, own interpreter",
        "/opt/interpreted.sh",
        "/opt/interpreted.sh",
        RootfsPlain,
        OwnScript,
        Origin::Image,
    )
    .also(|exec| exec.loader.is_none()),
    case(
        "image script, interpreter changed",
        "cat /data/sh >/opt/interpreter/sh; /opt/interpreted2.sh",
        "/opt/interpreted2.sh",
        RootfsPlain,
        OwnScript,
        Origin::Modified,
    )
    .also(|exec| is_foreign_interpreter(exec, FileClass::CopiedUp)),
    case(
        "image script, interpreter in /dev/shm",
        "cp /data/sh /dev/shm/sh; /opt/shm.sh",
        "/opt/shm.sh",
        RootfsPlain,
        ShmScript,
        Origin::FilelessShm,
    )
    .also(|exec| is_foreign_interpreter(exec, Volume)),
    case(
        "image script, interpreter on a mount",
        "/opt/mounted.sh",
        "/opt/mounted.sh",
        RootfsPlain,
        MountScript,
        Origin::Mounted,
    )
    .also(|exec| is_foreign_interpreter(exec, Volume)),
    case(
        "script in /dev/shm",
        "cp /data/script /dev/shm/s.sh; /dev/shm/s.sh",
        "/dev/shm/s.sh",
        Volume,
        NewScript,
        Origin::FilelessShm,
    )
    .on("/dev/shm"),
    case("script on a bind mount", "/data/script", "/data/script", Volume, NewScript, Origin::Mounted).on("/data"),
    case(
        "binary in /dev/shm",
        "cp /data/busybox-added /dev/shm/busybox-shm; /dev/shm/busybox-shm true",
        "/dev/shm/busybox-shm",
        Volume,
        Added,
        Origin::FilelessShm,
    )
    .on("/dev/shm"),
    case(
        "binary on a tmpfs",
        "cp /data/busybox-added /scratch/busybox-m; /scratch/busybox-m true",
        "/scratch/busybox-m",
        Volume,
        Added,
        Origin::Mounted,
    )
    .on("/scratch"),
    case("binary on a bind mount", "/data/busybox-added true", "/data/busybox-added", Volume, Added, Origin::Mounted)
        .on("/data"),
    case(
        "image volume, image's file",
        "/vol/busybox-vol true",
        "/vol/busybox-vol",
        Volume,
        CaseContent::Image,
        Origin::Image,
    )
    .on("/vol"),
    case(
        "image volume, new file",
        "cp /data/busybox-added /vol/busybox-new; /vol/busybox-new true",
        "/vol/busybox-new",
        Volume,
        Added,
        Origin::Mounted,
    )
    .on("/vol"),
    case("bind over an image path", "/opt/busybox-bound true", "/opt/busybox-bound", Volume, Added, Origin::Mounted)
        .on("/opt/busybox-bound"),
    case(
        "the same, the image's content",
        "/opt/busybox-same true",
        "/opt/busybox-same",
        Volume,
        CaseContent::Image,
        Origin::Image,
    )
    .on("/opt/busybox-same"),
    case(
        "memfd",
        "/data/ways memfd /data/busybox-added x busybox sleep 0.1",
        "memfd:x",
        FileClass::Memfd,
        Added,
        Origin::Fileless,
    ),
    case(
        "memfd named as the runtime's",
        "/data/ways memfd /data/busybox-added runc_cloned:/proc/self/exe busybox sleep 0.1",
        "memfd:runc_cloned:/proc/self/exe",
        FileClass::Memfd,
        Added,
        Origin::Fileless,
    ),
    case(
        "deleted while running",
        "cp /data/busybox-added /tmp/busybox-rm; /tmp/busybox-rm sleep 0.2 & sleep 0.1; rm /tmp/busybox-rm; wait",
        "/tmp/busybox-rm",
        New,
        Added,
        Origin::Added,
    ),
    case(
        "/proc/self/fd/N, deleted",
        "cp /data/busybox-added /tmp/g; exec 5</tmp/g; rm /tmp/g; exec -a busybox /proc/self/fd/5 sleep 0.1",
        "/tmp/g",
        New,
        Added,
        Origin::Added,
    )
    .also(|exec| exec.file.nlink == 0),
    given(
        "new script given to sh",
        "cp /data/script /tmp/given.sh; sh /tmp/given.sh",
        "/tmp/given.sh",
        RootfsPlain,
        NewScript,
        Origin::Added,
    ),
    case(
        "new file by ld.so",
        "cp /data/dynamic /tmp/dynamic; /lib/ld-linux-test.so.2 --library-path /lib /tmp/dynamic",
        "/tmp/dynamic",
        RootfsPlain,
        NewDynamic,
        Origin::Added,
    )
    .also(|exec| exec.path == LOADER.as_bytes() && exec.loaded.is_some()),
    case(
        "new file by ld.so, relative",
        "cp /data/dynamic /tmp/dynamic2; cd /tmp; /lib/ld-linux-test.so.2 --library-path /lib ./dynamic2",
        "/tmp/dynamic2",
        RootfsPlain,
        NewDynamic,
        Origin::Added,
    ),
    case(
        "image binary by ld.so",
        "/lib/ld-linux-test.so.2 --library-path /lib /opt/dynamic",
        "/opt/dynamic",
        RootfsPlain,
        Dynamic,
        Origin::Image,
    ),
    case(
        "changed image binary by ld.so",
        "echo x >>/opt/dynamic3; /lib/ld-linux-test.so.2 --library-path /lib /opt/dynamic3",
        "/opt/dynamic3",
        RootfsPlain,
        ChangedDynamic,
        Origin::Modified,
    ),
    case(
        "bind-mounted binary by ld.so",
        "/lib/ld-linux-test.so.2 --library-path /lib /data/dynamic",
        "/data/dynamic",
        Volume,
        NewDynamic,
        Origin::Mounted,
    )
    .on("/data"),
    case(
        "memfd by ld.so",
        "/data/ways load /lib/ld-linux-test.so.2 /data/dynamic y",
        "/memfd:y",
        FileClass::Memfd,
        NewDynamic,
        Origin::Fileless,
    ),
    case(
        "new file by musl's ld.so",
        "cp /data/musl /tmp/musl; cd /tmp; /lib/ld-musl-test.so.1 ./musl",
        "/tmp/musl",
        RootfsPlain,
        CaseContent::Musl,
        Origin::Added,
    )
    .also(|exec| exec.path == MUSL.as_bytes() && exec.loaded.is_some()),
    case(
        "copied ld.so, image binary",
        "cp /lib/ld-linux-test.so.2 /tmp/ld-linux-own.so.2; /tmp/ld-linux-own.so.2 --library-path /lib /opt/dynamic4",
        "/opt/dynamic4",
        RootfsPlain,
        Dynamic,
        Origin::Relocated,
    )
    .also(|exec| exec.loader.as_ref().is_some_and(|loader| loader.class == New && loader.sha256.is_some())),
    case(
        "touched ld.so, new file",
        "touch /lib/ld-linux-touch.so.2; cp /data/dynamic /tmp/dynamic5; /lib/ld-linux-touch.so.2 --library-path /lib /tmp/dynamic5",
        "/tmp/dynamic5",
        RootfsPlain,
        NewDynamic,
        Origin::Added,
    )
    .also(|exec| exec.loader.as_ref().is_some_and(|loader| loader.class == CopiedUp)),
    case(
        "whiteout of the image, same content",
        "cp /data/hidden /opt/gone/busybox-gone; /opt/gone/busybox-gone true",
        "/opt/gone/busybox-gone",
        New,
        Hidden,
        Origin::Added,
    ),
    case(
        "opaque directory of the image",
        "cp /data/hidden /opt/opaque/busybox-op; /opt/opaque/busybox-op true",
        "/opt/opaque/busybox-op",
        New,
        Hidden,
        Origin::Added,
    ),
    case(
        "directory removed and made again",
        "rm -r /opt/tree; mkdir /opt/tree; cp /data/busybox-added /opt/tree/busybox-t; /opt/tree/busybox-t true",
        "/opt/tree/busybox-t",
        New,
        Added,
        Origin::Modified,
    ),
    case(
        "the same, the image's content",
        "cp /bin/busybox /opt/tree/busybox-u; sleep 0.1; /opt/tree/busybox-u true",
        "/opt/tree/busybox-u",
        New,
        CaseContent::Image,
        Origin::Image,
    ),
    case(
        "in a new tree",
        "mkdir -p /a/b; cp /data/busybox-added /a/b/busybox-t; /a/b/busybox-t true",
        "/a/b/busybox-t",
        New,
        Added,
        Origin::Added,
    ),
    case(
        "path over 256 bytes",
        "mkdir -p ${p%/*}; cp /data/busybox-added $p; $p true",
        LONG,
        New,
        Added,
        Origin::Added,
    ),
    Case {
        path: b"/tmp/busybox-\xff\xfe",
        ..case(
            "path not UTF-8",
            "f=$(printf '/tmp/busybox-\\377\\376'); cp /data/busybox-added $f; $f true",
            "",
            New,
            Added,
            Origin::Added,
        )
    },
    case(
        "path with control characters",
        "f=$(printf '/tmp/busybox a\\n\\033[1m'); cp /data/busybox-added \"$f\"; \"$f\" true",
        "/tmp/busybox a\n\u{1b}[1m",
        New,
        Added,
        Origin::Added,
    ),
    case(
        "argv over the limit",
        "/opt/busybox-args true $(printf '%05000d' 0)",
        "/opt/busybox-args",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    )
    .also(|exec| exec.args_truncated),
    case(
        "overlay in a user namespace",
        "mkdir /scratch/l /scratch/m; cp /data/busybox-added /scratch/l/busybox-f; unshare -Urm sh -c 'mount -t overlay -o lowerdir=/scratch/l:/opt/jail none /scratch/m; /scratch/m/busybox-f sleep 0.1; /scratch/m/busybox-j sleep 0.1'",
        "/scratch/m/busybox-f",
        Foreign,
        Added,
        Origin::Mounted,
    ),
    case("the same, a file of the image", "true", "/scratch/m/busybox-j", Foreign, CaseContent::Image, Origin::Mounted),
    case(
        "chroot, new file",
        "mkdir /jail; cp /data/busybox-added /jail/busybox-j; chroot /jail /busybox-j true",
        "/jail/busybox-j",
        New,
        Added,
        Origin::Added,
    )
    .also(|exec| exec.chrooted),
    case(
        "chroot, image binary",
        "chroot /opt/jail /busybox-j true",
        "/opt/jail/busybox-j",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    )
    .also(|exec| exec.chrooted),
    // Mounts made inside the container, of its own overlay.
    case(
        "bind mount of the image's directory",
        "mkdir /tmp/bound /tmp/rbound /tmp/file /opt/old; : >/tmp/file/busybox-f; cp /data/busybox-added /opt/busybox-brought; \
         unshare -Urm sh -c 'mount --rbind /opt /tmp/bound; mount --rbind / /tmp/rbound; \
         mount --bind /opt/jail/busybox-j /tmp/file/busybox-f; /tmp/bound/busybox-plain sleep 0.1; \
         /tmp/bound/busybox-touch sleep 0.1; /tmp/bound/busybox-brought sleep 0.1; /tmp/file/busybox-f sleep 0.1; \
         chroot /tmp/rbound /opt/busybox-plain sleep 0.1; chroot /tmp/rbound/opt /jail/busybox-j sleep 0.1; \
         cd /tmp/bound; pivot_root . old; /busybox-plain sleep 0.1'",
        "/tmp/bound/busybox-plain",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    )
    .on("/tmp/bound"),
    case("the same, touched", "true", "/tmp/bound/busybox-touch", CopiedUp, CaseContent::Image, Origin::Touched)
        .on("/tmp/bound"),
    case("the same, new file", "true", "/tmp/bound/busybox-brought", New, Added, Origin::Added).on("/tmp/bound"),
    case("bind mount of an image binary", "true", "/tmp/file/busybox-f", FileClass::Image, NotHashed, Origin::Image)
        .on("/tmp/file/busybox-f"),
    case(
        "chroot into a bind mount",
        "true",
        "/tmp/rbound/opt/busybox-plain",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    )
    .on("/tmp/rbound"),
    case(
        "chroot below a bind mount",
        "true",
        "/tmp/rbound/opt/jail/busybox-j",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    )
    .on("/tmp/rbound"),
    case("pivot_root to a bind mount", "true", "/busybox-plain", FileClass::Image, NotHashed, Origin::Image).on("/"),
];

/// Where roots are no overlays: the kernel does not know who wrote a file, so its content decides.
pub(crate) const PLAIN_CASES: &[Case] = &[
    case(
        "image binary",
        "/opt/busybox-plain true",
        "/opt/busybox-plain",
        RootfsPlain,
        CaseContent::Image,
        Origin::Image,
    ),
    case(
        "new file",
        "cp /data/busybox-added /tmp/busybox-new; /tmp/busybox-new true",
        "/tmp/busybox-new",
        RootfsPlain,
        Added,
        Origin::Added,
    ),
    case(
        "copy of an image binary",
        "cp /bin/busybox /tmp/busybox-cp; /tmp/busybox-cp true",
        "/tmp/busybox-cp",
        RootfsPlain,
        CaseContent::Image,
        Origin::Relocated,
    ),
    case(
        "overwritten in place",
        "cat /data/busybox-added >/opt/busybox-over; /opt/busybox-over true",
        "/opt/busybox-over",
        RootfsPlain,
        Added,
        Origin::Modified,
    ),
    case(
        "chmod",
        "chmod 700 /opt/busybox-chmod; sleep 0.1; /opt/busybox-chmod true",
        "/opt/busybox-chmod",
        RootfsPlain,
        CaseContent::Image,
        Origin::Image,
    ),
    case("binary on a bind mount", "/data/busybox-added true", "/data/busybox-added", Volume, Added, Origin::Mounted)
        .on("/data"),
    case("new script", "cp /data/script /tmp/s.sh; /tmp/s.sh", "/tmp/s.sh", RootfsPlain, NewScript, Origin::Added),
    case(
        "new file by ld.so",
        "cp /data/dynamic /tmp/dynamic; /lib/ld-linux-test.so.2 --library-path /lib /tmp/dynamic",
        "/tmp/dynamic",
        RootfsPlain,
        NewDynamic,
        Origin::Added,
    )
    .also(is_by_plain_loader),
    case(
        "image binary by ld.so",
        "/lib/ld-linux-test.so.2 --library-path /lib /opt/dynamic",
        "/opt/dynamic",
        RootfsPlain,
        Dynamic,
        Origin::Image,
    )
    .also(is_by_plain_loader),
    case(
        "bind-mounted binary by ld.so",
        "/lib/ld-linux-test.so.2 --library-path /lib /data/dynamic",
        "/data/dynamic",
        Volume,
        NewDynamic,
        Origin::Mounted,
    )
    .on("/data")
    .also(is_by_plain_loader),
    case(
        "copied ld.so, image binary",
        "cp /lib/ld-linux-test.so.2 /tmp/ld-linux-own.so.2; /tmp/ld-linux-own.so.2 --library-path /lib /opt/dynamic4",
        "/opt/dynamic4",
        RootfsPlain,
        Dynamic,
        Origin::Relocated,
    )
    .also(is_by_plain_loader),
    case(
        "changed ld.so, image binary",
        "echo x >>/lib/ld-linux-touch.so.2; /lib/ld-linux-touch.so.2 --library-path /lib /opt/dynamic3",
        "/opt/dynamic3",
        RootfsPlain,
        Dynamic,
        Origin::Modified,
    )
    .also(is_by_plain_loader),
];

fn is_by_plain_loader(exec: &Exec) -> bool {
    exec.loaded.is_some() && exec.loader.as_ref().is_some_and(|it| it.class == RootfsPlain && it.sha256.is_some())
}

/// What an image needs to be tried with many layers and files.
pub(crate) const LARGE_CASES: &[Case] = &[
    case(
        "100+ layers, file of the lowest",
        "/bin/busybox true",
        "/bin/busybox",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    ),
    case(
        "100+ layers, file of the topmost",
        "/opt/busybox-top true",
        "/opt/busybox-top",
        FileClass::Image,
        NotHashed,
        Origin::Image,
    ),
    case(
        "100+ layers, changed",
        "cat /data/busybox-added >/opt/busybox-over; /opt/busybox-over true",
        "/opt/busybox-over",
        CopiedUp,
        Added,
        Origin::Modified,
    ),
    case("layer with 100,000 files", "/many/99999 true", "/many/99999", RootfsPlain, Script, Origin::Image),
    case(
        "the same, copied",
        "cp /many/50000 /tmp/copy.sh; /tmp/copy.sh",
        "/tmp/copy.sh",
        RootfsPlain,
        Script,
        Origin::Relocated,
    ),
    case("same diff_id twice", "/opt/twice.sh", "/opt/twice.sh", RootfsPlain, ChangedScript, Origin::Image),
    NEW_FILE,
];
