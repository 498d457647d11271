//! How many execs of a container are reported before some are left out, and the account of those that were.
//!
//! A container has two shares, so that a flood of the one kind takes nothing from the other: execs of untouched image files
//! beyond their share are left out; suspicious ones beyond theirs are folded by file. Of each file the first exec of an
//! interval is always reported, and then one of every [`limits::FOLD_ONE_OF`]: nothing new hides behind what is known.

use driftline_schemas::limits::{FOLDED_EXAMPLES_MAX, PATH_BYTES_MAX};
use driftline_schemas::{FileClass, FoldedFile};
use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::limits;
use crate::raw::{Dev, RawExec, RawFile};
use crate::subject::{Subject, absolute};

/// A token bucket: so many at once, and so many more per second.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bucket {
    tokens: u64,
    burst: u64,
    per_second: u64,
    at_ns: i64,
}

impl Bucket {
    fn new(now_ns: i64, burst: u64, per_second: u64) -> Self {
        Self { tokens: burst, burst, per_second, at_ns: now_ns }
    }

    fn take(&mut self, now_ns: i64) -> bool {
        // In whole tokens, so that no fraction is lost.
        let step_ns = 1_000_000_000 / self.per_second;
        let steps = u64::try_from(now_ns.saturating_sub(self.at_ns)).unwrap_or(0) / step_ns;
        self.at_ns = self.at_ns.saturating_add(i64::try_from(steps.saturating_mul(step_ns)).unwrap_or(i64::MAX));
        self.tokens = self.tokens.saturating_add(steps).min(self.burst);
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// What execs are folded by: the file, by the kernel's identity with its change time, and its absolute path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fold {
    File {
        dev: Dev,
        ino: u64,
        ctime_ns: i64,
        mnt_ns: u32,
        path: Vec<u8>,
    },
    /// All files beyond [`limits::FOLDED_FILES`] and [`limits::FOLDED_PATH_BYTES`].
    Others,
}

impl Fold {
    /// The executable of a script, and of what a loader or an interpreter runs, is only the interpreter; the typed path names the
    /// program, in the working directory and mount namespace of the process.
    fn of(exec: &RawExec) -> Self {
        let typed = Subject::of(exec, FileClass::Image).typed();
        let path = typed.map_or_else(|| exec.path.clone(), |typed| absolute(exec, typed));
        let RawFile { dev, ino, ctime_ns, .. } = exec.file;
        Self::File { dev, ino, ctime_ns, mnt_ns: exec.mnt_ns, path }
    }

    fn path_bytes(&self) -> usize {
        match self {
            Self::File { path, .. } => path.len(),
            Self::Others => 0,
        }
    }
}

/// To the kernel an interpreter of the image is as ordinary as any other program of it.
fn is_given_a_file(exec: &RawExec) -> bool {
    matches!(Subject::of(exec, FileClass::Image), Subject::Interpreted(_))
}

/// Whether an exec is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    /// An ordinary exec beyond the share.
    Limited,
    /// A suspicious exec beyond the share, of a file that was reported in this interval.
    Folded,
}

/// What was left out in an interval.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) from_ns: i64,
    pub(super) ordinary: u64,
    pub(super) folded: u64,
    pub(super) files: u64,
    pub(super) examples: Vec<FoldedFile>,
}

/// The shares of one container.
#[derive(Debug)]
pub(super) struct Throttle {
    ordinary: Bucket,
    suspicious: Bucket,
    /// When the first exec of this interval was left out or might have been.
    since_ns: Option<i64>,
    limited: u64,
    /// How many execs of each came in this interval beyond the share.
    files: BTreeMap<Fold, Tally>,
    /// Length of their paths together.
    path_bytes: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    admitted: u64,
    folded: u64,
}

impl Throttle {
    pub(super) fn new(now_ns: i64) -> Self {
        Self {
            ordinary: Bucket::new(now_ns, limits::ORDINARY_BURST, limits::ORDINARY_PER_SECOND),
            suspicious: Bucket::new(now_ns, limits::SUSPICIOUS_BURST, limits::SUSPICIOUS_PER_SECOND),
            since_ns: None,
            limited: 0,
            files: BTreeMap::new(),
            path_bytes: 0,
        }
    }

    pub(super) fn admit(&mut self, now_ns: i64, exec: &RawExec) -> Admission {
        let is_suspicious = exec.is_suspicious() || is_given_a_file(exec);
        let share = if is_suspicious { &mut self.suspicious } else { &mut self.ordinary };
        if share.take(now_ns) {
            return Admission::Admitted;
        }
        self.since_ns.get_or_insert(now_ns);
        if !is_suspicious {
            self.limited += 1;
            return Admission::Limited;
        }
        let tally = self.tally(Fold::of(exec));
        if (tally.admitted + tally.folded).is_multiple_of(limits::FOLD_ONE_OF) {
            tally.admitted += 1;
            return Admission::Admitted;
        }
        tally.folded += 1;
        Admission::Folded
    }

    fn tally(&mut self, fold: Fold) -> &mut Tally {
        let is_new = !self.files.contains_key(&fold);
        let path_bytes = self.path_bytes + if is_new { fold.path_bytes() } else { 0 };
        let has_room = self.files.len() < limits::FOLDED_FILES && path_bytes <= limits::FOLDED_PATH_BYTES;
        let fold = if is_new && !has_room { Fold::Others } else { fold };
        if fold != Fold::Others {
            self.path_bytes = path_bytes;
        }
        self.files.entry(fold).or_default()
    }

    /// Whether an interval is over.
    pub(super) fn is_due(&self, now_ns: i64) -> bool {
        self.since_ns.is_some_and(|since_ns| now_ns.saturating_sub(since_ns) >= limits::THROTTLE_INTERVAL)
    }

    /// The account of the interval, when anything was left out; another begins with the next exec beyond a share.
    pub(super) fn take(&mut self) -> Option<LeftOut> {
        let from_ns = self.since_ns.take()?;
        let ordinary = std::mem::take(&mut self.limited);
        self.path_bytes = 0;
        let mut files: Vec<_> = std::mem::take(&mut self.files).into_iter().filter(|(_, it)| it.folded > 0).collect();
        let folded = files.iter().map(|(_, tally)| tally.folded).sum();
        files.sort_by_key(|(_, tally)| Reverse(tally.folded));
        let left_out = LeftOut {
            from_ns,
            ordinary,
            folded,
            files: files.len() as u64,
            examples: files.into_iter().take(FOLDED_EXAMPLES_MAX).map(example).collect(),
        };
        (ordinary + folded > 0).then_some(left_out)
    }
}

fn example((fold, tally): (Fold, Tally)) -> FoldedFile {
    let path = match fold {
        Fold::File { mut path, .. } => {
            path.truncate(PATH_BYTES_MAX);
            path
        }
        Fold::Others => Vec::new(),
    };
    FoldedFile { path, execs: i64::try_from(tally.folded).unwrap_or(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::raw::tests::exec;

    const SECOND: i64 = 1_000_000_000;

    fn suspicious(ino: u64) -> RawExec {
        let mut raw = exec();
        raw.flags |= layout::FLAG_SUSPICIOUS;
        raw.file.ino = ino;
        raw
    }

    fn admitted(throttle: &mut Throttle, now_ns: i64, raw: &RawExec, count: u64) -> u64 {
        (0..count).map(|_| u64::from(throttle.admit(now_ns, raw) == Admission::Admitted)).sum()
    }

    #[test]
    fn ordinary_execs_end_at_their_share_and_come_back_with_time() {
        let mut throttle = Throttle::new(0);
        assert_eq!(admitted(&mut throttle, 0, &exec(), limits::ORDINARY_BURST), limits::ORDINARY_BURST);
        assert_eq!(throttle.take(), None);
        assert_eq!(throttle.admit(0, &exec()), Admission::Limited);
        assert_eq!(admitted(&mut throttle, 0, &suspicious(1), 1), 1, "the other share is untouched");
        assert_eq!(
            admitted(&mut throttle, SECOND, &exec(), 2 * limits::ORDINARY_PER_SECOND),
            limits::ORDINARY_PER_SECOND
        );
        let left_out = throttle.take().unwrap();
        assert_eq!((left_out.from_ns, left_out.ordinary), (0, 1 + limits::ORDINARY_PER_SECOND));
        assert_eq!(throttle.take(), None, "reported once");
    }

    #[test]
    fn suspicious_ones_fold_by_file_and_each_file_is_reported() {
        let mut throttle = Throttle::new(0);
        assert_eq!(admitted(&mut throttle, 0, &suspicious(1), limits::SUSPICIOUS_BURST), limits::SUSPICIOUS_BURST);
        let n = limits::FOLD_ONE_OF;
        assert_eq!(admitted(&mut throttle, 0, &suspicious(1), 3 * n), 3);
        assert_eq!(admitted(&mut throttle, 0, &suspicious(2), 2), 1, "another file is news");
        assert_eq!(admitted(&mut throttle, 0, &RawExec { path: b"/other".to_vec(), ..suspicious(1) }, 1), 1);
        let left_out = throttle.take().unwrap();
        assert_eq!((left_out.ordinary, left_out.folded, left_out.files), (0, 3 * n - 3 + 1, 2));
        let counts: Vec<i64> = left_out.examples.iter().map(|file| file.execs).collect();
        assert_eq!(counts, [i64::try_from(3 * n - 3).unwrap(), 1]);
        assert_eq!(admitted(&mut throttle, 0, &suspicious(1), 1), 1, "each interval reports each file anew");
    }

    #[test]
    fn a_file_that_was_written_and_another_directory_s_are_news() {
        let mut throttle = Throttle::new(0);
        let mut check = |raw: &RawExec, expect: Admission| assert_eq!(throttle.admit(0, raw), expect, "{raw:?}");
        for _ in 0..limits::SUSPICIOUS_BURST {
            check(&suspicious(1), Admission::Admitted);
        }
        let mut overwritten = suspicious(1);
        overwritten.file.ctime_ns += 1;
        for raw in [suspicious(1), overwritten] {
            check(&raw, Admission::Admitted);
            check(&raw, Admission::Folded);
        }
        let script = |cwd: &str, typed: &str, mnt_ns: u32| {
            let flags = suspicious(1).flags | layout::FLAG_SCRIPT;
            RawExec { flags, cwd: cwd.into(), typed_path: typed.into(), mnt_ns, ..suspicious(1) }
        };
        check(&script("/a", "./x", 7), Admission::Admitted);
        check(&script("/b", "./x", 7), Admission::Admitted);
        check(&script("/b", "./x", 8), Admission::Admitted);
        check(&script("/a", "x", 7), Admission::Folded);
        check(&script("/", "/a/x", 7), Admission::Folded);
    }

    #[test]
    fn the_paths_of_folded_files_are_bounded() {
        let mut throttle = Throttle::new(0);
        admitted(&mut throttle, 0, &suspicious(1), limits::SUSPICIOUS_BURST);
        let long = |ino| RawExec { path: vec![b'x'; PATH_BYTES_MAX], ..suspicious(ino) };
        for ino in 0..limits::FOLDED_FILES as u64 {
            throttle.admit(0, &long(ino));
        }
        let of = |fold: &Fold| fold.path_bytes();
        let bytes: usize = throttle.files.keys().map(of).sum();
        assert!((1..=limits::FOLDED_PATH_BYTES).contains(&bytes));
        assert_eq!(throttle.path_bytes, bytes);
        throttle.take();
        assert_eq!(throttle.path_bytes, 0);
    }

    #[test]
    fn files_beyond_the_limit_fold_together() {
        let mut throttle = Throttle::new(0);
        admitted(&mut throttle, 0, &suspicious(1), limits::SUSPICIOUS_BURST);
        for ino in 0..limits::FOLDED_FILES as u64 {
            assert_eq!(throttle.admit(0, &suspicious(ino)), Admission::Admitted);
        }
        assert_eq!(throttle.admit(0, &suspicious(1 << 40)), Admission::Admitted, "the first of the others");
        assert_eq!(throttle.admit(0, &suspicious(2 << 40)), Admission::Folded);
        assert_eq!(throttle.files.len(), limits::FOLDED_FILES + 1);
        let left_out = throttle.take().unwrap();
        assert_eq!((left_out.folded, left_out.files, left_out.examples[0].path.len()), (1, 1, 0));
    }
}
