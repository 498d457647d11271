//! The Kubernetes API, as far as it knows of this node's pods what no runtime does: the workload they belong to, their
//! service account, their annotations as they are now; and of the node its provider's id and its zone.
//!
//! One task lists and watches the pods of this node ([`watch`]), retains the few facts that are needed of each ([`Facts`]), and
//! notifies of changes. Nothing waits for it: a container is described with what is known, and described again when more is.
//! The API may be unreachable, slow, or refuse: that is reported, and everything else goes on.
//!
//! What is deliberately absent: any change to anything, secrets, pods of other nodes.

mod access;
mod examine;
mod facts;
mod owners;
mod watch;
mod wire;

use std::path::PathBuf;

use driftline_settings::{Settings, table};

pub use examine::{Examined, examine};
pub use facts::Facts;

/// Value of the setting: in a pod of a cluster, that cluster's API.
const AUTO: &str = "auto";
/// Value of the setting: none.
const OFF: &str = "off";

/// Which API is used, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSettings {
    access: Access,
    /// Name of this node in the cluster.
    node: String,
    /// Annotations that may be reported, see [`crate::RuntimeSettings::annotations`].
    annotations: Vec<String>,
}

/// How the API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Access {
    /// As a pod's service account.
    Pod,
    /// By a kubeconfig file.
    Kubeconfig(PathBuf),
    /// None: the settings turn it off.
    Off,
    /// It is not, because this is no pod.
    NoPod,
}

impl KubernetesSettings {
    /// Reads the settings.
    #[must_use]
    pub fn read(node: &str, annotations: &[String], settings: &mut Settings) -> Self {
        let access = match settings.get(&table::KUBERNETES).as_str() {
            OFF => Access::Off,
            // The kubelet gives it to every pod.
            AUTO if settings.environment("KUBERNETES_SERVICE_HOST").is_some() => Access::Pod,
            AUTO => Access::NoPod,
            path => Access::Kubeconfig(path.into()),
        };
        Self { access, node: node.to_owned(), annotations: annotations.to_vec() }
    }

    /// Whether an API is used at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !matches!(self.access, Access::Off | Access::NoPod)
    }
}

/// Where the node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The cloud provider's id of it.
    pub provider_id: String,
    /// Its zone.
    pub zone: String,
}

/// Why the API does not return something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiTrouble {
    /// It refuses.
    Forbidden,
    /// It knows no node of this name.
    NoSuchNode,
    /// It is not reached, or answers with something else than expected.
    Failed,
    /// It knows more pods of this node than can be.
    TooMany,
}

impl ApiTrouble {
    /// Label of the metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::NoSuchNode => "no_such_node",
            Self::Failed => "failed",
            Self::TooMany => "too_many",
        }
    }
}

/// What the task notifies of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// More, or something else, is known of the pod with this uid.
    Pod(String),
    /// Where the node is.
    Node(Placement),
    /// A request failed.
    Trouble(ApiTrouble),
}

/// Notices that wait: those of all pods of a large node, at once.
const NEWS: usize = 512;

/// Starts the task, if the settings name an API. It ends when the receiver is dropped.
#[must_use]
pub fn start(settings: &KubernetesSettings) -> (Facts, tokio::sync::mpsc::Receiver<News>) {
    let facts = Facts::default();
    let (news, receiver) = tokio::sync::mpsc::channel(NEWS);
    if settings.is_on() {
        tokio::spawn(watch::run(settings.clone(), facts.clone(), news));
    }
    (facts, receiver)
}
