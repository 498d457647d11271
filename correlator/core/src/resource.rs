//! Full resource name of the cluster.

use driftline_schemas::Node;

/// A cluster of Google Kubernetes Engine, as its commands and links name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GoogleCluster<'a> {
    pub project: &'a str,
    pub location: &'a str,
    pub cluster: &'a str,
}

/// The Google cluster of a node, if the settings of its collector name one.
pub(crate) fn google_cluster(node: &Node) -> Option<GoogleCluster<'_>> {
    let cluster = GoogleCluster { project: &node.project, location: &node.location, cluster: &node.cluster };
    let known = [cluster.project, cluster.location, cluster.cluster].iter().all(|text| !text.is_empty());
    known.then_some(cluster)
}

/// Full resource name: Google's form for a cluster there, else driftline's own.
pub(crate) fn full_name(node: &Node) -> String {
    google_cluster(node).map_or_else(
        || format!("//driftline/clusters/{}", node.cluster),
        |GoogleCluster { project, location, cluster }| {
            format!("//container.googleapis.com/projects/{project}/locations/{location}/clusters/{cluster}")
        },
    )
}
