//! Attacker-chosen bytes as one word of a shell command line, safe to paste.
//!
//! Used for response commands and for the command lines shown in alerts. The words hold for bash, zsh, ksh and any
//! shell with POSIX 2024's `$'…'`; without odd bytes for every POSIX shell.

use driftline_schemas::text::{is_harmful, unbase64};
use driftline_schemas::{Process, Subject};
use std::fmt::Write as _;

/// Returns `bytes` as one shell word: unchanged when no byte has a meaning to a shell, in single quotes when all are
/// printable, else in `$'…'`.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.bytes().all(is_plain) => text.to_owned(),
        Ok(text) if !text.chars().any(is_harmful) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => quote_odd(bytes),
    }
}

/// Letters, digits and signs that no shell interprets in any place of a word. `=`, `~` and `%` are left out: zsh
/// expands `=command`, every shell `~`, and job control `%1`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_@+:,./-".contains(&byte)
}

/// Escapes are three octal digits: `\x` has no fixed length in every shell. A NUL would end the word; no path or
/// argument can hold one.
fn quote_odd(bytes: &[u8]) -> String {
    let mut word = String::with_capacity(bytes.len() * 2 + 3);
    word.push_str("$'");
    for byte in bytes.iter().copied().filter(|byte| *byte != 0) {
        match byte {
            b'\'' | b'\\' => {
                word.push('\\');
                word.push(char::from(byte));
            }
            b' '..=b'~' => word.push(char::from(byte)),
            _ => {
                let _ = write!(word, "\\{byte:03o}");
            }
        }
    }
    word.push('\'');
    word
}

/// Bytes of the judged file's path, as the kernel reports them.
#[must_use]
pub fn raw_path(subject: &Subject) -> Vec<u8> {
    raw(&subject.path, subject.path_base64.as_deref())
}

/// The argument vector in shell syntax, every argument quoted where needed; it ends in ` …` when cut off.
#[must_use]
pub fn command_line(process: &Process) -> String {
    let encoded = process.args_base64.as_deref().filter(|args| args.len() == process.args.len());
    let mut words: Vec<String> = process
        .args
        .iter()
        .enumerate()
        .map(|(at, argument)| quote(&raw(argument, encoded.and_then(|args| args.get(at)).map(String::as_str))))
        .collect();
    if process.args_truncated {
        words.push("…".to_owned());
    }
    words.join(" ")
}

fn raw(text: &str, base64: Option<&str>) -> Vec<u8> {
    base64.and_then(unbase64).unwrap_or_else(|| text.as_bytes().to_vec())
}

#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "real shells tell what a quoted word means")]
mod tests {
    use super::*;
    use std::process::Command;

    /// Words that try to break out of their quotes.
    fn hostile() -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u8>> = [
            "",
            "plain",
            "a b",
            "it's",
            "'",
            "''",
            "\\",
            "\\'",
            "$(touch /tmp/x)",
            "`id`",
            "${HOME}",
            "~",
            "=ls",
            "%1",
            "!!",
            "-rf",
            "*",
            "a;b",
            "a|b&c",
            "a\nb",
            "#x",
            "{a,b}",
            "é",
            "日本",
            "a\u{202e}b",
            "\u{feff}",
            "\t",
            "\u{1b}[31m",
            "'\n'; id #",
            "$'\\n'",
        ]
        .iter()
        .map(|word| word.as_bytes().to_vec())
        .collect();
        words.push((1..=255).collect());
        words.push(b"\xff\xfe7".to_vec());
        words.push(b"\x017".to_vec());
        words
    }

    #[test]
    fn plain_words_stay_readable() {
        for (word, expected) in [
            ("/usr/bin/x", "/usr/bin/x"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("a\u{7}b'\\", r"$'a\007b\'\\'"),
        ] {
            assert_eq!(quote(word.as_bytes()), expected);
        }
    }

    #[test]
    fn quoted_words_are_printable_and_on_one_line() {
        for word in hostile() {
            assert!(!quote(&word).chars().any(is_harmful), "{word:?}");
        }
    }

    #[test]
    fn bash_reads_every_word_back_unchanged() {
        let words = hostile();
        let script = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
        let output = Command::new("bash").args(["-c", &format!("printf '%s\\0' {script}")]).output().unwrap();
        let read: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
        assert_eq!(read.len(), words.len() + 1);
        for (word, read) in words.iter().zip(read) {
            assert_eq!(word, read);
        }
    }

    #[test]
    fn a_posix_shell_reads_every_printable_word_back_unchanged() {
        let printable = |word: &Vec<u8>| std::str::from_utf8(word).is_ok_and(|text| !text.chars().any(is_harmful));
        for word in hostile().iter().filter(|word| printable(word)) {
            let output = Command::new("sh").args(["-c", &format!("printf %s {}", quote(word))]).output().unwrap();
            assert_eq!(&output.stdout, word);
        }
    }
}
