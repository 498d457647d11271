//! The task that follows the API.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::access::{client, text};
use super::facts::{Facts, Noted, PodFacts};
use super::owners::Owners;
use super::wire::{ApiNode, ApiPod};
use super::{ApiTrouble, KubernetesSettings, News, Placement};
use crate::inspect::allowed;
use crate::limits::TEXT_BYTES_MAX;
use crate::text::shortened;

/// First pause after a request for the node that failed; each further one is twice as long.
const NODE_AGAIN: Duration = Duration::from_secs(1);
/// Longest such pause. Also the pause until a cloud's controller has set where a new node is.
const NODE_AGAIN_MAX: Duration = Duration::from_secs(60);
/// Where a node is does not change while it runs, but its labels can be mended.
const NODE_STAYS: Duration = Duration::from_secs(3_600);

pub(super) async fn run(settings: KubernetesSettings, facts: Facts, news: mpsc::Sender<News>) {
    let client = match client(&settings).await {
        Ok(client) => client,
        Err(why) => {
            tracing::warn!(why, "no client for the kubernetes API; owners and zone stay unknown");
            let _ = news.send(News::Trouble(ApiTrouble::Failed)).await;
            return;
        }
    };
    let pods = Pods {
        owners: Owners::new(client.clone()),
        state: ApiHealth::new("pods", news.clone()),
        of_one: ApiHealth::new("a pod's owner", news.clone()),
        settings: settings.clone(),
        facts,
        news: news.clone(),
    };
    let node = follow_node(client.clone(), settings.node, ApiHealth::new("node", news));
    tokio::join!(pods.follow(client), node);
}

/// The receiver is dropped.
struct Unheard;

/// Logs once that something began to fail, and once that it ended.
struct ApiHealth {
    what: &'static str,
    news: mpsc::Sender<News>,
    trouble: Option<ApiTrouble>,
}

impl ApiHealth {
    fn new(what: &'static str, news: mpsc::Sender<News>) -> Self {
        Self { what, news, trouble: None }
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!(what = self.what, "the kubernetes API answers again");
        }
    }

    async fn failed(&mut self, trouble: ApiTrouble, why: &str) -> Result<(), Unheard> {
        if self.trouble.replace(trouble) != Some(trouble) {
            let remedy = match trouble {
                ApiTrouble::Forbidden => {
                    "grant the collector's service account the ClusterRole of deploy/kubernetes/collector-rbac.yaml"
                }
                ApiTrouble::NoSuchNode => "set DRIFTLINE_NODE to the node's name, spec.nodeName of the collector's pod",
                ApiTrouble::TooMany => "the rest stays without owner",
                ApiTrouble::Failed => "the request is repeated; containers are reported with what the runtime knows",
            };
            tracing::warn!(what = self.what, why, remedy, "the kubernetes API does not answer");
        }
        self.news.send(News::Trouble(trouble)).await.map_err(|_| Unheard)
    }
}

fn trouble(error: &kube::Error) -> ApiTrouble {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => ApiTrouble::Forbidden,
        _ => ApiTrouble::Failed,
    }
}

fn trouble_of_watch(error: &watcher::Error) -> ApiTrouble {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => trouble(error),
        watcher::Error::WatchError(status) if matches!(status.code, 401 | 403) => ApiTrouble::Forbidden,
        _ => ApiTrouble::Failed,
    }
}

/// Follows the pods of this node.
struct Pods {
    settings: KubernetesSettings,
    facts: Facts,
    owners: Owners,
    state: ApiHealth,
    /// What concerns one pod, while the watch works; logged once.
    of_one: ApiHealth,
    news: mpsc::Sender<News>,
}

impl Pods {
    async fn follow(mut self, client: Client) {
        // From the API server's memory, as kubelets do, which it answers whole: a cluster's nodes must not make it read all
        // pods from its store, page by page.
        let config = watcher::Config { page_size: None, ..watcher::Config::default().any_semantic() };
        let config = config.fields(&format!("spec.nodeName={}", self.settings.node));
        let mut events = pin!(watcher(Api::<ApiPod>::all(client), config).default_backoff());
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            if self.take(event, &mut listed).await.is_err() {
                return;
            }
        }
    }

    async fn take(
        &mut self,
        event: Result<Event<ApiPod>, watcher::Error>,
        listed: &mut BTreeSet<String>,
    ) -> Result<(), Unheard> {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.state.failed(trouble_of_watch(&error), &text(&error)).await,
        };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.insert(pod.uid.clone());
                self.note(pod).await?;
            }
            Event::InitDone => {
                self.facts.retain_pods(listed);
                self.state.recovered();
            }
            Event::Apply(pod) => {
                self.state.recovered();
                self.note(pod).await?;
            }
            Event::Delete(pod) => self.facts.forget(&pod.uid),
        }
        Ok(())
    }

    async fn note(&mut self, pod: ApiPod) -> Result<(), Unheard> {
        // The selector requests this; a proxy between may ignore it.
        if pod.node != self.settings.node {
            return Ok(());
        }
        let owner = match &pod.controller {
            Some(direct) => {
                let (owner, error) = self.owners.of(&pod.namespace, direct).await;
                if let Some(error) = error {
                    self.of_one.failed(trouble(&error), &text(&error)).await?;
                }
                Some(owner)
            }
            None => None,
        };
        let facts = PodFacts {
            owner,
            service_account: shortened(&pod.service_account, TEXT_BYTES_MAX),
            annotations: allowed(&self.settings.annotations, &pod.annotations),
        };
        match self.facts.note(pod.uid.clone(), facts) {
            Noted::AsBefore => Ok(()),
            Noted::New => self.news.send(News::Pod(pod.uid)).await.map_err(|_| Unheard),
            Noted::Full => self.of_one.failed(ApiTrouble::TooMany, "more pods than a node can have").await,
        }
    }
}

/// Reads where the node is, until that is known.
async fn follow_node(client: Client, name: String, mut state: ApiHealth) {
    let api: Api<ApiNode> = Api::all(client);
    let mut pause = NODE_AGAIN;
    let mut sent = Placement::default();
    loop {
        let failed = match api.get_opt(&name).await {
            Ok(Some(node)) => {
                state.recovered();
                let placement = Placement {
                    provider_id: shortened(&node.provider_id, TEXT_BYTES_MAX),
                    zone: shortened(&node.zone, TEXT_BYTES_MAX),
                };
                pause = if placement.provider_id.is_empty() { NODE_AGAIN_MAX } else { NODE_STAYS };
                if placement == sent {
                    Ok(())
                } else {
                    sent = placement.clone();
                    state.news.send(News::Node(placement)).await.map_err(|_| Unheard)
                }
            }
            Ok(None) => state.failed(ApiTrouble::NoSuchNode, &format!("no node is named {name:?}")).await,
            Err(error) => state.failed(trouble(&error), &text(&error)).await,
        };
        if failed.is_err() {
            return;
        }
        tokio::select! {
            () = state.news.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = pause.saturating_mul(2).min(NODE_AGAIN_MAX);
    }
}
