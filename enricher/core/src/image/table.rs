//! A table of a block that finds records by a SHA-256, either of their path or of their content.
//!
//! The table holds places in order of their digests' first 32 bits. Before them it holds the start of each group of
//! equal first bits. There is one group for every one to two places, so a lookup touches three or four places of memory
//! where a binary search touches thirty. An image can choose colliding paths only by computing SHA-256 until they
//! collide, and within a group the lookup is a binary search.

/// The index is too large: it has more than 4 GiB of records, or a path or target longer than a kernel accepts.
#[derive(Debug)]
pub(super) struct TooLarge;

/// First bits of a digest, and the place of its record.
const PLACE_BYTES: usize = 8;
/// Start of a group.
const START_BYTES: usize = 4;

/// Most bytes of a table for each of its places, not counting one additional start.
pub(super) const BYTES_PER_PLACE: usize = PLACE_BYTES + START_BYTES;

/// A table within a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    bits: u32,
    starts: &'a [[u8; START_BYTES]],
    places: &'a [[u8; PLACE_BYTES]],
}

impl<'a> Table<'a> {
    /// Splits the table of `count` places from the beginning of `bytes`; returns it and the remaining bytes.
    pub(super) fn split(bytes: &'a [u8], count: usize) -> Option<(Self, &'a [u8])> {
        let bits = bits_for(count);
        let (starts, rest) = bytes.split_at_checked((1_usize << bits).checked_add(1)?.checked_mul(START_BYTES)?)?;
        let (places, rest) = rest.split_at_checked(count.checked_mul(PLACE_BYTES)?)?;
        Some((Self { bits, starts: starts.as_chunks().0, places: places.as_chunks().0 }, rest))
    }

    pub(super) fn count(self) -> usize {
        self.places.len()
    }

    /// Places of the records that may have this digest, in order.
    pub(super) fn find(self, digest: &[u8; 32]) -> impl Iterator<Item = usize> + use<'a> {
        let key = key(digest);
        let group = group(key, self.bits);
        let start = |group: usize| usize::try_from(u32::from_le_bytes(*self.starts.get(group)?)).ok();
        let range = start(group).zip(start(group + 1)).and_then(|(from, to)| self.places.get(from..to));
        let range = range.unwrap_or_default();
        let key_of = |place: &[u8; PLACE_BYTES]| field(place, 0).map(u32::from_le_bytes);
        let first = range.partition_point(|place| key_of(place) < Some(key));
        let same = range.get(first..).unwrap_or_default().iter();
        same.take_while(move |place| key_of(place) == Some(key))
            .filter_map(|place| usize::try_from(u32::from_le_bytes(field(place, 4)?)).ok())
    }
}

/// Appends the table of these digests and places.
pub(super) fn write(digests: impl Iterator<Item = ([u8; 32], u32)>, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let mut places: Vec<(u32, u32)> = digests.map(|(digest, number)| (key(&digest), number)).collect();
    places.sort_unstable();
    let bits = bits_for(places.len());
    let mut before = 0;
    for wanted in 0..=1_usize << bits {
        before +=
            places.get(before..).unwrap_or_default().iter().take_while(|(key, _)| group(*key, bits) < wanted).count();
        out.extend_from_slice(&number(before)?.to_le_bytes());
    }
    for (key, number) in places {
        out.extend_from_slice(&key.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    }
    Ok(())
}

/// Number of bits that select a group: there are as many groups as places, rounded down to a power of two.
fn bits_for(count: usize) -> u32 {
    count.max(1).ilog2().min(u32::BITS - 1)
}

fn group(key: u32, bits: u32) -> usize {
    key.checked_shr(u32::BITS - bits).and_then(|group| usize::try_from(group).ok()).unwrap_or(0)
}

fn key(digest: &[u8; 32]) -> u32 {
    field(digest, 0).map_or(0, u32::from_be_bytes)
}

/// The bytes of a field; `None` beyond the end.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn number(value: usize) -> Result<u32, TooLarge> {
    u32::try_from(value).map_err(|_| TooLarge)
}
