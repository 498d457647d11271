//! Replaces what must not leave the node in arguments: passwords that programs take on their command line. Made once from
//! the settings, applied to each exec when its event is built.

use driftline_schemas::Args;
use regex::bytes::{Captures, Regex, RegexBuilder};
use std::borrow::Cow;

use crate::limits::REDACTION_BYTES_MAX;

/// The text in place of what was found.
const REPLACEMENT: &[u8] = b"[redacted]";

/// Patterns of the text that is replaced.
#[derive(Debug, Clone, Default)]
pub struct Redaction(Vec<Regex>);

impl Redaction {
    /// From patterns, one a line. They are matched against the whole argument vector, whose arguments are ended by NUL (`\x00`);
    /// where a pattern has groups, the groups are replaced, else all of it.
    ///
    /// # Errors
    /// With the first bad pattern, and why it is refused.
    pub fn parse(lines: &str) -> Result<Self, String> {
        let patterns = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        let compile = |pattern| {
            let built = RegexBuilder::new(pattern).size_limit(REDACTION_BYTES_MAX).build();
            built.map_err(|error| format!("{pattern:?} is no pattern: {error}"))
        };
        patterns.map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The arguments without what the patterns find. There are as many as before.
    #[must_use]
    pub fn apply(&self, args: &Args) -> Args {
        if self.0.is_empty() {
            return args.clone();
        }
        let mut joined = Vec::new();
        for arg in args.iter() {
            joined.extend_from_slice(arg);
            joined.push(0);
        }
        for pattern in &self.0 {
            if let Cow::Owned(changed) = pattern.replace_all(&joined, |found: &Captures<'_>| replace(found)) {
                joined = changed;
            }
        }
        Args::of_terminated(&joined)
    }
}

/// The match with its groups replaced. The NUL at the end of an argument stays, so that no pattern changes the number
/// of arguments.
fn replace(found: &Captures<'_>) -> Vec<u8> {
    let Some(whole) = found.get(0) else { return Vec::new() };
    let groups: Vec<_> = found.iter().skip(1).flatten().map(|group| group.range()).collect();
    let secrets = if groups.is_empty() { vec![whole.range()] } else { groups };
    let (mut replaced, mut from) = (Vec::new(), whole.start());
    for secret in secrets {
        // Groups may lie in each other.
        if secret.start < from {
            continue;
        }
        replaced.extend_from_slice(bytes(found, whole.start(), from..secret.start));
        replaced.extend_from_slice(&hidden(bytes(found, whole.start(), secret.clone())));
        from = secret.end;
    }
    replaced.extend_from_slice(bytes(found, whole.start(), from..whole.end()));
    replaced
}

fn bytes<'a>(found: &'a Captures<'_>, start: usize, range: std::ops::Range<usize>) -> &'a [u8] {
    let whole = found.get(0).map(|whole| whole.as_bytes()).unwrap_or_default();
    whole.get(range.start - start..range.end - start).unwrap_or_default()
}

fn hidden(secret: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> =
        secret.split(|byte| *byte == 0).map(|part| if part.is_empty() { part } else { REPLACEMENT }).collect();
    parts.join(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &str, args: &[&str], expect: &[&str]) {
        let args: Args = args.iter().collect();
        let redacted = Redaction::parse(patterns).unwrap().apply(&args);
        let redacted: Vec<_> = redacted.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        assert_eq!(redacted, expect, "{patterns}");
    }

    #[test]
    fn what_a_pattern_finds_is_replaced_and_nothing_else() {
        let secret = ["mysql", "--password=hunter2", "-u", "root", ""];
        check("", &secret, &secret);
        check("--password=([^\\x00]+)", &secret, &["mysql", "--password=[redacted]", "-u", "root", ""]);
        check("hunter\\d", &secret, &["mysql", "--password=[redacted]", "-u", "root", ""]);
        check("-u\\x00([^\\x00]+)\n x", &secret, &["mysql", "--password=hunter2", "-u", "[redacted]", ""]);
        check(
            "(mysql)\\x00(?:[^\\x00]*)\\x00(-u)",
            &secret,
            &["[redacted]", "--password=hunter2", "[redacted]", "root", ""],
        );
        check("(a(b)c)", &["xabcx"], &["x[redacted]x"]);
    }

    #[test]
    fn the_number_of_arguments_stays() {
        check("(?s).*", &["a", "", "b"], &["[redacted]", "", "[redacted]"]);
        check("x*", &["", ""], &["", ""]);
        check("b", &[], &[]);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Redaction::parse("ok\n(open").unwrap_err();
        assert!(error.contains("\"(open\" is no pattern"), "{error}");
        assert!(Redaction::parse("(?:a{1000}){1000}").unwrap_err().contains("size limit"));
    }
}
