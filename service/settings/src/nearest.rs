//! Finds the known name that the author of an unknown name may have meant.

use crate::setting::PREFIX;

/// The nearest of some names, if it is near enough for a suggestion: at most a third of the characters differ.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // All variables have the same prefix, which must not count as similarity.
    let own = |name: &'a str| name.strip_prefix(PREFIX).unwrap_or(name);
    let typed = typed.strip_prefix(PREFIX).unwrap_or(typed);
    let distances = known.map(|name| (strsim::damerau_levenshtein(typed, own(name)), name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= typed.len().max(own(name).len()) / 3).then_some(name)
}

/// `; did you mean NAME?`, or nothing when no name is near.
pub(crate) fn suggestion<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(typed, known).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_name_is_suggested_when_it_is_near() {
        let known = || ["session_gap_s", "session_cap_s", "cluster"].into_iter();
        assert_eq!(nearest("sesion_gap_s", known()), Some("session_gap_s"));
        assert_eq!(nearest("session_gap", known()), Some("session_gap_s"));
        assert_eq!(nearest("clutser", known()), Some("cluster"));
        assert_eq!(nearest("colour", known()), None);
        assert_eq!(nearest("", std::iter::empty()), None);
    }
}
