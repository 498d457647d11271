//! The indexer's credentials for registries: Docker's `config.json`, and the credential helpers that it names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::error::RegistryError;
use super::reference::Host;
use crate::limits::{CREDENTIALS_BYTES_MAX, HELPER_TIME_MAX};

/// A helper's error text when it has no credentials.
const NOT_FOUND: &str = "credentials not found";
/// The user name with which a helper marks an identity token.
const TOKEN_USER: &str = "<token>";

/// The indexer's credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Anonymous,
    Basic {
        user: String,
        password: String,
    },
    /// An identity token, which is exchanged for access tokens.
    Identity(String),
}

/// Prints no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic",
            Self::Identity(_) => "Identity",
        })
    }
}

/// The part of Docker's `config.json` that concerns credentials.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// The output of a helper.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: String,
}

/// The source of credentials. The file is read again for every image, because secrets are renewed while the indexer
/// runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keyring {
    file: Option<PathBuf>,
}

impl Keyring {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    /// Whether the file is readable and valid now.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.file.as_deref().map_or(Ok(()), |path| read(path).map(drop))
    }

    /// The credentials for a repository of a registry; of several matching entries, those of the longest path.
    pub(crate) async fn find(&self, registry: &Host, repository: &str) -> Result<Credentials, RegistryError> {
        let odd = |why| RegistryError::Credentials { host: registry.to_string(), why };
        let Some(path) = &self.file else { return Ok(Credentials::Anonymous) };
        match read(path).map_err(odd)?.source(registry, repository).map_err(odd)? {
            Source::Static(credentials) => Ok(credentials),
            Source::Helper(helper) => ask(&helper, &registry.docker_key()).await.map_err(odd),
        }
    }
}

/// The source of credentials according to the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    Static(Credentials),
    /// The helper `docker-credential-NAME`.
    Helper(String),
}

impl File {
    /// Parses the file. The parser's error text could quote a secret, so the error contains only the line number.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| format!("not Docker's config.json: line {}", error.line()))
    }

    /// The source for a repository: a helper for the registry precedes an entry of the file, which precedes the helper
    /// for all registries.
    pub(super) fn source(self, registry: &Host, repository: &str) -> Result<Source, String> {
        let Self { auths, mut cred_helpers, creds_store } = self;
        let key = registry.docker_key();
        let server = cred_helpers.keys().find(|server| host_of(server) == host_of(&key)).cloned();
        if let Some(helper) = server.and_then(|server| cred_helpers.remove(&server)) {
            return Ok(Source::Helper(helper));
        }
        let auths: BTreeMap<&str, &Auth> = auths.iter().map(|(server, auth)| (location_of(server), auth)).collect();
        for location in locations(registry, repository) {
            if let Some(found) = auths.get(location.as_str()).and_then(|auth| auth.read()) {
                return found.map(Source::Static);
            }
        }
        Ok(if creds_store.is_empty() { Source::Static(Credentials::Anonymous) } else { Source::Helper(creds_store) })
    }
}

impl Auth {
    /// `None` when the entry is empty, as when a store has the secret.
    fn read(&self) -> Option<Result<Credentials, String>> {
        if !self.identitytoken.is_empty() {
            return Some(Ok(Credentials::Identity(self.identitytoken.clone())));
        }
        if self.auth.is_empty() {
            let (user, password) = (self.username.clone(), self.password.clone());
            return (!user.is_empty()).then_some(Ok(Credentials::Basic { user, password }));
        }
        let decoded = STANDARD.decode(self.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
        Some(match pair {
            Some((user, password)) => Ok(Credentials::Basic { user: user.to_owned(), password: password.to_owned() }),
            None => Err("an auth entry is not base64 of user:password".to_owned()),
        })
    }
}

fn read(path: &Path) -> Result<File, String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if !metadata.is_file() || metadata.len() > CREDENTIALS_BYTES_MAX {
        return Err(format!("{shown}: not a file of at most {CREDENTIALS_BYTES_MAX} bytes"));
    }
    let text = std::fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    File::parse(&text).map_err(|why| format!("{shown}: {why}"))
}

/// The location of a server's entry, without scheme and API version: `quay.io`, `quay.io/team`.
fn location_of(server: &str) -> &str {
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let bare = bare.trim_end_matches('/');
    bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare)
}

fn host_of(server: &str) -> &str {
    let location = location_of(server);
    location.split_once('/').map_or(location, |(host, _)| host)
}

/// Locations that would match, the most specific first.
fn locations(registry: &Host, repository: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut path = Some(repository);
    while let Some(part) = path {
        found.push(format!("{registry}/{part}"));
        path = part.rsplit_once('/').map(|(parent, _)| parent);
    }
    found.push(registry.to_string());
    found.push(location_of(&registry.docker_key()).to_owned());
    found
}

/// Runs `docker-credential-NAME`.
async fn ask(helper: &str, server: &str) -> Result<Credentials, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if helper.is_empty() || !helper.chars().all(fits) {
        return Err(format!("{helper:?} is no name of a credential helper"));
    }
    ask_program(&format!("docker-credential-{helper}"), server).await
}

async fn ask_program(program: &str, server: &str) -> Result<Credentials, String> {
    let answer = tokio::time::timeout(HELPER_TIME_MAX, run(program, server)).await;
    let (succeeded, text) = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{program}: {error}")),
        Err(_) => return Err(format!("{program} does not answer within {} s", HELPER_TIME_MAX.as_secs())),
    };
    match succeeded {
        Succeeded::No if text.to_ascii_lowercase().contains(NOT_FOUND) => Ok(Credentials::Anonymous),
        Succeeded::No => Err(format!("{program}: {}", text.trim().chars().take(200).collect::<String>())),
        Succeeded::Yes => match serde_json::from_str::<Answer>(&text) {
            Ok(Answer { username, secret }) if username == TOKEN_USER => Ok(Credentials::Identity(secret)),
            Ok(Answer { username, secret }) => Ok(Credentials::Basic { user: username, password: secret }),
            Err(_) => Err(format!("{program} prints something else than credentials")),
        },
    }
}

enum Succeeded {
    Yes,
    No,
}

async fn run(program: &str, server: &str) -> std::io::Result<(Succeeded, String)> {
    let mut command = tokio::process::Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may end without having read its input.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(CREDENTIALS_BYTES_MAX).read_to_end(&mut text).await?;
    }
    let succeeded = if child.wait().await?.success() { Succeeded::Yes } else { Succeeded::No };
    Ok((succeeded, String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests;
