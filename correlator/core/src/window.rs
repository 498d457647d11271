//! Arithmetic of sessions: which event times belong together, and which offsets a restart must read again.
//!
//! All of it saturates, because event times come from nodes whose clocks may be anything.

use std::collections::BTreeMap;

use crate::limits::OFFSET_RANGES_MAX;
use crate::settings::Settings;

/// From the earliest to the latest of some event times, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub first_ns: i64,
    pub last_ns: i64,
}

/// Whether an event time belongs to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belongs {
    Yes,
    /// It is near enough, but the session would become longer than the cap.
    CapReached,
    No,
}

impl Span {
    pub(crate) fn at(time_ns: i64) -> Self {
        Self { first_ns: time_ns, last_ns: time_ns }
    }

    pub(crate) fn with(self, time_ns: i64) -> Self {
        Self { first_ns: self.first_ns.min(time_ns), last_ns: self.last_ns.max(time_ns) }
    }

    /// 1. A time at most the gap before the first or after the last event is near enough. 2. The span with it must not
    ///    be longer than the cap. 3. So a time inside the span always belongs.
    pub(crate) fn belongs(self, time_ns: i64, settings: &Settings) -> Belongs {
        let near = time_ns >= self.first_ns.saturating_sub(settings.gap_ns)
            && time_ns <= self.last_ns.saturating_add(settings.gap_ns);
        let wider = self.with(time_ns);
        match (near, wider.last_ns.saturating_sub(wider.first_ns) <= settings.cap_ns) {
            (false, _) => Belongs::No,
            (true, false) => Belongs::CapReached,
            (true, true) => Belongs::Yes,
        }
    }
}

/// From the smallest to the largest input offset of something, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub first: i64,
    pub last: i64,
}

impl Offsets {
    pub(crate) fn at(offset: i64) -> Self {
        Self { first: offset, last: offset }
    }

    pub(crate) fn with(self, offset: i64) -> Self {
        Self { first: self.first.min(offset), last: self.last.max(offset) }
    }
}

/// Offsets of sessions that are no longer open. A restart must never begin in the middle of one: half a session would
/// look like a new one, and become an alert of its own. Ranges that overlap are one range, since whoever begins in one
/// begins in all of them.
#[derive(Debug, Default)]
pub(crate) struct OffsetRanges {
    last_by_first: BTreeMap<i64, i64>,
}

impl OffsetRanges {
    pub(crate) fn insert(&mut self, range: Offsets) {
        let Offsets { mut first, mut last } = range;
        if first == last {
            return; // nobody can begin in the middle of it
        }
        let overlapping: Vec<(i64, i64)> = self
            .last_by_first
            .range(..=last)
            .rev()
            .map(|(start, end)| (*start, *end))
            .take_while(|(_, end)| *end >= first)
            .collect();
        for (start, end) in overlapping {
            self.last_by_first.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.last_by_first.insert(first, last);
        if self.last_by_first.len() > OFFSET_RANGES_MAX {
            self.join_oldest();
        }
    }

    /// Where reading must begin so that `wanted` is read and no range is begun in its middle.
    pub(crate) fn begin(&self, wanted: i64) -> i64 {
        match self.last_by_first.range(..=wanted).next_back() {
            Some((first, last)) if *last >= wanted => *first,
            _ => wanted,
        }
    }

    /// Drops what lies wholly before `offset`.
    pub(crate) fn forget_before(&mut self, offset: i64) {
        while let Some(entry) = self.last_by_first.first_entry().filter(|entry| *entry.get() < offset) {
            entry.remove();
        }
    }

    fn join_oldest(&mut self) {
        if let (Some((first, _)), Some((_, last))) = (self.last_by_first.pop_first(), self.last_by_first.pop_first()) {
            self.last_by_first.insert(first, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Options;
    use std::time::Duration;

    #[test]
    fn a_time_belongs_up_to_the_gap_and_the_cap_exactly() {
        let options = Options {
            session_gap: Duration::from_secs(10),
            session_cap: Duration::from_secs(25),
            ..Options::default()
        };
        let settings = Settings::new(options).unwrap();
        let second = 1_000_000_000;
        let span = Span { first_ns: 100 * second, last_ns: 120 * second };
        for (time_ns, expected) in [
            (90 * second - 1, Belongs::No),
            (90 * second, Belongs::CapReached),
            (95 * second - 1, Belongs::CapReached),
            (95 * second, Belongs::Yes),
            (110 * second, Belongs::Yes),
            (125 * second, Belongs::Yes),
            (125 * second + 1, Belongs::CapReached),
            (130 * second, Belongs::CapReached),
            (130 * second + 1, Belongs::No),
            (i64::MIN, Belongs::No),
            (i64::MAX, Belongs::No),
        ] {
            assert_eq!(span.belongs(time_ns, &settings), expected, "{time_ns}");
        }
        assert_eq!(Span::at(i64::MAX).belongs(i64::MAX, &settings), Belongs::Yes);
        assert_eq!(Span::at(i64::MIN).belongs(i64::MIN, &settings), Belongs::Yes);
    }

    #[test]
    fn reading_never_begins_inside_a_range() {
        let mut ranges = OffsetRanges::default();
        for (first, last) in [(10, 20), (30, 40), (50, 50), (15, 32)] {
            ranges.insert(Offsets { first, last });
        }
        for (wanted, expected) in [(5, 5), (10, 10), (11, 10), (33, 10), (40, 10), (41, 41), (50, 50)] {
            assert_eq!(ranges.begin(wanted), expected, "{wanted}");
        }
        ranges.forget_before(40);
        assert_eq!(ranges.begin(33), 10);
        ranges.forget_before(41);
        assert_eq!(ranges.begin(33), 33);
    }

    #[test]
    fn ranges_are_joined_rather_than_growing() {
        let mut ranges = OffsetRanges::default();
        for at in 0..=i64::try_from(OFFSET_RANGES_MAX).unwrap() {
            ranges.insert(Offsets { first: at * 10, last: at * 10 + 5 });
        }
        assert_eq!(ranges.last_by_first.len(), OFFSET_RANGES_MAX);
        assert_eq!(ranges.begin(7), 0, "the two oldest became one");
    }
}
