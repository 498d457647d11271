//! Decides which images' contents stay in memory: those used for a verdict last, within a bound of bytes.
//!
//! An image whose content was dropped keeps its answer, without the content. The next exec that needs the content
//! commands the shell to load it again and waits, as for an image that was never loaded. An exec that was judged with
//! the content is not judged again without it. The shell returns the content that it returned the first time, whatever
//! was published since.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline_schemas::{ContainerId, Sha256};

use super::{Enricher, Fx, ImageAnswer, ImageCommand};
use crate::image::ImageIndex;
use crate::trust::ImageView;

/// Images with equal content, which is in memory once.
#[derive(Debug, Default)]
struct ResidentContent {
    views: Vec<ImageView>,
    bytes: usize,
    /// The last call that judged with the content.
    used: u64,
}

impl Enricher {
    /// Bounds the memory of images' contents. The content that arrived last stays whatever its size.
    #[must_use]
    pub fn bounded(self, images_bytes_max: usize) -> Self {
        Self { images_bytes_max, ..self }
    }

    /// Bytes of images' contents in memory.
    #[must_use]
    pub fn images_bytes(&self) -> usize {
        let contents = self.images.values().filter_map(|image| image.content());
        let sizes: BTreeMap<Sha256, usize> = contents.map(|index| (index.digest(), index.memory_bytes())).collect();
        sizes.values().sum()
    }

    /// The content in memory that equals this one, so that equal contents are held once.
    pub(super) fn shared(&self, index: Arc<ImageIndex>) -> Arc<ImageIndex> {
        let digest = index.digest();
        let held = self.images.values().find_map(|image| image.content().filter(|held| held.digest() == digest));
        held.map_or(index, Arc::clone)
    }

    /// Whether the image's answer is known, but its content is not in memory.
    pub(super) fn is_dropped(&self, view: &ImageView) -> bool {
        self.images.get(view).is_some_and(|image| matches!(image.answer, Some(ImageAnswer::Dropped { .. })))
    }

    /// Drops the contents that have not been used for longest, to make room for a new one. Keeps the contents that
    /// containers in the backlog need.
    pub(super) fn make_room_for_image(&mut self, newest: &ImageView, effects: &mut Fx) {
        let mut contents: Vec<ResidentContent> = self.contents().into_values().collect();
        let mut bytes: usize = contents.iter().map(|content| content.bytes).sum();
        if bytes <= self.images_bytes_max {
            return;
        }
        let is_needed_now = |view: &ImageView| {
            let users = self.images.get(view).map(|image| &image.users);
            view == newest || users.is_some_and(|users| users.iter().any(|user| self.backlog.contains(user)))
        };
        contents.retain(|content| !content.views.iter().any(is_needed_now));
        contents.sort_by(|a, b| (a.used, &a.views).cmp(&(b.used, &b.views)));
        for content in contents {
            if bytes <= self.images_bytes_max {
                break;
            }
            bytes = bytes.saturating_sub(content.bytes);
            effects.count("image_dropped");
            for view in &content.views {
                if let Some(image) = self.images.get_mut(view)
                    && let Some(ImageAnswer::Ready { conflict, .. }) = &mut image.answer
                {
                    image.answer = Some(ImageAnswer::Dropped { conflict: conflict.take() });
                    image.is_asked_again = false;
                }
            }
        }
    }

    fn contents(&self) -> BTreeMap<Sha256, ResidentContent> {
        let mut contents: BTreeMap<Sha256, ResidentContent> = BTreeMap::new();
        for (view, image) in &self.images {
            let Some(index) = image.content() else { continue };
            let content = contents.entry(index.digest()).or_default();
            content.views.push(view.clone());
            content.bytes = index.memory_bytes();
            content.used = content.used.max(image.used);
        }
        contents
    }

    /// Records that a container is judged with its image in this call.
    pub(super) fn note_use(&mut self, id: &ContainerId) {
        let view = self.containers.get(id).and_then(|tracked| tracked.image());
        if let Some(image) = view.and_then(|view| self.images.get_mut(view)) {
            image.used = self.calls;
        }
    }

    /// Commands the shell, once, to load the dropped content of a container's image when the container needs it.
    pub(super) fn need_image(&mut self, id: &ContainerId, effects: &mut Fx) {
        let Some(tracked) = self.containers.get(id).filter(|tracked| tracked.awaits_image()) else { return };
        let Some(view) = tracked.image() else { return };
        if let Some(image) = self.images.get_mut(view)
            && matches!(image.answer, Some(ImageAnswer::Dropped { .. }))
            && !image.is_asked_again
        {
            image.is_asked_again = true;
            effects.count("image_loaded_again");
            effects.command(ImageCommand::Load(view.clone()));
        }
    }
}
