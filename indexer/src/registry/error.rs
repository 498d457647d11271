//! Reasons why a registry does not return an image, or is not queried.

use std::time::Duration;

use driftline_schemas::ImageFailure;

/// Why a registry does not return an image, or is not queried.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The reference does not identify an image of a registry.
    #[error("{reference:?} names no image of a registry: {why}")]
    Reference {
        /// The reference as deployed.
        reference: String,
        /// The problem with it.
        why: &'static str,
    },
    /// The registry is not on the allow-list.
    #[error("registry {0} is not on the allow-list; add it to DRIFTLINE_REGISTRY_ALLOW")]
    NotAllowed(String),
    /// An address or URL that is never contacted, or only when an administrator names its host.
    #[error("{host} is not asked: {why}")]
    Refused {
        /// The host.
        host: String,
        /// The reason.
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
        /// The host.
        host: String,
        /// The reason, from the registry or from the indexer.
        why: String,
    },
    /// Credentials cannot be read.
    #[error("credentials for {host}: {why}")]
    Credentials {
        /// The host.
        host: String,
        /// The problem.
        why: String,
    },
    /// The registry requests a pause.
    #[error("{host} asks to come back in {} s (status {status})", .pause.as_secs())]
    Busy {
        /// The host.
        host: String,
        /// 429 or 503.
        status: u16,
        /// Length of the pause.
        pause: Duration,
    },
    /// An unexpected status.
    #[error("{host} answers with status {status}")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: u16,
    },
    /// The response violates the protocol.
    #[error("{host} answers with nonsense: {why}")]
    Answer {
        /// The host.
        host: String,
        /// The violation.
        why: String,
    },
    /// The network or TLS fails.
    #[error("{host} cannot be read: {why}")]
    Network {
        /// The host.
        host: String,
        /// The failure.
        why: String,
    },
    /// A layer that is not in the registry, and whose other locations are not on the allow-list.
    #[error("a foreign layer, which the registry does not have; its urls are on {0}, not on the allow-list")]
    Foreign(String),
}

impl RegistryError {
    /// The kind of failure.
    pub(crate) fn failure(&self) -> ImageFailure {
        match self {
            Self::Reference { .. } | Self::Foreign(_) => ImageFailure::Unsupported,
            _ => ImageFailure::Unavailable,
        }
    }

    /// The pause that the registry requests.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Busy { pause, .. } => Some(*pause),
            _ => None,
        }
    }
}
