//! The collector as it is installed: its binary, a real Kafka, a real container, and four capabilities.

use driftline_collector::rights::NEEDED;
use driftline_kafka::{ClientSettings, ReadFrom, ReaderEvent, TopicReader, admin};
use driftline_runtime::env::Settings;
use driftline_schemas::topics::Topic;
use driftline_schemas::{ContainerId, ExecEvent};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::container::Container;
use super::harness;

const COLLECTOR: &str = env!("CARGO_BIN_EXE_driftline-collector");
const PATIENCE: Duration = Duration::from_secs(40);

/// A child that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Settings of the Kafka under test, with a prefix nobody else has.
fn kafka() -> Option<ClientSettings> {
    let bootstrap = Settings::of_process().optional("KAFKA_BOOTSTRAP")?;
    let prefix = format!("test-rights-{}", std::process::id());
    Some(ClientSettings { bootstrap, prefix, partitions: 1, client_id: "driftline-test".to_owned() })
}

/// `bpf` of `CAP_BPF`, as setpriv wants it.
fn short(capability: &str) -> String {
    capability.trim_start_matches("CAP_").to_lowercase()
}

fn spool_beside(podman: &Path) -> PathBuf {
    podman.with_file_name("spool")
}

/// The collector as root with exactly these capabilities.
fn collector(capabilities: &[String], kafka: &ClientSettings, podman: &Path) -> Command {
    let kept: String = capabilities.iter().map(|capability| format!(",+{capability}")).collect();
    let mut command = Command::new("setpriv");
    command
        .args([&format!("--bounding-set=-all{kept}"), "--inh-caps=-all", COLLECTOR])
        .env("KAFKA_BOOTSTRAP", &kafka.bootstrap)
        .env("DRIFTLINE_TOPIC_PREFIX", &kafka.prefix)
        .env("DRIFTLINE_PARTITIONS", "1")
        .env("DRIFTLINE_TELEMETRY_ADDR", "127.0.0.1:0")
        .env("DRIFTLINE_PODMAN_SOCKET", podman)
        .env("DRIFTLINE_SPOOL_DIR", spool_beside(podman))
        .stdin(Stdio::null());
    command
}

#[test]
fn each_of_the_four_capabilities_that_is_missing_is_named() {
    super::live("each_of_the_four_capabilities_that_is_missing_is_named", || {
        let kafka = ClientSettings {
            bootstrap: "127.0.0.1:1".to_owned(),
            prefix: "none".to_owned(),
            partitions: 1,
            client_id: String::new(),
        };
        for missing in NEEDED {
            let others: Vec<String> =
                NEEDED.iter().filter(|needed| needed.name != missing.name).map(|needed| short(needed.name)).collect();
            let output = collector(&others, &kafka, Path::new("/nowhere")).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains(&format!("missing {} (", missing.name)), "{said}");
            assert_eq!(said.matches("CAP_").count(), 1, "only the one that is missing: {said}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn four_capabilities_are_enough_for_a_real_container() {
    let name = "four_capabilities_are_enough_for_a_real_container";
    if let Some(reason) = harness::missing() {
        return harness::skip(name, &reason);
    }
    let Some(kafka) = kafka() else {
        return harness::skip(name, "KAFKA_BOOTSTRAP is not set; make test starts a Kafka");
    };
    admin::create(&kafka, 1).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("podman.sock");
    // podman's command needs CAP_SYS_ADMIN; its service has it, and the collector asks that.
    let service = Command::new("podman")
        .args(["system", "service", "--time=0", &format!("unix://{}", socket.display())])
        .stderr(Stdio::null())
        .spawn();
    let _service = Running(service.unwrap());
    until(|| socket.exists()).await;

    let container = Container::start();
    let all: Vec<String> = NEEDED.iter().map(|needed| short(needed.name)).collect();
    let log = directory.path().join("four.log");
    let running = collector(&all, &kafka, &socket).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let running = Running(running);
    let said = || fs::read_to_string(&log).unwrap_or_default();
    until(|| said().contains("collector is attached")).await;
    assert!(said().contains("self-test passed"), "{}", said());
    check_process(running.0.id(), &spool_beside(&socket));

    container.sh("/bin/true; cp /data/busybox-added /tmp/busybox-drift; /tmp/busybox-drift true");
    let mut reader = TopicReader::start(&kafka, &[Topic::ExecEvents], ReadFrom::Beginning).unwrap();
    let seen = tokio::time::timeout(PATIENCE, events(&mut reader, container.id())).await;
    assert!(seen.is_ok(), "not all that was expected came:\n{}", said());
    drop(running);

    // Started as root with everything, it gives up the rest, and could try all of the self-test before.
    let log = directory.path().join("root.log");
    let mut command = collector(&["all".to_owned()], &kafka, &socket);
    let running = Running(command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    let said = || fs::read_to_string(&log).unwrap_or_default();
    until(|| said().contains("collector is attached")).await;
    assert!(said().contains("self-test passed") && !said().contains("not tried"), "{}", said());
    check_process(running.0.id(), &spool_beside(&socket));
    admin::delete_all(&kafka).await.unwrap();
}

/// Reads until the container was described and both of its programs were told, one of them with its digest.
async fn events(reader: &mut TopicReader, container: &ContainerId) {
    let (mut is_described, mut is_image_seen, mut is_drift_seen) = (false, false, false);
    while !(is_described && is_image_seen && is_drift_seen) {
        let Some(ReaderEvent::Record(record)) = reader.next().await else { continue };
        match ExecEvent::decode(&record.value.unwrap()).unwrap() {
            ExecEvent::Seen(seen) => is_described |= seen.container.id == *container,
            ExecEvent::Exec(exec) if exec.container_id == *container => {
                is_image_seen |= exec.path == b"/bin/busybox";
                is_drift_seen |= exec.path == b"/tmp/busybox-drift" && exec.sha256.is_some();
            }
            _ => {}
        }
    }
}

/// Every thread has the four and nothing else, none can get more, and no regular file is open for writing but the log and
/// what is in the spool.
fn check_process(pid: u32, spool: &Path) {
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
        threads += 1;
    }
    assert!(threads > 1);
    let mut written = Vec::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let fd = fd.unwrap();
        let info =
            fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", fd.file_name().to_string_lossy())).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim().to_owned();
        let is_writing = u32::from_str_radix(&flags, 8).unwrap() & 3 != 0;
        let is_file = fs::metadata(fd.path()).is_ok_and(|found| found.is_file() && found.nlink() > 0);
        if is_writing && is_file {
            written.push(fs::read_link(fd.path()).unwrap());
        }
    }
    assert!(written.iter().any(|path| path.starts_with(spool)), "{written:?}");
    let is_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    assert!(written.iter().all(|path| is_log(path) || path.starts_with(spool)), "{written:?}");
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}
