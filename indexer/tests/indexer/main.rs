//! The indexer against images as tools write them, against images as nobody should write them, and as a service.
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
