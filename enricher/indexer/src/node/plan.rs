//! Which image is indexed next, and when a failed one is tried again. Pure: time comes in, decisions go out.

use std::collections::{BTreeMap, VecDeque};

use driftline_schemas::{Image, ImageFailure, ImageId};

const SECOND_NS: i64 = 1_000_000_000;

/// First pause after a failure that may pass; each further one is twice as long.
pub(super) const RETRY_FIRST_NS: i64 = 5 * SECOND_NS;
/// Longest such pause.
pub(super) const RETRY_MAX_NS: i64 = 600 * SECOND_NS;
/// Pause after a failure of the image's own making: only a new version of the indexer will do better.
pub(super) const RETRY_MALFORMED_NS: i64 = 3_600 * SECOND_NS;
/// A request that comes this long after the image was published means that somebody lost it: it is indexed again.
pub(super) const REPUBLISH_NS: i64 = 60 * SECOND_NS;
/// Most images remembered and waiting. A node with more images than this in use has other worries.
pub(super) const IMAGES_MAX: usize = 100_000;

/// An image to index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) image_id: ImageId,
    /// Runtime that holds it; empty when any may.
    pub(super) runtime: String,
    /// Reference under which it was deployed; empty when unknown.
    pub(super) reference: String,
}

/// Who wants an image indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A container runs it.
    ByContainer,
    /// A request of this time.
    ByRequest { requested_ns: i64 },
}

/// What became of wanting an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It will be indexed.
    Accepted,
    /// It is being indexed, or waits for it.
    Pending,
    /// It is published.
    Known,
    /// It failed, and the time for another attempt has not come.
    BackingOff,
    /// Too many images.
    Full,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Published,
    Failed(ImageFailure),
}

#[derive(Debug)]
enum State {
    /// By whomever, at this time.
    Published {
        at_ns: i64,
    },
    /// In line or being indexed; `published_ns` when somebody has published it all the same.
    Pending {
        attempts: u32,
        published_ns: Option<i64>,
    },
    Failed {
        attempts: u32,
        retry_ns: i64,
        job: Job,
    },
}

/// All images this node has to do with.
#[derive(Debug, Default)]
pub(super) struct Plan {
    images: BTreeMap<ImageId, State>,
    waiting: VecDeque<Job>,
}

impl Plan {
    /// Somebody wants an image.
    pub(super) fn want(&mut self, job: Job, wanted: Wanted, now_ns: i64) -> Answer {
        let (attempts, published_ns) = match self.images.get(&job.image_id) {
            None if self.images.len() >= IMAGES_MAX => return Answer::Full,
            None => (0, None),
            Some(State::Pending { .. }) => return Answer::Pending,
            Some(State::Published { at_ns }) => match wanted {
                Wanted::ByRequest { requested_ns } if requested_ns > at_ns.saturating_add(REPUBLISH_NS) => {
                    (0, Some(*at_ns))
                }
                _ => return Answer::Known,
            },
            Some(State::Failed { retry_ns, .. }) if now_ns < *retry_ns => return Answer::BackingOff,
            Some(State::Failed { attempts, .. }) => (*attempts, None),
        };
        self.images.insert(job.image_id.clone(), State::Pending { attempts, published_ns });
        self.waiting.push_back(job);
        Answer::Accepted
    }

    /// The images topic has this record, of this node or another.
    pub(super) fn note(&mut self, image: &Image) {
        if image.failed.is_some() {
            return;
        }
        let is_full = self.images.len() >= IMAGES_MAX;
        match self.images.get_mut(&image.image_id) {
            Some(State::Pending { published_ns, .. }) => *published_ns = Some(image.indexed_ns),
            Some(state) => *state = State::Published { at_ns: image.indexed_ns },
            None if is_full => {}
            None => {
                self.images.insert(image.image_id.clone(), State::Published { at_ns: image.indexed_ns });
            }
        }
    }

    /// Puts failed images whose time has come back in line.
    pub(super) fn wake(&mut self, now_ns: i64) {
        for state in self.images.values_mut() {
            if let State::Failed { attempts, retry_ns, job } = state
                && now_ns >= *retry_ns
            {
                self.waiting.push_back(job.clone());
                *state = State::Pending { attempts: *attempts, published_ns: None };
            }
        }
    }

    /// The next image to index.
    pub(super) fn next(&mut self) -> Option<Job> {
        self.waiting.pop_front()
    }

    /// Notes how an attempt ended. Returns when the next one comes; nothing when there will be none, because the image
    /// is published, if only by somebody else: a failure must not replace that on the topic.
    pub(super) fn done(&mut self, job: Job, outcome: Outcome, now_ns: i64) -> Option<i64> {
        let (attempts, published_ns) = match self.images.get(&job.image_id) {
            Some(State::Pending { attempts, published_ns }) => (attempts.saturating_add(1), *published_ns),
            _ => (1, None),
        };
        let published_ns = Some(now_ns).filter(|_| outcome == Outcome::Published).or(published_ns);
        if let Some(at_ns) = published_ns {
            self.images.insert(job.image_id, State::Published { at_ns });
            return None;
        }
        let pause = match outcome {
            Outcome::Published | Outcome::Failed(ImageFailure::Unavailable) => pause_ns(attempts),
            Outcome::Failed(ImageFailure::Unsupported | ImageFailure::Mismatch) => RETRY_MALFORMED_NS,
        };
        let retry_ns = now_ns.saturating_add(pause);
        self.images.insert(job.image_id.clone(), State::Failed { attempts, retry_ns, job });
        Some(retry_ns)
    }

    /// Images in line.
    pub(super) fn waiting(&self) -> usize {
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
