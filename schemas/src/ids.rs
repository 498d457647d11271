//! Identifiers as types, and the computation of the derived ones.
//!
//! Derived ids are the first 16 bytes of a SHA-256 over length-prefixed parts, in hex. They are deterministic, so a
//! record that is sent twice can be recognised anywhere.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256 as Hasher};
use std::fmt;
use std::str::FromStr;

use crate::memory::HeapBytes;
use crate::text::{hex, unhex};

/// A text that is not a valid identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl HeapBytes for $name {
            fn heap_bytes(&self) -> usize {
                self.0.len()
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text_id!(
    /// Container id of the runtime, 64 hex digits.
    ContainerId
);
text_id!(
    /// Image config digest, `sha256:` and 64 hex digits; empty when it is not known.
    ImageId
);
text_id!(
    /// Digest of an uncompressed layer, `sha256:` and 64 hex digits.
    DiffId
);
text_id!(
    /// Identifies one exec, see [`ExecIdentity`].
    EventId
);
text_id!(
    /// Identifies one detector's finding about one exec.
    FindingId
);
text_id!(
    /// Identifies one alert for its lifetime.
    AlertId
);
text_id!(
    /// A value that is equal for alerts about the same program in replicas of the same image.
    Fingerprint
);

impl ImageId {
    /// Whether the config digest is known at all.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Whether `text` is `sha256:` and 64 lower-case hex digits, the only digest form driftline accepts.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| Sha256::from_str(digits).is_ok())
}

/// A SHA-256, 32 bytes; shown and stored as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Hasher::digest(bytes).into())
    }

    /// The digest in OCI form, `sha256:<hex>`.
    #[must_use]
    pub fn to_digest(self) -> String {
        format!("sha256:{self}")
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        unhex(text)
            .filter(|_| lower)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| IdError { text: text.to_owned(), expected: "64 lower-case hex digits" })
    }
}

impl Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Sha256;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 lower-case hex digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Sha256, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// The fields that make an exec unique: the kernel reuses process ids, but not with the same start and exec count in
/// one boot.
#[derive(Debug, Clone, Copy)]
pub struct ExecIdentity<'a> {
    /// Cluster name from settings.
    pub cluster: &'a str,
    /// Kernel boot id.
    pub boot_id: &'a str,
    /// Thread group id in the host's pid namespace.
    pub pid: u32,
    /// Process start, nanoseconds since boot.
    pub start_ns: u64,
    /// The kernel's `self_exec_id`.
    pub exec_count: u64,
}

impl ExecIdentity<'_> {
    /// The event id.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        EventId(derive(
            "exec",
            &[
                self.cluster.as_bytes(),
                self.boot_id.as_bytes(),
                &self.pid.to_be_bytes(),
                &self.start_ns.to_be_bytes(),
                &self.exec_count.to_be_bytes(),
            ],
        ))
    }
}

impl EventId {
    /// Id of an interval in which a collector lost events for one reason.
    #[must_use]
    pub fn of_loss(cluster: &str, node: &str, collector_start: &str, reason: &str, from_ns: i64) -> Self {
        let start = collector_start.as_bytes();
        let parts = [cluster.as_bytes(), node.as_bytes(), start, reason.as_bytes(), &from_ns.to_be_bytes()];
        Self(derive("loss", &parts))
    }

    /// Id of an interval in which execs of a container were left out.
    #[must_use]
    pub fn of_throttle(cluster: &str, container: &ContainerId, collector_start: &str, from_ns: i64) -> Self {
        let (container, start) = (container.as_str().as_bytes(), collector_start.as_bytes());
        Self(derive("throttle", &[cluster.as_bytes(), container, start, &from_ns.to_be_bytes()]))
    }

    /// Id of a flaw of a container's image, by the flaw's kind.
    #[must_use]
    pub fn of_image(cluster: &str, container: &ContainerId, kind: &str) -> Self {
        Self(derive("image", &[cluster.as_bytes(), container.as_str().as_bytes(), kind.as_bytes()]))
    }

    /// Id of execs of a container that are unproven for one reason; `first` is the first of them.
    #[must_use]
    pub fn of_unproven(first: &Self, reason: &str) -> Self {
        Self(derive("unproven", &[first.as_str().as_bytes(), reason.as_bytes()]))
    }

    /// Id of a range of offsets that a service could not read because its input topic no longer had them.
    #[must_use]
    pub fn of_gap(cluster: &str, service: &str, partition: i32, from: i64, to: i64) -> Self {
        let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
        Self(derive("gap", &[cluster.as_bytes(), service.as_bytes(), &partition.to_be_bytes(), &from, &to]))
    }
}

impl FindingId {
    /// Id of the finding of `detector` about `event`.
    #[must_use]
    pub fn of(event: &EventId, detector: &str) -> Self {
        Self(derive("finding", &[event.as_str().as_bytes(), detector.as_bytes()]))
    }
}

impl AlertId {
    /// Id of the alert that `first` opened for `subject` (a container id, or a node name for a loss).
    #[must_use]
    pub fn of(cluster: &str, subject: &str, first: &FindingId) -> Self {
        Self(derive("alert", &[cluster.as_bytes(), subject.as_bytes(), first.as_str().as_bytes()]))
    }
}

impl Fingerprint {
    /// Id of a program across replicas: category, image, path, digest (empty when unknown).
    #[must_use]
    pub fn of(category: &str, image: &str, path: &str, sha256: &str) -> Self {
        Self(derive("fingerprint", &[category.as_bytes(), image.as_bytes(), path.as_bytes(), sha256.as_bytes()]))
    }
}

fn derive(domain: &str, parts: &[&[u8]]) -> String {
    let mut hasher = Hasher::new();
    for part in std::iter::once(&domain.as_bytes()).chain(parts) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hex(hasher.finalize().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(derive("x", &[b"ab", b"c"]), derive("x", &[b"a", b"bc"]));
    }

    #[test]
    fn the_same_exec_has_the_same_id_and_another_exec_of_the_process_another() {
        let first = ExecIdentity { cluster: "c", boot_id: "b", pid: 7, start_ns: 9, exec_count: 1 };
        assert_eq!(first.event_id(), first.event_id());
        assert_ne!(first.event_id(), ExecIdentity { exec_count: 2, ..first }.event_id());
        assert_eq!(first.event_id().as_str().len(), 32);
    }

    #[test]
    fn digests_must_be_whole_and_lower_case() {
        let digest = Sha256::of(b"").to_digest();
        assert!(is_digest(&digest));
        assert!(!is_digest(&digest.to_uppercase()));
        assert!(!is_digest(digest.trim_end_matches('5')));
        assert!(!is_digest("sha512:00"));
    }
}
