//! The evidence with which an exec is judged: what the kernel saw, and what the image contains.

use std::borrow::Cow;

use driftline_schemas::{Exec, FileClass, FileFacts, HashState, Mount, MountNamespace, Sha256};

/// The queries of detectors to an image.
pub trait ImageLookup {
    /// The image's regular file at a path; follows symlinks.
    fn file(&self, path: &[u8]) -> Option<FileContent>;

    /// The first path at which the image has a file with this content.
    fn path_of(&self, sha256: &Sha256) -> Option<&[u8]>;
}

/// A regular file of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileContent {
    /// Digest of its content.
    pub sha256: Sha256,
    /// Length of its content.
    pub size_bytes: u64,
}

/// Why a file was opened by an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The exec's subject: the script, the target of a dynamic loader, the program of an interpreter, or else the executable.
    Subject,
    /// What the kernel executed for the subject: an interpreter, or a dynamic loader.
    Interpreter,
}

/// One file of an exec as the node saw it.
#[derive(Debug, Clone, Copy)]
pub struct ExecutedFile<'a> {
    /// Why the exec opened it.
    pub role: Role,
    /// Its path in the container.
    pub path: &'a [u8],
    /// Where it is stored, relative to the container's root.
    pub class: FileClass,
    /// The facts that the kernel or the node reported about it; the default when there are none.
    pub facts: &'a FileFacts,
    /// The mount of the file, if that is not the container's root.
    pub mount: Option<&'a Mount>,
    /// Whether its digest is known, and if not, why not.
    pub hash_state: HashState,
    /// Its digest.
    pub sha256: Option<Sha256>,
}

/// A mount that was made inside the container and shows a directory of the container's own overlay.
#[derive(Debug, Clone, Copy)]
pub struct InnerMount<'a>(pub &'a Mount);

/// The image's file at a file's path, and the image's path with its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageEvidence<'a> {
    /// Whether the file's path can be a path of the image. A truncated path cannot. Nor can a path in a container
    /// inside the container, which has its own root; nor one below a mount of which the source is not known.
    pub is_image_path: bool,
    /// The image's file at the path.
    pub at_path: Option<FileContent>,
    /// A path at which the image has a file with the same content.
    pub same_content: Option<&'a [u8]>,
}

/// One file of an exec, with the evidence of the image or the reason why there is none.
#[derive(Debug, Clone, Copy)]
pub struct FileEvidence<'a> {
    /// The file.
    pub file: ExecutedFile<'a>,
    /// The evidence of the image; `Err` holds the reason why there is none.
    pub image: Result<ImageEvidence<'a>, &'a str>,
}

/// One exec, with evidence for each file that it executed.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The exec as the node recorded it.
    pub exec: &'a Exec,
    /// The file that the exec is about.
    pub subject: FileEvidence<'a>,
    /// The interpreter or loader of the subject, where it must be judged as well.
    pub interpreter: Option<FileEvidence<'a>>,
}

impl<'a> ExecutedFile<'a> {
    /// The file that the exec is about.
    #[must_use]
    pub fn subject(exec: &'a Exec) -> Self {
        Self {
            role: Role::Subject,
            path: exec.subject_path(),
            class: exec.class,
            facts: &exec.file,
            mount: exec.mount.as_ref(),
            hash_state: exec.hash_state,
            sha256: exec.sha256,
        }
    }

    /// The interpreter or loader of the subject, where it must be judged as well: the kernel does not show it to be an
    /// untouched file of the image.
    #[must_use]
    pub fn interpreter(exec: &'a Exec) -> Option<Self> {
        let loader = exec.loader.as_ref()?;
        Some(Self {
            role: Role::Interpreter,
            path: &exec.path,
            class: loader.class,
            facts: &loader.file,
            mount: loader.mount.as_ref(),
            hash_state: loader.hash_state,
            sha256: loader.sha256,
        })
    }

    /// Whether an interpreter was given it as its program; the kernel executed the interpreter only.
    #[must_use]
    pub fn is_given_to_an_interpreter(&self, exec: &Exec) -> bool {
        self.role == Role::Subject && exec.interpreted.is_some()
    }

    /// The mount by which a file of the container's own overlay was reached, where that is not the container's root: a node
    /// reports a mount of such a file only then.
    #[must_use]
    pub fn inner_mount(&self) -> Option<InnerMount<'a>> {
        // A script on the overlay has the class of a plain root.
        let is_own =
            matches!(self.class, FileClass::Image | FileClass::New | FileClass::CopiedUp | FileClass::RootfsPlain);
        self.mount.filter(|_| is_own).map(InnerMount)
    }

    /// Its path from the container's root, by whichever mount it was reached; `None` when that cannot be derived.
    fn path_from_root(&self) -> Option<Cow<'a, [u8]>> {
        match self.inner_mount() {
            None => Some(Cow::Borrowed(self.path)),
            Some(mount) => mount.path_from_root(self.path).map(Cow::Owned),
        }
    }

    /// The file with this role; the subject when the exec has none.
    #[must_use]
    pub fn with_role(exec: &'a Exec, role: Role) -> Self {
        let interpreter = if role == Role::Interpreter { Self::interpreter(exec) } else { None };
        interpreter.unwrap_or_else(|| Self::subject(exec))
    }
}

impl InnerMount<'_> {
    /// The path below the mount's source that a path below its mount point leads to.
    fn path_from_root(self, path: &[u8]) -> Option<Vec<u8>> {
        let without_slash = |directory: &'_ str| directory.trim_end_matches('/').as_bytes().to_vec();
        let below = path.strip_prefix(without_slash(&self.0.point).as_slice())?;
        let is_below = below.is_empty() || below.starts_with(b"/");
        let path = [without_slash(&self.0.source).as_slice(), below].concat();
        (is_below && path.starts_with(b"/") && !self.0.source.contains(char::REPLACEMENT_CHARACTER)).then_some(path)
    }
}

impl<'a> Evidence<'a> {
    /// Looks up each file of an exec in its container's image; `Err` holds the reason why there is no image.
    pub fn of<I: ImageLookup + ?Sized>(exec: &'a Exec, image: Result<&'a I, &'a str>) -> Self {
        let is_image_path = has_image_path(exec);
        let look_up = |file: ExecutedFile<'a>| {
            let path = if is_image_path { file.path_from_root() } else { None };
            let look_up = |image: &'a I| ImageEvidence {
                is_image_path: path.is_some(),
                at_path: path.as_ref().and_then(|path| image.file(path)),
                same_content: file.sha256.as_ref().and_then(|digest| image.path_of(digest)),
            };
            FileEvidence { file, image: image.map(look_up) }
        };
        let interpreter = ExecutedFile::interpreter(exec).map(look_up);
        Self { exec, subject: look_up(ExecutedFile::subject(exec)), interpreter }
    }
}

fn has_image_path(exec: &Exec) -> bool {
    let is_elsewhere = exec.inner_container_id.is_some() && exec.namespace != MountNamespace::Own;
    !exec.path_truncated && !is_elsewhere
}
