//! The task that describes containers: from the container runtimes, with what the Kubernetes API knows of their pods. Both may
//! be slow, so nothing waits for this task. When the API returns more of a pod later, its containers are described again.

use driftline_collector_core::{Description, Placement};
use driftline_engines::kubernetes::{self, ApiTrouble, Facts, KubernetesSettings, News};
use driftline_engines::{Coverage, Described, Listed, RuntimeSettings, Runtimes};
use driftline_schemas::ContainerId;
use driftline_service::log_limit::LogLimit;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::poll_schedule::{PollIntervals, PollSchedule};

/// Descriptions under way at a time: podman's command takes a quarter of a second of one core for each.
const QUESTIONS: usize = 4;

/// Containers that wait to be described; beyond it the core commands the description again later.
pub const QUESTION_QUEUE: usize = 1_024;

/// All running containers are described again after this.
const ALL_AGAIN: Duration = Duration::from_secs(3_600);

/// When a container is unknown, runtimes that did not answer are tried again, at most this often.
const DETECT_AGAIN: Duration = Duration::from_secs(10);

/// What the task sends.
#[derive(Debug)]
pub enum Answer {
    /// The description of one container; `None` when there is none.
    One(ContainerId, Option<Box<Description>>),
    /// The descriptions of all that run.
    All(Vec<Description>),
    /// These ran at the last poll, and no runtime runs them any more.
    Gone(Vec<ContainerId>),
    /// Where the node is.
    Placed(Placement),
    /// The Kubernetes API does not return something.
    Trouble(ApiTrouble),
}

/// Where descriptions come from.
#[derive(Clone)]
struct DescriptionSources {
    runtimes: Arc<Runtimes>,
    facts: Facts,
    /// The lines about containers that cannot be described.
    failures: Arc<std::sync::Mutex<LogLimit>>,
}

/// Starts the task. It ends when the sender of `questions` is dropped.
pub fn start(
    settings: RuntimeSettings,
    cluster: &KubernetesSettings,
    intervals: PollIntervals,
    questions: mpsc::Receiver<ContainerId>,
    answers: mpsc::Sender<Answer>,
) {
    let (facts, news) = kubernetes::start(cluster);
    tokio::spawn(serve(settings, facts, news, intervals, questions, answers));
}

async fn serve(
    settings: RuntimeSettings,
    facts: Facts,
    mut news: mpsc::Receiver<News>,
    intervals: PollIntervals,
    mut questions: mpsc::Receiver<ContainerId>,
    answers: mpsc::Sender<Answer>,
) {
    let mut sources = DescriptionSources::new(detect(&settings, None).await, facts);
    let mut listener = sources.runtimes.listen();
    let mut schedule = PollSchedule::new(intervals, Instant::now(), listener.counts());
    // A container that no runtime knew.
    let unknown = Arc::new(AtomicBool::new(false));
    let mut detected_at = Instant::now();
    let places = Arc::new(Semaphore::new(QUESTIONS));
    // At the start the API returns all pods; descriptions must not wait behind them.
    let news_place = Arc::new(Semaphore::new(1));
    let mut all_again = interval(ALL_AGAIN);
    all_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reported = Arc::new(Mutex::new(ReportedContainers::default()));
    loop {
        tokio::select! {
            // Rare events first; and all containers before new ones, which would be described twice otherwise.
            biased;
            _ = all_again.tick() => {
                let all = sources.running().await;
                let ids: BTreeSet<ContainerId> = all.iter().map(|described| described.container.id.clone()).collect();
                sources.facts.retain(&ids);
                reported.lock().await.described.extend(ids);
                let _ = answers.send(Answer::All(all)).await;
            }
            () = sleep_until(schedule.due()) => {
                sources.failures().log_left_out("containers that cannot be described");
                schedule.begin(Instant::now());
                match Arc::clone(&reported).try_lock_owned() {
                    Ok(reported) => drop(tokio::spawn(report_changes(sources.clone(), reported, answers.clone()))),
                    // The poll before waits for a slow runtime.
                    Err(_) => schedule.poll_soon(Instant::now()),
                }
            }
            // Ends when the settings name no API.
            Some(news) = news.recv() => {
                tokio::spawn(forward_news(sources.clone(), news, Arc::clone(&news_place), answers.clone()));
            }
            () = listener.changed() => schedule.on_events(Instant::now(), listener.counts()),
            question = questions.recv() => {
                let Some(id) = question else { return };
                // A runtime that started after this task may know the container.
                let silent = sources.runtimes.states().iter().any(|found| found.state.is_err());
                if silent && unknown.load(Ordering::Acquire) && detected_at.elapsed() >= DETECT_AGAIN {
                    sources.runtimes = detect(&settings, Some(&sources.runtimes)).await;
                    listener = sources.runtimes.listen();
                    schedule = PollSchedule::new(intervals, Instant::now(), listener.counts());
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

/// The containers that the last poll found.
#[derive(Debug, Default)]
struct ReportedContainers {
    /// Those that were described, after a poll or with all others.
    described: BTreeSet<ContainerId>,
    /// Those that runtimes with a socket ran at the last poll.
    running: BTreeSet<ContainerId>,
}

/// Polls the runtimes. Describes the containers that are new, and reports those that do not run any more.
async fn report_changes(
    sources: DescriptionSources,
    mut reported: OwnedMutexGuard<ReportedContainers>,
    answers: mpsc::Sender<Answer>,
) {
    let Listed { ids, is_whole } = sources.runtimes.running_ids_of_sockets().await;
    let running: BTreeSet<ContainerId> = ids.into_iter().collect();
    for id in running.difference(&reported.described) {
        sources.report(id, &answers).await;
    }
    if !is_whole {
        // The containers of a runtime that did not answer are not gone.
        reported.described.extend(running.iter().cloned());
        reported.running.extend(running);
        return;
    }
    sources.facts.ended(&reported.described.difference(&running).cloned().collect());
    let gone: Vec<ContainerId> = reported.running.difference(&running).cloned().collect();
    if !gone.is_empty() {
        let _ = answers.send(Answer::Gone(gone)).await;
    }
    reported.described.clone_from(&running);
    reported.running = running;
}

/// Forwards what the API returns. The containers of a pod of which more is known are described again.
async fn forward_news(sources: DescriptionSources, news: News, place: Arc<Semaphore>, answers: mpsc::Sender<Answer>) {
    match news {
        News::Pod(uid) => {
            let Ok(_place) = place.acquire().await else { return };
            for id in sources.facts.containers_of(&uid) {
                sources.report(&id, &answers).await;
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

/// Finds out which runtimes answer, and logs what changed.
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

impl DescriptionSources {
    fn new(runtimes: Arc<Runtimes>, facts: Facts) -> Self {
        Self { runtimes, facts, failures: Arc::default() }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, LogLimit> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn describe(&self, id: &ContainerId) -> Option<Box<Description>> {
        match self.runtimes.describe(id).await {
            Ok(Some(described)) => Some(Box::new(self.description(described))),
            Ok(None) => None,
            Err(error) => {
                if let Some(left_out) = self.failures().admit() {
                    tracing::warn!(container = %id, %error, left_out, "container cannot be described");
                }
                None
            }
        }
    }

    async fn running(&self) -> Vec<Description> {
        self.runtimes.running().await.into_iter().map(|described| self.description(described)).collect()
    }

    /// Describes a container without a command of the core.
    async fn report(&self, id: &ContainerId, answers: &mpsc::Sender<Answer>) {
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
