//! Arithmetic of sessions: which event times belong together.
//!
//! All of it saturates, because the clocks of the nodes may report any event time.

use crate::settings::Settings;

/// The interval between the earliest and the latest of some event times, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub first_ns: i64,
    pub last_ns: i64,
}

/// Whether an event time belongs to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belongs {
    Yes,
    /// The event time is near enough, but the session would become longer than the cap.
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
        let settings = Settings::new(options, &[]).unwrap();
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
}
