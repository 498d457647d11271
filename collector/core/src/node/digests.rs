//! Which digests are asked for, and what becomes of them: those in time, and those that come when their exec has gone out.

use driftline_schemas::ContainerId;
use driftline_schemas::topics::Topic;
use driftline_service_core::BrokenInvariant;

use super::late::LateExec;
use super::{Ask, Fx, Node};
use crate::class::ContainerRoot;
use crate::digest::{Digest, DigestJob, DigestOutcome, DigestSubject, LoaderJob, View};
use crate::event::{self, Surroundings};
use crate::mounts::Mounts;
use crate::raw::{KnownFile, Moment};

impl Node {
    /// Finds out whether an exec needs a digest, and gets it: remembered, hashed, or refused for lack of budget.
    pub(super) fn want_digest(&mut self, now_ns: i64, id: &ContainerId, moment: Moment, effects: &mut Fx) {
        let Some(tracked) = self.containers.get(id) else { return };
        let Some(held) = tracked.held.get(&moment) else { return };
        if held.digest.is_some() || held.is_hashing || !held.needs_digest(tracked.root, &tracked.mounts) {
            return;
        }
        let first_inside = self.first_inside(held);
        let Some(tracked) = self.containers.get_mut(id) else { return };
        let Some(held) = tracked.held.get_mut(&moment) else { return };
        let view = View { init_pid: tracked.init_pid, root: tracked.root, mounts: &tracked.mounts };
        let mut job = match DigestJob::of(id, &held.exec, view, self.boot_offset_ns.unwrap_or(0)) {
            Ok(job) => job,
            Err(refused) => {
                held.digest = Some(DigestOutcome::of(refused));
                return;
            }
        };
        job.roots.extend(first_inside.filter(|pid| !job.roots.contains(pid)));
        let remembered = job.executable().and_then(|file| self.digests.get(&file));
        if let Some(sha256) = remembered {
            effects.count("digest_remembered");
            match job.subject {
                DigestSubject::File(file) => {
                    if !held.exec.is_known() {
                        effects.ask(Ask::Know(KnownFile::from(&file)));
                    }
                    held.digest = Some(DigestOutcome::of(Digest::Hashed(sha256)));
                    return;
                }
                // Of a subject that is known by name only, nobody knows which file it is.
                DigestSubject::Named { .. } => job.loader = Some(LoaderJob::Known(sha256)),
            }
        }
        if tracked.budget.take(now_ns, &job) {
            held.is_hashing = true;
            effects.ask(Ask::Digest(Box::new(job)));
        } else {
            held.digest = Some(DigestOutcome::of(Digest::OverBudget));
            held.postponed = Some(Box::new(job));
            effects.ask(Ask::Keep(id.clone(), moment));
        }
    }

    pub(super) fn on_digested(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        moment: Moment,
        outcome: DigestOutcome,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let id = &self.holder(id, moment);
        let held = self.containers.get_mut(id).and_then(|tracked| tracked.held.get_mut(&moment));
        let Some(held) = held else { return self.on_digested_late(id, moment, &outcome, effects) };
        if let Some(sha256) = outcome.to_remember() {
            self.digests.put(&held.exec.file, sha256);
        }
        held.digest = Some(outcome);
        self.release(now_ns, id, effects)
    }

    /// The exec went out without it: the same goes out again, with it.
    fn on_digested_late(
        &mut self,
        id: &ContainerId,
        moment: Moment,
        outcome: &DigestOutcome,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(late) = self.late.take(id, moment) else {
            effects.count("digest_too_late");
            return Ok(());
        };
        let LateExec { exec, inner, time_ns, .. } = late;
        if let Some(sha256) = outcome.to_remember() {
            self.digests.put(&exec.file, sha256);
        }
        let unknown = Mounts::default();
        let tracked = self.containers.get(id);
        let root = tracked.and_then(|tracked| tracked.root).unwrap_or_else(|| ContainerRoot::of_process(&exec));
        let mounts = tracked.map_or(&unknown, |tracked| &tracked.mounts);
        let programs = &self.programs;
        let at = Surroundings {
            settings: &self.settings,
            container: id,
            root: &root,
            mounts,
            programs,
            inner: inner.as_ref(),
        };
        effects.count("digest_late");
        effects.emit(Topic::ExecEvents, id.as_str(), &event::exec(&exec, at, Some(outcome), time_ns))
    }

    /// The shell has no room for a job: its exec goes out without waiting, and the job waits for its turn.
    pub(super) fn on_not_hashed(
        &mut self,
        now_ns: i64,
        job: Box<DigestJob>,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let id = self.holder(&job.container, job.moment);
        effects.count("digest_postponed");
        let held = self.containers.get_mut(&id).and_then(|tracked| tracked.held.get_mut(&job.moment));
        let Some(held) = held else {
            if self.late.wants(&id, job.moment) {
                self.late.postpone(&id, job);
            } else {
                effects.ask(Ask::Drop(job.moment));
            }
            return Ok(());
        };
        held.digest = Some(DigestOutcome::of(Digest::OverBudget));
        held.postponed = Some(job);
        self.release(now_ns, &id, effects)
    }

    /// Asks for the digests of execs that went out, as far as their containers' budgets allow.
    pub(super) fn hash_late(&mut self, now_ns: i64, effects: &mut Fx) {
        let containers = &self.containers;
        for moment in self.late.forget(now_ns, |id| containers.contains_key(id)) {
            effects.count("late_digest_forgotten");
            effects.ask(Ask::Drop(moment));
        }
        for id in self.late.containers() {
            let Some(tracked) = self.containers.get_mut(&id) else { continue };
            for job in self.late.affordable(now_ns, &id, &mut tracked.budget) {
                effects.ask(Ask::Digest(Box::new(job)));
            }
        }
    }
}
