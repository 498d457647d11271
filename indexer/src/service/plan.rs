//! Decides which image is indexed next, and when a failed one is tried again. Pure: the time is an argument, decisions
//! are results.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use driftline_schemas::{Image, ImageFailure, ImageId};

const SECOND_NS: i64 = 1_000_000_000;

/// First pause after a failure that may pass; each further pause is twice as long.
pub(crate) const RETRY_FIRST_NS: i64 = 5 * SECOND_NS;
/// Longest pause of this kind.
pub(crate) const RETRY_MAX_NS: i64 = 600 * SECOND_NS;
/// Pause after a failure caused by the image itself, which only a new version of the indexer may index.
pub(crate) const RETRY_MALFORMED_NS: i64 = 3_600 * SECOND_NS;
/// A request this long after the image was published means that a reader lost the image: it is indexed again.
pub(crate) const REPUBLISH_NS: i64 = 60 * SECOND_NS;
/// Most images that are remembered or wait: more than a node or a registry's mirror uses at once. Of those that are published
/// the ones that nobody here wanted are forgotten first, of these the oldest; an image that is forgotten and wanted again is
/// published once more, which is harmless.
pub(crate) const IMAGES_MAX: usize = 100_000;
/// Sources remembered of one image. When the records of all remembered sources are deleted, the image counts as
/// removed. If further sources have published it, it is published once more, which is harmless.
pub(crate) const SOURCES_MAX: usize = 4;

/// An image to index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) image_id: ImageId,
    /// Runtime that holds it; empty when any runtime may hold it.
    pub(crate) runtime: String,
    /// Reference under which it was deployed; empty when unknown.
    pub(crate) reference: String,
}

/// The reason why an image is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A container runs it.
    ByContainer,
    /// A request of this time. Other instances have precedence for the pause.
    ByRequest { requested_ns: i64, pause_ns: i64 },
}

/// The result of a request for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It will be indexed.
    Accepted,
    /// It is being indexed, or waits for its turn.
    Pending,
    /// It is published already.
    Known,
    /// It failed, and the time for another attempt has not come.
    BackingOff,
    /// The plan is full.
    Full,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Published,
    Failed(ImageFailure),
    /// The image is not available now, and the source named the time to wait.
    Postponed {
        pause_ns: i64,
    },
}

/// Why an image is in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// No source has published it.
    New,
    /// It was published, and a reader lost it or somebody removed it.
    Lost,
}

/// Who wanted an image that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Interest {
    /// Others, as far as this indexer has seen.
    Others,
    /// A container or a request that concerns this indexer.
    Own,
}

#[derive(Debug)]
enum ImageState {
    /// Published by any source, at this time.
    Published { at_ns: i64, interest: Interest },
    /// It was published, and every record of it was deleted: all of it is published again when somebody wants it.
    Removed,
    /// In line or being indexed; `published_ns` is set when another source has published it meanwhile.
    Pending { attempts: u32, published_ns: Option<i64>, reason: Reason },
    /// Failed, or left to another instance without using up an attempt; in line at this time.
    Later { attempts: u32, start_ns: i64, job: Job },
}

/// All images that concern this indexer.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    images: BTreeMap<ImageId, ImageState>,
    waiting: VecDeque<Job>,
    /// Sources whose record of an image is on the topic.
    sources: BTreeMap<ImageId, BTreeSet<String>>,
    /// The published images, in the order in which they are forgotten.
    published: BTreeSet<(Interest, i64, ImageId)>,
}

impl Plan {
    /// Takes a request for an image.
    pub(crate) fn want(&mut self, job: Job, wanted: Wanted, now_ns: i64) -> Answer {
        if !self.images.contains_key(&job.image_id) && !self.make_room(Interest::Own) {
            return Answer::Full;
        }
        let (attempts, published_ns, reason) = match self.images.get(&job.image_id) {
            None => match wanted {
                Wanted::ByRequest { pause_ns, .. } if pause_ns > 0 => {
                    let start_ns = now_ns.saturating_add(pause_ns);
                    self.set(job.image_id.clone(), ImageState::Later { attempts: 0, start_ns, job });
                    return Answer::Pending;
                }
                _ => (0, None, Reason::New),
            },
            Some(ImageState::Pending { .. }) => return Answer::Pending,
            Some(&ImageState::Published { at_ns, .. }) => match wanted {
                Wanted::ByRequest { requested_ns, .. } if requested_ns > at_ns.saturating_add(REPUBLISH_NS) => {
                    (0, Some(at_ns), Reason::Lost)
                }
                _ => {
                    self.set(job.image_id, ImageState::Published { at_ns, interest: Interest::Own });
                    return Answer::Known;
                }
            },
            Some(ImageState::Removed) => (0, None, Reason::Lost),
            Some(ImageState::Later { attempts: 0, start_ns, .. }) if now_ns < *start_ns => return Answer::Pending,
            Some(ImageState::Later { start_ns, .. }) if now_ns < *start_ns => return Answer::BackingOff,
            Some(ImageState::Later { attempts, .. }) => (*attempts, None, Reason::New),
        };
        self.set(job.image_id.clone(), ImageState::Pending { attempts, published_ns, reason });
        self.waiting.push_back(job);
        Answer::Accepted
    }

    /// Takes a record of the images topic, written by this indexer or another.
    pub(crate) fn note(&mut self, image: &Image) {
        if image.failed.is_some() {
            return;
        }
        let at_ns = image.indexed_ns;
        let interest = match self.images.get_mut(&image.image_id) {
            Some(ImageState::Pending { published_ns, .. }) => {
                *published_ns = Some(at_ns);
                None
            }
            Some(ImageState::Published { interest, .. }) => Some(*interest),
            Some(ImageState::Removed | ImageState::Later { .. }) => Some(Interest::Own),
            None => self.make_room(Interest::Others).then_some(Interest::Others),
        };
        if let Some(interest) = interest {
            self.set(image.image_id.clone(), ImageState::Published { at_ns, interest });
        }
        if self.images.contains_key(&image.image_id) {
            let sources = self.sources.entry(image.image_id.clone()).or_default();
            if sources.len() < SOURCES_MAX {
                sources.insert(image.source.clone());
            }
        }
    }

    /// Takes the deletion of a source's record from the images topic. While another source's record exists, the image
    /// counts as published.
    pub(crate) fn forget(&mut self, image_id: &ImageId, source: &str) {
        let Some(sources) = self.sources.get_mut(image_id) else { return };
        if !sources.remove(source) || !sources.is_empty() {
            return;
        }
        self.sources.remove(image_id);
        match self.images.get_mut(image_id) {
            Some(ImageState::Published { .. }) => self.set(image_id.clone(), ImageState::Removed),
            Some(ImageState::Pending { published_ns, reason, .. }) => (*published_ns, *reason) = (None, Reason::Lost),
            Some(ImageState::Removed | ImageState::Later { .. }) | None => {}
        }
    }

    /// Puts images whose time has come in line.
    pub(crate) fn wake(&mut self, now_ns: i64) {
        for state in self.images.values_mut() {
            if let ImageState::Later { attempts, start_ns, job } = state
                && now_ns >= *start_ns
            {
                self.waiting.push_back(job.clone());
                *state = ImageState::Pending { attempts: *attempts, published_ns: None, reason: Reason::New };
            }
        }
    }

    /// The next image to index. Images that another indexer has published while they were in line are skipped.
    pub(crate) fn next(&mut self) -> Option<Job> {
        loop {
            let job = self.waiting.pop_front()?;
            match self.images.get(&job.image_id) {
                Some(&ImageState::Pending { published_ns: Some(at_ns), reason: Reason::New, .. }) => {
                    self.set(job.image_id, ImageState::Published { at_ns, interest: Interest::Own });
                }
                _ => return Some(job),
            }
        }
    }

    /// Whether an image in line was published before, so that all of it has to be published again.
    pub(crate) fn is_lost(&self, image_id: &ImageId) -> bool {
        matches!(self.images.get(image_id), Some(ImageState::Pending { reason: Reason::Lost, .. }))
    }

    /// Records how an attempt ended. Returns the time of the next attempt. Returns `None` when there is no further
    /// attempt, because the image is published, if only by another source: a failure must not replace that record on
    /// the topic.
    pub(crate) fn done(&mut self, job: Job, outcome: Outcome, now_ns: i64) -> Option<i64> {
        let (attempts, published_ns) = match self.images.get(&job.image_id) {
            Some(ImageState::Pending { attempts, published_ns, .. }) => (attempts.saturating_add(1), *published_ns),
            _ => (1, None),
        };
        let published_ns = Some(now_ns).filter(|_| outcome == Outcome::Published).or(published_ns);
        if let Some(at_ns) = published_ns {
            self.set(job.image_id, ImageState::Published { at_ns, interest: Interest::Own });
            return None;
        }
        let pause = match outcome {
            Outcome::Published | Outcome::Failed(ImageFailure::Unavailable) => pause_ns(attempts),
            Outcome::Postponed { pause_ns: asked } => pause_ns(attempts).max(asked.min(RETRY_MALFORMED_NS)),
            Outcome::Failed(ImageFailure::Unsupported | ImageFailure::Mismatch) => RETRY_MALFORMED_NS,
        };
        let start_ns = now_ns.saturating_add(pause);
        self.set(job.image_id.clone(), ImageState::Later { attempts, start_ns, job });
        Some(start_ns)
    }

    /// Makes room for one more image by forgetting a published one that matters no more than the new one does. Returns
    /// whether there is room.
    fn make_room(&mut self, of_new: Interest) -> bool {
        if self.images.len() < IMAGES_MAX {
            return true;
        }
        let Some((interest, ..)) = self.published.first() else { return false };
        if *interest > of_new {
            return false;
        }
        if let Some((_, _, forgotten)) = self.published.pop_first() {
            self.images.remove(&forgotten);
            self.sources.remove(&forgotten);
        }
        true
    }

    /// Sets the state of an image, and its place among the published ones.
    fn set(&mut self, image_id: ImageId, state: ImageState) {
        if let Some(&ImageState::Published { at_ns, interest }) = self.images.get(&image_id) {
            self.published.remove(&(interest, at_ns, image_id.clone()));
        }
        if let ImageState::Published { at_ns, interest } = state {
            self.published.insert((interest, at_ns, image_id.clone()));
        }
        self.images.insert(image_id, state);
    }

    /// Images in line.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// 5 s, 10 s, 20 s, … 10 min.
fn pause_ns(attempts: u32) -> i64 {
    let doublings = attempts.saturating_sub(1).min(30);
    RETRY_FIRST_NS.saturating_mul(1 << doublings).min(RETRY_MAX_NS)
}

#[cfg(test)]
mod tests;
