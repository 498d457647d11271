//! All state of one node's collector, and what each input does to it.
//!
//! An exec waits here until it can be told whole and in order: execs that happened before it in its container have gone
//! out (there are two rings), its container is described, its digest is known. Each wait has a named end in
//! [`limits`], after which the exec goes out with what is known. So every exec has exactly one outcome, counted as a
//! [`Disposition`]: sent, or dropped for a reason.
//!
//! Order: the execs of a container leave in the order of their [`Moment`], unless one shows up after [`limits::ORDER_WAIT`].

use driftline_schemas::topics::Topic;
use driftline_schemas::{Container, ContainerId, Mount};
use driftline_service_core::{BrokenInvariant, Disposition, Effects};
use std::collections::BTreeMap;

use crate::class::{self, ContainerRoot};
use crate::container::{Cgroup, cgroup};
use crate::digest::{DigestCache, DigestJob, DigestOutcome};
use crate::limits;
use crate::mounts::{KernelMount, Mounts};
use crate::programs::Programs;
use crate::raw::{KnownFile, Moment, Packed, RawExec};
use crate::redaction::Redaction;

mod digests;
mod held;
mod late;
mod losses;
mod nested;
mod output;
mod throttle;
mod tracked;
use late::Late;
pub use losses::Loss;
use losses::Losses;
use throttle::Passage;
use tracked::{Held, Metadata, RootSource, Tracked, Wait};

/// What does not change while a collector runs.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Node, cluster and cloud names.
    pub node: driftline_schemas::Node,
    /// Kernel boot id.
    pub boot_id: String,
    /// Id of this run.
    pub collector_start: String,
    /// The host's mount namespace; 0 when it cannot be seen.
    pub host_mnt_ns: u32,
    /// What must not leave the node in arguments.
    pub redaction: Redaction,
}

/// A container as its runtime describes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Description {
    /// Names, image, pod.
    pub container: Container,
    /// Mounts as the runtime names them.
    pub mounts: Vec<Mount>,
    /// First process on the host.
    pub init_pid: Option<i32>,
    /// It ran, and does not any more: nobody will say that it ends.
    pub has_ended: bool,
    /// A pod's sandbox (pause), not a container.
    pub is_sandbox: bool,
    /// How often it was started anew in its pod.
    pub attempt: i32,
    /// Annotations of its pod that may be told.
    pub annotations: BTreeMap<String, String>,
    /// What runs it.
    pub runtime_handler: String,
    /// Its programs run on another kernel: none of its execs can be seen.
    pub is_unseen: bool,
}

/// Where the node is, as its cluster says. Empty is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The cloud provider's id of it.
    pub provider_id: String,
    /// Its zone.
    pub zone: String,
}

/// What the first process of a container shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Its root.
    pub root: ContainerRoot,
    /// Its mounts, as the kernel names them.
    pub mounts: Vec<KernelMount>,
}

/// Everything that can happen to a node.
#[derive(Debug)]
pub enum Input {
    /// What was in the rings.
    Records(Records),
    /// A runtime's answer; `None`: no runtime knows the container, or none answered.
    Described(ContainerId, Option<Box<Description>>),
    /// What the first process shows; `None`: it is gone, or belongs to something else by now.
    Inspected(ContainerId, Option<Box<Inspection>>),
    /// A digest is there, or why not.
    Digested(ContainerId, Moment, DigestOutcome),
    /// So many files wait for being hashed that this one has to be asked for again later.
    NotHashed(Box<DigestJob>),
    /// All running containers: at start, and hourly.
    Running(Vec<Description>),
    /// The first process of a container is gone, or its runtime does not run it any more. What it executed up to now may
    /// still lie in the rings.
    Ended(ContainerId),
    /// Execs were lost since the last time this was said.
    Lost(Loss, u64),
    /// Records about containers were lost after they had been emitted.
    ContainersLost,
    /// The cluster says where the node is.
    Placed(Placement),
    /// Time has passed.
    Tick,
    /// The collector stops: nothing more will be read, nothing is waited for.
    Stop,
}

/// One reading of both rings.
#[derive(Debug, Default)]
pub struct Records {
    /// Of programs that ran already, in any order.
    pub running: Vec<Box<RawExec>>,
    /// What was in the rings, in any order.
    pub execs: Packed,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Every exec before this boot time has been read.
    pub complete_until_ns: u64,
    /// Wall clock minus boot clock.
    pub boot_offset_ns: i64,
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Ask the runtimes what this container is; answer with [`Input::Described`].
    Describe(ContainerId),
    /// Hash a file; answer with [`Input::Digested`].
    Digest(Box<DigestJob>),
    /// Look at the first process of this container; answer with [`Input::Inspected`], and say [`Input::Ended`] when it
    /// is gone.
    Inspect(ContainerId, i32),
    /// The digest of this exec will be asked for later: whatever is held for it should be kept, if there is room.
    Keep(ContainerId, Moment),
    /// It will not.
    Drop(Moment),
    /// The digest of this file is remembered: nothing has to be caught of its execs.
    Know(KnownFile),
}

impl Records {
    /// [`Self::complete_until_ns`] on the wall clock.
    #[must_use]
    pub fn complete_until(&self) -> i64 {
        i64::try_from(self.complete_until_ns).unwrap_or(i64::MAX).saturating_add(self.boot_offset_ns)
    }
}

type Fx = Effects<Ask>;

/// State of a node.
#[derive(Debug)]
pub struct Node {
    settings: NodeSettings,
    /// Where the node is by the settings, which nobody overrules.
    said: Placement,
    containers: BTreeMap<ContainerId, Tracked>,
    digests: DigestCache,
    programs: Programs,
    complete_until_ns: u64,
    /// Wall clock minus boot clock; see [`limits::CLOCK_JUMP`].
    boot_offset_ns: Option<i64>,
    losses: Losses,
    late: Late,
    stopping: Wait,
}

impl Node {
    /// A node of which nothing is known yet.
    #[must_use]
    pub fn new(settings: NodeSettings, now_ns: i64) -> Self {
        let driftline_schemas::Node { provider_id, zone, .. } = settings.node.clone();
        Self {
            settings,
            said: Placement { provider_id, zone },
            containers: BTreeMap::new(),
            digests: DigestCache::default(),
            programs: Programs::default(),
            complete_until_ns: 0,
            boot_offset_ns: None,
            losses: Losses::new(now_ns),
            late: Late::default(),
            stopping: Wait::Allowed,
        }
    }

    /// How many execs are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.containers.values().map(|tracked| tracked.held.len()).sum()
    }

    /// What the held execs take of memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.containers.values().map(|tracked| tracked.held.bytes()).sum()
    }

    /// How many containers are known.
    #[must_use]
    pub fn container_count(&self) -> usize {
        self.containers.len()
    }

    /// Takes one input. `now_ns` is the wall clock and never goes back.
    ///
    /// # Errors
    /// Only when a record of our own cannot be encoded: a defect.
    pub fn apply(&mut self, now_ns: i64, input: Input, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        match input {
            Input::Records(records) => self.on_records(now_ns, records, effects)?,
            Input::Described(id, answer) => self.on_described(now_ns, &id, answer.map(|it| *it), effects)?,
            Input::Inspected(id, inspection) => self.on_inspected(now_ns, &id, inspection.map(|it| *it), effects)?,
            Input::Digested(id, moment, outcome) => self.on_digested(now_ns, &id, moment, outcome, effects)?,
            Input::NotHashed(job) => self.on_not_hashed(now_ns, job, effects)?,
            Input::Running(all) => {
                for description in all {
                    let id = description.container.id.clone();
                    self.on_described(now_ns, &id, Some(description), effects)?;
                }
            }
            Input::Ended(id) => {
                if let Some(tracked) = self.containers.get_mut(&id) {
                    tracked.ended_ns.get_or_insert(now_ns);
                }
                self.release(now_ns, &id, effects)?;
            }
            Input::Lost(loss, count) => self.losses.add(loss, count),
            Input::ContainersLost => self.describe_anew(effects),
            Input::Placed(placement) => self.on_placed(placement, effects),
            Input::Tick => self.on_tick(now_ns, effects)?,
            Input::Stop => {
                self.stopping = Wait::Over;
                self.release_all(now_ns, effects)?;
                self.report_throttled(now_ns, effects)?;
                self.report_losses(now_ns, effects)?;
            }
        }
        Ok(())
    }

    fn on_records(&mut self, now_ns: i64, records: Records, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.complete_until_ns = self.complete_until_ns.max(records.complete_until_ns);
        self.follow_clock(records.boot_offset_ns);
        for _ in 0..records.undecodable {
            effects.settle(Disposition::Dropped("undecodable"));
            self.losses.add(Loss::Undecodable, 1);
        }
        // There are two rings: what a process did first has to be known first.
        let (mut running, mut execs) = (records.running, records.execs);
        running.sort_by_key(|exec| exec.moment);
        for exec in running.into_iter().chain(execs.in_order()) {
            match cgroup(&exec.cgroup) {
                Cgroup::Container(id, outer) => self.on_exec(now_ns, id, outer, exec, effects)?,
                Cgroup::Monitor => effects.settle(Disposition::Dropped("monitor")),
                Cgroup::Other => effects.settle(Disposition::Dropped("not_a_container")),
            }
        }
        self.release_all(now_ns, effects)
    }

    fn follow_clock(&mut self, offset_ns: i64) {
        let jump = limits::CLOCK_JUMP.unsigned_abs();
        self.boot_offset_ns = self.boot_offset_ns.filter(|held| held.abs_diff(offset_ns) <= jump).or(Some(offset_ns));
    }

    fn on_exec(
        &mut self,
        now_ns: i64,
        id: ContainerId,
        outer: Vec<ContainerId>,
        exec: Box<RawExec>,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        // What a runtime starts on its way into a container has executed nothing there before, as `nsenter` on its way out
        // has.
        let was_inside = self.programs.knows(&exec);
        if !was_inside && class::is_runtime_helper(&exec, None, self.settings.host_mnt_ns) {
            effects.settle(Disposition::Dropped("runtime_helper"));
            return Ok(());
        }
        self.programs.learn(&exec);
        for outer in &outer {
            self.track(now_ns, outer, effects)?;
        }
        let tracked = self.track(now_ns, &id, effects)?;
        tracked.heard_ns = now_ns;
        if let Some(pid) = tracked.learn_root(&exec) {
            effects.ask(Ask::Inspect(id.clone(), pid));
        }
        let held = Held { was_inside, outer, ..Held::new(exec, now_ns) };
        let (id, held) = match self.owner(now_ns, &id, &held.outer).cloned() {
            Some(owner) => (owner, held.adopted_from(&id)),
            None => (id, held),
        };
        self.hold(now_ns, &id, held, effects);
        // At once: what is kept no longer than it must be costs least. Its end waits until all that was read is told.
        self.tell_execs(now_ns, &id, self.stopping, effects)
    }

    /// Holds an exec until it can be told, unless its container makes too many.
    fn hold(&mut self, now_ns: i64, id: &ContainerId, held: Held, effects: &mut Fx) {
        let Some(tracked) = self.containers.get_mut(id) else { return };
        tracked.heard_ns = now_ns;
        tracked.lies_in_another |= !held.outer.is_empty();
        match tracked.throttle.admit(now_ns, &held.exec) {
            Passage::Told => {}
            Passage::Limited => {
                effects.settle(Disposition::Dropped("throttled"));
                return;
            }
            Passage::Folded => {
                effects.settle(Disposition::Dropped("folded"));
                return;
            }
        }
        let moment = held.exec.moment;
        tracked.held.insert(moment, held);
        self.want_digest(now_ns, id, moment, effects);
    }

    /// The container's state, made on first sight; the one unheard of for the longest time makes room.
    fn track(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<&mut Tracked, BrokenInvariant> {
        if !self.containers.contains_key(id) {
            if self.containers.len() >= limits::CONTAINERS {
                self.forget_oldest(now_ns, effects)?;
            }
            effects.ask(Ask::Describe(id.clone()));
        }
        Ok(self.containers.entry(id.clone()).or_insert_with(|| Tracked::new(now_ns)))
    }

    fn forget_oldest(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let oldest = self.containers.iter().min_by_key(|(_, tracked)| tracked.heard_ns).map(|(id, _)| id.clone());
        if let Some(id) = oldest {
            self.release_with(now_ns, &id, Wait::Over, effects)?;
            self.report_left_out(now_ns, &id, effects)?;
            self.containers.remove(&id);
            effects.count("container_forgotten");
        }
        Ok(())
    }

    fn on_described(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        answer: Option<Description>,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(description) = answer else {
            if let Some(tracked) = self.containers.get_mut(id) {
                tracked.metadata.fail(now_ns);
            }
            return self.release(now_ns, id, effects);
        };
        // Not by `track`, which would ask for what is here already.
        let tracked = self.containers.entry(id.clone()).or_insert_with(|| Tracked::new(now_ns));
        tracked.heard_ns = now_ns;
        tracked.is_sandbox = description.is_sandbox;
        if description.has_ended {
            tracked.ended_ns.get_or_insert(now_ns);
        }
        let first_process = description.init_pid.filter(|pid| tracked.init_pid != Some(*pid));
        tracked.description = Some(Box::new(description));
        if let Some(pid) = first_process {
            tracked.init_pid = Some(pid);
            effects.ask(Ask::Inspect(id.clone(), pid));
            return Ok(());
        }
        self.announce(now_ns, id, effects)
    }

    fn on_inspected(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        inspection: Option<Inspection>,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
        if let Some(inspection) = inspection {
            tracked.root = Some(inspection.root);
            tracked.root_source = RootSource::Inspected;
            tracked.mounts = Mounts::of_kernel(inspection.mounts);
        }
        let moments: Vec<Moment> = tracked.held.keys().copied().collect();
        for moment in moments {
            self.want_digest(now_ns, id, moment, effects);
        }
        self.announce(now_ns, id, effects)
    }

    /// Sends the container's record once its description is there, and lets its execs go.
    fn announce(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let Some(tracked) = self.containers.get_mut(id) else { return Ok(()) };
        if let Some(description) = tracked.description.take() {
            tracked.mounts.name(&description.mounts);
            tracked.metadata = Metadata::Known;
            if !description.is_sandbox {
                let mounts = tracked.mounts.as_slice().to_vec();
                let seen = tracked::record(*description, mounts, &self.settings, now_ns);
                if seen.unseen && !std::mem::replace(&mut tracked.is_told_unseen, true) {
                    let loss = losses::unseen(&seen, &self.settings, now_ns);
                    effects.emit(Topic::ExecEvents, &self.settings.node.name, &loss)?;
                    effects.count("container_unseen");
                }
                effects.emit(Topic::ExecEvents, id.as_str(), &seen)?;
                effects.count("container_seen");
            }
        }
        self.release(now_ns, id, effects)
    }

    fn on_tick(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.release_all(now_ns, effects)?;
        let mut idle = Vec::new();
        for (id, tracked) in &mut self.containers {
            if tracked.metadata.is_due(now_ns) {
                tracked.metadata.ask_again();
                effects.ask(Ask::Describe(id.clone()));
            }
            let silent_ns = now_ns.saturating_sub(tracked.heard_ns);
            if tracked.init_pid.is_none() && tracked.held.is_empty() && silent_ns > limits::IDLE {
                idle.push(id.clone());
            }
        }
        for id in idle {
            self.report_left_out(now_ns, &id, effects)?;
            self.containers.remove(&id);
            effects.count("container_forgotten");
        }
        self.hash_late(now_ns, effects);
        self.report_throttled(now_ns, effects)?;
        if self.losses.are_due(now_ns) {
            self.report_losses(now_ns, effects)?;
        }
        Ok(())
    }

    /// Containers that were told from an unknown place are told anew.
    fn on_placed(&mut self, placement: Placement, effects: &mut Fx) {
        let prefer = |said: &String, placed: String| if said.is_empty() { placed } else { said.clone() };
        let provider_id = prefer(&self.said.provider_id, placement.provider_id);
        let zone = prefer(&self.said.zone, placement.zone);
        let node = &mut self.settings.node;
        if (&node.provider_id, &node.zone) != (&provider_id, &zone) {
            (node.provider_id, node.zone) = (provider_id, zone);
            self.describe_anew(effects);
        }
    }

    fn describe_anew(&self, effects: &mut Fx) {
        let known = self.containers.iter().filter(|(_, tracked)| matches!(tracked.metadata, Metadata::Known));
        known.for_each(|(id, _)| effects.ask(Ask::Describe(id.clone())));
    }

    fn release_all(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let waiting: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(_, tracked)| !tracked.held.is_empty() || tracked.ended_ns.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            self.release(now_ns, &id, effects)?;
        }
        Ok(())
    }

    fn release(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.release_with(now_ns, id, self.stopping, effects)
    }
}

#[cfg(test)]
mod tests;
