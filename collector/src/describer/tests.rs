//! What the task sends without a command, with a socket that answers like CRI-O.

use super::*;
use driftline_engines::testing::{Crio, Events};
use driftline_settings::Settings;

const SANDBOX: &str = "c1d4e7fa0b3c6d9e2f5a8b1c4d7e0f3a6b9c2d5e8f1a4b7c0d3e6f9a2b5c8d1e";
const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);

fn settings(crio: &Crio) -> RuntimeSettings {
    RuntimeSettings {
        containerd_socket: "/nowhere".into(),
        cri_sockets: vec![crio.socket()],
        docker_socket: "/nowhere".into(),
        podman_socket: "/nowhere".into(),
        podman_command: "/nowhere".into(),
        proc: "/nowhere".into(),
        ..RuntimeSettings::default()
    }
}

/// An answer in a word each.
fn words(answer: Answer) -> Vec<String> {
    let of = |kind: &str, id: &str| format!("{kind} {}", if id == SANDBOX { "sandbox" } else { "container" });
    match answer {
        Answer::One(id, description) => vec![of(if description.is_some() { "new" } else { "unknown" }, id.as_str())],
        Answer::All(all) => all.iter().map(|it| of("running", it.container.id.as_str())).collect(),
        Answer::Gone(ids) => ids.iter().map(|id| of("gone", id.as_str())).collect(),
        Answer::Placed(_) | Answer::Trouble(_) => unreachable!("there is no API"),
    }
}

async fn next(answers: &mut mpsc::Receiver<Answer>) -> Vec<String> {
    words(tokio::time::timeout(PATIENCE, answers.recv()).await.unwrap().unwrap())
}

/// The task at work; it ends when the sender of questions is dropped.
fn started(crio: &Crio, intervals: PollIntervals) -> (mpsc::Sender<ContainerId>, mpsc::Receiver<Answer>) {
    let (questions, received) = mpsc::channel(8);
    let (answered, answers) = mpsc::channel(8);
    start(
        settings(crio),
        &KubernetesSettings::read("node-1", &[], &mut Settings::of_values::<&str, &str>([])),
        intervals,
        received,
        answered,
    );
    (questions, answers)
}

#[tokio::test]
async fn a_start_and_an_end_are_reported_as_soon_as_the_runtime_sends_their_events() {
    let crio = Crio::start(Events::Sent).unwrap();
    let (_questions, mut answers) = started(&crio, PollIntervals { without_events: HOUR, with_events: HOUR });
    assert_eq!(next(&mut answers).await, ["running sandbox"]);
    while crio.listeners() == 0 {
        tokio::task::yield_now().await;
    }
    crio.start_container(0);
    assert_eq!(next(&mut answers).await, ["new container"]);
    crio.end_container();
    assert_eq!(next(&mut answers).await, ["gone container"]);
}

#[tokio::test]
async fn a_runtime_without_events_is_polled() {
    let crio = Crio::start(Events::Off).unwrap();
    let (_questions, mut answers) =
        started(&crio, PollIntervals { without_events: Duration::from_millis(1), with_events: HOUR });
    assert_eq!(next(&mut answers).await, ["running sandbox"]);
    crio.start_container(0);
    assert_eq!(next(&mut answers).await, ["new container"]);
    crio.end_container();
    assert_eq!(next(&mut answers).await, ["gone container"]);
}

#[tokio::test]
async fn what_a_runtime_ran_that_does_not_answer_is_not_gone() {
    let crio = Crio::start(Events::Off).unwrap();
    let runtimes = Arc::new(Runtimes::detect(&settings(&crio)).await);
    let sources = DescriptionSources::new(runtimes, Facts::default());
    let (sender, mut answers) = mpsc::channel(8);
    let reported = Arc::new(Mutex::new(ReportedContainers::default()));
    let poll = async || {
        report_changes(sources.clone(), Arc::clone(&reported).lock_owned().await, sender.clone()).await;
    };
    crio.start_container(0);
    poll().await;
    let mut found: Vec<String> = [next(&mut answers).await, next(&mut answers).await].concat();
    found.sort_unstable();
    assert_eq!(found, ["new container", "new sandbox"]);
    poll().await;
    assert!(answers.try_recv().is_err(), "once");
    drop(crio);
    poll().await;
    assert!(answers.try_recv().is_err());
}
