//! The process whose children the self-test executes. A process of its own, because it mounts, and because it starts
//! before the collector gives up its capabilities.
//!
//! It reports its process id, waits for a line, executes one program after the other, and reports the facts of each by
//! `stat`, `/proc` and its own knowledge. It ends when its output is closed.

use anyhow::Context as _;
use driftline_collector_core::Dev;
use driftline_collector_core::cgroup::{Cgroup, cgroup};
use driftline_collector_core::raw::magic;
use rustix::fs::{AtFlags, CWD, MemfdFlags, StatxFlags, fstatfs, memfd_create, readlinkat, statx};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::facts::{self, Facts, insert};
use super::overlay::{CHANGED, DIRECTORY as BOUND, NEW, Overlay, SCRIPT, UNLINKED, UNTOUCHED};
use super::program;
use super::surroundings::{self, OpenFiles};
use crate::proc::Proc;

/// What the executed programs are called.
const NAME: &str = "driftline-self-test";
/// Their arguments; the first is the command with which the collector ends at once.
const ARGUMENTS: [&str; 3] = [super::EXIT, "an argument", ""];

/// The report of a case, one line each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum HelperReport {
    /// A program was executed; this is true of it.
    Executed {
        /// Which case.
        case: String,
        /// What is true.
        facts: Facts,
    },
    /// It could not be tried here.
    NotTried {
        /// Which case.
        case: String,
        /// Why.
        why: String,
    },
}

/// Runs the helper.
///
/// # Errors
/// When something does not work that works everywhere.
pub(super) fn serve(proc: &Proc) -> anyhow::Result<()> {
    report(&std::fs::read_link(proc.path("self")).context("/proc/self")?)?;
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Ok(());
    }
    let helper = Helper { proc: proc.clone() };
    helper.own_program()?;
    helper.memfd()?;
    helper.overlay()
}

fn report(what: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Where programs are executed: a directory that every Linux has, below a mount.
const DIRECTORY: &str = "/proc/sys/kernel";

/// What a program is given beside its arguments and open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// What this process has: the collector's own program may need it to start.
    Nothing,
    /// An environment and a working directory of its own.
    Everything,
}

struct Helper {
    proc: Proc,
}

impl Helper {
    /// The collector itself, which is on the file system of its installation.
    fn own_program(&self) -> anyhow::Result<()> {
        let own = Path::new("/proc/self/exe");
        let file = File::open(own)?;
        let path = std::fs::read_link(own)?;
        let mut facts = self.execute(own, &file, Given::Nothing)?;
        if facts.get("on an overlay").is_some_and(|is| is == "yes") {
            // What `stat` gives for these depends on the overlay's options.
            facts.remove("inode");
        }
        insert(&mut facts, "path", facts::text(path.as_os_str().as_bytes()));
        insert(&mut facts, "script", facts::yes_no(false));
        insert(&mut facts, "without a directory", facts::yes_no(false));
        report(&HelperReport::Executed { case: "a program by its path".to_owned(), facts })
    }

    fn memfd(&self) -> anyhow::Result<()> {
        let mut file = File::from(memfd_create(NAME, MemfdFlags::CLOEXEC)?);
        file.write_all(&program::image())?;
        let typed = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut facts = self.execute(Path::new(&typed), &file, Given::Everything)?;
        insert(&mut facts, "path", format!("memfd:{NAME}"));
        insert(&mut facts, "without a directory", facts::yes_no(true));
        report(&HelperReport::Executed { case: "a program in memory".to_owned(), facts })
    }

    fn overlay(&self) -> anyhow::Result<()> {
        let overlay = match Overlay::mount(&program::image()) {
            Ok(overlay) => overlay,
            Err(error) => {
                let why = format!("cannot mount an overlay, which needs CAP_SYS_ADMIN at the start: {error}");
                return report(&HelperReport::NotTried { case: "files of an overlay".to_owned(), why });
            }
        };
        self.on_overlay(&overlay, "overlay: untouched file", UNTOUCHED, ("no", 1))?;
        self.on_overlay(&overlay, "overlay: new file", NEW, ("yes", 0))?;
        self.on_overlay(&overlay, "overlay: file after chmod", CHANGED, ("yes", 1))?;
        self.bound(&overlay)?;
        self.unlinked(&overlay)?;
        self.script(&overlay)
    }

    fn on_overlay(&self, overlay: &Overlay, case: &str, name: &str, layers: (&str, u32)) -> anyhow::Result<()> {
        let path = overlay.path(name);
        let mut facts = self.execute(&path, &File::open(&path)?, Given::Everything)?;
        insert(&mut facts, "path", facts::text(path.as_os_str().as_bytes()));
        insert_layers(&mut facts, layers);
        insert_mount(&mut facts, "", name);
        if let Ok(upper) = std::fs::metadata(overlay.upper(name)) {
            use std::os::unix::fs::MetadataExt as _;
            insert(&mut facts, "inode of the upper file", upper.ino().to_string());
        }
        report(&HelperReport::Executed { case: case.to_owned(), facts })
    }

    /// By a mount that shows a directory of the overlay elsewhere.
    fn bound(&self, overlay: &Overlay) -> anyhow::Result<()> {
        let path = overlay.bound(UNTOUCHED);
        let mut facts = self.execute(&path, &File::open(&path)?, Given::Everything)?;
        insert(&mut facts, "path", facts::text(path.as_os_str().as_bytes()));
        insert_layers(&mut facts, ("no", 1));
        insert_mount(&mut facts, &format!("/{BOUND}"), UNTOUCHED);
        report(&HelperReport::Executed { case: "overlay: bind mount".to_owned(), facts })
    }

    fn unlinked(&self, overlay: &Overlay) -> anyhow::Result<()> {
        let path = overlay.path(UNLINKED);
        let file = File::open(&path)?;
        std::fs::remove_file(&path)?;
        let mut facts =
            self.execute(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), &file, Given::Everything)?;
        insert_layers(&mut facts, ("yes", 0));
        insert(&mut facts, "links", "0".to_owned());
        report(&HelperReport::Executed { case: "overlay: unlinked file".to_owned(), facts })
    }

    /// Of a script the file is the interpreter.
    fn script(&self, overlay: &Overlay) -> anyhow::Result<()> {
        let (script, interpreter) = (overlay.path(SCRIPT), overlay.path(UNTOUCHED));
        let mut facts = self.execute(&script, &File::open(&interpreter)?, Given::Everything)?;
        let path = |path: &Path| facts::text(path.as_os_str().as_bytes());
        insert(&mut facts, "path", path(&interpreter));
        insert(&mut facts, "script", facts::yes_no(true));
        insert_layers(&mut facts, ("no", 1));
        // The kernel puts the interpreter and the script in the place of the first argument.
        let given = [interpreter.as_os_str().as_bytes(), script.as_os_str().as_bytes()];
        let all: Vec<&[u8]> = given.into_iter().chain(ARGUMENTS.iter().map(|argument| argument.as_bytes())).collect();
        insert(&mut facts, "arguments", facts::arguments(&all));
        report(&HelperReport::Executed { case: "overlay: script".to_owned(), facts })
    }

    /// Executes a program; what is true of it when `file` is what the kernel executes.
    fn execute(&self, program: &Path, file: &File, given: Given) -> anyhow::Result<Facts> {
        let mut facts = Facts::new();
        let files = OpenFiles::open()?;
        let mut command = Command::new(program);
        command.arg0(NAME).args(ARGUMENTS);
        files.give_to(&mut command)?;
        files.insert_into(&mut facts);
        if given == Given::Everything {
            command.current_dir(DIRECTORY);
            insert(&mut facts, "working directory", DIRECTORY.to_owned());
            surroundings::set_environment(&mut command, &mut facts);
        }
        let ancestors = surroundings::ancestors(&self.proc);
        let mut child = command.spawn().with_context(|| format!("cannot execute {}", program.display()))?;
        // Not yet waited for, so its process id is still its own.
        facts.extend(self.process(child.id()));
        child.wait()?;
        // One of them may have ended meanwhile, and another taken its place.
        if let Some(ancestors) = ancestors.filter(|before| surroundings::ancestors(&self.proc).as_ref() == Some(before))
        {
            insert(&mut facts, "ancestors", ancestors);
        }
        insert(&mut facts, "typed path", facts::text(program.as_os_str().as_bytes()));
        let arguments: Vec<&str> = std::iter::once(NAME).chain(ARGUMENTS).collect();
        insert(&mut facts, "arguments", facts::arguments(&arguments));
        self.file(&mut facts, file)?;
        Ok(facts)
    }

    fn file(&self, facts: &mut Facts, file: &File) -> anyhow::Result<()> {
        let stat = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
        let file_system = u64::try_from(fstatfs(file.as_fd())?.f_type)?;
        insert(facts, "size", stat.stx_size.to_string());
        insert(facts, "inode", stat.stx_ino.to_string());
        insert(facts, "mode", facts::mode(u32::from(stat.stx_mode)));
        insert(facts, "links", stat.stx_nlink.to_string());
        insert(facts, "modification time", nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec));
        insert(facts, "change time", nanoseconds(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec));
        insert(facts, "file system", facts::magic(file_system));
        insert(facts, "on an overlay", facts::yes_no(file_system == magic::OVERLAY));
        insert(facts, "mount", stat.stx_mnt_id.to_string());
        if let Some(device) = self.device_of(stat.stx_mnt_id) {
            insert(facts, "device", device);
        }
        Ok(())
    }

    /// What is true of a child, and of this process as its parent.
    fn process(&self, child: u32) -> Facts {
        let mut facts = Facts::new();
        let own = Proc::at(Path::new("/proc"));
        let status = own.text(format!("{child}/status"));
        let ids = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let mut ids = line.unwrap_or_default().split_ascii_whitespace();
            format!("{} {}", ids.next().unwrap_or("?"), ids.next().unwrap_or("?"))
        };
        for (name, of) in [("user ids", "Uid:"), ("group ids", "Gid:")] {
            insert(&mut facts, name, ids(of));
            // It is in the user namespace of this process, which is the node's: others cannot load the kernel program.
            insert(&mut facts, &format!("{name} inside"), ids(of));
        }
        surroundings::rights(&status, &mut facts);
        insert(&mut facts, "process id in its namespace", child.to_string());
        let child_stat = own.text(format!("{child}/stat"));
        insert(&mut facts, "start", stat_field(&child_stat, 22));
        if let Some(terminal) = surroundings::terminal(&stat_field(&child_stat, 7)) {
            insert(&mut facts, "terminal", terminal);
        }
        if let Some(session) = surroundings::session(&self.proc) {
            insert(&mut facts, "session", session);
        }
        let own_id = std::fs::read_link(self.proc.path("self")).unwrap_or_default();
        if own_id == Path::new(&std::process::id().to_string()) {
            insert(&mut facts, "process id", child.to_string());
        }
        insert(&mut facts, "parent's process id", own_id.display().to_string());
        insert(&mut facts, "parent's start", stat_field(&own.text("self/stat"), 22));
        insert(&mut facts, "parent's name", own.text("self/comm").trim_end().to_owned());
        for (name, namespace) in [("mount namespace", "mnt"), ("process id namespace", "pid")] {
            insert(&mut facts, name, namespace_number(&own.path(format!("self/ns/{namespace}"))));
        }
        if let Some(name) = container_cgroup(&own.text("self/cgroup")) {
            insert(&mut facts, "container cgroup", name);
        }
        if let Ok(root) = statx(CWD, "/", AtFlags::empty(), StatxFlags::MNT_ID) {
            insert(&mut facts, "root mount", root.stx_mnt_id.to_string());
            if let Some(device) = self.device_of(root.stx_mnt_id) {
                insert(&mut facts, "root device", device);
            }
        }
        facts
    }

    /// Device of a mount's superblock, which is not what `stat` gives on every file system. Mounts of the kernel's own,
    /// like that of memory files, are in no table.
    fn device_of(&self, mount_id: u64) -> Option<String> {
        let table = self.proc.text("self/mountinfo");
        let line = table.lines().find(|line| line.split(' ').next() == Some(&mount_id.to_string()))?;
        let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
        Some(facts::device(Dev { major: major.parse().ok()?, minor: minor.parse().ok()? }))
    }
}

fn insert_layers(facts: &mut Facts, (upper, lower): (&str, u32)) {
    insert(facts, "upper part", upper.to_owned());
    insert(facts, "lower parts", lower.to_string());
}

/// A mount of the overlay whose root is `root` there, and a file directly below it.
fn insert_mount(facts: &mut Facts, root: &str, name: &str) {
    insert(facts, "root of the mount", facts::text(root.as_bytes()));
    insert(facts, "bytes below the mount", (name.len() + 1).to_string());
}

fn nanoseconds(seconds: i64, nanoseconds: u32) -> String {
    seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanoseconds)).to_string()
}

/// A field of `/proc/PID/stat` by its number in proc(5). The command name before the third may itself hold spaces.
fn stat_field(stat: &str, number: usize) -> String {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').nth(number.saturating_sub(3)).unwrap_or("?").to_owned()
}

/// The link reads `mnt:[4026531841]`.
fn namespace_number(link: &PathBuf) -> String {
    let target = readlinkat(CWD, link, Vec::new()).unwrap_or_default();
    let target = target.to_string_lossy().into_owned();
    target.split(['[', ']']).nth(1).unwrap_or("?").to_owned()
}

/// The components that are like a container's, innermost first, of the unified hierarchy before others, as the kernel program
/// looks for them. Nothing when this process sees only the root, which in a cgroup namespace may be anything.
fn container_cgroup(cgroups: &str) -> Option<String> {
    let mut lines: Vec<&str> = cgroups.lines().collect();
    lines.sort_by_key(|line| !line.starts_with("0::"));
    if lines.iter().all(|line| line.ends_with(":/")) {
        return None;
    }
    let is_like_one = |name: &&str| cgroup(name.as_bytes()) != Cgroup::Other;
    let found = lines.iter().map(|line| line.rsplit('/').filter(is_like_one).collect::<Vec<_>>().join("/"));
    Some(found.into_iter().find(|names| !names.is_empty()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name_whatever_it_holds() {
        let stat = "7 (a ) b) S 1 2 3 0 4 5 6 7 8 9 10 11 12 13 14 15 16 17 4711 18";
        assert_eq!((stat_field(stat, 3), stat_field(stat, 7)), ("S".to_owned(), "0".to_owned()));
        assert_eq!(stat_field(stat, 22), "4711");
        assert_eq!(stat_field("", 22), "?");
    }

    #[test]
    fn a_container_is_found_in_the_unified_hierarchy_first() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let cgroups = format!("4:pids:/docker/{one}\n0::/libpod_parent/libpod-{two}/inner\n");
        assert_eq!(container_cgroup(&cgroups), Some(format!("libpod-{two}")));
        assert_eq!(container_cgroup(&format!("4:pids:/docker/{one}\n0::/init\n")), Some(one.clone()));
        let nested = format!("0::/docker/{one}/init/docker/{two}\n");
        assert_eq!(container_cgroup(&nested), Some(format!("{two}/{one}")));
        assert_eq!(container_cgroup("0::/user.slice\n"), Some(String::new()));
        assert_eq!(container_cgroup("0::/\n"), None);
    }
}
