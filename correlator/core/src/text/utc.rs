//! Nanoseconds since 1970 in forms for people and command lines.

const SECOND_NS: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// RFC 3339 in UTC with whole seconds, for example `2026-01-02T03:04:05Z`.
#[must_use]
pub fn rfc3339(ns: i64) -> String {
    let seconds = ns.div_euclid(SECOND_NS);
    let (year, month, day) = date_of(seconds.div_euclid(DAY_S));
    let second = seconds.rem_euclid(DAY_S);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Milliseconds since 1970, as OCSF counts time.
#[must_use]
pub fn milliseconds(ns: i64) -> i64 {
    ns.div_euclid(1_000_000)
}

/// Date of a day counted from 1970-01-01. Years begin in March here, so that the leap day ends them; 400 years have
/// 146,097 days (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn date_of(day_since_1970: i64) -> (i64, i64, i64) {
    let day = day_since_1970 + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_the_calendar_says() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds * SECOND_NS), expected);
        }
        assert!(rfc3339(i64::MIN).starts_with("1677-09-21") && rfc3339(i64::MAX).starts_with("2262-04-11"));
    }
}
