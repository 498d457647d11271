//! Records in memory that Kafka has not acknowledged.

use std::collections::VecDeque;

use crate::limits;

/// A record that waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Sequence number.
    pub sequence: u64,
    /// When it came, nanoseconds since 1970.
    pub since_ns: i64,
    /// Key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
    /// Whether it is in a segment, too.
    pub is_on_disk: bool,
    is_done: bool,
}

impl Entry {
    /// A record that came at `since_ns`.
    #[must_use]
    pub fn new(sequence: u64, since_ns: i64, key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { sequence, since_ns, key, value, is_on_disk: false, is_done: false }
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// Records in the order of their sequence numbers, from the first that is not acknowledged on. Those of other partitions
/// may be acknowledged before it.
#[derive(Debug, Default)]
pub struct Window {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How many of the entries have been handed to Kafka's client.
    sent: usize,
}

impl Window {
    /// Whether a record finds room. An empty window has room for any.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let fits = self.entries.len() < limits::WINDOW_RECORDS && self.bytes + bytes <= limits::WINDOW_BYTES;
        fits || self.entries.is_empty()
    }

    /// Takes a record behind the others.
    pub fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    /// The first record that Kafka's client does not have.
    #[must_use]
    pub fn to_send(&self) -> Option<&Entry> {
        self.entries.get(self.sent)
    }

    /// The client has taken it.
    pub fn has_sent(&mut self) {
        self.sent = (self.sent + 1).min(self.entries.len());
    }

    /// The client has lost what it had: all is to be sent again. Acknowledged ones among them, too: which of them the
    /// cluster has written in which order is not known.
    pub fn send_again(&mut self) {
        self.sent = 0;
    }

    /// A record is acknowledged, or given up.
    pub fn done(&mut self, sequence: u64) {
        if let Ok(at) = self.entries.binary_search_by_key(&sequence, |entry| entry.sequence)
            && let Some(entry) = self.entries.get_mut(at)
        {
            entry.is_done = true;
        }
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.is_done) {
            self.bytes -= entry.bytes();
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// Those behind a number, also the acknowledged ones among them.
    pub fn after_mut(&mut self, sequence: u64) -> impl Iterator<Item = &mut Entry> {
        let at = self.entries.partition_point(|entry| entry.sequence <= sequence);
        self.entries.range_mut(at..)
    }

    /// Those that would be lost with this process: neither acknowledged nor on the disk.
    pub fn at_risk(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_done && !entry.is_on_disk)
    }

    /// A record by its number.
    #[must_use]
    pub fn get(&self, sequence: u64) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&sequence, |entry| entry.sequence).ok()?;
        self.entries.get(at)
    }

    /// The first record, which is not acknowledged.
    #[must_use]
    pub fn first(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(sequences: impl Iterator<Item = u64>) -> Window {
        let mut window = Window::default();
        sequences.for_each(|sequence| window.push(Entry::new(sequence, 0, vec![0; 10], vec![0; 90])));
        window
    }

    #[test]
    fn acknowledgements_come_in_any_order_and_the_front_waits_for_the_slowest() {
        let mut window = window([1, 2, 4, 5].into_iter());
        (0..3).for_each(|_| window.has_sent());
        window.done(2);
        window.done(4);
        assert_eq!(window.first().unwrap().sequence, 1);
        assert_eq!(window.at_risk().map(|entry| entry.sequence).collect::<Vec<_>>(), [1, 5]);
        window.after_mut(2).for_each(|entry| entry.is_on_disk = true);
        assert_eq!(window.at_risk().map(|entry| entry.sequence).collect::<Vec<_>>(), [1]);
        window.done(3);
        window.done(1);
        assert_eq!((window.first().unwrap().sequence, window.len()), (5, 1));
        assert_eq!(window.to_send().unwrap().sequence, 5);
        window.has_sent();
        assert_eq!(window.to_send(), None);
        window.send_again();
        assert_eq!(window.to_send().unwrap().sequence, 5);
        window.done(5);
        assert!(window.is_empty() && window.bytes == 0);
    }

    #[test]
    fn a_window_is_bounded_by_records_and_by_bytes() {
        let many = (1..).take_while(|sequence| window(1..*sequence).has_room(100)).count();
        assert_eq!(many, limits::WINDOW_RECORDS);
        let mut large = Window::default();
        assert!(large.has_room(limits::WINDOW_BYTES + 1), "or it would never be sent");
        large.push(Entry::new(1, 0, Vec::new(), vec![0; limits::WINDOW_BYTES - 5]));
        assert!(large.has_room(5) && !large.has_room(6));
    }
}
