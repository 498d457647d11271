//! PAX extended headers: `LENGTH KEY=VALUE\n`, the length counting itself, values binary.

use crate::error::IndexError;

/// The values of a PAX header that are used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size_bytes: Option<u64>,
    /// Records of GNU sparse files, without the prefix `GNU.sparse.`, in order: some occur many times.
    pub(super) sparse: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pax {
    /// Parses a header. Of a key that occurs twice the last value counts; an empty value restores the header block's.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, IndexError> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(IndexError::Tar("malformed PAX header"))?;
            pax.take(key, value)?;
            bytes = rest;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        let text = || Some(value.to_vec()).filter(|value| !value.is_empty());
        match key {
            b"path" | b"linkpath" if value.contains(&0) => return Err(IndexError::Tar("a PAX path contains NUL")),
            b"path" => self.path = text(),
            b"linkpath" => self.target = text(),
            b"size" if value.is_empty() => self.size_bytes = None,
            b"size" => self.size_bytes = Some(number(value)?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.push((key.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// The last value of a sparse record; empty when there is none.
    pub(super) fn sparse_value(&self, key: &str) -> &[u8] {
        let last = self.sparse.iter().rev().find(|(name, _)| name == key.as_bytes());
        last.map(|(_, value)| value.as_slice()).unwrap_or_default()
    }
}

/// A decimal number.
pub(super) fn number(digits: &[u8]) -> Result<u64, IndexError> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|number| i64::try_from(*number).is_ok())
        .ok_or(IndexError::Tar("a PAX number is malformed"))
}

/// The first record, and the bytes after it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(bytes.get(..space)?).ok()?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let text = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (key, value) = text.split_at_checked(equals)?;
    Some((Some(key).filter(|key| !key.is_empty())?, value.get(1..)?, rest))
}
