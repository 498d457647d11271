//! Flaws of an image as a whole, independent of its execs: each is a finding of every container that uses the image.

use driftline_schemas::{Confidence, IMAGE_CONFLICT, IMAGE_MISMATCH, Severity};

/// The kind of a flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// Publishers contradict each other about the image or one of its layers.
    Conflict,
    /// Content of the image does not match its digest.
    Mismatch,
}

impl Flaw {
    const ALL: [Self; 2] = [Self::Conflict, Self::Mismatch];

    /// The name in the changelog and in event ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Mismatch => "mismatch",
        }
    }

    /// The flaw with this name; `None` for a name that only a newer version knows.
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

    /// A contradiction proves that one publication is wrong, and verdicts rest on publications: an analyst must look at
    /// it. Content that does not match its digest was refused, so no verdict rests on it. Its usual cause is a broken
    /// disk or registry: Low alone, more beside other findings.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Conflict => Severity::Medium,
            Self::Mismatch => Severity::Low,
        }
    }

    /// A conflict is certain: the digests of two publications differ. A mismatch rests on the observation of one
    /// publisher alone.
    #[must_use]
    pub fn confidence(self) -> Confidence {
        match self {
            Self::Conflict => Confidence::High,
            Self::Mismatch => Confidence::Medium,
        }
    }

    /// The note of the finding, with `detail` naming the publishers and their publications.
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
