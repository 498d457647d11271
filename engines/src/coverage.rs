//! Which runtimes run a container's programs as processes of this kernel. Others have a kernel of their own, in a
//! program (gVisor) or in a virtual machine (Kata): their execs cannot be seen from here, which has to be reported.

/// Parts of the names of runtimes, handlers and shims whose programs this kernel does not execute. WebAssembly shims run
/// modules, which are not executed.
const OWN_KERNEL: [&str; 6] = ["runsc", "gvisor", "kata", "firecracker", "krun", "wasm"];

/// Shims of containerd that call a runtime of the OCI on this kernel.
const SHIMS: [&str; 2] = ["io.containerd.runc.", "io.containerd.runtime.v1.linux"];

/// Whether the node's kernel sees the programs of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Coverage {
    /// It executes them.
    #[default]
    Seen,
    /// Another kernel does.
    Unseen,
}

/// Judges by the shim, where there is one, and the name under which the runtime is configured. A shim that is not known
/// is taken for unseen: better reported once too often.
pub(crate) fn coverage(shim: &str, name: &str) -> Coverage {
    let has_own_kernel = |text: &str| OWN_KERNEL.iter().any(|part| text.to_ascii_lowercase().contains(part));
    let is_known_shim = shim.is_empty() || SHIMS.iter().any(|known| shim.starts_with(known));
    if has_own_kernel(name) || !is_known_shim { Coverage::Unseen } else { Coverage::Seen }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_with_a_kernel_of_their_own_are_recognised() {
        let check =
            |shim: &str, name: &str, expect: Coverage| assert_eq!(coverage(shim, name), expect, "{shim} {name}");
        check("io.containerd.runc.v2", "", Coverage::Seen);
        check("io.containerd.runc.v2", "nvidia", Coverage::Seen);
        check("io.containerd.runtime.v1.linux", "runc", Coverage::Seen);
        check("", "crun", Coverage::Seen);
        check("", "", Coverage::Seen);
        check("io.containerd.runsc.v1", "gvisor", Coverage::Unseen);
        check("io.containerd.kata-qemu.v2", "sandboxed", Coverage::Unseen);
        check("io.containerd.something.v1", "something", Coverage::Unseen);
        check("", "kata-runtime", Coverage::Unseen);
        check("", "/usr/local/bin/runsc", Coverage::Unseen);
    }
}
