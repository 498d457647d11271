//! The only place that asks what time it is. Cores get time as an argument.

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

/// A wall clock that never goes back, for cores: a step back of the system clock makes it stand still.
#[derive(Debug, Default)]
pub struct SteadyClock {
    last_ns: i64,
}

impl SteadyClock {
    /// Now, or the largest value given before.
    pub fn now_ns(&mut self) -> i64 {
        self.last_ns = self.last_ns.max(now_ns());
        self.last_ns
    }
}
