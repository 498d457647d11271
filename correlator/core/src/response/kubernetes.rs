//! `kubectl` commands.

use crate::text::{shell, utc};
use driftline_schemas::{Alert, Container, Node, Owner, Pod};

use super::{MARGIN_NS, quote};

/// Image of the debugging container; small, with a shell, in every mirror.
const DEBUG_IMAGE: &str = "busybox";

pub(super) fn describe_node(node: &Node) -> Option<String> {
    (!node.name.is_empty()).then(|| format!("kubectl describe node {}", quote(&node.name)))
}

pub(super) fn describe(pod: &Pod, owner: Option<&Owner>) -> Vec<String> {
    let namespace = quote(&pod.namespace);
    let mut commands = vec![
        format!("kubectl describe pod {} --namespace={namespace}", quote(&pod.name)),
        format!(
            "kubectl get events --namespace={namespace} --field-selector={}",
            quote(&format!("involvedObject.name={}", pod.name))
        ),
    ];
    commands.extend(owner.map(|owner| {
        let object = quote(&format!("{}/{}", owner.kind.to_lowercase(), owner.name));
        format!("kubectl get {object} --namespace={namespace} -o yaml")
    }));
    commands
}

pub(super) fn logs(pod: &Pod, container: &Container, alert: &Alert) -> [String; 1] {
    [format!(
        "kubectl logs {} --namespace={} -c {} --timestamps --since-time={}",
        quote(&pod.name),
        quote(&pod.namespace),
        quote(&container.name),
        utc::rfc3339(alert.first_seen_ns.saturating_sub(MARGIN_NS)),
    )]
}

pub(super) fn copy(pod: &Pod, container: &Container, path: &[u8], target: &str) -> String {
    let source = [format!("{}/{}:", pod.namespace, pod.name).as_bytes(), path].concat();
    format!("kubectl cp {} -c {} {target}", shell::quote(&source), quote(&container.name))
}

/// A shell of the image, and a shell from elsewhere for images that have none.
pub(super) fn enter(pod: &Pod, container: &Container) -> [String; 2] {
    let (namespace, name, container) = (quote(&pod.namespace), quote(&pod.name), quote(&container.name));
    [
        format!("kubectl exec --namespace={namespace} -ti {name} -c {container} -- /bin/sh"),
        format!("kubectl debug --namespace={namespace} -ti {name} --image={DEBUG_IMAGE} --target={container} -- sh"),
    ]
}

pub(super) fn remove(pod: &Pod) -> Vec<String> {
    vec![format!("kubectl delete pod {} --namespace={}", quote(&pod.name), quote(&pod.namespace))]
}
