//! Which images the core uses, and which of them news of the tables concern.

use std::collections::BTreeSet;
use std::ops::Bound;

use driftline_schemas::ImageId;

use super::{Change, ImageTables, Lookup};
use crate::chunks::ChunkStore;
use crate::enricher::ImageAnswer;
use crate::trust::ImageView;

/// Images that containers use. Whoever answers [`crate::ImageCommand`] keeps one beside its tables, and tells the core of an image
/// again when [`Self::concerned`] names it.
#[derive(Debug, Default)]
pub struct Following {
    /// Images whose content the core does not have yet: any answer is news.
    wanted: BTreeSet<ImageView>,
    /// Those whose content it was told, and which nobody has contradicted yet. Content does not change under a digest;
    /// only that somebody contradicts it may be news.
    settled: BTreeSet<ImageView>,
    /// Those of which there is nothing more to say.
    contradicted: BTreeSet<ImageView>,
}

impl Following {
    /// The core asked for an image.
    pub fn ask(&mut self, view: ImageView) {
        self.settled.remove(&view);
        self.contradicted.remove(&view);
        self.wanted.insert(view);
    }

    /// The core does not need an image any more.
    pub fn forget(&mut self, view: &ImageView) {
        self.wanted.remove(view);
        self.settled.remove(view);
        self.contradicted.remove(view);
    }

    /// The core is told this of an image.
    pub fn answered(&mut self, view: &ImageView, answer: &ImageAnswer) {
        let ImageAnswer::Ready { conflict, .. } = answer else { return };
        if self.wanted.remove(view) || self.settled.remove(view) {
            let known = if conflict.is_none() { &mut self.settled } else { &mut self.contradicted };
            known.insert(view.clone());
        }
    }

    /// Images of which the core has to be told what the tables say now, after these changes.
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
