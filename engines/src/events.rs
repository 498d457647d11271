//! Listens to what the runtimes tell unasked, so that nobody has to ask them every second what runs.
//!
//! An event is a reason to look, and nothing else of it is used: what runs is always asked for. So an event that is lost,
//! told twice or made up costs one look at most, and a look from time to time makes good for the lost one.

use std::future::Future;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::containerd::messages::Subscribe;
use crate::cri::messages::GetEventsRequest;
use crate::grpc::Grpc;
use crate::http::Api;
use crate::limits::{LISTEN_AGAIN, REFUSED_WITHIN};
use crate::{CONTAINERD, CRIO, DOCKER, PODMAN, RuntimeError, Runtimes, podman};

/// Starts and ends of containers, in the names of Docker and podman; their own programs' (`exec`) are no news. As the
/// query of a URL: `filters={"type":["container"],"event":["start","die","died"]}`.
const ENGINE_FILTER: &str = "filters=%7B%22type%22%3A%5B%22container%22%5D%2C\
                             %22event%22%3A%5B%22start%22%2C%22die%22%2C%22died%22%5D%7D";

/// The same for containerd, sandboxes included. `/tasks/exit` would come for every program of a container.
const CONTAINERD_FILTERS: [&str; 2] = [r#"topic=="/tasks/start""#, r#"topic=="/tasks/delete""#];

/// A runtime that tells what happens.
#[derive(Debug)]
pub(crate) enum Source {
    /// By its own events, which every version has. Its `GetContainerEvents` gives each event to one listener only before
    /// version 2, so a kubelet that listens, too, would miss what we hear.
    Containerd(Grpc),
    /// `GetContainerEvents`; CRI-O gives every event to all.
    Cri(Grpc),
    Docker(Api),
    Podman(Api),
}

impl Source {
    fn runtime(&self) -> &'static str {
        match self {
            Self::Containerd(_) => CONTAINERD,
            Self::Cri(_) => CRIO,
            Self::Docker(_) => DOCKER,
            Self::Podman(_) => PODMAN,
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
            Self::Podman(api) => {
                api.follow(&format!("{}/events?stream=true&{ENGINE_FILTER}", podman::API), on_event).await
            }
        }
    }
}

/// What was heard up to now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// How often there was a reason to look.
    pub reasons: u64,
    /// Runtimes with a socket that do not tell at the moment what happens.
    pub silent: usize,
}

impl Heard {
    fn event(&mut self) {
        self.reasons = self.reasons.wrapping_add(1);
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Listener {
    heard: watch::Receiver<Heard>,
    _tasks: JoinSet<()>,
}

impl Listener {
    /// Waits until there is a reason to look, or a runtime begins or ends to tell. Never returns when there is no runtime
    /// to listen to.
    pub async fn changed(&mut self) {
        if self.heard.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// What was heard up to now.
    pub fn heard(&mut self) -> Heard {
        *self.heard.borrow_and_update()
    }
}

impl Runtimes {
    /// Listens to all of them that have a socket.
    #[must_use]
    pub fn listen(&self) -> Listener {
        let cri = self.cri.iter().map(|cri| cri.source());
        let docker = self.docker.iter().map(|docker| Some(docker.source()));
        let podman = self.podman.iter().filter(|podman| podman.has_socket()).map(|podman| podman.source());
        let sources: Vec<Option<Source>> = cri.chain(docker).chain(podman).collect();
        let (sender, heard) = watch::channel(Heard { reasons: 0, silent: sources.len() });
        let mut tasks = JoinSet::new();
        for source in sources.into_iter().flatten() {
            tasks.spawn(listen(source, sender.clone()));
        }
        Listener { heard, _tasks: tasks }
    }
}

async fn listen(source: Source, heard: watch::Sender<Heard>) {
    let mut said = None;
    loop {
        let events = source.follow(|| heard.send_modify(Heard::event));
        let ended = until_ended(events, &heard).await;
        let why = ended.map_or_else(|error| error.to_string(), |()| "it ended the stream".to_owned());
        if said.as_ref() != Some(&why) {
            tracing::info!(runtime = source.runtime(), why, "events cannot be heard, so it is asked again and again");
        }
        said = Some(why);
        sleep(LISTEN_AGAIN).await;
    }
}

/// Waits for the end of a stream, and counts its runtime as one that tells as long as that takes.
async fn until_ended(
    events: impl Future<Output = Result<(), RuntimeError>>,
    heard: &watch::Sender<Heard>,
) -> Result<(), RuntimeError> {
    let mut events = std::pin::pin!(events);
    // A stream that was accepted says nothing until something happens; a refusal comes at once.
    if let Ok(refused) = timeout(REFUSED_WITHIN, &mut events).await {
        return refused;
    }
    heard.send_modify(|heard| {
        heard.silent = heard.silent.saturating_sub(1);
        // Something may have happened before it was listened to.
        heard.event();
    });
    let ended = events.await;
    heard.send_modify(|heard| heard.silent = heard.silent.saturating_add(1));
    ended
}
