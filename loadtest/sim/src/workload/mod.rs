//! The events outside of driftline in one run: the records of collectors and indexers, their times, and their expected
//! results. All of it is drawn before the run begins, so that two runs can get the same events.

mod execs;
mod images;

use driftline_schemas::topics::Topic;
use driftline_schemas::{
    CollectorLoss, Container, ContainerEnded, ContainerId, ContainerSeen, ContainerThrottled, ImageId, Node, Record,
    Severity, Sha256, encode,
};
use std::collections::{BTreeMap, BTreeSet};

use crate::fault::{Fault, Hits};
use crate::rng::Rng;
use crate::world::{MILLISECOND_NS, SECOND_NS};
use execs::Draft;
use images::ImagePlan;

/// Start time of every run.
pub(crate) const START_NS: i64 = 1_700_000_000 * SECOND_NS;
pub(crate) const CLUSTER: &str = "sim";

/// A record or event on the topics.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// A record of exec-events.
    Event { key: Vec<u8>, value: Option<Vec<u8>> },
    /// A record of an image table; the key by which it is partitioned comes first.
    Table { topic: Topic, by: Vec<u8>, key: Vec<u8>, value: Vec<u8> },
    /// A record of the findings topic that is not a finding.
    BadFinding { key: Vec<u8>, value: Option<Vec<u8>> },
}

/// How much of a container's findings is determined beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Clarity {
    /// All findings, unless a deadline fires.
    Exact,
    /// The findings in the end.
    InTheEnd,
    /// Only that no record is lost or duplicated.
    Vague,
}

/// The expected result of one exec, known by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub container: String,
    pub finding: Option<Expected>,
    /// The first result, when its digest arrives late.
    pub early: Option<Early>,
    /// Whether it is reported even if its image is not available.
    pub suspicious: bool,
    pub path: String,
}

/// The expected result of an exec without its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    /// One of the execs that have a finding together.
    Unproven,
    Finding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub category: &'static str,
    pub severity: Severity,
    pub origin: driftline_schemas::Origin,
    /// Reported once for each container and path.
    pub once_per_path: bool,
}

/// The plan; see the module.
#[derive(Debug)]
pub(crate) struct Plan {
    pub partitions: i32,
    pub enrichers: usize,
    pub correlators: usize,
    /// Memory that each correlator's sessions may take.
    pub sessions_bytes_max: usize,
    /// In order of time.
    pub actions: Vec<(i64, Action)>,
    /// By event id.
    pub labels: BTreeMap<String, Label>,
    pub clarity: BTreeMap<String, Clarity>,
    /// The flaw of a container's image, by its category.
    pub image_flaws: BTreeMap<String, &'static str>,
    /// Containers of which an exec is delivered when its session is forgotten. The session that it opens has a flag for
    /// that, unless it is too weak for an alert.
    pub very_late: BTreeSet<String>,
    /// Records that must become dead letters.
    pub poison: u64,
    pub end_ns: i64,
    /// Disorder that is part of the workload.
    pub hits: Hits,
}

/// A container and the time of its description.
struct ContainerPlan {
    id: String,
    node: String,
    image: usize,
    described_ns: Option<i64>,
    image_known_ns: i64,
    started_ns: i64,
    privileged: bool,
    host_namespaces: Vec<String>,
    clarity: Clarity,
}

/// Builds a [`Plan`].
struct Planner {
    rng: Rng,
    seed: u64,
    actions: Vec<(i64, Action)>,
    labels: BTreeMap<String, Label>,
    clarity: BTreeMap<String, Clarity>,
    image_flaws: BTreeMap<String, &'static str>,
    very_late: BTreeSet<String>,
    poison: u64,
    hits: Hits,
    execs: u64,
    /// The last exec of the container that is planned.
    last_exec: Option<driftline_schemas::Exec>,
}

/// The memory limit of sessions: in one plan of four so small that sessions must be evicted. It has a stream of its
/// own, so that a seed keeps its other draws.
fn sessions_bytes_max(seed: u64) -> usize {
    let mut rng = Rng::new(seed ^ 0x5e55_1045);
    if rng.one_in(4) { rng.one_of([6_000, 15_000, 40_000]) } else { usize::MAX }
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let partitions = rng.one_of([1, 1, 2, 3, 4]);
        let enrichers = rng.one_of([1, 2, 2, 3]);
        let correlators = rng.one_of([1, 1, 2, 3]);
        let mut planner = Planner {
            rng: rng.fork(7),
            seed,
            actions: Vec::new(),
            labels: BTreeMap::new(),
            clarity: BTreeMap::new(),
            image_flaws: BTreeMap::new(),
            very_late: BTreeSet::new(),
            poison: 0,
            hits: Hits::new(),
            execs: 0,
            last_exec: None,
        };
        let end_ns = planner.plan();
        let Planner { mut actions, labels, clarity, image_flaws, very_late, poison, hits, .. } = planner;
        actions.sort_by_key(|(at_ns, _)| *at_ns);
        Self {
            partitions,
            enrichers,
            correlators,
            sessions_bytes_max: sessions_bytes_max(seed),
            actions,
            labels,
            clarity,
            image_flaws,
            very_late,
            poison,
            end_ns,
            hits,
        }
    }
}

impl Planner {
    fn hit(&mut self, fault: Fault) {
        *self.hits.entry(fault).or_default() += 1;
    }

    fn at(&mut self, at_ns: i64, action: Action) {
        self.actions.push((at_ns, action));
    }

    fn event<R: Record>(&mut self, at_ns: i64, key: &str, record: &R) {
        // Every record here is small and of a schema of driftline: it can be encoded.
        let value = encode(record).ok();
        self.at(at_ns, Action::Event { key: key.as_bytes().to_vec(), value });
    }

    /// Plans the whole run; returns its end.
    fn plan(&mut self) -> i64 {
        let images: Vec<ImagePlan> =
            (0..self.rng.between(1, 3)).map(|number| ImagePlan::new(self.seed, number)).collect();
        let bursts: Vec<i64> = self.bursts();
        let count = self.rng.between(1, 4);
        let containers: Vec<ContainerPlan> =
            (0..count).map(|number| self.container(number, &images, &bursts)).collect();
        let first_ns = bursts.first().copied().unwrap_or(START_NS);
        for (number, image) in images.iter().enumerate() {
            let (clarity, flaw) = self.publish(image, first_ns);
            for container in containers.iter().filter(|container| container.image == number) {
                let worst = container.clarity.max(clarity);
                self.clarity.insert(container.id.clone(), worst);
                self.image_flaws.extend(flaw.map(|flaw| (container.id.clone(), flaw)));
            }
        }
        let mut end_ns = first_ns;
        for container in &containers {
            end_ns = end_ns.max(self.live(container, images.get(container.image), &bursts));
        }
        self.losses(&bursts);
        self.bad_records(&bursts);
        end_ns.saturating_add(45 * SECOND_NS)
    }

    /// The times of the execs: gaps before, at and after the end of a session.
    fn bursts(&mut self) -> Vec<i64> {
        let mut at_ns = START_NS + 5 * SECOND_NS;
        let count = self.rng.between(1, 4);
        (0..count)
            .map(|_| {
                let burst_ns = at_ns;
                at_ns += self.rng.one_of([6, 22, 29, 34, 45, 170]) * SECOND_NS;
                burst_ns
            })
            .collect()
    }

    fn container(&mut self, number: i64, images: &[ImagePlan], bursts: &[i64]) -> ContainerPlan {
        let first_ns = bursts.first().copied().unwrap_or(START_NS);
        let mut plan = ContainerPlan {
            id: Sha256::of(format!("container {} {number}", self.seed).as_bytes()).to_string(),
            node: format!("node-{}", number % 2),
            image: usize::try_from(self.rng.below(images.len() as u64)).unwrap_or(0),
            described_ns: Some(first_ns - 2 * SECOND_NS),
            image_known_ns: 0,
            started_ns: self.rng.one_of([0, START_NS - 9_000 * SECOND_NS, first_ns - 5 * SECOND_NS]),
            privileged: self.rng.one_in(6),
            host_namespaces: if self.rng.one_in(8) { vec!["pid".to_owned()] } else { Vec::new() },
            clarity: Clarity::Exact,
        };
        match self.rng.below(12) {
            0..=1 => {
                self.hit(Fault::MetadataLate);
                plan.described_ns = Some(first_ns + self.rng.between(SECOND_NS / 5, 3 * SECOND_NS));
            }
            2 => {
                self.hit(Fault::MetadataLate);
                plan.described_ns = Some(first_ns + self.rng.between(8 * SECOND_NS, 40 * SECOND_NS));
                plan.clarity = Clarity::InTheEnd;
            }
            3 => {
                self.hit(Fault::ImageIdLate);
                plan.image_known_ns = first_ns + self.rng.between(SECOND_NS, 40 * SECOND_NS);
                plan.clarity = Clarity::InTheEnd;
            }
            4 => {
                self.hit(Fault::MetadataMissing);
                plan.described_ns = None;
                plan.clarity = Clarity::Vague;
            }
            _ => {}
        }
        plan
    }

    /// Plans everything that one container does; returns the time of its last record.
    fn live(&mut self, container: &ContainerPlan, image: Option<&ImagePlan>, bursts: &[i64]) -> i64 {
        self.last_exec = None;
        let mut last_ns = START_NS;
        let mut last_in_order_ns = START_NS;
        for (number, burst_ns) in bursts.iter().enumerate() {
            for _ in 0..self.rng.between(0, 6) {
                let time_ns = burst_ns.saturating_add(self.rng.between(0, 4 * SECOND_NS));
                let Some(image) = image else { continue };
                let delivered_ns = self.exec(container, image, time_ns);
                last_ns = last_ns.max(delivered_ns);
                last_in_order_ns = last_in_order_ns.max(time_ns + SECOND_NS);
            }
            if self.rng.one_in(8) {
                let delivered_ns = self.throttle(container, *burst_ns);
                last_ns = last_ns.max(delivered_ns);
            }
            // Collectors describe containers repeatedly.
            if number > 0 {
                self.describe(container, *burst_ns - SECOND_NS);
            }
        }
        if let Some(at_ns) = container.described_ns {
            self.describe(container, at_ns);
            if container.image_known_ns > at_ns {
                self.describe(container, container.image_known_ns);
                last_ns = last_ns.max(container.image_known_ns);
            }
            last_ns = last_ns.max(at_ns);
        }
        if self.rng.one_in(4) {
            self.hit(Fault::ContainerEnd);
            let ended_ns = last_ns.max(last_in_order_ns).saturating_add(self.rng.between(10, 4_000) * MILLISECOND_NS);
            let ended = ContainerEnded {
                container_id: ContainerId::from(container.id.as_str()),
                cluster: CLUSTER.to_owned(),
                node: container.node.clone(),
                ended_ns,
            };
            self.event(ended_ns, &container.id, &ended);
            last_ns = ended_ns;
            if let Some(exec) = self.last_exec.take().filter(|_| self.rng.one_in(2)) {
                // The record of a collector that ended before its spool recorded the acknowledgement.
                self.hit(Fault::DuplicateDelivery);
                let again_ns = ended_ns.saturating_add(self.rng.between(0, 8_000) * MILLISECOND_NS);
                self.event(again_ns, &container.id, &exec);
                last_ns = again_ns.saturating_add(MILLISECOND_NS);
                self.event(last_ns, &container.id, &ended);
            }
        }
        last_ns
    }

    fn describe(&mut self, container: &ContainerPlan, at_ns: i64) {
        if container.described_ns.is_none_or(|first_ns| at_ns < first_ns) {
            return;
        }
        let known = at_ns >= container.image_known_ns;
        let image_id = if known { images::id(self.seed, container.image) } else { ImageId::default() };
        let seen = ContainerSeen {
            seen_ns: at_ns,
            node: node(&container.node),
            container: Container {
                id: ContainerId::from(container.id.as_str()),
                name: "app".to_owned(),
                runtime: "containerd".to_owned(),
                image_ref: format!("registry/image-{}:1", container.image),
                image_id,
                privileged: container.privileged,
                host_namespaces: container.host_namespaces.clone(),
                started_ns: container.started_ns,
                ..Container::default()
            },
            ..ContainerSeen::default()
        };
        self.event(at_ns, &container.id, &seen);
    }

    /// Plans one exec, perhaps late, perhaps twice; returns the time of delivery.
    fn exec(&mut self, container: &ContainerPlan, image: &ImagePlan, time_ns: i64) -> i64 {
        self.execs += 1;
        let Draft { exec, label } =
            execs::draw(&mut self.rng, self.seed, self.execs, image, (&container.id, &container.node), time_ns);
        let mut delivered_ns = time_ns.saturating_add(self.rng.between(1, 60) * MILLISECOND_NS);
        if self.rng.one_in(12) {
            self.hit(Fault::LateDelivery);
            // Either the session is still kept, or it is forgotten by any clock.
            let very_late = self.seed.is_multiple_of(16) && self.rng.one_in(4);
            if very_late {
                self.very_late.insert(container.id.clone());
            }
            let late_s = if very_late { self.rng.between(4_800, 6_000) } else { self.rng.between(5, 120) };
            delivered_ns = delivered_ns.saturating_add(late_s * SECOND_NS);
        }
        let is_late = label.early.is_some();
        self.labels.insert(exec.event_id.to_string(), label);
        if is_late {
            self.hit(Fault::LateDigest);
            self.event(delivered_ns, &container.id, &execs::without_digest(&exec));
            delivered_ns = delivered_ns.saturating_add(self.rng.between(0, 9_000) * MILLISECOND_NS);
        }
        self.event(delivered_ns, &container.id, &exec);
        self.last_exec = Some(exec.clone());
        if self.rng.one_in(8) {
            self.hit(Fault::DuplicateDelivery);
            let again_ns = delivered_ns.saturating_add(self.rng.between(0, 8_000) * MILLISECOND_NS);
            self.event(again_ns, &container.id, &exec);
            return again_ns;
        }
        delivered_ns
    }

    /// Plans a throttling record of a container, perhaps twice; returns the time of delivery.
    fn throttle(&mut self, container: &ContainerPlan, burst_ns: i64) -> i64 {
        self.hit(Fault::Throttle);
        let throttled = ContainerThrottled {
            container_id: ContainerId::from(container.id.as_str()),
            node: node(&container.node),
            collector_start: "start".to_owned(),
            from_ns: burst_ns,
            to_ns: burst_ns.saturating_add(self.rng.between(1, 4) * SECOND_NS),
            ordinary: self.rng.between(1, 9),
            folded: 0,
            files: 0,
            examples: Vec::new(),
        };
        self.labels.insert(throttled.event_id().to_string(), execs::throttle_label(&container.id));
        let mut told_ns = throttled.to_ns;
        self.event(told_ns, &container.id, &throttled);
        if self.rng.one_in(4) {
            self.hit(Fault::DuplicateDelivery);
            told_ns = told_ns.saturating_add(self.rng.between(0, 8_000) * MILLISECOND_NS);
            self.event(told_ns, &container.id, &throttled);
        }
        told_ns
    }

    fn losses(&mut self, bursts: &[i64]) {
        for burst_ns in bursts {
            if self.rng.one_in(5) {
                let loss = CollectorLoss {
                    node: node("node-0"),
                    collector_start: "start".to_owned(),
                    from_ns: burst_ns - SECOND_NS,
                    to_ns: *burst_ns,
                    lost: Some(self.rng.between(1, 9)),
                    reason: "ring_full".to_owned(),
                };
                self.event(burst_ns.saturating_add(SECOND_NS), "node-0", &loss);
            }
        }
    }

    fn bad_records(&mut self, bursts: &[i64]) {
        for burst_ns in bursts {
            if !self.rng.one_in(3) {
                continue;
            }
            self.hit(Fault::Poison);
            self.poison += 1;
            let at_ns = burst_ns.saturating_add(self.rng.between(0, 4_000) * MILLISECOND_NS);
            let key = format!("key-{}", self.rng.below(5)).into_bytes();
            let loss = CollectorLoss {
                node: node("node-1"),
                collector_start: String::new(),
                from_ns: 0,
                to_ns: 0,
                lost: None,
                reason: String::new(),
            };
            let whole = encode(&loss).unwrap_or_default();
            let value = match self.rng.below(6) {
                0 => None,
                1 => Some(Vec::new()),
                2 => Some(b"not avro at all".to_vec()),
                3 => Some([[0xC3, 0x01].as_slice(), &[7; 20]].concat()),
                4 => whole.get(..whole.len() / 2).map(<[u8]>::to_vec),
                // A good record under a key that is not its own.
                _ => Some(whole),
            };
            if self.rng.one_in(4) {
                self.at(at_ns, Action::BadFinding { key, value });
            } else {
                self.at(at_ns, Action::Event { key, value });
            }
        }
    }
}

fn node(name: &str) -> Node {
    Node { cluster: CLUSTER.to_owned(), name: name.to_owned(), zone: "z".to_owned(), ..Node::default() }
}
