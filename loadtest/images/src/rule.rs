//! The rules of unpacking that stacks must exercise. A run counts how often each rule changed the view of an image.

use std::collections::BTreeMap;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal,)*) => {
        /// A rule, or a form of the archive, that affects the view of an image.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Rule { $($(#[$doc])* $rule,)* }

        impl Rule {
            /// All rules.
            pub(crate) const ALL: &[Self] = &[$(Self::$rule,)*];

            /// The name as printed.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }
        }
    };
}

rules! {
    WhiteoutOfFile = "whiteout of a file",
    WhiteoutOfDirectory = "whiteout of a directory",
    WhiteoutOfSymlink = "whiteout of a symlink",
    WhiteoutBeforeSibling = "whiteout before its siblings",
    WhiteoutAfterSibling = "whiteout after its siblings",
    WhiteoutAndOwnFile = "whiteout of what the layer has anew",
    WhiteoutAndOwnDirectory = "whiteout of what the layer has as directory",
    WhiteoutBelowSymlink = "whiteout below a symlinked directory",
    OpaqueFirst = "opaque mark before the children",
    OpaqueLast = "opaque mark after the children",
    OpaqueAlone = "opaque mark without its directory",
    HardLinkOwn = "hard link within a layer",
    HardLinkChain = "hard link to a hard link",
    HardLinkReplaced = "hard link, then its target replaced",
    HardLinkLower = "hard link into a lower layer",
    HardLinkLowerHidden = "hard link to what its layer hides",
    HardLinkLowerReplaced = "hard link below, target replaced, refused",
    HardLinkSymlink = "hard link to a symlink",
    OwnSymlinkedParent = "entry through a symlink of its layer",
    LowerSymlinkedParent = "entry through a symlink of a lower layer",
    SymlinkRelative = "relative symlink",
    SymlinkAbsolute = "absolute symlink",
    SymlinkDangling = "dangling symlink",
    Device = "device",
    Fifo = "fifo",
    SparsePax00 = "sparse file, PAX 0.0",
    SparsePax01 = "sparse file, PAX 0.1",
    SparsePax10 = "sparse file, PAX 1.0",
    GnuLongName = "GNU long name",
    GnuLongLink = "GNU long link",
    PaxPath = "PAX path",
    PaxLinkPath = "PAX linkpath",
    PaxSize = "PAX size over header size",
    UstarPrefix = "ustar prefix",
    OldDirectory = "directory by its slash",
    FileFile = "twice in a layer: file, file",
    DirectoryFile = "twice in a layer: directory, file",
    FileDirectory = "twice in a layer: file, directory",
    SymlinkDirectory = "twice in a layer: symlink, directory",
    SymlinkFile = "twice in a layer: symlink, file",
    FileSymlink = "twice in a layer: file, symlink",
    NotUtf8 = "name that is not UTF-8",
    ControlCharacters = "name with control characters",
    DotPrefix = "path with ./",
    AbsolutePrefix = "absolute path",
    DoubledSlash = "doubled slashes",
    DotDot = "path with .., refused",
    FileOverDirectory = "file over a lower directory",
    SymlinkOverDirectory = "symlink over a lower directory",
    DirectoryOverFile = "directory over a lower file",
    DirectoryOverSymlink = "directory over a lower symlink",
    DirectoryOverDirectory = "directory over a lower directory",
    MissingParents = "missing parent directories",
    SpecialModes = "setuid, setgid, sticky",
    EmptyFile = "empty file",
    SameContent = "same content at many paths",
    EmptyLayer = "empty layer",
    SameLayerTwice = "same layer twice, hidden in between",
    NoEndMark = "no end mark",
    BehindTheEnd = "bytes behind the end mark",
    Plain = "layer stored plain",
    Gzip = "layer stored as gzip",
    GzipMembers = "layer stored as gzip of several members",
    Zstd = "layer stored as zstd",
}

/// The number of hits of each rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hits(BTreeMap<Rule, u64>);

impl Hits {
    pub(crate) fn count(&mut self, rule: Rule) {
        *self.0.entry(rule).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (rule, count) in &other.0 {
            *self.0.entry(*rule).or_default() += count;
        }
    }

    pub(crate) fn of(&self, rule: Rule) -> u64 {
        self.0.get(&rule).copied().unwrap_or(0)
    }
}
