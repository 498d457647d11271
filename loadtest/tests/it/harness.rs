//! A topic prefix of its own for each test, and the record of tests that cannot run.

use std::future::Future;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use driftline_kafka::{ClientSettings, Producer, admin};
use driftline_loadtest::collect::Collector;
use driftline_loadtest::services::Running;
use driftline_settings::Settings;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The environment of one test on the Kafka.
pub(crate) struct Bench {
    pub(crate) kafka: ClientSettings,
    pub(crate) producer: Producer,
    pub(crate) logs: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn collector(&self) -> Collector {
        Collector::start(&self.kafka).await.unwrap()
    }
}

/// Settings of the Kafka under test, with a unique prefix.
pub(crate) fn kafka() -> Option<ClientSettings> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let bootstrap = Settings::of_environment().environment("KAFKA_BOOTSTRAP")?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Some(ClientSettings {
        bootstrap,
        prefix: format!("test-{}-{number}", std::process::id()),
        partitions: 3,
        client_id: "driftline-test".to_owned(),
    })
}

/// Runs a test with topics of its own and deletes them afterwards.
pub(crate) async fn with_topics<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Bench) -> F) {
    let Some(kafka) = kafka() else { return skip(name, "KAFKA_BOOTSTRAP is not set; make test starts a Kafka") };
    admin::create(&kafka, 1).await.unwrap();
    let producer = Producer::new(&kafka).unwrap();
    test(Bench { kafka: kafka.clone(), producer, logs: tempfile::tempdir().unwrap() }).await;
    admin::delete_all(&kafka).await.unwrap();
}

/// Reports that a test did not run, on the terminal and in the list that `make test` prints at the end.
pub(crate) fn skip(name: &str, reason: &str) {
    println!("{name} did not run: {reason}");
    if let Some(list) = Settings::of_environment().environment("DRIFTLINE_SKIPPED") {
        let mut file = std::fs::File::options().create(true).append(true).open(list).unwrap();
        writeln!(file, "{name}\t{reason}").unwrap();
    }
}

/// Sum of the samples of a service whose line begins with `name`; 0 when there is none.
pub(crate) async fn metric(service: &Running, name: &str) -> f64 {
    let text = service.get("/metrics").await.unwrap();
    let values = text.lines().filter(|line| line.starts_with(name));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Whether this machine permits loading eBPF programs.
pub(crate) fn can_load_ebpf() -> bool {
    rustix::process::geteuid().is_root() && std::path::Path::new("/sys/kernel/btf/vmlinux").exists()
}
