//! The queue of one container: its execs that wait, in the order in which they happened, and the memory that they take.

use std::collections::BTreeMap;

use driftline_schemas::HeapBytes;

use super::held::HeldExec;
use crate::raw::Moment;

/// Execs by their moment.
#[derive(Debug, Default)]
pub(super) struct ExecQueue {
    execs: BTreeMap<Moment, HeldExec>,
    bytes: usize,
}

impl ExecQueue {
    /// What they take of memory, see [`bytes_of`].
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert(&mut self, moment: Moment, held: HeldExec) {
        self.bytes += bytes_of(&held);
        if let Some(before) = self.execs.insert(moment, held) {
            self.bytes -= bytes_of(&before);
        }
    }

    pub(super) fn remove(&mut self, moment: &Moment) -> Option<HeldExec> {
        let held = self.execs.remove(moment)?;
        self.bytes -= bytes_of(&held);
        Some(held)
    }

    pub(super) fn pop_first(&mut self) -> Option<HeldExec> {
        let (_, held) = self.execs.pop_first()?;
        self.bytes -= bytes_of(&held);
        Some(held)
    }

    pub(super) fn first(&self) -> Option<(&Moment, &HeldExec)> {
        self.execs.first_key_value()
    }

    pub(super) fn get(&self, moment: &Moment) -> Option<&HeldExec> {
        self.execs.get(moment)
    }

    /// For its digest; what [`bytes_of`] counts must not be changed.
    pub(super) fn get_mut(&mut self, moment: &Moment) -> Option<&mut HeldExec> {
        self.execs.get_mut(moment)
    }

    pub(super) fn contains_key(&self, moment: &Moment) -> bool {
        self.execs.contains_key(moment)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Moment, &HeldExec)> {
        self.execs.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Moment> {
        self.execs.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.execs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.execs.is_empty()
    }
}

/// What a waiting exec takes of memory as long as it waits. The job and the outcome of its digest come and go meanwhile: for
/// them stand two paths as long as its own.
fn bytes_of(held: &HeldExec) -> usize {
    let ids = held.outer.iter().chain(&held.inner).map(HeapBytes::memory_bytes).sum::<usize>();
    let paths = held.exec.path.len() + held.exec.typed_path.len() + held.exec.cwd.len();
    size_of::<(Moment, HeldExec)>() + held.exec.memory_bytes() + ids + 2 * paths
}
