//! Which images containers use, what is known of them, and asking for those that nobody has published.

use std::collections::BTreeSet;

use driftline_runtime_core::BrokenInvariant;
use driftline_schemas::text::printable;
use driftline_schemas::topics::Topic;
use driftline_schemas::{ContainerId, ImageId, ImageRequest};

use super::{Ask, Enricher, Fx, ImageAnswer};
use crate::limits::{REASON_BYTES_MAX, REQUEST_AGAIN_NS};
use crate::tracked::Tracked;

/// An image that containers use.
#[derive(Debug)]
pub(super) struct Image {
    /// `None` until the shell has answered.
    pub(super) answer: Option<ImageAnswer>,
    pub(super) users: BTreeSet<ContainerId>,
    pub(super) request_again_ns: i64,
}

impl Enricher {
    /// The shell says what is known of an image.
    pub(super) fn image(
        &mut self,
        now_ns: i64,
        id: &ImageId,
        answer: ImageAnswer,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(image) = self.images.get_mut(id) else { return Ok(()) };
        if let Some(ImageAnswer::Ready(_)) = image.answer {
            // Content does not change under a digest; an older answer may come in late.
            return Ok(());
        }
        image.answer = Some(match answer {
            ImageAnswer::Failed(reason) => ImageAnswer::Failed(short(&reason)),
            other => other,
        });
        if let Some(ImageAnswer::Missing) = image.answer {
            return self.request_if_missing(now_ns, id, effects);
        }
        let waits = |id: &&ContainerId| self.containers.get(*id).is_some_and(Tracked::awaits_image);
        self.backlog.extend(image.users.iter().filter(waits).cloned());
        Ok(())
    }

    /// Tells the shell of images that went with a partition.
    pub(super) fn forget_unused_images(&mut self, effects: &mut Fx) {
        self.unused.drain(..).for_each(|image| effects.ask(Ask::Forget(image)));
    }

    pub(super) fn use_image(&mut self, image: &ImageId, container: &ContainerId, effects: &mut Fx) {
        let known = self.images.entry(image.clone()).or_insert_with(|| {
            effects.ask(Ask::Image(image.clone()));
            Image { answer: None, users: BTreeSet::new(), request_again_ns: 0 }
        });
        known.users.insert(container.clone());
    }

    pub(super) fn release_image(&mut self, image: &ImageId, container: &ContainerId, effects: &mut Fx) {
        let Some(known) = self.images.get_mut(image) else { return };
        known.users.remove(container);
        if known.users.is_empty() {
            self.images.remove(image);
            effects.ask(Ask::Forget(image.clone()));
        }
    }

    /// Asks the indexers for an image that nobody has published.
    pub(super) fn request_if_missing(
        &mut self,
        now_ns: i64,
        id: &ImageId,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(image) = self.images.get_mut(id) else { return Ok(()) };
        let missing = matches!(image.answer, Some(ImageAnswer::Missing)) && image.request_again_ns <= now_ns;
        let user = image.users.first().and_then(|user| self.containers.get(user)).and_then(|user| user.seen.as_deref());
        let (true, Some(seen)) = (missing, user) else { return Ok(()) };
        let request = ImageRequest {
            image_id: id.clone(),
            reference: seen.container.image_ref.clone(),
            runtime: seen.container.runtime.clone(),
            cluster: seen.node.cluster.clone(),
            node: seen.node.name.clone(),
            why: if image.request_again_ns == 0 { "no_manifest" } else { "retry" }.to_owned(),
            requested_ns: now_ns,
        };
        image.request_again_ns = now_ns.saturating_add(REQUEST_AGAIN_NS);
        effects.count("image_requested");
        effects.emit(Topic::ImageRequests, id.as_str(), &request)
    }
}

/// A reason that a finding can carry.
fn short(reason: &str) -> String {
    let mut text = printable(reason.as_bytes()).text;
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text
}
