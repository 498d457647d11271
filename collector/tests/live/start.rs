//! The first programs of a container: what is executed before anything else is known of it.

use driftline_schemas::{ContainerId, Exec, FileClass, HashState, Sha256};

use crate::container::Container;
use crate::harness::Harness;
use crate::live;

const STAYS: &[u8] = b"#!/bin/sh\nexec sleep 600\n";

/// The last record of a script, which is of a container that nobody has described.
fn script(harness: &Harness, id: &ContainerId, path: &str) -> Exec {
    let is_it = |exec: &Exec| exec.script.as_deref() == Some(path.as_bytes());
    harness.find_where(id, is_it).unwrap_or_else(|| panic!("no exec of {path} in {:#?}", harness.execs(id)))
}

#[test]
fn the_first_script_of_a_container_has_its_digest_on_whatever_mount_it_lies() {
    live("the_first_script_of_a_container_has_its_digest_on_whatever_mount_it_lies", || {
        let node = tempfile::tempdir().unwrap();
        crate::container::write(&node.path().join("run.sh"), STAYS);
        let directory = format!("{}:/scripts:ro", node.path().display());
        let file = format!("{}:/opt/run.sh:ro", node.path().join("run.sh").display());
        let harness = Harness::start(&[]);
        let check = |run_options: &[&str], command: &[&str], path: &str, point: Option<&str>| {
            let image_script = ("vol/entry.sh", STAYS.to_vec());
            let container = Container::start_running(&[], &[image_script], run_options, command);
            let exec = script(&harness, container.id(), path);
            assert_eq!(
                (exec.hash_state, exec.sha256),
                (HashState::Hashed, Some(Sha256::of(STAYS))),
                "{path}: {exec:#?}"
            );
            let class = if point.is_some() { FileClass::Volume } else { FileClass::RootfsPlain };
            assert_eq!((exec.class, exec.mount.as_ref().map(|it| it.point.as_str())), (class, point), "{path}");
        };
        check(&["-v", &directory, "--entrypoint=/scripts/run.sh"], &[], "/scripts/run.sh", Some("/scripts"));
        check(&["-v", &file], &["/bin/sh", "-c", "/opt/run.sh"], "/opt/run.sh", Some("/opt/run.sh"));
        // The engine fills a volume with the image's files.
        check(&["-v", "/vol", "--entrypoint=/vol/entry.sh"], &[], "/vol/entry.sh", Some("/vol"));
        check(&[], &["/vol/entry.sh"], "/vol/entry.sh", None);
        harness.finish();
    });
}
