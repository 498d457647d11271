//! The workload that a pod belongs to: not its replica set or job, but the controller of that.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};

use driftline_schemas::Owner;

use super::wire::controller;
use crate::limits::{PODS_MAX, TEXT_BYTES_MAX};
use crate::text::shortened;

/// How long one request may take: events of other pods wait behind it.
const QUESTION_MAX: Duration = Duration::from_secs(5);

/// What is made by something else as a rule: kind, group, plural.
const MADE_BY_OTHERS: [(&str, &str, &str); 2] = [("ReplicaSet", "apps", "replicasets"), ("Job", "batch", "jobs")];

/// Finds workloads, and remembers them: pods of one replica set come in numbers.
pub(super) struct Owners {
    client: Client,
    /// By uid of the pod's controller.
    known: BTreeMap<String, Owner>,
}

impl Owners {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: BTreeMap::new() }
    }

    /// The workload of a pod with this controller, and the error when the lookup of its own controller failed.
    pub(super) async fn of(&mut self, namespace: &str, direct: &OwnerReference) -> (Owner, Option<kube::Error>) {
        if let Some(known) = self.known.get(&direct.uid) {
            return (known.clone(), None);
        }
        let made = MADE_BY_OTHERS
            .into_iter()
            .find(|(kind, group, _)| direct.kind == *kind && direct.api_version.split('/').next() == Some(*group));
        let Some(made) = made else { return (owner(direct), None) };
        let found = match self.maker(namespace, direct, made).await {
            Ok(maker) => maker.as_ref().map_or_else(|| owner(direct), owner),
            Err(error) => return (owner(direct), Some(error)),
        };
        if self.known.len() >= PODS_MAX {
            self.known.clear();
        }
        self.known.insert(direct.uid.clone(), found.clone());
        (found, None)
    }

    /// What controls a pod's controller; nothing when nothing does, or when it is gone or another one by now.
    async fn maker(
        &self,
        namespace: &str,
        direct: &OwnerReference,
        (kind, group, plural): (&str, &str, &str),
    ) -> Result<Option<OwnerReference>, kube::Error> {
        let kind = GroupVersionKind::gvk(group, "v1", kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind, plural));
        let answer = tokio::time::timeout(QUESTION_MAX, api.get_metadata_opt(&direct.name)).await;
        let found = answer.map_err(|_| kube::Error::Service("no answer in time".into()))??;
        let found = found.filter(|found| found.metadata.uid.as_deref() == Some(direct.uid.as_str()));
        Ok(found.and_then(|found| controller(found.metadata.owner_references.unwrap_or_default())))
    }
}

fn owner(reference: &OwnerReference) -> Owner {
    Owner { kind: shortened(&reference.kind, TEXT_BYTES_MAX), name: shortened(&reference.name, TEXT_BYTES_MAX) }
}
