//! Checks the limits of a collector's records. The tables in `schemas/generate` define the limit of each field; the
//! checks generated from them are beside the structs. A record within the limits leads to a finding of some 100 KiB at
//! most: escaped and in base64 a path or argument vector is at most six times as long as its bytes.

use std::collections::BTreeMap;

use super::ExecEvent;
use crate::args::Args;
use crate::codec::DecodeError;
use crate::ids::{ContainerId, EventId, ImageId};

/// A record's name, for the error about a field over its limit.
#[derive(Clone, Copy)]
pub(super) struct Of(&'static str);

impl Of {
    /// Checks the number of bytes of a field.
    pub(super) fn bytes(self, field: &'static str, value: &impl Measured, limit: usize) -> Result<(), DecodeError> {
        self.at_most(field, value.bytes(), limit)
    }

    /// Checks the number of items of a field.
    pub(super) fn items<T>(self, field: &'static str, items: &[T], limit: usize) -> Result<(), DecodeError> {
        self.at_most(field, items.len(), limit)
    }

    /// Checks the length of each item of a field.
    pub(super) fn each<T: Measured>(self, field: &'static str, items: &[T], limit: usize) -> Result<(), DecodeError> {
        self.at_most(field, items.iter().map(Measured::bytes).max().unwrap_or(0), limit)
    }

    fn at_most(self, field: &'static str, length: usize, limit: usize) -> Result<(), DecodeError> {
        if length > limit { Err(DecodeError::OverLimit { record: self.0, field, limit }) } else { Ok(()) }
    }
}

/// A record, or a value that contains records, with limits.
pub(super) trait Bounded {
    fn check(&self, of: Of) -> Result<(), DecodeError>;
}

impl<T: Bounded> Bounded for Option<T> {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        self.iter().try_for_each(|it| it.check(of))
    }
}

impl<T: Bounded> Bounded for Vec<T> {
    fn check(&self, of: Of) -> Result<(), DecodeError> {
        self.iter().try_for_each(|it| it.check(of))
    }
}

pub(super) fn check(event: &ExecEvent) -> Result<(), DecodeError> {
    match event {
        ExecEvent::Exec(exec) => exec.check(Of("Exec")),
        ExecEvent::Seen(seen) => seen.check(Of("ContainerSeen")),
        ExecEvent::Ended(ended) => ended.check(Of("ContainerEnded")),
        ExecEvent::Loss(loss) => loss.check(Of("CollectorLoss")),
        ExecEvent::Throttled(throttled) => throttled.check(Of("ContainerThrottled")),
    }
}

/// A value with a length: the number of its bytes, or the sum over its parts.
pub(super) trait Measured {
    fn bytes(&self) -> usize;
}

impl Measured for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Measured for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl<T: Measured> Measured for Option<T> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Measured::bytes)
    }
}

impl Measured for Vec<String> {
    fn bytes(&self) -> usize {
        self.iter().map(String::len).sum()
    }
}

impl Measured for BTreeMap<String, String> {
    fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// An argument counts with the NUL that terminates it.
impl Measured for Args {
    fn bytes(&self) -> usize {
        self.terminated_len()
    }
}

macro_rules! ids {
    ($($id:ty),*) => {
        $(impl Measured for $id {
            fn bytes(&self) -> usize {
                self.as_str().len()
            }
        })*
    };
}

ids!(ContainerId, EventId, ImageId);
