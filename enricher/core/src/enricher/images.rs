//! The images that containers use, their state, and the requests for images that are not published.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use driftline_schemas::text::printable_start;
use driftline_schemas::topics::Topic;
use driftline_schemas::{ContainerId, ContainerSeen, ImageFailure, ImageRequest};
use driftline_service_core::BrokenInvariant;

use super::{Enricher, Fx, ImageAnswer, ImageCommand, container_key};
use crate::image::ImageIndex;
use crate::limits::{REASON_BYTES_MAX, REQUEST_AGAIN_NS, REQUESTS_PER_TICK_MAX};
use crate::tables::LoadError;
use crate::trust::ImageView;
use driftline_detection::Flaw;
use driftline_detection::finding;

/// An image that containers use.
#[derive(Debug)]
pub(super) struct UsedImage {
    /// The state of the image; `None` until the shell has answered.
    pub(super) answer: Option<ImageAnswer>,
    pub(super) users: BTreeSet<ContainerId>,
    request_again_ns: i64,
    /// Container whose node received the last request.
    asked: Option<ContainerId>,
    /// The last call that judged with the image.
    pub(super) used: u64,
    /// Whether the shell was commanded to load the content since it was dropped.
    pub(super) is_asked_again: bool,
}

impl ImageAnswer {
    /// The answer for an image whose records are complete but cannot be used: only other records can change that.
    #[must_use]
    pub fn unusable(error: &LoadError) -> Self {
        Self::Failed { reason: error.to_string(), failure: error.failure(), retry_ns: i64::MAX }
    }

    /// The answer that is valid at this time, truncated to what a finding can carry.
    fn at(self, now_ns: i64) -> Self {
        match self {
            Self::Failed { retry_ns, .. } if retry_ns <= now_ns => Self::Missing,
            Self::Failed { reason, failure, retry_ns } => {
                Self::Failed { reason: printable_reason(&reason), failure, retry_ns }
            }
            Self::Ready { index, conflict } => {
                Self::Ready { index, conflict: conflict.as_deref().map(printable_reason) }
            }
            Self::Dropped { conflict } => Self::Dropped { conflict },
            Self::Missing => Self::Missing,
        }
    }

    /// The flaw of the image, and its details.
    fn flaw(&self) -> Option<(Flaw, &str)> {
        match self {
            Self::Ready { conflict, .. } | Self::Dropped { conflict } => {
                conflict.as_deref().map(|conflict| (Flaw::Conflict, conflict))
            }
            Self::Failed { reason, failure: ImageFailure::Mismatch, .. } => Some((Flaw::Mismatch, reason)),
            Self::Failed { .. } | Self::Missing => None,
        }
    }

    fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

impl UsedImage {
    /// The image's content, when it is in memory.
    pub(super) fn content(&self) -> Option<&Arc<ImageIndex>> {
        match &self.answer {
            Some(ImageAnswer::Ready { index, .. }) => Some(index),
            _ => None,
        }
    }

    /// The next user in turn whose node is known. Requests rotate over the nodes because a node may be gone, or lack
    /// content that another node has.
    fn next_to_ask<'a>(
        &self,
        seen: impl Fn(&ContainerId) -> Option<&'a ContainerSeen>,
    ) -> Option<(ContainerId, &'a ContainerSeen)> {
        let last = self.asked.clone().unwrap_or_default();
        let behind = self.users.range((Bound::Excluded(&last), Bound::Unbounded));
        behind.chain(&self.users).find_map(|id| seen(id).map(|seen| (id.clone(), seen)))
    }
}

impl Enricher {
    /// Handles the shell's answer about an image.
    pub(super) fn image(
        &mut self,
        now_ns: i64,
        id: &ImageView,
        answer: ImageAnswer,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        if !self.images.contains_key(id) {
            return Ok(());
        }
        let answer = match answer.at(now_ns) {
            ImageAnswer::Ready { index, conflict } => ImageAnswer::Ready { index: self.shared(index), conflict },
            answer => answer,
        };
        let Some(image) = self.images.get_mut(id) else { return Ok(()) };
        image.used = self.calls;
        match (&mut image.answer, answer) {
            // The content that verdicts were made with stays; a new conflict is recorded.
            (Some(ImageAnswer::Ready { conflict: known @ None, .. }), ImageAnswer::Ready { conflict, .. }) => {
                *known = conflict;
            }
            // An answer loaded earlier may arrive late.
            (Some(ImageAnswer::Ready { .. }), _) => return Ok(()),
            (Some(ImageAnswer::Dropped { conflict: known }), ImageAnswer::Ready { index, conflict }) => {
                image.answer = Some(ImageAnswer::Ready { index, conflict: known.take().or(conflict) });
            }
            (known, answer) => *known = Some(answer),
        }
        if image.content().is_some() {
            self.make_room_for_image(id, effects);
        }
        let Some(image) = self.images.get(id) else { return Ok(()) };
        if image.answer.as_ref().is_some_and(ImageAnswer::is_missing) {
            return self.request_if_missing(now_ns, id, effects);
        }
        let Some(image) = self.images.get(id) else { return Ok(()) };
        let concerned: Vec<_> = image.users.iter().filter(|user| self.is_concerned(user)).cloned().collect();
        self.backlog.extend(concerned);
        Ok(())
    }

    /// Whether the state of its image affects a container.
    pub(super) fn is_concerned(&self, id: &ContainerId) -> bool {
        self.containers.get(id).is_some_and(|tracked| tracked.awaits_image() || self.unreported_flaw(id).is_some())
    }

    /// The flaw of a container's image, unless it was reported.
    fn unreported_flaw(&self, id: &ContainerId) -> Option<(Flaw, &str)> {
        let tracked = self.containers.get(id)?;
        let image = self.images.get(tracked.image()?)?;
        image.answer.as_ref()?.flaw().filter(|(flaw, _)| !tracked.flaws.contains(flaw))
    }

    /// Reports each flaw of a container's image once, before any exec that is judged after it became known.
    pub(super) fn report_flaw(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some((flaw, detail)) = self.unreported_flaw(id) else { return Ok(()) };
        if self.budget == 0 {
            self.backlog.insert(id.clone());
            return Ok(());
        }
        let note = flaw.note(detail);
        self.budget -= 1;
        let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
        let Some(seen) = tracked.seen.as_deref() else { return Ok(()) };
        let finding = finding::image(now_ns, seen, flaw, note, &self.settings.versions);
        tracked.flaws.insert(flaw);
        effects.touch(tracked.partition, container_key(id));
        effects.count(match flaw {
            Flaw::Conflict => "image_conflict_reported",
            Flaw::Mismatch => "image_mismatch_reported",
        });
        effects.emit(Topic::Findings, id.as_str(), &finding)
    }

    /// Discards failures whose validity is over: the image is requested again, and containers wait for it.
    pub(super) fn expire_failures(&mut self, now_ns: i64) {
        for image in self.images.values_mut() {
            if let Some(ImageAnswer::Failed { retry_ns, .. }) = image.answer
                && retry_ns <= now_ns
            {
                image.answer = Some(ImageAnswer::Missing);
            }
        }
    }

    /// Repeats the requests for images that are still missing.
    pub(super) fn request_missing(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let missing = |image: &UsedImage| image.answer.as_ref().is_some_and(ImageAnswer::is_missing);
        let due = self.images.iter().filter(|(_, image)| image.request_again_ns <= now_ns && missing(image));
        let due: Vec<ImageView> = due.take(REQUESTS_PER_TICK_MAX).map(|(id, _)| id.clone()).collect();
        due.iter().try_for_each(|id| self.request_if_missing(now_ns, id, effects))
    }

    /// Sends `Forget` for images whose last container left with its partition.
    pub(super) fn forget_unused_images(&mut self, effects: &mut Fx) {
        self.unused.drain(..).for_each(|image| effects.command(ImageCommand::Forget(image)));
    }

    pub(super) fn use_image(&mut self, image: &ImageView, container: &ContainerId, effects: &mut Fx) {
        let known = self.images.entry(image.clone()).or_insert_with(|| {
            effects.command(ImageCommand::Load(image.clone()));
            UsedImage {
                answer: None,
                users: BTreeSet::new(),
                request_again_ns: 0,
                asked: None,
                used: 0,
                is_asked_again: false,
            }
        });
        known.users.insert(container.clone());
    }

    pub(super) fn release_image(&mut self, image: &ImageView, container: &ContainerId, effects: &mut Fx) {
        let Some(known) = self.images.get_mut(image) else { return };
        known.users.remove(container);
        if known.users.is_empty() {
            self.images.remove(image);
            effects.command(ImageCommand::Forget(image.clone()));
        }
    }

    /// Requests an image that is not published from the indexers.
    fn request_if_missing(&mut self, now_ns: i64, view: &ImageView, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let Some(image) = self.images.get_mut(view) else { return Ok(()) };
        let missing = image.answer.as_ref().is_some_and(ImageAnswer::is_missing) && image.request_again_ns <= now_ns;
        let seen = |user: &ContainerId| self.containers.get(user).and_then(|user| user.seen.as_deref());
        let (true, Some((user, seen))) = (missing, image.next_to_ask(seen)) else { return Ok(()) };
        let request = ImageRequest {
            image_id: view.image.clone(),
            reference: seen.container.image_ref.clone(),
            runtime: seen.container.runtime.clone(),
            cluster: seen.node.cluster.clone(),
            node: seen.node.name.clone(),
            why: if image.request_again_ns == 0 { "no_manifest" } else { "retry" }.to_owned(),
            requested_ns: now_ns,
        };
        image.asked = Some(user);
        image.request_again_ns = now_ns.saturating_add(REQUEST_AGAIN_NS);
        effects.count("image_requested");
        effects.emit(Topic::ImageRequests, view.image.as_str(), &request)
    }
}

/// A reason in printable form, truncated to what a finding can carry.
pub(super) fn printable_reason(reason: &str) -> String {
    printable_start(reason, REASON_BYTES_MAX)
}
