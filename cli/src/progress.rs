//! The progress of a long command on standard error: a bar on a terminal, a line every few seconds in a log.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use driftline_service::clock;

/// Interval of the bar's redraws: fast enough for the eye.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// Interval of the lines in a log.
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_WIDTH: u64 = 30;
/// Back to the first column, and clear the line.
const CLEAR: &str = "\r\x1b[K";

/// Shows progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    unit: &'static str,
    total: u64,
    began: Instant,
    shown: Instant,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bar,
    Lines,
}

impl Progress {
    /// Progress of the work `what` on `total` of `unit`.
    pub(crate) fn new(what: &'static str, unit: &'static str, total: u64) -> Self {
        let form = if std::io::stderr().is_terminal() { Form::Bar } else { Form::Lines };
        let began = clock::monotonic();
        Self { what, unit, total, began, shown: began, form }
    }

    /// Sets the progress to `done`, and shows it if an update is due.
    pub(crate) fn at(&mut self, done: u64) {
        let now = clock::monotonic();
        let every = if self.form == Form::Bar { BAR_EVERY } else { LINE_EVERY };
        if now.duration_since(self.shown) < every {
            return;
        }
        self.shown = now;
        let text = text(self.what, self.unit, done, self.total, now.duration_since(self.began));
        // A failure means that standard error is closed.
        let _ = match self.form {
            Form::Bar => write!(std::io::stderr(), "{CLEAR}{} {text}", bar(done, self.total))
                .and_then(|()| std::io::stderr().flush()),
            Form::Lines => writeln!(std::io::stderr(), "{text}"),
        };
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        clock::monotonic().duration_since(self.began)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.form == Form::Bar {
            let _ = write!(std::io::stderr(), "{CLEAR}");
        }
    }
}

fn text(what: &str, unit: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let percent = done.min(total).saturating_mul(100).checked_div(total).unwrap_or(100);
    let per_second = done.saturating_mul(1000).checked_div(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
    format!("{what}: {percent} %, {done} of {total} {unit}, {} a second", per_second.unwrap_or(0))
}

fn bar(done: u64, total: u64) -> String {
    let full = done.min(total).saturating_mul(BAR_WIDTH).checked_div(total).unwrap_or(BAR_WIDTH);
    (0..BAR_WIDTH).map(|at| if at < full { '█' } else { '░' }).collect()
}

/// A number of bytes, formatted for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = count.saturating_mul(10) / 1024;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while tenths >= 10_240
        && let Some(larger) = units.next()
    {
        tenths /= 1024;
        unit = Some(larger);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, unit.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_shown_as_number_and_bar() {
        let half = text("recording", "offsets", 50, 100, Duration::from_secs(2));
        assert_eq!(half, "recording: 50 %, 50 of 100 offsets, 25 a second");
        assert_eq!(bar(1, 2).matches('█').count(), 15);
        assert_eq!(text("recording", "offsets", 0, 0, Duration::ZERO), "recording: 100 %, 0 of 0 offsets, 0 a second");
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        assert_eq!([bytes(1023), bytes(1536), bytes(5 << 30)], ["1023 B", "1.5 KiB", "5.0 GiB"]);
    }
}
