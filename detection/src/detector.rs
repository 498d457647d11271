//! The closed set of detectors.

/// A set of rules with an id. A finding's id is derived from its event and this id, so the findings of two detectors
/// about one event have different ids and are not deduplicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detector {
    /// Compares executed files with the image.
    Drift,
    /// Reports execs that were not seen or not judged.
    Loss,
    /// Reports a flaw of an image.
    Image,
    /// Reports execs that a node left out because their container made too many.
    Throttle,
}

impl Detector {
    /// The id that findings carry.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Loss => "loss",
            Self::Image => "image",
            Self::Throttle => "throttle",
        }
    }
}
