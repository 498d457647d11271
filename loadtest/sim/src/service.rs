//! The two services as the simulation runs them: the core, and a small shell that executes its commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftline_correlator_core::{self as correlator, Correlator};
use driftline_enricher_core::image::ImageIndex;
use driftline_enricher_core::tables::{Following, ImageTables, Lookup};
use driftline_enricher_core::{Enricher, ImageAnswer, ImageCommand, ImageView, Input, Settings};
use driftline_schemas::topics::Topic;
use driftline_schemas::{Image, ImageEvent, ImageId, LayerEvent, decode};
use driftline_service_core::{Roles, Stage};

use crate::broker::{Data, TopicPartition};
use crate::mutant::Mutant;
use crate::rng::Rng;
use crate::watch::Core;
use crate::world::{MILLISECOND_NS, SECOND_NS, World};

/// The settings of the cores.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub enricher: Settings,
    pub correlator: correlator::Settings,
}

/// A service.
pub(crate) trait Service {
    type Core: Core;
    type Shell: Shell<<Self::Core as Stage>::Input, <Self::Core as Stage>::Command>;

    const ROLES: Roles;
    const INPUT: Topic;

    fn core(setup: &Setup) -> Self::Core;
    fn tick() -> <Self::Core as Stage>::Input;
}

/// The service-specific part.
pub(crate) trait Shell<I, C> {
    /// A shell that has read its tables up to their present ends.
    fn start(world: &World, chance: Rng) -> Self;

    fn command(&mut self, command: C, world: &World);

    /// Reads new table records; returns the next input for the core that is due.
    fn next(&mut self, world: &World) -> Option<I>;

    /// The next time at which the shell has work.
    fn due_ns(&self, world: &World) -> i64;
}

/// The enricher.
#[derive(Debug)]
pub(crate) struct Enriching;

impl Core for Enricher {
    fn keys(&self, partition: i32) -> Vec<String> {
        self.state_keys(partition)
    }
}

impl Service for Enriching {
    type Core = Enricher;
    type Shell = EnricherShell;

    const ROLES: Roles = Roles { service: "enricher", state: Topic::EnricherState, has_markers: false };
    const INPUT: Topic = Topic::ExecEvents;

    fn core(setup: &Setup) -> Enricher {
        Enricher::new(setup.enricher.clone())
    }

    fn tick() -> Input {
        Input::Tick
    }
}

/// The correlator.
#[derive(Debug)]
pub(crate) struct Correlating;

impl Core for Correlator {
    fn keys(&self, partition: i32) -> Vec<String> {
        self.state_keys(partition)
    }

    fn spoil(input: &mut correlator::Input, now_ns: i64) {
        if let correlator::Input::Finding { finding, .. } = input {
            finding.event_time_ns = now_ns;
        }
    }
}

impl Service for Correlating {
    type Core = Correlator;
    type Shell = NoShell;

    const ROLES: Roles = Roles { service: "correlator", state: Topic::CorrelatorState, has_markers: true };
    const INPUT: Topic = Topic::Findings;

    fn core(setup: &Setup) -> Correlator {
        Correlator::new(setup.correlator.clone(), setup.enricher.partitions)
    }

    fn tick() -> correlator::Input {
        correlator::Input::Tick
    }
}

/// The correlator has no commands.
#[derive(Debug)]
pub(crate) struct NoShell;

impl Shell<correlator::Input, correlator::Command> for NoShell {
    fn start(_: &World, _: Rng) -> Self {
        Self
    }

    fn command(&mut self, command: correlator::Command, _: &World) {
        match command {}
    }

    fn next(&mut self, _: &World) -> Option<correlator::Input> {
        None
    }

    fn due_ns(&self, _: &World) -> i64 {
        i64::MAX
    }
}

/// Image tables, whose partitions are read in parallel, and pending answers.
#[derive(Debug)]
pub(crate) struct EnricherShell {
    tables: ImageTables,
    positions: BTreeMap<TopicPartition, i64>,
    following: Following,
    /// Answers by the time at which they are available.
    answers: BTreeMap<(i64, u64), (ImageView, ImageAnswer)>,
    sent: u64,
    chance: Rng,
    /// Images that the tables contain, complete or not; for a planted bug.
    named: BTreeSet<ImageId>,
}

impl EnricherShell {
    fn read(&mut self, world: &World) {
        for topic_partition in
            [Topic::Images, Topic::ImageLayers].into_iter().flat_map(|topic| world.broker.topic_partitions(topic))
        {
            let from = self.positions.get(&topic_partition).copied().unwrap_or(0);
            if from >= world.broker.high_watermark(topic_partition) {
                continue;
            }
            let fetched = world.broker.fetch(topic_partition, from, usize::MAX);
            self.positions.insert(topic_partition, fetched.next);
            for (_, data) in fetched.records {
                self.take(topic_partition.0, data, world);
            }
        }
    }

    fn take(&mut self, topic: Topic, data: &Data, world: &World) {
        let Some(value) = &data.value else { return };
        let event = match topic {
            Topic::Images => decode::<Image>(value).map(ImageEvent::Image),
            _ => LayerEvent::decode(value).map(ImageEvent::Layer),
        };
        let change = match event {
            Ok(ImageEvent::Image(image)) => {
                self.named.insert(image.image_id.clone());
                self.tables.image(image)
            }
            Ok(ImageEvent::Layer(layer)) => self.tables.layer(layer),
            Err(_) => return,
        };
        let Ok(change) = change else { return };
        self.following.concerned(&[change], &self.tables).iter().for_each(|view| self.answer(view, world));
    }

    fn answer(&mut self, view: &ImageView, world: &World) {
        let answer = match self.tables.lookup(view) {
            // In memory nothing is collected.
            Lookup::Missing | Lookup::Collected(_) => match self.half(&view.image, world) {
                Some(index) => ImageAnswer::Ready { index, conflict: None },
                None => ImageAnswer::Missing,
            },
            Lookup::Failed { reason, failure, retry_ns } => ImageAnswer::Failed { reason, failure, retry_ns },
            Lookup::Complete { stored, conflict } => match stored.load(self.tables.chunks()) {
                Ok(index) => ImageAnswer::Ready { index: Arc::new(index), conflict },
                Err(error) => ImageAnswer::unusable(&error),
            },
        };
        let late_ns = match self.chance.below(8) {
            0 => self.chance.between(0, 2 * SECOND_NS),
            1..4 => self.chance.between(0, 100 * MILLISECOND_NS),
            _ => 0,
        };
        self.sent += 1;
        self.answers.insert((world.now_ns.saturating_add(late_ns), self.sent), (view.clone(), answer));
    }

    /// The planted bug: missing layers count as empty.
    fn half(&self, id: &ImageId, world: &World) -> Option<Arc<ImageIndex>> {
        if !world.has(Mutant::HalfLayerUsed) || !self.named.contains(id) {
            return None;
        }
        driftline_enricher_core::image::merge(&[Arc::default()]).ok().map(Arc::new)
    }
}

impl Shell<Input, ImageCommand> for EnricherShell {
    fn start(world: &World, chance: Rng) -> Self {
        let mut shell = Self {
            tables: ImageTables::default(),
            positions: BTreeMap::new(),
            following: Following::default(),
            answers: BTreeMap::new(),
            sent: 0,
            chance,
            named: BTreeSet::new(),
        };
        shell.read(world);
        shell
    }

    fn command(&mut self, command: ImageCommand, world: &World) {
        match command {
            ImageCommand::Load(view) => {
                self.following.ask(view.clone());
                self.answer(&view, world);
            }
            ImageCommand::Forget(view) => self.following.forget(&view),
        }
    }

    fn next(&mut self, world: &World) -> Option<Input> {
        self.read(world);
        let entry = self.answers.first_entry().filter(|entry| entry.key().0 <= world.now_ns)?;
        let (view, answer) = entry.remove();
        self.following.answered(&view, &answer);
        Some(Input::Image(view, answer))
    }

    fn due_ns(&self, world: &World) -> i64 {
        let behind = |topic_partition: &TopicPartition| {
            self.positions.get(topic_partition).copied().unwrap_or(0) < world.broker.high_watermark(*topic_partition)
        };
        let mut topic_partitions =
            [Topic::Images, Topic::ImageLayers].into_iter().flat_map(|topic| world.broker.topic_partitions(topic));
        if topic_partitions.any(|topic_partition| behind(&topic_partition)) {
            return world.now_ns;
        }
        self.answers.first_key_value().map_or(i64::MAX, |((due_ns, _), _)| *due_ns)
    }
}
