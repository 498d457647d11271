//! The view of an image: every path with the node there. Our view and the tools' views have this one form.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use driftline_schemas::Sha256;

use crate::stack::{short, shown};

/// Every absolute path with the node there.
pub(crate) type View = BTreeMap<Vec<u8>, ViewNode>;

/// The node at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ViewNode {
    File {
        mode: u16,
        size_bytes: u64,
        sha256: Sha256,
    },
    Directory {
        mode: u16,
    },
    Symlink(Vec<u8>),
    /// Device or fifo.
    Device,
}

impl fmt::Display for ViewNode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { mode, size_bytes, sha256 } => write!(out, "file {mode:04o} {size_bytes} {}", short(sha256)),
            Self::Directory { mode } => write!(out, "directory {mode:04o}"),
            Self::Symlink(target) => write!(out, "symlink to {}", shown(target)),
            Self::Device => out.write_str("device"),
        }
    }
}

/// The view of a directory of this machine, without the directory itself.
pub(crate) fn below(root: &Path) -> anyhow::Result<View> {
    let mut view = View::new();
    let mut directories = vec![Vec::new()];
    while let Some(inside) = directories.pop() {
        let directory = root.join(OsStr::from_bytes(inside.strip_prefix(b"/").unwrap_or(&inside)));
        for entry in std::fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))? {
            let entry = entry?;
            let path = [inside.as_slice(), b"/", entry.file_name().as_bytes()].concat();
            // overlayfs lists a whiteout in a directory that it does not merge; there is no node at that path.
            let Some(node) = node(&entry.path()).with_context(|| format!("reading {}", shown(&path)))? else {
                continue;
            };
            if matches!(node, ViewNode::Directory { .. }) {
                directories.push(path.clone());
            }
            view.insert(path, node);
        }
    }
    Ok(view)
}

fn node(path: &Path) -> anyhow::Result<Option<ViewNode>> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mode = u16::try_from(metadata.permissions().mode() & 0o7777)?;
    Ok(Some(if metadata.is_dir() {
        ViewNode::Directory { mode }
    } else if metadata.is_symlink() {
        ViewNode::Symlink(std::fs::read_link(path)?.into_os_string().as_bytes().to_vec())
    } else if metadata.is_file() {
        let content = std::fs::read(path)?;
        ViewNode::File { mode, size_bytes: metadata.len(), sha256: Sha256::of(&content) }
    } else {
        ViewNode::Device
    }))
}
