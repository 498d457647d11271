//! Why a registry does not give an image, or is not asked for it.

use std::time::Duration;

use driftline_schemas::ImageFailure;

/// Why a registry does not give an image, or is not asked for it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The reference does not say where the image is.
    #[error("{reference:?} names no image of a registry: {why}")]
    Reference {
        /// As deployed.
        reference: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The registry is not one to be asked.
    #[error("registry {0} is not on the allow-list; add it to DRIFTLINE_REGISTRY_ALLOW")]
    NotAllowed(String),
    /// An address or URL that is never asked, or only when an administrator names its host.
    #[error("{host} is not asked: {why}")]
    Refused {
        /// Which.
        host: String,
        /// Why not.
        why: &'static str,
    },
    /// Too many redirects.
    #[error("{0} redirects too often")]
    Redirects(String),
    /// There is no such image or manifest.
    #[error("{0} does not have it")]
    Missing(String),
    /// Credentials are missing or not enough.
    #[error("{host} denies access: {why}")]
    Denied {
        /// Which.
        host: String,
        /// In its words, or ours.
        why: String,
    },
    /// Credentials cannot be read.
    #[error("credentials for {host}: {why}")]
    Credentials {
        /// For which.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The registry asks for patience.
    #[error("{host} asks to come back in {} s (status {status})", .pause.as_secs())]
    Busy {
        /// Which.
        host: String,
        /// 429 or 503.
        status: u16,
        /// For how long.
        pause: Duration,
    },
    /// Any other answer than the one wanted.
    #[error("{host} answers with status {status}")]
    Status {
        /// Which.
        host: String,
        /// The status.
        status: u16,
    },
    /// The answer is not what the protocol says.
    #[error("{host} answers with nonsense: {why}")]
    Answer {
        /// Which.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The network, or its security, fails.
    #[error("{host} cannot be read: {why}")]
    Network {
        /// Which.
        host: String,
        /// What happened.
        why: String,
    },
    /// A layer that is not in the registry, and whose other places are not on the allow-list.
    #[error("a foreign layer, which the registry does not have; its urls are on {0}, not on the allow-list")]
    Foreign(String),
}

impl RegistryError {
    /// What kind of failure it is.
    pub(crate) fn failure(&self) -> ImageFailure {
        match self {
            Self::Reference { .. } | Self::Foreign(_) => ImageFailure::Unsupported,
            _ => ImageFailure::Unavailable,
        }
    }

    /// How long the registry wants to be left alone.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Busy { pause, .. } => Some(*pause),
            _ => None,
        }
    }
}
