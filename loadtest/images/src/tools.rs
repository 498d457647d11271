//! The independent tools: podman, which unpacks each layer into a directory of its own and lets overlayfs merge them,
//! and umoci, which unpacks one layer over the other.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::view::{self, View};

/// A tool's view of an image, or why there is none.
pub(crate) type Opinion = Result<View, String>;

/// Fails with the names of the tools that this machine lacks.
pub(crate) fn check_machine() -> anyhow::Result<()> {
    for program in ["podman", "skopeo", "umoci"] {
        run(program, ["--version"])
            .with_context(|| format!("{program} is needed; deploy/dev/needs.sh live images installs it"))?;
    }
    if !rustix::process::geteuid().is_root() {
        bail!("root is needed: devices are made and images mounted");
    }
    Ok(())
}

/// umoci's view of an image of a layout.
pub(crate) fn umoci(layout: &Path, name: &str, scratch: &Path) -> anyhow::Result<Opinion> {
    let rootfs = scratch.join("rootfs");
    let image = format!("{}:{name}", layout.display());
    let unpacked =
        run("umoci", [OsStr::new("raw"), "unpack".as_ref(), "--image".as_ref(), image.as_ref(), rootfs.as_ref()]);
    let opinion = match unpacked {
        Ok(_) => Ok(view::below(&rootfs).with_context(|| format!("umoci's {name}"))?),
        Err(error) => Err(error.to_string()),
    };
    if rootfs.exists() {
        std::fs::remove_dir_all(&rootfs)?;
    }
    Ok(opinion)
}

/// An image store of podman in a directory of its own; dropping it unmounts and removes everything.
pub(crate) struct Store {
    root: PathBuf,
    run: PathBuf,
}

impl Store {
    pub(crate) fn new(directory: &Path) -> std::io::Result<Self> {
        let (root, run) = (directory.join("podman"), directory.join("podman-run"));
        std::fs::create_dir_all(&root)?;
        std::fs::create_dir_all(&run)?;
        Ok(Self { root, run })
    }

    /// podman's view of an image of a layout.
    pub(crate) fn opinion(&self, layout: &Path, name: &str) -> anyhow::Result<Opinion> {
        let reference = format!("localhost/stack:{name}");
        let to = format!("containers-storage:[overlay@{}+{}]{reference}", self.root.display(), self.run.display());
        let from = format!("oci:{}:{name}", layout.display());
        if let Err(error) = run("skopeo", ["--insecure-policy", "copy", "--quiet", &from, &to]) {
            return Ok(Err(error.to_string()));
        }
        let mounted = match self.podman(&["image", "mount", &reference]) {
            Ok(mounted) => mounted,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let view = view::below(Path::new(mounted.trim())).with_context(|| format!("podman's {name}"))?;
        self.podman(&["image", "unmount", &reference])?;
        Ok(Ok(view))
    }

    fn podman(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all: Vec<&OsStr> = vec!["--root".as_ref(), self.root.as_ref(), "--runroot".as_ref(), self.run.as_ref()];
        all.extend(["--storage-driver=overlay", "--runtime=runc", "--cgroup-manager=cgroupfs"].map(OsStr::new));
        all.extend(arguments.iter().map(OsStr::new));
        run("podman", all)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // A failed command may have left mounts; nothing below them is removed before they are unmounted.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = self.root.to_string_lossy().into_owned();
        let mut below: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        below.retain(|mount| mount.starts_with(&root));
        for mount in below.iter().rev() {
            if let Err(error) = run("umount", ["--lazy", mount]) {
                anstream::eprintln!("{error}");
            }
        }
        for directory in [&self.root, &self.run] {
            if let Err(error) = std::fs::remove_dir_all(directory) {
                anstream::eprintln!("removing {}: {error}", directory.display());
            }
        }
    }
}

/// Runs a program; returns its standard output, or its standard error on failure.
fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
