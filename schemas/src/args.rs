//! An argument vector in one buffer. Called wherever the arguments of an exec are decoded, held or encoded.

use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

use crate::memory::HeapBytes;

/// The arguments of a program: raw bytes, `argv[0]` first. In Avro an array of `bytes`.
///
/// One buffer holds the bytes of all arguments, and a second one their end positions: an argument costs four bytes
/// beside its own, where a separate buffer would cost some sixty. Neither buffer has spare capacity, so [`HeapBytes`]
/// is exact.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Args {
    bytes: Box<[u8]>,
    ends: Box<[u32]>,
}

impl Args {
    /// Parses arguments as the kernel stores them: each is terminated by NUL, which the last one may lack.
    #[must_use]
    pub fn of_terminated(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        bytes.strip_suffix(&[0]).unwrap_or(bytes).split(|byte| *byte == 0).collect()
    }

    /// Number of arguments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no arguments.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The argument at index `number`.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&[u8]> {
        let end = *self.ends.get(number)?;
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start as usize..end as usize)
    }

    /// All arguments, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|number| self.get(number).unwrap_or_default())
    }

    /// Bytes of all arguments, each counted with the NUL that terminates it in a process's memory.
    #[must_use]
    pub fn terminated_len(&self) -> usize {
        self.bytes.len() + self.len()
    }
}

impl<A: AsRef<[u8]>> FromIterator<A> for Args {
    fn from_iter<I: IntoIterator<Item = A>>(arguments: I) -> Self {
        let mut buffer = Buffer::default();
        arguments.into_iter().for_each(|argument| buffer.push(argument.as_ref()));
        buffer.finish()
    }
}

impl fmt::Debug for Args {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}

impl HeapBytes for Args {
    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.bytes) + size_of_val(&*self.ends)
    }
}

impl<const N: usize> PartialEq<[&[u8]; N]> for Args {
    fn eq(&self, other: &[&[u8]; N]) -> bool {
        *self == other.as_slice()
    }
}

impl PartialEq<[&[u8]]> for Args {
    fn eq(&self, other: &[&[u8]]) -> bool {
        self.iter().eq(other.iter().copied())
    }
}

impl PartialEq<&[&[u8]]> for Args {
    fn eq(&self, other: &&[&[u8]]) -> bool {
        *self == **other
    }
}

/// Collects arguments before they become [`Args`].
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Buffer {
    /// Appends an argument. Its end always fits: no source has 4 GiB, the longest has a megabyte.
    fn push(&mut self, argument: &[u8]) {
        self.bytes.extend_from_slice(argument);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    fn finish(self) -> Args {
        Args { bytes: self.bytes.into_boxed_slice(), ends: self.ends.into_boxed_slice() }
    }
}

impl Serialize for Args {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(serde_bytes::Bytes::new))
    }
}

impl<'de> Deserialize<'de> for Args {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Buffer::default())
    }
}

impl<'de> Visitor<'de> for Buffer {
    type Value = Args;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<Args, A::Error> {
        while sequence.next_element_seed(Next(&mut self))?.is_some() {}
        Ok(self.finish())
    }
}

/// Decodes the next argument directly into the buffer.
struct Next<'a>(&'a mut Buffer);

impl<'de> DeserializeSeed<'de> for Next<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Next<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, argument: &[u8]) -> Result<(), E> {
        self.0.push(argument);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_out_as_they_went_in() {
        let check = |arguments: &[&[u8]]| {
            let args: Args = arguments.iter().collect();
            assert_eq!(args, arguments);
            assert_eq!((args.len(), args.is_empty()), (arguments.len(), arguments.is_empty()));
            assert_eq!(args.get(arguments.len()), None);
            let json = serde_json::to_string(&args).unwrap();
            let plain: Vec<_> = arguments.iter().map(|argument| serde_bytes::Bytes::new(argument)).collect();
            assert_eq!(json, serde_json::to_string(&plain).unwrap(), "the same form as a vector of bytes");
        };
        check(&[]);
        check(&[b""]);
        check(&[b"", b"", b""]);
        check(&[b"ls", b"-l", b"", b"a\0b", b"\xff"]);
    }

    #[test]
    fn no_arguments_and_empty_arguments_differ() {
        let check = |bytes: &[u8], expect: &[&[u8]]| assert_eq!(Args::of_terminated(bytes), expect);
        check(b"", &[]);
        check(b"\0", &[b""]);
        check(b"a\0b", &[b"a", b"b"]);
        check(b"a\0b\0\0", &[b"a", b"b", b""]);
    }

    #[test]
    fn many_short_arguments_take_four_bytes_each_beside_their_own() {
        let args: Args = std::iter::repeat_n(b"x", 2_048).collect();
        assert_eq!((args.terminated_len(), args.heap_bytes()), (4_096, 2_048 + 4 * 2_048));
    }
}
