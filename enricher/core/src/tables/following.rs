//! The images that the core uses, and which of them a change of the tables concerns.

use std::collections::BTreeSet;
use std::ops::Bound;

use driftline_schemas::ImageId;

use super::{Change, ImageTables, Lookup};
use crate::chunks::ChunkStore;
use crate::enricher::ImageAnswer;
use crate::trust::ImageView;

/// Images that containers use. The component that answers [`crate::ImageCommand`] keeps a `Following` beside its
/// tables, and answers for an image again when [`Self::concerned`] names it.
#[derive(Debug, Default)]
pub struct Following {
    /// Images whose content the core does not have yet: any answer is news.
    wanted: BTreeSet<ImageView>,
    /// Images whose content the core has, without a conflict so far. Content does not change under a digest, so only a
    /// conflict is news.
    settled: BTreeSet<ImageView>,
    /// Images whose content and conflict the core has: no further answer is news.
    contradicted: BTreeSet<ImageView>,
}

impl Following {
    /// Records that the core asked for an image.
    pub fn ask(&mut self, view: ImageView) {
        self.settled.remove(&view);
        self.contradicted.remove(&view);
        self.wanted.insert(view);
    }

    /// Records that the core no longer needs an image.
    pub fn forget(&mut self, view: &ImageView) {
        self.wanted.remove(view);
        self.settled.remove(view);
        self.contradicted.remove(view);
    }

    /// Records the answer that the core is given about an image.
    pub fn answered(&mut self, view: &ImageView, answer: &ImageAnswer) {
        let ImageAnswer::Ready { conflict, .. } = answer else { return };
        if self.wanted.remove(view) || self.settled.remove(view) {
            let known = if conflict.is_none() { &mut self.settled } else { &mut self.contradicted };
            known.insert(view.clone());
        }
    }

    /// Images about which the core needs a new answer after these changes.
    pub fn concerned<C: ChunkStore>(&self, changes: &[Change], tables: &ImageTables<C>) -> BTreeSet<ImageView> {
        let mut concerned = BTreeSet::new();
        for change in changes {
            if let Change::Image(id) = change {
                concerned.extend(views_of(&self.wanted, id).cloned());
            }
        }
        let is = |view: &&ImageView, fits: fn(&Lookup) -> bool| fits(&tables.lookup(view));
        if changes.iter().any(|change| !matches!(change, Change::Image(_))) {
            concerned.extend(self.wanted.iter().filter(|view| is(view, is_whole)).cloned());
        }
        if changes.iter().any(|change| matches!(change, Change::Conflict(_))) {
            concerned.extend(self.settled.iter().filter(|view| is(view, is_contradicted)).cloned());
        }
        concerned
    }

    /// Whether the core uses an image as this node's containers see it.
    #[must_use]
    pub fn follows(&self, view: &ImageView) -> bool {
        [&self.wanted, &self.settled, &self.contradicted].into_iter().any(|views| views.contains(view))
    }

    /// Whether a container uses this image.
    #[must_use]
    pub fn uses(&self, id: &ImageId) -> bool {
        [&self.wanted, &self.settled, &self.contradicted].into_iter().any(|views| views_of(views, id).next().is_some())
    }
}

fn is_whole(lookup: &Lookup) -> bool {
    matches!(lookup, Lookup::Complete { .. } | Lookup::Collected(_))
}

fn is_contradicted(lookup: &Lookup) -> bool {
    matches!(lookup, Lookup::Complete { conflict: Some(_), .. })
}

fn views_of<'a>(views: &'a BTreeSet<ImageView>, id: &ImageId) -> impl Iterator<Item = &'a ImageView> {
    let from = Bound::Included(ImageView::of_all(id));
    let id = id.clone();
    views.range((from, Bound::Unbounded)).take_while(move |view| view.image == id)
}
