//! Messages of containerd's services, version 1, with the fields that are used. Numbers are those of its `.proto` files
//! (`api/services` and `api/types` of containerd 1.6 to 2.1, which do not differ in them).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::grpc::Question;

/// Binds a request to its method and answer.
macro_rules! question {
    ($question:ty, $method:literal, $answer:ty) => {
        impl Question for $question {
            const METHOD: &'static str = concat!("/containerd.services.", $method);
            type Answer = $answer;
        }
    };
}

question!(VersionRequest, "version.v1.Version/Version", VersionResponse);
question!(ListNamespaces, "namespaces.v1.Namespaces/List", Namespaces);
question!(ListImages, "images.v1.Images/List", Images);
question!(GetContent, "content.v1.Content/Info", ContentAnswer);
question!(ListContent, "content.v1.Content/List", Contents);
question!(ReadContent, "content.v1.Content/Read", Piece);
question!(CreateLease, "leases.v1.Leases/Create", Empty);
question!(PinResource, "leases.v1.Leases/AddResource", Empty);
question!(DeleteLease, "leases.v1.Leases/Delete", Empty);
question!(ViewSnapshot, "snapshots.v1.Snapshots/View", Mounts);
question!(Subscribe, "events.v1.Events/Subscribe", Envelope);
question!(RemoveSnapshot, "snapshots.v1.Snapshots/Remove", Empty);

/// An answer that is not read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionResponse {
    #[prost(string, tag = "1")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListNamespaces {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    pub(super) namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Namespace {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListImages {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Images {
    #[prost(message, repeated, tag = "1")]
    pub(super) images: Vec<ImageEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ImageEntry {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "3")]
    pub(super) target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "1")]
    pub(super) media_type: String,
    #[prost(string, tag = "2")]
    pub(super) digest: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetContent {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContentAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<ContentInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContentInfo {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListContent {
    /// Any of them has to match.
    #[prost(string, repeated, tag = "1")]
    pub(super) filters: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Contents {
    #[prost(message, repeated, tag = "1")]
    pub(super) infos: Vec<ContentInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadContent {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Piece {
    #[prost(int64, tag = "1")]
    pub(super) offset: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) data: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateLease {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PinResource {
    #[prost(string, tag = "1")]
    pub(super) lease: String,
    #[prost(message, optional, tag = "2")]
    pub(super) resource: Option<Resource>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) kind: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteLease {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ViewSnapshot {
    #[prost(string, tag = "1")]
    pub(super) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(super) key: String,
    #[prost(string, tag = "3")]
    pub(super) parent: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Mounts {
    #[prost(message, repeated, tag = "1")]
    pub(super) mounts: Vec<Mount>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Mount {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) source: String,
    #[prost(string, repeated, tag = "4")]
    pub(super) options: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RemoveSnapshot {
    #[prost(string, tag = "1")]
    pub(super) snapshotter: String,
    #[prost(string, tag = "2")]
    pub(super) key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Subscribe {
    /// Any of them has to match.
    #[prost(string, repeated, tag = "1")]
    pub(crate) filters: Vec<String>,
}

/// An event. Only that it came is of interest.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Envelope {}
