use super::*;
use driftline_schemas::{ContainerEnded, ContainerId, ExecEvent, encode};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tempfile::TempDir;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// Stands for a cluster and its client, for what a real one does too seldom: it fails, and acknowledges out of order.
#[derive(Debug, Default)]
struct Cluster {
    /// Values as they came to stand on the topic, by key.
    topic: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    queue: Vec<(u64, Vec<u8>, Vec<u8>)>,
    reports: Vec<Report>,
    is_away: bool,
}

impl Cluster {
    /// Takes what is queued; later partitions first.
    fn work(&mut self) {
        if self.is_away {
            return;
        }
        for (sequence, key, value) in std::mem::take(&mut self.queue) {
            self.topic.entry(key).or_default().push(value);
            self.reports.push(Report { sequence, outcome: Outcome::Acknowledged });
        }
        self.reports.sort_by_key(|report| (report.sequence % 3, report.sequence));
    }

    fn fail(&mut self) {
        let failed = std::mem::take(&mut self.queue);
        self.reports
            .extend(failed.iter().map(|(sequence, ..)| Report { sequence: *sequence, outcome: Outcome::Failed }));
    }
}

#[derive(Debug, Clone, Default)]
struct Fake(Rc<RefCell<Cluster>>);

impl Client for Fake {
    fn send(&mut self, key: &[u8], value: &[u8], sequence: u64) -> bool {
        self.0.borrow_mut().queue.push((sequence, key.to_vec(), value.to_vec()));
        true
    }
    fn reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.0.borrow_mut().reports)
    }
    fn renew(&mut self) -> Result<(), KafkaError> {
        let mut cluster = self.0.borrow_mut();
        cluster.queue.clear();
        cluster.reports.clear();
        Ok(())
    }
    fn last_failure(&self) -> String {
        "test".to_owned()
    }
}

struct Drive {
    directory: TempDir,
    cluster: Fake,
    outbox: Outbox<Fake>,
    now_ns: i64,
    number: i64,
}

fn outbox(directory: &TempDir, cluster: &Fake, run: &str) -> Outbox<Fake> {
    let settings = OutboxSettings {
        directory: directory.path().to_owned(),
        bytes_max: 16 << 20,
        node: Node { name: "node".into(), ..Node::default() },
        collector_start: run.into(),
        boot_id: "boot".into(),
        origin: "origin".into(),
    };
    Outbox::new(settings, cluster.clone()).unwrap()
}

impl Drive {
    fn new() -> Self {
        let (directory, cluster) = (TempDir::new().unwrap(), Fake::default());
        let outbox = outbox(&directory, &cluster, "run 1");
        let mut drive = Self { directory, cluster, outbox, now_ns: SECOND, number: 0 };
        drive.outbox.attached(drive.now_ns);
        drive.outbox.open_gate();
        drive
    }

    /// Pushes records of three containers that differ in their moment.
    fn push(&mut self, count: i64, padding: usize) {
        for _ in 0..count {
            self.number += 1;
            let container_id = ContainerId::from(format!("{}", self.number % 3).as_str());
            let ended = ContainerEnded {
                container_id: container_id.clone(),
                cluster: "c".repeat(padding),
                node: "node".into(),
                ended_ns: self.number,
            };
            let (key, value) = (container_id.as_str().as_bytes().to_vec(), encode(&ended).unwrap());
            self.outbox.push(self.now_ns, Outgoing { topic: Topic::ExecEvents, key, value, headers: Vec::new() });
        }
    }

    fn pass(&mut self, ms: i64) {
        for _ in 0..ms / 20 {
            self.now_ns += 20 * MS;
            self.outbox.has_read(self.now_ns);
            self.cluster.0.borrow_mut().work();
            self.outbox.tick(self.now_ns, 0);
        }
    }

    /// As a kill does: nothing is closed.
    fn kill_and_start(&mut self, run: &str) {
        let spare = TempDir::new().unwrap();
        self.outbox = outbox(&spare, &Fake::default(), "spare");
        self.cluster.renew().unwrap();
        self.outbox = outbox(&self.directory, &self.cluster, run);
        assert!(self.outbox.was_attached());
        self.outbox.attached(self.now_ns);
        self.outbox.open_gate();
    }

    /// Moments of the records of all containers in the order of the topic, repeats left out; checks order by container.
    fn arrived(&self) -> Vec<i64> {
        let mut all = Vec::new();
        for values in self.cluster.0.borrow().topic.values() {
            let mut last = 0;
            for value in values {
                if let Ok(ExecEvent::Ended(ended)) = ExecEvent::decode(value)
                    && ended.ended_ns > last
                {
                    last = ended.ended_ns;
                    all.push(last);
                }
            }
        }
        all.sort_unstable();
        all
    }

    fn losses(&self) -> Vec<(String, Option<i64>, i64, i64)> {
        let cluster = self.cluster.0.borrow();
        let values = cluster.topic.get(b"node".as_slice()).cloned().unwrap_or_default();
        let decoded = values.iter().map(|value| ExecEvent::decode(value).unwrap());
        decoded
            .filter_map(|event| match event {
                ExecEvent::Loss(loss) => Some((loss.reason, loss.lost, loss.from_ns, loss.to_ns)),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn while_kafka_acknowledges_nothing_touches_the_disk() {
    let mut drive = Drive::new();
    for _ in 0..50 {
        drive.push(100, 10);
        drive.pass(20);
    }
    drive.pass(40);
    assert_eq!(drive.arrived(), (1..=5_000).collect::<Vec<_>>());
    let numbers = drive.outbox.numbers();
    assert_eq!((numbers.window, numbers.spool_records, numbers.sent), (0, 0, 5_000));
    assert!(drive.losses().is_empty(), "nothing was watched before the first start");
}

#[test]
fn what_kafka_does_not_take_waits_on_the_disk_in_order() {
    let mut drive = Drive::new();
    drive.push(100, 10);
    drive.cluster.0.borrow_mut().is_away = true;
    for _ in 0..100 {
        drive.push(200, 10);
        drive.pass(40);
    }
    let numbers = drive.outbox.numbers();
    assert_eq!(numbers.spool_records, 20_100);
    assert!(numbers.window <= limits::WINDOW_RECORDS);
    drive.cluster.0.borrow_mut().is_away = false;
    for _ in 0..10 {
        drive.push(100, 10);
        drive.pass(20);
    }
    drive.pass(100);
    assert_eq!(drive.arrived(), (1..=21_100).collect::<Vec<_>>());
    let numbers = drive.outbox.numbers();
    assert_eq!((numbers.window, numbers.spool_records, numbers.given_up), (0, 0, GivenUp::default()));
}

#[test]
fn a_burst_that_the_window_cannot_hold_is_neither_lost_nor_out_of_order() {
    let mut drive = Drive::new();
    drive.push(20_000, 10);
    drive.pass(200);
    drive.push(10, 10);
    drive.pass(40);
    assert_eq!(drive.arrived(), (1..=20_010).collect::<Vec<_>>());
}

#[test]
fn a_client_that_fails_is_replaced_and_everything_is_sent_again() {
    let mut drive = Drive::new();
    drive.push(100, 10);
    drive.pass(20);
    drive.push(100, 10);
    drive.cluster.0.borrow_mut().fail();
    drive.pass(1_000);
    drive.push(100, 10);
    assert_eq!(drive.arrived().len(), 100, "nothing overtakes what failed");
    drive.pass(RENEW_AFTER_NS / MS + 100);
    assert_eq!(drive.arrived(), (1..=300).collect::<Vec<_>>());
}

#[test]
fn a_kill_takes_what_was_in_memory_alone_and_the_next_start_reports_since_when() {
    let mut drive = Drive::new();
    drive.push(300, 10);
    drive.pass(2_000);
    drive.cluster.0.borrow_mut().is_away = true;
    drive.push(300, 10);
    drive.pass(limits::SPILL_AFTER / MS + 2_000);
    let spilled_ns = drive.now_ns;
    drive.cluster.0.borrow_mut().queue.clear();
    drive.kill_and_start("run 2");
    drive.cluster.0.borrow_mut().is_away = false;
    drive.pass(200);
    assert_eq!(drive.arrived(), (1..=600).collect::<Vec<_>>(), "what had been spilled");
    let losses = drive.losses();
    assert_eq!(losses.len(), 1, "{losses:?}");
    let (reason, lost, from_ns, to_ns) = &losses[0];
    assert_eq!((reason.as_str(), *lost), ("collector_restart", None));
    assert!(*from_ns <= spilled_ns && spilled_ns - from_ns < 2 * SECOND, "{from_ns}, spilled until {spilled_ns}");
    assert_eq!(*to_ns, spilled_ns);
}

#[test]
fn what_a_kill_takes_lies_in_the_interval_that_is_reported() {
    let mut drive = Drive::new();
    drive.push(30, 10);
    drive.pass(3_000);
    let before_ns = drive.now_ns;
    drive.cluster.0.borrow_mut().is_away = true;
    drive.push(300, 10);
    drive.pass(1_000);
    drive.kill_and_start("run 2");
    drive.cluster.0.borrow_mut().is_away = false;
    drive.pass(200);
    assert_eq!(drive.arrived(), (1..=30).collect::<Vec<_>>());
    let (_, lost, from_ns, to_ns) = drive.losses()[0].clone();
    assert_eq!(lost, None);
    assert!(from_ns <= before_ns && to_ns == drive.now_ns - 200 * MS, "{from_ns} {before_ns}");
}

#[test]
fn after_a_clean_stop_the_interval_begins_at_the_stop() {
    let mut drive = Drive::new();
    drive.cluster.0.borrow_mut().is_away = true;
    drive.push(300, 10);
    drive.outbox.close(drive.now_ns);
    let stopped_ns = drive.now_ns;
    drive.now_ns += 60 * SECOND;
    drive.kill_and_start("run 2");
    drive.cluster.0.borrow_mut().is_away = false;
    drive.pass(200);
    assert_eq!(drive.arrived(), (1..=300).collect::<Vec<_>>());
    assert_eq!(drive.losses(), [("collector_restart".to_owned(), None, stopped_ns, stopped_ns + 60 * SECOND)]);
    drive.pass(60_000);
    assert_eq!(drive.losses().len(), 1, "reported once");
}

#[test]
fn at_the_bound_what_is_missing_is_counted_and_containers_are_to_be_described_again() {
    let mut drive = Drive::new();
    drive.cluster.0.borrow_mut().is_away = true;
    for _ in 0..30 {
        drive.push(1_000, 1_000);
        drive.pass(100);
    }
    let numbers = drive.outbox.numbers();
    let gone = numbers.given_up.records[&Reason::SpoolFull];
    assert!(!drive.outbox.take_containers_lost(), "not while Kafka is away");
    drive.cluster.0.borrow_mut().is_away = false;
    drive.pass(2_000);
    assert_eq!(drive.arrived().len() as u64 + gone, 30_000);
    assert!(drive.outbox.take_containers_lost() && !drive.outbox.take_containers_lost());
}
