//! When the runtimes are polled for what runs: after their events, and from time to time without them. Called by the
//! describer, which passes the time.

use driftline_engines::EventCounts;
use std::time::Duration;
use tokio::time::Instant;

/// How far apart polls are.
#[derive(Debug, Clone, Copy)]
pub struct PollIntervals {
    /// While a runtime with a socket sends no events: so that a container is known that has not executed anything since it
    /// was seen to start. Listing 100 containers takes a runtime about a millisecond.
    pub without_events: Duration,
    /// While all of them send events, for events that were lost.
    pub with_events: Duration,
}

impl Default for PollIntervals {
    fn default() -> Self {
        Self { without_events: Duration::from_secs(1), with_events: Duration::from_secs(30) }
    }
}

/// Least time between polls, however many events come: on a node that starts a hundred containers a second, ten polls.
const APART: Duration = Duration::from_millis(100);

/// An event causes two polls, the second so much later: containerd sends the event of a start before its CRI lists it.
const ONCE_MORE: Duration = Duration::from_millis(500);

/// Polls that are due.
#[derive(Debug)]
pub(crate) struct PollSchedule {
    intervals: PollIntervals,
    polled: Instant,
    events: EventCounts,
    soon: Option<Instant>,
    once_more: Option<Instant>,
}

impl PollSchedule {
    /// The first poll is due at once.
    pub(crate) fn new(intervals: PollIntervals, now: Instant, events: EventCounts) -> Self {
        Self { intervals, polled: now, events, soon: Some(now), once_more: None }
    }

    /// An event came, or a runtime began or ceased to send events.
    pub(crate) fn on_events(&mut self, now: Instant, events: EventCounts) {
        let is_new = events.received != self.events.received;
        self.events = events;
        if is_new {
            self.poll_soon(now);
            self.once_more = Some(now + ONCE_MORE);
        }
    }

    /// Makes a poll due as soon as [`APART`] allows.
    pub(crate) fn poll_soon(&mut self, now: Instant) {
        self.soon.get_or_insert(now.max(self.polled + APART));
    }

    /// When the next poll is due.
    pub(crate) fn due(&self) -> Instant {
        let interval = if self.events.silent > 0 { self.intervals.without_events } else { self.intervals.with_events };
        [self.soon, self.once_more].into_iter().flatten().fold(self.polled + interval, Instant::min)
    }

    /// A poll begins now.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.polled = now;
        self.soon = None;
        self.once_more = self.once_more.filter(|due| *due > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls until then, with events at the given times in milliseconds; returns the times of the polls.
    fn polled_at(silent: usize, events: &[u64], until: u64) -> Vec<u64> {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut counts = EventCounts { received: 0, silent };
        let mut schedule = PollSchedule::new(PollIntervals::default(), begin, counts);
        let mut times = Vec::new();
        let mut events = events.iter().copied().peekable();
        loop {
            if let Some(event) = events.next_if(|event| at(*event) <= schedule.due()) {
                counts.received += 1;
                schedule.on_events(at(event), counts);
                continue;
            }
            let due = schedule.due();
            if due > at(until) {
                return times;
            }
            schedule.begin(due);
            times.push(u64::try_from((due - begin).as_millis()).unwrap());
        }
    }

    #[test]
    fn silent_runtimes_are_polled_every_second_and_others_every_half_minute() {
        assert_eq!(polled_at(1, &[], 3_000), [0, 1_000, 2_000, 3_000]);
        assert_eq!(polled_at(0, &[], 60_000), [0, 30_000, 60_000]);
    }

    #[test]
    fn an_event_causes_a_poll_at_once_and_one_later() {
        assert_eq!(polled_at(0, &[5_000], 10_000), [0, 5_000, 5_500]);
        assert_eq!(polled_at(0, &[5_000, 35_400], 40_000), [0, 5_000, 5_500, 35_400, 35_900]);
    }

    #[test]
    fn many_events_share_polls() {
        let storm: Vec<u64> = (0..1_000).map(|n| 5_000 + n).collect();
        let polled = polled_at(0, &storm, 30_000);
        assert_eq!((polled.len(), polled[1], polled[2]), (13, 5_000, 5_100), "{polled:?}");
        assert_eq!(polled.last(), Some(&6_499), "and once more after the last");
    }

    #[test]
    fn a_runtime_that_ceases_to_send_events_is_polled_every_second() {
        let now = Instant::now();
        let mut schedule = PollSchedule::new(PollIntervals::default(), now, EventCounts::default());
        schedule.begin(now);
        assert_eq!(schedule.due() - now, Duration::from_secs(30));
        schedule.on_events(now, EventCounts { received: 0, silent: 1 });
        assert_eq!(schedule.due() - now, Duration::from_secs(1));
    }
}
