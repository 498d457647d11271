//! Step 3, subject: which file of an exec is judged, and whether its digest has to be known.

use driftline_schemas::ContainerId;

use super::container_state::ContainerState;
use super::held::HeldExec;
use crate::class;
use crate::digest::{Digest, DigestJob};

/// What has to be hashed for an exec.
#[derive(Debug)]
pub(super) enum DigestNeed {
    /// The digest is not needed, or has a request already.
    Nothing,
    /// The subject must not be opened.
    Refused(Digest),
    Hash(Box<DigestJob>),
}

/// Judges an exec by what is known of its container now. `first_inside` is the first process of the container inside it in
/// which the exec ran.
pub(super) fn need(
    held: &HeldExec,
    (id, container): (&ContainerId, &ContainerState),
    first_inside: Option<u32>,
    boot_offset_ns: i64,
) -> DigestNeed {
    if held.has_digest_request() {
        return DigestNeed::Nothing;
    }
    let root = container.root_of(&held.exec);
    let (class, _) = class::class(&held.exec, &root, &container.mounts);
    if !class::needs_digest(&held.exec, class) {
        return DigestNeed::Nothing;
    }
    match DigestJob::of(id, &held.exec, container.view(), boot_offset_ns) {
        Ok(mut job) => {
            job.roots.extend(first_inside.filter(|pid| !job.roots.contains(pid)));
            DigestNeed::Hash(Box::new(job))
        }
        Err(refused) => DigestNeed::Refused(refused),
    }
}
