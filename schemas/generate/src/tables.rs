//! The tables. `driftline-generate` writes every definition of these records from them.

use crate::table::Type::{Long, String};
use crate::table::{Limit, Record, Type};

pub(crate) mod container;
pub(crate) mod exec;
pub(crate) mod flags;

const EVENT_ID: Type = Type::As(&String, "EventId");
const CONTAINER_ID: Type = Type::As(&String, "ContainerId");
const IMAGE_ID: Type = Type::As(&String, "ImageId");
const SHA256: Type = Type::As(&String, "Sha256");
/// Ids of users and groups have 32 bits without a sign.
const UID: Type = Type::As(&Long, "u32");

const ID: &[Limit] = &[Limit::Bytes("ID_BYTES_MAX")];
const TEXT: &[Limit] = &[Limit::Bytes("TEXT_BYTES_MAX")];
const PATH: &[Limit] = &[Limit::Bytes("PATH_BYTES_MAX")];

/// The records of the exec-events topic that have a schema file each: its name, and the Rust module of the struct.
pub(crate) const SCHEMAS: [(&str, &str, &Record); 5] = [
    ("exec", "exec", &exec::EXEC),
    ("container_seen", "container", &container::CONTAINER_SEEN),
    ("container_ended", "container", &container::CONTAINER_ENDED),
    ("collector_loss", "container", &container::COLLECTOR_LOSS),
    ("container_throttled", "container", &container::CONTAINER_THROTTLED),
];
