//! Strict mode: what is removed or overwritten at once has its digest all the same.

use driftline_collector::strict::{StrictMode, StrictSettings};
use driftline_schemas::{Exec, HashState, Sha256};
use std::time::Duration;

use super::container::Container;
use super::harness::Harness;

const WAIT: Duration = Duration::from_secs(5);

/// How often a program is copied, run and removed.
const ROUNDS: usize = 50;

struct Strict {
    container: Container,
    harness: Harness,
}

impl Strict {
    /// A container that is being watched.
    fn start(mode: StrictMode, wait: Duration) -> Self {
        let container = Container::start();
        let running = [(container.id().clone(), container.init_pid())];
        let harness = Harness::start_strict(StrictSettings { mode, wait }, &running);
        let is_watched = || {
            container.sh("/bin/true");
            harness.strict_count("opened") > 0
        };
        assert!((0..20).any(|_| is_watched()), "no execution is told");
        Self { container, harness }
    }

    /// The execs of these files, as soon as there are so many.
    fn execs(&self, prefix: &str, count: usize) -> Vec<Exec> {
        let is_it = |exec: &Exec| exec.subject_path().starts_with(prefix.as_bytes());
        let of = |execs: Vec<Exec>| execs.into_iter().filter(is_it).collect::<Vec<_>>();
        let _ = self.harness.find_where(self.container.id(), |exec| {
            is_it(exec) && of(self.harness.execs(self.container.id())).len() >= count
        });
        of(self.harness.execs(self.container.id()))
    }
}

/// Copies, runs and removes a program in a row; the execs of it.
fn copy_run_remove(strict: &Strict) -> Vec<Exec> {
    let before = strict.harness.execs(strict.container.id()).len();
    strict.container.sh(&format!(
        "i=0; while [ $i -lt {ROUNDS} ]; do cp /data/busybox-added /tmp/busybox-$i; /tmp/busybox-$i true; rm /tmp/busybox-$i; i=$((i+1)); done"
    ));
    // Each round is three execs, and the shell is one.
    let all = strict.harness.wait_for(strict.container.id(), before + 3 * ROUNDS + 1);
    all.into_iter().filter(|exec| exec.path.starts_with(b"/tmp/busybox-")).collect()
}

#[test]
fn a_removed_program_has_its_digest() {
    super::live("a_removed_program_has_its_digest", || {
        for mode in [StrictMode::Notify, StrictMode::Permit] {
            let strict = Strict::start(mode, WAIT);
            let execs = copy_run_remove(&strict);
            let added = Sha256::of(strict.container.added());
            let hashed = execs.iter().filter(|exec| exec.sha256 == Some(added)).count();
            eprintln!("{mode:?} {hashed} of {}", execs.len());
            for what in [
                "opened",
                "image",
                "remembered",
                "hashed",
                "not_hashed",
                "busy",
                "over_budget",
                "timed_out",
                "overflow",
                "failed",
            ] {
                eprintln!("{what} {}", strict.harness.strict_count(what));
            }
            strict.harness.finish();
        }
    });
}
