//! A stack of layers, its bytes, and its form in a report.

use std::fmt;
use std::io::Write as _;

use driftline_schemas::Sha256;

use crate::member::{Kind, Member};
use crate::rule::Rule;

/// The layers of one image, lowest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stack {
    pub(crate) layers: Vec<Layer>,
}

/// One layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) members: Vec<Member>,
    pub(crate) end: End,
    pub(crate) stored: Stored,
    /// The rules that the layer as a whole exercises.
    pub(crate) rules: Vec<Rule>,
}

/// The bytes after the last member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Two blocks of zeros.
    Mark,
    /// Two blocks of zeros, then bytes that belong only to the digest.
    MarkAndMore,
    Nothing,
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Plain,
    Gzip,
    GzipMembers,
    Zstd,
}

impl Layer {
    pub(crate) fn new(stored: Stored, end: End) -> Self {
        Self { members: Vec::new(), end, stored, rules: Vec::new() }
    }

    /// The tar stream.
    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut tar: Vec<u8> = self.members.iter().flat_map(Member::bytes).collect();
        match self.end {
            End::Mark => tar.extend([0; 1024]),
            End::MarkAndMore => {
                tar.extend([0; 1024]);
                tar.extend(b"behind the end mark, not a member ".iter().cycle().take(1536));
            }
            // Some readers do not accept an empty stream as an archive.
            End::Nothing if tar.is_empty() => tar.extend([0; 1024]),
            End::Nothing => {}
        }
        tar
    }
}

impl Stored {
    /// The tar stream as a blob.
    pub(crate) fn blob(self, tar: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(tar.to_vec()),
            Self::Gzip => gzip(tar),
            Self::GzipMembers => {
                let (first, second) = tar.split_at(tar.len() / 2);
                Ok([gzip(first)?, gzip(b"")?, gzip(second)?].concat())
            }
            Self::Zstd => zstd::encode_all(tar, 1),
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip | Self::GzipMembers => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

fn gzip(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content)?;
    encoder.finish()
}

/// Bytes as text in which each of them is visible.
pub(crate) fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The first digits of a digest.
pub(crate) fn short(digest: &Sha256) -> String {
    digest.to_string().chars().take(12).collect()
}

impl fmt::Display for Stack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, layer) in self.layers.iter().enumerate() {
            writeln!(out, "  layer {number}, {:?}, end {:?}", layer.stored, layer.end)?;
            for member in &layer.members {
                writeln!(out, "    {member}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Member {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.kind {
            Kind::File(content) => format!("file {} {}", content.len(), short(&Sha256::of(content))),
            Kind::Directory => "directory".to_owned(),
            Kind::Symlink(target) => format!("symlink to {}", shown(target)),
            Kind::HardLink(target) => format!("hard link to {}", shown(target)),
            Kind::Fifo => "fifo".to_owned(),
            Kind::CharDevice => "character device".to_owned(),
            Kind::BlockDevice => "block device".to_owned(),
        };
        write!(out, "{:40} {:04o} {:?} {what}", shown(&self.path), self.mode, self.form)
    }
}
