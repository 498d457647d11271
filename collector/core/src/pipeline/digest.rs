//! Step 4, digest: where the digest of an exec comes from. It is remembered, commanded, or postponed for lack of budget.

use super::held::HeldExec;
use super::input::{Fx, PipelineCommand};
use super::subject::DigestNeed;
use crate::digest::{Budget, Digest, DigestCache, DigestOutcome, DigestSubject, LoaderJob};
use crate::raw::KnownFile;

/// Answers the need of an exec from `remembered`, or from the `budget` of its container.
pub(super) fn request(
    now_ns: i64,
    need: DigestNeed,
    held: &mut HeldExec,
    budget: &mut Budget,
    remembered: &DigestCache,
    effects: &mut Fx,
) {
    let mut job = match need {
        DigestNeed::Nothing => return,
        DigestNeed::Refused(refused) => {
            held.digest = Some(DigestOutcome::of(refused));
            return;
        }
        DigestNeed::Hash(job) => job,
    };
    if let Some(sha256) = job.executable().and_then(|file| remembered.get(&file)) {
        effects.count("digest_remembered");
        match job.subject {
            DigestSubject::File(file) => {
                if !held.exec.is_known() {
                    effects.command(PipelineCommand::MarkKnown(KnownFile::from(&file)));
                }
                held.digest = Some(DigestOutcome::of(Digest::Hashed(sha256)));
                return;
            }
            // Which file a subject is that is known by name only, the kernel does not record: it has to be hashed. What is
            // remembered is the loader.
            DigestSubject::Named { .. } => job.loader = Some(LoaderJob::Known(sha256)),
        }
    }
    if budget.take(now_ns, &job) {
        held.is_hashing = true;
        effects.command(PipelineCommand::Hash(job));
    } else {
        effects.command(PipelineCommand::Retain(job.container.clone(), job.moment));
        held.postpone(job);
    }
}
