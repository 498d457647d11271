//! Which of the files that were opened to be executed an exec's record speaks of. Strict mode hashes files as they are
//! opened; the record comes later, and knows the file by what the kernel read of it, or a script by its name only.

use std::collections::BTreeMap;

use crate::class::NamedFacts;
use crate::limits;
use crate::raw::{Moment, RawFile};

/// Whether a process waits until its opening was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It does, so every opening of an exec is noted before the exec happens.
    Kept,
    /// It does not: an opening may be noted after its exec, and after the next one of the same process.
    Loose,
}

/// A file that was opened to be executed.
#[derive(Debug)]
pub struct Opening<T> {
    /// The thread that opened it, on the node.
    pub thread: u32,
    /// When it was noted, boot clock.
    pub noted_ns: u64,
    /// The path by which it was asked for, where that differs from its own in `facts`.
    pub asked: Option<Vec<u8>>,
    /// The file when it was noted.
    pub facts: NamedFacts,
    /// What is known of its content.
    pub content: T,
}

/// Openings in their order; the oldest go first.
#[derive(Debug)]
pub struct Openings<T> {
    order: Order,
    all: BTreeMap<u64, Opening<T>>,
    next: u64,
}

impl<T> Openings<T> {
    /// None yet.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self { order, all: BTreeMap::new(), next: 0 }
    }

    /// Notes one; returns its number.
    pub fn note(&mut self, opening: Opening<T>) -> u64 {
        let oldest_ns = opening.noted_ns.saturating_sub(limits::OPENING_KEPT.unsigned_abs());
        let is_over = |oldest: &Opening<T>, count| oldest.noted_ns < oldest_ns || count >= limits::OPENINGS;
        while self.all.first_key_value().is_some_and(|(_, oldest)| is_over(oldest, self.all.len())) {
            self.all.pop_first();
        }
        self.next += 1;
        self.all.insert(self.next, opening);
        self.next
    }

    /// The one of this number, if it is still known.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Opening<T>> {
        self.all.get_mut(&number)
    }

    /// All that are known.
    pub fn iter(&self) -> impl Iterator<Item = &Opening<T>> {
        self.all.values()
    }

    /// Whether anything is known of a thread.
    #[must_use]
    pub fn knows(&self, thread: u32) -> bool {
        self.all.values().any(|opening| opening.thread == thread)
    }

    /// The last opening of the file that the kernel executed, unchanged.
    #[must_use]
    pub fn of_file(&self, seen: &RawFile) -> Option<u64> {
        self.all.iter().rfind(|(_, opening)| is_same(&opening.facts, seen)).map(|(number, _)| *number)
    }

    /// The opening of a script, or of what a loader was told to run: what the thread opened right before it opened `by`, the
    /// interpreter or loader that the kernel executed, and by this path. A path with symbolic links or `..` in it is not
    /// found, nor is a script that is its script's interpreter; they are looked up by name as without strict mode.
    #[must_use]
    pub fn of_named(&self, thread: u32, at: Moment, by: &RawFile, path: &[u8]) -> Option<u64> {
        let is_before = |opening: &Opening<T>| self.order == Order::Loose || opening.noted_ns <= at.time_ns;
        let mut own = self.all.iter().filter(|(_, opening)| opening.thread == thread && is_before(opening)).rev();
        own.find(|(_, opening)| is_same(&opening.facts, by))?;
        let (number, opening) = own.next()?;
        // Which of two execs of one process this was cannot be said.
        let is_unsure = self.order == Order::Loose && own.any(|(_, opening)| is_same(&opening.facts, by));
        let is_asked = opening.asked.as_ref().unwrap_or(&opening.facts.path) == path;
        (is_asked && !is_unsure).then_some(*number)
    }
}

/// As for any digest: inode, change time and size are what the kernel read at the exec, on the same superblock or mount.
fn is_same(facts: &NamedFacts, seen: &RawFile) -> bool {
    (facts.dev == seen.dev || facts.mnt_id == Some(seen.mnt_id))
        && (facts.ino == seen.ino || facts.ino == seen.real_ino)
        && facts.size_bytes == seen.size_bytes
        && facts.ctime_ns == seen.ctime_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Dev;

    fn file(ino: u64) -> RawFile {
        let dev = Dev { major: 0, minor: 41 };
        RawFile { dev, ino, real_ino: ino, size_bytes: 10, ctime_ns: 5, mnt_id: 644, ..RawFile::default() }
    }

    fn opening(thread: u32, noted_ns: u64, file: &RawFile, path: &str) -> Opening<u64> {
        let RawFile { dev, ino, size_bytes, ctime_ns, mnt_id, .. } = *file;
        let path = path.into();
        let facts = NamedFacts { path, dev, ino, size_bytes, ctime_ns, mnt_id: Some(mnt_id), ..NamedFacts::default() };
        Opening { thread, noted_ns, asked: None, facts, content: noted_ns }
    }

    const SH: u64 = 1;

    /// Notes openings of one thread, one a nanosecond, each an inode and a path; which one a script of that path is, whose
    /// exec was at that time.
    fn named(order: Order, opened: &[(u64, &str)], at_ns: u64, path: &str) -> Option<u64> {
        let mut openings = Openings::new(order);
        for (noted_ns, (ino, path)) in (1..).zip(opened) {
            openings.note(opening(7, noted_ns, &file(*ino), path));
            openings.note(opening(8, noted_ns, &file(99), "/other/thread"));
        }
        let at = Moment { time_ns: at_ns, cpu: 0, seq: 0 };
        let number = openings.of_named(7, at, &file(SH), path.as_bytes())?;
        openings.get_mut(number).map(|opening| opening.content)
    }

    #[test]
    fn a_file_is_the_one_that_the_kernel_executed_only_if_unchanged() {
        let mut openings = Openings::new(Order::Kept);
        openings.note(opening(7, 1, &file(30), "/x"));
        let last = openings.note(opening(8, 2, &file(30), "/x"));
        let check = |seen: RawFile, expect: Option<u64>| assert_eq!(openings.of_file(&seen), expect, "{seen:?}");
        check(file(30), Some(last));
        check(RawFile { ctime_ns: 6, ..file(30) }, None);
        check(RawFile { size_bytes: 11, ..file(30) }, None);
        check(RawFile { ino: 31, ..file(30) }, Some(last));
        check(RawFile { ino: 31, real_ino: 31, ..file(30) }, None);
        check(RawFile { dev: Dev::default(), ..file(30) }, Some(last));
        check(RawFile { dev: Dev::default(), mnt_id: 1, ..file(30) }, None);
    }

    #[test]
    fn a_script_is_what_was_opened_right_before_its_interpreter() {
        use Order::{Kept, Loose};
        let script = [(30, "/s"), (SH, "/bin/sh"), (2, "/lib/ld.so")];
        for order in [Kept, Loose] {
            assert_eq!(named(order, &script, 9, "/s"), Some(1));
            assert_eq!(named(order, &script, 9, "/t"), None, "asked by another path");
            assert_eq!(named(order, &script[1..], 9, "/s"), None, "nothing before");
            // The first is no program, so the second is tried, by the same name.
            let refused = [(30, "/s"), (31, "/s"), (SH, "/bin/sh")];
            assert_eq!(named(order, &refused, 9, "/s"), Some(2));
            // A script that is the interpreter of the one asked for.
            assert_eq!(named(order, &[(30, "/s"), (31, "/t"), (SH, "/bin/sh")], 9, "/s"), None);
        }
    }

    #[test]
    fn of_two_scripts_of_one_process_the_time_tells_which() {
        let two = [(30, "/s"), (SH, "/bin/sh"), (31, "/s"), (SH, "/bin/sh")];
        assert_eq!(named(Order::Kept, &two, 2, "/s"), Some(1));
        assert_eq!(named(Order::Kept, &two, 4, "/s"), Some(3));
        assert_eq!(named(Order::Kept, &two, 3, "/s"), Some(1));
        assert_eq!(named(Order::Loose, &two, 2, "/s"), None, "openings may be noted late");
    }

    #[test]
    fn what_a_loader_was_told_to_run_is_found_by_the_path_it_was_told() {
        let mut openings = Openings::new(Order::Kept);
        let loaded = Opening { asked: Some(b"/l/x".to_vec()), ..opening(7, 1, &file(30), "/real/x") };
        let number = openings.note(loaded);
        openings.note(opening(7, 1, &file(SH), ""));
        let at = Moment { time_ns: 5, cpu: 0, seq: 0 };
        assert_eq!(openings.of_named(7, at, &file(SH), b"/l/x"), Some(number));
        assert_eq!(openings.of_named(7, at, &file(SH), b"/real/x"), None);
    }

    #[test]
    fn openings_are_few_and_forgotten_in_time() {
        let mut openings = Openings::new(Order::Kept);
        for number in 0..=limits::OPENINGS as u64 {
            openings.note(opening(7, 1, &file(number), ""));
        }
        assert_eq!((openings.iter().count(), openings.of_file(&file(0))), (limits::OPENINGS, None));
        assert!(openings.knows(7) && !openings.knows(8));
        openings.note(opening(8, 2 + limits::OPENING_KEPT.unsigned_abs(), &file(1), ""));
        assert_eq!((openings.iter().count(), openings.knows(7)), (1, false));
    }
}
