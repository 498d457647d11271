//! The only module that reads the clock. Cores receive time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall clock, nanoseconds since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Monotonic clock, for durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// A wall clock for cores that never goes back and never stands still. After a step back of the system clock it
/// continues from its last time, at the speed of the monotonic clock, until the wall clock has caught up.
#[derive(Debug, Default)]
pub struct SteadyClock {
    last: Option<(i64, Instant)>,
}

impl SteadyClock {
    /// Now.
    pub fn now_ns(&mut self) -> i64 {
        self.read(now_ns(), monotonic())
    }

    fn read(&mut self, wall_ns: i64, at: Instant) -> i64 {
        let now_ns = self.last.map_or(wall_ns, |(last_ns, last_at)| {
            let passed = i64::try_from(at.saturating_duration_since(last_at).as_nanos()).unwrap_or(i64::MAX);
            wall_ns.max(last_ns.saturating_add(passed))
        });
        self.last = Some((now_ns, at));
        now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_step_back_of_the_wall_clock_does_not_stop_time() {
        let start = monotonic();
        let mut clock = SteadyClock::default();
        assert_eq!(clock.read(1_000, start), 1_000);
        assert_eq!(clock.read(400, start + Duration::from_nanos(50)), 1_050);
        assert_eq!(clock.read(450, start + Duration::from_nanos(100)), 1_100);
        assert_eq!(clock.read(2_000, start + Duration::from_nanos(150)), 2_000);
    }
}
