//! Image references as written by people: `nginx`, `quay.io/team/app:1`, `localhost:5000/app@sha256:…`.

use std::fmt;

use super::error::RegistryError;

/// The registry of a reference that names none.
const DOCKER_HUB: &str = "docker.io";
/// Docker Hub's other name.
const DOCKER_HUB_INDEX: &str = "index.docker.io";
/// The host that serves Docker Hub's images.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// Docker's own name for Docker Hub in its files.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// Longest repository name, from the distribution specification.
const REPOSITORY_BYTES_MAX: usize = 255;
/// Longest tag, from the distribution specification.
const TAG_BYTES_MAX: usize = 128;

/// A host with or without a port, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
}

impl Host {
    /// A name or address, IPv6 in brackets, with or without a port.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port.parse().ok()?)),
            _ => (text, None),
        };
        let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let fits = match inside {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host_name(name),
        };
        fits.then(|| Self { name: name.to_ascii_lowercase(), port })
    }

    /// The host that serves the images of this registry.
    pub(crate) fn api(&self) -> Self {
        if self.is_docker_hub() { Self { name: DOCKER_HUB_API.to_owned(), port: None } } else { self.clone() }
    }

    /// The name of this registry in Docker's files.
    pub(crate) fn docker_key(&self) -> String {
        if self.is_docker_hub() { DOCKER_HUB_KEY.to_owned() } else { self.to_string() }
    }

    fn is_docker_hub(&self) -> bool {
        self.name == DOCKER_HUB && self.port.is_none()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The part of a reference that selects an image of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Tag(String),
    Digest(String),
}

impl Target {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Tag(text) | Self::Digest(text) => text,
        }
    }
}

/// A complete reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) registry: Host,
    pub(crate) repository: String,
    pub(crate) target: Target,
}

impl Reference {
    /// Parses a reference by Docker's rules.
    pub(crate) fn parse(text: &str) -> Result<Self, RegistryError> {
        let odd = |why| RegistryError::Reference { reference: text.chars().take(300).collect(), why };
        let bare = text.strip_prefix("docker-pullable://").or_else(|| text.strip_prefix("docker://")).unwrap_or(text);
        if bare.is_empty() {
            return Err(odd("it is empty"));
        }
        if driftline_schemas::is_digest(bare) {
            return Err(odd("it is a digest without a repository"));
        }
        let (named, digest) = match bare.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (bare, None),
        };
        let (named, tag) = match named.rsplit_once(':') {
            Some((named, tag)) if !tag.contains('/') => (named, Some(tag)),
            _ => (named, None),
        };
        let (registry, repository) = match named.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                (Host::parse(host).ok_or_else(|| odd("its registry is not host[:port]"))?, path.to_owned())
            }
            _ => (Host { name: DOCKER_HUB.to_owned(), port: None }, named.to_owned()),
        };
        let registry =
            if registry.name == DOCKER_HUB_INDEX { Host { name: DOCKER_HUB.to_owned(), ..registry } } else { registry };
        let repository = if registry.is_docker_hub() && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        if !is_repository(&repository) {
            return Err(odd("its repository is not made of lower-case letters, digits, '.', '_', '-' and '/'"));
        }
        let target = match (digest, tag) {
            (Some(digest), _) if driftline_schemas::is_digest(digest) => Target::Digest(digest.to_owned()),
            (Some(_), _) => return Err(odd("its digest is not sha256, the only kind that is accepted")),
            (None, tag) => Target::Tag(tag.unwrap_or("latest").to_owned()),
        };
        match &target {
            Target::Tag(tag) if !is_tag(tag) => Err(odd("its tag is not made of letters, digits, '.', '_' and '-'")),
            _ => Ok(Self { registry, repository, target }),
        }
    }
}

/// Whether this is the name of a repository; any other text could lead elsewhere in a URL.
pub(crate) fn is_repository(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let component = |part: &str| {
        let bytes = part.as_bytes();
        alphanumeric(bytes.first())
            && alphanumeric(bytes.last())
            && bytes.iter().all(|byte| alphanumeric(Some(byte)) || matches!(byte, b'.' | b'_' | b'-'))
    };
    name.len() <= REPOSITORY_BYTES_MAX && name.split('/').all(component) && !name.contains("..")
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn references_mean_what_they_mean_to_docker() {
        for (text, registry, repository, target) in [
            ("nginx", "docker.io", "library/nginx", "latest"),
            ("nginx:1.27", "docker.io", "library/nginx", "1.27"),
            ("docker.io/nginx", "docker.io", "library/nginx", "latest"),
            ("index.docker.io/team/app:x", "docker.io", "team/app", "x"),
            ("team/app", "docker.io", "team/app", "latest"),
            ("quay.io/team/deep/app:v1_2-3", "quay.io", "team/deep/app", "v1_2-3"),
            ("Registry.Example:5000/app", "registry.example:5000", "app", "latest"),
            ("localhost/app:1", "localhost", "app", "1"),
            ("localhost:5000/app", "localhost:5000", "app", "latest"),
            ("[::1]:5000/app", "[::1]:5000", "app", "latest"),
            ("docker-pullable://quay.io/a/b:2", "quay.io", "a/b", "2"),
            (&format!("quay.io/a/b@{HEX}"), "quay.io", "a/b", HEX),
            (&format!("quay.io/a/b:tag@{HEX}"), "quay.io", "a/b", HEX),
        ] {
            let read = Reference::parse(text).unwrap();
            let found = (read.registry.to_string(), read.repository.as_str(), read.target.as_str());
            assert_eq!(found, (registry.to_owned(), repository, target), "{text}");
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_reference() {
        for text in [
            "",
            HEX,
            "Nginx",
            "quay.io/",
            "quay.io/../v2",
            "quay.io/a//b",
            "quay.io/a?x=1",
            "quay.io/a#b",
            "quay.io/a%2fb",
            "quay.io/a:b c",
            "quay.io/a@sha256:12",
            "quay.io/a@md5:12",
            "quay.io:99999/a",
            "user@quay.io/a",
            "quay.io/.a",
            "-x.io/a",
            "a_b.io/c",
            "quay.io/a:-tag",
            "quay.io/a..b",
        ] {
            assert!(matches!(Reference::parse(text), Err(RegistryError::Reference { .. })), "{text}");
        }
    }

    #[test]
    fn docker_hub_has_a_host_and_a_key_of_its_own() {
        let hub = Reference::parse("nginx").unwrap().registry;
        assert_eq!((hub.api().to_string(), hub.docker_key()), (DOCKER_HUB_API.to_owned(), DOCKER_HUB_KEY.to_owned()));
        let other = Host::parse("quay.io:443").unwrap();
        assert_eq!((other.api(), other.docker_key()), (other.clone(), "quay.io:443".to_owned()));
    }
}
