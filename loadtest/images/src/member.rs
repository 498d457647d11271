//! Members of a layer and their bytes in a tar stream, written here byte by byte: no single library writes all forms
//! that archives may have.

use crate::rule::Rule;

const BLOCK_BYTES: usize = 512;

/// A member of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// As written in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) form: Form,
    /// The rules that its presence exercises.
    pub(crate) rules: Vec<Rule>,
}

/// The kind of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    CharDevice,
    BlockDevice,
}

/// The form of a member, where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// GNU header; long names and targets use long name and long link members.
    Gnu,
    /// Path and link target in PAX records; the header has others.
    Pax,
    /// Size in a PAX record; the header has 0.
    PaxSize,
    /// Path cut into the two fields of ustar.
    UstarPrefix,
    /// A directory in the form before POSIX: a file whose name ends in a slash.
    OldDirectory,
    SparsePax00,
    SparsePax01,
    SparsePax10,
}

impl Member {
    pub(crate) fn new(path: &[u8], kind: Kind) -> Self {
        let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        Self { path: path.to_vec(), kind, mode, form: Form::Gnu, rules: Vec::new() }
    }

    pub(crate) fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    pub(crate) fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The member's headers, data and padding.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self.form {
            Form::Gnu => self.gnu(),
            Form::Pax => self.pax(),
            Form::PaxSize => {
                let size = self.data().len().to_string();
                let header = self.header(&self.path, self.link()).size(0);
                [pax_member(&[("size", size.as_bytes())]), header.finish(), padded(self.data())].concat()
            }
            Form::UstarPrefix => self.ustar(),
            Form::OldDirectory => {
                let path = [self.path.as_slice(), b"/"].concat();
                self.header(&path, b"").kind(0).finish()
            }
            Form::SparsePax00 | Form::SparsePax01 | Form::SparsePax10 => self.sparse_pax(),
        }
    }

    fn data(&self) -> &[u8] {
        match &self.kind {
            Kind::File(content) => content,
            _ => b"",
        }
    }

    fn link(&self) -> &[u8] {
        match &self.kind {
            Kind::Symlink(target) | Kind::HardLink(target) => target,
            _ => b"",
        }
    }

    /// A header for this member, without its checksum.
    fn header(&self, path: &[u8], link: &[u8]) -> Block {
        let kind = match self.kind {
            Kind::File(_) => b'0',
            Kind::HardLink(_) => b'1',
            Kind::Symlink(_) => b'2',
            Kind::CharDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        // The memory device 1:3, as in /dev/null, and the loop device 7:0 exist everywhere.
        let (major, minor) = match self.kind {
            Kind::CharDevice => (1, 3),
            Kind::BlockDevice => (7, 0),
            _ => (0, 0),
        };
        let magic: &[u8] = if self.form == Form::Gnu { b"ustar  \0" } else { b"ustar\x0000" };
        Block::new()
            .put(0, path.get(..100).unwrap_or(path))
            .octal(100, 8, u64::from(self.mode))
            .octal(108, 8, 0)
            .octal(116, 8, 0)
            .size(self.data().len())
            .octal(136, 12, 1_700_000_000)
            .kind(kind)
            .put(157, link.get(..100).unwrap_or(link))
            .put(257, magic)
            .octal(329, 8, major)
            .octal(337, 8, minor)
    }

    fn gnu(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, text) in [(b'L', self.path.as_slice()), (b'K', self.link())] {
            if text.len() > 100 {
                let data = [text, b"\0"].concat();
                let header = Block::new().put(0, b"././@LongLink").octal(100, 8, 0o644).size(data.len()).kind(kind);
                bytes
                    .extend(header.octal(108, 8, 0).octal(116, 8, 0).octal(136, 12, 0).put(257, b"ustar  \0").finish());
                bytes.extend(padded(&data));
            }
        }
        bytes.extend(self.header(&self.path, self.link()).finish());
        bytes.extend(padded(self.data()));
        bytes
    }

    fn pax(&self) -> Vec<u8> {
        let mut records = vec![("path", self.path.as_slice())];
        if !self.link().is_empty() {
            records.push(("linkpath", self.link()));
        }
        let link: &[u8] = if self.link().is_empty() { b"" } else { b"not/the/target" };
        let header = self.header(b"not/the/path", link);
        [pax_member(&records), header.finish(), padded(self.data())].concat()
    }

    fn ustar(&self) -> Vec<u8> {
        // The last slash with text on both sides; a leading slash would be lost between the two fields.
        let cut = self.path.iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0 && *at <= 155);
        let Some((prefix, name)) = cut.and_then(|at| self.path.split_at_checked(at)) else { return self.gnu() };
        let Some(name) = name.strip_prefix(b"/").filter(|name| !name.is_empty() && name.len() <= 100) else {
            return self.gnu();
        };
        [self.header(name, self.link()).put(345, prefix).finish(), padded(self.data())].concat()
    }

    fn sparse_pax(&self) -> Vec<u8> {
        let (parts, stored) = sparse_parts(self.data());
        let size = self.data().len().to_string();
        let count = parts.len().to_string();
        let numbers: Vec<(String, String)> = parts.iter().map(|(at, len)| (at.to_string(), len.to_string())).collect();
        let flat: Vec<&str> = numbers.iter().flat_map(|(at, length)| [at.as_str(), length.as_str()]).collect();
        let map = flat.join(",");
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        let mut stored = stored;
        if self.form == Form::SparsePax10 {
            records.extend([("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0")]);
            records.extend([("GNU.sparse.name", self.path.as_slice()), ("GNU.sparse.realsize", size.as_bytes())]);
            let lines = padded(format!("{count}\n{}\n", flat.join("\n")).as_bytes());
            stored = [lines, stored].concat();
        } else {
            records.extend([("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.numblocks", count.as_bytes())]);
            if self.form == Form::SparsePax00 {
                for (at, length) in &numbers {
                    records.extend([("GNU.sparse.offset", at.as_bytes()), ("GNU.sparse.numbytes", length.as_bytes())]);
                }
            } else {
                records.extend([("GNU.sparse.name", self.path.as_slice()), ("GNU.sparse.map", map.as_bytes())]);
            }
        }
        // Form 0.0 has no separate name.
        let name = if self.form == Form::SparsePax00 { self.path.as_slice() } else { b"GNUSparseFile.0/placeholder" };
        let header = self.header(name, b"").size(stored.len());
        [pax_member(&records), header.finish(), padded(&stored)].concat()
    }
}

/// A header block while it is written.
struct Block([u8; BLOCK_BYTES]);

impl Block {
    fn new() -> Self {
        Self([0; BLOCK_BYTES])
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
        self
    }

    /// A number in octal digits, as wide as the field less its NUL.
    fn octal(self, at: usize, width: usize, number: u64) -> Self {
        let digits = width.saturating_sub(1);
        self.put(at, format!("{number:0digits$o}\0").as_bytes())
    }

    fn size(self, bytes: usize) -> Self {
        self.octal(124, 12, bytes as u64)
    }

    fn kind(self, kind: u8) -> Self {
        self.put(156, &[kind])
    }

    fn finish(self) -> Vec<u8> {
        let with_spaces = self.put(148, b"        ");
        let sum: u64 = with_spaces.0.iter().copied().map(u64::from).sum();
        with_spaces.put(148, format!("{sum:06o}\0 ").as_bytes()).0.to_vec()
    }
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize(data.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

fn pax_member(records: &[(&str, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
    let header = Block::new().put(0, b"PaxHeaders.0/x").octal(100, 8, 0o644).octal(108, 8, 0).octal(116, 8, 0);
    let header = header.size(data.len()).octal(136, 12, 0).kind(b'x').put(257, b"ustar\x0000").finish();
    [header, padded(&data)].concat()
}

/// `LENGTH KEY=VALUE\n`, where the length includes its own digits.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (1..20).find(|digits| (rest + digits).to_string().len() == *digits).unwrap_or(1);
    [format!("{} {key}=", rest + digits).as_bytes(), value, b"\n"].concat()
}

/// The positions of the blocks of a content that are not zeros, and these blocks one after the other. An empty part
/// marks a hole at the end, as in GNU tar.
fn sparse_parts(content: &[u8]) -> (Vec<(usize, usize)>, Vec<u8>) {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let mut stored = Vec::new();
    for (at, block) in (0..).step_by(BLOCK_BYTES).zip(content.chunks(BLOCK_BYTES)) {
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        stored.extend_from_slice(block);
        match parts.last_mut() {
            Some((start, length)) if *start + *length == at => *length += block.len(),
            _ => parts.push((at, block.len())),
        }
    }
    if parts.last().is_none_or(|(start, length)| start + length < content.len()) {
        parts.push((content.len(), 0));
    }
    (parts, stored)
}
