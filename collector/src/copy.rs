//! Copies a file out of a container, for the response step of an alert. The container's owner decides what lies at the
//! path: a symbolic link, also an absolute one, is resolved in the container's root directory, as the program itself was.

use anyhow::{Context as _, bail};
use driftline_collector_core::Crossing;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::files::look_up;
use crate::proc::Proc;

/// Most bytes of a copy. Programs are smaller; a file with holes could fill the disk of whoever copies it.
pub const BYTES_MAX: u64 = 4 << 30;

/// Writes the regular file at a path in the root directory of a process to `output`; returns its length.
///
/// # Errors
/// Fails when there is no such file, when it is no regular file or has more than [`BYTES_MAX`], or cannot be read.
pub fn copy(proc: &Proc, pid: u32, path: &Path, output: &mut impl Write) -> anyhow::Result<u64> {
    let handle = look_up(proc, pid, path.as_os_str().as_bytes(), Crossing::Cross)
        .map_err(|why| anyhow::anyhow!("no file can be opened at this path in the root of process {pid}: {why:?}"))?;
    if FileType::from_raw_mode(fstat(&handle)?.st_mode) != FileType::RegularFile {
        bail!("it is no regular file");
    }
    let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let file = open(by_handle, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let length = std::io::copy(&mut File::from(file).take(BYTES_MAX + 1), output).context("cannot copy")?;
    if length > BYTES_MAX {
        bail!("it has more than {BYTES_MAX} bytes");
    }
    output.flush()?;
    Ok(length)
}

#[cfg(test)]
mod tests;
