//! Settings of the registry client: of the indexer in registry mode, and of `driftline images add docker://…`.

use crate::kind::{List, Number, Required, Secret, Text, Time, TimeUnit};
use crate::{Described, Program, Setting};
use Program::{CommandLine, Indexer};

const CLIENTS: &[Program] = &[Indexer, CommandLine];

/// Registries that may be contacted.
pub static REGISTRY_ALLOW: Setting<Required<List>> = Setting {
    name: "DRIFTLINE_REGISTRY_ALLOW",
    programs: CLIENTS,
    kind: Required {
        kind: List { default: &[], separator: ',', form: "`host`, `host:port` or `*.domain`", fits: |_| true },
        example: "docker.io,*.registry.example",
    },
    about: "registries that images may come from; the command line adds the registry of the image that it is given",
};

/// Passwords of registries.
pub static REGISTRY_AUTH_FILE: Setting<Text> = Setting {
    name: "DRIFTLINE_REGISTRY_AUTH_FILE",
    programs: CLIENTS,
    kind: Text { default: "", form: "a path" },
    about: "Docker's `config.json`: `auths`, `credHelpers`, `credsStore`; read for every image",
};

/// Trusted authorities.
pub static REGISTRY_CA_FILE: Setting<Text> = Setting {
    name: "DRIFTLINE_REGISTRY_CA_FILE",
    programs: CLIENTS,
    kind: Text { default: "", form: "a path" },
    about: "authorities trusted beside the system's, PEM",
};

/// Client certificates.
pub static REGISTRY_CLIENT_CERTS: Setting<List> = Setting {
    name: "DRIFTLINE_REGISTRY_CLIENT_CERTS",
    programs: CLIENTS,
    kind: List { default: &[], separator: ',', form: "`host[:port]=file`", fits: |_| true },
    about: "files with certificates and key, PEM, for registries that want one",
};

/// Registries without TLS.
pub static REGISTRY_PLAIN_HTTP: Setting<List> = Setting {
    name: "DRIFTLINE_REGISTRY_PLAIN_HTTP",
    programs: CLIENTS,
    kind: List { default: &[], separator: ',', form: "`host[:port]`", fits: |_| true },
    about: "hosts without TLS, with their port",
};

/// Mirrors.
pub static REGISTRY_MIRRORS: Setting<List> = Setting {
    name: "DRIFTLINE_REGISTRY_MIRRORS",
    programs: CLIENTS,
    kind: List { default: &[], separator: ',', form: "`registry=host[:port][/prefix]`", fits: |_| true },
    about: "mirrors, tried in order before the registry",
};

/// A proxy, whose URL can carry a password.
pub static REGISTRY_PROXY: Setting<Secret<Text>> = Setting {
    name: "DRIFTLINE_REGISTRY_PROXY",
    programs: CLIENTS,
    kind: Secret(Text { default: "", form: "a URL like `http://proxy.example:3128`" }),
    about: "a proxy; other proxy variables are ignored",
};

/// Hosts without the proxy.
pub static REGISTRY_NO_PROXY: Setting<Text> = Setting {
    name: "DRIFTLINE_REGISTRY_NO_PROXY",
    programs: CLIENTS,
    kind: Text { default: "", form: "hosts, comma-separated" },
    about: "hosts that bypass the proxy",
};

/// Layers read at once: three, as in Docker. Each takes the memory of the HTTP client's read-ahead, some 400 KiB, and
/// of its decompressor; unread bytes stay in the registry.
pub static REGISTRY_LAYERS: Setting<Number> = Setting {
    name: "DRIFTLINE_REGISTRY_LAYERS",
    programs: CLIENTS,
    kind: Number { default: 3, range: 1..=16 },
    about: "layers of an image read at once",
};

/// Idle time: a registry that fetches a blob from a slow store begins to answer within half a minute.
pub static REGISTRY_IDLE_S: Setting<Time> = Setting {
    name: "DRIFTLINE_REGISTRY_IDLE_S",
    programs: CLIENTS,
    kind: Time { default: 30, range: 1..=600, unit: TimeUnit::Seconds },
    about: "longest wait for the next byte",
};

/// Share of the work.
pub static REGISTRY_SHARE: Setting<Text> = Setting {
    name: "DRIFTLINE_REGISTRY_SHARE",
    programs: &[Indexer],
    kind: Text { default: "1/1", form: "`number/instances`, at most 64 instances" },
    about: "position among the instances that share the work, for example `2/3`",
};

pub(super) static SETTINGS: &[&dyn Described] = &[
    &REGISTRY_ALLOW,
    &REGISTRY_AUTH_FILE,
    &REGISTRY_CA_FILE,
    &REGISTRY_CLIENT_CERTS,
    &REGISTRY_PLAIN_HTTP,
    &REGISTRY_MIRRORS,
    &REGISTRY_PROXY,
    &REGISTRY_NO_PROXY,
    &REGISTRY_LAYERS,
    &REGISTRY_IDLE_S,
    &REGISTRY_SHARE,
];
