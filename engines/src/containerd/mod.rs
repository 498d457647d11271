//! containerd over gRPC: the images that it holds, under any name.
//!
//! Its containers are described over CRI, by another module.

pub(crate) mod messages;
mod stored;

pub use stored::{BlobStream, StoredImage};

use std::collections::BTreeMap;

use driftline_schemas::ImageId;

use crate::grpc::Grpc;
use crate::limits::{IMAGES_MAX, NAMESPACES_MAX};
use crate::{CONTAINERD, RuntimeError, RuntimeSettings};
use messages::{ContentInfo, GetContent, ImageEntry, ListContent, ListImages, ListNamespaces, VersionRequest};

/// The header of every call about content.
const NAMESPACE: &str = "containerd-namespace";
/// Beginning of the labels by which content holds other content against removal: `<this>.config`, `<this>.l.0`, `<this>.m.0`,
/// from some builders `<this>.0`.
const HOLDS: &str = "containerd.io/gc.ref.content.";

/// A containerd.
#[derive(Debug)]
pub(crate) struct Containerd {
    grpc: Grpc,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    namespace: String,
    /// Digest of the manifest or index at which to begin.
    start: String,
}

impl Containerd {
    /// Connects.
    pub(crate) async fn detect(settings: &RuntimeSettings) -> Result<(Self, String), RuntimeError> {
        let grpc = Grpc::new(CONTAINERD, &settings.containerd_socket)?;
        let version = grpc.call(VersionRequest {}, &[]).await?.unwrap_or_default().version;
        let how = format!("version {version} at {}", settings.containerd_socket.display());
        Ok((Self { grpc }, how))
    }

    /// References under which the image is known; nothing when it is not held.
    pub(crate) async fn references(&self, image_id: &ImageId) -> Result<Option<Vec<String>>, RuntimeError> {
        let Some(found) = self.find(image_id).await? else { return Ok(None) };
        let listed = self.grpc.call(ListImages {}, &[(NAMESPACE, &found.namespace)]).await?.unwrap_or_default();
        let mut names = Vec::new();
        for ImageEntry { name, target } in listed.images.into_iter().take(IMAGES_MAX) {
            let target = target.unwrap_or_default();
            if self.leads_to(&found, &target.digest, image_id).await? {
                names.push(name);
            }
        }
        Ok(Some(names))
    }

    /// An image to be read, held against removal until it is closed.
    pub(crate) async fn open(&self, image_id: &ImageId, now_ns: i64) -> Result<StoredImage, RuntimeError> {
        let found = self.find(image_id).await?;
        let Found { namespace, start } =
            found.ok_or_else(|| RuntimeError::failed(CONTAINERD, "there is no such image"))?;
        StoredImage::open(self.grpc.clone(), namespace, start, now_ns).await
    }

    /// Looks for the image in every namespace: Kubernetes has its own, Docker and nerdctl theirs. The digest may be that
    /// of a manifest or an index, which is content to begin at; or of a config, which its manifest holds by a label, or
    /// it would have been removed.
    async fn find(&self, image_id: &ImageId) -> Result<Option<Found>, RuntimeError> {
        let listed = self.grpc.call(ListNamespaces {}, &[]).await?.unwrap_or_default();
        for namespace in listed.namespaces.into_iter().map(|namespace| namespace.name).take(NAMESPACES_MAX) {
            let Some(content) = self.content(&namespace, image_id.as_str()).await? else { continue };
            let start = if held_by(&content).next().is_some() {
                Some(content.digest)
            } else {
                self.holder_of_config(&namespace, image_id.as_str()).await?
            };
            if let Some(start) = start {
                return Ok(Some(Found { namespace, start }));
            }
        }
        Ok(None)
    }

    async fn content(&self, namespace: &str, digest: &str) -> Result<Option<ContentInfo>, RuntimeError> {
        let question = GetContent { digest: digest.to_owned() };
        Ok(self.grpc.call(question, &[(NAMESPACE, namespace)]).await?.and_then(|answer| answer.info))
    }

    /// A manifest whose config this is. `digest` has the form of a digest: it needs no escaping.
    async fn holder_of_config(&self, namespace: &str, digest: &str) -> Result<Option<String>, RuntimeError> {
        let filter = |name| format!("labels.\"{HOLDS}{name}\"==\"{digest}\"");
        let question = ListContent { filters: vec![filter("config"), filter("0")] };
        let Some(mut answers) = self.grpc.stream(question, &[(NAMESPACE, namespace)]).await? else { return Ok(None) };
        let first = answers.next().await?.and_then(|contents| contents.infos.into_iter().next());
        Ok(first.map(|content| content.digest))
    }

    /// Whether a name's target is the image, or an index that has it.
    async fn leads_to(&self, found: &Found, target: &str, image_id: &ImageId) -> Result<bool, RuntimeError> {
        if target == found.start || target == image_id.as_str() {
            return Ok(true);
        }
        let content = self.content(&found.namespace, target).await?;
        Ok(content.is_some_and(|content| held_by(&content).any(|digest| *digest == found.start)))
    }
}

/// Digests of what this content holds against removal.
fn held_by(content: &ContentInfo) -> impl Iterator<Item = &String> {
    let labels: &BTreeMap<String, String> = &content.labels;
    labels.iter().filter(|(name, _)| name.starts_with(HOLDS)).map(|(_, digest)| digest)
}
