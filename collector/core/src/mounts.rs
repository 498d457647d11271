//! The mount table of a container: `/proc/PID/mountinfo` of its first process, named as the runtime declares them.

use driftline_schemas::limits::{MOUNTS_MAX, PATH_BYTES_MAX};
use driftline_schemas::{ENGINE_INIT, Mount};
use std::collections::BTreeMap;

use crate::container_root::ContainerRoot;
use crate::raw::{Dev, magic};

/// File systems from which nothing is executed; most of a container's mounts are of these.
const NO_PROGRAMS: [&str; 10] =
    ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "securityfs", "debugfs", "tracefs", "bpf"];

/// File systems that get their answers from outside the kernel, or from outside the node. Type names; with a dot what
/// follows is free (`fuse.sshfs`).
const REFUSED: [&str; 13] =
    ["fuse", "fuseblk", "virtiofs", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "coda", "gfs2", "ocfs2"];

/// Where the packages of engines install the init program that `run --init` mounts into a container: podman's helper
/// directories and Docker's. Of Debian's `docker-init`, a link, the mount shows the target. Only the node's administrator
/// writes there. An init program from elsewhere (`podman run --init-path`) is reported like any mounted program.
const ENGINE_INITS: [&str; 13] = [
    "/usr/bin/catatonit",
    "/usr/lib/podman/catatonit",
    "/usr/libexec/podman/catatonit",
    "/usr/local/lib/podman/catatonit",
    "/usr/local/libexec/podman/catatonit",
    "/usr/bin/docker-init",
    "/usr/bin/tini",
    "/usr/bin/tini-static",
    "/usr/lib/docker/docker-init",
    "/usr/libexec/docker/docker-init",
    "/usr/local/bin/docker-init",
    "/usr/local/lib/docker/docker-init",
    "/usr/local/libexec/docker/docker-init",
];

/// Where podman and Docker mount it: podman's `config.json` has the mount, a read-only bind, and Docker's `oci_linux.go`.
const INIT_POINTS: [&str; 2] = ["/run/podman-init", "/sbin/docker-init"];

/// A mount as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelMount {
    /// Mount point, type and source.
    pub mount: Mount,
    /// Number of the mount.
    pub id: u32,
    /// Its superblock.
    pub dev: Dev,
    /// Files on it must not be opened.
    pub is_refused: bool,
}

/// Mount table of a container, longest mount point first; without the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    all: Vec<Mount>,
    /// What only the kernel knows, by mount point.
    kernel: BTreeMap<String, KernelFacts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KernelFacts {
    id: u32,
    dev: Dev,
    is_refused: bool,
}

impl Mounts {
    /// The mounts that the kernel shows.
    #[must_use]
    pub fn of_kernel(kernel: Vec<KernelMount>) -> Self {
        let mut table = Self::default();
        let mut by_point = BTreeMap::new();
        for KernelMount { mount, id, dev, is_refused } in kernel {
            table.kernel.insert(mount.point.clone(), KernelFacts { id, dev, is_refused });
            by_point.insert(mount.point.clone(), mount);
        }
        table.all = sorted(by_point);
        table
    }

    /// Adds the mounts that the runtime declares. Where both name a mount point, the runtime's name and source are used (a
    /// volume's name, a bind's source), and the kernel's flag whether it is read-only. A source that the runtime does not name is
    /// the kernel's. No runtime names the mount of its init program; what a user mounts in its place, it does.
    pub fn name(&mut self, runtime: &[Mount]) {
        let known = std::mem::take(&mut self.all).into_iter();
        let mut by_point: BTreeMap<String, Mount> = known.map(|mount| (mount.point.clone(), mount)).collect();
        for mount in runtime {
            let point = mount.point.trim_end_matches('/').to_owned();
            if point.is_empty() {
                continue;
            }
            let known = by_point.get(&point);
            let read_only = known.map_or(mount.read_only, |known| known.read_only);
            let is_unnamed = mount.source.is_empty();
            let source = known.filter(|_| is_unnamed).map_or(&mount.source, |known| &known.source).clone();
            let is_init = is_unnamed && known.is_some_and(|known| known.fs_type == ENGINE_INIT);
            let fs_type = match mount.fs_type.as_str() {
                _ if is_init => ENGINE_INIT,
                // A type that a runtime's user wrote.
                ENGINE_INIT => "bind",
                declared => declared,
            };
            let fs_type = fs_type.to_owned();
            by_point.insert(point.clone(), Mount { point, fs_type, source, read_only });
        }
        self.all = sorted(by_point);
    }

    /// Whether a path is on a mount whose files must not be opened.
    #[must_use]
    pub fn refuses(&self, path: &[u8]) -> bool {
        self.kernel.iter().any(|(point, known)| known.is_refused && is_below(path, point))
    }

    /// The mounts, longest mount point first.
    #[must_use]
    pub fn as_slice(&self) -> &[Mount] {
        &self.all
    }

    /// The mount that a path leads to by its name, unless that is the root.
    #[must_use]
    pub fn above(&self, path: &[u8]) -> Option<&Mount> {
        self.all.iter().find(|mount| is_below(path, &mount.point))
    }

    /// The mount that a file is on, unless that is the root or one made inside the container: the one of its number, or
    /// (a copy of the namespace has other numbers) one above its path with its superblock.
    #[must_use]
    pub fn of_file(&self, path: &[u8], mnt_id: Option<u32>, dev: Dev) -> Option<&Mount> {
        let known = |mount: &Mount| self.kernel.get(&mount.point);
        // Programs of the engine's own mount are not reported. So it is no other one that covers it, or has its number later.
        let is_init = |mount: &Mount| mount.fs_type == ENGINE_INIT;
        let is_its_superblock = |mount: &Mount| known(mount).is_none_or(|known| known.dev == dev);
        let by_number = |mount: &&Mount| {
            let has_number = mnt_id.is_some() && known(mount).map(|known| known.id) == mnt_id;
            has_number && (!is_init(mount) || is_its_superblock(mount))
        };
        let by_path = |mount: &&Mount| is_below(path, &mount.point) && is_its_superblock(mount) && !is_init(mount);
        self.all.iter().find(by_number).or_else(|| self.all.iter().find(by_path))
    }
}

fn is_below(path: &[u8], point: &str) -> bool {
    path.strip_prefix(point.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn sorted(by_point: BTreeMap<String, Mount>) -> Vec<Mount> {
    let mut all: Vec<Mount> = by_point.into_values().collect();
    all.sort_by(|a, b| b.point.len().cmp(&a.point.len()).then_with(|| a.point.cmp(&b.point)));
    all.truncate(MOUNTS_MAX);
    all
}

/// The node's own mounts, which show where a part of a file system is on the node.
#[derive(Debug, Default)]
pub struct NodeMounts {
    /// In the order in which they were made: superblock, its directory that is mounted, and where.
    all: Vec<(Dev, String, String)>,
}

impl NodeMounts {
    /// Reads `/proc/1/mountinfo` of the node.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(Line::parse);
        Self { all: lines.map(|line| (line.dev, line.root, line.point)).collect() }
    }

    /// The path on the node of a directory or file of a superblock, by the first mount that shows it.
    fn path_of(&self, dev: Dev, root: &str) -> Option<String> {
        self.all.iter().filter(|(of, ..)| *of == dev).find_map(|(_, shown, point)| {
            let shown = shown.trim_end_matches('/');
            let rest = is_below(root.as_bytes(), shown).then(|| root.strip_prefix(shown))??;
            let path = format!("{}{rest}", point.trim_end_matches('/'));
            (path.len() <= PATH_BYTES_MAX).then_some(path)
        })
    }
}

/// Reads `/proc/PID/mountinfo` of a container's first process: its root, and its other mounts that programs can be on.
/// `mount_ns` is its mount namespace. The source of a part of a file system is its path on the node, empty when the node does not
/// show it. `None` when there is no root in it.
#[must_use]
pub fn parse_mountinfo(text: &str, node: &NodeMounts, mount_ns: u32) -> Option<(ContainerRoot, Vec<KernelMount>)> {
    let lines: Vec<Line<'_>> = text.lines().filter_map(Line::parse).collect();
    // The last one on a mount point is on top.
    let root = lines.iter().rfind(|line| line.point == "/")?;
    let root = ContainerRoot { dev: root.dev, mnt_id: Some(root.id), mount_ns, overlay: root.fs_type == "overlay" };
    let mounts = lines
        .iter()
        .filter(|line| line.point != "/" && !NO_PROGRAMS.contains(&line.fs_type) && !is_masked(&line.point))
        .map(|line| KernelMount {
            mount: Mount {
                point: line.point.clone(),
                fs_type: if line.is_engine_init(node) { ENGINE_INIT } else { line.fs_type }.to_owned(),
                source: line.source_on(node),
                read_only: line.read_only,
            },
            id: line.id,
            dev: line.dev,
            is_refused: line.is_refused(),
        })
        .collect();
    Some((root, mounts))
}

/// A mount of a container on which executions are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedMount {
    /// Where it is in the container.
    pub point: String,
    /// Its number.
    pub id: u32,
    /// What of it is watched.
    pub watch: Watch,
}

/// How far a watch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The whole superblock, which is the container's own: also by mounts that a process of it makes.
    FileSystem,
    /// This mount only: the superblock may be the node's, whose other programs are not watched.
    Mount,
}

/// Which mounts of a container to watch, by `/proc/PID/mountinfo` of its first process: an overlay root as a whole, and every
/// other mount that programs can be on. Mounts that must not be opened are never watched, nor is what lies below them: every
/// watched execution opens its file.
#[must_use]
pub fn watched(text: &str) -> Vec<WatchedMount> {
    let lines: Vec<Line<'_>> = text.lines().filter_map(Line::parse).collect();
    let refused: Vec<&str> = lines.iter().filter(|line| line.is_refused()).map(|line| line.point.as_str()).collect();
    let root = lines.iter().rposition(|line| line.point == "/");
    let others = |line: &Line<'_>| line.point != "/" && !NO_PROGRAMS.contains(&line.fs_type) && !is_masked(&line.point);
    lines
        .iter()
        .enumerate()
        .filter(|(number, line)| Some(*number) == root || others(line))
        .filter(|(_, line)| !refused.iter().any(|point| *point == "/" || is_below(line.point.as_bytes(), point)))
        .map(|(number, line)| {
            let is_own = Some(number) == root && line.fs_type == "overlay";
            let watch = if is_own { Watch::FileSystem } else { Watch::Mount };
            WatchedMount { point: line.point.clone(), id: line.id, watch }
        })
        .take(MOUNTS_MAX)
        .collect()
}

/// Which directory of its file system the mount with this number shows, and where.
#[must_use]
pub(crate) fn place_of(text: &str, id: u32) -> Option<(String, String)> {
    let line = text.lines().filter_map(Line::parse).find(|line| line.id == id)?;
    Some((line.root, line.point))
}

/// Where looking up a path may end, by the mounts that its lookup can cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// On file systems of the node that may be read.
    Readable,
    /// On a mount that must not be opened.
    Refused,
    /// A symbolic link may lead to a mount that must not be opened.
    Unsure,
}

/// Where a path leads in the root directory of the process with this `/proc/PID/mountinfo`. An automount is refused, because
/// the lookup itself would mount it.
#[must_use]
pub fn reach(text: &str, path: &[u8]) -> Reach {
    let lines: Vec<Line<'_>> = text.lines().filter_map(Line::parse).collect();
    let is_refused = |line: &Line<'_>| line.is_refused() || line.fs_type == "autofs";
    let is_above = |line: &Line<'_>| line.point == "/" || is_below(path, &line.point);
    let refused: Vec<&Line<'_>> = lines.iter().filter(|line| is_refused(line)).collect();
    if refused.iter().any(|line| is_above(line)) {
        return Reach::Refused;
    }
    let leads_to_mount = lines.iter().any(|line| line.point != "/" && is_below(path, &line.point));
    let is_readable = !lines.is_empty() && (refused.is_empty() || leads_to_mount);
    if is_readable { Reach::Readable } else { Reach::Unsure }
}

/// Runtimes hide parts of these trees below empty mounts.
fn is_masked(point: &str) -> bool {
    ["/proc", "/sys"].iter().any(|tree| is_below(point.as_bytes(), tree))
}

struct Line<'a> {
    id: u32,
    dev: Dev,
    /// The directory of its file system that is mounted.
    root: String,
    point: String,
    fs_type: &'a str,
    source: String,
    read_only: bool,
}

impl<'a> Line<'a> {
    /// `id parent major:minor root point options [tags] - type source options`
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ');
        let id = before.next()?.parse().ok()?;
        let (major, minor) = before.nth(1)?.split_once(':')?;
        let root = unescape(before.next()?);
        let point = unescape(before.next()?);
        let read_only = before.next()?.split(',').any(|option| option == "ro");
        let mut after = after.split(' ');
        let fs_type = after.next()?;
        let source = unescape(after.next()?);
        Some(Self {
            id,
            dev: Dev { major: major.parse().ok()?, minor: minor.parse().ok()? },
            root,
            point,
            fs_type,
            source,
            read_only,
        })
    }

    fn source_on(&self, node: &NodeMounts) -> String {
        if self.is_part() { node.path_of(self.dev, &self.root).unwrap_or_default() } else { self.source.clone() }
    }

    fn is_part(&self) -> bool {
        self.root != "/"
    }

    /// Whether it is the engine's init program, by the place that the engine documents and by the file's path on the node,
    /// which is derived from superblock and directory. The source that the table has of a whole file system proves
    /// nothing: of a tmpfs it is any text. Nobody in a container can mount such a file who does not see the node's
    /// directory, and then it still is the engine's program.
    fn is_engine_init(&self, node: &NodeMounts) -> bool {
        let is_in_place = INIT_POINTS.contains(&self.point.as_str()) && self.read_only;
        let path = || node.path_of(self.dev, &self.root);
        is_in_place && self.is_part() && path().is_some_and(|path| ENGINE_INITS.contains(&path.as_str()))
    }

    fn is_refused(&self) -> bool {
        self.fs_type.split('.').next().is_some_and(|base| REFUSED.contains(&base))
    }
}

/// Blank, tab, line feed and backslash stand as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// Whether a file system must not be read: FUSE can hang the reader, a network file system too.
#[must_use]
pub fn is_refused(fs_magic: u64) -> bool {
    magic::REFUSED.contains(&fs_magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
644 531 0:41 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u
645 644 0:44 / /proc rw,nosuid - proc proc rw
646 644 0:45 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
647 645 0:49 / /proc/acpi ro,relatime - tmpfs tmpfs ro
650 646 0:42 / /dev/shm rw,nosuid,nodev,noexec shared:3 - tmpfs shm rw,size=64000k
651 644 254:0 /srv/with\\040blank /data\\134x ro,relatime - ext4 /dev/vda rw
652 644 0:60 / /far rw - fuse.sshfs host: rw
";

    const NODE: &str = "\
21 1 254:0 /boot /boot rw - ext4 /dev/vda rw
22 1 254:0 /srv /mnt/disk rw - ext4 /dev/vda rw
23 1 254:0 / / rw - ext4 /dev/vda rw
24 1 0:41 / /merged rw - overlay overlay rw
";

    fn mount(point: &str, fs_type: &str, source: &str, read_only: bool) -> Mount {
        Mount { point: point.into(), fs_type: fs_type.into(), source: source.into(), read_only }
    }

    #[test]
    fn the_root_and_the_mounts_with_programs_are_found() {
        let (root, mounts) = parse_mountinfo(TABLE, &NodeMounts::parse(NODE), 7).unwrap();
        assert_eq!(
            root,
            ContainerRoot { dev: Dev { major: 0, minor: 41 }, mnt_id: Some(644), mount_ns: 7, overlay: true }
        );
        let plain: Vec<Mount> = mounts.iter().map(|it| it.mount.clone()).collect();
        assert_eq!(
            plain,
            [
                mount("/dev", "tmpfs", "tmpfs", false),
                mount("/dev/shm", "tmpfs", "shm", false),
                mount("/data\\x", "ext4", "/mnt/disk/with blank", true),
                mount("/far", "fuse.sshfs", "host:", false),
            ]
        );
        let table = Mounts::of_kernel(mounts);
        assert!(table.refuses(b"/far/x") && !table.refuses(b"/data\\x/y") && !table.refuses(b"/farther"));
    }

    #[test]
    fn an_overlay_root_is_watched_whole_and_other_mounts_by_themselves() {
        let check = |text: &str, expect: &[(&str, u32, Watch)]| {
            let found = watched(text);
            let found: Vec<_> = found.iter().map(|it| (it.point.as_str(), it.id, it.watch)).collect();
            assert_eq!(found, expect);
        };
        let mounts = [
            ("/", 644, Watch::FileSystem),
            ("/dev", 646, Watch::Mount),
            ("/dev/shm", 650, Watch::Mount),
            ("/data\\x", 651, Watch::Mount),
        ];
        check(TABLE, &mounts);
        check(&format!("{TABLE}653 652 0:61 / /far/tmp rw - tmpfs t rw\n"), &mounts);
        check("1 0 254:0 /roots/c / rw - ext4 /dev/vda rw\n", &[("/", 1, Watch::Mount)]);
        check("1 0 0:70 / / rw - fuse.fuse-overlayfs f rw\n2 1 0:71 / /tmp rw - tmpfs t rw\n", &[]);
    }

    #[test]
    fn a_path_reaches_no_mount_that_must_not_be_opened_even_by_a_link() {
        let check = |text: &str, path: &str, expect: Reach| assert_eq!(reach(text, path.as_bytes()), expect, "{path}");
        check(TABLE, "/data\\x/run.sh", Reach::Readable);
        check(TABLE, "/far/run.sh", Reach::Refused);
        check(TABLE, "/link", Reach::Unsure);
        let local = TABLE.rsplit_once("652").unwrap().0;
        check(local, "/link", Reach::Readable);
        check(&format!("{local}652 644 0:60 / /home rw - autofs h rw\n"), "/home/a/x", Reach::Refused);
        check("1 0 0:70 / / rw - fuse.fuse-overlayfs f rw\n", "/x", Reach::Refused);
        check("", "/x", Reach::Unsure);
    }

    #[test]
    fn broken_lines_are_skipped_and_no_root_is_none() {
        let parse = |text| parse_mountinfo(text, &NodeMounts::default(), 1);
        assert_eq!(parse(""), None);
        assert_eq!(parse("x\n1 2 0:1\n1 2 a:b / / rw - t s o\n"), None);
    }

    #[test]
    fn the_runtime_names_a_mount_and_the_kernel_decides_whether_it_is_read_only() {
        let kernel = [mount("/data", "ext4", "/dev/vda", true), mount("/dev/shm", "tmpfs", "shm", false)];
        let dev = Dev { major: 0, minor: 1 };
        let known = kernel.map(|mount| KernelMount { mount, id: 7, dev, is_refused: false });
        let mut mounts = Mounts::of_kernel(known.into());
        mounts.name(&[mount("/data/", "volume", "v1", false), mount("/", "bind", "x", false)]);
        assert_eq!(mounts.as_slice(), [mount("/dev/shm", "tmpfs", "shm", false), mount("/data", "volume", "v1", true)]);
    }

    #[test]
    fn a_part_of_a_file_system_has_its_path_on_the_node() {
        let node = NodeMounts::parse(NODE);
        let check = |minor, root: &str, expect: Option<&str>| {
            assert_eq!(node.path_of(Dev { major: if minor == 0 { 254 } else { 0 }, minor }, root).as_deref(), expect);
        };
        check(0, "/usr/bin/docker-init", Some("/usr/bin/docker-init"));
        check(0, "/srv", Some("/mnt/disk"));
        check(0, "/srv2/x", Some("/srv2/x"));
        check(41, "/usr/bin/docker-init", Some("/merged/usr/bin/docker-init"));
        check(42, "/usr/bin/docker-init", None);
    }

    #[test]
    fn the_engine_s_init_program_is_believed_by_its_mount_and_not_by_its_place() {
        let dev = |minor| Dev { major: 0, minor };
        let undeclared = [mount("/run/podman-init", "bind", "", true)];
        let table = |of: &str, point: &str, read_only, kind: &str| {
            let access = if read_only { "ro" } else { "rw" };
            let text = format!("1 0 0:70 / / rw - overlay o rw\n9 1 0:1 {of} {point} {access} - {kind} rw\n");
            let node = NodeMounts::parse("5 1 0:1 / / rw - ext4 /dev/vda rw\n");
            Mounts::of_kernel(parse_mountinfo(&text, &node, 7).unwrap().1)
        };
        // The file of that path on the node; without a path, one that no mount of the node shows.
        let at = |point: &str, source: &str, read_only| {
            if source.is_empty() {
                let mount = mount(point, "ext4", source, read_only);
                return Mounts::of_kernel(vec![KernelMount { mount, id: 9, dev: dev(1), is_refused: false }]);
            }
            table(source, point, read_only, "ext4 /dev/vda")
        };
        let named = |source: &str, read_only| {
            let mut mounts = at("/run/podman-init", source, read_only);
            mounts.name(&undeclared);
            mounts
        };
        let kind = |mounts: &Mounts| mounts.as_slice().first().unwrap().fs_type.clone();
        let init = named("/usr/libexec/podman/catatonit", true);
        assert_eq!(kind(&init), ENGINE_INIT);
        assert_eq!(kind(&named("/usr/libexec/podman/catatonit", false)), "bind");
        assert_eq!(kind(&named("/home/user/usr/libexec/podman/catatonit", true)), "bind");
        assert_eq!(kind(&named("", true)), "bind");
        let mut unseen = Mounts::default();
        unseen.name(&undeclared);
        assert_eq!(kind(&unseen), "bind");
        // Before any runtime has described the container; elsewhere; and where its user mounts it.
        assert_eq!(kind(&at("/run/podman-init", "/usr/bin/catatonit", true)), ENGINE_INIT);
        assert_eq!(kind(&at("/tmp/x", "/usr/bin/catatonit", true)), "ext4");
        let mut declared = at("/run/podman-init", "/usr/bin/catatonit", true);
        declared.name(&[mount("/run/podman-init", "bind", "/usr/bin/catatonit", true)]);
        assert_eq!(kind(&declared), "bind");
        // The name of a whole file system is any text, and so is a type that a runtime's user writes.
        let whole = table("/", "/run/podman-init", true, "tmpfs /usr/bin/catatonit");
        assert_eq!(kind(&whole), "tmpfs");
        let mut typed = table("/home/x", "/run/podman-init", true, "ext4 /dev/vda");
        typed.name(&[mount("/run/podman-init", ENGINE_INIT, "", true)]);
        assert_eq!(kind(&typed), "bind");
        // Another mount over it has another number; one of a later time may have the same.
        let on = |id, minor| init.of_file(b"/run/podman-init", Some(id), dev(minor)).is_some();
        assert!(on(9, 1));
        assert!(!on(10, 1) && !on(9, 2));
    }

    #[test]
    fn a_path_is_on_the_longest_mount_point_above_it() {
        let mut mounts = Mounts::default();
        mounts.name(&[mount("/a", "bind", "", false), mount("/a/b", "tmpfs", "", false)]);
        let check = |path: &str, expect: Option<&str>| {
            assert_eq!(mounts.above(path.as_bytes()).map(|mount| mount.point.as_str()), expect, "{path}");
        };
        check("/a/b/c", Some("/a/b"));
        check("/a/b", Some("/a/b"));
        check("/a/bc", Some("/a"));
        check("/ab", None);
        check("memfd:x", None);
    }

    #[test]
    fn a_file_is_on_the_mount_of_its_number_or_of_its_superblock() {
        let dev = |minor| Dev { major: 0, minor };
        let kernel = |point: &str, id, minor| KernelMount {
            mount: mount(point, "tmpfs", "", false),
            id,
            dev: dev(minor),
            is_refused: false,
        };
        let mut mounts = Mounts::of_kernel(vec![kernel("/a", 10, 1), kernel("/b", 20, 2)]);
        mounts.name(&[mount("/c", "bind", "", false)]);
        let check = |path: &str, id: u32, minor: u32, expect: Option<&str>| {
            let found = mounts.of_file(path.as_bytes(), Some(id), dev(minor));
            assert_eq!(found.map(|mount| mount.point.as_str()), expect, "{path} {id} {minor}");
        };
        check("/a/x", 10, 1, Some("/a"));
        check("/elsewhere", 10, 1, Some("/a"));
        check("/a/x", 99, 1, Some("/a"));
        check("/a/x", 99, 9, None);
        check("/c/x", 99, 9, Some("/c"));
        check("/x", 99, 1, None);
    }
}
