//! Files whose digest is known: their execs wake nobody.

use driftline_schemas::{Exec, HashState, Sha256};

use super::Live;
use super::harness;

const EXECS: usize = 60;
const PATH: &str = "/tmp/busybox-known";

/// Two more than that are needed to know the file, and some happen before that has come to the kernel.
const KNOWN_MIN: u64 = 40;

#[test]
fn execs_of_a_known_file_wake_nobody_and_once_it_is_changed_they_do() {
    let name = "execs_of_a_known_file_wake_nobody_and_once_it_is_changed_they_do";
    if let Some(reason) = harness::missing() {
        return harness::skip(name, &reason);
    }
    // The counters are those of the whole node.
    let _alone = harness::NODE.blocking_write();
    let live = Live::start();
    // A digest is remembered of what has not been changed for a while.
    live.container.sh(&format!("cp /data/busybox-added {PATH}; sleep 3"));
    let before = live.harness.counters().known;
    live.container.sh(&format!("i=0; while [ $i -lt {EXECS} ]; do {PATH} sleep 0.01; i=$((i+1)); done; sleep 0.3"));
    let execs = live.harness.execs(live.container.id());
    let digests: Vec<_> = execs.iter().filter(|it| it.path == PATH.as_bytes()).map(|it| it.sha256).collect();
    assert_eq!(digests, [Some(Sha256::of(live.container.added())); EXECS]);
    let known = live.harness.counters().known;
    assert!(known - before >= KNOWN_MIN, "{known} after {before}");

    let content = [live.container.added(), b"x"].concat();
    live.container.sh(&format!("printf x >>{PATH}; {PATH} sleep 0.05; rm {PATH}; sleep 0.3"));
    let is_changed = |exec: &Exec| exec.file.size_bytes == i64::try_from(content.len()).unwrap();
    let exec = live.harness.find_where(live.container.id(), is_changed).unwrap();
    // It is executed right after it was written.
    assert_eq!((exec.hash_state, exec.sha256), (HashState::Changed, Some(Sha256::of(&content))));
    assert_eq!(live.harness.counters().known, known);
    live.harness.finish();
}
