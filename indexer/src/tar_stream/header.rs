//! The fields of a header block, as Go's `archive/tar` reads them: a blank number is 0, a large one is binary, and the
//! position of a path's prefix depends on the program that wrote the block.

use tar::Header;

/// Fields of a block: first byte and the byte after the last.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 108);
const SIZE: (usize, usize) = (124, 136);
const CHECKSUM: (usize, usize) = (148, 156);
const TYPE_FLAG: usize = 156;
const LINK_NAME: (usize, usize) = (157, 257);
const MAGIC: (usize, usize) = (257, 263);
const VERSION: (usize, usize) = (263, 265);
const PREFIX: (usize, usize) = (345, 500);
/// In GNU's form these fields replace the prefix.
const ACCESS_TIME: (usize, usize) = (345, 357);
const CHANGE_TIME: (usize, usize) = (357, 369);
/// Schily's form has a shorter prefix, and a mark at the end of the block.
const STAR_PREFIX: (usize, usize) = (345, 476);
const TRAILER: (usize, usize) = (508, 512);

/// The type of the member; the `tar` crate takes the oldest form of a file for the current one.
pub(super) fn type_flag(header: &Header) -> u8 {
    header.as_bytes().get(TYPE_FLAG).copied().unwrap_or_default()
}

/// Length of the member's data.
pub(super) fn size(header: &Header) -> Option<u64> {
    number(field(header, SIZE))
}

/// Mode, including bits that are not permissions.
pub(super) fn mode(header: &Header) -> Option<u64> {
    number(field(header, MODE))
}

/// Target of a link; `None` when it is empty.
pub(super) fn link_name(header: &Header) -> Option<Vec<u8>> {
    Some(text(field(header, LINK_NAME)).to_vec()).filter(|name| !name.is_empty())
}

/// The path with its prefix.
pub(super) fn path(header: &Header) -> Vec<u8> {
    let name = text(field(header, NAME));
    match prefix(header) {
        b"" => name.to_vec(),
        prefix => [prefix, b"/", name].concat(),
    }
}

fn prefix(header: &Header) -> &[u8] {
    let long = text(field(header, PREFIX));
    match (field(header, MAGIC), field(header, VERSION)) {
        (b"ustar\0", _) if field(header, TRAILER) == b"tar\0" => text(field(header, STAR_PREFIX)),
        (b"ustar\0", _) => long,
        // Go itself once wrote prefixes into GNU headers, and still reads them where the times are not valid.
        (b"ustar ", b" \0") if !has_times(header) && long.is_ascii() => long,
        _ => b"",
    }
}

fn has_times(header: &Header) -> bool {
    [ACCESS_TIME, CHANGE_TIME].into_iter().all(|time| {
        let time = field(header, time);
        time.first() == Some(&0) || is_number(time)
    })
}

/// The sum of all bytes, the checksum's own counted as spaces; some old writers added signed bytes.
pub(super) fn checksum_fits(header: &Header) -> bool {
    let Some(stated) = octal(field(header, CHECKSUM)) else { return false };
    let (from, to) = CHECKSUM;
    let bytes = || (0..).zip(header.as_bytes()).map(|(at, byte)| if (from..to).contains(&at) { b' ' } else { *byte });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    [unsigned, signed].into_iter().any(|sum| u64::try_from(sum) == Ok(stated))
}

/// Octal digits, or binary when the first bit is set. `None` when the number is negative, or larger than a file can be.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    let number = match field {
        [first, ..] if first & 0xc0 == 0xc0 => None,
        [first, rest @ ..] if first & 0x80 != 0 => {
            let start = u64::from(first & 0x7f);
            rest.iter().try_fold(start, |sum, byte| Some(sum.checked_mul(256)? | u64::from(*byte)))
        }
        _ => octal(field),
    };
    number.filter(|number| i64::try_from(*number).is_ok())
}

/// Whether Go parses the field as a number, negative ones included.
fn is_number(field: &[u8]) -> bool {
    match field {
        [first, rest @ ..] if first & 0xc0 == 0xc0 => {
            // Beyond eight bytes only the sign may follow.
            let (high, low) = rest.split_at(rest.len().saturating_sub(8));
            *first == 0xff && high.iter().all(|byte| *byte == 0xff) && low.first().is_some_and(|byte| byte & 0x80 != 0)
        }
        _ => number(field).is_some() || octal(field).is_some(),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let from = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let to = field.iter().rposition(|byte| !is_padding(byte)).map_or(from, |last| last + 1);
    text(field.get(from..to)?).iter().try_fold(0, |sum: u64, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        sum.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

fn field(header: &Header, (from, to): (usize, usize)) -> &[u8] {
    header.as_bytes().get(from..to).unwrap_or_default()
}

/// The text up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}
