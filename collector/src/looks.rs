//! When the runtimes are asked what runs: when they say that something happened, and from time to time all the same.
//! Called by the describer, which tells it the time.

use driftline_engines::Heard;
use std::time::Duration;
use tokio::time::Instant;

/// How far apart looks are.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// While a runtime with a socket does not tell what happens: so that a container is known that has not executed
    /// anything since it was seen to start; listing 100 containers takes a runtime about a millisecond.
    pub unheard: Duration,
    /// While all of them tell, for what they failed to tell.
    pub heard: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { unheard: Duration::from_secs(1), heard: Duration::from_secs(30) }
    }
}

/// Least time between looks, however much happens: a node that starts ten containers a second is looked at ten times.
const APART: Duration = Duration::from_millis(100);

/// After an event it is looked twice, the second time so much later: containerd tells of a start before its CRI notes it.
const ONCE_MORE: Duration = Duration::from_millis(500);

/// Looks that are due.
#[derive(Debug)]
pub(crate) struct Looks {
    pace: Pace,
    looked: Instant,
    heard: Heard,
    soon: Option<Instant>,
    once_more: Option<Instant>,
}

impl Looks {
    /// The first is due at once.
    pub(crate) fn new(pace: Pace, now: Instant, heard: Heard) -> Self {
        Self { pace, looked: now, heard, soon: Some(now), once_more: None }
    }

    /// The runtimes said something, or that they begin or end to say anything.
    pub(crate) fn hear(&mut self, now: Instant, heard: Heard) {
        let has_happened = heard.reasons != self.heard.reasons;
        self.heard = heard;
        if has_happened {
            self.want(now);
            self.once_more = Some(now + ONCE_MORE);
        }
    }

    /// Looks as soon as is decent.
    pub(crate) fn want(&mut self, now: Instant) {
        self.soon.get_or_insert(now.max(self.looked + APART));
    }

    /// When the next is due.
    pub(crate) fn due(&self) -> Instant {
        let pause = if self.heard.silent > 0 { self.pace.unheard } else { self.pace.heard };
        [self.soon, self.once_more].into_iter().flatten().fold(self.looked + pause, Instant::min)
    }

    /// It is looked now.
    pub(crate) fn look(&mut self, now: Instant) {
        self.looked = now;
        self.soon = None;
        self.once_more = self.once_more.filter(|due| *due > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for so long, hearing at the given times in milliseconds; when it was looked.
    fn looked_at(silent: usize, events: &[u64], until: u64) -> Vec<u64> {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut heard = Heard { reasons: 0, silent };
        let mut looks = Looks::new(Pace::default(), begin, heard);
        let mut times = Vec::new();
        let mut events = events.iter().copied().peekable();
        loop {
            if let Some(event) = events.next_if(|event| at(*event) <= looks.due()) {
                heard.reasons += 1;
                looks.hear(at(event), heard);
                continue;
            }
            let due = looks.due();
            if due > at(until) {
                return times;
            }
            looks.look(due);
            times.push(u64::try_from((due - begin).as_millis()).unwrap());
        }
    }

    #[test]
    fn without_events_it_is_looked_every_second_and_with_them_every_half_minute() {
        assert_eq!(looked_at(1, &[], 3_000), [0, 1_000, 2_000, 3_000]);
        assert_eq!(looked_at(0, &[], 60_000), [0, 30_000, 60_000]);
    }

    #[test]
    fn an_event_is_looked_after_at_once_and_once_more() {
        assert_eq!(looked_at(0, &[5_000], 10_000), [0, 5_000, 5_500]);
        assert_eq!(looked_at(0, &[5_000, 35_400], 40_000), [0, 5_000, 5_500, 35_400, 35_900]);
    }

    #[test]
    fn many_events_are_looked_after_together() {
        let storm: Vec<u64> = (0..1_000).map(|n| 5_000 + n).collect();
        let looked = looked_at(0, &storm, 30_000);
        assert_eq!((looked.len(), looked[1], looked[2]), (13, 5_000, 5_100), "{looked:?}");
        assert_eq!(looked.last(), Some(&6_499), "and once more after the last");
    }

    #[test]
    fn a_runtime_that_falls_silent_is_asked_every_second_from_then_on() {
        let now = Instant::now();
        let mut looks = Looks::new(Pace::default(), now, Heard::default());
        looks.look(now);
        assert_eq!(looks.due() - now, Duration::from_secs(30));
        looks.hear(now, Heard { reasons: 0, silent: 1 });
        assert_eq!(looks.due() - now, Duration::from_secs(1));
    }
}
