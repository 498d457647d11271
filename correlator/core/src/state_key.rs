//! Keys of a partition's state in the changelog. A commit writes what changed, so parts that change rarely have keys
//! apart from parts that change with every finding.

use driftline_schemas::{AlertId, FindingId};
use driftline_service_core::BrokenInvariant;
use std::fmt;

/// A key of the changelog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StateKey {
    /// The state that belongs to no session.
    Partition,
    /// A session without its findings.
    Session(AlertId),
    /// A finding that a session tracks.
    Finding(AlertId, FindingId),
    /// Findings that a session only counts.
    Beyond(AlertId),
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition => f.write_str("partition"),
            Self::Session(session) => write!(f, "session/{session}"),
            Self::Finding(session, finding) => write!(f, "finding/{session}/{finding}"),
            Self::Beyond(session) => write!(f, "beyond/{session}"),
        }
    }
}

impl StateKey {
    /// Parses a key. An alert id has no slash; a finding id may contain any character.
    ///
    /// # Errors
    /// Fails on an unknown key. A later version may keep more, and a downgrade would lose that.
    pub(crate) fn parse(key: &str) -> Result<Self, BrokenInvariant> {
        let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
        match (kind, rest.split_once('/')) {
            ("partition", None) => Ok(Self::Partition),
            ("session", None) => Ok(Self::Session(rest.into())),
            ("beyond", None) => Ok(Self::Beyond(rest.into())),
            ("finding", Some((session, finding))) => Ok(Self::Finding(session.into(), finding.into())),
            _ => Err(BrokenInvariant(format!("state key {key:?} is not known to this version"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let session = AlertId::from("a1");
        for key in [
            StateKey::Partition,
            StateKey::Session(session.clone()),
            StateKey::Finding(session.clone(), FindingId::from("f/1/x")),
            StateKey::Beyond(session),
        ] {
            assert_eq!(StateKey::parse(&key.to_string()), Ok(key));
        }
        for key in ["", "session/a/b", "finding/a", "more/a"] {
            assert!(StateKey::parse(key).is_err(), "{key}");
        }
    }
}
