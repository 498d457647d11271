//! Decides which hosts may be contacted, and at which addresses. Anybody who can start a container or serve an image
//! controls references and redirects. The indexer must not give them access to its network.
//!
//! * Images come only from registries on the allow-list.
//! * Link-local, multicast and unspecified addresses are never contacted: clouds serve credentials there.
//! * Loopback and private addresses are contacted only under a name that an administrator wrote down in full.
//!
//! Names are judged by the addresses to which they resolve at the moment of connecting, so a name that resolves
//! differently later gains nothing. Behind a proxy, the proxy resolves names; addresses in URLs are judged there too.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::error::RegistryError;
use super::reference::Host;

/// An entry of the allow-list: a host, or all hosts below a domain. An entry with a port allows only that port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// `*.example.com` is kept as `.example.com`.
    host: Host,
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let host = match text.strip_prefix("*.") {
            Some(domain) => {
                let host = Host::parse(domain)?;
                Host { name: format!(".{}", host.name), ..host }
            }
            None => Host::parse(text)?,
        };
        Some(Self { host })
    }

    fn matches(&self, host: &Host) -> bool {
        let named = if self.host.name.starts_with('.') {
            host.name.ends_with(&self.host.name) && host.name.len() > self.host.name.len()
        } else {
            host.name == self.host.name
        };
        named && (self.host.port.is_none() || self.host.port == host.port)
    }

    /// The host, if it is named in full.
    fn exact(&self) -> Option<&str> {
        Some(self.host.name.as_str()).filter(|name| !name.starts_with('.'))
    }
}

/// The hosts that may be contacted.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    allowed: Vec<Pattern>,
    plain_http: BTreeSet<Host>,
    /// Names that may resolve to internal addresses.
    internal: BTreeSet<String>,
}

impl Hosts {
    /// `named` are other hosts that the settings name in full: mirrors and proxies.
    pub(crate) fn new(
        allowed: Vec<Pattern>,
        plain_http: BTreeSet<Host>,
        named: impl IntoIterator<Item = Host>,
    ) -> Self {
        let internal = allowed.iter().filter_map(Pattern::exact).map(str::to_owned);
        let internal = internal.chain(named.into_iter().map(|host| host.name)).collect();
        Self { allowed, plain_http, internal }
    }

    /// Whether images may come from this registry.
    pub(crate) fn allows(&self, registry: &Host) -> bool {
        self.allowed.iter().any(|pattern| pattern.matches(registry))
    }

    /// Root URL of a registry's API.
    pub(crate) fn root(&self, registry: &Host) -> Result<Url, RegistryError> {
        let api = registry.api();
        let scheme = if self.plain_http.contains(&api) { "http" } else { "https" };
        let odd = |why: String| RegistryError::Answer { host: api.to_string(), why };
        Url::parse(&format!("{scheme}://{api}/")).map_err(|error| odd(error.to_string()))
    }

    /// Whether a URL may be requested; `from` is the URL that led to it.
    pub(crate) fn check(&self, url: &Url, from: Option<&Url>) -> Result<(), RegistryError> {
        let host = host_of(url);
        let refuse = |why| Err(RegistryError::Refused { host: host.to_string(), why });
        let is_plain = url.scheme() == "http";
        if !is_plain && url.scheme() != "https" {
            return refuse("its scheme is neither https nor http");
        }
        if is_plain && from.is_some_and(|from| from.scheme() == "https") {
            return refuse("it leads from https to plain http");
        }
        if is_plain && !self.plain_http.contains(&host) {
            return refuse("plain http is not allowed for it; see DRIFTLINE_REGISTRY_PLAIN_HTTP");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("the url carries credentials");
        }
        let literal = host.name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        literal.map_or(Ok(()), |address| self.check_address(&host.name, address))
    }

    fn check_address(&self, name: &str, address: IpAddr) -> Result<(), RegistryError> {
        let refuse = |why| Err(RegistryError::Refused { host: format!("{name} ({address})"), why });
        match reach(address) {
            Reach::Public => Ok(()),
            Reach::Internal if self.internal.contains(name) => Ok(()),
            Reach::Internal => {
                refuse("an internal address, and DRIFTLINE_REGISTRY_ALLOW does not name the host in full")
            }
            Reach::Never => refuse("a link-local, multicast, unspecified or reserved address"),
        }
    }
}

/// The host of a URL, with its port unless that is the scheme's default.
pub(crate) fn host_of(url: &Url) -> Host {
    Host { name: url.host_str().unwrap_or_default().to_ascii_lowercase(), port: url.port() }
}

/// Resolves names to the addresses that may be contacted.
pub(crate) struct Resolver(pub(crate) Arc<Hosts>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = Arc::clone(&self.0);
        Box::pin(async move {
            let name = name.as_str().to_ascii_lowercase();
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (mut good, mut refused): (Vec<SocketAddr>, _) = (Vec::new(), None);
            for address in found {
                match hosts.check_address(&name, address.ip()) {
                    Ok(()) => good.push(address),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                Some(error) if good.is_empty() => Err(error.into()),
                _ => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

/// The network to which an address belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Public,
    /// Loopback and private networks.
    Internal,
    Never,
}

fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => embedded_v4(address).map_or_else(|| reach_v6(address), reach_v4),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [first, second, third, _] = address.octets();
    match (first, second) {
        // "This network", link-local, multicast and reserved with broadcast.
        (0, _) | (169, 254) | (224..=255, _) => Reach::Never,
        // Loopback, private, shared by carriers, benchmarks.
        (10 | 127, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) | (198, 18..=19) => Reach::Internal,
        (192, 0) if third == 0 => Reach::Internal,
        _ => Reach::Public,
    }
}

/// The metadata service of AWS has an address of its own in IPv6, outside the link-local range.
const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn reach_v6(address: Ipv6Addr) -> Reach {
    let [first, ..] = address.segments();
    match first {
        _ if address == Ipv6Addr::LOCALHOST => Reach::Internal,
        _ if address.is_unspecified() || address.is_multicast() || address == AWS_METADATA => Reach::Never,
        // Link-local addresses, and the former site-local ones.
        0xfe80..=0xfeff => Reach::Never,
        0xfc00..=0xfdff => Reach::Internal,
        _ => Reach::Public,
    }
}

/// The IPv4 address in an IPv6 address: mapped, compatible, NAT64, 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0..=1] => None,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
