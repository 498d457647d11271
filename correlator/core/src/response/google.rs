//! Commands, filters and links for clusters of Google Kubernetes Engine.

use driftline_schemas::{Node, Pod};
use std::fmt::Write as _;

use super::quote;
use crate::resource::GoogleCluster;

const CONSOLE: &str = "https://console.cloud.google.com/kubernetes";

pub(super) fn cluster_link(google: &GoogleCluster<'_>) -> String {
    let GoogleCluster { project, location, cluster } = google;
    format!(
        "{CONSOLE}/clusters/details/{}/{}/details?project={}",
        percent(location),
        percent(cluster),
        percent(project)
    )
}

pub(super) fn pod_link(google: &GoogleCluster<'_>, pod: &Pod) -> String {
    let GoogleCluster { project, location, cluster } = google;
    format!(
        "{CONSOLE}/pod/{}/{}/{}/{}/details?project={}",
        percent(location),
        percent(cluster),
        percent(&pod.namespace),
        percent(&pod.name),
        percent(project)
    )
}

/// Filters for the pod's own log, and for its entries in the cluster's audit log.
pub(super) fn pod_filters(google: &GoogleCluster<'_>, pod: &Pod) -> [String; 2] {
    let GoogleCluster { project, location, cluster } = google;
    let labels = [("project_id", *project), ("location", *location), ("cluster_name", *cluster)];
    let labels = labels.map(|(name, value)| format!("resource.labels.{name}={}", literal(value))).join(" AND ");
    [
        format!(
            "resource.type=\"k8s_container\" AND {labels} AND resource.labels.namespace_name={} AND resource.labels.pod_name={}",
            literal(&pod.namespace),
            literal(&pod.name),
        ),
        format!(
            "logName={} AND resource.type=\"k8s_cluster\" AND {labels} AND {}",
            literal(&format!("projects/{project}/logs/cloudaudit.googleapis.com%2Factivity")),
            literal(&pod.name),
        ),
    ]
}

/// The node's console log, by its numeric instance id or, where the provider gives a path, by its name.
pub(super) fn node_filter(node: &Node) -> Option<String> {
    let id = &node.provider_id;
    let is_number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let by_id = is_number.then(|| format!("resource.labels.instance_id={}", literal(id)));
    let by_name = (!node.name.is_empty())
        .then(|| format!("labels.\"compute.googleapis.com/resource_name\"={}", literal(&node.name)));
    Some(format!("resource.type=\"gce_instance\" AND {}", by_id.or(by_name)?))
}

/// Regions are `europe-west1`, their zones `europe-west1-b`.
pub(super) fn credentials(google: &GoogleCluster<'_>) -> String {
    let GoogleCluster { project, location, cluster } = google;
    let zone = location.rsplit_once('-').is_some_and(|(region, zone)| {
        zone.len() == 1 && zone.bytes().all(|byte| byte.is_ascii_lowercase()) && region.contains('-')
    });
    let option = if zone { "--zone" } else { "--region" };
    format!(
        "gcloud container clusters get-credentials {} {option}={} --project={}",
        quote(cluster),
        quote(location),
        quote(project)
    )
}

/// A string of the logging query language.
fn literal(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A part of a link's path or query.
fn percent(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
