//! The program that each process of the node runs, where its exec was seen. The ancestors of a process get their paths from
//! it, because the kernel's record has no room for them. Owned by [`crate::ExecPipeline`].

use std::collections::{BTreeMap, VecDeque};

use crate::limits::PROGRAMS;
use crate::raw::{Dev, RawAncestor, RawExec};

/// See the module.
#[derive(Debug, Default)]
pub struct Programs {
    /// By process id and start.
    of_process: Bounded<(u32, u64)>,
    /// By executable: a process that was forked runs its parent's program and was never seen executing it.
    of_file: Bounded<(Dev, u64)>,
}

impl Programs {
    /// Remembers what a process runs from now on.
    pub fn learn(&mut self, exec: &RawExec) {
        self.of_process.put((exec.pid, exec.start_ns), &exec.path);
        self.of_file.put((exec.file.dev, exec.file.ino), &exec.path);
    }

    /// Whether this very process was seen executing something.
    #[must_use]
    pub fn knows(&self, exec: &RawExec) -> bool {
        self.of_process.get(&(exec.pid, exec.start_ns)).is_some()
    }

    /// Path of what an ancestor runs, in its own container.
    #[must_use]
    pub fn path_of(&self, ancestor: &RawAncestor) -> Option<&[u8]> {
        let by_process = self.of_process.get(&(ancestor.pid, ancestor.start_ns));
        by_process.or_else(|| self.of_file.get(&(ancestor.dev, ancestor.ino)))
    }
}

/// The newest [`PROGRAMS`] paths.
#[derive(Debug)]
struct Bounded<K> {
    known: BTreeMap<K, Vec<u8>>,
    order: VecDeque<K>,
}

impl<K> Default for Bounded<K> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<K: Ord + Copy> Bounded<K> {
    fn get(&self, key: &K) -> Option<&[u8]> {
        self.known.get(key).map(Vec::as_slice)
    }

    fn put(&mut self, key: K, path: &[u8]) {
        if let Some(known) = self.known.get_mut(&key) {
            if known != path {
                path.clone_into(known);
            }
            return;
        }
        self.known.insert(key, path.to_vec());
        self.order.push_back(key);
        if self.order.len() > PROGRAMS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Comm;
    use crate::raw::tests::exec;

    fn ancestor(pid: u32, ino: u64) -> RawAncestor {
        RawAncestor { pid, start_ns: 5, comm: Comm::default(), dev: exec().file.dev, ino }
    }

    fn running(pid: u32, ino: u64, path: &[u8]) -> RawExec {
        let mut raw = RawExec { pid, start_ns: 5, path: path.to_vec(), ..exec() };
        raw.file.ino = ino;
        raw
    }

    #[test]
    fn the_newest_program_of_a_process_counts_and_a_forked_one_runs_its_parents() {
        let mut programs = Programs::default();
        programs.learn(&running(1, 10, b"/entry.sh"));
        programs.learn(&running(1, 11, b"/bin/server"));
        assert_eq!(programs.path_of(&ancestor(1, 11)), Some(b"/bin/server".as_slice()));
        assert_eq!(programs.path_of(&ancestor(2, 11)), Some(b"/bin/server".as_slice()));
        assert_eq!(programs.path_of(&ancestor(2, 12)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut programs = Programs::default();
        for pid in 0..=u32::try_from(PROGRAMS).unwrap() {
            programs.learn(&running(pid, u64::from(pid), b"/x"));
        }
        assert_eq!(programs.path_of(&ancestor(0, 0)), None);
        assert_eq!(programs.path_of(&ancestor(1, 1)), Some(b"/x".as_slice()));
        assert_eq!((programs.of_process.known.len(), programs.of_file.known.len()), (PROGRAMS, PROGRAMS));
    }
}
