//! Brings the collector's records to Kafka, in order, at least once. Called by the collector's task, never waits.
//!
//! A record goes into the window in memory and to Kafka's client at once; as long as Kafka acknowledges, nothing else happens. What
//! is not acknowledged within [`limits::SPILL_AFTER`], and what the window has no room for, is written to the spool. Later
//! records then wait on the disk behind those, and come back into the window in their order. What is given up is counted,
//! retained in the checkpoint, and reported in a loss record when Kafka has caught up. A kill takes with it what stands in the
//! window alone; the next start reports since when that may be.

use driftline_collector_core::limits;
use driftline_collector_core::spool::{Entry, Frame, Gap, Gaps, Progress, SafeMoment, Stamp, Window};
use driftline_kafka::{ClientSettings, KafkaError, Outcome, Report, TrackedProducer};
use driftline_schemas::Node;
use driftline_schemas::topics::Topic;
use driftline_service_core::Outgoing;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;

use crate::spool::{GivenUp, Reason, Spool};

/// Pause before a client that has failed is replaced.
const RENEW_AFTER_NS: i64 = 5_000_000_000;
/// Pause before a disk that took nothing is tried again with what is in memory.
const SPILL_AGAIN_NS: i64 = 1_000_000_000;

/// Kafka's client, as far as the outbox needs it.
pub trait Client {
    /// Queues a record of exec-events; `false` when it has to be tried again.
    fn send(&mut self, key: &[u8], value: &[u8], sequence: u64) -> bool;
    /// The outcomes of records since the last call.
    fn reports(&mut self) -> Vec<Report>;
    /// Makes a new client after a failure, without the records that were not acknowledged.
    ///
    /// # Errors
    /// When there is no new client.
    fn renew(&mut self) -> Result<(), KafkaError>;
    /// Why a record was last not delivered.
    fn last_failure(&self) -> String;
}

/// The client of production.
#[derive(Debug)]
pub struct KafkaClient {
    settings: ClientSettings,
    producer: TrackedProducer,
}

impl KafkaClient {
    /// Makes one; does not yet connect.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn new(settings: &ClientSettings) -> Result<Self, KafkaError> {
        Ok(Self { settings: settings.clone(), producer: TrackedProducer::new(settings)? })
    }
}

impl Client for KafkaClient {
    fn send(&mut self, key: &[u8], value: &[u8], sequence: u64) -> bool {
        self.producer.send(Topic::ExecEvents, key, value, sequence)
    }

    fn reports(&mut self) -> Vec<Report> {
        self.producer.reports()
    }

    fn renew(&mut self) -> Result<(), KafkaError> {
        self.producer = TrackedProducer::new(&self.settings)?;
        Ok(())
    }

    fn last_failure(&self) -> String {
        self.producer.last_failure()
    }
}

/// Where the spool is, and whose records go through it.
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// Directory of the spool.
    pub directory: PathBuf,
    /// Most bytes of segments.
    pub bytes_max: u64,
    /// Names in loss records.
    pub node: Node,
    /// Id of this run.
    pub collector_start: String,
    /// Id of this boot.
    pub boot_id: String,
    /// Which Kafka and topics: another one has to be reachable once before records are spooled for it.
    pub origin: String,
}

/// Whether records may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// The topic has not been checked.
    Closed,
    /// They may.
    Open,
    /// The client has failed; it is replaced at this time.
    Failed(i64),
}

/// Numbers for metrics, since the last call or now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Handed to the client since the last call.
    pub sent: u64,
    /// Acknowledged since the last call.
    pub acknowledged: u64,
    /// Given up since the last call.
    pub given_up: GivenUp,
    /// In memory now.
    pub window: usize,
    /// In segments now.
    pub spool_records: u64,
    /// Bytes of segments now.
    pub spool_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Outbox<C> {
    settings: OutboxSettings,
    client: C,
    spool: Spool,
    window: Window,
    gate: Gate,
    next: u64,
    /// Kafka is slow or away: records are written to the disk, too.
    is_spilling: bool,
    spill_again_ns: i64,
    moment: SafeMoment,
    read_ns: i64,
    checkpointed_ns: i64,
    /// When gaps were last reported, and the last record that reports them while it is not acknowledged.
    reported_ns: i64,
    reporting: Option<u64>,
    sent: u64,
    acknowledged: u64,
    containers_lost: bool,
}

impl<C: Client> Outbox<C> {
    /// Opens the spool; nothing is sent before [`Self::open_gate`].
    ///
    /// # Errors
    /// When the spool cannot be used.
    pub fn new(settings: OutboxSettings, client: C) -> anyhow::Result<Self> {
        let spool = Spool::open(&settings.directory, settings.bytes_max, &settings.collector_start)?;
        let next = spool.next_sequence();
        Ok(Self {
            settings,
            client,
            spool,
            window: Window::default(),
            gate: Gate::Closed,
            next,
            is_spilling: false,
            spill_again_ns: 0,
            moment: SafeMoment::default(),
            read_ns: 0,
            checkpointed_ns: 0,
            reported_ns: 0,
            reporting: None,
            sent: 0,
            acknowledged: 0,
            containers_lost: false,
        })
    }

    /// Whether a collector with this spool was attached to this Kafka before: then it need not wait for it.
    pub fn was_attached(&mut self) -> bool {
        let origin = self.settings.origin.clone();
        self.spool.checkpoint().origin == origin
    }

    /// The topic is there and as configured.
    pub fn open_gate(&mut self) {
        if self.gate == Gate::Closed {
            self.gate = Gate::Open;
        }
    }

    /// From `now_ns` on every exec is seen. What happened since the last run brought everything to safety is unknown.
    pub fn attached(&mut self, now_ns: i64) {
        let unreadable_ns = self.spool.unreadable_since_ns();
        let (origin, boot_id) = (self.settings.origin.clone(), self.settings.boot_id.clone());
        let checkpoint = self.spool.checkpoint();
        let safe_ns = Some(checkpoint.safe_ns).filter(|safe_ns| *safe_ns > 0);
        let is_same_boot = checkpoint.boot_id == boot_id;
        let from_ns = match safe_ns {
            Some(safe_ns) if is_same_boot => Some(safe_ns),
            earlier => earlier.or(unreadable_ns).map(|at_ns| at_ns.saturating_sub(limits::DIRTY_MAX)),
        };
        (checkpoint.origin, checkpoint.boot_id) = (origin, boot_id);
        let (unacknowledged, reported_by) =
            (std::mem::take(&mut checkpoint.reporting), std::mem::take(&mut checkpoint.reported_by));
        if let Some(from_ns) = from_ns {
            let gap = Gap { lost: None, from_ns, to_ns: now_ns.max(from_ns) };
            self.spool.miss(Reason::Restart, gap, 0);
        }
        self.moment = SafeMoment::at(now_ns);
        (self.read_ns, self.reported_ns) = (now_ns, now_ns);
        self.push_losses(now_ns, unacknowledged, reported_by);
        self.checkpoint(now_ns);
    }

    /// Takes a record.
    pub fn push(&mut self, now_ns: i64, outgoing: Outgoing) {
        let Outgoing { key, value, .. } = outgoing;
        let sequence = self.next;
        self.next += 1;
        if self.spool.unread() == 0 && self.window.has_room(key.len() + value.len()) {
            self.spool.passed(sequence);
            self.window.push(Entry::new(sequence, now_ns, key, value));
            if self.is_spilling {
                self.spill(now_ns);
            }
            self.send();
            return;
        }
        self.spill(now_ns);
        let stamp = Stamp::of(&value, now_ns);
        if let Err(reason) = self.spool.append(&Frame { sequence, stamp, key: &key, value: &value }) {
            self.spool.lose(stamp, &value, reason);
        }
    }

    /// Every exec until this moment has been given to the core.
    pub fn has_read(&mut self, until_ns: i64) {
        self.read_ns = self.read_ns.max(until_ns);
    }

    /// Takes acknowledgements, goes on with what waits, and writes what has to be known. `held` execs wait in the core.
    pub fn tick(&mut self, now_ns: i64, held: usize) {
        self.take_reports(now_ns);
        if let Gate::Failed(until_ns) = self.gate
            && now_ns >= until_ns
        {
            self.renew(now_ns);
        }
        self.refill(now_ns);
        self.send();
        let oldest_ns = self.window.first().map_or(now_ns, |entry| entry.since_ns);
        self.is_spilling = now_ns.saturating_sub(oldest_ns) >= limits::SPILL_AFTER;
        if self.is_spilling {
            self.spill(now_ns);
        }
        self.report_gaps(now_ns);
        let (emitted, safe) = (self.next.saturating_sub(1), self.safe());
        self.moment.advance(now_ns, Progress { read_ns: self.read_ns.min(now_ns), held, emitted, safe });
        if now_ns.saturating_sub(self.checkpointed_ns) >= limits::CHECKPOINT_EVERY {
            self.checkpoint(now_ns);
        }
    }

    /// Whether Kafka has everything.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.window.is_empty() && self.spool.unread() == 0
    }

    /// The end: nothing more is read or emitted. What Kafka has not acknowledged stays in the spool for the next start.
    pub fn close(&mut self, now_ns: i64) {
        self.take_reports(now_ns);
        self.spill_again_ns = 0;
        self.spill(now_ns);
        for entry in self.window.at_risk() {
            self.spool.lose(Stamp::of(&entry.value, now_ns), &entry.value, Reason::DiskFailed);
        }
        self.moment = SafeMoment::at(now_ns);
        self.checkpoint(now_ns);
    }

    /// Whether records about containers were given up, and Kafka takes records again: they have to be described again.
    pub fn take_containers_lost(&mut self) -> bool {
        let is_due = self.containers_lost && self.has_caught_up();
        self.containers_lost &= !is_due;
        is_due
    }

    /// Numbers for metrics.
    pub fn numbers(&mut self) -> Numbers {
        let given_up = self.spool.take_given_up();
        self.containers_lost |= given_up.containers;
        Numbers {
            sent: std::mem::take(&mut self.sent),
            acknowledged: std::mem::take(&mut self.acknowledged),
            given_up,
            window: self.window.len(),
            spool_records: self.spool.records(),
            spool_bytes: self.spool.bytes(),
        }
    }

    fn has_caught_up(&self) -> bool {
        self.gate == Gate::Open && self.spool.unread() == 0 && !self.is_spilling
    }

    fn take_reports(&mut self, now_ns: i64) {
        for Report { sequence, outcome } in self.client.reports() {
            match outcome {
                Outcome::Acknowledged => {
                    self.acknowledged += 1;
                    self.window.done(sequence);
                }
                Outcome::Refused => self.refused(now_ns, sequence),
                Outcome::Failed if matches!(self.gate, Gate::Failed(_)) => {}
                Outcome::Failed => {
                    tracing::warn!(why = self.client.last_failure(), "kafka's client has failed and is replaced");
                    self.gate = Gate::Failed(now_ns.saturating_add(RENEW_AFTER_NS));
                }
            }
        }
        let done = self.window.first().map_or(self.spool.read(), |entry| entry.sequence.saturating_sub(1));
        self.spool.forget_done(done);
        if self.reporting.is_some_and(|sequence| sequence <= done) {
            self.reporting = None;
            let checkpoint = self.spool.checkpoint();
            (checkpoint.reporting, checkpoint.reported_by) = (Gaps::default(), String::new());
            self.checkpoint(now_ns);
        }
    }

    fn refused(&mut self, now_ns: i64, sequence: u64) {
        if let Some(entry) = self.window.get(sequence) {
            tracing::error!(bytes = entry.value.len(), why = self.client.last_failure(), "kafka refuses a record");
            self.spool.lose(Stamp::of(&entry.value, now_ns), &entry.value, Reason::Refused);
        }
        self.window.done(sequence);
    }

    fn renew(&mut self, now_ns: i64) {
        match self.client.renew() {
            Ok(()) => {
                self.window.send_again();
                self.gate = Gate::Open;
            }
            Err(error) => {
                tracing::error!(%error, "no new client for kafka");
                self.gate = Gate::Failed(now_ns.saturating_add(RENEW_AFTER_NS));
            }
        }
    }

    /// Brings records from the disk back into the window.
    fn refill(&mut self, now_ns: i64) {
        while self.spool.unread() > 0 && self.window.has_room(0) {
            let Some(unread) = self.spool.next_unread() else { return };
            let mut entry = Entry::new(unread.sequence, now_ns, unread.key, unread.value);
            entry.is_on_disk = true;
            self.window.push(entry);
        }
    }

    fn send(&mut self) {
        while self.gate == Gate::Open
            && let Some(entry) = self.window.to_send()
            && self.client.send(&entry.key, &entry.value, entry.sequence)
        {
            self.window.has_sent();
            self.sent += 1;
        }
    }

    /// Writes what is in the window and not on the disk there, in order and without leaving any out.
    fn spill(&mut self, now_ns: i64) {
        if now_ns < self.spill_again_ns {
            return;
        }
        let spooled = self.spool.checkpoint().spooled;
        for entry in self.window.after_mut(spooled) {
            let stamp = Stamp::of(&entry.value, entry.since_ns);
            let frame = Frame { sequence: entry.sequence, stamp, key: &entry.key, value: &entry.value };
            if self.spool.append(&frame).is_err() {
                self.spill_again_ns = now_ns.saturating_add(SPILL_AGAIN_NS);
                return;
            }
            entry.is_on_disk = true;
        }
    }

    /// Reports what is missing, once Kafka has caught up. Where Kafka is always too slow, it never does: then after
    /// [`limits::UNREPORTED_MAX`].
    fn report_gaps(&mut self, now_ns: i64) {
        let since_ns = now_ns.saturating_sub(self.reported_ns);
        let is_time = if self.has_caught_up() { since_ns >= 0 } else { since_ns >= limits::UNREPORTED_MAX };
        if self.spool.checkpoint().gaps.is_empty() || self.reporting.is_some() || !is_time {
            return;
        }
        let gaps = std::mem::take(&mut self.spool.checkpoint().gaps);
        let run = self.settings.collector_start.clone();
        self.push_losses(now_ns, gaps, run);
        self.checkpoint(now_ns);
    }

    /// Emits loss records in the name of the run that found the gaps.
    fn push_losses(&mut self, now_ns: i64, gaps: Gaps, run: String) {
        let node = self.settings.node.clone();
        for loss in gaps.records(&node, &run) {
            match driftline_schemas::encode(&loss) {
                Ok(value) => {
                    let (key, headers) = (node.name.clone().into_bytes(), Vec::new());
                    self.push(now_ns, Outgoing { topic: Topic::ExecEvents, key, value, headers });
                    self.reporting = Some(self.next.saturating_sub(1));
                }
                Err(error) => tracing::error!(%error, "a loss record cannot be encoded"),
            }
        }
        if !gaps.is_empty() {
            self.reported_ns = now_ns.saturating_add(limits::LOSS_INTERVAL);
            let checkpoint = self.spool.checkpoint();
            (checkpoint.reporting, checkpoint.reported_by) = (gaps, run);
        }
    }

    /// Records up to this one are acknowledged, on the disk, or counted as lost.
    fn safe(&self) -> u64 {
        let first = self.window.at_risk().next();
        first.map_or(self.next, |entry| entry.sequence).saturating_sub(1)
    }

    fn checkpoint(&mut self, now_ns: i64) {
        self.checkpointed_ns = now_ns;
        self.spool.checkpoint().safe_ns = self.moment.safe_ns();
        self.spool.write_checkpoint();
    }
}

/// Which Kafka and topics these settings name, for [`OutboxSettings::origin`].
#[must_use]
pub fn origin_of(kafka: &ClientSettings) -> String {
    let named = format!("{}\n{}\n{}", kafka.bootstrap, kafka.topic(Topic::ExecEvents), kafka.partitions);
    Sha256::digest(named).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
