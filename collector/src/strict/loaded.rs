//! The program that a dynamic loader is about to run: it is in the arguments of the loader's `execve`, which are read from the
//! memory of the process that waits in the call.

use driftline_collector_core::Crossing;
use driftline_collector_core::subject::{about_to_load, absolute_from};
use driftline_schemas::Args;
use nix::libc::{SYS_execve, SYS_execveat};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2, readlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::files::look_up;
use crate::proc::Proc;

/// Arguments that are read: a loader has about ten options.
const ARGUMENTS: usize = 32;

/// Longest argument: the kernel's longest path.
const ARGUMENT_BYTES: usize = 4_096;

const POINTER_BYTES: usize = size_of::<u64>();

/// A program that a loader is about to run.
pub(super) struct LoadedProgram {
    /// A handle without access.
    pub(super) handle: OwnedFd,
    /// Its path as the exec's record will name it.
    pub(super) path: Vec<u8>,
}

/// The program, if the thread waits in the exec of a loader. Only on the mount of the root or working directory: a lookup
/// must not end in a file system that hangs.
pub(super) fn program(proc: &Proc, thread: u32) -> Option<LoadedProgram> {
    let (path, args) = call(&proc.text(format!("{thread}/syscall")))?;
    let memory = File::open(proc.path(format!("{thread}/mem"))).ok()?;
    let path = string(&memory, path)?;
    let args = strings(&memory, args);
    let typed = about_to_load(&path, &args)?;
    let cwd = proc.path(format!("{thread}/cwd"));
    let handle = if typed.starts_with(b"/") {
        look_up(proc, thread, typed, Crossing::Stay).ok()?
    } else {
        let directory = open(&cwd, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let path = Path::new(OsStr::from_bytes(typed));
        openat2(directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).ok()?
    };
    let cwd = readlinkat(CWD, cwd, Vec::new()).ok()?;
    Some(LoadedProgram { handle, path: absolute_from(cwd.as_bytes(), typed) })
}

/// Addresses of path and arguments in `/proc/PID/syscall`: number and six arguments of the call that a thread is in.
fn call(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let mut words = words.map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    if number == SYS_execveat {
        words.next()?;
    } else if number != SYS_execve {
        return None;
    }
    Some((words.next()??, words.next()??))
}

fn strings(memory: &File, address: u64) -> Args {
    let mut pointers = [0; ARGUMENTS * POINTER_BYTES];
    let count = memory.read_at(&mut pointers, address).unwrap_or(0);
    let pointers = pointers.get(..count).unwrap_or_default().chunks_exact(POINTER_BYTES);
    let pointers = pointers.map(|bytes| bytes.try_into().map_or(0, u64::from_ne_bytes));
    pointers.take_while(|pointer| *pointer != 0).map_while(|pointer| string(memory, pointer)).collect()
}

fn string(memory: &File, address: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; ARGUMENT_BYTES];
    let count = memory.read_at(&mut bytes, address).ok()?;
    bytes.truncate(count);
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_an_exec_are_found() {
        assert_eq!(call(&format!("{SYS_execve} 0x10 0x20 0x30 0x0 0x0 0x0 0x7ffe 0x7f01\n")), Some((0x10, 0x20)));
        assert_eq!(call(&format!("{SYS_execveat} 0x3 0x10 0x20 0x30 0x0 0x0 0x7ffe 0x7f01\n")), Some((0x10, 0x20)));
        for other in ["running\n", "-1 0x7ffe 0x7f01\n", "0 0x10 0x20\n", ""] {
            assert_eq!(call(other), None, "{other:?}");
        }
    }

    #[test]
    fn arguments_are_read_from_memory_to_their_end() {
        let texts = [c"/lib/ld.so", c"--argv0", c"x"];
        let mut pointers: Vec<u64> = texts.iter().map(|text| text.as_ptr().addr() as u64).collect();
        pointers.extend([0, 1]);
        let memory = File::open("/proc/self/mem").unwrap();
        assert_eq!(strings(&memory, pointers.as_ptr().addr() as u64), [&b"/lib/ld.so"[..], b"--argv0", b"x"]);
        assert_eq!(string(&memory, 1), None);
    }
}
