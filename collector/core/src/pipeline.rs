//! All state of one node's collector, and what each input does to it. The documentation of [`ExecPipeline`] describes
//! the steps of an exec.

use driftline_schemas::ContainerId;
use driftline_schemas::topics::Topic;
use driftline_service_core::{BrokenInvariant, Disposition};

use crate::digest::{DigestCache, DigestJob, DigestOutcome};
use crate::programs::Programs;
use crate::raw::{Moment, RawExec};

mod amend;
mod boot_clock;
mod container;
mod container_state;
mod containers;
mod digest;
mod held;
mod input;
mod late;
mod losses;
mod membership;
mod order;
mod out;
mod queue;
mod record;
mod reports;
mod subject;
mod throttle;

pub use input::{Description, Input, Inspection, NodeSettings, PipelineCommand, Placement, Records};
pub use losses::Loss;

use boot_clock::BootClock;
use container_state::{ContainerState, Wait};
use containers::Containers;
use held::HeldExec;
use input::Fx;
use late::LateExecs;
use losses::Losses;
use out::Origin;
use throttle::Admission;

/// The pure core of the collector: the shell gives it one [`Input`] after the other, and does what it commands.
///
/// # The steps of an exec
/// `on_records` and `on_exec` take each exec through these steps. Each is a file below `pipeline/` with one entry function:
///
/// | step | entry | what it decides |
/// | --- | --- | --- |
/// | 1 record | `record::read` | the order in which the two rings were written |
/// | 2 container | `container::locate` | the container, by the cgroup, else by namespaces and root; what belongs to none is dropped |
/// | 3 subject | `subject::need` | which file is judged, and whether its digest has to be known |
/// | 4 digest | `digest::request` | whether the digest is remembered, commanded, or postponed |
/// | 5 order | `order::next_ready` | which exec of a container need not wait any more |
/// | 6 out | `out::send` | whether the exec is dropped after all; else its record |
///
/// Between 2 and 3 the exec enters the queue of its container, unless `throttle` leaves it out. Between 4 and 5 it waits
/// there: for execs that happened before it and may still lie in the other ring, for the description of its container, and
/// for its digest. Each wait has a named end in [`limits`](crate::limits), after which the exec goes out with what is known.
/// So every input other than records ends the same way: it changes what is known, and then steps 5 and 6 take whatever need
/// not wait any more out of the queues (`release`). An exec whose digest comes later goes out again (`amend::send`).
///
/// Every exec has exactly one outcome, counted as a [`Disposition`]: reported, or dropped for a reason. The execs of a
/// container leave in the order of their [`Moment`], unless one shows up after
/// [`limits::ORDER_WAIT`](crate::limits::ORDER_WAIT).
///
/// # Who owns what
/// The steps hold no state, and none calls another; what they need they get as arguments. `Containers` owns the queues of
/// execs, the hashing budgets and the shares of the throttle, all by container. `remembered` has the digests of files,
/// `LateExecs` the execs whose digest is outstanding, `Losses` the counts that no record has reported yet.
#[derive(Debug)]
pub struct ExecPipeline {
    settings: NodeSettings,
    /// Where the node is by the settings, which the cluster does not overrule.
    configured: Placement,
    clock: BootClock,
    programs: Programs,
    containers: Containers,
    remembered: DigestCache,
    late: LateExecs,
    losses: Losses,
    stopping: Wait,
}

impl ExecPipeline {
    /// A pipeline without containers.
    #[must_use]
    pub fn new(settings: NodeSettings, now_ns: i64) -> Self {
        let driftline_schemas::Node { provider_id, zone, .. } = settings.node.clone();
        Self {
            settings,
            configured: Placement { provider_id, zone },
            clock: BootClock::default(),
            programs: Programs::default(),
            containers: Containers::default(),
            remembered: DigestCache::default(),
            late: LateExecs::default(),
            losses: Losses::new(now_ns),
            stopping: Wait::Allowed,
        }
    }

    /// How many execs are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.containers.held()
    }

    /// Memory of the execs that wait.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.containers.held_bytes()
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
                if let Some(container) = self.containers.get_mut(&id) {
                    container.end(now_ns);
                }
                self.release(now_ns, &id, self.stopping, effects)?;
            }
            Input::Lost(loss, count) => self.losses.add(loss, count),
            Input::ContainersLost => self.describe_again(effects),
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

    // --- The steps of an exec: steps 1 to 6 ------------------------------------------------------------------------------

    fn on_records(&mut self, now_ns: i64, mut records: Records, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.clock.follow(&records);
        for exec in record::read(&mut records, &mut self.losses, effects) {
            self.on_exec(now_ns, exec, effects)?;
        }
        self.release_all(now_ns, effects)
    }

    fn on_exec(&mut self, now_ns: i64, exec: Box<RawExec>, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let host_mnt_ns = self.settings.host_mnt_ns;
        let Some(located) =
            container::locate(exec, &self.containers, &mut self.programs, &mut self.losses, host_mnt_ns, effects)
        else {
            return Ok(());
        };
        for outer in &located.outer {
            self.track(now_ns, outer, effects)?;
        }
        let id = located.container.clone();
        let container = self.track(now_ns, &id, effects)?;
        container.heard_ns = now_ns;
        container.is_made_inside |= located.is_made_inside;
        let shows_its_own = located.is_in_cgroup && !located.is_made_inside;
        if shows_its_own && let Some(pid) = container.learn(&located.exec, host_mnt_ns) {
            effects.command(PipelineCommand::Inspect(id.clone(), pid));
        }
        let held = HeldExec::new(now_ns, located);
        let (id, held) = match self.containers.owner(now_ns, &id, &held.outer).cloned() {
            Some(owner) => (owner, held.adopted_from(&id)),
            None => (id, held),
        };
        self.enqueue(now_ns, &id, held, effects);
        // At once: an exec that is held no longer than it must be costs least memory. The container's end is not reported
        // here, because the same reading may hold more of its execs.
        self.send_ready(now_ns, &id, self.stopping, effects)
    }

    /// Puts an exec into the queue of its container, unless the container is beyond its share.
    fn enqueue(&mut self, now_ns: i64, id: &ContainerId, held: HeldExec, effects: &mut Fx) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.heard_ns = now_ns;
        container.lies_in_another |= !held.outer.is_empty();
        match container.throttle.admit(now_ns, &held.exec) {
            Admission::Admitted => {
                let moment = held.exec.moment;
                container.held.insert(moment, held);
                self.request_digest(now_ns, id, moment, effects);
            }
            Admission::Limited => effects.settle(Disposition::Dropped("throttled")),
            Admission::Folded => effects.settle(Disposition::Dropped("folded")),
        }
    }

    /// Steps 3 and 4 for an exec in a queue: when it enters, and when more is known of its container's root.
    fn request_digest(&mut self, now_ns: i64, id: &ContainerId, moment: Moment, effects: &mut Fx) {
        let Some(container) = self.containers.get(id) else { return };
        let Some(held) = container.held.get(&moment) else { return };
        let first_inside = self.containers.first_inside(held);
        let need = subject::need(held, (id, container), first_inside, self.clock.offset_ns());
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(held) = container.held.get_mut(&moment) else { return };
        digest::request(now_ns, need, held, &mut container.budget, &self.remembered, effects);
    }

    /// Steps 5 and 6: sends the execs of a container from the front of its queue while they need not wait. Execs that turn out
    /// to be owned by a container around it are sent from there.
    fn send_ready(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        wait: Wait,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let moved = self.containers.hand_over(now_ns, id);
        for (moment, owner) in &moved {
            effects.count("exec_adopted");
            self.request_digest(now_ns, owner, *moment, effects);
        }
        for (_, owner) in &moved {
            self.send_queue(now_ns, owner, self.stopping, effects)?;
        }
        self.send_queue(now_ns, id, wait, effects)
    }

    fn send_queue(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        wait: Wait,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        let origin = Origin { settings: &self.settings, programs: &self.programs };
        while let Some(held) = order::next_ready(now_ns, container, self.clock.complete_until_ns(), wait) {
            let wall_ns = self.clock.wall_ns(held.exec.moment);
            out::send(now_ns, held, wall_ns, (id, container), origin, &mut self.late, effects)?;
        }
        Ok(())
    }

    /// Sends what need not wait any more, and the container's end after its last exec.
    fn release(&mut self, now_ns: i64, id: &ContainerId, wait: Wait, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.send_ready(now_ns, id, wait, effects)?;
        let Some(container) = self.containers.get(id) else { return Ok(()) };
        // On the wall clock, as the time of the end is.
        let complete_until_ns = self.clock.complete_until_wall_ns();
        let Some(ended_ns) = container.over_since(now_ns, complete_until_ns, wait) else { return Ok(()) };
        let is_reported = container.is_reported();
        self.report_left_out(now_ns, id, effects)?;
        self.containers.remove(id);
        if is_reported {
            let ended = reports::ended(id, ended_ns, &self.settings);
            effects.emit(Topic::ExecEvents, id.as_str(), &ended)?;
            effects.count("container_ended");
        }
        Ok(())
    }

    fn release_all(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let waiting = self.containers.ids_where(ContainerState::is_waiting);
        waiting.iter().try_for_each(|id| self.release(now_ns, id, self.stopping, effects))
    }

    // --- Containers ----------------------------------------------------------------------------------------------------

    /// The state of a container, created on first sight. Where there are too many, another one is evicted before.
    fn track(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        effects: &mut Fx,
    ) -> Result<&mut ContainerState, BrokenInvariant> {
        if !self.containers.contains(id) {
            if let Some(evicted) = self.containers.to_evict() {
                self.release(now_ns, &evicted, Wait::Over, effects)?;
                self.forget(now_ns, &evicted, effects)?;
            }
            effects.command(PipelineCommand::Describe(id.clone()));
        }
        Ok(self.containers.get_or_create(now_ns, id))
    }

    /// Drops the state of a container that has not ended.
    fn forget(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.report_left_out(now_ns, id, effects)?;
        self.containers.remove(id);
        effects.count("container_forgotten");
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
            if let Some(container) = self.containers.get_mut(id) {
                container.description_failed(now_ns);
            }
            return self.release(now_ns, id, self.stopping, effects);
        };
        // Not by `track`, which would command the description that is here already.
        let container = self.containers.get_or_create(now_ns, id);
        if let Some(pid) = container.describe(now_ns, description) {
            effects.command(PipelineCommand::Inspect(id.clone(), pid));
            return Ok(());
        }
        self.report_container(now_ns, id, effects)
    }

    fn on_inspected(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        inspection: Option<Inspection>,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        if let Some(inspection) = inspection {
            container.inspected(inspection);
        }
        let moments: Vec<Moment> = container.held.keys().copied().collect();
        for moment in moments {
            self.request_digest(now_ns, id, moment, effects);
        }
        self.report_container(now_ns, id, effects)
    }

    /// Emits the container's record once its description is complete, and then its execs.
    fn report_container(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        if let Some(seen) = container.take_record(now_ns, &self.settings) {
            if container.is_newly_unseen(&seen) {
                let loss = reports::unseen(now_ns, &seen, &self.settings);
                effects.emit(Topic::ExecEvents, &self.settings.node.name, &loss)?;
                effects.count("container_unseen");
            }
            effects.emit(Topic::ExecEvents, id.as_str(), &seen)?;
            effects.count("container_seen");
        }
        self.release(now_ns, id, self.stopping, effects)
    }

    /// Containers that were reported with another placement are reported again.
    fn on_placed(&mut self, placement: Placement, effects: &mut Fx) {
        let prefer = |configured: &String, placed| if configured.is_empty() { placed } else { configured.clone() };
        let provider_id = prefer(&self.configured.provider_id, placement.provider_id);
        let zone = prefer(&self.configured.zone, placement.zone);
        let node = &mut self.settings.node;
        if (&node.provider_id, &node.zone) != (&provider_id, &zone) {
            (node.provider_id, node.zone) = (provider_id, zone);
            self.describe_again(effects);
        }
    }

    fn describe_again(&self, effects: &mut Fx) {
        let described = self.containers.ids_where(ContainerState::is_described);
        described.into_iter().for_each(|id| effects.command(PipelineCommand::Describe(id)));
    }

    // --- Digests -------------------------------------------------------------------------------------------------------

    fn on_digested(
        &mut self,
        now_ns: i64,
        id: &ContainerId,
        moment: Moment,
        outcome: DigestOutcome,
        effects: &mut Fx,
    ) -> Result<(), BrokenInvariant> {
        let id = &self.holder(id, moment);
        if let Some(held) = self.containers.held_mut(id, moment) {
            outcome.to_remember().into_iter().for_each(|sha256| self.remembered.put(&held.exec.file, sha256));
            held.digest = Some(outcome);
            return self.release(now_ns, id, self.stopping, effects);
        }
        let Some(late) = self.late.take(id, moment) else {
            effects.count("digest_too_late");
            return Ok(());
        };
        outcome.to_remember().into_iter().for_each(|sha256| self.remembered.put(&late.exec.file, sha256));
        let origin = Origin { settings: &self.settings, programs: &self.programs };
        amend::send(&late, outcome, (id, self.containers.get(id)), origin, effects)
    }

    /// The shell has no room for a job: its exec goes out without waiting, and the job waits for its turn.
    fn on_not_hashed(&mut self, now_ns: i64, job: Box<DigestJob>, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let id = self.holder(&job.container, job.moment);
        effects.count("digest_postponed");
        if let Some(held) = self.containers.held_mut(&id, job.moment) {
            held.postpone(job);
            return self.release(now_ns, &id, self.stopping, effects);
        }
        if self.late.contains(&id, job.moment) {
            self.late.postpone(&id, job);
        } else {
            effects.command(PipelineCommand::Release(job.moment));
        }
        Ok(())
    }

    /// The container that holds an exec now, or for which it waits for its digest.
    fn holder(&self, id: &ContainerId, moment: Moment) -> ContainerId {
        self.containers.holder(id, moment, |id| self.late.contains(id, moment))
    }

    /// Commands the digests of execs that went out, as far as their containers' budgets allow.
    fn hash_late(&mut self, now_ns: i64, effects: &mut Fx) {
        let containers = &self.containers;
        for moment in self.late.expire(now_ns, |id| containers.contains(id)) {
            effects.count("late_digest_forgotten");
            effects.command(PipelineCommand::Release(moment));
        }
        for id in self.late.containers() {
            let Some(container) = self.containers.get_mut(&id) else { continue };
            for job in self.late.affordable(now_ns, &id, &mut container.budget) {
                effects.command(PipelineCommand::Hash(Box::new(job)));
            }
        }
    }

    // --- Time, and accounts of what is missing -------------------------------------------------------------------------

    fn on_tick(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        self.release_all(now_ns, effects)?;
        for (id, container) in self.containers.iter_mut() {
            if container.retry_description(now_ns) {
                effects.command(PipelineCommand::Describe(id.clone()));
            }
        }
        for id in self.containers.ids_where(|container| container.is_idle(now_ns)) {
            self.forget(now_ns, &id, effects)?;
        }
        self.hash_late(now_ns, effects);
        self.report_throttled(now_ns, effects)?;
        if self.losses.are_due(now_ns) {
            self.report_losses(now_ns, effects)?;
        }
        Ok(())
    }

    /// Reports of which containers execs were left out, when their interval is over.
    fn report_throttled(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let is_over = self.stopping == Wait::Over;
        let due = self.containers.ids_where(|container| is_over || container.throttle.is_due(now_ns));
        due.iter().try_for_each(|id| self.report_left_out(now_ns, id, effects))
    }

    /// Reports how many execs of a container were left out, if any.
    fn report_left_out(&mut self, now_ns: i64, id: &ContainerId, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let left_out = self.containers.get_mut(id).and_then(|container| container.throttle.take());
        let Some(left_out) = left_out else { return Ok(()) };
        effects.count("container_throttled");
        effects.emit(Topic::ExecEvents, id.as_str(), &reports::throttled(now_ns, id, left_out, &self.settings))
    }

    /// One record for each reason that has a count, over the time since the last.
    fn report_losses(&mut self, now_ns: i64, effects: &mut Fx) -> Result<(), BrokenInvariant> {
        let (from_ns, losses) = self.losses.take(now_ns);
        for loss in losses {
            let record = reports::lost(now_ns, from_ns, loss, &self.settings);
            effects.emit(Topic::ExecEvents, &self.settings.node.name, &record)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
