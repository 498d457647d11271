//! From bytes to values.

use serde_bytes::ByteBuf;
use std::net::{IpAddr, SocketAddr};

use super::{Comm, Dev, Moment, RawAncestor, RawError, RawExec, RawFd, RawFile};
use crate::{environment, layout};

impl RawExec {
    /// Reads one record. In a box, because it has some 600 bytes and is sorted, kept and handed on.
    ///
    /// # Errors
    /// When the bytes are not one whole record of this version.
    pub fn decode(bytes: &[u8]) -> Result<Box<Self>, RawError> {
        let parts = Parts::of(bytes)?;
        let Parts { head, cgroup, path, typed_path, args, cwd, tty, environment } = parts;
        let flags = u32_at(head, layout::FLAGS);
        Ok(Box::new(Self {
            moment: parts.moment(),
            cgroup: cgroup.to_vec(),
            flags,
            start_ns: u64_at(head, layout::START_NS),
            exec_count: u64_at(head, layout::EXEC_COUNT),
            pid: u32_at(head, layout::TGID),
            ns_pid: u32_at(head, layout::NS_PID),
            pid_ns: u32_at(head, layout::PID_NS),
            ancestors: ancestors(head),
            session_id: u32_at(head, layout::SESSION_ID),
            uid: u32_at(head, layout::UID),
            gid: u32_at(head, layout::GID),
            euid: u32_at(head, layout::EUID),
            egid: u32_at(head, layout::EGID),
            ns_uid: u32_at(head, layout::NS_UID),
            ns_gid: u32_at(head, layout::NS_GID),
            ns_euid: u32_at(head, layout::NS_EUID),
            ns_egid: u32_at(head, layout::NS_EGID),
            capabilities: u64_at(head, layout::CAPABILITIES),
            capabilities_gained: u64_at(head, layout::CAPABILITIES_GAINED),
            fds: std::array::from_fn(|number| RawFd::decode(part(head, layout::FDS, layout::FD_SIZE, number))),
            file: RawFile::decode(head),
            root_dev: Dev::from_kernel(u32_at(head, layout::ROOT_DEV)),
            root_fs_magic: u64_at(head, layout::ROOT_FS_MAGIC),
            root_mnt_id: u32_at(head, layout::ROOT_MNT_ID),
            mnt_ns: u32_at(head, layout::MNT_NS),
            outer_mnt_ns: u32_at(head, layout::OUTER_MNT_NS),
            path: join(path, flags & layout::FLAG_PATH_COMPLETE != 0),
            typed_path: typed_path.to_vec(),
            args: split_args(args),
            cwd: join(cwd, flags & layout::FLAG_CWD_COMPLETE != 0),
            tty: tty.to_vec(),
            environment: environment::names(environment),
        }))
    }

    /// Whether the file of this record may have to be hashed before it is gone.
    #[must_use]
    pub fn is_urgent(record: &[u8]) -> bool {
        let flags = u32_at(record, layout::FLAGS) & (layout::FLAG_SUSPICIOUS | layout::FLAG_KNOWN);
        flags == layout::FLAG_SUSPICIOUS
    }
}

/// Part `number` of an array of parts in the fixed part of a record.
fn part(head: &[u8], at: usize, size: usize, number: usize) -> &[u8] {
    head.get(at + number * size..).and_then(|rest| rest.get(..size)).unwrap_or_default()
}

fn ancestors(head: &[u8]) -> Vec<RawAncestor> {
    let count = usize::try_from(u32_at(head, layout::ANCESTOR_COUNT)).unwrap_or(0).min(layout::ANCESTOR_COUNT_MAX);
    let decode = |number| {
        let ancestor = part(head, layout::ANCESTORS, layout::ANCESTOR_SIZE, number);
        RawAncestor {
            pid: u32_at(ancestor, layout::ANCESTOR_TGID),
            start_ns: u64_at(ancestor, layout::ANCESTOR_START_NS),
            comm: Comm(array_at(ancestor, layout::ANCESTOR_COMM)),
            dev: Dev::from_kernel(u32_at(ancestor, layout::ANCESTOR_DEV)),
            ino: u64_at(ancestor, layout::ANCESTOR_INO),
        }
    };
    (0..count).map(decode).collect()
}

impl RawFd {
    fn decode(bytes: &[u8]) -> Self {
        const AF_INET: u16 = 2;
        const AF_INET6: u16 = 10;
        let address: [u8; 16] = array_at(bytes, layout::FD_ADDRESS);
        let ip = match u16_at(bytes, layout::FD_FAMILY) {
            AF_INET => Some(IpAddr::from(array_at::<4>(bytes, layout::FD_ADDRESS))),
            AF_INET6 => Some(IpAddr::from(address).to_canonical()),
            _ => None,
        };
        let port = u16::from_be_bytes(array_at(bytes, layout::FD_PORT));
        Self {
            mode: u16_at(bytes, layout::FD_MODE),
            ino: u64_at(bytes, layout::FD_INO),
            rdev: Dev::from_kernel(u32_at(bytes, layout::FD_RDEV)),
            // Not connected: address and port are zero.
            peer: ip.map(|ip| SocketAddr::new(ip, port)).filter(|peer| peer.port() != 0),
        }
    }
}

impl RawFile {
    fn decode(head: &[u8]) -> Self {
        let ns = |seconds, nanos| {
            i64_at(head, seconds).saturating_mul(1_000_000_000).saturating_add(i64::from(u32_at(head, nanos)))
        };
        Self {
            dev: Dev::from_kernel(u32_at(head, layout::DEV)),
            ino: u64_at(head, layout::INO),
            real_ino: u64_at(head, layout::REAL_INO),
            size_bytes: i64_at(head, layout::SIZE_BYTES),
            mode: u16_at(head, layout::MODE),
            nlink: u32_at(head, layout::NLINK),
            mtime_ns: ns(layout::MTIME_SEC, layout::MTIME_NSEC),
            ctime_ns: ns(layout::CTIME_SEC, layout::CTIME_NSEC),
            fs_magic: u64_at(head, layout::FS_MAGIC),
            lower_count: u32_at(head, layout::LOWER_COUNT),
            lower_ino: u64_at(head, layout::LOWER_INO),
            mnt_id: u32_at(head, layout::MNT_ID),
        }
    }
}

/// A whole record.
pub(super) struct Parts<'a> {
    head: &'a [u8],
    cgroup: &'a [u8],
    path: &'a [u8],
    typed_path: &'a [u8],
    args: &'a [u8],
    cwd: &'a [u8],
    tty: &'a [u8],
    environment: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, RawError> {
        let (head, mut rest) = bytes.split_at_checked(layout::EXEC_SIZE).ok_or(RawError::Short(bytes.len()))?;
        let version = u32_at(head, layout::VERSION);
        if version != layout::VERSION_NOW {
            return Err(RawError::Version(version));
        }
        let mut expected = layout::EXEC_SIZE;
        // The part whose length stands at `length_at`; too short a record shows when `expected` is compared.
        let mut next = |length_at| {
            let length = usize::from(u16_at(head, length_at));
            expected += length;
            let (part, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = after;
            part
        };
        let parts = Self {
            head,
            cgroup: next(layout::CGROUP_BYTES),
            path: next(layout::PATH_BYTES),
            typed_path: next(layout::FILENAME_BYTES),
            cwd: next(layout::CWD_BYTES),
            tty: next(layout::TTY_BYTES),
            args: next(layout::ARGS_BYTES),
            environment: next(layout::ENV_BYTES),
        };
        if expected == bytes.len() { Ok(parts) } else { Err(RawError::Length { length: bytes.len(), expected }) }
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            time_ns: u64_at(self.head, layout::TIME_NS),
            cpu: u32_at(self.head, layout::CPU),
            seq: u64_at(self.head, layout::SEQ),
        }
    }
}

fn array_at<const N: usize>(head: &[u8], at: usize) -> [u8; N] {
    head.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn u16_at(head: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(array_at(head, at))
}

fn u32_at(head: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array_at(head, at))
}

fn u64_at(head: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(array_at(head, at))
}

fn i64_at(head: &[u8], at: usize) -> i64 {
    i64::from_ne_bytes(array_at(head, at))
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

/// An argument vector as the kernel keeps it: each ended by NUL.
#[must_use]
pub fn split_args(bytes: &[u8]) -> Vec<ByteBuf> {
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .strip_suffix(&[0])
        .unwrap_or(bytes)
        .split(|byte| *byte == 0)
        .map(|argument| ByteBuf::from(argument.to_vec()))
        .collect()
}
