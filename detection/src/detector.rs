//! The closed set of detectors.

/// A set of rules with an id. A finding's id is derived from its event and this id, so two detectors report about one event
/// without being taken for repeats of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detector {
    /// Compares executed files with the image.
    Drift,
    /// Reports what was not seen or not judged.
    Loss,
    /// Reports what is wrong with an image.
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
