//! An image of containerd's content store: its documents, its layers' blobs, and, where those were discarded, the
//! directories into which they were unpacked.

use std::path::PathBuf;

use bytes::Bytes;
use jiff::Timestamp;

use super::NAMESPACE;
use super::messages::{
    CreateLease, DeleteLease, Mount, Piece, PinResource, ReadContent, RemoveSnapshot, Resource, ViewSnapshot,
};
use crate::grpc::{Answers, Grpc};
use crate::limits::LEASE_MAX;
use crate::{CONTAINERD, RuntimeError};

/// Header that puts what a call creates under a lease.
const LEASE: &str = "containerd-lease";
/// When a lease ends by itself.
const EXPIRES: &str = "containerd.io/gc.expire";
/// The only snapshotter that stores each layer in a directory of known form.
const SNAPSHOTTER: &str = "overlayfs";

/// An image of containerd's store. A lease holds all of it against removal until [`Self::close`], at most for
/// [`LEASE_MAX`].
#[derive(Debug)]
pub struct StoredImage {
    grpc: Grpc,
    namespace: String,
    start: String,
    lease: String,
}

impl StoredImage {
    pub(super) async fn open(grpc: Grpc, namespace: String, start: String, now_ns: i64) -> Result<Self, RuntimeError> {
        let failed = |why: &dyn std::fmt::Display| RuntimeError::failed(CONTAINERD, why);
        let now = Timestamp::from_nanosecond(now_ns.into()).map_err(|error| failed(&error))?;
        let ends = now.checked_add(LEASE_MAX).map_err(|error| failed(&error))?;
        let lease = format!("driftline-{now_ns}-{}", start.trim_start_matches("sha256:"));
        let image = Self { grpc, namespace, start, lease };
        let labels = [(EXPIRES.to_owned(), ends.to_string())].into_iter().collect();
        image.grpc.call(CreateLease { id: image.lease.clone(), labels }, &image.headers()).await?;
        let resource = Some(Resource { id: image.start.clone(), kind: "content".to_owned() });
        let pin = PinResource { lease: image.lease.clone(), resource };
        let pinned = image.grpc.call(pin, &image.headers()).await;
        if let Err(error) = pinned {
            image.close().await;
            return Err(error);
        }
        Ok(image)
    }

    /// Digest of the manifest or index at which to begin.
    #[must_use]
    pub fn start(&self) -> &str {
        &self.start
    }

    /// Content by its digest, as it comes; nothing when it is not in the store. The reader has to verify the digest.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn blob(&self, digest: &str) -> Result<Option<BlobStream>, RuntimeError> {
        let question = ReadContent { digest: digest.to_owned() };
        let pieces = self.grpc.stream(question, &self.headers()).await?;
        Ok(pieces.map(|pieces| BlobStream { pieces, offset: 0 }))
    }

    /// The directories of the layers of a chain id, lowest first, as overlayfs would put them together; nothing when
    /// that snapshotter does not have it.
    ///
    /// # Errors
    /// When containerd does not answer, or answers with other mounts than overlayfs needs.
    pub async fn unpacked(&self, chain_id: &str) -> Result<Option<Vec<PathBuf>>, RuntimeError> {
        let (snapshotter, key, parent) = (SNAPSHOTTER.to_owned(), self.view(), chain_id.to_owned());
        let question = ViewSnapshot { snapshotter, key, parent };
        let Some(answer) = self.grpc.call(question, &self.headers()).await? else { return Ok(None) };
        match answer.mounts.as_slice() {
            [mount] => directories(mount).map(Some),
            mounts => Err(RuntimeError::failed(CONTAINERD, format_args!("a snapshot has {} mounts", mounts.len()))),
        }
    }

    /// Ends the lease, so that containerd may remove the image. A failure is logged: the lease ends by itself.
    pub async fn close(self) {
        let remove = RemoveSnapshot { snapshotter: SNAPSHOTTER.to_owned(), key: self.view() };
        let delete = DeleteLease { id: self.lease.clone() };
        let removed = self.grpc.call(remove, &self.headers()).await.map(drop);
        let deleted = self.grpc.call(delete, &self.headers()).await.map(drop);
        if let Err(error) = removed.and(deleted) {
            tracing::warn!(%error, lease = self.lease, "a lease stays until it expires");
        }
    }

    /// Key of the view of its snapshots.
    fn view(&self) -> String {
        format!("{}-view", self.lease)
    }

    fn headers(&self) -> [(&'static str, &str); 2] {
        [(NAMESPACE, &self.namespace), (LEASE, &self.lease)]
    }
}

/// The directories of a read-only overlay, lowest first; of a single layer containerd binds its directory.
fn directories(mount: &Mount) -> Result<Vec<PathBuf>, RuntimeError> {
    let lower = mount.options.iter().find_map(|option| option.strip_prefix("lowerdir="));
    match (mount.kind.as_str(), lower) {
        ("bind", _) => Ok(vec![PathBuf::from(&mount.source)]),
        // Written highest first.
        ("overlay", Some(lower)) if !lower.contains('\\') => Ok(lower.rsplit(':').map(PathBuf::from).collect()),
        (kind, _) => Err(RuntimeError::failed(CONTAINERD, format_args!("a snapshot is mounted as {kind:?}"))),
    }
}

/// Content of the store as it comes.
#[derive(Debug)]
pub struct BlobStream {
    pieces: Answers<Piece>,
    offset: i64,
}

impl BlobStream {
    /// The next piece; nothing at the end.
    ///
    /// # Errors
    /// When containerd fails, or sends other bytes than those that come next.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RuntimeError> {
        let Some(piece) = self.pieces.next().await? else { return Ok(None) };
        if piece.offset != self.offset {
            let why = format_args!("content comes from offset {}, not {}", piece.offset, self.offset);
            return Err(RuntimeError::failed(CONTAINERD, why));
        }
        self.offset = self.offset.saturating_add(i64::try_from(piece.data.len()).unwrap_or(i64::MAX));
        Ok(Some(piece.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Mount { kind: kind.to_owned(), source: source.to_owned(), options }
    }

    #[test]
    fn layers_of_a_mount_come_lowest_first() {
        let overlay = mount("overlay", "overlay", &["index=off", "lowerdir=/s/3/fs:/s/2/fs:/s/1/fs"]);
        assert_eq!(directories(&overlay).unwrap(), ["/s/1/fs", "/s/2/fs", "/s/3/fs"].map(PathBuf::from));
        let single = mount("bind", "/s/1/fs", &["ro", "rbind"]);
        assert_eq!(directories(&single).unwrap(), [PathBuf::from("/s/1/fs")]);
        assert!(directories(&mount("erofs", "/s/1", &[])).is_err());
    }
}
