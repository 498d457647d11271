//! The stage: reads container records and execs, emits findings, in order per container. The documentation of
//! [`Enricher`] describes the steps of an exec.

mod advance;
mod containers;
mod images;
mod report;
mod residence;
mod schedule;
mod state;
mod unproven;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftline_schemas::topics::Topic;
use driftline_schemas::{
    CollectorLoss, ContainerEnded, ContainerId, ContainerSeen, ExecEvent, ImageFailure, Sha256, WriterSchema,
    WriterSchemas,
};
use driftline_service_core::{BrokenInvariant, Disposition, Effects, Gap, Position, Record, Stage};

use crate::container::{Change, EvictionRank, Parked, Queued, TrackedContainer};
use crate::image::ImageIndex;
use crate::limits::{JUDGED_PER_APPLY_MAX, TIMER_STATE_KEYS_MAX, TIMERS_PER_TICK_MAX};
use crate::trust::{ImageView, Trust};
use driftline_detection::finding;
use images::UsedImage;
use state::{Kind, container_key};

/// The enricher's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a container's events may wait for its metadata and image.
    pub park_ns: i64,
    /// Partitions of the exec-events topic.
    pub partitions: i32,
    /// Name of the cluster, for findings without a collector's record; empty when it is not known.
    pub cluster: String,
    /// The publishers whose records of images are used.
    pub trust: Trust,
    /// Digests of everything that determines a verdict; every finding carries them.
    pub versions: BTreeMap<String, String>,
}

impl Settings {
    /// The entries that a finding carries so that its judgement can be repeated: the version, and a digest of the
    /// settings.
    #[must_use]
    pub fn versions(park_ns: i64, trust: Trust) -> BTreeMap<String, String> {
        let config = format!("park_ms={} trust={}", park_ns / 1_000_000, trust.name());
        BTreeMap::from([
            ("enricher".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("enricher_config".to_owned(), Sha256::of(config.as_bytes()).to_string()),
        ])
    }
}

/// Every input of the enricher.
#[derive(Debug)]
pub enum Input {
    /// A record of the exec-events topic.
    Event(Position, ExecEvent),
    /// The shell's answer to [`ImageCommand::Load`], or a later change of that answer.
    Image(ImageView, ImageAnswer),
    /// The time has advanced.
    Tick,
}

/// State of an image.
#[derive(Debug, Clone)]
pub enum ImageAnswer {
    /// The image is published completely.
    Ready {
        /// The merged content of the image.
        index: Arc<ImageIndex>,
        /// How publishers contradict each other about the image, when they do.
        conflict: Option<String>,
    },
    /// As [`Self::Ready`], but the content is not in memory. Only the core itself sets this state.
    Dropped {
        /// As in `Ready`.
        conflict: Option<String>,
    },
    /// The image is not published yet.
    Missing,
    /// Loading the image was tried and failed.
    Failed {
        /// The reason.
        reason: String,
        /// Kind of the failure.
        failure: ImageFailure,
        /// End of validity of this answer, nanoseconds since 1970.
        retry_ns: i64,
    },
}

/// Commands of the enricher to its shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageCommand {
    /// Load an image; answer now, and again when the answer changes. A repeated command without a `Forget` before it
    /// means that the content was dropped to make room: the shell must return the content that it returned the first
    /// time.
    Load(ImageView),
    /// The image is no longer needed.
    Forget(ImageView),
}

/// The state of one partition of exec-events.
#[derive(Debug, Default)]
struct Partition {
    /// Its containers, in order of eviction.
    eviction_order: BTreeSet<(EvictionRank, ContainerId)>,
    /// Number of parked execs of all its containers.
    parked: usize,
    /// Memory of these execs.
    parked_bytes: usize,
}

/// The enricher's state; one task owns it.
///
/// # The steps of an exec
/// Each step is a file below `enricher/`, and calls only those below it in this table.
///
/// | step | entry | what it decides |
/// | --- | --- | --- |
/// | 1 container | `containers::track` | the container's entry; a full partition forgets another one |
/// | 2 queue | `Enricher::queue` | whether the exec is a duplicate; else it is parked behind the container's others |
/// | 3 readiness | `advance::readiness` | whether metadata and image are known, or why the exec is judged without them |
/// | 4 verdict | `judge` | what the image proves about the exec's files (`detection`) |
/// | 5 outcome | `report::settle` | a finding, another revision of one, or none; the exec's [`Disposition`] |
/// | | `unproven::report_first` | whether the exec has a finding of its own, or is one of the container's unproven ones |
/// | 6 schedule | `schedule::index` | the container's timer, and its place in the order of eviction |
///
/// Steps 3 to 5 run for the head of the container's queue (`advance::proceed`), triggered by the exec itself or by the
/// input that ends its wait: a container record, an image, the deadline. While the head waits, all later events of the
/// container wait behind it, and other containers proceed. After the deadline the head is judged unresolved. When the
/// image arrives, a finding that was published unresolved is amended under the same id.
///
/// # What outlives the process
/// The changelog holds containers, parked execs, which events were reported, and findings to amend (`state`). The state
/// of images is requested again, and rank, timers and backlog are derived from the rest. Only the durable part
/// determines the output, so a restored enricher emits the same records.
#[derive(Debug)]
pub struct Enricher {
    settings: Settings,
    containers: BTreeMap<ContainerId, TrackedContainer>,
    partitions: BTreeMap<i32, Partition>,
    images: BTreeMap<ImageView, UsedImage>,
    /// When the passing of time next changes each container.
    timers: BTreeSet<(i64, ContainerId)>,
    /// Containers that could proceed when [`Self::budget`] was used up.
    backlog: BTreeSet<ContainerId>,
    /// Number of execs and amendments that this call may still judge.
    budget: usize,
    /// Number of calls so far: the order in which images are used.
    calls: u64,
    /// Most bytes of images' contents in memory.
    images_bytes_max: usize,
    /// Images whose last container left with its partition; the next input sends `Forget` for them.
    unused: Vec<ImageView>,
}

type Fx = Effects<ImageCommand>;

impl Stage for Enricher {
    type Input = Input;
    type Command = ImageCommand;

    fn decode(&self, record: &Record) -> Result<Input, String> {
        let value = record.value.as_deref().unwrap_or_default();
        let event = ExecEvent::decode(value).map_err(|error| error.to_string())?;
        record.check_place(event.key(), self.settings.partitions)?;
        Ok(Input::Event(record.position(), event))
    }

    fn apply(&mut self, now_ns: i64, input: Input, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.budget = JUDGED_PER_APPLY_MAX;
        self.calls = self.calls.saturating_add(1);
        self.forget_unused_images(effects);
        match input {
            Input::Event(at, ExecEvent::Exec(exec)) => self.queue(now_ns, at, Queued::Exec(exec), effects)?,
            Input::Event(at, ExecEvent::Seen(seen)) => self.seen(now_ns, at, *seen, effects)?,
            Input::Event(at, ExecEvent::Ended(ended)) => self.ended(now_ns, at, &ended, effects)?,
            Input::Event(at, ExecEvent::Throttled(throttled)) => {
                self.queue(now_ns, at, Queued::Throttled(throttled), effects)?;
            }
            Input::Event(_, ExecEvent::Loss(loss)) => self.loss(&loss, effects)?,
            Input::Image(image, answer) => self.image(now_ns, &image, answer, effects)?,
            Input::Tick => self.tick(now_ns, effects)?,
        }
        self.continue_backlog(now_ns, effects)
    }

    fn has_due(&self, now_ns: i64) -> bool {
        !self.backlog.is_empty() || self.timers.first().is_some_and(|(due_ns, _)| *due_ns <= now_ns)
    }

    fn gap(&mut self, now_ns: i64, gap: Gap, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        effects.count("input_gap");
        let finding = finding::gap(now_ns, gap, &self.settings.cluster, &self.settings.versions);
        effects.emit(Topic::Findings, finding::GAP_NODE, &finding)
    }

    fn state_schemas() -> Vec<WriterSchema> {
        state::schemas()
    }

    fn state(&self, partition: i32, key: &str) -> Result<Option<Vec<u8>>, BrokenInvariant> {
        self.state_of(partition, key)
    }

    fn restore(
        &mut self,
        _: i64,
        partition: i32,
        state: BTreeMap<String, Vec<u8>>,
        schemas: &WriterSchemas,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        // This runs before images are requested by this input, because the shell would forget those.
        self.forget_unused_images(effects);
        self.restore_partition(partition, &state, schemas, effects)
    }

    fn held(&self) -> u64 {
        self.partitions.values().map(|partition| partition.parked as u64).sum()
    }

    fn drop_partition(&mut self, partition: i32) {
        self.partitions.remove(&partition);
        self.containers.retain(|_, tracked| tracked.partition != partition);
        let containers = &self.containers;
        self.timers.retain(|(_, id)| containers.contains_key(id));
        self.backlog.retain(|id| containers.contains_key(id));
        for image in self.images.values_mut() {
            image.users.retain(|id| containers.contains_key(id));
        }
        let unused = self.images.extract_if(.., |_, image| image.users.is_empty());
        self.unused.extend(unused.map(|(id, _)| id));
    }
}

impl Enricher {
    /// An enricher without state.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            containers: BTreeMap::new(),
            partitions: BTreeMap::new(),
            images: BTreeMap::new(),
            timers: BTreeSet::new(),
            backlog: BTreeSet::new(),
            budget: 0,
            calls: 0,
            images_bytes_max: usize::MAX,
            unused: Vec::new(),
        }
    }

    /// Every key of a partition that has state now: for checks that compare a core with one restored from the
    /// changelog. The executor never calls it.
    #[must_use]
    pub fn state_keys(&self, partition: i32) -> Vec<String> {
        self.keys_of(partition)
    }

    fn queue(&mut self, now_ns: i64, at: Position, event: Queued, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let id = event.container_id().clone();
        let tracked = self.track(now_ns, &id, at.partition, effects)?;
        if tracked.repeats(&event) {
            effects.settle(Disposition::Duplicate);
            self.index(&id);
            return Ok(());
        }
        let parked = Parked::new(event, false);
        let bytes = parked.bytes;
        if tracked.park(at.offset, parked).is_some() {
            return Err(BrokenInvariant(format!("offset {} of partition {} came twice", at.offset, at.partition)));
        }
        let owner = self.partitions.entry(at.partition).or_default();
        owner.parked += 1;
        owner.parked_bytes += bytes;
        self.proceed(now_ns, &id, effects)?;
        if let Some(tracked) = self.containers.get_mut(&id)
            && tracked.make_durable(at.offset) == Change::Changed
            && let Some(parked) = tracked.parked.get(&at.offset)
        {
            effects.touch(at.partition, Kind::parked(&parked.event).key(&id, at.offset));
        }
        self.release_longest_waiting(now_ns, at.partition, effects)
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
        let trust = self.settings.trust;
        let tracked = self.track(now_ns, &id, at.partition, effects)?;
        let before = tracked.image().cloned();
        if tracked.describe(seen, trust) == Change::Changed {
            effects.touch(at.partition, container_key(&id));
        }
        let image = tracked.image().cloned();
        if image != before {
            before.iter().for_each(|image| self.release_image(image, &id, effects));
            image.iter().for_each(|image| self.use_image(image, &id, effects));
            if image.is_some_and(|image| self.is_dropped(&image)) {
                self.resume_with_image(&id, effects);
            }
        }
        self.proceed(now_ns, &id, effects)
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
        if !self.containers.contains_key(id) {
            return Ok(());
        }
        self.track(now_ns, id, at.partition, effects)?.end(now_ns);
        effects.touch(at.partition, container_key(id));
        self.proceed(now_ns, id, effects)
    }

    fn loss(&self, loss: &CollectorLoss, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        effects.settle(Disposition::Reported);
        let finding = finding::loss(loss, &self.settings.versions);
        effects.emit(Topic::Findings, &loss.node.name, &finding)
    }

    fn tick(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let keys_max = effects.touched_count().saturating_add(TIMER_STATE_KEYS_MAX);
        for _ in 0..TIMERS_PER_TICK_MAX {
            let Some((due_ns, id)) = self.timers.first().cloned().filter(|(due_ns, _)| *due_ns <= now_ns) else {
                break;
            };
            if effects.touched_count() >= keys_max {
                break;
            }
            self.timer_fired(now_ns, &id, effects)?;
            if self.timers.contains(&(due_ns, id)) {
                return Err(BrokenInvariant("a timer fired, and nothing came of it".to_owned()));
            }
        }
        self.expire_failures(now_ns);
        self.request_missing(now_ns, effects)
    }
}

#[cfg(test)]
mod tests;
