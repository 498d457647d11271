//! Copies a file out of a container, for the response step of an alert. The container's owner decides what lies at the
//! path: a symbolic link, also an absolute one, is resolved in the container's root directory, as the program itself was.

use driftline_collector_core::Crossing;
use rustix::fs::{FileType, fstat};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::files::{look_up, open_by_handle};
use crate::proc::Proc;

/// Most bytes of a copy. Programs are smaller; a file with holes could fill the disk of whoever copies it.
pub const BYTES_MAX: u64 = 4 << 30;

/// Writes the regular file at a path in the root directory of a process to `output`; returns its length.
///
/// # Errors
/// Fails when there is no such file, when it is no regular file or has more than [`BYTES_MAX`], or cannot be read.
pub fn copy(proc: &Proc, pid: u32, path: &Path, output: &mut impl Write) -> io::Result<u64> {
    let handle = look_up(proc, pid, path.as_os_str().as_bytes(), Crossing::Cross).map_err(|why| {
        io::Error::other(format!("no file can be opened at this path in the root of process {pid}: {why:?}"))
    })?;
    if FileType::from_raw_mode(fstat(&handle)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = open_by_handle(&handle)?;
    let length = io::copy(&mut file.take(BYTES_MAX + 1), output)?;
    if length > BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {BYTES_MAX} bytes")));
    }
    output.flush()?;
    Ok(length)
}

#[cfg(test)]
mod tests;
