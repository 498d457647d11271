//! The memory that allocations and map entries take: the figures of the estimate that [`crate::Settings`] bounds. Each
//! type adds its own size to that of its texts and encoded records. `benches/memory.rs` compares the estimate with the
//! resident memory of the process.
//!
//! An allocation counts with [`ALLOCATION_BYTES`] beside its content. An entry of a B-tree counts with its share of a
//! node that is 60 % full, as nodes are that were filled in order.

/// Bytes that the allocator adds to each allocation: its header, and half of its steps of 16 bytes.
pub(crate) const ALLOCATION_BYTES: usize = 16;

/// A pointer or number.
pub(crate) const WORD_BYTES: usize = size_of::<usize>();

/// A B-tree's entry of this size.
pub(crate) const fn entry(bytes: usize) -> usize {
    bytes * 5 / 3 + 4
}

/// A text in a list.
pub(crate) const TEXT_BYTES: usize = size_of::<String>() + ALLOCATION_BYTES;

/// A flag, the longest of which has 15 characters.
pub(crate) const FLAG_BYTES: usize = entry(size_of::<String>()) + ALLOCATION_BYTES + 15;
