//! The task that asks the container runtimes, and adds what the Kubernetes API has said of their pods. They may be slow, so
//! nobody waits for it; what the API says later makes it ask for the pod's containers again.

use driftline_collector_core::{Description, Placement};
use driftline_engines::kubernetes::{self, ApiTrouble, Facts, KubernetesSettings, News};
use driftline_engines::{Coverage, Described, Listed, RuntimeSettings, Runtimes};
use driftline_schemas::ContainerId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::looks::{Looks, Pace};

/// Questions under way at a time: podman's command takes a quarter of a second of one core for each.
const QUESTIONS: usize = 4;

/// Questions that wait, beyond which the container is asked for later.
pub const QUESTION_QUEUE: usize = 1_024;

/// All running containers are told again after this.
const ALL_AGAIN: Duration = Duration::from_secs(3_600);

/// When no runtime answers, they are looked for again, at most this often.
const DETECT_AGAIN: Duration = Duration::from_secs(10);

/// What the task says.
#[derive(Debug)]
pub enum Answer {
    /// About a container that was asked for.
    One(ContainerId, Option<Box<Description>>),
    /// About all that run.
    All(Vec<Description>),
    /// These ran when it was last looked, and no runtime runs them any more.
    Gone(Vec<ContainerId>),
    /// About the node.
    Placed(Placement),
    /// The Kubernetes API does not tell something.
    Trouble(ApiTrouble),
}

/// Who is asked, and who knows more of what they say.
#[derive(Clone)]
struct Sources {
    runtimes: Arc<Runtimes>,
    facts: Facts,
}

/// Starts the task. It ends when nobody asks any more.
pub fn start(
    settings: RuntimeSettings,
    cluster: &KubernetesSettings,
    pace: Pace,
    questions: mpsc::Receiver<ContainerId>,
    answers: mpsc::Sender<Answer>,
) {
    let (facts, news) = kubernetes::start(cluster);
    tokio::spawn(serve(settings, facts, news, pace, questions, answers));
}

async fn serve(
    settings: RuntimeSettings,
    facts: Facts,
    mut news: mpsc::Receiver<News>,
    pace: Pace,
    mut questions: mpsc::Receiver<ContainerId>,
    answers: mpsc::Sender<Answer>,
) {
    let mut sources = Sources { runtimes: detect(&settings, None).await, facts };
    let mut listener = sources.runtimes.listen();
    let mut looks = Looks::new(pace, Instant::now(), listener.heard());
    // A container that no runtime knew.
    let unknown = Arc::new(AtomicBool::new(false));
    let mut detected_at = Instant::now();
    let places = Arc::new(Semaphore::new(QUESTIONS));
    // News come in numbers at the start, and whoever asks must not wait behind them.
    let news_place = Arc::new(Semaphore::new(1));
    let mut all_again = interval(ALL_AGAIN);
    all_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let known = Arc::new(Mutex::new(Known::default()));
    loop {
        tokio::select! {
            // What comes seldom first, and all before what is new, which else would be told twice.
            biased;
            _ = all_again.tick() => {
                let all = sources.running().await;
                let ids: BTreeSet<ContainerId> = all.iter().map(|described| described.container.id.clone()).collect();
                sources.facts.retain(&ids);
                known.lock().await.told.extend(ids);
                let _ = answers.send(Answer::All(all)).await;
            }
            () = sleep_until(looks.due()) => {
                looks.look(Instant::now());
                match Arc::clone(&known).try_lock_owned() {
                    Ok(known) => drop(tokio::spawn(tell_new(sources.clone(), known, answers.clone()))),
                    // The last look waits for a slow runtime.
                    Err(_) => looks.want(Instant::now()),
                }
            }
            // Ends when there is no API to be asked.
            Some(news) = news.recv() => {
                tokio::spawn(tell_news(sources.clone(), news, Arc::clone(&news_place), answers.clone()));
            }
            () = listener.changed() => looks.hear(Instant::now(), listener.heard()),
            question = questions.recv() => {
                let Some(id) = question else { return };
                // One that started after us may know what the others did not.
                let silent = sources.runtimes.states().iter().any(|found| found.state.is_err());
                if silent && unknown.load(Ordering::Acquire) && detected_at.elapsed() >= DETECT_AGAIN {
                    sources.runtimes = detect(&settings, Some(&sources.runtimes)).await;
                    listener = sources.runtimes.listen();
                    looks = Looks::new(pace, Instant::now(), listener.heard());
                    detected_at = Instant::now();
                    unknown.store(false, Ordering::Release);
                }
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (sources, answers, unknown) = (sources.clone(), answers.clone(), Arc::clone(&unknown));
                tokio::spawn(async move {
                    let description = sources.describe(&id).await;
                    unknown.fetch_or(description.is_none(), Ordering::AcqRel);
                    drop(place);
                    // Fails only when the collector stops.
                    let _ = answers.send(Answer::One(id, description)).await;
                });
            }
        }
    }
}

/// What looks found.
#[derive(Debug, Default)]
struct Known {
    /// What was told, by a look or with all others.
    told: BTreeSet<ContainerId>,
    /// What runtimes with a socket ran when they were last looked at.
    ran: BTreeSet<ContainerId>,
}

/// Describes what did not run the last time, and says what runs no more.
async fn tell_new(sources: Sources, mut known: OwnedMutexGuard<Known>, answers: mpsc::Sender<Answer>) {
    let Listed { ids, is_whole } = sources.runtimes.running_ids_of_sockets().await;
    let running: BTreeSet<ContainerId> = ids.into_iter().collect();
    for id in running.difference(&known.told) {
        sources.tell(id, &answers).await;
    }
    if !is_whole {
        // What a runtime that did not answer ran is not gone.
        known.told.extend(running.iter().cloned());
        known.ran.extend(running);
        return;
    }
    sources.facts.ended(&known.told.difference(&running).cloned().collect());
    let gone: Vec<ContainerId> = known.ran.difference(&running).cloned().collect();
    if !gone.is_empty() {
        let _ = answers.send(Answer::Gone(gone)).await;
    }
    known.told.clone_from(&running);
    known.ran = running;
}

/// Passes on what the API says. Containers of a pod of which more is known are told again.
async fn tell_news(sources: Sources, news: News, place: Arc<Semaphore>, answers: mpsc::Sender<Answer>) {
    match news {
        News::Pod(uid) => {
            let Ok(_place) = place.acquire().await else { return };
            for id in sources.facts.containers_of(&uid) {
                sources.tell(&id, &answers).await;
            }
        }
        News::Node(kubernetes::Placement { provider_id, zone }) => {
            let _ = answers.send(Answer::Placed(Placement { provider_id, zone })).await;
        }
        News::Trouble(trouble) => {
            let _ = answers.send(Answer::Trouble(trouble)).await;
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

impl Sources {
    async fn describe(&self, id: &ContainerId) -> Option<Box<Description>> {
        match self.runtimes.describe(id).await {
            Ok(Some(described)) => Some(Box::new(self.description(described))),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(container = %id, %error, "container cannot be described");
                None
            }
        }
    }

    async fn running(&self) -> Vec<Description> {
        self.runtimes.running().await.into_iter().map(|described| self.description(described)).collect()
    }

    /// Describes a container that nobody asked for.
    async fn tell(&self, id: &ContainerId, answers: &mpsc::Sender<Answer>) {
        if let Some(description) = self.describe(id).await {
            // Fails only when the collector stops.
            let _ = answers.send(Answer::One(id.clone(), Some(description))).await;
        }
    }

    fn description(&self, mut described: Described) -> Description {
        self.facts.complete(&mut described);
        description(described)
    }
}

fn description(described: Described) -> Description {
    Description {
        container: described.container,
        mounts: described.mounts,
        // The process of one whose programs run elsewhere is a sandbox or a virtual machine: nothing is read from it.
        init_pid: described.init_pid.filter(|_| described.coverage == Coverage::Seen),
        has_ended: described.has_ended,
        is_sandbox: described.sandbox,
        attempt: described.attempt,
        annotations: described.annotations,
        runtime_handler: described.handler,
        is_unseen: described.coverage == Coverage::Unseen,
    }
}

#[cfg(test)]
mod tests;
