//! Listens to the events of the runtimes, so that they need not be polled every second.
//!
//! An event only triggers a poll; its content is not used. So an event that is lost, duplicated or forged costs at most one
//! poll, and the polls from time to time make up for lost ones.

use std::future::Future;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::containerd::messages::Subscribe;
use crate::cri::messages::GetEventsRequest;
use crate::grpc::Grpc;
use crate::http::Api;
use crate::limits::{LISTEN_AGAIN, REFUSED_WITHIN};
use crate::{CONTAINERD, CRIO, DOCKER, PODMAN, RuntimeError, Runtimes};

/// Starts and ends of containers, as Docker and podman name them, without those of programs in them (`exec`). As the query of
/// a URL: `filters={"type":["container"],"event":["start","die","died"]}`.
const ENGINE_FILTER: &str = "filters=%7B%22type%22%3A%5B%22container%22%5D%2C\
                             %22event%22%3A%5B%22start%22%2C%22die%22%2C%22died%22%5D%7D";

/// The same for containerd, sandboxes included. `/tasks/exit` would come for every program of a container.
const CONTAINERD_FILTERS: [&str; 2] = [r#"topic=="/tasks/start""#, r#"topic=="/tasks/delete""#];

/// A runtime that sends events.
#[derive(Debug)]
pub(crate) enum EventSource {
    /// By its own events, which every version has. Its `GetContainerEvents` gives each event to one listener only before
    /// version 2, so a kubelet that listens, too, would miss events.
    Containerd(Grpc),
    /// `GetContainerEvents`; CRI-O sends every event to all listeners.
    Cri(Grpc),
    Docker(Api),
    /// With the version of the API as the beginning of the path.
    Podman(Api, &'static str),
}

impl EventSource {
    fn runtime(&self) -> &'static str {
        match self {
            Self::Containerd(_) => CONTAINERD,
            Self::Cri(_) => CRIO,
            Self::Docker(_) => DOCKER,
            Self::Podman(..) => PODMAN,
        }
    }

    /// Calls `on_event` with every event. Returns when there will be no more.
    async fn follow(&self, on_event: impl FnMut()) -> Result<(), RuntimeError> {
        match self {
            Self::Containerd(grpc) => {
                let filters = CONTAINERD_FILTERS.map(str::to_owned).to_vec();
                grpc.follow(Subscribe { filters }, on_event).await
            }
            Self::Cri(grpc) => grpc.follow(GetEventsRequest {}, on_event).await,
            Self::Docker(api) => api.follow(&format!("/events?{ENGINE_FILTER}"), on_event).await,
            Self::Podman(api, version) => {
                api.follow(&format!("{version}/events?stream=true&{ENGINE_FILTER}"), on_event).await
            }
        }
    }
}

/// Events up to now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// How many events came, and beginnings of streams, before which events may have been missed.
    pub received: u64,
    /// Runtimes with a socket that send no events at the moment.
    pub silent: usize,
}

impl EventCounts {
    fn event(&mut self) {
        self.received = self.received.wrapping_add(1);
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Listener {
    counts: watch::Receiver<EventCounts>,
    _tasks: JoinSet<()>,
}

impl Listener {
    /// Waits until an event comes, or a runtime begins or ceases to send events. Never returns when there is no runtime to
    /// listen to.
    pub async fn changed(&mut self) {
        if self.counts.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// The events up to now.
    pub fn counts(&mut self) -> EventCounts {
        *self.counts.borrow_and_update()
    }
}

impl Runtimes {
    /// Listens to all of them that have a socket.
    #[must_use]
    pub fn listen(&self) -> Listener {
        let cri = self.cri.iter().map(|cri| cri.source());
        let docker = self.docker.iter().map(|docker| Some(docker.source()));
        let podman = self.podman.iter().filter(|podman| podman.has_socket()).map(|podman| podman.source());
        let sources: Vec<Option<EventSource>> = cri.chain(docker).chain(podman).collect();
        let (sender, counts) = watch::channel(EventCounts { received: 0, silent: sources.len() });
        let mut tasks = JoinSet::new();
        for source in sources.into_iter().flatten() {
            tasks.spawn(listen(source, sender.clone()));
        }
        Listener { counts, _tasks: tasks }
    }
}

async fn listen(source: EventSource, counts: watch::Sender<EventCounts>) {
    let mut logged = None;
    loop {
        let events = source.follow(|| counts.send_modify(EventCounts::event));
        let ended = until_ended(events, &counts).await;
        let why = ended.map_or_else(|error| error.to_string(), |()| "it ended the stream".to_owned());
        if logged.as_ref() != Some(&why) {
            tracing::info!(runtime = source.runtime(), why, "the runtime sends no events, so it is polled");
        }
        logged = Some(why);
        sleep(LISTEN_AGAIN).await;
    }
}

/// Waits for the end of a stream. Until then its runtime does not count as silent.
async fn until_ended(
    events: impl Future<Output = Result<(), RuntimeError>>,
    counts: &watch::Sender<EventCounts>,
) -> Result<(), RuntimeError> {
    let mut events = std::pin::pin!(events);
    // An accepted stream is silent until something happens; a refusal comes at once.
    if let Ok(refused) = timeout(REFUSED_WITHIN, &mut events).await {
        return refused;
    }
    counts.send_modify(|counts| {
        counts.silent = counts.silent.saturating_sub(1);
        // Events before the stream began were missed.
        counts.event();
    });
    let ended = events.await;
    counts.send_modify(|counts| counts.silent = counts.silent.saturating_add(1));
    ended
}
