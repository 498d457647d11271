//! Text that somebody else chose, bounded.

/// At most `limit` bytes, cut at a character.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text).to_owned()
}
