//! Tests the indexer on images as tools write them, on malformed images, and as a service.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod containerd;
mod engines;
mod hostile;
mod node;
mod oci;
mod reasons;
mod registry;
mod sources;
mod tools;
