//! What a value takes of memory. Called by limits that guard memory: a record has from one to several dozen KiB, so a
//! count of records bounds nothing.
//!
//! The estimate follows from the value alone, not from how it came about: what was restored from a changelog counts as
//! what was decoded from a topic. So it leaves out what allocators round up and vectors keep in reserve.

use std::collections::BTreeMap;

/// What a B-tree takes beside its entries, for each: a node has room for eleven, and is at least half full.
const TREE_ENTRY_BYTES: usize = 16;

/// A value of which the memory can be estimated.
pub trait HeapBytes {
    /// Bytes behind its pointers, without those of the value itself.
    fn heap_bytes(&self) -> usize;

    /// Bytes of all.
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

/// What a vector of such values has on the heap.
pub(crate) fn of_items<T: HeapBytes>(items: &[T]) -> usize {
    items.iter().map(HeapBytes::memory_bytes).sum()
}
