//! The stage that the correlator's shell drives.

use driftline_runtime_core::{BrokenInvariant, Effects, Position, Stage};
use driftline_schemas::Finding;
use std::collections::BTreeMap;

use crate::partition::{Partition, Speaker};
use crate::settings::Settings;

/// What can happen to the correlator.
#[derive(Debug, Clone)]
pub enum Input {
    /// A record of the findings topic.
    Finding {
        /// Where it stood.
        at: Position,
        /// What it says.
        finding: Box<Finding>,
    },
    /// Time passed. Once a second is enough; not while the input that was there at the start is still being read.
    Tick,
}

/// The correlator needs nothing but findings and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {}

/// Groups findings into sessions and says alerts about them. State is kept by input partition, so that a partition can
/// go to another instance whole; findings of one container are in one partition.
#[derive(Debug)]
pub struct Correlator {
    settings: Settings,
    partitions: BTreeMap<i32, Partition>,
}

impl Correlator {
    /// A correlator without sessions.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, partitions: BTreeMap::new() }
    }
}

impl Stage for Correlator {
    type Input = Input;
    type Ask = Ask;

    fn apply(&mut self, now_ns: i64, input: Input, effects: &mut Effects<Ask>) -> Result<(), BrokenInvariant> {
        let mut speaker = Speaker { settings: &self.settings, now_ns, effects, said: 0 };
        match input {
            Input::Finding { at, finding } => {
                let partition = self.partitions.entry(at.partition).or_default();
                let disposition = partition.take(at.offset, *finding, &mut speaker)?;
                effects.settle(disposition);
            }
            Input::Tick => {
                for partition in self.partitions.values_mut() {
                    partition.tick(&mut speaker)?;
                }
            }
        }
        Ok(())
    }

    fn oldest_needed(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition).and_then(Partition::oldest_needed)
    }

    /// Findings are settled on arrival; what is kept of them is read again after a restart.
    fn held(&self) -> u64 {
        0
    }

    fn drop_partition(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }
}
