//! The first programs of a container: what is executed before anything else is known of it.

use driftline_engines::RuntimeSettings;
use driftline_engines::kubernetes::KubernetesSettings;
use driftline_enricher_core::judge;
use driftline_schemas::{ContainerId, ENGINE_INIT, Exec, FileClass, HashState, Origin, Sha256};
use driftline_settings::Settings;
use std::fs;
use std::path::Path;

use crate::container::Container;
use crate::engine::{Engine, Spec, Storage};
use crate::harness::{self, Harness};
use crate::live;
use crate::table::files::{self, Files};

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

#[test]
fn the_init_program_of_an_engine_is_silent_and_another_one_in_its_place_is_not() {
    const TEST: &str = "the_init_program_of_an_engine_is_silent_and_another_one_in_its_place_is_not";
    live(TEST, || {
        for (engine, program, point) in [
            (Engine::Podman, "/usr/bin/catatonit", "/run/podman-init"),
            (Engine::Docker, "/usr/bin/docker-init", "/sbin/docker-init"),
        ] {
            match fs::canonicalize(program) {
                Ok(program) => check_init(TEST, engine, &program, point),
                Err(error) => harness::skip(&format!("{TEST} under {}", engine.name()), &format!("{program}: {error}")),
            }
        }
    });
}

fn check_init(test: &str, engine: Engine, program: &Path, point: &str) {
    let files = Files::make();
    let image = files::small_image(&files);
    let running = match engine.start(Storage::Overlay) {
        Ok(running) => running,
        Err(reason) => return harness::skip(&format!("{test} under {}", engine.name()), &reason),
    };
    running.load(&image);
    let mut settings = RuntimeSettings { podman_command: "/nowhere".to_owned(), ..RuntimeSettings::default() };
    running.describe_to(&mut settings);
    let cluster = KubernetesSettings::read("node-1", &[], &mut Settings::of_values::<&str, &str>([]));
    let harness = Harness::start_with_runtimes(settings, &cluster);
    let check = |run_options: &[String], origin: Origin, fs_type: &str, source: &Path| {
        let spec = Spec { run_options: run_options.to_vec(), ..Spec::default() };
        let container = running.run(&image, &spec);
        let exec = harness.exec_of(&container.id, point);
        let mount =
            exec.mount.as_ref().map(|mount| (mount.point.as_str(), mount.fs_type.as_str(), Path::new(&mount.source)));
        assert_eq!((exec.class, mount), (FileClass::Volume, Some((point, fs_type, source))), "{run_options:?}");
        let verdict = judge(&exec, Err("no_manifest"));
        let is_silent = verdict.category.is_none();
        assert_eq!((verdict.origin, is_silent), (origin, origin == Origin::None), "{run_options:?}: {verdict:?}");
        running.remove(&container);
    };
    let init = "--init".to_owned();
    check(std::slice::from_ref(&init), Origin::None, ENGINE_INIT, program);
    let foreign = files.path("busybox-added");
    let in_its_place = [format!("--volume={}:{point}:ro", foreign.display()), format!("--entrypoint={point}")];
    check(&in_its_place, Origin::Unresolved, "bind", &foreign);
    // The engine's own mount, of whatever program its user names.
    if engine == Engine::Podman {
        files.write("init", &fs::read(program).unwrap());
        let foreign = files.path("init");
        let named = [init, format!("--init-path={}", foreign.display())];
        check(&named, Origin::Unresolved, "bind", &foreign);
    }
    harness.finish();
}

#[test]
fn the_parent_of_what_an_engine_executes_is_its_monitor_every_time() {
    live("the_parent_of_what_an_engine_executes_is_its_monitor_every_time", || {
        const TIMES: usize = 6;
        let container = Container::start();
        let harness = Harness::start(&[(container.id().clone(), container.init_pid())]);
        (0..TIMES).for_each(|_| container.sh("true"));
        let execs = harness.wait_for_those(container.id(), TIMES, |exec| exec.args.get(2) == Some(b"true".as_slice()));
        let parents: Vec<_> = execs.iter().map(|exec| String::from_utf8_lossy(&exec.parent_comm)).collect();
        assert_eq!(parents, ["conmon"; TIMES]);
        harness.finish();
    });
}

#[test]
fn a_script_by_a_mount_made_inside_the_container_is_reported_with_that_mount() {
    live("a_script_by_a_mount_made_inside_the_container_is_reported_with_that_mount", || {
        let script = b"#!/bin/sh\nsleep 0.3\n";
        let container = Container::start_having(&[], &[("srv/s/stay.sh", script.to_vec())]);
        let harness = Harness::start(&[(container.id().clone(), container.init_pid())]);
        container.sh("mkdir /tmp/b /tmp/r; unshare -Urm sh -c 'mount --bind /srv/s /tmp/b; mount --rbind / /tmp/r; \
             /tmp/b/stay.sh; chroot /tmp/r /srv/s/stay.sh'; /srv/s/stay.sh");
        for (path, mount) in [
            ("/tmp/b/stay.sh", Some(("/tmp/b", "/srv/s"))),
            ("/tmp/r/srv/s/stay.sh", Some(("/tmp/r", "/"))),
            ("/srv/s/stay.sh", None),
        ] {
            let exec = self::script(&harness, container.id(), path);
            let found = exec.mount.as_ref().map(|mount| (mount.point.as_str(), mount.source.as_str()));
            assert_eq!((exec.class, found), (FileClass::RootfsPlain, mount), "{path}");
            assert_eq!(exec.sha256, Some(Sha256::of(script)), "{path}");
        }
        harness.finish();
    });
}
