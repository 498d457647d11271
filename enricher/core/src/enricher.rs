//! The stage: container records and execs in, findings out, in order per container.
//!
//! An exec whose container's metadata or image is not known yet is parked, and everything of that container behind it;
//! other containers go on. When the deadline passes, the head goes out unresolved and the container flows; a finding
//! that went out so is amended, with the same id, when the image comes.

mod images;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftline_runtime_core::{BrokenInvariant, Disposition, Effects, Position, Stage};
use driftline_schemas::topics::Topic;
use driftline_schemas::{
    CollectorLoss, ContainerEnded, ContainerId, ContainerSeen, Exec, ExecEvent, FindingState, ImageId, Origin,
};

use crate::finding::{self, Revision};
use crate::image::ImageIndex;
use crate::limits::{AMEND_NS, CONTAINERS_MAX, PARKED_MAX, SILENCE_NS};
use crate::tracked::{Mismatch, Parked, Tracked};
use crate::verdict::{Report, Verdict, judge};
use images::Image;

/// What the enricher is told by its settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a container's events may wait for metadata and image.
    pub park_ns: i64,
    /// Digests of what makes a verdict, carried by every finding.
    pub versions: BTreeMap<String, String>,
}

/// Everything that can happen to the enricher.
#[derive(Debug)]
pub enum Input {
    /// A record of the exec-events topic.
    Event(Position, ExecEvent),
    /// The shell's answer to [`Ask::Image`], or news about an image asked for before.
    Image(ImageId, ImageAnswer),
    /// Time passes.
    Tick,
}

/// What is known of an image.
#[derive(Debug, Clone)]
pub enum ImageAnswer {
    /// Its merged content.
    Ready(Arc<ImageIndex>),
    /// Nobody has published it yet.
    Missing,
    /// It was tried, and cannot be had for this reason.
    Failed(String),
}

/// What the enricher asks of its shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Load an image; answer now, and again when the answer changes.
    Image(ImageId),
    /// The image is not needed any more.
    Forget(ImageId),
}

/// Whether the head of a container's queue can be judged.
enum Readiness {
    Ready(Arc<ImageIndex>),
    Flow(String),
    Wait(&'static str),
}

/// The enricher's state; one task owns it.
#[derive(Debug)]
pub struct Enricher {
    settings: Settings,
    containers: BTreeMap<ContainerId, Tracked>,
    /// Containers by partition.
    by_partition: BTreeMap<i32, BTreeSet<ContainerId>>,
    images: BTreeMap<ImageId, Image>,
    /// When something is due for a container.
    timers: BTreeSet<(i64, ContainerId)>,
    /// Offsets that must be read again after a restart: parked execs and the newest container records.
    needed: BTreeMap<i32, BTreeSet<i64>>,
    held: u64,
    /// Images whose last container went with its partition; the shell is told with the next input.
    unused: Vec<ImageId>,
}

type Fx = Effects<Ask>;

impl Stage for Enricher {
    type Input = Input;
    type Ask = Ask;

    fn apply(&mut self, now_ns: i64, input: Input, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        for image in self.unused.drain(..) {
            effects.ask(Ask::Forget(image));
        }
        match input {
            Input::Event(at, ExecEvent::Exec(exec)) => self.exec(now_ns, at, exec, effects),
            Input::Event(at, ExecEvent::Seen(seen)) => self.seen(now_ns, at, *seen, effects),
            Input::Event(at, ExecEvent::Ended(ended)) => self.ended(now_ns, at, &ended, effects),
            Input::Event(_, ExecEvent::Loss(loss)) => self.loss(&loss, effects),
            Input::Image(image, answer) => self.image(now_ns, &image, answer, effects),
            Input::Tick => self.tick(now_ns, effects),
        }
    }

    fn oldest_needed(&self, partition: i32) -> Option<i64> {
        self.needed.get(&partition).and_then(|offsets| offsets.first()).copied()
    }

    fn held(&self) -> u64 {
        self.held
    }

    fn drop_partition(&mut self, partition: i32) {
        for id in self.by_partition.remove(&partition).unwrap_or_default() {
            if let Some(tracked) = self.containers.remove(&id) {
                self.held -= tracked.parked.len() as u64;
            }
        }
        self.needed.remove(&partition);
        let containers = &self.containers;
        self.timers.retain(|(_, id)| containers.contains_key(id));
        for image in self.images.values_mut() {
            image.users.retain(|id| containers.contains_key(id));
        }
        let unused = self.images.extract_if(.., |_, image| image.users.is_empty());
        self.unused.extend(unused.map(|(id, _)| id));
    }
}

impl Enricher {
    /// An enricher that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            containers: BTreeMap::new(),
            by_partition: BTreeMap::new(),
            images: BTreeMap::new(),
            timers: BTreeSet::new(),
            needed: BTreeMap::new(),
            held: 0,
            unused: Vec::new(),
        }
    }

    fn exec(&mut self, now_ns: i64, at: Position, exec: Box<Exec>, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let id = exec.container_id.clone();
        let tracked = self.track(now_ns, &id, at.partition, effects);
        if tracked.is_repeat(&exec.event_id) {
            effects.settle(Disposition::Duplicate);
            return Ok(());
        }
        tracked.parked.push_back(Parked { at, exec });
        self.held += 1;
        self.needed.entry(at.partition).or_default().insert(at.offset);
        self.advance(now_ns, &id, effects)
    }

    fn seen(
        &mut self,
        now_ns: i64,
        at: Position,
        seen: ContainerSeen,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        effects.settle(Disposition::Clean);
        let id = seen.container.id.clone();
        let before = self.track(now_ns, &id, at.partition, effects);
        let replaced = before.seen.replace((at, Arc::new(seen)));
        before.ended = false;
        let image = before.image_id().cloned();
        let needed = self.needed.entry(at.partition).or_default();
        needed.insert(at.offset);
        if let Some((old, old_seen)) = replaced {
            needed.remove(&old.offset);
            if Some(&old_seen.container.image_id) != image.as_ref() {
                self.release_image(&old_seen.container.image_id, &id, effects);
            }
        }
        if let Some(image) = image {
            self.use_image(&image, &id, effects);
        }
        self.advance(now_ns, &id, effects)?;
        self.amend(now_ns, &id, effects)
    }

    fn ended(
        &mut self,
        now_ns: i64,
        at: Position,
        ended: &ContainerEnded,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        effects.settle(Disposition::Clean);
        let id = &ended.container_id;
        if self.containers.contains_key(id) {
            self.track(now_ns, id, at.partition, effects).ended = true;
            self.forget_if_done(now_ns, id, effects);
        }
        Ok(())
    }

    fn loss(&self, loss: &CollectorLoss, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        effects.settle(Disposition::Reported);
        let finding = finding::loss(loss, &self.settings.versions);
        effects.emit(Topic::Findings, &loss.node.name, &finding)
    }

    fn tick(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        while let Some((due_ns, id)) = self.timers.first().cloned() {
            if due_ns > now_ns {
                break;
            }
            self.timers.pop_first();
            self.time_is_up(now_ns, &id, effects)?;
        }
        let missing: Vec<ImageId> = self
            .images
            .iter()
            .filter(|(_, image)| image.request_again_ns <= now_ns && matches!(image.answer, Some(ImageAnswer::Missing)))
            .map(|(id, _)| id.clone())
            .collect();
        missing.iter().try_for_each(|id| self.request_if_missing(now_ns, id, effects))
    }

    /// A container's timer: its parking deadline, or a long silence.
    fn time_is_up(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
        if tracked.deadline_ns.is_some_and(|deadline| deadline <= now_ns) {
            let reason = match self.readiness(id) {
                Readiness::Wait(reason) => reason.to_owned(),
                Readiness::Flow(reason) => reason,
                Readiness::Ready(_) => return Err(BrokenInvariant(format!("container {id} waits for nothing"))),
            };
            self.give_up(now_ns, id, reason, effects)?;
        }
        self.check_silence(now_ns, id, effects);
        Ok(())
    }

    fn give_up(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        reason: String,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        effects.count("deadline_fired");
        if let Some(tracked) = self.containers.get_mut(id) {
            tracked.given_up = Some(reason);
        }
        self.advance(now_ns, id, effects)
    }

    /// Judges parked execs from the head for as long as that is possible.
    fn advance(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        loop {
            let readiness = self.readiness(id);
            let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
            if let Readiness::Ready(_) = readiness {
                tracked.given_up = None;
            }
            let image = match &readiness {
                Readiness::Ready(index) => Ok(index.as_ref()),
                Readiness::Flow(reason) => Err(reason.as_str()),
                Readiness::Wait(_) if tracked.parked.len() > PARKED_MAX => Err("parking_full"),
                Readiness::Wait(_) => return self.wait(now_ns, id),
            };
            let Some(Parked { at, exec }) = tracked.parked.pop_front() else {
                tracked.deadline_ns = None;
                return Ok(());
            };
            let verdict = judge(&exec, image);
            let metadata = tracked.seen.as_ref().map(|(_, seen)| Arc::clone(seen));
            self.held -= 1;
            if let Some(offsets) = self.needed.get_mut(&at.partition) {
                offsets.remove(&at.offset);
            }
            self.report(exec, metadata.as_deref(), &verdict, effects)?;
        }
    }

    /// Sets the deadline of a container that must wait.
    fn wait(&mut self, now_ns: i64, id: &ContainerId) -> Result<(), BrokenInvariant> {
        if let Some(tracked) = self.containers.get_mut(id)
            && tracked.deadline_ns.is_none()
            && !tracked.parked.is_empty()
        {
            let deadline = now_ns.saturating_add(self.settings.park_ns);
            tracked.deadline_ns = Some(deadline);
            self.timers.insert((deadline, id.clone()));
        }
        Ok(())
    }

    fn readiness(&self, id: &ContainerId) -> Readiness {
        let Some(tracked) = self.containers.get(id) else { return Readiness::Wait("no_metadata") };
        let waiting = |reason| match &tracked.given_up {
            Some(given_up) => Readiness::Flow(given_up.clone()),
            None => Readiness::Wait(reason),
        };
        if tracked.seen.is_none() {
            return waiting("no_metadata");
        }
        let Some(image) = tracked.image_id() else { return Readiness::Flow("image_id_unknown".to_owned()) };
        match self.images.get(image).and_then(|image| image.answer.as_ref()) {
            Some(ImageAnswer::Ready(index)) => Readiness::Ready(Arc::clone(index)),
            Some(ImageAnswer::Failed(reason)) => Readiness::Flow(format!("image_failed: {reason}")),
            Some(ImageAnswer::Missing) | None => waiting("no_manifest"),
        }
    }

    /// Settles one exec: a finding, or nothing to report.
    fn report(
        &mut self,
        exec: Box<Exec>,
        seen: Option<&ContainerSeen>,
        verdict: &Verdict,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(report) = self.wanted(&exec, verdict, effects) else {
            effects.settle(match verdict.origin {
                Origin::HostNamespace => Disposition::Dropped("host_namespace"),
                Origin::Unresolved => Disposition::Dropped("unresolved_unsuspicious"),
                _ => Disposition::Clean,
            });
            return Ok(());
        };
        effects.settle(Disposition::Reported);
        let first = Revision { number: 1, state: FindingState::Active };
        let finding = finding::drift(&exec, seen, verdict, report, first, &self.settings.versions);
        effects.emit(Topic::Findings, exec.container_id.as_str(), &finding)?;
        if verdict.unresolved.is_some()
            && let Some(tracked) = self.containers.get_mut(&exec.container_id)
            && tracked.remember_unresolved(exec)
        {
            effects.count("unresolved_forgotten");
        }
        Ok(())
    }

    /// The report of a verdict, unless it was made for this container and path before.
    fn wanted(&mut self, exec: &Exec, verdict: &Verdict, effects: &mut Fx) -> Option<Report> {
        let report = verdict.report?;
        if verdict.origin != Origin::Inconsistent {
            return Some(report);
        }
        match self.containers.get_mut(&exec.container_id)?.note_mismatch(exec.subject_path()) {
            Mismatch::First => Some(report),
            Mismatch::Known => None,
            Mismatch::TooMany => {
                effects.count("mismatched_paths_capped");
                None
            }
        }
    }

    /// Findings that went out unresolved are judged again now that the image is known.
    fn amend(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let Readiness::Ready(index) = self.readiness(id) else { return Ok(()) };
        let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
        let seen = tracked.seen.as_ref().map(|(_, seen)| Arc::clone(seen));
        for old in std::mem::take(&mut tracked.unresolved) {
            if now_ns.saturating_sub(old.exec.time_ns) > AMEND_NS {
                effects.count("amendment_too_late");
                continue;
            }
            let verdict = judge(&old.exec, Ok(&index));
            let (report, state) = verdict
                .report
                .map_or((crate::verdict::ADDED, FindingState::Retracted), |report| (report, FindingState::Active));
            effects.count(if state == FindingState::Active { "finding_amended" } else { "finding_retracted" });
            let revision = Revision { number: old.revision + 1, state };
            let finding =
                finding::drift(&old.exec, seen.as_deref(), &verdict, report, revision, &self.settings.versions);
            effects.emit(Topic::Findings, id.as_str(), &finding)?;
        }
        Ok(())
    }

    /// The container's entry, made if there is none and room for it.
    fn track(&mut self, now_ns: i64, id: &ContainerId, partition: i32, effects: &mut Fx) -> &mut Tracked {
        if !self.containers.contains_key(id) {
            self.make_room(partition, effects);
            self.by_partition.entry(partition).or_default().insert(id.clone());
            self.timers.insert((now_ns.saturating_add(SILENCE_NS), id.clone()));
        }
        let tracked = self.containers.entry(id.clone()).or_insert_with(|| Tracked::new(partition, now_ns));
        tracked.heard_ns = now_ns;
        tracked
    }

    /// Forgets the container that was silent longest when a partition has too many.
    fn make_room(&mut self, partition: i32, effects: &mut Fx) {
        let Some(ids) = self.by_partition.get(&partition).filter(|ids| ids.len() >= CONTAINERS_MAX) else { return };
        let silent = ids
            .iter()
            .filter_map(|id| self.containers.get(id).map(|tracked| (tracked, id)))
            .filter(|(tracked, _)| tracked.parked.is_empty())
            .min_by_key(|(tracked, _)| tracked.heard_ns)
            .map(|(_, id)| id.clone());
        if let Some(id) = silent {
            effects.count("container_evicted");
            self.forget(&id, effects);
        }
    }

    /// One timer per container comes back until the container is forgotten; even one that was never described is.
    fn check_silence(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) {
        self.forget_if_done(now_ns, id, effects);
        let Some(tracked) = self.containers.get_mut(id).filter(|tracked| tracked.silence_check_ns <= now_ns) else {
            return;
        };
        tracked.silence_check_ns = tracked.heard_ns.saturating_add(SILENCE_NS).max(now_ns.saturating_add(1));
        self.timers.insert((tracked.silence_check_ns, id.clone()));
    }

    /// Forgets a container that ended or fell silent, once nothing of it waits.
    fn forget_if_done(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) {
        let Some(tracked) = self.containers.get(id) else { return };
        let silent = now_ns.saturating_sub(tracked.heard_ns) >= SILENCE_NS;
        let waits = !tracked.parked.is_empty() || (!tracked.unresolved.is_empty() && !silent);
        if (tracked.ended || silent) && !waits {
            self.forget(id, effects);
        }
    }

    fn forget(&mut self, id: &ContainerId, effects: &mut Fx) {
        let Some(tracked) = self.containers.remove(id) else { return };
        if let Some(ids) = self.by_partition.get_mut(&tracked.partition) {
            ids.remove(id);
        }
        if let Some((at, seen)) = &tracked.seen {
            if let Some(offsets) = self.needed.get_mut(&tracked.partition) {
                offsets.remove(&at.offset);
            }
            let image = seen.container.image_id.clone();
            self.release_image(&image, id, effects);
        }
    }
}

#[cfg(test)]
mod tests;
