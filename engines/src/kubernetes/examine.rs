//! Whether the API allows the requests of the collector. Called by `driftline-collector doctor`.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::access::{client, text};
use super::wire::ApiNode;
use super::{Access, KubernetesSettings};

/// How long all questions together may take.
const EXAMINATION_MAX: Duration = Duration::from_secs(15);

/// What the collector has to be allowed: verb, group, resource.
const NEEDED: [(&str, &str, &str); 5] = [
    ("list", "", "pods"),
    ("watch", "", "pods"),
    ("get", "", "nodes"),
    ("get", "apps", "replicasets"),
    ("get", "batch", "jobs"),
];

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    /// No API is used, for this reason.
    Off(&'static str),
    /// It is not reachable.
    Unreachable(String),
    /// It answers, and does not allow this.
    Forbidden(Vec<String>),
    /// It answers, and knows no node of this name.
    NoSuchNode(String),
    /// It allows all requests; its version.
    Well(String),
}

/// Asks.
pub async fn examine(settings: &KubernetesSettings) -> Examined {
    match settings.access {
        Access::Off => return Examined::Off("DRIFTLINE_KUBERNETES is off"),
        Access::NoPod => return Examined::Off("not in a pod of a cluster"),
        Access::Pod | Access::Kubeconfig(_) => {}
    }
    let requests = async {
        let client = client(settings).await?;
        ask(&client, &settings.node).await.map_err(text)
    };
    match tokio::time::timeout(EXAMINATION_MAX, requests).await {
        Ok(Ok(examined)) => examined,
        Ok(Err(why)) => Examined::Unreachable(why),
        Err(_) => Examined::Unreachable(format!("no answer within {} s", EXAMINATION_MAX.as_secs())),
    }
}

async fn ask(client: &Client, node: &str) -> Result<Examined, kube::Error> {
    let version = client.apiserver_version().await?.git_version;
    let mut forbidden = Vec::new();
    for (verb, group, resource) in NEEDED {
        if !may(client, verb, group, resource).await? {
            forbidden.push(format!("{verb} {resource}"));
        }
    }
    if !forbidden.is_empty() {
        return Ok(Examined::Forbidden(forbidden));
    }
    match Api::<ApiNode>::all(client.clone()).get_opt(node).await? {
        Some(_) => Ok(Examined::Well(version)),
        None => Ok(Examined::NoSuchNode(node.to_owned())),
    }
}

async fn may(client: &Client, verb: &str, group: &str, resource: &str) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
