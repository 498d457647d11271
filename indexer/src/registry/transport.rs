//! One HTTP request to a registry, redirects followed. Every hop is checked, and no hop receives the headers of
//! another.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Client, NoProxy, Request, Response, StatusCode, Url};

use super::error::RegistryError;
use super::hosts::{Hosts, Resolver, host_of};
use super::reference::Host;
use super::settings::RegistryAccess;
use super::tls;
use crate::limits::{CONNECT_TIME_MAX, REDIRECTS_MAX, RETRY_AFTER_MAX};

/// HTTP clients, by the client certificate that a host receives.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    client: Client,
    identified: BTreeMap<Host, Client>,
    hosts: Arc<Hosts>,
}

/// A GET that can be repeated.
#[derive(Debug, Clone)]
pub(crate) struct Get {
    pub(crate) url: Url,
    pub(crate) accept: Option<&'static str>,
    pub(crate) authorization: Option<HeaderValue>,
    /// First byte wanted.
    pub(crate) from_byte: u64,
}

impl Transport {
    pub(crate) fn new(settings: &RegistryAccess) -> Result<Self, String> {
        let hosts = Arc::new(settings.hosts.clone());
        let build = |identity| -> Result<Client, String> {
            let tls = tls::configuration(settings.authorities.as_deref(), identity)?;
            let mut builder = Client::builder()
                .user_agent(concat!("driftline/", env!("CARGO_PKG_VERSION")))
                .no_proxy()
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(CONNECT_TIME_MAX)
                .read_timeout(settings.idle)
                .dns_resolver(Resolver(Arc::clone(&hosts)))
                .tls_backend_preconfigured(tls);
            if let Some(proxy) = &settings.proxy {
                let through = reqwest::Proxy::all(proxy.url.clone()).map_err(|error| chain(&error))?;
                builder = builder.proxy(through.no_proxy(NoProxy::from_string(&proxy.except)));
            }
            builder.build().map_err(|error| chain(&error))
        };
        let identified = settings.identities.iter().map(|(host, identity)| Ok((host.clone(), build(Some(identity))?)));
        Ok(Self { client: build(None)?, identified: identified.collect::<Result<_, String>>()?, hosts })
    }

    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// The response at the end of the redirects. `Authorization` is sent to its host, and after redirects only as long
    /// as they lead to that same host.
    pub(crate) async fn get(&self, request: &Get) -> Result<Response, RegistryError> {
        let mut from: Option<Url> = None;
        let mut url = request.url.clone();
        let mut authorization = request.authorization.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.hop(&url, from.as_ref(), request, authorization.as_ref()).await?;
            let Some(next) = redirect(&response, &url)? else { return Ok(response) };
            if next.origin() != url.origin() {
                authorization = None;
            }
            from = Some(std::mem::replace(&mut url, next));
        }
        Err(RegistryError::Redirects(host_of(&request.url).to_string()))
    }

    async fn hop(
        &self,
        url: &Url,
        from: Option<&Url>,
        request: &Get,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        self.hosts.check(url, from)?;
        let mut hop = Request::new(reqwest::Method::GET, url.clone());
        let headers = hop.headers_mut();
        if let Some(accept) = request.accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        if request.from_byte > 0
            && let Ok(value) = HeaderValue::from_str(&format!("bytes={}-", request.from_byte))
        {
            headers.insert(RANGE, value);
        }
        self.execute(hop).await
    }

    /// Sends one request, without following redirects, to a URL that was checked.
    pub(crate) async fn execute(&self, request: Request) -> Result<Response, RegistryError> {
        let host = host_of(request.url());
        let client = self.identified.get(&host).unwrap_or(&self.client);
        client.execute(request).await.map_err(|error| broken(&host, error))
    }
}

/// The target of a redirect, if the response is one.
fn redirect(response: &Response, url: &Url) -> Result<Option<Url>, RegistryError> {
    let leads = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    if !leads {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| url.join(location).ok());
    let odd = || RegistryError::Answer { host: host_of(url).to_string(), why: "a redirect to nowhere".to_owned() };
    next.map(Some).ok_or_else(odd)
}

/// A whole body; `None` when it exceeds the limit.
pub(crate) async fn body(host: &Host, mut response: Response, most: usize) -> Result<Option<Vec<u8>>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(host, error))? {
        if bytes.len().saturating_add(chunk.len()) > most {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// Converts an error of the client; a refusal by our own resolver keeps its own type.
pub(crate) fn broken(host: &Host, error: reqwest::Error) -> RegistryError {
    // The URL of a redirect may be signed, which makes it a secret.
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(RegistryError::Refused { host, why }) = current.downcast_ref() {
            return RegistryError::Refused { host: host.clone(), why };
        }
        if let Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) = current.downcast_ref()
        {
            let why = "it does not speak TLS; if that is meant, name it in DRIFTLINE_REGISTRY_PLAIN_HTTP".to_owned();
            return RegistryError::Network { host: host.to_string(), why };
        }
        cause = below(current);
    }
    RegistryError::Network { host: host.to_string(), why: chain(&error) }
}

/// The text of an error, with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = below(error);
    while let Some(current) = cause {
        let more = current.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = below(current);
    }
    text
}

/// The cause of an error; for an I/O error the wrapped error, which its own `source` skips.
fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The pause that a response requests; at most an hour.
pub(crate) fn retry_after(response: &Response, now_ns: i64) -> Option<Duration> {
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    pause_in(response.headers().get(RETRY_AFTER)?.to_str().ok()?, now_ns)
}

/// Seconds, or a date.
pub(super) fn pause_in(text: &str, now_ns: i64) -> Option<Duration> {
    let text = text.trim();
    let pause = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            let until = until.duration_since(std::time::UNIX_EPOCH).ok()?;
            until.saturating_sub(Duration::from_nanos(now_ns.unsigned_abs()))
        }
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_says_in_seconds_or_by_date_when_to_come_back() {
        let now_ns = 784_111_770 * 1_000_000_000;
        for (text, expect) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("999999999", Some(3_600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(3_600)),
            ("soon", None),
            ("-5", None),
        ] {
            assert_eq!(pause_in(text, now_ns), expect.map(Duration::from_secs), "{text}");
        }
    }
}
