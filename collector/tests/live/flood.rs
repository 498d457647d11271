//! More execs than the rings have room for, while nobody reads them.

use driftline_kafka::admin;
use driftline_schemas::{Exec, ExecEvent};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Command;

use super::container::Container;
use super::harness;
use super::installed::{Events, Installation, Running, Starter, kafka, until};

const EXECS: i64 = 3_000;
const ROUNDS: usize = 5;
/// Of each ring: a hundred records.
const RING_KIB: &str = "64";

#[tokio::test(flavor = "multi_thread")]
async fn what_full_rings_lose_is_counted_exactly_and_reported_and_so_are_later_execs() {
    let name = "what_full_rings_lose_is_counted_exactly_and_reported_and_so_are_later_execs";
    if let Some(reason) = harness::missing() {
        return harness::skip(name, &reason);
    }
    let Some(kafka) = kafka("flood") else {
        return harness::skip(name, "KAFKA_BOOTSTRAP is not set; make test starts a Kafka");
    };
    // The rings are those of the whole node.
    let _alone = harness::NODE.write().await;
    admin::create(&kafka, 1).await.unwrap();
    let place = Installation::with_podman().await;
    let container = Container::start();
    let mut command = place.command(&Starter::Root, &kafka);
    command.env("DRIFTLINE_RING_KIB", RING_KIB).env("DRIFTLINE_SUSPICIOUS_RING_KIB", RING_KIB);
    let collector = place.start(command).await;
    let mut events = Events::of(&kafka).await;
    let mut rounds: Vec<(i64, i64)> = Vec::new();
    // Containers of others on this machine lose execs in the same rings: never less than ours, and in some round nobody else's.
    while rounds.last().is_none_or(|(reported, lost): &(i64, i64)| reported + lost != EXECS) && rounds.len() < ROUNDS {
        let (reported, lost) = flood(&container, &collector, &mut events, rounds.len()).await;
        assert!(lost > EXECS / 2 && reported > 0 && reported + lost >= EXECS, "{reported} reported, {lost} lost");
        rounds.push((reported, lost));
    }
    let (reported, lost) = *rounds.last().unwrap();
    assert_eq!(reported + lost, EXECS, "reported and lost: {rounds:?}");
    harness::report(&format!("full rings: of {EXECS} execs {reported} reported, {lost} counted as lost\n"));

    container.sh("cp /data/busybox-added /tmp/busybox-after; /tmp/busybox-after true");
    let is_after =
        |event| matches!(event, ExecEvent::Exec(exec) if exec.path == b"/tmp/busybox-after" && exec.sha256.is_some());
    events.take_until(is_after).await.unwrap();
    admin::delete_all(&kafka).await.unwrap();
}

/// Executes in a loop while the collector stands still; how many execs of it were reported and how many are counted as lost.
async fn flood(container: &Container, collector: &Running, events: &mut Events, round: usize) -> (i64, i64) {
    let (go, done) = (format!("go-{round}"), format!("done-{round}"));
    assert!(Command::new("mkfifo").arg(container.data(&go)).status().unwrap().success());
    // Nothing but what the shell executes in the loop happens while the collector stands still.
    let script = format!(
        "/opt/busybox-tty true {round}; read x </data/{go}; \
         i=0; while [ $i -lt {EXECS} ]; do /opt/busybox-plain true; i=$((i+1)); done; echo $i >/data/{done}; \
         read x </data/{go}; /opt/busybox-args true {round}"
    );
    let signal = |signal| kill_process(Pid::from_child(&collector.0), signal).unwrap();
    let go_on = || fs::write(container.data(&go), "\n").unwrap();
    let is_of_round =
        |exec: &Exec, path: &[u8]| exec.path == path && exec.args.get(2) == Some(round.to_string().as_bytes());
    let inside = async {
        let is_ready = |event| matches!(event, ExecEvent::Exec(exec) if is_of_round(&exec, b"/opt/busybox-tty"));
        events.take_until(is_ready).await.unwrap();
        signal(Signal::STOP);
        go_on();
        until(|| fs::read_to_string(container.data(&done)).is_ok_and(|made| made.trim() == EXECS.to_string())).await;
        signal(Signal::CONT);
        let mut counted = Counted::default();
        let enough = events.take_until(|event| counted.add(&event) >= EXECS).await;
        go_on();
        // What was made before was reported before.
        let is_last = |event| {
            counted.add(&event);
            matches!(event, ExecEvent::Exec(exec) if is_of_round(&exec, b"/opt/busybox-args"))
        };
        let last = events.take_until(is_last).await;
        assert_eq!((enough, last), (Ok(()), Ok(())), "{counted:?}");
        (counted.reported, counted.lost)
    };
    std::thread::scope(|scope| {
        let shell = scope.spawn(|| container.sh(&script));
        let counted = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(inside));
        shell.join().unwrap();
        counted
    })
}

/// Execs of the loop, by what became of them.
#[derive(Debug, Default)]
struct Counted {
    reported: i64,
    lost: i64,
}

impl Counted {
    fn add(&mut self, event: &ExecEvent) -> i64 {
        match event {
            ExecEvent::Exec(exec) if exec.path == b"/opt/busybox-plain" => self.reported += 1,
            ExecEvent::Loss(loss) if loss.reason == "ring_full" => self.lost += loss.lost.unwrap_or(0),
            _ => {}
        }
        self.reported + self.lost
    }
}
