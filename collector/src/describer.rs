//! The task that asks the container runtimes. They may be slow, so nobody waits for it.

use driftline_collector_core::Description;
use driftline_collector_runtimes::{Described, RuntimeSettings, Runtimes};
use driftline_schemas::ContainerId;
use std::sync::Arc;
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
    let mut runtimes = detect(&settings).await;
    let mut looked_at = Instant::now();
    let places = Arc::new(Semaphore::new(QUESTIONS));
    let mut all_again = interval(ALL_AGAIN);
    all_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(id) = question else { return };
                if runtimes.answering().next().is_none() && looked_at.elapsed() >= LOOK_AGAIN {
                    runtimes = detect(&settings).await;
                    looked_at = Instant::now();
                }
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (runtimes, answers) = (Arc::clone(&runtimes), answers.clone());
                tokio::spawn(async move {
                    let description = describe(&runtimes, &id).await;
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

async fn detect(settings: &RuntimeSettings) -> Arc<Runtimes> {
    let runtimes = Runtimes::detect(settings).await;
    for found in runtimes.states() {
        match &found.state {
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
