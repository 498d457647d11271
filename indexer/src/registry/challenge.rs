//! The authentication that a registry demands: the header `WWW-Authenticate`.

use std::collections::BTreeMap;

/// A way to authenticate that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub(crate) scheme: String,
    /// Names in lower case.
    pub(crate) parameters: BTreeMap<String, String>,
}

/// The challenges of one header, which may contain several. Parsing ends where the header cannot be understood.
pub(crate) fn challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return found;
        }
        // A name is followed by its value; any other word is a scheme.
        match (after.trim_start().strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = value_of(value.trim_start()) else { return found };
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
                rest = after;
            }
            (Some(_), None) => return found,
            (None, _) => {
                found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)));
    text.split_at(end.unwrap_or(text.len()))
}

/// A token or a quoted string, and the text after it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expect: &[(&str, &[(&str, &str)])]) {
        let expect: Vec<Challenge> = expect
            .iter()
            .map(|(scheme, parameters)| Challenge {
                scheme: (*scheme).to_owned(),
                parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            })
            .collect();
        assert_eq!(challenges(header), expect, "{header}");
    }

    #[test]
    fn challenges_are_understood_as_registries_write_them() {
        let hub = [("realm", "https://auth.docker.io/token"), ("service", "registry.docker.io")];
        check(r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#, &[("bearer", &hub)]);
        check(r#"bearer Realm = "https://auth.docker.io/token" , SERVICE=registry.docker.io"#, &[("bearer", &hub)]);
        check(r#"Basic realm="a, \"b\"""#, &[("basic", &[("realm", "a, \"b\"")])]);
        check(r#"Basic realm="x", Bearer realm="y""#, &[("basic", &[("realm", "x")]), ("bearer", &[("realm", "y")])]);
        check("Negotiate, Basic", &[("negotiate", &[]), ("basic", &[])]);
        check(
            r#"Bearer realm="r",scope="repository:a/b:pull,push""#,
            &[("bearer", &[("realm", "r"), ("scope", "repository:a/b:pull,push")])],
        );
    }

    #[test]
    fn what_cannot_be_understood_ends_the_list() {
        check("", &[]);
        check("=x", &[]);
        check("realm=x", &[]);
        check(r#"Basic realm="open"#, &[("basic", &[])]);
        check(r#"Basic realm="x", "y""#, &[("basic", &[("realm", "x")])]);
    }
}
