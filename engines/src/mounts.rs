//! A container's mount table: what the kernel shows to its first process, named as the runtime declares it.
//!
//! The kernel knows what is really mounted (also what no `inspect` lists: /dev/shm, masks, mounts made later); the
//! runtime knows what was declared: a bind, a volume, and which one.

use std::collections::BTreeMap;
use std::path::Path;

use driftline_schemas::Mount;
use driftline_schemas::limits::MOUNTS_MAX;
use tokio::io::AsyncReadExt as _;

use crate::limits::{MOUNTINFO_BYTES_MAX, TEXT_BYTES_MAX};
use crate::text::shortened;

/// A mount as the runtime declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) point: String,
    /// bind, volume or tmpfs.
    pub(crate) kind: String,
    /// Path on the node, or name of the volume.
    pub(crate) source: String,
    pub(crate) read_only: bool,
}

/// The mount table as the process sees it; nothing when it cannot be read, for example because the process is gone.
pub(crate) async fn read_mountinfo(proc: &Path, pid: i32) -> Option<String> {
    let file = tokio::fs::File::open(proc.join(pid.to_string()).join("mountinfo")).await.ok()?;
    let mut bytes = Vec::new();
    file.take(MOUNTINFO_BYTES_MAX).read_to_end(&mut bytes).await.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The mounts of a container without its root, longest point first, at most [`MOUNTS_MAX`].
pub(crate) fn table(declared: Vec<Declared>, mountinfo: Option<&str>) -> Vec<Mount> {
    let mut declared: BTreeMap<String, Declared> =
        declared.into_iter().map(|mount| (trimmed(&mount.point).to_owned(), mount)).collect();
    let mut mounts = BTreeMap::new();
    match mountinfo {
        // Later lines cover earlier ones with the same point.
        Some(text) => mounts.extend(text.lines().filter_map(parse_line).map(|seen| (seen.point.clone(), seen))),
        None => {
            // Every engine mounts it, and execs from it are a detector of their own.
            let shm = Declared {
                point: "/dev/shm".to_owned(),
                kind: "tmpfs".to_owned(),
                source: "shm".to_owned(),
                read_only: false,
            };
            declared.entry(shm.point.clone()).or_insert(shm);
            mounts.extend(declared.keys().map(|point| (point.clone(), Seen::unknown(point))));
        }
    }
    let mut mounts: Vec<Mount> = mounts.into_iter().map(|(point, seen)| seen.named(declared.get(&point))).collect();
    if mounts.len() > MOUNTS_MAX {
        // Those of the kernel's own file systems cannot hold programs.
        mounts.retain(|mount| !mount.point.starts_with("/proc/") && !mount.point.starts_with("/sys/"));
    }
    mounts.sort_by(|a, b| b.point.len().cmp(&a.point.len()).then_with(|| a.point.cmp(&b.point)));
    mounts.truncate(MOUNTS_MAX);
    mounts
}

/// A mount as the kernel shows it.
struct Seen {
    point: String,
    fs_type: String,
    source: String,
    /// Nothing when only the runtime knows.
    read_only: Option<bool>,
    /// Not the root of its file system: a bind of something below.
    is_part: bool,
}

impl Seen {
    fn unknown(point: &str) -> Self {
        Self { point: point.to_owned(), fs_type: String::new(), source: String::new(), read_only: None, is_part: false }
    }

    fn named(self, declared: Option<&Declared>) -> Mount {
        let is_cgroup = self.fs_type.starts_with("cgroup");
        let (fs_type, source) = match declared {
            Some(declared) => (declared.kind.clone(), declared.source.clone()),
            // Declared nowhere; the kernel names the device, and not which part of it.
            None if self.is_part && !is_cgroup => ("bind".to_owned(), String::new()),
            None => (self.fs_type, self.source),
        };
        let read_only = self.read_only.or(declared.map(|declared| declared.read_only)).unwrap_or(false);
        Mount {
            point: shortened(&self.point, TEXT_BYTES_MAX),
            fs_type: shortened(&fs_type, TEXT_BYTES_MAX),
            source: shortened(&source, TEXT_BYTES_MAX),
            read_only,
        }
    }
}

/// `id parent major:minor root point options [optional…] - type source super_options`, see proc(5).
fn parse_line(line: &str) -> Option<Seen> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point, options) = (before.next()?, before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (fs_type, source, super_options) = (after.next()?, after.next()?, after.next().unwrap_or_default());
    let is_read_only = [options, super_options].iter().any(|options| options.split(',').any(|option| option == "ro"));
    let seen = Seen {
        point: unescaped(point),
        fs_type: fs_type.to_owned(),
        source: unescaped(source),
        read_only: Some(is_read_only),
        is_part: root != "/",
    };
    (seen.point != "/").then_some(seen)
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let escape = part.split_at_checked(3).and_then(|(digits, rest)| {
            u8::from_str_radix(digits, 8).ok().filter(u8::is_ascii).map(|byte| (char::from(byte), rest))
        });
        match escape {
            Some((character, rest)) => {
                plain.push(character);
                plain.push_str(rest);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

fn trimmed(point: &str) -> &str {
    Some(point.trim_end_matches('/')).filter(|point| !point.is_empty()).unwrap_or("/")
}

#[cfg(test)]
mod tests;
