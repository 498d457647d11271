//! Advances one container: judges its parked execs from the head and amends its unresolved findings, for as long as
//! metadata, image and budget allow.

use std::sync::Arc;

use driftline_schemas::ContainerId;
use driftline_service_core::BrokenInvariant;

use super::images::printable_reason;
use super::{Enricher, Fx, ImageAnswer, Kind, container_key};
use crate::container::{Change, Queued};
use crate::image::ImageIndex;
use crate::judging::judge;
use crate::limits::PARKED_BYTES_MAX;

/// Whether the head of a container's queue can be judged.
pub(super) enum Readiness {
    Ready(Arc<ImageIndex>),
    WithoutImage(String),
    Wait(&'static str),
}

impl Enricher {
    /// Does everything for a container that is possible now; called after every change that may allow more.
    pub(super) fn proceed(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.report_flaw(now_ns, id, effects)?;
        self.advance(now_ns, id, effects)?;
        self.amend(now_ns, id, effects)?;
        self.index(id);
        Ok(())
    }

    /// Continues with the containers that were left when the budget was used up.
    pub(super) fn continue_backlog(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        while self.budget > 0
            && let Some(id) = self.backlog.pop_first()
        {
            self.proceed(now_ns, &id, effects)?;
        }
        Ok(())
    }

    pub(super) fn readiness(&self, id: &ContainerId) -> Readiness {
        let Some(tracked) = self.containers.get(id) else { return Readiness::Wait("no_metadata") };
        let waiting = |reason| match &tracked.given_up {
            Some(given_up) => Readiness::WithoutImage(given_up.clone()),
            None => Readiness::Wait(reason),
        };
        let Some(seen) = &tracked.seen else { return waiting("no_metadata") };
        if seen.unseen {
            // The node's kernel does not see the execs of the container, so no image explains what it sees.
            return Readiness::WithoutImage(format!(
                "unsupported_runtime: {}",
                printable_reason(&seen.runtime_handler)
            ));
        }
        let Some(image) = tracked.image() else { return Readiness::WithoutImage("image_id_unknown".to_owned()) };
        match self.images.get(image).and_then(|image| image.answer.as_ref()) {
            Some(ImageAnswer::Ready { index, .. }) => Readiness::Ready(Arc::clone(index)),
            Some(ImageAnswer::Failed { reason, .. }) => Readiness::WithoutImage(format!("image_failed: {reason}")),
            Some(ImageAnswer::Missing | ImageAnswer::Dropped { .. }) | None => waiting("no_manifest"),
        }
    }

    /// Judges the container's execs without the image from now on.
    pub(super) fn give_up(&mut self, id: &ContainerId, reason: &'static str, effects: &mut Fx) {
        let Some(tracked) = self.containers.get_mut(id) else { return };
        tracked.given_up = Some(reason.to_owned());
        tracked.deadline_ns = None;
        effects.touch(tracked.partition, container_key(id));
    }

    /// Judges parked execs from the head for as long as that is possible.
    fn advance(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.need_image(id, effects);
        let readiness = self.readiness(id);
        if matches!(readiness, Readiness::Ready(_)) {
            self.resume_with_image(id, effects);
            self.note_use(id);
        }
        loop {
            let Some(tracked) = self.containers.get(id) else { return Ok(()) };
            if tracked.parked.is_empty() {
                self.stop_waiting(id, effects);
                return Ok(());
            }
            let image = match &readiness {
                Readiness::Ready(index) => Ok(index.as_ref()),
                Readiness::WithoutImage(reason) => Err(reason.as_str()),
                Readiness::Wait(_) if tracked.parked_bytes > PARKED_BYTES_MAX => {
                    effects.count("parking_full");
                    Err("parking_full")
                }
                Readiness::Wait(_) => {
                    self.wait(now_ns, id, effects);
                    return Ok(());
                }
            };
            if self.budget == 0 {
                self.backlog.insert(id.clone());
                return Ok(());
            }
            self.budget -= 1;
            match self.unpark(id, effects) {
                Some((offset, Queued::Exec(exec))) => {
                    let verdict = judge(&exec, image);
                    self.settle(now_ns, offset, exec, &verdict, effects)?;
                }
                Some((offset, Queued::Throttled(throttled))) => self.report_throttle(offset, &throttled, effects)?,
                None => {}
            }
        }
    }

    fn unpark(&mut self, id: &ContainerId, effects: &mut Fx) -> Option<(i64, Queued)> {
        let tracked = self.containers.get_mut(id)?;
        let (offset, parked) = tracked.unpark()?;
        if parked.in_changelog {
            effects.touch(tracked.partition, Kind::parked(&parked.event).key(id, offset));
        }
        if let Some(partition) = self.partitions.get_mut(&tracked.partition) {
            partition.parked -= 1;
            partition.parked_bytes -= parked.bytes;
        }
        Some((offset, parked.event))
    }

    /// Sets the deadline of a container that must wait.
    fn wait(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) {
        if let Some(tracked) = self.containers.get_mut(id)
            && tracked.deadline_ns.is_none()
        {
            tracked.deadline_ns = Some(now_ns.saturating_add(self.settings.park_ns));
            effects.touch(tracked.partition, container_key(id));
        }
    }

    pub(super) fn stop_waiting(&mut self, id: &ContainerId, effects: &mut Fx) {
        if let Some(tracked) = self.containers.get_mut(id)
            && tracked.deadline_ns.take().is_some()
        {
            effects.touch(tracked.partition, container_key(id));
        }
    }

    /// Clears the reason for judging without an image, because the image is in memory or can be loaded again.
    pub(super) fn resume_with_image(&mut self, id: &ContainerId, effects: &mut Fx) {
        if let Some(tracked) = self.containers.get_mut(id)
            && tracked.given_up.take().is_some()
        {
            effects.touch(tracked.partition, container_key(id));
        }
    }

    /// Judges unresolved findings again when the image is known.
    fn amend(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        if self.containers.get(id).is_none_or(|tracked| tracked.unresolved.is_empty()) {
            return Ok(());
        }
        let Readiness::Ready(index) = self.readiness(id) else { return Ok(()) };
        self.expire_unresolved(now_ns, id, effects);
        while let Some(tracked) = self.containers.get_mut(id)
            && !tracked.unresolved.is_empty()
        {
            if self.budget == 0 {
                self.backlog.insert(id.clone());
                return Ok(());
            }
            self.budget -= 1;
            let Some((offset, old)) = tracked.unresolved.pop_first() else { return Ok(()) };
            effects.touch(tracked.partition, Kind::Unresolved.key(id, offset));
            let verdict = judge(&old.exec, Ok(&index));
            let revision = self.amend_with_image(&old, &verdict, effects)?;
            if let Some(tracked) = self.containers.get_mut(id)
                && tracked.remember_revision(offset, revision) == Change::Changed
            {
                effects.touch(tracked.partition, Kind::Reported.key(id, offset));
            }
        }
        Ok(())
    }

    /// Stops amending findings whose hour is over; they stay unresolved.
    pub(super) fn expire_unresolved(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) {
        let Some(tracked) = self.containers.get_mut(id) else { return };
        while let Some(offset) = tracked.unresolved.pop_expired(now_ns) {
            effects.count("amendment_too_late");
            effects.touch(tracked.partition, Kind::Unresolved.key(id, offset));
        }
    }
}
