//! What parts of a session take in memory beside their texts and encoded records: the figures of the estimate that
//! [`crate::Settings`] bounds. `benches/memory.rs` compares the estimate with what the process has resident.
//!
//! An allocation counts with [`ALLOCATION_BYTES`] beside its content, an entry of a B-tree with its share of a node that is
//! 60 % full, as nodes are that were filled in order.

use std::sync::Arc;

use crate::finding::{FoldKey, Label, Tracked};
use crate::session::Session;
use crate::subject::Subject;

/// What the allocator adds to each allocation: its header, and half of its steps of 16 bytes.
const ALLOCATION_BYTES: usize = 16;

/// A pointer or number.
const WORD_BYTES: usize = size_of::<usize>();

/// A B-tree's entry of this size.
const fn entry(bytes: usize) -> usize {
    bytes * 5 / 3 + 4
}

/// A finding without its texts: itself, its place in the session's list, its id and its record.
pub(crate) const FINDING_BYTES: usize = size_of::<Tracked>() + 2 * WORD_BYTES + 3 * ALLOCATION_BYTES;

/// A label without its texts, and who uses it: among those that are tracked, and in the facts.
pub(crate) const LABEL_BYTES: usize =
    size_of::<Label>() + size_of::<(Arc<Label>, usize)>() + entry(WORD_BYTES) + 4 * ALLOCATION_BYTES;

/// A text in a list.
pub(crate) const TEXT_BYTES: usize = size_of::<String>() + ALLOCATION_BYTES;

/// A flag, the longest of which has 15 characters.
pub(crate) const FLAG_BYTES: usize = entry(size_of::<String>()) + ALLOCATION_BYTES + 15;

/// A program of which repeats are only counted.
pub(crate) const REPEATS_BYTES: usize = entry(size_of::<(FoldKey, [i64; 3])>());

/// A session without its texts, findings and records: itself, its subject with its place in the order of eviction, its
/// deadline, and its id, all of which are found in maps.
pub(crate) const SESSION_BYTES: usize = size_of::<Session>()
    + size_of::<Subject>()
    + entry(2 * WORD_BYTES) // sessions
    + entry(8 * WORD_BYTES) // subjects
    + entry(4 * WORD_BYTES) // ages
    + entry(2 * WORD_BYTES) // deadlines
    + 4 * WORD_BYTES // sessions of the subject
    + 11 * WORD_BYTES // the node of the first labels among the facts
    + 9 * WORD_BYTES // lists of findings and labels, which begin with room for four
    + 12 * ALLOCATION_BYTES;
