//! From bytes to values: the parts of a record, numbers in its fixed part, and a function for each field that is more than
//! a number. `head` is the fixed part; a field behind it comes with its own bytes.

use driftline_schemas::Args;
use std::net::{IpAddr, SocketAddr};

use super::values::{Moment, RawError};
use crate::{environment, layout};

pub(super) fn moment(head: &[u8]) -> Moment {
    Moment { time_ns: u64_at(head, layout::TIME_NS), cpu: u32_at(head, layout::CPU), seq: u64_at(head, layout::SEQ) }
}

pub(super) fn path(head: &[u8], components: &[u8]) -> Vec<u8> {
    join(components, u32_at(head, layout::FLAGS) & layout::FLAG_PATH_COMPLETE != 0)
}

pub(super) fn mount_root(_: &[u8], components: &[u8]) -> Vec<u8> {
    if components.is_empty() { Vec::new() } else { join(components, true) }
}

pub(super) fn cwd(head: &[u8], components: &[u8]) -> Vec<u8> {
    join(components, u32_at(head, layout::FLAGS) & layout::FLAG_CWD_COMPLETE != 0)
}

pub(super) fn args(_: &[u8], bytes: &[u8]) -> Args {
    Args::of_terminated(bytes)
}

pub(super) fn environment(_: &[u8], bytes: &[u8]) -> Vec<String> {
    environment::names(bytes)
}

pub(super) fn fds<T>(head: &[u8], decode: fn(&[u8]) -> T) -> [T; layout::FD_COUNT] {
    std::array::from_fn(|number| decode(repeated(head, layout::FDS, layout::FD_SIZE, number)))
}

pub(super) fn ancestors<T>(head: &[u8], decode: fn(&[u8]) -> T) -> Vec<T> {
    let count = usize::try_from(u32_at(head, layout::ANCESTOR_COUNT)).unwrap_or(0).min(layout::ANCESTOR_COUNT_MAX);
    (0..count).map(|number| decode(repeated(head, layout::ANCESTORS, layout::ANCESTOR_SIZE, number))).collect()
}

/// The peer of an open file that is a connected socket.
pub(super) fn peer(fd: &[u8]) -> Option<SocketAddr> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let address: [u8; 16] = array_at(fd, layout::FD_ADDRESS);
    let ip = match u16_at(fd, layout::FD_FAMILY) {
        AF_INET => Some(IpAddr::from(array_at::<4>(fd, layout::FD_ADDRESS))),
        AF_INET6 => Some(IpAddr::from(address).to_canonical()),
        _ => None,
    };
    let port = u16::from_be_bytes(array_at(fd, layout::FD_PORT));
    // Not connected: address and port are zero.
    ip.map(|ip| SocketAddr::new(ip, port)).filter(|peer| peer.port() != 0)
}

/// Structure `number` of an array of structures in the fixed part of a record.
fn repeated(head: &[u8], at: usize, size: usize, number: usize) -> &[u8] {
    head.get(at + number * size..).and_then(|rest| rest.get(..size)).unwrap_or_default()
}

/// A record while it is taken apart.
pub(super) struct Rest<'a> {
    pub(super) head: &'a [u8],
    rest: &'a [u8],
    /// How long the record should be, as far as it was looked at.
    expected: usize,
}

impl<'a> Rest<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, RawError> {
        let (head, rest) = bytes.split_at_checked(layout::EXEC_SIZE).ok_or(RawError::Short(bytes.len()))?;
        let version = u32_at(head, layout::VERSION);
        if version != layout::VERSION_NOW {
            return Err(RawError::Version(version));
        }
        Ok(Self { head, rest, expected: layout::EXEC_SIZE })
    }

    /// The next part, whose length stands at `length_at`. Of too short a record it is shorter, which [`Self::end`] notices.
    pub(super) fn next(&mut self, length_at: usize) -> &'a [u8] {
        let length = usize::from(u16_at(self.head, length_at));
        self.expected += length;
        let (part, after) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = after;
        part
    }

    /// Whether the record is as long as its parts.
    pub(super) fn end(self, length: usize) -> Result<(), RawError> {
        if self.expected == length { Ok(()) } else { Err(RawError::Length { length, expected: self.expected }) }
    }
}

pub(super) fn array_at<const N: usize>(head: &[u8], at: usize) -> [u8; N] {
    head.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

pub(super) fn u16_at(head: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(array_at(head, at))
}

pub(super) fn u32_at(head: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array_at(head, at))
}

pub(super) fn u64_at(head: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(array_at(head, at))
}

pub(super) fn i64_at(head: &[u8], at: usize) -> i64 {
    i64::from_ne_bytes(array_at(head, at))
}

/// Seconds and nanoseconds as one number.
pub(super) fn ns_at(head: &[u8], seconds: usize, nanos: usize) -> i64 {
    i64_at(head, seconds).saturating_mul(1_000_000_000).saturating_add(i64::from(u32_at(head, nanos)))
}

/// Components come last one first, each ended by NUL.
fn join(components: &[u8], whole: bool) -> Vec<u8> {
    let names = components.strip_suffix(&[0]).unwrap_or(components);
    let mut path = Vec::with_capacity(components.len() + 1);
    if whole {
        path.push(b'/');
    }
    if names.is_empty() {
        return path;
    }
    for (number, name) in names.rsplit(|byte| *byte == 0).enumerate() {
        if number > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    path
}
