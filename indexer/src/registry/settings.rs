//! Settings of the registry indexer: every name is checked and every file read before any request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use driftline_settings::kind::{List, Text};
use driftline_settings::{Setting, Settings, table};
use reqwest::Url;

use super::credentials::Keyring;
use super::error::RegistryError;
use super::hosts::{Hosts, Pattern, host_of};
use super::reference::{Host, Reference, is_repository};
use super::tls::Identity;
use crate::service::ServiceSettings;

/// Name of the instance unless set.
const INSTANCE: &str = "central";
/// Most instances that may share the work.
const INSTANCES_MAX: u32 = 64;

/// Settings of the registry indexer.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Settings of every indexer.
    pub service: ServiceSettings,
    /// Name of this instance in the source of its publications.
    pub instance: String,
    /// Which registries the indexer reads from, and how.
    pub access: RegistryAccess,
    pub(crate) share: Share,
}

/// Which registries are read from, and how.
#[derive(Debug, Clone)]
pub struct RegistryAccess {
    pub(crate) hosts: Hosts,
    pub(crate) mirrors: BTreeMap<Host, Vec<Mirror>>,
    pub(crate) keyring: Keyring,
    /// Certificates trusted beside the system's, PEM.
    pub(crate) authorities: Option<Vec<u8>>,
    /// Client certificates, by the hosts that require one.
    pub(crate) identities: BTreeMap<Host, Identity>,
    pub(crate) proxy: Option<Proxy>,
    /// Longest wait for the next byte.
    pub(crate) idle: Duration,
    /// Layers of an image read at once.
    pub(crate) layers: usize,
}

/// Another location of a registry's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) host: Host,
    /// Prefix of the repository's name; may be empty.
    pub(crate) prefix: String,
}

/// A proxy.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) url: Url,
    /// Hosts that are contacted directly, as in `NO_PROXY`.
    pub(crate) except: String,
}

/// This instance's share of the work: one of `of`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) number: u32,
    pub(crate) of: u32,
}

impl RegistrySettings {
    /// Reads the settings; records problems in `settings`.
    #[must_use]
    pub fn read(settings: &mut Settings) -> Self {
        let service = ServiceSettings::read(settings);
        let allow = settings.required(&table::REGISTRY_ALLOW);
        Self {
            service,
            access: RegistryAccess::read(settings, &allow),
            instance: settings.optional(&table::INSTANCE).unwrap_or_else(|| INSTANCE.to_owned()),
            share: read_share(settings),
        }
    }
}

impl RegistryAccess {
    /// The settings for reading one named image: its registry, and the hosts that the settings allow. Records problems
    /// in `settings`.
    ///
    /// # Errors
    /// When `reference` is not a valid reference.
    pub fn for_reference(settings: &mut Settings, reference: &str) -> Result<Self, RegistryError> {
        let registry = Reference::parse(reference)?.registry;
        let mut allow = settings.get(&table::REGISTRY_ALLOW);
        allow.push(registry.to_string());
        Ok(Self::read(settings, &allow))
    }

    fn read(settings: &mut Settings, allow: &[String]) -> Self {
        let plain_http = list(settings, &table::REGISTRY_PLAIN_HTTP, Host::parse, "host[:port]");
        let mirrors = read_mirrors(settings);
        let proxy = read_proxy(settings);
        let allowed = allow.iter().filter_map(|word| {
            let pattern = Pattern::parse(word);
            if pattern.is_none() {
                settings.refuse(
                    &table::REGISTRY_ALLOW,
                    format_args!("{word:?}"),
                    "is neither host[:port] nor *.domain",
                );
            }
            pattern
        });
        let allowed: Vec<Pattern> = allowed.collect();
        let proxy_host = proxy.iter().map(|proxy| host_of(&proxy.url));
        let named = mirrors.values().flatten().map(|mirror| mirror.host.clone()).chain(proxy_host);
        let hosts = Hosts::new(allowed, plain_http.into_iter().collect::<BTreeSet<_>>(), named);
        let keyring = Keyring::new(settings.optional(&table::REGISTRY_AUTH_FILE).map(PathBuf::from));
        if let Err(why) = keyring.check() {
            settings.refuse(&table::REGISTRY_AUTH_FILE, why, "");
        }
        Self {
            hosts,
            mirrors,
            keyring,
            authorities: read_file(settings, &table::REGISTRY_CA_FILE),
            identities: read_identities(settings),
            proxy,
            idle: settings.get(&table::REGISTRY_IDLE_S),
            layers: usize::try_from(settings.get(&table::REGISTRY_LAYERS)).unwrap_or(1),
        }
    }
}

fn list<T>(settings: &mut Settings, setting: &Setting<List>, parse: impl Fn(&str) -> Option<T>, form: &str) -> Vec<T> {
    let mut found = Vec::new();
    for word in settings.get(setting) {
        match parse(&word) {
            Some(value) => found.push(value),
            None => settings.refuse(setting, format_args!("{word:?}"), format_args!("is not {form}")),
        }
    }
    found
}

/// `docker.io=mirror.example:5000/prefix`, in the order of the attempts.
fn read_mirrors(settings: &mut Settings) -> BTreeMap<Host, Vec<Mirror>> {
    let parse = |word: &str| {
        let (registry, mirror) = word.split_once('=')?;
        let (host, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
        let prefix = prefix.trim_end_matches('/');
        let mirror = Mirror { host: Host::parse(host)?, prefix: prefix.to_owned() };
        (prefix.is_empty() || is_repository(prefix)).then_some((Host::parse(registry)?, mirror))
    };
    let mut mirrors: BTreeMap<Host, Vec<Mirror>> = BTreeMap::new();
    let form = "registry=host[:port][/prefix]";
    for (registry, mirror) in list(settings, &table::REGISTRY_MIRRORS, parse, form) {
        mirrors.entry(registry).or_default().push(mirror);
    }
    mirrors
}

fn read_proxy(settings: &mut Settings) -> Option<Proxy> {
    let except = settings.get(&table::REGISTRY_NO_PROXY);
    let text = settings.optional(&table::REGISTRY_PROXY)?;
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(Proxy { url, except }),
        _ => {
            settings.refuse(&table::REGISTRY_PROXY, "", "is not like http://proxy.example:3128");
            None
        }
    }
}

/// `registry.example=client.pem`, certificates and key in one file.
fn read_identities(settings: &mut Settings) -> BTreeMap<Host, Identity> {
    let parse = |word: &str| {
        let (host, path) = word.split_once('=')?;
        Some((Host::parse(host)?, path.to_owned()))
    };
    let mut identities = BTreeMap::new();
    for (host, path) in list(settings, &table::REGISTRY_CLIENT_CERTS, parse, "host[:port]=file") {
        match std::fs::read(&path).map_err(|error| error.to_string()).and_then(|pem| Identity::from_pem(&pem)) {
            Ok(identity) => drop(identities.insert(host, identity)),
            Err(why) => settings.refuse(&table::REGISTRY_CLIENT_CERTS, format_args!("{path}: {why}"), ""),
        }
    }
    identities
}

fn read_file(settings: &mut Settings, setting: &Setting<Text>) -> Option<Vec<u8>> {
    let path = settings.optional(setting)?;
    match std::fs::read(&path) {
        Ok(content) => Some(content),
        Err(error) => {
            settings.refuse(setting, format_args!("{path}: {error}"), "");
            None
        }
    }
}

fn read_share(settings: &mut Settings) -> Share {
    let text = settings.get(&table::REGISTRY_SHARE);
    let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    match parts {
        Some((number, of)) if (1..=of).contains(&number) && of <= INSTANCES_MAX => Share { number, of },
        _ => {
            let why = format_args!("is not like 1/3, with at most {INSTANCES_MAX} instances");
            settings.refuse(&table::REGISTRY_SHARE, format_args!("{text:?}"), why);
            Share { number: 1, of: 1 }
        }
    }
}
