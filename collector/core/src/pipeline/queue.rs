//! The queue of one container: its execs that wait, in the order in which they happened, and the memory that they take.

use std::collections::BTreeMap;

use driftline_schemas::HeapBytes;

use super::held::HeldExec;
use crate::raw::Moment;

/// Execs by their moment, each with the memory that it takes: estimated once, when it enters the queue.
#[derive(Debug, Default)]
pub(super) struct ExecQueue {
    execs: BTreeMap<Moment, (HeldExec, usize)>,
    bytes: usize,
}

impl ExecQueue {
    /// Memory of all execs.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert(&mut self, moment: Moment, held: HeldExec) {
        let bytes = bytes_of(&held);
        self.bytes += bytes;
        self.bytes -= self.execs.insert(moment, (held, bytes)).map_or(0, |(_, before)| before);
    }

    pub(super) fn remove(&mut self, moment: &Moment) -> Option<HeldExec> {
        let (held, bytes) = self.execs.remove(moment)?;
        self.bytes -= bytes;
        Some(held)
    }

    pub(super) fn pop_first(&mut self) -> Option<HeldExec> {
        let (_, (held, bytes)) = self.execs.pop_first()?;
        self.bytes -= bytes;
        Some(held)
    }

    pub(super) fn first(&self) -> Option<(&Moment, &HeldExec)> {
        self.iter().next()
    }

    pub(super) fn get(&self, moment: &Moment) -> Option<&HeldExec> {
        self.execs.get(moment).map(|(held, _)| held)
    }

    pub(super) fn get_mut(&mut self, moment: &Moment) -> Option<&mut HeldExec> {
        self.execs.get_mut(moment).map(|(held, _)| held)
    }

    pub(super) fn contains_key(&self, moment: &Moment) -> bool {
        self.execs.contains_key(moment)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Moment, &HeldExec)> {
        self.execs.iter().map(|(moment, (held, _))| (moment, held))
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

/// Memory of a waiting exec. The job and the outcome of its digest are added and taken away meanwhile; two paths as long as
/// its own are counted for them.
fn bytes_of(held: &HeldExec) -> usize {
    let ids = held.outer.iter().chain(&held.inner).map(HeapBytes::memory_bytes).sum::<usize>();
    let paths = held.exec.path.len() + held.exec.typed_path.len() + held.exec.cwd.len();
    size_of::<(Moment, HeldExec, usize)>() + held.exec.memory_bytes() + ids + 2 * paths
}
