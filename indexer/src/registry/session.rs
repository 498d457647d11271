//! One image of one registry: its documents and layers, with authorization and retries. An interrupted layer is
//! continued from where the connection was lost.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use driftline_schemas::Sha256;
use driftline_service::clock;
use prometheus::IntCounterVec;
use reqwest::header::{CONTENT_RANGE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use tokio::runtime::Handle;

use super::challenge::{Challenge, challenges};
use super::credentials::Keyring;
use super::error::RegistryError;
use super::hosts::host_of;
use super::reference::{Host, Target};
use super::token::Authorizer;
use super::transport::{Get, Transport, body, broken, retry_after};
use crate::blobs::Blobs;
use crate::documents::{LayerBlob, check_digest, digest_in};
use crate::error::{IndexError, Limit};
use crate::limits::{
    DOCUMENT_TIME_MAX, JSON_BYTES_MAX, PROGRESS_BYTES, REQUEST_ATTEMPTS_MAX, REQUEST_PAUSE_FIRST, RETRY_AFTER_WAIT_MAX,
};
use crate::service::attempt::Task;
use crate::tar_stream::as_u64;

/// Manifests and indexes that are understood. Schema 1 is not requested; a registry that returns it all the same is
/// refused by content.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A registry, or a mirror of it, as the source of one image. Its methods block.
pub(crate) struct Session<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) keyring: &'a Keyring,
    pub(crate) requests: &'a IntCounterVec,
    pub(crate) host: Host,
    pub(crate) root: Url,
    pub(crate) repository: String,
    pub(crate) task: &'a Task,
    pub(crate) handle: Handle,
    /// The lanes share it, so that one of them fetches a token for all.
    pub(crate) authorization: tokio::sync::Mutex<Option<HeaderValue>>,
    /// Documents that were read by tag, keyed by path.
    pub(crate) documents: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) bytes: AtomicU64,
}

/// Whether a URL belongs to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// The registry receives the authorization.
    Registry,
    /// Another location of a foreign layer, which receives no authorization.
    Elsewhere,
}

impl Session<'_> {
    /// The digest of the manifest or index that the target names now; `None` when there is none. The digest is
    /// computed; the registry's own header is not used.
    pub(crate) fn resolve(&self, target: &Target) -> Result<Option<String>, IndexError> {
        let Some(bytes) = self.read_document("manifests", target.as_str())? else { return Ok(None) };
        let digest = Sha256::of(&bytes).to_digest();
        let path = crate::documents::blob_path(&digest)?;
        if let Target::Digest(expected) = target {
            check_digest(&crate::documents::blob_path(expected)?, Sha256::of(&bytes))?;
        }
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).insert(path, bytes);
        Ok(Some(digest))
    }

    fn url(&self, kind: &str, reference: &str) -> Result<Url, RegistryError> {
        let odd = |error| RegistryError::Answer { host: self.host.to_string(), why: format!("{error}") };
        self.root.join(&format!("v2/{}/{kind}/{reference}", self.repository)).map_err(odd)
    }

    fn read_document(&self, kind: &str, reference: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let accept = (kind == "manifests").then_some(MANIFESTS);
        let request = Get { url: self.url(kind, reference)?, accept, authorization: None, from_byte: 0 };
        let read = async {
            let Some(response) = self.fetch(&request, Access::Registry).await? else { return Ok(None) };
            let most = usize::try_from(JSON_BYTES_MAX).unwrap_or(usize::MAX);
            body(&self.host, response, most).await?.ok_or(IndexError::Limit(Limit::JsonBytes)).map(Some)
        };
        let slow = || self.network(&format!("a document takes longer than {} s", DOCUMENT_TIME_MAX.as_secs()));
        let read = self.handle.block_on(async { tokio::time::timeout(DOCUMENT_TIME_MAX, read).await });
        let bytes = read.map_err(|_| slow())??;
        self.count(bytes.as_ref().map_or(0, Vec::len));
        Ok(bytes)
    }

    fn digested(&self, kind: &str, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        if let Some(known) = self.documents.lock().unwrap_or_else(PoisonError::into_inner).remove(path) {
            return Ok(Some(known));
        }
        let Some(digest) = digest_in(path) else { return Ok(None) };
        let bytes = self.read_document(kind, &digest.to_digest())?;
        bytes.as_ref().map_or(Ok(()), |bytes| check_digest(path, Sha256::of(bytes)))?;
        Ok(bytes)
    }

    fn network(&self, why: &str) -> RegistryError {
        RegistryError::Network { host: self.host.to_string(), why: why.to_owned() }
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(as_u64(bytes), Ordering::Relaxed);
    }

    /// The response, after as many attempts as are useful; `None` when the object does not exist.
    async fn fetch(&self, request: &Get, access: Access) -> Result<Option<Response>, RegistryError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let answer = self.fetch_once(request, access).await;
            self.requests.with_label_values(&[label(&answer)]).inc();
            let error = match answer {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let Some(pause) = pause_before_retry(&error, attempt).filter(|_| !self.task.is_stopped()) else {
                return Err(error);
            };
            tracing::debug!(%error, attempt, ?pause, "asking the registry again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn fetch_once(&self, request: &Get, access: Access) -> Result<Option<Response>, RegistryError> {
        let authorization = match access {
            Access::Registry => self.authorization.lock().await.clone(),
            Access::Elsewhere => None,
        };
        let mut request = Get { authorization, ..request.clone() };
        let mut response = self.transport.get(&request).await?;
        if response.status() == StatusCode::UNAUTHORIZED && access == Access::Registry {
            request.authorization = Some(self.authorize(&response, request.authorization.as_ref()).await?);
            response = self.transport.get(&request).await?;
        }
        self.judge(response, &request)
    }

    fn judge(&self, response: Response, request: &Get) -> Result<Option<Response>, RegistryError> {
        let host = host_of(response.url()).to_string();
        let status = response.status().as_u16();
        if let Some(pause) = retry_after(&response, clock::now_ns()) {
            return Err(RegistryError::Busy { host, status, pause });
        }
        match status {
            200 | 206 => Ok(Some(response)),
            // The interruption was at the end: nothing is left to read.
            416 if request.from_byte > 0 => Ok(Some(response)),
            404 => Ok(None),
            401 | 403 => Err(RegistryError::Denied { host, why: format!("status {status} for {}", self.repository) }),
            _ => Err(RegistryError::Status { host, status }),
        }
    }

    /// The authorization to send after a 401. Lanes that are refused at the same time with the same authorization share
    /// one new token.
    async fn authorize(&self, refused: &Response, sent: Option<&HeaderValue>) -> Result<HeaderValue, RegistryError> {
        let mut current = self.authorization.lock().await;
        if let Some(known) = current.as_ref().filter(|known| Some(*known) != sent) {
            return Ok(known.clone());
        }
        let wanted: Vec<Challenge> = refused
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenges)
            .collect();
        let credentials = self.keyring.find(&self.host, &self.repository).await?;
        let authorizer = Authorizer {
            transport: self.transport,
            root: &self.root,
            repository: &self.repository,
            credentials: &credentials,
        };
        let value = authorizer.meet(&wanted).await?;
        *current = Some(value.clone());
        Ok(value)
    }

    /// Opens a layer's blob at a URL; `None` when it is not there.
    fn open_at<'a>(&'a self, url: Url, access: Access, blob: &LayerBlob) -> Result<Option<BlobReader<'a>>, IndexError> {
        let request = Get { url, accept: None, authorization: None, from_byte: 0 };
        let Some(response) = self.handle.block_on(self.fetch(&request, access))? else { return Ok(None) };
        if let (Some(actual_bytes), Some(stated_bytes)) = (response.content_length(), blob.size_bytes)
            && actual_bytes < stated_bytes
        {
            return Err(IndexError::Size { what: "a layer", stated_bytes, actual_bytes });
        }
        Ok(Some(BlobReader {
            session: self,
            request,
            access,
            stated: blob.size_bytes,
            response: Some(response),
            chunk: Bytes::new(),
            skip: 0,
            position: 0,
            cuts: 0,
            cut_at: 0,
        }))
    }

    /// Opens a foreign layer at one of its own URLs, if an administrator trusts that host.
    fn open_foreign<'a>(&'a self, blob: &LayerBlob) -> Result<Option<BlobReader<'a>>, IndexError> {
        let urls: Vec<Url> = blob.urls.iter().filter_map(|url| Url::parse(url).ok()).collect();
        let (trusted, others): (Vec<_>, Vec<_>) =
            urls.into_iter().partition(|url| self.transport.hosts().allows(&host_of(url)));
        if trusted.is_empty() {
            let mut hosts: Vec<String> = others.iter().map(|url| host_of(url).to_string()).collect();
            hosts.sort();
            hosts.dedup();
            return Err(RegistryError::Foreign(hosts.join(", ")).into());
        }
        for url in trusted {
            if let Some(reader) = self.open_at(url, Access::Elsewhere, blob)? {
                return Ok(Some(reader));
            }
        }
        Ok(None)
    }
}

impl Blobs for Session<'_> {
    fn document(&self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        self.digested("manifests", path)
    }

    fn config(&self, path: &str) -> Result<Option<Vec<u8>>, IndexError> {
        self.digested("blobs", path)
    }

    fn open(&self, layer: &LayerBlob) -> Result<Option<Box<dyn Read + Send + '_>>, IndexError> {
        let Some(digest) = digest_in(&layer.path) else { return Ok(None) };
        let url = self.url("blobs", &digest.to_digest())?;
        let reader = match self.open_at(url, Access::Registry, layer)? {
            None if !layer.urls.is_empty() => self.open_foreign(layer)?,
            reader => reader,
        };
        Ok(reader.map(|reader| Box::new(reader) as Box<dyn Read + Send>))
    }
}

/// A layer while it is received. Only the HTTP client reads ahead: a slow reader slows the registry.
struct BlobReader<'a> {
    session: &'a Session<'a>,
    request: Get,
    access: Access,
    stated: Option<u64>,
    response: Option<Response>,
    chunk: Bytes,
    /// Bytes to skip, when a server begins again from the start.
    skip: u64,
    /// Bytes returned to the reader.
    position: u64,
    /// Interruptions since the last progress.
    cuts: u32,
    cut_at: u64,
}

impl BlobReader<'_> {
    /// Reads more bytes; none at the end.
    async fn more(&mut self) -> Result<Bytes, IndexError> {
        loop {
            let Some(response) = &mut self.response else {
                if !self.resume().await? {
                    let (stated_bytes, actual_bytes) = (self.stated.unwrap_or_default(), self.position);
                    return Err(IndexError::Size { what: "a layer", stated_bytes, actual_bytes });
                }
                continue;
            };
            let host = host_of(response.url());
            let cut = match response.chunk().await {
                Ok(Some(mut chunk)) => {
                    self.session.count(chunk.len());
                    let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
                    chunk.advance(passed);
                    self.skip -= as_u64(passed);
                    if chunk.is_empty() {
                        continue;
                    }
                    return Ok(chunk);
                }
                Ok(None) if self.stated.is_none_or(|stated| self.position >= stated) => return Ok(Bytes::new()),
                Ok(None) => self.session.network("a layer ends early"),
                Err(error) => broken(&host, error),
            };
            self.note_cut(cut).await?;
        }
    }

    /// Counts an interruption, which is tolerated as long as there is progress between interruptions.
    async fn note_cut(&mut self, error: RegistryError) -> Result<(), IndexError> {
        if self.position.saturating_sub(self.cut_at) >= PROGRESS_BYTES {
            self.cuts = 0;
        }
        self.cuts += 1;
        self.cut_at = self.position;
        self.response = None;
        let pause = pause_before_retry(&error, self.cuts).filter(|_| !self.session.task.is_stopped());
        let Some(pause) = pause else { return Err(error.into()) };
        tracing::debug!(%error, position = self.position, "a layer was cut");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Continues after the last byte received; returns `false` when nothing is left.
    async fn resume(&mut self) -> Result<bool, IndexError> {
        self.request.from_byte = self.position;
        let Some(response) = self.session.fetch(&self.request, self.access).await? else {
            return Err(self.session.network("a layer is gone while it is read").into());
        };
        self.skip = match response.status().as_u16() {
            416 => return Ok(false),
            206 if first_byte(&response) == Some(self.position) => 0,
            206 => return Err(self.session.network("it goes on at another byte than asked for").into()),
            _ => self.position,
        };
        self.response = Some(response);
        Ok(true)
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.session.task.is_stopped() {
            return Err(io::Error::other("the indexer stops"));
        }
        if self.chunk.is_empty() {
            let handle = self.session.handle.clone();
            self.chunk = handle.block_on(self.more()).map_err(io::Error::other)?;
        }
        let taken = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(buffer.get_mut(..taken).unwrap_or_default());
        self.position = self.position.saturating_add(as_u64(taken));
        Ok(taken)
    }
}

/// The first byte of a partial answer, from `bytes 100-199/200`.
fn first_byte(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

/// The pause before the next attempt; `None` when another attempt is useless.
fn pause_before_retry(error: &RegistryError, attempt: u32) -> Option<Duration> {
    if attempt >= REQUEST_ATTEMPTS_MAX {
        return None;
    }
    match error {
        RegistryError::Busy { pause, .. } => Some(*pause).filter(|pause| *pause <= RETRY_AFTER_WAIT_MAX),
        RegistryError::Network { .. } | RegistryError::Status { status: 408 | 429 | 500.., .. } => {
            Some(jittered(attempt))
        }
        _ => None,
    }
}

/// A pause that doubles with each attempt, shortened by up to half at random, so that many clients do not return
/// together.
fn jittered(attempt: u32) -> Duration {
    let pause = REQUEST_PAUSE_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let random = std::hash::RandomState::new().hash_one(attempt) % 1_024;
    let half_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX) / 2;
    Duration::from_nanos(half_ns + half_ns / 1_024 * random)
}

/// The label of a request's result in the metrics.
fn label(answer: &Result<Option<Response>, RegistryError>) -> &'static str {
    match answer {
        Ok(Some(_)) => "answered",
        Ok(None) => "missing",
        Err(RegistryError::Denied { .. } | RegistryError::Credentials { .. }) => "denied",
        Err(RegistryError::Refused { .. } | RegistryError::Redirects(_)) => "refused",
        Err(RegistryError::Busy { .. } | RegistryError::Status { status: 429 | 503, .. }) => "busy",
        Err(_) => "failed",
    }
}
