//! Computes the value of `Authorization` from a registry's challenges and the indexer's credentials.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::Deserialize;

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::error::RegistryError;
use super::hosts::host_of;
use super::reference::Host;
use super::transport::{Transport, body};
use crate::limits::TOKEN_BYTES_MAX;

/// Docker Hub's API host and its token server, which receives Docker Hub's credentials without being named in a
/// setting.
const DOCKER_HUB: (&str, &str) = ("registry-1.docker.io", "auth.docker.io");
/// Name of the client in token requests.
const CLIENT: &str = "driftline";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// Requests the right to pull from one repository, and no other right.
pub(crate) struct Authorizer<'a> {
    pub(crate) transport: &'a Transport,
    /// Root URL of the registry that sent the challenge.
    pub(crate) root: &'a Url,
    pub(crate) repository: &'a str,
    pub(crate) credentials: &'a Credentials,
}

impl Authorizer<'_> {
    /// Answers the first challenge that can be answered: with a token if a token is offered, else with a password.
    pub(crate) async fn meet(&self, challenges: &[Challenge]) -> Result<HeaderValue, RegistryError> {
        let offers = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(bearer) = offers("bearer") {
            return self.token(bearer).await;
        }
        match (offers("basic"), self.credentials) {
            (Some(_), Credentials::Basic { user, password }) => self.basic(user, password),
            (Some(_), _) => Err(self.denied("it wants a password; see DRIFTLINE_REGISTRY_AUTH_FILE")),
            (None, _) => Err(self.denied("it wants neither a token nor a password")),
        }
    }

    fn denied(&self, why: &str) -> RegistryError {
        RegistryError::Denied { host: host_of(self.root).to_string(), why: why.to_owned() }
    }

    fn basic(&self, user: &str, password: &str) -> Result<HeaderValue, RegistryError> {
        self.secret(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    fn secret(&self, text: String) -> Result<HeaderValue, RegistryError> {
        let value = HeaderValue::from_str(&text).map_err(|_| self.denied("a secret has characters that no header can"));
        value.map(|mut value| {
            value.set_sensitive(true);
            value
        })
    }

    async fn token(&self, challenge: &Challenge) -> Result<HeaderValue, RegistryError> {
        let realm = challenge.parameters.get("realm").and_then(|realm| Url::parse(realm).ok());
        let realm = realm.ok_or_else(|| self.denied("it names no token server"))?;
        self.transport.hosts().check(&realm, Some(self.root))?;
        let host = host_of(&realm);
        if *self.credentials != Credentials::Anonymous && !self.may_have_credentials(&host) {
            let why = format!("its token server {host} is not on the allow-list, so it does not get the credentials");
            return Err(self.denied(&why));
        }
        let response = self.transport.execute(self.request(realm, challenge)?).await?;
        let status = response.status();
        if let Some(pause) = super::transport::retry_after(&response, driftline_service::clock::now_ns()) {
            return Err(RegistryError::Busy { host: host.to_string(), status: status.as_u16(), pause });
        }
        if matches!(status.as_u16(), 400..=403) {
            return Err(RegistryError::Denied { host: host.to_string(), why: format!("no token, status {status}") });
        }
        if !status.is_success() {
            return Err(RegistryError::Status { host: host.to_string(), status: status.as_u16() });
        }
        let text = body(&host, response, TOKEN_BYTES_MAX).await?;
        let answer = serde_json::from_slice::<Answer>(&text.unwrap_or_default()).ok();
        let token = answer.and_then(|answer| answer.token.or(answer.access_token)).filter(|token| !token.is_empty());
        let odd = || RegistryError::Answer { host: host.to_string(), why: "no token in the answer".to_owned() };
        self.secret(format!("Bearer {}", token.ok_or_else(odd)?))
    }

    /// Whether a token server may receive credentials: the registry's own host, and hosts that an administrator trusts.
    fn may_have_credentials(&self, realm: &Host) -> bool {
        let own = host_of(self.root);
        let is_hub = (own.name.as_str(), realm.name.as_str()) == DOCKER_HUB;
        realm.name == own.name || is_hub || self.transport.hosts().allows(realm)
    }

    fn request(&self, mut realm: Url, challenge: &Challenge) -> Result<Request, RegistryError> {
        let service = challenge.parameters.get("service");
        let scope = format!("repository:{}:pull", self.repository);
        let Credentials::Identity(identity) = self.credentials else {
            realm.query_pairs_mut().extend_pairs(service.map(|service| ("service", service.as_str())));
            realm.query_pairs_mut().append_pair("scope", &scope);
            let mut request = Request::new(Method::GET, realm);
            if let Credentials::Basic { user, password } = self.credentials {
                request.headers_mut().insert(AUTHORIZATION, self.basic(user, password)?);
            }
            return Ok(request);
        };
        // The form is encoded as a query, which uses the same encoding.
        let mut form = realm.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service.as_str())))
            .extend_pairs([("grant_type", "refresh_token"), ("client_id", CLIENT), ("scope", &scope)])
            .append_pair("refresh_token", identity);
        let mut request = Request::new(Method::POST, realm);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        *request.body_mut() = Some(form.query().unwrap_or_default().to_owned().into());
        Ok(request)
    }
}
