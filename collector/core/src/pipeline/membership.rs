//! What shows that a process is in a container though its cgroup is not the container's: its namespaces, and the file system of
//! its root. Who may make or change cgroups can leave the container's, and `nsenter` from the node does not join it.
//!
//! Numbers of namespaces and superblocks are used again when their last user is gone. So they show something only of a
//! container that runs, and are forgotten with it.

use std::collections::VecDeque;

use crate::container_root::ContainerRoot;
use crate::limits;
use crate::raw::{Dev, RawExec};

/// What a process has of a container, from the strongest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sign {
    /// The mount namespace of its first process.
    MountNamespace,
    /// Its overlay as the root directory.
    Root,
    /// A mount namespace in which a process of its cgroup executed something.
    EnteredMountNamespace,
    /// A pid namespace of the same kind. The containers of a pod may have one together.
    PidNamespace,
    /// An ancestor that runs a program of its overlay.
    Ancestor,
}

/// What processes in a container's cgroup had of it.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    mount: VecDeque<u32>,
    pid: VecDeque<u32>,
    /// The root of one with the node's process ids, until it is inspected.
    overlay: Option<Dev>,
}

impl Namespaces {
    /// Takes those of a process in the container's cgroup. With the node's process ids it may be the runtime's, or in a
    /// namespace of the node's services: then only an overlay counts on which none of its ancestors is.
    pub(super) fn learn(&mut self, exec: &RawExec, host_mnt_ns: u32) {
        if exec.mnt_ns == host_mnt_ns {
            return;
        }
        if !exec.is_in_host_pid_ns() {
            put(&mut self.mount, exec.mnt_ns);
            if !exec.is_in_nested_pid_ns() {
                put(&mut self.pid, exec.pid_ns);
            }
        } else if self.overlay.is_none()
            && exec.has_overlay_root()
            && !ContainerRoot::of_process(exec).is_of_an_ancestor(exec)
        {
            self.overlay = Some(exec.root_dev);
        }
    }

    /// The strongest sign that a process outside of the container's cgroup is in the container.
    pub(super) fn sign(&self, exec: &RawExec, root: Option<&ContainerRoot>) -> Option<Sign> {
        let overlay = root.map_or(self.overlay, |root| root.overlay.then_some(root.dev));
        let is_root = exec.has_overlay_root() && overlay == Some(exec.root_dev);
        let signs = [
            (Sign::MountNamespace, root.is_some_and(|root| root.mount_ns == exec.mnt_ns)),
            (Sign::Root, is_root),
            (Sign::EnteredMountNamespace, self.mount.contains(&exec.mnt_ns)),
            (Sign::PidNamespace, !exec.is_in_host_pid_ns() && self.pid.contains(&exec.pid_ns)),
            (Sign::Ancestor, exec.ancestors.iter().any(|ancestor| overlay == Some(ancestor.dev))),
        ];
        signs.into_iter().find_map(|(sign, is_there)| is_there.then_some(sign))
    }
}

/// Notes a namespace; the oldest goes.
fn put(known: &mut VecDeque<u32>, number: u32) {
    if number == 0 || known.contains(&number) {
        return;
    }
    known.truncate(limits::NAMESPACES - 1);
    known.push_front(number);
}
