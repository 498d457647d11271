//! What an executed program is given and where it comes from: open files, environment, rights, ancestors; as facts that
//! were found out without the kernel program.

use driftline_collector_core::layout::ANCESTOR_COUNT_MAX;
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use std::io::{PipeReader, PipeWriter};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use super::facts::{self, Facts, insert};
use crate::proc::Proc;

/// The environment of a program: variables whose names are reported, and others.
const ENVIRONMENT: [(&str, &str); 3] = [("GCONV_PATH", "/nowhere"), ("HOME", "/"), ("https_proxy", "nowhere:1")];

/// The names that are reported.
const REPORTED_NAMES: &str = "GCONV_PATH|https_proxy";

/// Standard input is a pipe; standard output a connection to this machine itself, where it has a loopback interface that is up.
#[derive(Debug)]
pub(super) struct OpenFiles {
    input: PipeReader,
    output: Option<(TcpStream, SocketAddr)>,
    _other_ends: (PipeWriter, Option<TcpListener>),
}

impl OpenFiles {
    /// Opens them.
    ///
    /// # Errors
    /// When there is no pipe to be had.
    pub(super) fn open() -> std::io::Result<Self> {
        let (input, writer) = std::io::pipe()?;
        let listener = TcpListener::bind("127.0.0.1:0").ok();
        let peer = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let output = peer.and_then(|peer| Some((TcpStream::connect(peer).ok()?, peer)));
        Ok(Self { input, output, _other_ends: (writer, listener) })
    }

    /// Gives them to a program.
    ///
    /// # Errors
    /// When no more files can be opened.
    pub(super) fn give_to(&self, command: &mut Command) -> std::io::Result<()> {
        command.stdin(Stdio::from(self.input.try_clone()?));
        command.stdout(match &self.output {
            Some((stream, _)) => Stdio::from(std::os::fd::OwnedFd::from(stream.try_clone()?)),
            None => Stdio::null(),
        });
        Ok(())
    }

    /// What is true of them, and of the standard error that is handed on, unless that is a kind of file of which the kernel and
    /// `stat` may differ.
    pub(super) fn insert_into(&self, facts: &mut Facts) {
        insert_file(facts, "standard input", &self.input, None);
        if let Some((stream, peer)) = &self.output {
            insert_file(facts, "standard output", stream, Some(*peer));
        }
        insert_file(facts, "standard error", std::io::stderr(), None);
    }
}

fn insert_file(facts: &mut Facts, name: &str, file: impl AsFd, peer: Option<SocketAddr>) {
    let Ok(stat) = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS) else { return };
    let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
    if peer.is_some() || matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
        let device = driftline_collector_core::Dev { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor };
        insert(facts, name, facts::open_file(u32::from(stat.stx_mode), stat.stx_ino, device, peer));
    }
}

/// Gives a program an environment of its own.
pub(super) fn set_environment(command: &mut Command, facts: &mut Facts) {
    command.env_clear().envs(ENVIRONMENT);
    insert(facts, "environment", REPORTED_NAMES.to_owned());
}

/// Rights of a process, by its status in `/proc`. The programs gain none by being executed.
pub(super) fn rights(status: &str, facts: &mut Facts) {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if let Some(effective) = field("CapEff:") {
        insert(facts, "capabilities", effective.to_owned());
    }
    insert(facts, "capabilities gained", format!("{:016x}", 0));
}

/// This process as the node sees it, and who started it, as far up as a record goes; nothing when the node's `/proc` does not
/// show one of them. The first process has no parent.
pub(super) fn ancestors(proc: &Proc) -> Option<String> {
    let mut pid = std::fs::read_link(proc.path("self")).ok()?.display().to_string();
    let mut ancestors = Vec::new();
    while ancestors.len() < ANCESTOR_COUNT_MAX && pid != "0" {
        let stat = proc.text(format!("{pid}/stat"));
        let (before, after) = (stat.split_once('(')?.1, stat.rsplit_once(") ")?.1);
        let name = before.rsplit_once(") ")?.0;
        let fields: Vec<&str> = after.split(' ').collect();
        // Fields 4 and 22 of proc(5), of which the third is the first here.
        ancestors.push(facts::ancestor(&pid, fields.get(19)?, name));
        pid = (*fields.get(1)?).to_owned();
    }
    Some(ancestors.join("|"))
}

/// Leader of this process's session, as the node sees it; its children have the same.
pub(super) fn session(proc: &Proc) -> Option<String> {
    let stat = proc.text("self/stat");
    stat.rsplit_once(") ")?.1.split(' ').nth(3).map(str::to_owned)
}

/// Name of a terminal by its number in `/proc/PID/stat`; nothing for one that is none of the usual ones.
pub(super) fn terminal(number: &str) -> Option<String> {
    let number: u32 = number.parse().ok()?;
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match major {
        0 => Some(String::new()),
        136..=143 => Some(format!("pts{}", (major - 136) * 256 + minor)),
        4 if minor < 64 => Some(format!("tty{minor}")),
        4 => Some(format!("ttyS{}", minor - 64)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn terminals_are_named_as_the_kernel_names_them() {
        assert_eq!(terminal("0").as_deref(), Some(""));
        assert_eq!(terminal("34816").as_deref(), Some("pts0"));
        assert_eq!(terminal("34819").as_deref(), Some("pts3"));
        assert_eq!(terminal("1088").as_deref(), Some("ttyS0"));
        assert_eq!(terminal("1025").as_deref(), Some("tty1"));
        assert_eq!(terminal("58624"), None);
    }

    #[test]
    fn the_first_ancestor_is_this_process_itself() {
        let found = ancestors(&Proc::at(Path::new("/proc"))).unwrap();
        assert!(found.starts_with(&format!("{} ", std::process::id())), "{found}");
        assert!(found.split('|').count() <= ANCESTOR_COUNT_MAX);
    }
}
