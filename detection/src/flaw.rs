//! What can be wrong with an image as a whole, whatever runs of it: a finding of every container that uses it.

use driftline_schemas::{Confidence, IMAGE_CONFLICT, IMAGE_MISMATCH, Severity};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// Publishers contradict each other about the image or one of its layers.
    Conflict,
    /// Content of the image is not what its digest says.
    Mismatch,
}

impl Flaw {
    const ALL: [Self; 2] = [Self::Conflict, Self::Mismatch];

    /// As the changelog and event ids have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Mismatch => "mismatch",
        }
    }

    /// `None` for what only a newer version knows.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flaw| flaw.name() == name)
    }

    /// Category of its finding.
    #[must_use]
    pub fn category(self) -> &'static str {
        match self {
            Self::Conflict => IMAGE_CONFLICT,
            Self::Mismatch => IMAGE_MISMATCH,
        }
    }

    /// A contradiction proves that one publisher says what is not so, and verdicts rest on what publishers say: somebody
    /// has to look. Content that does not match its digest was refused, so no verdict rests on it, and a broken disk or
    /// registry is the usual cause: Low alone, more beside other findings.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Conflict => Severity::Medium,
            Self::Mismatch => Severity::Low,
        }
    }

    /// Digests differ or they do not; that a publisher saw it right is its word alone.
    #[must_use]
    pub fn confidence(self) -> Confidence {
        match self {
            Self::Conflict => Confidence::High,
            Self::Mismatch => Confidence::Medium,
        }
    }

    /// What the finding says, with who said what.
    #[must_use]
    pub fn note(self, detail: &str) -> String {
        match self {
            Self::Conflict => {
                format!("publishers contradict each other about the image, so one of them lies: {detail}")
            }
            Self::Mismatch => format!("content of the image is not what its digest says, so it is not used: {detail}"),
        }
    }
}
