//! Finds the symlinks of a path without computing a digest for each of its directories: most paths that are not in an
//! index as written pass through one symlinked directory, `/bin` or `/lib`.
//!
//! The table is built when an index is merged or opened, and is not stored with it. Paths that the table cannot resolve
//! are walked by [`super::real_path`].

use std::borrow::Cow;

use driftline_schemas::limits::PATH_BYTES_MAX;
use memchr::memchr;

use super::block::Sections;
use super::resolve::{LINKS_MAX, Last, parent};
use super::{ImageEntry, NodeKind};

/// Most slots examined for one path. The hash is fast but not collision resistant, so an image can choose paths that
/// collide; then there is no table, and its paths are walked.
const PROBES_MAX: usize = 16;

/// Slots per symlink: at least half of them stay empty, so that most searches end at the first slot.
const SLOTS_PER_LINK: usize = 2;

/// The positions of an index's symlinks. Empty when there is no table.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Places of records plus one, by the hash of their path; 0 is an empty slot. Their number is a power of two.
    slots: Vec<u32>,
}

/// Result of a lookup without walking the path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LinkLookup<'a> {
    /// The path has this entry.
    Entry(ImageEntry<'a>),
    /// The path does not exist.
    Nothing,
    /// The path must be walked.
    Unknown,
}

impl Links {
    pub(super) fn of(sections: Sections<'_>) -> Self {
        let links = || sections.entries().filter(|(_, entry)| entry.kind == NodeKind::Symlink);
        let mut made = Self { slots: vec![0; (links().count() * SLOTS_PER_LINK).next_power_of_two()] };
        for (at, entry) in links() {
            let names = entry.path.split(|byte| *byte == b'/').skip(1);
            let hash = names.fold(HASH_START, hashed);
            let free = made.slots(hash).find(|at| made.slots.get(*at) == Some(&0));
            match free.and_then(|free| made.slots.get_mut(free)).zip(u32::try_from(at + 1).ok()) {
                Some((slot, place)) => *slot = place,
                None => return Self::default(),
            }
        }
        made
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }

    /// The entry at a path, as [`super::real_path`] would find it.
    pub(super) fn find<'a>(&self, sections: Sections<'a>, path: &[u8], last: Last) -> LinkLookup<'a> {
        let mut path = Cow::Borrowed(path);
        // The sum of the walked paths stays below the number of components that a walk may have.
        let mut left = PATH_BYTES_MAX;
        for _ in 0..=LINKS_MAX {
            let Some(rest) = left.checked_sub(path.len()) else { return LinkLookup::Unknown };
            left = rest;
            match self.first(sections, &path, last) {
                First::None => return sections.find(&path).map_or(LinkLookup::Nothing, LinkLookup::Entry),
                First::Unknown => return LinkLookup::Unknown,
                First::Link { entry, len } => {
                    let after = path.get(len..).unwrap_or_default();
                    path = Cow::Owned(followed(entry, after));
                }
            }
        }
        LinkLookup::Unknown
    }

    /// The first symlink of a path whose components are all plain names.
    fn first<'a>(&self, sections: Sections<'a>, path: &[u8], last: Last) -> First<'a> {
        if self.slots.is_empty() || path.first() != Some(&b'/') {
            return First::Unknown;
        }
        let mut hash = HASH_START;
        let mut at = 0;
        while let Some(rest) = path.get(at + 1..) {
            let name = memchr(b'/', rest).and_then(|len| rest.get(..len)).unwrap_or(rest);
            if matches!(name, b"" | b"." | b"..") {
                return First::Unknown;
            }
            at += 1 + name.len();
            hash = hashed(hash, name);
            let is_kept = at == path.len() && last == Last::Kept;
            let prefix = path.get(..at).unwrap_or_default();
            if let Some(entry) = self.link(sections, hash, prefix).filter(|_| !is_kept) {
                return First::Link { entry, len: at };
            }
        }
        First::None
    }

    /// The symlink with this path and hash.
    fn link<'a>(&self, sections: Sections<'a>, hash: u64, path: &[u8]) -> Option<ImageEntry<'a>> {
        let places = self.slots(hash).filter_map(|at| self.slots.get(at)).take_while(|place| **place > 0);
        places.filter_map(|place| sections.at(usize::try_from(place - 1).ok()?)).find(|entry| entry.path == path)
    }

    /// The slots that may hold a path with this hash.
    fn slots(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len().wrapping_sub(1);
        // The upper half of a product depends on every bit of its factors.
        let start = usize::try_from(hash >> 32).unwrap_or(0);
        (0..PROBES_MAX).map(move |step| start.wrapping_add(step) & mask)
    }
}

enum First<'a> {
    None,
    Link {
        entry: ImageEntry<'a>,
        /// Length of the path up to and with the symlink.
        len: usize,
    },
    Unknown,
}

/// The path after a symlink is replaced by its target; `after` begins with `/`, or is empty.
fn followed(link: ImageEntry<'_>, after: &[u8]) -> Vec<u8> {
    let target = link.target.unwrap_or_default();
    if target.starts_with(b"/") {
        return [target, after].concat();
    }
    [parent(link.path), b"/", target, after].concat()
}

/// The start value; any number except 0 would do.
const HASH_START: u64 = HASH_FACTOR;
/// 2^64 divided by the golden ratio, as in Fibonacci hashing: an odd number with evenly spread bits.
const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Extends a path's hash by one component, eight bytes at a time, so that the hashes of its directories are
/// intermediate results.
fn hashed(hash: u64, name: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(HASH_FACTOR).rotate_left(29);
    let (words, rest) = name.as_chunks();
    let whole = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let last = rest.iter().fold(1, |word, byte| word << 8 | u64::from(*byte));
    mix(whole, last).wrapping_mul(HASH_FACTOR)
}
