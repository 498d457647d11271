//! Whole numbers: counts, times, sizes.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Kind, Refusal, Shape};

/// A count.
#[derive(Debug)]
pub struct Number {
    /// Value when nothing is set.
    pub default: i64,
    /// Values that are accepted.
    pub range: RangeInclusive<i64>,
}

impl Kind for Number {
    type Value = i64;

    fn parse(&self, text: &str) -> Result<i64, Refusal> {
        whole(text, &self.range)
    }

    fn default(&self) -> String {
        self.default.to_string()
    }

    fn placeholder(&self) -> i64 {
        self.default
    }

    fn accepts(&self) -> String {
        span(&self.range)
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

/// A length of time.
#[derive(Debug)]
pub struct Time {
    /// Value when nothing is set, in the unit.
    pub default: i64,
    /// Values that are accepted, in the unit.
    pub range: RangeInclusive<i64>,
    /// The unit of the number.
    pub unit: TimeUnit,
}

/// The unit of a time.
#[derive(Debug, Clone, Copy)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

impl Time {
    fn of(&self, number: i64) -> Duration {
        match self.unit {
            TimeUnit::Seconds => Duration::from_secs(number.unsigned_abs()),
            TimeUnit::Milliseconds => Duration::from_millis(number.unsigned_abs()),
        }
    }
}

impl Kind for Time {
    type Value = Duration;

    fn parse(&self, text: &str) -> Result<Duration, Refusal> {
        whole(text, &self.range).map(|number| self.of(number))
    }

    fn default(&self) -> String {
        self.default.to_string()
    }

    fn placeholder(&self) -> Duration {
        self.of(self.default)
    }

    fn accepts(&self) -> String {
        let unit = match self.unit {
            TimeUnit::Seconds => "s",
            TimeUnit::Milliseconds => "ms",
        };
        format!("{} {unit}", span(&self.range))
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

/// A size in bytes.
#[derive(Debug)]
pub struct Size {
    /// Value when nothing is set, in the unit.
    pub default: i64,
    /// Values that are accepted, in the unit.
    pub range: RangeInclusive<i64>,
    /// The unit of the number.
    pub unit: SizeUnit,
}

/// The unit of a size.
#[derive(Debug, Clone, Copy)]
pub enum SizeUnit {
    /// 1,024 bytes.
    Kibibytes,
    /// 1,048,576 bytes.
    Mebibytes,
    /// 1,000,000 bytes.
    Megabytes,
}

impl SizeUnit {
    fn bytes(self, number: i64) -> u64 {
        let unit: u64 = match self {
            Self::Kibibytes => 1 << 10,
            Self::Mebibytes => 1 << 20,
            Self::Megabytes => 1_000_000,
        };
        number.unsigned_abs().saturating_mul(unit)
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Kibibytes => "KiB",
            Self::Mebibytes => "MiB",
            Self::Megabytes => "MB",
        }
    }
}

impl Kind for Size {
    type Value = u64;

    fn parse(&self, text: &str) -> Result<u64, Refusal> {
        whole(text, &self.range).map(|number| self.unit.bytes(number))
    }

    fn default(&self) -> String {
        self.default.to_string()
    }

    fn placeholder(&self) -> u64 {
        self.unit.bytes(self.default)
    }

    fn accepts(&self) -> String {
        format!("{} {}", span(&self.range), self.unit.symbol())
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

/// A size that is a power of two, in bytes.
#[derive(Debug)]
pub struct PowerOfTwo(pub Size);

impl Kind for PowerOfTwo {
    type Value = u64;

    fn parse(&self, text: &str) -> Result<u64, Refusal> {
        let bytes = self.0.parse(text)?;
        if bytes.is_power_of_two() {
            return Ok(bytes);
        }
        let (value, range) = (text.to_owned(), &self.0.range);
        Err(Refusal { value, why: format!("is not a power of two between {} and {}", range.start(), range.end()) })
    }

    fn default(&self) -> String {
        self.0.default()
    }

    fn placeholder(&self) -> u64 {
        self.0.placeholder()
    }

    fn accepts(&self) -> String {
        format!("a power of two, {}", self.0.accepts())
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

fn whole(text: &str, range: &RangeInclusive<i64>) -> Result<i64, Refusal> {
    let (least, most) = (range.start(), range.end());
    match text.parse::<i64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        Ok(number) => Err(Refusal { value: number.to_string(), why: format!("is not between {least} and {most}") }),
        Err(_) => Err(Refusal {
            value: format!("{text:?}"),
            why: format!("is not a whole number between {least} and {most}"),
        }),
    }
}

fn span(range: &RangeInclusive<i64>) -> String {
    format!("{} to {}", range.start(), range.end())
}
