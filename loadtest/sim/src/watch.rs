//! A stage around the production core that keeps accounts of its own. Mutants around the core are planted here.

use std::collections::{BTreeMap, BTreeSet};

use driftline_correlator_core::telemetry::SESSION_EVICTED_MEMORY;
use driftline_schemas::{AlertId, WriterSchema, WriterSchemas};
use driftline_service_core::{BrokenInvariant, Disposition, Effects, Gap, Record, Stage};

use crate::fault::Fault;
use crate::mutant::Mutant;
use crate::world::{ProcessId, Shared};

/// The requirements of the simulation on a core, beside those of a stage.
pub(crate) trait Core: Stage<Input: 'static, Command: 'static> + 'static {
    /// All keys with a value.
    fn keys(&self, partition: i32) -> Vec<String>;

    /// Applies a planted bug to an input.
    fn spoil(_: &mut Self::Input, _: i64) {}
}

/// The stage; see the module.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    core: S,
    world: Shared,
    process: ProcessId,
    mutant: Option<Mutant>,
    /// Partitions whose state a mutant kept after an abort.
    retained: BTreeSet<i32>,
    owned: BTreeSet<i32>,
}

impl<S: Core> Watched<S> {
    pub(crate) fn new(core: S, world: Shared, process: ProcessId) -> Self {
        let mutant = world.lock().mutant;
        Self { core, world, process, mutant, retained: BTreeSet::new(), owned: BTreeSet::new() }
    }

    pub(crate) fn core(&self) -> &S {
        &self.core
    }

    /// Lets the core work on effects of its own, records them in the accounts, and passes everything on.
    fn watch<T>(
        &mut self,
        effects: &mut Effects<S::Command>,
        work: impl FnOnce(&mut S, &mut Effects<S::Command>) -> Result<T, BrokenInvariant>,
    ) -> Result<T, BrokenInvariant> {
        let mut own = Effects::default();
        let done = work(&mut self.core, &mut own);
        let settled = own.take_settled();
        let counts = own.take_counts();
        let touched = own.take_touched();
        let mut world = self.world.lock();
        if counts.contains_key("deadline_fired") {
            world
                .gave_up
                .extend(touched.iter().filter_map(|key| key.key.strip_prefix("container/")).map(str::to_owned));
        }
        if let Some(count) = counts.get(SESSION_EVICTED_MEMORY) {
            let sessions = touched.iter().filter_map(|key| key.key.strip_prefix("session/"));
            world.evicted.extend(sessions.map(AlertId::from));
            (0..*count).for_each(|_| world.hit(Fault::SessionsFull));
        }
        let open = &mut world.wire(self.process).open;
        open.settled += settled.values().sum::<u64>();
        drop(world);
        for (disposition, count) in settled {
            settle(effects, disposition, count);
        }
        for (event, count) in counts {
            (0..count).for_each(|_| effects.count(event));
        }
        touched.into_iter().for_each(|key| effects.touch(key.partition, key.key));
        own.take_outgoing().into_iter().for_each(|outgoing| effects.emit_raw(outgoing));
        own.take_commands().into_iter().for_each(|command| effects.command(command));
        done
    }
}

fn settle<A>(effects: &mut Effects<A>, disposition: Disposition, count: u64) {
    (0..count).for_each(|_| effects.settle(disposition));
}

impl<S: Core> Stage for Watched<S> {
    type Input = S::Input;
    type Command = S::Command;

    /// The executor settles a record that cannot be used, without the core.
    fn decode(&self, record: &Record) -> Result<S::Input, String> {
        let decoded = self.core.decode(record);
        if decoded.is_err() {
            self.world.lock().wire(self.process).open.settled += 1;
        }
        decoded
    }

    fn apply(
        &mut self,
        now_ns: i64,
        mut input: S::Input,
        effects: &mut Effects<S::Command>,
    ) -> Result<(), BrokenInvariant> {
        if self.mutant == Some(Mutant::WallClockDecidesMembership) {
            S::spoil(&mut input, now_ns);
        }
        self.watch(effects, |core, own| core.apply(now_ns, input, own))
    }

    fn gap(&mut self, now_ns: i64, gap: Gap, effects: &mut Effects<S::Command>) -> Result<(), BrokenInvariant> {
        self.world.lock().wire(self.process).open.gaps.push(gap);
        self.watch(effects, |core, own| core.gap(now_ns, gap, own))
    }

    fn state_schemas() -> Vec<WriterSchema> {
        S::state_schemas()
    }

    fn state(&self, partition: i32, key: &str) -> Result<Option<Vec<u8>>, BrokenInvariant> {
        self.core.state(partition, key)
    }

    fn restore(
        &mut self,
        now_ns: i64,
        partition: i32,
        state: BTreeMap<String, Vec<u8>>,
        schemas: &WriterSchemas,
        effects: &mut Effects<S::Command>,
    ) -> Result<(), BrokenInvariant> {
        self.owned.insert(partition);
        if self.retained.remove(&partition) {
            return Ok(());
        }
        self.watch(effects, |core, own| core.restore(now_ns, partition, state, schemas, own))
    }

    fn held(&self) -> u64 {
        self.core.held()
    }

    fn drop_partition(&mut self, partition: i32) {
        if self.mutant == Some(Mutant::StateKeptAfterAbort) && self.owned.contains(&partition) {
            self.retained.insert(partition);
            return;
        }
        self.core.drop_partition(partition);
    }
}
