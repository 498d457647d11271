//! Four capabilities of a user who is nobody are enough, and each is needed.

use driftline_collector::rights::NEEDED;
use driftline_kafka::{ClientSettings, admin};
use driftline_schemas::{ContainerId, ExecEvent};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::container::Container;
use super::harness;
use super::installed::{Events, Installation, Starter, is_log, kafka, short};

#[test]
fn each_of_the_four_capabilities_that_is_missing_is_named() {
    super::live("each_of_the_four_capabilities_that_is_missing_is_named", || {
        let kafka = ClientSettings {
            bootstrap: "127.0.0.1:1".to_owned(),
            prefix: "none".to_owned(),
            partitions: 1,
            client_id: String::new(),
        };
        let place = Installation::without_podman();
        for missing in NEEDED {
            let others = NEEDED.iter().filter(|needed| needed.name != missing.name);
            let starter = Starter::User(others.map(|needed| short(needed.name)).collect());
            let output = place.command(&starter, &kafka).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && errors.contains(&format!("missing {} (", missing.name)), "{errors}");
            assert_eq!(errors.matches("CAP_").count(), 1, "only the one that is missing: {errors}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn four_capabilities_are_enough_for_a_real_container() {
    let name = "four_capabilities_are_enough_for_a_real_container";
    if let Some(reason) = harness::missing() {
        return harness::skip(name, &reason);
    }
    let Some(kafka) = kafka("rights") else {
        return harness::skip(name, "KAFKA_BOOTSTRAP is not set; make test starts a Kafka");
    };
    let _among_others = harness::NODE.read().await;
    admin::create(&kafka, 1).await.unwrap();
    let place = Installation::with_podman().await;
    let container = Container::start();
    let spool = place.spool(&Starter::usual());
    let running = place.start(on_read_only(&place.command(&Starter::usual(), &kafka), &spool)).await;
    assert!(place.log().contains("self-test passed"), "{}", place.log());
    check_process(running.0.id(), &place, &Starter::usual());
    assert_eq!(writable(running.0.id()), [spool.display().to_string()]);

    container.sh("/bin/true; cp /data/busybox-added /tmp/busybox-drift; /tmp/busybox-drift true");
    let seen = events(&mut Events::of(&kafka).await, container.id()).await;
    assert_eq!(seen, Ok(()), "{}", place.log());
    drop(running);

    // Started as root with everything, it gives up the rest, and could try all of the self-test before.
    let running = place.start(place.command(&Starter::Root, &kafka)).await;
    assert!(place.log().contains("self-test passed") && !place.log().contains("not tried"), "{}", place.log());
    check_process(running.0.id(), &place, &Starter::Root);
    admin::delete_all(&kafka).await.unwrap();
}

/// The same command where all file systems but the spool are read-only.
fn on_read_only(command: &Command, spool: &Path) -> Command {
    const SCRIPT: &str = r#"spool=$1; shift; mount --bind "$spool" "$spool"
        for point in $(cut -d' ' -f5 /proc/self/mountinfo); do
            [ "$point" = "$spool" ] || mount -o remount,bind,ro "$point"
        done
        exec "$@""#;
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "--propagation=private", "sh", "-c", SCRIPT, "sh"]).arg(spool);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped.stdin(Stdio::null()).stdout(Stdio::null());
    wrapped
}

/// Mount points of a process that can be written to.
fn writable(pid: u32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    // Of several on one point the last is on top.
    let options: BTreeMap<&str, &str> =
        table.lines().map(|line| line.split(' ').collect::<Vec<_>>()).map(|fields| (fields[4], fields[5])).collect();
    let is_writable = |options: &str| !options.split(',').any(|option| option == "ro");
    options.into_iter().filter(|(_, it)| is_writable(it)).map(|(point, _)| point.to_owned()).collect()
}

/// Reads until the container was described and both of its programs were reported, one of them with its digest.
async fn events(events: &mut Events, container: &ContainerId) -> Result<(), &'static str> {
    let (mut is_described, mut is_image_seen, mut is_drift_seen) = (false, false, false);
    let is_enough = |event| {
        match event {
            ExecEvent::Seen(seen) => is_described |= seen.container.id == *container,
            ExecEvent::Exec(exec) if exec.container_id == *container => {
                is_image_seen |= exec.path == b"/bin/busybox";
                is_drift_seen |= exec.path == b"/tmp/busybox-drift" && exec.sha256.is_some();
            }
            _ => {}
        }
        is_described && is_image_seen && is_drift_seen
    };
    events.take_until(is_enough).await
}

/// Every thread is this user's, has the four and nothing else, none can get more, and no regular file is open for writing but
/// the log and what is in the spool.
fn check_process(pid: u32, place: &Installation, starter: &Starter) {
    let (user, spool) = (starter.user(), place.spool(starter));
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let four = "000000c000080004";
        assert_eq!(
            (field("CapPrm:").as_str(), field("CapEff:").as_str(), field("CapBnd:").as_str()),
            (four, four, four)
        );
        assert_eq!((field("CapInh:").as_str(), field("CapAmb:").as_str()), ("0000000000000000", "0000000000000000"));
        assert_eq!(field("NoNewPrivs:"), "1");
        assert!(field("Uid:").split_whitespace().all(|id| id == user.to_string()), "{}", field("Uid:"));
        threads += 1;
    }
    assert!(threads > 1);
    let mut written = Vec::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let fd = fd.unwrap();
        let name = fs::read_link(fd.path()).unwrap_or_default();
        assert!(!name.to_string_lossy().contains("fanotify"), "strict mode is off unless the settings turn it on");
        let info =
            fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", fd.file_name().to_string_lossy())).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim().to_owned();
        let is_writing = u32::from_str_radix(&flags, 8).unwrap() & 3 != 0;
        let is_file = fs::metadata(fd.path()).is_ok_and(|found| found.is_file() && found.nlink() > 0);
        if is_writing && is_file {
            written.push(fs::read_link(fd.path()).unwrap());
        }
    }
    assert!(written.iter().any(|path| path.starts_with(&spool)), "{written:?}");
    assert!(written.iter().all(|path| is_log(path) || path.starts_with(&spool)), "{written:?}");
}
