//! Estimates the memory of a value. Called by limits that bound memory: a record has between one and several dozen KiB,
//! so a limit on the number of records would bound nothing.
//!
//! The estimate follows from the value alone, not from its origin: a value restored from a changelog counts as much as
//! one decoded from a topic. So the estimate leaves out the rounding of allocators and the spare capacity of vectors.

use std::collections::BTreeMap;

/// Memory of a B-tree beside its entries, for each entry: a node has room for eleven, and is at least half full.
const TREE_ENTRY_BYTES: usize = 16;

/// A value whose memory can be estimated.
pub trait HeapBytes {
    /// Bytes behind the value's pointers, without those of the value itself.
    fn heap_bytes(&self) -> usize;

    /// Bytes of the value itself and behind its pointers.
    fn memory_bytes(&self) -> usize {
        size_of_val(self) + self.heap_bytes()
    }
}

impl HeapBytes for String {
    fn heap_bytes(&self) -> usize {
        self.len()
    }
}

impl HeapBytes for Vec<u8> {
    fn heap_bytes(&self) -> usize {
        self.len()
    }
}

impl HeapBytes for Vec<String> {
    fn heap_bytes(&self) -> usize {
        of_items(self)
    }
}

impl<T: HeapBytes> HeapBytes for Option<T> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, HeapBytes::heap_bytes)
    }
}

impl<T: HeapBytes> HeapBytes for Box<T> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().memory_bytes()
    }
}

impl HeapBytes for BTreeMap<String, String> {
    fn heap_bytes(&self) -> usize {
        self.iter().map(|(key, value)| TREE_ENTRY_BYTES + key.memory_bytes() + value.memory_bytes()).sum()
    }
}

/// Heap bytes of a vector of such values.
pub(crate) fn of_items<T: HeapBytes>(items: &[T]) -> usize {
    items.iter().map(HeapBytes::memory_bytes).sum()
}
