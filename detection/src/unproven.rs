//! The reasons why an exec is neither proven the image's nor proven foreign. Execs of one reason share a finding.

use driftline_schemas::HashState;

/// Why nothing is proven about an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unproven {
    /// The container's image is not known.
    NoImage,
    /// The digest of the file at the exec is not known; the state is the reason.
    NoDigest(HashState),
}

impl Unproven {
    /// Every reason. A file whose digest at the exec is known always has another verdict.
    pub const ALL: [Self; 8] = [
        Self::NoImage,
        Self::NoDigest(HashState::NotNeeded),
        Self::NoDigest(HashState::Changed),
        Self::NoDigest(HashState::Gone),
        Self::NoDigest(HashState::Unreadable),
        Self::NoDigest(HashState::TooLarge),
        Self::NoDigest(HashState::RefusedFs),
        Self::NoDigest(HashState::OverBudget),
    ];

    /// The name in state and event ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoImage => "no_image",
            Self::NoDigest(state) => match state {
                HashState::Hashed => "hashed",
                HashState::NotNeeded => "not_needed",
                HashState::Changed => "changed",
                HashState::Gone => "gone",
                HashState::Unreadable => "unreadable",
                HashState::TooLarge => "too_large",
                HashState::RefusedFs => "refused_fs",
                HashState::OverBudget => "over_budget",
            },
        }
    }

    /// The reason with this name; `None` for a name that only a newer version knows.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// The reason in words, for a finding.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::NoImage => "the image was not known in time",
            Self::NoDigest(state) => match state {
                HashState::Hashed | HashState::NotNeeded => "the file has no digest",
                HashState::Changed => "the file changed right before or after the exec",
                HashState::Gone => "the file was gone when it was looked for",
                HashState::Unreadable => "the file could not be read",
                HashState::TooLarge => "the file is larger than the node hashes",
                HashState::RefusedFs => "the file is on a file system that the node does not read",
                HashState::OverBudget => "the container has used up its hashing budget",
            },
        }
    }
}
