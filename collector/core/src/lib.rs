//! Pure part of the collector: the kernel's raw records become exec events.
//!
//! [`Node`] owns all state of one node; the shell feeds it records, descriptions, digests and time, and carries out what
//! it asks. [`RawExec::decode`] reads a record, [`class`] says where a file lives, [`event`] puts the result together,
//! [`spool`] keeps account of what Kafka has not acknowledged.
//!
//! What is deliberately absent: files, sockets, clocks, threads. Each can be slow or lie; here everything is data.

pub mod class;
pub mod container;
pub mod digest;
pub mod environment;
pub mod event;
pub mod layout;
pub mod limits;
pub mod mounts;
pub mod node;
pub mod openings;
pub mod programs;
pub mod raw;
pub mod redaction;
pub mod spool;
pub mod subject;

pub use class::{ContainerRoot, NamedFacts};
pub use digest::{Crossing, Digest, DigestJob, DigestOutcome, DigestSubject, LoaderJob};
pub use mounts::Mounts;
pub use node::{Ask, Description, Input, Inspection, Loss, Node, NodeSettings, Placement, Records};
pub use raw::{Dev, KnownFile, Moment, Packed, RawExec, RawFile};
pub use subject::Subject;
