//! The data that the parts of driftline exchange: records, identifiers, topics and their limits.
//!
//! Every other package depends on this one, and this one depends on none of them. It is pure: no I/O, no clock.
//!
//! What is deliberately absent: Kafka (package `driftline-kafka`), and any decision about what a record means.

mod alert;
mod args;
mod codec;
pub mod correlator_state;
pub mod enricher_state;
mod exec_events;
mod finding;
mod ids;
mod images;
pub mod layer;
pub mod limits;
mod memory;
pub mod recording;
#[doc(hidden)]
pub mod testing;
pub mod text;
pub mod topics;

pub use alert::{Activity, Alert, AlertFinding, Contribution, Step};
pub use args::Args;
pub use codec::{
    DecodeError, EncodeError, Record, WriterSchema, WriterSchemas, decode, encode, fingerprint_of, writer_schema,
};
pub use exec_events::{
    Ancestor, CollectorLoss, Container, ContainerEnded, ContainerSeen, ContainerThrottled, ENGINE_INIT, Exec,
    ExecEvent, Fd, FdKind, FileClass, FileFacts, FoldedFile, HashState, Loader, Mount, MountNamespace, Node, Owner,
    Pod,
};
pub use finding::{
    ADDED_BINARY, ADDED_SCRIPT, AncestorProcess, CONTAINER_THROTTLED, Confidence, Descriptor, Finding, FindingState,
    IMAGE_CONFLICT, IMAGE_MISMATCH, Origin, Process, Severity, Subject, UNPROVEN_PROGRAM,
};
pub use ids::{
    AlertId, ContainerId, DiffId, EventId, ExecIdentity, FindingId, Fingerprint, IdError, ImageId, Sha256, is_digest,
};
pub use images::{
    Image, ImageEvent, ImageFailure, ImageRequest, LayerBasis, LayerChunk, LayerEvent, LayerHead, Platform,
    is_verified_source, node_of_source,
};
pub use memory::HeapBytes;
