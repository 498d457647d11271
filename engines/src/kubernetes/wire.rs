//! What is read of the API's objects. Everything else of them is skipped while they are parsed, so that a pod of many
//! containers and managed fields takes no memory.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::Deserialize;

/// Zone of a node, and what the label was called before Kubernetes 1.17.
const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
/// On the API's picture of a pod that the kubelet runs from a file: the uid under which it runs it.
const MIRRORED_UID: &str = "kubernetes.io/config.mirror";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    annotations: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    owner_references: Vec<OwnerReference>,
}

/// The part that the client itself needs.
fn object_meta(metadata: &Metadata) -> ObjectMeta {
    let known = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    ObjectMeta {
        name: known(&metadata.name),
        namespace: known(&metadata.namespace),
        uid: known(&metadata.uid),
        resource_version: known(&metadata.resource_version),
        ..ObjectMeta::default()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WirePod {
    metadata: Metadata,
    spec: WirePodSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePodSpec {
    node_name: String,
    service_account_name: String,
}

/// A pod.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "WirePod")]
pub(super) struct ApiPod {
    meta: ObjectMeta,
    pub(super) namespace: String,
    /// Under which its containers run.
    pub(super) uid: String,
    pub(super) node: String,
    pub(super) service_account: String,
    pub(super) annotations: BTreeMap<String, String>,
    /// What controls it.
    pub(super) controller: Option<OwnerReference>,
}

impl From<WirePod> for ApiPod {
    fn from(pod: WirePod) -> Self {
        let WirePod { mut metadata, spec } = pod;
        let meta = object_meta(&metadata);
        let annotations = std::mem::take(&mut metadata.annotations);
        Self {
            meta,
            uid: annotations.get(MIRRORED_UID).cloned().unwrap_or(metadata.uid),
            namespace: metadata.namespace,
            node: spec.node_name,
            service_account: spec.service_account_name,
            annotations,
            controller: controller(metadata.owner_references),
        }
    }
}

/// Of several owners one at most controls.
pub(super) fn controller(owners: Vec<OwnerReference>) -> Option<OwnerReference> {
    owners.into_iter().find(|owner| owner.controller == Some(true))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireNode {
    metadata: Metadata,
    spec: WireNodeSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireNodeSpec {
    #[serde(rename = "providerID")]
    provider_id: String,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "WireNode")]
pub(super) struct ApiNode {
    meta: ObjectMeta,
    pub(super) provider_id: String,
    pub(super) zone: String,
}

impl From<WireNode> for ApiNode {
    fn from(node: WireNode) -> Self {
        let WireNode { metadata, spec } = node;
        let zone = ZONE.iter().find_map(|label| metadata.labels.get(*label)).cloned().unwrap_or_default();
        Self { meta: object_meta(&metadata), provider_id: spec.provider_id, zone }
    }
}

/// Implements what the client has to know of a type of the core group.
macro_rules! resource {
    ($type:ty, $kind:literal, $plural:literal, $scope:ty) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                "".into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.meta
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.meta
            }
        }
    };
}

resource!(ApiPod, "Pod", "pods", NamespaceResourceScope);
resource!(ApiNode, "Node", "nodes", ClusterResourceScope);
