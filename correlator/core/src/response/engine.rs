//! Commands of container engines, for containers that no cluster manages.

use crate::text::{shell, utc};
use driftline_schemas::{Alert, Container};

use super::{MARGIN_NS, quote};

/// A client on the container's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Podman,
    Docker,
    /// For containerd.
    Nerdctl,
    /// For CRI-O; `crictl` can neither copy files nor run a container beside another.
    Crictl,
}

impl Engine {
    pub(super) fn of(runtime: &str) -> Self {
        match runtime {
            "podman" => Self::Podman,
            "containerd" => Self::Nerdctl,
            "crio" | "cri-o" => Self::Crictl,
            _ => Self::Docker,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::Nerdctl => "nerdctl",
            Self::Crictl => "crictl",
        }
    }

    pub(super) fn info(self) -> String {
        format!("{} info", self.program())
    }

    pub(super) fn inspect(self, container: &Container) -> Vec<String> {
        vec![format!("{} inspect {}", self.program(), id(container))]
    }

    pub(super) fn logs(self, container: &Container, alert: &Alert) -> [String; 1] {
        let since = utc::rfc3339(alert.first_seen_ns.saturating_sub(MARGIN_NS));
        [format!("{} logs --timestamps --since={since} {}", self.program(), id(container))]
    }

    /// `None` where the client cannot copy.
    pub(super) fn copy(self, container: &Container, path: &[u8], target: &str) -> Option<String> {
        let source = [container.id.as_str().as_bytes(), b":", path].concat();
        let source = shell::quote(&source);
        (self != Self::Crictl).then(|| format!("{} cp {source} {target}", self.program()))
    }

    /// A shell of the image, and a shell from elsewhere for images that have none.
    pub(super) fn enter(self, container: &Container) -> Vec<String> {
        let program = self.program();
        let mut commands = vec![format!("{program} exec -ti {} /bin/sh", id(container))];
        if self != Self::Crictl {
            let beside = quote(&format!("container:{}", container.id));
            commands.push(format!("{program} run --rm -ti --pid={beside} busybox sh"));
        }
        commands
    }

    pub(super) fn remove(self, container: &Container) -> Vec<String> {
        let (program, id) = (self.program(), id(container));
        vec![format!("{program} stop {id}"), format!("{program} rm {id}")]
    }
}

/// The id, not the name: a name can be given to another container, an id cannot.
fn id(container: &Container) -> String {
    quote(container.id.as_str())
}
