//! Limits the log lines that input can cause: a number of lines per minute, then the number of lines that were left
//! out. A producer of records must not be able to fill a disk with lines about them. The events of such lines have
//! counters as well; see `docs/telemetry.md`.

use std::time::{Duration, Instant};

use crate::clock;

/// Lines of one kind in each minute, one every two seconds: enough to recognise the problem.
pub const LINES_PER_MINUTE: u32 = 30;
const MINUTE: Duration = Duration::from_secs(60);

/// The lines of one kind.
///
/// ```
/// # let mut lines = driftline_service::log_limit::LogLimit::default();
/// if let Some(left_out) = lines.admit() {
///     // Lines of this kind that were left out before this one.
///     println!("record rejected left_out={left_out}");
/// }
/// ```
#[derive(Debug, Default)]
pub struct LogLimit {
    /// When the first line of this minute was written.
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl LogLimit {
    /// Whether one more line may be written now: returns the number of lines left out since the last one, or `None`
    /// when this line is left out as well.
    pub fn admit(&mut self) -> Option<u64> {
        self.admit_at(clock::monotonic())
    }

    /// Logs the number of lines left out, if any, after their minute is over. The owner's tick calls it, so that the
    /// number is logged even if no line follows. `what` names the lines, in the plural.
    pub fn log_left_out(&mut self, what: &str) {
        if let Some(left_out) = self.take_left_out_at(clock::monotonic()) {
            tracing::warn!(left_out, "more {what}, counted only");
        }
    }

    fn admit_at(&mut self, now: Instant) -> Option<u64> {
        if self.is_over(now) {
            (self.began, self.written) = (Some(now), 0);
        }
        if self.written >= LINES_PER_MINUTE {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }

    fn take_left_out_at(&mut self, now: Instant) -> Option<u64> {
        (self.left_out > 0 && self.is_over(now)).then(|| std::mem::take(&mut self.left_out))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.began.is_none_or(|began| now.saturating_duration_since(began) >= MINUTE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_lines_and_the_first_of_the_next_reports_what_was_left_out() {
        let start = clock::monotonic();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut lines = LogLimit::default();
        assert_eq!((0..1_000).filter(|_| lines.admit_at(at(0)) == Some(0)).count(), LINES_PER_MINUTE as usize);
        assert_eq!(lines.admit_at(at(59)), None);
        assert_eq!(lines.admit_at(at(60)), Some(1_000 - u64::from(LINES_PER_MINUTE) + 1));
        assert_eq!(lines.admit_at(at(61)), Some(0));
    }

    #[test]
    fn what_was_left_out_is_reported_once_though_no_line_follows() {
        let start = clock::monotonic();
        let mut lines = LogLimit::default();
        for _ in 0..LINES_PER_MINUTE + 5 {
            lines.admit_at(start);
        }
        assert_eq!(lines.take_left_out_at(start + Duration::from_secs(30)), None, "its minute is not over");
        assert_eq!(lines.take_left_out_at(start + MINUTE), Some(5));
        assert_eq!(lines.take_left_out_at(start + MINUTE), None);
        assert_eq!(lines.admit_at(start + MINUTE), Some(0));
    }
}
