//! The execs of a container that were reported before its image was known, and are judged again when it is.

use std::collections::BTreeMap;

use driftline_schemas::{Exec, FileClass, HeapBytes as _};

use crate::limits::{UNRESOLVED_BYTES_MAX, UNRESOLVED_MAX};

/// An exec that was reported before the image was known.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) exec: Box<Exec>,
    /// Newest published revision; 0 while the exec is one of the unproven ones that have a finding together.
    pub(crate) revision: i32,
    pub(crate) amend_until_ns: i64,
}

/// What remembering an exec is worth: the weakest gives way to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    /// Only the image could tell whether it is foreign.
    Unproven,
    /// It ran from a mount, where the image can have no file, or a copy of one at most.
    Mounted,
    /// The container wrote the file.
    Written,
}

impl Unresolved {
    fn strength(&self) -> Strength {
        match self.exec.class {
            _ if self.revision == 0 => Strength::Unproven,
            FileClass::New | FileClass::CopiedUp => Strength::Written,
            _ => Strength::Mounted,
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<(i64, Self, usize)>() + self.exec.memory_bytes()
    }
}

/// The unresolved execs of a container by offset, which is the order in which they were reported.
#[derive(Debug, Default)]
pub(crate) struct UnresolvedExecs {
    /// Each with the memory that it takes, estimated once.
    execs: BTreeMap<i64, (Unresolved, usize)>,
    /// Memory of all of them.
    bytes: usize,
}

impl UnresolvedExecs {
    /// Adds an exec, or replaces it by its newer form. Returns those that are forgotten to make room: of the weakest the
    /// largest, of these the oldest, so that an attacker's many or large execs push out one another.
    pub(crate) fn insert(&mut self, offset: i64, exec: Unresolved) -> Vec<(i64, Unresolved)> {
        self.remove(offset);
        let bytes = exec.memory_bytes();
        self.bytes += bytes;
        self.execs.insert(offset, (exec, bytes));
        let mut forgotten = Vec::new();
        while (self.execs.len() > UNRESOLVED_MAX || self.bytes > UNRESOLVED_BYTES_MAX)
            && let Some(weakest) = self.weakest()
            && let Some(exec) = self.remove(weakest)
        {
            forgotten.push((weakest, exec));
        }
        forgotten
    }

    fn weakest(&self) -> Option<i64> {
        let rank = |(offset, (exec, bytes)): &(&i64, &(Unresolved, usize))| {
            (exec.strength(), std::cmp::Reverse(*bytes), **offset)
        };
        self.execs.iter().min_by_key(rank).map(|(offset, _)| *offset)
    }

    pub(crate) fn remove(&mut self, offset: i64) -> Option<Unresolved> {
        let (exec, bytes) = self.execs.remove(&offset)?;
        self.bytes -= bytes;
        Some(exec)
    }

    pub(crate) fn pop_first(&mut self) -> Option<(i64, Unresolved)> {
        let offset = *self.execs.first_key_value()?.0;
        self.remove(offset).map(|exec| (offset, exec))
    }

    /// Takes out the oldest exec if its time for an amendment is over; returns its offset.
    pub(crate) fn pop_expired(&mut self, now_ns: i64) -> Option<i64> {
        self.due_ns().filter(|due_ns| *due_ns <= now_ns)?;
        self.pop_first().map(|(offset, _)| offset)
    }

    pub(crate) fn get(&self, offset: i64) -> Option<&Unresolved> {
        self.execs.get(&offset).map(|(exec, _)| exec)
    }

    pub(crate) fn offsets(&self) -> impl Iterator<Item = i64> + '_ {
        self.execs.keys().copied()
    }

    /// When the oldest exec is no longer amended.
    pub(crate) fn due_ns(&self) -> Option<i64> {
        self.execs.first_key_value().map(|(_, (oldest, _))| oldest.amend_until_ns)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.execs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::exec;

    fn unresolved(number: i64, class: FileClass, arg_bytes: usize, revision: i32) -> Unresolved {
        let args = ["a".repeat(arg_bytes).as_str()].into_iter().collect();
        // Each event id has the same length.
        let exec = Box::new(Exec { args, ..exec(1_000 + number, class, "/tmp/x", "foreign") });
        Unresolved { exec, revision, amend_until_ns: number }
    }

    fn forgotten(execs: &mut UnresolvedExecs, offset: i64, exec: Unresolved) -> Vec<i64> {
        execs.insert(offset, exec).into_iter().map(|(offset, _)| offset).collect()
    }

    #[test]
    fn as_many_as_the_limit_stay_and_the_weakest_give_way() {
        let mut execs = UnresolvedExecs::default();
        let mut first = vec![forgotten(&mut execs, 0, unresolved(0, FileClass::New, 1, 1))];
        first.push(forgotten(&mut execs, 1, unresolved(1, FileClass::Volume, 1, 1)));
        first.push(forgotten(&mut execs, 2, unresolved(2, FileClass::RootfsPlain, 1, 0)));
        let count = i64::try_from(UNRESOLVED_MAX).unwrap();
        first.extend((3..count).map(|n| forgotten(&mut execs, n, unresolved(n, FileClass::New, 1, 1))));
        assert!(first.iter().all(Vec::is_empty));
        let more: Vec<_> =
            (count..count + 4).flat_map(|n| forgotten(&mut execs, n, unresolved(n, FileClass::New, 1, 1))).collect();
        assert_eq!(more, [2, 1, 0, 3]);
    }

    #[test]
    fn large_execs_push_out_one_another_and_none_that_is_small() {
        let mut execs = UnresolvedExecs::default();
        forgotten(&mut execs, 0, unresolved(0, FileClass::New, 1, 1));
        let gone: Vec<_> =
            (1..200).flat_map(|n| forgotten(&mut execs, n, unresolved(n, FileClass::New, 30_000, 1))).collect();
        assert!(gone.len() > 150 && !gone.contains(&0), "{gone:?}");
        assert!(execs.bytes <= UNRESOLVED_BYTES_MAX);
    }

    #[test]
    fn the_bytes_are_those_of_the_execs_that_are_left() {
        let mut execs = UnresolvedExecs::default();
        (0..9).for_each(|n| drop(execs.insert(n, unresolved(n, FileClass::New, 100, 1))));
        execs.insert(3, unresolved(3, FileClass::New, 1, 2));
        assert_eq!((execs.pop_expired(0), execs.pop_expired(0)), (Some(0), None));
        while execs.pop_first().is_some() {}
        assert_eq!(execs.bytes, 0);
    }
}
