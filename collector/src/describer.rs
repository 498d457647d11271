//! The task that asks the container runtimes. They may be slow, so nobody waits for it.

use driftline_collector_core::Description;
use driftline_collector_runtimes::{Described, RuntimeSettings, Runtimes};
use driftline_schemas::ContainerId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Questions under way at a time: podman's command takes a quarter of a second of one core for each.
const QUESTIONS: usize = 4;

/// Questions that wait, beyond which the container is asked for later.
pub const QUESTION_QUEUE: usize = 1_024;

/// All running containers are told again after this.
const ALL_AGAIN: Duration = Duration::from_secs(3_600);

/// When no runtime answers, they are looked for again, at most this often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What the task says.
#[derive(Debug)]
pub enum Answer {
    /// About a container that was asked for.
    One(ContainerId, Option<Box<Description>>),
    /// About all that run.
    All(Vec<Description>),
}

/// Starts the task. It ends when nobody asks any more.
pub fn start(settings: RuntimeSettings, questions: mpsc::Receiver<ContainerId>, answers: mpsc::Sender<Answer>) {
    tokio::spawn(serve(settings, questions, answers));
}

async fn serve(settings: RuntimeSettings, mut questions: mpsc::Receiver<ContainerId>, answers: mpsc::Sender<Answer>) {
    let mut runtimes = detect(&settings, None).await;
    // A container that no runtime knew.
    let unknown = Arc::new(AtomicBool::new(false));
    let mut looked_at = Instant::now();
    let places = Arc::new(Semaphore::new(QUESTIONS));
    let mut all_again = interval(ALL_AGAIN);
    all_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(id) = question else { return };
                // One that started after us may know what the others did not.
                let silent = runtimes.states().iter().any(|found| found.state.is_err());
                if silent && unknown.load(Ordering::Acquire) && looked_at.elapsed() >= LOOK_AGAIN {
                    runtimes = detect(&settings, Some(&runtimes)).await;
                    looked_at = Instant::now();
                    unknown.store(false, Ordering::Release);
                }
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (runtimes, answers, unknown) = (Arc::clone(&runtimes), answers.clone(), Arc::clone(&unknown));
                tokio::spawn(async move {
                    let description = describe(&runtimes, &id).await;
                    unknown.fetch_or(description.is_none(), Ordering::AcqRel);
                    drop(place);
                    // Fails only when the collector stops.
                    let _ = answers.send(Answer::One(id, description)).await;
                });
            }
            _ = all_again.tick() => {
                let all = runtimes.running().await.into_iter().map(description).collect();
                let _ = answers.send(Answer::All(all)).await;
            }
        }
    }
}

/// Looks which runtimes answer; says what changed.
async fn detect(settings: &RuntimeSettings, before: Option<&Runtimes>) -> Arc<Runtimes> {
    let runtimes = Runtimes::detect(settings).await;
    for found in runtimes.states() {
        let answered = before.map(|before| before.answering().any(|name| name == found.runtime));
        match &found.state {
            state if answered == Some(state.is_ok()) => {}
            Ok(how) => tracing::info!(runtime = found.runtime, %how, "container runtime answers"),
            Err(error) => tracing::info!(runtime = found.runtime, %error, "container runtime does not answer"),
        }
    }
    Arc::new(runtimes)
}

async fn describe(runtimes: &Runtimes, id: &ContainerId) -> Option<Box<Description>> {
    match runtimes.describe(id).await {
        Ok(Some(described)) => Some(Box::new(description(described))),
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(container = %id, %error, "container cannot be described");
            None
        }
    }
}

fn description(described: Described) -> Description {
    Description {
        container: described.container,
        mounts: described.mounts,
        init_pid: described.init_pid,
        is_sandbox: described.sandbox,
    }
}
