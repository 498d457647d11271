//! Makes bytes chosen by an attacker safe to show: used wherever kernel bytes become text in a finding.

use base64::Engine as _;
use std::fmt::Write as _;

/// Printable text, with the raw bytes in base64 when the text differs from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printable {
    /// Control characters, bidi controls and bytes that are not UTF-8 appear as `\xNN` or `\u{NNNN}`.
    pub text: String,
    /// Base64 of the raw bytes, when anything was escaped.
    pub base64: Option<String>,
}

/// Makes attacker-controlled bytes printable.
#[must_use]
pub fn printable(bytes: &[u8]) -> Printable {
    let mut text = String::with_capacity(bytes.len());
    let mut escaped = false;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_harmful(character) {
                escaped = true;
                push_escaped(&mut text, character);
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            escaped = true;
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    Printable { text, base64: escaped.then(|| base64(bytes)) }
}

/// Escapes JSON for a terminal: each character that [`is_harmful`] names is written as `\\uNNNN`, which every JSON
/// reader decodes to the same character. Outside strings JSON has no such character, so the whole text can be escaped
/// alike; line breaks of the layout stay.
#[must_use]
pub fn terminal_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && is_harmful(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(character);
        }
    }
    text
}

/// Encodes standard base64 with padding.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Decodes standard base64.
#[must_use]
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// Whether a character must never reach a terminal or a log: controls, bidi controls, line separators, invisible ones.
#[must_use]
pub fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push_escaped(text: &mut String, character: char) {
    let code = u32::from(character);
    let _ = if code < 0x80 { write!(text, "\\x{code:02x}") } else { write!(text, "\\u{{{code:04x}}}") };
}

/// Encodes lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('?', char::from);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Decodes hex of even length.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// The text as [`printable`] shows it, truncated to at most `bytes_max` bytes.
#[must_use]
pub fn printable_start(text: &str, bytes_max: usize) -> String {
    let mut shown = printable(text.as_bytes()).text;
    shown.truncate(shown.floor_char_boundary(bytes_max));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_and_has_no_second_form() {
        assert_eq!(printable("/usr/bin/grün".as_bytes()), Printable { text: "/usr/bin/grün".into(), base64: None });
    }

    #[test]
    fn controls_bidi_and_broken_utf8_are_escaped_and_kept_beside() {
        let shown = printable(b"/tmp/\x1b[31m\xff");
        assert_eq!(shown.text, "/tmp/\\x1b[31m\\xff");
        assert_eq!(unbase64(&shown.base64.unwrap()).unwrap(), b"/tmp/\x1b[31m\xff");
        assert_eq!(printable("a\u{202e}b".as_bytes()).text, "a\\u{202e}b");
    }

    #[test]
    fn a_long_text_is_cut_where_a_character_ends() {
        assert_eq!(printable_start("a\u{1b}bäö", 6), "a\\x1bb");
        assert_eq!(printable_start("a\u{1b}bäö", 8), "a\\x1bbä");
    }

    #[test]
    fn json_for_a_terminal_says_the_same_without_harm() {
        let value = serde_json::json!({"a": "x\u{7f}\u{9b}\u{202e}\u{e0041}y", "b": [1]});
        let shown = terminal_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(shown.chars().all(|c| c == '\n' || !is_harmful(c)), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn hex_goes_both_ways() {
        assert_eq!(unhex(&hex(&[0, 0x1f, 0xff])), Some(vec![0, 0x1f, 0xff]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
    }
}
