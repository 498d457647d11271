//! Points in time and durations as typed on the command line: `2026-01-02T03:04:05Z`, `2h`, `1h30m`.

use jiff::Timestamp;
use std::str::FromStr;

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The text is not a valid time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time like 2026-01-02T03:04:05Z, nor a duration like 2h, 90m or 1d12h (units d, h, m, s)")]
pub(crate) struct NotATime;

/// A duration, with its text as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) text: String,
    pub(crate) ms: i64,
}

/// A point in time, absolute or relative to now, with its text as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) text: String,
    point: Point,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    At(i64),
    Ago(i64),
}

impl When {
    /// Milliseconds since 1970.
    pub(crate) fn at_ms(&self, now_ms: i64) -> i64 {
        match self.point {
            Point::At(ms) => ms,
            Point::Ago(ms) => now_ms.saturating_sub(ms),
        }
    }
}

impl FromStr for Span {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        Ok(Self { text: text.to_owned(), ms: duration_ms(text).ok_or(NotATime)? })
    }
}

impl FromStr for When {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let absolute = || text.parse::<Timestamp>().ok().map(|at| Point::At(at.as_millisecond()));
        let point = duration_ms(text).map(Point::Ago).or_else(absolute).ok_or(NotATime)?;
        Ok(Self { text: text.to_owned(), point })
    }
}

/// Numbers, each with its unit; `0` needs none.
fn duration_ms(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let (mut sum_ms, mut number) = (0_i64, String::new());
    for character in text.chars() {
        let unit_ms = match character {
            'd' => DAY_MS,
            'h' => HOUR_MS,
            'm' => MINUTE_MS,
            's' => SECOND_MS,
            digit if digit.is_ascii_digit() => {
                number.push(digit);
                continue;
            }
            _ => return None,
        };
        sum_ms = sum_ms.checked_add(std::mem::take(&mut number).parse::<i64>().ok()?.checked_mul(unit_ms)?)?;
    }
    (number.is_empty() && !text.is_empty()).then_some(sum_ms)
}

/// RFC 3339 in UTC, always with milliseconds.
pub(crate) fn rfc3339(ms: i64) -> String {
    Timestamp::from_millisecond(ms).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_are_read() {
        assert_eq!("1d2h3m4s".parse::<Span>().unwrap().ms, DAY_MS + 2 * HOUR_MS + 3 * MINUTE_MS + 4 * SECOND_MS);
        assert_eq!("0".parse::<Span>().unwrap().ms, 0);
        assert_eq!("90m".parse::<When>().unwrap().at_ms(DAY_MS), DAY_MS - 90 * MINUTE_MS);
        let at = "1970-01-01T01:00:00.5+00:30".parse::<When>().unwrap();
        assert_eq!((at.at_ms(7), rfc3339(at.at_ms(7)).as_str()), (30 * MINUTE_MS + 500, "1970-01-01T00:30:00.500Z"));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "2", "h", "2x", "h2", "yesterday", "99999999999999999999d", "2026-13-01T00:00:00Z"] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
        assert!("2026-01-02T03:04:05Z".parse::<Span>().is_err());
    }
}
