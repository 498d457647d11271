//! Both cores in one process, driven only by records and their timestamps: no Kafka, no clock, no thread. The same
//! records give the same output, byte for byte.
//!
//! The clock is the largest timestamp so far. Results that take a service some milliseconds (loading an image, reading
//! a finding from its topic) are available at once.

use std::collections::BTreeMap;

use driftline_correlator_core::{Command as Never, Correlator, Input as CorrelatorInput};
use driftline_enricher_core::{Enricher, ImageCommand, Input as EnricherInput};
use driftline_kafka::Record;
use driftline_schemas::topics::Topic;
use driftline_service_core::{BrokenInvariant, Disposition, Effects, Outgoing, Stage};

use super::adapters::{Placing, Settings, nanoseconds};
use super::images::{Answer, Images};

const SECOND_NS: i64 = 1_000_000_000;
/// Interval of the services' ticks.
const TICK_NS: i64 = SECOND_NS / 10;
/// After this time without records, the longest that a container may be parked, ticks become rare: whatever is still
/// due then (a session becomes quiet, a container silent) is a matter of minutes.
const DENSE_NS: i64 = 60 * SECOND_NS;
const RARE_TICK_NS: i64 = 10 * SECOND_NS;
/// After this time without records, the longest that any state is kept, time jumps to the next record.
const RARE_NS: i64 = 24 * 3_600 * SECOND_NS;

pub(super) const ENRICHER: &str = "enricher";
pub(super) const CORRELATOR: &str = "correlator";

/// Counts of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) records: BTreeMap<Topic, u64>,
    /// Settled records, by service and disposition.
    pub(super) settled: BTreeMap<(&'static str, Disposition), u64>,
    /// Events, by service and name as in `docs/telemetry.md`.
    pub(super) events: BTreeMap<(&'static str, &'static str), u64>,
    /// Records that cannot be used, with the reason: table records and dead letters.
    pub(super) refused: Vec<String>,
}

/// A record that a service would emit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Emission {
    /// Time of emission, nanoseconds since 1970.
    pub(super) at_ns: i64,
    pub(super) what: Outgoing,
}

pub(super) struct Pipeline {
    placing: Placing,
    park_ns: i64,
    gap_ns: i64,
    images: Images,
    enricher: Enricher,
    correlator: Correlator,
    now_ns: Option<i64>,
    next_tick_ns: i64,
    /// Next offset of each partition of findings.
    finding_offsets: BTreeMap<i32, i64>,
    emitted: Vec<Emission>,
    tally: Tally,
}

impl Pipeline {
    /// # Errors
    /// All problems of the settings.
    pub(super) fn new(settings: &Settings, placing: Placing) -> anyhow::Result<Self> {
        Ok(Self {
            placing,
            park_ns: nanoseconds(settings.park),
            gap_ns: nanoseconds(settings.session_gap),
            images: Images::new(settings.trust),
            enricher: Enricher::new(settings.enricher(placing)),
            correlator: Correlator::new(settings.correlator()?, placing.count()),
            now_ns: None,
            next_tick_ns: 0,
            finding_offsets: BTreeMap::new(),
            emitted: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Takes the next record. Records of other topics than tables, exec-events and findings are ignored.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), BrokenInvariant> {
        self.advance(record.timestamp_ms.saturating_mul(1_000_000))?;
        *self.tally.records.entry(record.topic).or_default() += 1;
        match record.topic {
            Topic::ExecEvents => match self.enricher.decode(record) {
                Ok(input) => self.enrich(input)?,
                Err(reason) => self.dead_letter(ENRICHER, record, &reason),
            },
            Topic::Findings => match self.correlator.decode(record) {
                Ok(input) => self.correlate(input)?,
                Err(reason) => self.dead_letter(CORRELATOR, record, &reason),
            },
            _ => match self.images.record(record) {
                Ok(answers) => answers.into_iter().try_for_each(|answer| self.answer(answer))?,
                Err(reason) => self.refuse(record, &reason),
            },
        }
        Ok(())
    }

    /// Ends the input: time passes until everything has been emitted. First the deadlines of parked execs pass, then
    /// the quiet time that ends sessions, including sessions that a fired deadline opened or reopened.
    pub(super) fn finish(&mut self) -> Result<(), BrokenInvariant> {
        let now_ns = self.now_ns.unwrap_or(0);
        let deadlines_ns = now_ns.saturating_add(self.park_ns).saturating_add(TICK_NS);
        let quiet_ns = deadlines_ns.saturating_add(self.gap_ns).saturating_add(TICK_NS);
        for at_ns in [deadlines_ns, quiet_ns] {
            self.now_ns = Some(at_ns);
            // An amendment or a finding of one tick may make something due in the next.
            let mut before = None;
            while before != Some((self.emitted.len(), self.enricher.held())) {
                before = Some((self.emitted.len(), self.enricher.held()));
                self.tick()?;
            }
        }
        self.check_conservation()
    }

    /// Takes the records emitted since the last call.
    pub(super) fn take_emitted(&mut self) -> Vec<Emission> {
        std::mem::take(&mut self.emitted)
    }

    pub(super) fn into_tally(self) -> Tally {
        self.tally
    }

    /// Lets time pass up to `to_ns`; it never goes back.
    fn advance(&mut self, to_ns: i64) -> Result<(), BrokenInvariant> {
        let Some(from_ns) = self.now_ns else {
            (self.now_ns, self.next_tick_ns) = (Some(to_ns), to_ns.saturating_add(TICK_NS));
            return Ok(());
        };
        while self.next_tick_ns <= to_ns {
            self.now_ns = Some(self.next_tick_ns);
            self.tick()?;
            let idle_ns = self.next_tick_ns.saturating_sub(from_ns);
            let pause_ns = match idle_ns {
                ..DENSE_NS => TICK_NS,
                DENSE_NS..RARE_NS => RARE_TICK_NS,
                _ => to_ns.saturating_sub(self.next_tick_ns).max(TICK_NS),
            };
            self.next_tick_ns = self.next_tick_ns.saturating_add(pause_ns);
        }
        self.now_ns = self.now_ns.max(Some(to_ns));
        Ok(())
    }

    fn tick(&mut self) -> Result<(), BrokenInvariant> {
        // A tick does a bounded part of the work that is due; here no time passes until all of it is done.
        let now_ns = self.now_ns.unwrap_or(0);
        self.enrich(EnricherInput::Tick)?;
        while self.enricher.has_due(now_ns) {
            self.enrich(EnricherInput::Tick)?;
        }
        self.correlate(CorrelatorInput::Tick)?;
        while self.correlator.has_due(now_ns) {
            self.correlate(CorrelatorInput::Tick)?;
        }
        Ok(())
    }

    fn answer(&mut self, (id, answer): Answer) -> Result<(), BrokenInvariant> {
        self.enrich(EnricherInput::Image(id, answer))
    }

    fn enrich(&mut self, input: EnricherInput) -> Result<(), BrokenInvariant> {
        let mut effects = Effects::<ImageCommand>::default();
        self.enricher.apply(self.now_ns.unwrap_or(0), input, &mut effects)?;
        self.count(ENRICHER, &mut effects);
        for outgoing in effects.take_outgoing() {
            let finding = (outgoing.topic == Topic::Findings).then(|| self.as_input(&outgoing)).transpose()?;
            self.emit(outgoing);
            finding.map_or(Ok(()), |input| self.correlate(input))?;
        }
        effects
            .take_commands()
            .into_iter()
            .try_for_each(|command| self.images.command(command).map_or(Ok(()), |it| self.answer(it)))
    }

    fn correlate(&mut self, input: CorrelatorInput) -> Result<(), BrokenInvariant> {
        let mut effects = Effects::<Never>::default();
        self.correlator.apply(self.now_ns.unwrap_or(0), input, &mut effects)?;
        self.count(CORRELATOR, &mut effects);
        effects.take_outgoing().into_iter().for_each(|outgoing| self.emit(outgoing));
        Ok(())
    }

    /// A finding as the correlator reads it: decoded from its bytes.
    fn as_input(&mut self, outgoing: &Outgoing) -> Result<CorrelatorInput, BrokenInvariant> {
        let partition = self.placing.partition(&outgoing.key);
        let next = self.finding_offsets.entry(partition).or_default();
        let offset = *next;
        *next += 1;
        let record = Record {
            topic: outgoing.topic,
            partition,
            offset,
            timestamp_ms: self.now_ns.unwrap_or(0) / 1_000_000,
            key: Some(outgoing.key.clone()),
            value: Some(outgoing.value.clone()),
            headers: Vec::new(),
        };
        self.correlator.decode(&record).map_err(BrokenInvariant)
    }

    fn emit(&mut self, what: Outgoing) {
        self.emitted.push(Emission { at_ns: self.now_ns.unwrap_or(0), what });
    }

    fn count<A>(&mut self, service: &'static str, effects: &mut Effects<A>) {
        for (disposition, count) in effects.take_settled() {
            *self.tally.settled.entry((service, disposition)).or_default() += count;
        }
        for (event, count) in effects.take_counts() {
            *self.tally.events.entry((service, event)).or_default() += count;
        }
    }

    fn dead_letter(&mut self, service: &'static str, record: &Record, reason: &str) {
        *self.tally.settled.entry((service, Disposition::DeadLettered)).or_default() += 1;
        self.refuse(record, reason);
    }

    fn refuse(&mut self, record: &Record, reason: &str) {
        let (stem, partition, offset) = (record.topic.spec().stem, record.partition, record.offset);
        self.tally.refused.push(format!("{stem} partition {partition} offset {offset}: {reason}"));
    }

    /// As in the services' loop: every record has exactly one disposition, or is held; at the end none is held.
    fn check_conservation(&self) -> Result<(), BrokenInvariant> {
        let received = self.tally.records.get(&Topic::ExecEvents).copied().unwrap_or(0);
        let of_enricher = self.tally.settled.iter().filter(|((service, _), _)| *service == ENRICHER);
        let settled: u64 = of_enricher.map(|(_, count)| count).sum();
        let held = self.enricher.held();
        if held == 0 && received == settled {
            return Ok(());
        }
        Err(BrokenInvariant(format!("{received} records received, {settled} settled, {held} held at the end")))
    }
}
