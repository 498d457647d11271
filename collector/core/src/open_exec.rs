//! Files that were opened to be executed, and which of them belongs to the record of an exec. Strict mode hashes files as they
//! are opened (fanotify's `FAN_OPEN_EXEC`). The record comes later; it identifies the file by what the kernel read of it, and a
//! script by its name only.

use std::collections::BTreeMap;

use crate::class::NamedFacts;
use crate::limits;
use crate::raw::{Moment, RawFile};

/// Whether a process waits until its event was added to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenExecOrder {
    /// It does, so every event of an exec is in the log before the exec happens.
    Strict,
    /// It does not: an event may come after its exec, and after the next exec of the same process.
    Loose,
}

/// One event: a file was opened to be executed.
#[derive(Debug)]
pub struct OpenExec<T> {
    /// The thread that opened it, on the node.
    pub thread: u32,
    /// When the event was read, boot clock.
    pub noted_ns: u64,
    /// The path by which it was requested, where that differs from its own in `facts`.
    pub requested_path: Option<Vec<u8>>,
    /// The file when the event was read.
    pub facts: NamedFacts,
    /// What is known of its content.
    pub content: T,
}

/// The newest events in their order.
#[derive(Debug)]
pub struct OpenExecLog<T> {
    order: OpenExecOrder,
    all: BTreeMap<u64, OpenExec<T>>,
    next: u64,
}

impl<T> OpenExecLog<T> {
    /// An empty log.
    #[must_use]
    pub fn new(order: OpenExecOrder) -> Self {
        Self { order, all: BTreeMap::new(), next: 0 }
    }

    /// Adds an event and drops those that are too old or too many; returns its number.
    pub fn add(&mut self, event: OpenExec<T>) -> u64 {
        let oldest_ns = event.noted_ns.saturating_sub(limits::OPEN_EXEC_RETENTION.unsigned_abs());
        let is_over = |oldest: &OpenExec<T>, count| oldest.noted_ns < oldest_ns || count >= limits::OPEN_EXECS;
        while self.all.first_key_value().is_some_and(|(_, oldest)| is_over(oldest, self.all.len())) {
            self.all.pop_first();
        }
        self.next += 1;
        self.all.insert(self.next, event);
        self.next
    }

    /// The event of this number, if it is still in the log.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut OpenExec<T>> {
        self.all.get_mut(&number)
    }

    /// All events.
    pub fn iter(&self) -> impl Iterator<Item = &OpenExec<T>> {
        self.all.values()
    }

    /// Whether the log has an event of a thread.
    #[must_use]
    pub fn knows(&self, thread: u32) -> bool {
        self.all.values().any(|event| event.thread == thread)
    }

    /// The last event of the file that the kernel executed, unchanged.
    #[must_use]
    pub fn of_file(&self, seen: &RawFile) -> Option<u64> {
        self.all.iter().rfind(|(_, event)| is_same(&event.facts, seen)).map(|(number, _)| *number)
    }

    /// The event of a script, or of the program that a loader runs: what the thread opened right before it opened `by`, the
    /// interpreter or loader that the kernel executed, and by this path. A path with symbolic links or `..` in it is not
    /// found, nor is a script that is its script's interpreter; they are looked up by name as without strict mode.
    #[must_use]
    pub fn of_named(&self, thread: u32, at: Moment, by: &RawFile, path: &[u8]) -> Option<u64> {
        let is_before = |event: &OpenExec<T>| self.order == OpenExecOrder::Loose || event.noted_ns <= at.time_ns;
        let mut own = self.all.iter().filter(|(_, event)| event.thread == thread && is_before(event)).rev();
        own.find(|(_, event)| is_same(&event.facts, by))?;
        let (number, event) = own.next()?;
        // Which of two execs of one process this was is unknown.
        let is_unsure = self.order == OpenExecOrder::Loose && own.any(|(_, event)| is_same(&event.facts, by));
        let is_requested = event.requested_path.as_ref().unwrap_or(&event.facts.path) == path;
        (is_requested && !is_unsure).then_some(*number)
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

    fn event(thread: u32, noted_ns: u64, file: &RawFile, path: &str) -> OpenExec<u64> {
        let RawFile { dev, ino, size_bytes, ctime_ns, mnt_id, .. } = *file;
        let path = path.into();
        let facts = NamedFacts { path, dev, ino, size_bytes, ctime_ns, mnt_id: Some(mnt_id), ..NamedFacts::default() };
        OpenExec { thread, noted_ns, requested_path: None, facts, content: noted_ns }
    }

    const SH: u64 = 1;

    /// Adds events of one thread, one a nanosecond, each an inode and a path; which one a script of that path is, whose
    /// exec was at that time.
    fn named(order: OpenExecOrder, opened: &[(u64, &str)], at_ns: u64, path: &str) -> Option<u64> {
        let mut log = OpenExecLog::new(order);
        for (noted_ns, (ino, path)) in (1..).zip(opened) {
            log.add(event(7, noted_ns, &file(*ino), path));
            log.add(event(8, noted_ns, &file(99), "/other/thread"));
        }
        let at = Moment { time_ns: at_ns, cpu: 0, seq: 0 };
        let number = log.of_named(7, at, &file(SH), path.as_bytes())?;
        log.get_mut(number).map(|event| event.content)
    }

    #[test]
    fn a_file_is_the_one_that_the_kernel_executed_only_if_unchanged() {
        let mut log = OpenExecLog::new(OpenExecOrder::Strict);
        log.add(event(7, 1, &file(30), "/x"));
        let last = log.add(event(8, 2, &file(30), "/x"));
        let check = |seen: RawFile, expect: Option<u64>| assert_eq!(log.of_file(&seen), expect, "{seen:?}");
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
        use OpenExecOrder::{Loose, Strict};
        let script = [(30, "/s"), (SH, "/bin/sh"), (2, "/lib/ld.so")];
        for order in [Strict, Loose] {
            assert_eq!(named(order, &script, 9, "/s"), Some(1));
            assert_eq!(named(order, &script, 9, "/t"), None, "requested by another path");
            assert_eq!(named(order, &script[1..], 9, "/s"), None, "nothing before");
            // The first is no program, so the second is tried, by the same name.
            let refused = [(30, "/s"), (31, "/s"), (SH, "/bin/sh")];
            assert_eq!(named(order, &refused, 9, "/s"), Some(2));
            // A script that is the interpreter of the requested one.
            assert_eq!(named(order, &[(30, "/s"), (31, "/t"), (SH, "/bin/sh")], 9, "/s"), None);
        }
    }

    #[test]
    fn of_two_scripts_of_one_process_the_time_decides() {
        let two = [(30, "/s"), (SH, "/bin/sh"), (31, "/s"), (SH, "/bin/sh")];
        assert_eq!(named(OpenExecOrder::Strict, &two, 2, "/s"), Some(1));
        assert_eq!(named(OpenExecOrder::Strict, &two, 4, "/s"), Some(3));
        assert_eq!(named(OpenExecOrder::Strict, &two, 3, "/s"), Some(1));
        assert_eq!(named(OpenExecOrder::Loose, &two, 2, "/s"), None, "events may come late");
    }

    #[test]
    fn the_program_that_a_loader_runs_is_found_by_the_path_in_its_arguments() {
        let mut log = OpenExecLog::new(OpenExecOrder::Strict);
        let loaded = OpenExec { requested_path: Some(b"/l/x".to_vec()), ..event(7, 1, &file(30), "/real/x") };
        let number = log.add(loaded);
        log.add(event(7, 1, &file(SH), ""));
        let at = Moment { time_ns: 5, cpu: 0, seq: 0 };
        assert_eq!(log.of_named(7, at, &file(SH), b"/l/x"), Some(number));
        assert_eq!(log.of_named(7, at, &file(SH), b"/real/x"), None);
    }

    #[test]
    fn events_are_few_and_forgotten_in_time() {
        let mut log = OpenExecLog::new(OpenExecOrder::Strict);
        for number in 0..=limits::OPEN_EXECS as u64 {
            log.add(event(7, 1, &file(number), ""));
        }
        assert_eq!((log.iter().count(), log.of_file(&file(0))), (limits::OPEN_EXECS, None));
        assert!(log.knows(7) && !log.knows(8));
        log.add(event(8, 2 + limits::OPEN_EXEC_RETENTION.unsigned_abs(), &file(1), ""));
        assert_eq!((log.iter().count(), log.knows(7)), (1, false));
    }
}
