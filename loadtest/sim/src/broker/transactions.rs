//! Transactional producers: epochs, fencing, and the two steps that end a transaction: the decision, then a marker in
//! each partition. Between the two a transaction is decided, but readers do not see it yet.

use driftline_service_core::Committed;
use std::collections::BTreeMap;

use super::{Broker, Data, TopicPartition};

/// The broker aborts a transaction that is open for longer than this.
pub(crate) const TRANSACTION_TIMEOUT_NS: i64 = 10_000_000_000;

/// The producer was fenced: another process has its name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fenced;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Committed,
    Aborted,
}

/// When the markers of a decided transaction are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Markers {
    Now,
    /// At this time.
    At(i64),
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) fate: Fate,
    began_ns: i64,
    /// When the markers are due, once it is decided.
    markers_ns: i64,
    /// Partitions without a marker, with the first record in each.
    pub(super) unmarked: BTreeMap<TopicPartition, i64>,
    /// Offsets that are committed for the groups with the transaction.
    pub(super) offsets: BTreeMap<TopicPartition, Committed>,
}

#[derive(Debug, Default)]
pub(super) struct Producer {
    epoch: u32,
    current: Option<usize>,
}

impl Broker {
    /// Takes over a producer's name: aborts the predecessor's open transaction and fences the predecessor. Returns the
    /// new epoch.
    pub(crate) fn init(&mut self, id: &str) -> u32 {
        if self.fencing {
            self.end_current(id, Fate::Aborted, Markers::Now);
        }
        let producer = self.producers.entry(id.to_owned()).or_default();
        producer.epoch += 1;
        producer.epoch
    }

    fn check(&self, id: &str, epoch: u32) -> Result<(), Fenced> {
        let current = self.producers.get(id).is_some_and(|producer| producer.epoch == epoch);
        if current || !self.fencing { Ok(()) } else { Err(Fenced) }
    }

    /// Whether the last transaction of this producer still waits for markers, so that no further one can begin.
    pub(crate) fn is_ending(&self, id: &str) -> bool {
        let current = self.producers.get(id).and_then(|producer| producer.current);
        let fate = current.and_then(|number| self.transactions.get(number)).map(|transaction| transaction.fate);
        fate.is_some_and(|fate| fate != Fate::Open)
    }

    /// The open transaction; begins one if there is none.
    fn open(&mut self, id: &str, now_ns: i64) -> usize {
        let number = self.transactions.len();
        let producer = self.producers.entry(id.to_owned()).or_default();
        if let Some(current) = producer.current {
            return current;
        }
        producer.current = Some(number);
        self.active.insert(number);
        self.transactions.push(Transaction {
            fate: Fate::Open,
            began_ns: now_ns,
            markers_ns: i64::MAX,
            unmarked: BTreeMap::new(),
            offsets: BTreeMap::new(),
        });
        number
    }

    /// Appends in the producer's transaction; returns the record's offset.
    pub(crate) fn produce(
        &mut self,
        (id, epoch): (&str, u32),
        topic_partition: TopicPartition,
        data: Data,
        now_ns: i64,
    ) -> Result<i64, Fenced> {
        self.check(id, epoch)?;
        let number = self.open(id, now_ns);
        let offset = self.push(topic_partition, Some(data), Some(number));
        if let Some(transaction) = self.transactions.get_mut(number) {
            transaction.unmarked.entry(topic_partition).or_insert(offset);
        }
        Ok(offset)
    }

    /// Adds offsets to the producer's transaction.
    pub(crate) fn add_offsets(
        &mut self,
        (id, epoch): (&str, u32),
        offsets: &BTreeMap<TopicPartition, Committed>,
        now_ns: i64,
    ) -> Result<(), Fenced> {
        self.check(id, epoch)?;
        let number = self.open(id, now_ns);
        if let Some(transaction) = self.transactions.get_mut(number) {
            transaction.offsets.extend(offsets);
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self, (id, epoch): (&str, u32), markers: Markers) -> Result<(), Fenced> {
        self.check(id, epoch)?;
        self.end_current(id, Fate::Committed, markers);
        Ok(())
    }

    pub(crate) fn abort(&mut self, (id, epoch): (&str, u32), markers: Markers) -> Result<(), Fenced> {
        self.check(id, epoch)?;
        self.end_current(id, Fate::Aborted, markers);
        Ok(())
    }

    fn end_current(&mut self, id: &str, fate: Fate, markers: Markers) {
        let Some(number) = self.producers.get(id).and_then(|producer| producer.current) else { return };
        if let Some(transaction) = self.transactions.get_mut(number) {
            if transaction.fate == Fate::Open {
                transaction.fate = fate;
            }
            match markers {
                Markers::At(at_ns) => transaction.markers_ns = at_ns,
                Markers::Now => self.write_markers(number),
            }
        }
    }

    /// Ends the transaction: readers may read its records, and groups get its offsets.
    fn write_markers(&mut self, number: usize) {
        let Some(transaction) = self.transactions.get_mut(number) else { return };
        let fate = transaction.fate;
        let unmarked = std::mem::take(&mut transaction.unmarked);
        let offsets = std::mem::take(&mut transaction.offsets);
        self.active.remove(&number);
        for producer in self.producers.values_mut().filter(|producer| producer.current == Some(number)) {
            producer.current = None;
        }
        for topic_partition in unmarked.into_keys() {
            self.push(topic_partition, None, Some(number));
        }
        if fate == Fate::Committed {
            offsets.into_iter().for_each(|(topic_partition, committed)| self.set_offset(topic_partition, committed));
        }
    }

    /// Writes markers that are due, and aborts transactions that were open for too long. Returns the number of aborts.
    pub(crate) fn advance(&mut self, now_ns: i64) -> u64 {
        let mut timed_out = 0;
        for number in self.active.clone() {
            let Some(transaction) = self.transactions.get_mut(number) else { continue };
            let too_old = now_ns.saturating_sub(transaction.began_ns) > TRANSACTION_TIMEOUT_NS;
            if transaction.fate == Fate::Open && too_old {
                transaction.fate = Fate::Aborted;
                transaction.markers_ns = now_ns;
                timed_out += 1;
                // Its producer must not continue as if the transaction were open.
                let mut producers = self.producers.values_mut();
                if let Some(producer) = producers.find(|producer| producer.current == Some(number)) {
                    producer.epoch += 1;
                }
            }
            if self.transactions.get(number).is_some_and(|transaction| transaction.markers_ns <= now_ns) {
                self.write_markers(number);
            }
        }
        timed_out
    }

    /// The next time at which [`Self::advance`] has work.
    pub(crate) fn due_ns(&self) -> i64 {
        let active = self.active.iter().filter_map(|number| self.transactions.get(*number));
        let due = active.map(|transaction| match transaction.fate {
            Fate::Open => transaction.began_ns.saturating_add(TRANSACTION_TIMEOUT_NS + 1),
            _ => transaction.markers_ns,
        });
        due.min().unwrap_or(i64::MAX)
    }
}
