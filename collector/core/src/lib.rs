//! Pure part of the collector: the kernel's raw records become exec events.
//!
//! [`ExecPipeline`] owns all state of one node; the shell feeds it records, descriptions, digests and time, and does what it
//! commands. [`RawExec::decode`] reads a record, [`class`] decides where a file lives, [`event`] puts the result together,
//! [`spool`] accounts for the records that Kafka has not acknowledged.
//!
//! What is deliberately absent: files, sockets, clocks, threads. Each can be slow or wrong; here everything is data.

pub mod cgroup;
pub mod class;
pub mod container_root;
pub mod digest;
pub mod environment;
pub mod event;
pub mod inner_mount;
mod interpreter;
pub mod layout;
pub mod limits;
pub mod mounts;
pub mod open_exec;
pub mod pipeline;
pub mod programs;
pub mod raw;
pub mod redaction;
pub mod spool;
pub mod subject;

pub use class::NamedFacts;
pub use container_root::ContainerRoot;
pub use digest::{Crossing, Digest, DigestJob, DigestOutcome, DigestSubject, LoaderJob};
pub use interpreter::Given;
pub use mounts::Mounts;
pub use pipeline::{
    Description, ExecPipeline, Input, Inspection, Loss, NodeSettings, PipelineCommand, Placement, Records,
};
pub use raw::{Dev, KnownFile, Moment, Packed, RawExec, RawFile};
pub use subject::Subject;
