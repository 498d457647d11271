//! The root file system of a container, against which its files are judged.

use crate::raw::{Dev, RawExec};

/// Root file system of a container: that of its first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerRoot {
    /// Its superblock. Each container's overlay is its own.
    pub dev: Dev,
    /// Its mount, when known.
    pub mnt_id: Option<u32>,
    /// Mount namespace.
    pub mount_ns: u32,
    /// Whether it is an overlay.
    pub overlay: bool,
}

impl ContainerRoot {
    /// The root of the process that executed; it is the container's when nothing better is known.
    #[must_use]
    pub fn of_process(exec: &RawExec) -> Self {
        Self {
            dev: exec.root_dev,
            mnt_id: Some(exec.root_mnt_id),
            mount_ns: exec.mnt_ns,
            overlay: exec.has_overlay_root(),
        }
    }

    /// Whether an ancestor of the process runs a program of this root: the process was made inside, by no runtime. A plain
    /// root shares its superblock with the node's files and proves nothing.
    #[must_use]
    pub fn is_of_an_ancestor(&self, exec: &RawExec) -> bool {
        self.overlay && exec.ancestors.iter().any(|ancestor| ancestor.dev == self.dev)
    }
}
