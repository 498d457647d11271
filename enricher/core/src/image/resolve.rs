//! Walks a path through symlinks with the image as its root, as the kernel does.
//!
//! Called for paths that are not in the index as written, for hard links that point through a symlinked directory of a
//! lower layer, and by the indexer for entries behind a symlink of their own layer.

use driftline_schemas::limits::PATH_BYTES_MAX;

/// Most symlinks followed in one path; the kernel's `MAXSYMLINKS`.
pub const LINKS_MAX: u32 = 40;

/// Most components walked, including those of symlink targets: as many as a path of the kernel's length can have.
const COMPONENTS_MAX: usize = PATH_BYTES_MAX / 2;

/// Treatment of a symlink in the last component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// The symlink is followed, as `execve` does.
    Followed,
    /// The symlink itself is the result, as for `link`.
    Kept,
}

/// The real path of `path`, where `link` returns the target of a symlink by its real path. The walked and the remaining
/// path must together stay within [`PATH_BYTES_MAX`].
#[must_use]
pub fn real_path<'a>(path: &[u8], last: Last, link: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Option<Vec<u8>> {
    let mut rest = path.strip_prefix(b"/").filter(|_| path.len() <= PATH_BYTES_MAX)?.to_vec();
    let mut real = Vec::with_capacity(path.len());
    let mut links_left = LINKS_MAX;
    for _ in 0..COMPONENTS_MAX {
        let (name, after) = first_component(&rest);
        let is_last = after.is_none();
        let parent_len = real.len();
        match name {
            b"" | b"." if is_last => return None,
            b"" | b"." => {}
            b".." if is_last => return None,
            b".." => real.truncate(parent(&real).len()),
            _ => {
                real.push(b'/');
                real.extend_from_slice(name);
            }
        }
        let descended = real.len() > parent_len;
        let target = link(&real).filter(|_| descended && !(is_last && last == Last::Kept));
        rest = match (target, after) {
            (None, None) => return Some(real),
            (None, Some(after)) => after.to_vec(),
            (Some(target), after) => {
                links_left = links_left.checked_sub(1)?;
                real.truncate(if target.starts_with(b"/") { 0 } else { parent_len });
                follow(target, after)?
            }
        };
        if real.len() + rest.len() > PATH_BYTES_MAX {
            return None;
        }
    }
    None
}

/// The remaining path after a symlink: its target, then the components that followed it.
fn follow(target: &[u8], after: Option<&[u8]>) -> Option<Vec<u8>> {
    let relative = target.strip_prefix(b"/").unwrap_or(target);
    if relative.is_empty() && after.is_none() {
        return None;
    }
    let mut rest = relative.to_vec();
    if let Some(after) = after {
        rest.push(b'/');
        rest.extend_from_slice(after);
    }
    Some(rest)
}

/// The first component, and the rest after its `/`, if there is one.
fn first_component(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    rest.iter()
        .position(|byte| *byte == b'/')
        .and_then(|at| rest.split_at_checked(at))
        .map_or((rest, None), |(name, slash)| (name, slash.split_first().map(|(_, after)| after)))
}

/// The directory of a real path; the empty path for a path in the root, and for the root.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..at).unwrap_or_default()
}
