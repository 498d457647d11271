//! The stage that the correlator's shell drives.

use driftline_schemas::{Finding, WriterSchema, WriterSchemas, decode};
use driftline_service_core::{BrokenInvariant, Disposition, Effects, Gap, Record, Stage};
use std::collections::BTreeMap;

use crate::command::Command;
use crate::emitter::{Emitted, Emitter};
use crate::limits::{EVICTED_PER_FINDING_MAX, TICK_OUTPUT_BYTES_MAX, TICK_STATE_KEYS_MAX};
use crate::lost::lost;
use crate::partition::{self, Partition};
use crate::settings::Settings;
use crate::state_key::StateKey;
use crate::subject::Subject;

/// Inputs of the correlator.
#[derive(Debug, Clone)]
pub enum Input {
    /// A record of the findings topic.
    Finding {
        /// Partition of the findings topic that holds the record.
        partition: i32,
        /// The finding.
        finding: Box<Finding>,
    },
    /// Time passed. Once a second is enough. The shell emits no tick while it still reads the input that was there at
    /// the start. A tick does a bounded part of what is due; the following ticks do the rest ([`Stage::has_due`]).
    Tick,
}

/// Groups findings into sessions and emits alerts about them. State is kept per input partition, so that a whole
/// partition can move to another instance. All findings of one container are in one partition.
#[derive(Debug)]
pub struct Correlator {
    settings: Settings,
    /// Number of partitions of the findings topic.
    partition_count: i32,
    partitions: BTreeMap<i32, Partition>,
}

/// The work that a tick has done so far.
#[derive(Debug, Default)]
struct Work {
    sessions: usize,
    output_bytes: usize,
    state_keys: usize,
}

impl Work {
    fn has_room(&self, settings: &Settings) -> bool {
        self.sessions < settings.sessions_per_tick
            && self.output_bytes < TICK_OUTPUT_BYTES_MAX
            && self.state_keys < TICK_STATE_KEYS_MAX
    }

    /// Adds one session.
    fn add(&mut self, emitted: Emitted) {
        self.sessions += 1;
        self.output_bytes = self.output_bytes.saturating_add(emitted.output_bytes);
        self.state_keys = self.state_keys.saturating_add(emitted.touched);
    }
}

impl Correlator {
    /// A correlator without sessions, for a findings topic with this many partitions.
    #[must_use]
    pub fn new(settings: Settings, partition_count: i32) -> Self {
        Self { settings, partition_count, partitions: BTreeMap::new() }
    }

    /// Partition of the session with the earliest deadline, if that has passed.
    fn first_due(&self, now_ns: i64) -> Option<i32> {
        let first = |(partition, sessions): (&i32, &Partition)| Some((sessions.first_deadline_ns()?, *partition));
        let (deadline_ns, partition) = self.partitions.iter().filter_map(first).min()?;
        (deadline_ns <= now_ns).then_some(partition)
    }

    /// Ends sessions that became quiet and forgets sessions whose retention passed, earliest deadline of all partitions
    /// first, until nothing is due or the tick has done its share.
    fn tick(&mut self, now_ns: i64, effects: &mut Effects<Command>) -> Result<(), BrokenInvariant> {
        let mut work = Work::default();
        while work.has_room(&self.settings)
            && let Some(partition) = self.first_due(now_ns)
            && let Some(sessions) = self.partitions.get_mut(&partition)
        {
            let mut emitter = Emitter::new(&self.settings, now_ns, partition, effects);
            sessions.first_is_due(&mut emitter)?;
            work.add(emitter.emitted());
        }
        // Assigned partitions can bring more sessions than there is room for.
        while work.has_room(&self.settings) && self.is_over_bound() {
            let Some(emitted) = self.evict_oldest(now_ns, None, effects)? else { break };
            work.add(emitted);
        }
        Ok(())
    }

    /// Takes a finding, then evicts sessions until memory is within its bound again.
    fn take(
        &mut self,
        now_ns: i64,
        partition: i32,
        finding: Finding,
        effects: &mut Effects<Command>,
    ) -> Result<Disposition, BrokenInvariant> {
        let subject = Subject::of(&finding);
        let before = self.sessions_bytes();
        let mut emitter = Emitter::new(&self.settings, now_ns, partition, effects);
        let disposition = self.partitions.entry(partition).or_default().take(finding, &mut emitter)?;
        let mut evicted = 0;
        while self.is_over_bound() && (evicted < EVICTED_PER_FINDING_MAX || self.sessions_bytes() > before) {
            if self.evict_oldest(now_ns, Some(&subject), effects)?.is_none() {
                break;
            }
            evicted += 1;
        }
        Ok(disposition)
    }

    /// Estimated memory of the sessions of all partitions.
    #[must_use]
    pub fn sessions_bytes(&self) -> usize {
        self.partitions.values().map(Partition::memory_bytes).sum()
    }

    /// The same estimate, computed again from all sessions.
    #[cfg(test)]
    pub(crate) fn count_sessions_bytes(&self) -> usize {
        self.partitions.values().map(Partition::count_memory_bytes).sum()
    }

    fn is_over_bound(&self) -> bool {
        self.sessions_bytes() > self.settings.sessions_bytes_max
    }

    /// Ends one session of the subject, of all partitions, that is evicted first. Returns `None` when only the subject
    /// that must stay has sessions.
    fn evict_oldest(
        &mut self,
        now_ns: i64,
        staying: Option<&Subject>,
        effects: &mut Effects<Command>,
    ) -> Result<Option<Emitted>, BrokenInvariant> {
        let oldest = |(partition, sessions): (&i32, &Partition)| Some((sessions.oldest(staying)?, *partition));
        let Some(((_, subject), partition)) = self.partitions.iter().filter_map(oldest).min() else { return Ok(None) };
        let Some(sessions) = self.partitions.get_mut(&partition) else { return Ok(None) };
        let mut emitter = Emitter::new(&self.settings, now_ns, partition, effects);
        sessions.evict_of(&subject, &mut emitter)?;
        Ok(Some(emitter.emitted()))
    }

    /// All keys of a partition under which [`Stage::state`] has a value, for checks that compare whole states.
    #[must_use]
    pub fn state_keys(&self, partition: i32) -> Vec<String> {
        let keys = self.partitions.get(&partition).into_iter().flat_map(Partition::state_keys);
        keys.map(|key| key.to_string()).collect()
    }
}

impl Stage for Correlator {
    type Input = Input;
    type Command = Command;

    fn decode(&self, record: &Record) -> Result<Input, String> {
        let value = record.value.as_deref().unwrap_or_default();
        let finding: Finding = decode(value).map_err(|error| error.to_string())?;
        record.check_place(&Subject::of(&finding).id, self.partition_count)?;
        Ok(Input::Finding { partition: record.partition, finding: Box::new(finding) })
    }

    fn apply(&mut self, now_ns: i64, input: Input, effects: &mut Effects<Command>) -> Result<(), BrokenInvariant> {
        match input {
            Input::Finding { partition, finding } => {
                let disposition = self.take(now_ns, partition, *finding, effects)?;
                effects.settle(disposition);
            }
            Input::Tick => self.tick(now_ns, effects)?,
        }
        Ok(())
    }

    fn has_due(&self, now_ns: i64) -> bool {
        self.first_due(now_ns).is_some() || self.is_over_bound()
    }

    /// Lost findings lead to an alert about the service.
    fn gap(&mut self, now_ns: i64, gap: Gap, effects: &mut Effects<Command>) -> Result<(), BrokenInvariant> {
        self.take(now_ns, gap.partition, lost(gap, now_ns), effects).map(drop)
    }

    fn state_schemas() -> Vec<WriterSchema> {
        partition::schemas()
    }

    fn state(&self, partition: i32, key: &str) -> Result<Option<Vec<u8>>, BrokenInvariant> {
        let key = StateKey::parse(key)?;
        self.partitions.get(&partition).map_or(Ok(None), |partition| partition.state(&key))
    }

    fn restore(
        &mut self,
        _now_ns: i64,
        partition: i32,
        state: BTreeMap<String, Vec<u8>>,
        schemas: &WriterSchemas,
        _effects: &mut Effects<Command>,
    ) -> Result<(), BrokenInvariant> {
        let restored = Partition::restored(state, schemas, &self.settings)?;
        self.partitions.insert(partition, restored);
        Ok(())
    }

    /// The correlator settles every finding on arrival.
    fn held(&self) -> u64 {
        0
    }

    fn drop_partition(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }
}
