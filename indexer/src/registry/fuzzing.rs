//! Fuzzing of texts that a registry, a deployment or an administrator may have written; called by [`crate::fuzzing`].

use super::challenge::challenges;
use super::credentials::File;
use super::reference::{Host, Reference, Target};
use super::transport::pause_in;
use crate::limits::RETRY_AFTER_MAX;

/// A time in 2026.
const NOW_NS: i64 = 1_780_000_000_000_000_000;

/// Parses the same text as every header and file that the registry mode reads.
pub fn registry(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for challenge in challenges(text) {
        assert!(!challenge.scheme.is_empty());
        let names = challenge.parameters.keys().chain([&challenge.scheme]);
        assert!(names.into_iter().all(|name| *name == name.to_ascii_lowercase()));
    }
    assert!(pause_in(text, NOW_NS).is_none_or(|pause| pause <= RETRY_AFTER_MAX));
    if let Some(host) = Host::parse(text) {
        assert_eq!(Host::parse(&host.to_string()), Some(host));
    }
    if let Ok(reference) = Reference::parse(text) {
        let Reference { registry, repository, target } = &reference;
        assert!(!repository.contains(".."), "it leads nowhere else in a URL");
        let sign = if matches!(target, Target::Tag(_)) { ':' } else { '@' };
        let in_full = format!("{registry}/{repository}{sign}{}", target.as_str());
        assert_eq!(Reference::parse(&in_full).ok(), Some(reference), "{in_full}");
    }
    for server in ["docker.io", "quay.io", "localhost:5000"] {
        if let (Ok(file), Some(host)) = (File::parse(bytes), Host::parse(server)) {
            let _ = file.source(&host, "team/app");
        }
    }
}
