//! A recording as the source of an analysis: the stage at which the analysis begins, and all resulting revisions.

use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use driftline_schemas::recording::{Damage, Merged, Order, Recorded, Recording};
use driftline_schemas::topics::Topic;
use driftline_service_core::Outgoing;

use super::adapters::{Placing, Settings};
use super::newest::Revision;
use super::pipeline::{Emission, Pipeline, Tally};
use crate::progress::Progress;

/// The stage at which the analysis begins: the earliest for which the recording has records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    Execs,
    Findings,
    /// The recording contains alerts: they are used unchanged.
    Alerts,
}

/// The result of an analysis.
#[derive(Debug)]
pub(super) struct Analysis {
    pub(super) begin: Begin,
    pub(super) tally: Tally,
    /// Records of topics that are not used at this stage.
    pub(super) unused: BTreeMap<Topic, u64>,
    /// Start of the requested range, nanoseconds since 1970; older records are pre-roll.
    pub(super) since_ns: i64,
    /// Number of emitted revisions of findings and of alerts.
    pub(super) revisions: BTreeMap<Topic, u64>,
}

impl Begin {
    fn with(counts: &BTreeMap<Topic, u64>) -> Option<Self> {
        [(Topic::ExecEvents, Self::Execs), (Topic::Findings, Self::Findings), (Topic::Alerts, Self::Alerts)]
            .into_iter()
            .find_map(|(topic, begin)| counts.contains_key(&topic).then_some(begin))
    }

    fn uses(self, topic: Topic) -> bool {
        match self {
            Self::Execs => matches!(topic, Topic::ExecEvents | Topic::Images | Topic::ImageLayers),
            Self::Findings => topic == Topic::Findings,
            Self::Alerts => topic == Topic::Alerts,
        }
    }

    fn topic(self) -> Topic {
        match self {
            Self::Execs => Topic::ExecEvents,
            Self::Findings => Topic::Findings,
            Self::Alerts => Topic::Alerts,
        }
    }
}

/// Analyses a recording; passes every revision of findings and alerts to `take`, in order.
pub(super) fn analyse(
    path: &Path,
    settings: &Settings,
    mut take: impl FnMut(Topic, Revision) -> anyhow::Result<()>,
) -> anyhow::Result<Analysis> {
    let mut recording = Recording::open(BufReader::new(File::open(path).context("cannot open it")?))?;
    let scan = recording.scan(Damage::Refuse)?;
    let Some(begin) = Begin::with(&scan.by_topic()) else {
        bail!("it has neither exec-events nor findings nor alerts, so there is nothing to analyse");
    };
    let info = recording.info().cloned();
    let placing = Placing::of(info.as_ref(), begin.topic());
    let mut progress = Progress::new("analysing", "records", scan.records());
    let merged = Merged::new(recording, scan, Order::Time)?;
    let mut run = Run {
        begin,
        placing,
        pipeline: Pipeline::new(settings, placing)?,
        unused: BTreeMap::new(),
        revisions: BTreeMap::new(),
        take: &mut take,
    };
    run.all(merged, &mut progress)?;
    let since_ms = info.and_then(|info| info.since_ms);
    Ok(Analysis {
        begin,
        tally: run.pipeline.into_tally(),
        unused: run.unused,
        since_ns: since_ms.map_or(i64::MIN, |ms| ms.saturating_mul(1_000_000)),
        revisions: run.revisions,
    })
}

struct Run<'a, F> {
    begin: Begin,
    placing: Placing,
    pipeline: Pipeline,
    unused: BTreeMap<Topic, u64>,
    revisions: BTreeMap<Topic, u64>,
    take: &'a mut F,
}

impl<F: FnMut(Topic, Revision) -> anyhow::Result<()>> Run<'_, F> {
    fn all(&mut self, mut merged: Merged<impl Read + Seek>, progress: &mut Progress) -> anyhow::Result<()> {
        let mut done = 0;
        while let Some((topic, recorded)) = merged.next_record()? {
            progress.at(done);
            done += 1;
            if !self.begin.uses(topic) {
                *self.unused.entry(topic).or_default() += 1;
            } else if self.begin == Begin::Alerts {
                self.pass(as_recorded(topic, recorded))?;
            } else {
                self.pipeline.record(&self.placing.record(topic, recorded))?;
                self.drain()?;
            }
        }
        self.pipeline.finish()?;
        self.drain()
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        self.pipeline.take_emitted().into_iter().try_for_each(|emission| self.pass(emission))
    }

    fn pass(&mut self, emission: Emission) -> anyhow::Result<()> {
        let Some(revision) = Revision::of(&emission)? else { return Ok(()) };
        *self.revisions.entry(emission.what.topic).or_default() += 1;
        (self.take)(emission.what.topic, revision)
    }
}

fn as_recorded(topic: Topic, recorded: Recorded) -> Emission {
    let (key, value) = (recorded.key.unwrap_or_default(), recorded.value.unwrap_or_default());
    let at_ns = recorded.timestamp_ms.saturating_mul(1_000_000);
    Emission { at_ns, what: Outgoing { topic, key, value, headers: Vec::new() } }
}
