//! The indexer of registries: answers the requests of its cluster, from any node, with images of registries.
//!
//! It is a verified source: it reads an image from its origin, with a read-only account of its own, on no node that a
//! container could have compromised. [`hosts`] decides which hosts it may contact, [`token`] what it sends there. Every
//! response of a registry is checked against the digests, and only what resolves to the requested image is published.
//!
//! Several instances share the work by `DRIFTLINE_REGISTRY_SHARE`. The digest of an image decides which instance is
//! responsible; the next instance takes the image when nobody has published it a minute later. The instances do not
//! communicate. An image that takes longer than a minute is read twice, which is harmless.

mod challenge;
mod credentials;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hosts;
mod reference;
mod session;
mod settings;
mod tls;
mod token;
mod transport;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::anyhow;
use driftline_enricher_core::Trust;
use driftline_schemas::{ImageFailure, ImageId, ImageRequest, Sha256, is_verified_source};
use driftline_service::telemetry::Telemetry;
use prometheus::IntCounterVec;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

pub use error::RegistryError;
pub use settings::{RegistryAccess, RegistrySettings};

use crate::blobs::{Options, index_blobs};
use crate::documents::{Entry, Wanted};
use crate::limits::TAKEOVER;
use crate::service::attempt::{JobError, Read, Task};
use crate::service::plan::Job;
use crate::service::{self, Origin, Turn};
use crate::{IndexError, Indexed};
use reference::{Host, Reference, Target};
use session::Session;
use settings::Share;
use transport::Transport;

/// Runs until `stop` resolves.
///
/// # Errors
/// When a certificate cannot be used, Kafka cannot be used at start, or stops taking records.
pub async fn run(
    settings: RegistrySettings,
    telemetry: &Telemetry,
    stop: impl Future<Output = &'static str>,
) -> anyhow::Result<()> {
    let RegistrySettings { service, instance, access, share } = settings;
    let central = Central { registries: Registries::new(access, telemetry)?, instance, share };
    service::kafka_ready(&service).await?;
    // The registry indexer finds no images by itself; it only answers requests.
    let (_, found) = mpsc::channel(1);
    service::run(service, central, found, telemetry, stop).await
}

/// The registries that images are read from.
#[derive(Clone)]
pub struct Registries(Arc<Inner>);

impl Registries {
    /// Makes the HTTP clients.
    ///
    /// # Errors
    /// When a certificate or proxy cannot be used.
    pub fn new(access: RegistryAccess, telemetry: &Telemetry) -> anyhow::Result<Self> {
        let transport = Transport::new(&access).map_err(|why| anyhow!("no HTTP client: {why}"))?;
        let help = "requests to registries by result";
        let requests = telemetry.counters("indexer_registry_requests_total", help, &["result"])?;
        Ok(Self(Arc::new(Inner { access, transport, requests })))
    }

    /// Indexes one image, as the service would. Blocks, so it must run on a thread that may block.
    ///
    /// # Errors
    /// When the registry does not return the image, a limit is exceeded, or any content does not match its digest.
    pub fn index(&self, wanted: &Wanted, reference: &str, handle: &Handle) -> Result<Indexed, IndexError> {
        let image_id = wanted.image_id.clone().unwrap_or_default();
        let job = Job { image_id, runtime: String::new(), reference: reference.to_owned() };
        let task = Task { job, known: Arc::default(), stop: Arc::default() };
        Ok(self.0.read(&task, wanted, handle)?.indexed)
    }
}

/// Registries as the origin of the images of a cluster.
struct Central {
    registries: Registries,
    instance: String,
    share: Share,
}

struct Inner {
    access: RegistryAccess,
    transport: Transport,
    requests: IntCounterVec,
}

impl Origin for Central {
    fn source(&self) -> String {
        format!("registry:{}", self.instance)
    }

    fn turn(&self, request: &ImageRequest) -> Turn {
        Turn::After { pause_ns: self.share.pause_ns(&request.image_id) }
    }

    fn suffices(&self, source: &str, trust: Trust) -> bool {
        trust == Trust::AnyNode || is_verified_source(source)
    }

    async fn read(&self, task: &Task) -> Result<Read, JobError> {
        let (inner, task, handle) = (Arc::clone(&self.registries.0), task.clone(), Handle::current());
        let wanted = Wanted::id(&task.job.image_id);
        Ok(tokio::task::spawn_blocking(move || inner.read(&task, &wanted, &handle)).await??)
    }
}

impl Share {
    /// How long this instance waits for the instances before it.
    fn pause_ns(self, image_id: &ImageId) -> i64 {
        let [.., last] = Sha256::of(image_id.as_str().as_bytes()).0;
        let before = (self.number + self.of - 1 - u32::from(last) % self.of) % self.of;
        i64::try_from(TAKEOVER.saturating_mul(before).as_nanos()).unwrap_or(i64::MAX)
    }
}

/// A registry or a mirror of it.
struct Location {
    host: Host,
    repository: String,
}

impl Inner {
    /// Reads an image from the first location that has it, mirrors before the registry. Blocks.
    fn read(&self, task: &Task, wanted: &Wanted, handle: &Handle) -> Result<Read, IndexError> {
        let reference = Reference::parse(&task.job.reference)?;
        if !self.access.hosts.allows(&reference.registry) {
            return Err(RegistryError::NotAllowed(reference.registry.to_string()).into());
        }
        let (mirrors, registry) = self.locations(&reference);
        for mirror in mirrors {
            match self.read_from(&mirror, &reference, task, wanted, handle) {
                Ok(read) => return Ok(read),
                Err(error) => {
                    tracing::warn!(mirror = %mirror.host, image = %task.job.image_id, %error, "mirror passed")
                }
            }
        }
        self.read_from(&registry, &reference, task, wanted, handle)
    }

    fn locations(&self, reference: &Reference) -> (Vec<Location>, Location) {
        let mirrors = self.access.mirrors.get(&reference.registry).into_iter().flatten().map(|mirror| Location {
            host: mirror.host.clone(),
            repository: format!("{}/{}", mirror.prefix, reference.repository).trim_start_matches('/').to_owned(),
        });
        let registry = Location { host: reference.registry.clone(), repository: reference.repository.clone() };
        (mirrors.collect(), registry)
    }

    fn read_from(
        &self,
        location: &Location,
        reference: &Reference,
        task: &Task,
        wanted: &Wanted,
        handle: &Handle,
    ) -> Result<Read, IndexError> {
        let session = Session {
            transport: &self.transport,
            keyring: &self.access.keyring,
            requests: &self.requests,
            host: location.host.clone(),
            root: self.access.hosts.root(&location.host)?,
            repository: location.repository.clone(),
            task,
            handle: handle.clone(),
            authorization: tokio::sync::Mutex::new(None),
            documents: Mutex::new(BTreeMap::new()),
            bytes: AtomicU64::new(0),
        };
        let indexed = self.index(&session, reference, wanted)?;
        Ok(Read { indexed, bytes: session.bytes.load(Ordering::Relaxed) })
    }

    /// Indexes the image of the reference. If the reference no longer leads to the image, the requested digest is
    /// tried, which succeeds when it is a manifest's.
    fn index(&self, session: &Session<'_>, reference: &Reference, wanted: &Wanted) -> Result<Indexed, IndexError> {
        let by_reference = self.index_target(session, &reference.target, wanted);
        let digest = wanted.image_id.as_ref().map(|image_id| Target::Digest(image_id.as_str().to_owned()));
        match (by_reference, digest) {
            (
                Err(error @ (IndexError::NotFound { .. } | IndexError::Registry(RegistryError::Missing(_)))),
                Some(digest),
            ) if digest != reference.target => match self.index_target(session, &digest, wanted) {
                Ok(indexed) => Ok(indexed),
                Err(lie) if lie.failure() == ImageFailure::Mismatch => Err(lie),
                // The requested digest need not be a manifest's, and some registries answer such a request with
                // nonsense.
                Err(_) => Err(error),
            },
            (found, _) => found,
        }
    }

    fn index_target(&self, session: &Session<'_>, target: &Target, wanted: &Wanted) -> Result<Indexed, IndexError> {
        let missing = || {
            let joint = if matches!(target, Target::Digest(_)) { '@' } else { ':' };
            RegistryError::Missing(format!("{}/{}{joint}{}", session.host, session.repository, target.as_str()))
        };
        let digest = session.resolve(target)?.ok_or_else(missing)?;
        let Task { known, stop, .. } = session.task;
        let options = Options { lanes: self.access.layers, known: &|diff_id| known.contains(diff_id), stop };
        index_blobs(session, &Entry::Digest(digest), wanted, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_one_owner_and_the_others_follow_in_turn() {
        for of in 1..6 {
            for image in 0..100 {
                let image_id = ImageId::from(format!("sha256:{image}").as_str());
                let mut pauses: Vec<i64> =
                    (1..=of).map(|number| Share { number, of }.pause_ns(&image_id) / 60_000_000_000).collect();
                pauses.sort_unstable();
                assert_eq!(pauses, (0..i64::from(of)).collect::<Vec<_>>());
            }
        }
    }
}
