//! The drift detector: decides whether an executed program belongs to the container's image.
//!
//! A verdict rests on path *and* content, compared with the merged layers, never on a name alone. The rows are tried in
//! order, and the first that applies decides; `docs/detection.md` shows them as a table.

use driftline_schemas::{
    ADDED_BINARY, Confidence, ENGINE_INIT, Exec, FileClass, HashState, Mount, MountNamespace, Origin, Severity, Sha256,
    UNPROVEN_PROGRAM,
};

use crate::evidence::{Evidence, ExecutedFile, FileContent, FileEvidence, ImageEvidence, InnerMount, Role};
use crate::unproven::Unproven;

/// The note about a file that the kernel proves to be the image's.
const UNTOUCHED: &str = "an untouched file of the image";

/// Where a container's shared memory is mounted.
const SHM: &str = "/dev/shm";

/// The category of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Category {
    /// Name; the one of Container Threat Detection where it has such a category.
    pub name: &'static str,
    /// Severity of its findings.
    pub severity: Severity,
    /// MITRE ATT&CK techniques.
    pub techniques: &'static [&'static str],
}

/// A program ran that the image does not contain, or that it contains at another path only.
pub const ADDED: Category = Category { name: ADDED_BINARY, severity: Severity::Low, techniques: &["T1105", "T1106"] };
/// An interpreter was given a program that the image does not contain, or that it contains at another path only.
pub const ADDED_SCRIPT: Category =
    Category { name: driftline_schemas::ADDED_SCRIPT, severity: Severity::Low, techniques: &["T1105", "T1059"] };
/// The same from a read-only mount, which only whoever runs the container can fill.
pub const MOUNTED_SCRIPT: Category = Category { severity: Severity::Informational, ..ADDED_SCRIPT };
/// A program ran from anonymous memory.
pub const FILELESS: Category =
    Category { name: "Execution: Fileless Execution in /memfd:", severity: Severity::High, techniques: &["T1620"] };
/// A program ran from shared memory.
pub const FILELESS_SHM: Category = Category {
    name: "Privilege Escalation: Fileless Execution in /dev/shm",
    severity: Severity::High,
    techniques: &["T1620"],
};
/// The node ran an image file that the manifest does not list.
pub const MISMATCH: Category = Category { name: "Image Manifest Mismatch", severity: Severity::Low, techniques: &[] };

/// Nothing proves that a program is the image's, and nothing that it is not.
pub const UNPROVEN: Category = Category { name: UNPROVEN_PROGRAM, severity: Severity::Low, techniques: &[] };

/// The origin of a program, and whether it is a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Origin of the program.
    pub origin: Origin,
    /// The category of the finding; `None` when the exec is not reported.
    pub category: Option<Category>,
    /// Confidence of the verdict.
    pub confidence: Confidence,
    /// The reason, in one sentence. It may have raw text; a finding escapes it.
    pub note: String,
    /// Path of an image file with the same content.
    pub image_path: Option<Vec<u8>>,
    /// Digest of the image file at this path, when it differs from the executed file's.
    pub image_sha256: Option<Sha256>,
    /// Why the image could not be consulted.
    pub unresolved: Option<String>,
    /// Why nothing is proven; the findings of such execs are folded by this reason.
    pub unproven: Option<Unproven>,
    /// The file of the exec that decided the verdict.
    pub file: Role,
    /// The other file of the exec and its origin, when that is a finding, too.
    pub other: Option<(Role, Origin)>,
}

impl Category {
    /// The category in which a finding about an exec is withdrawn.
    #[must_use]
    pub fn of_retraction(exec: &Exec) -> Self {
        if exec.interpreted.is_some() { ADDED_SCRIPT } else { ADDED }
    }
}

impl Verdict {
    fn new(origin: Origin, category: Option<Category>, note: &str) -> Self {
        Self {
            origin,
            category,
            confidence: Confidence::High,
            note: note.to_owned(),
            image_path: None,
            image_sha256: None,
            unresolved: None,
            unproven: None,
            file: Role::Subject,
            other: None,
        }
    }

    /// What the verdict counts when an exec has several files: any finding more than silence, by severity; of equal ones
    /// what is proven more than what is not, and what was brought into the container more than what is mounted, which
    /// whoever runs the container can do.
    fn weight(&self) -> (Option<Severity>, bool, u8, Confidence) {
        let of_origin = match self.origin {
            Origin::Unproven => 0,
            Origin::Unresolved => 1,
            Origin::Mounted => 2,
            _ => 3,
        };
        let is_executed = self.category != Some(ADDED_SCRIPT);
        (self.category.map(|category| category.severity), is_executed, of_origin, self.confidence)
    }

    /// The same about a file that was given to an interpreter. It is known by a name that may have meant another file then.
    fn of_given(self, file: &ExecutedFile<'_>) -> Self {
        match self.category {
            Some(category) if category == ADDED => {
                let is_read_only = file.mount.is_some_and(|mount| mount.read_only);
                let is_context = self.origin == Origin::Mounted && is_read_only;
                let category = if is_context { MOUNTED_SCRIPT } else { ADDED_SCRIPT };
                let confidence = self.confidence.min(Confidence::Medium);
                Self { category: Some(category), confidence, ..self }
            }
            Some(_) => Self { confidence: self.confidence.min(Confidence::Medium), ..self },
            None => self,
        }
    }

    fn unproven(reason: Unproven, note: &str) -> Self {
        let verdict = Self::new(Origin::Unproven, Some(UNPROVEN), note).unsure();
        Self { unproven: Some(reason), ..verdict }
    }

    fn unsure(self) -> Self {
        Self { confidence: Confidence::Low, ..self }
    }
}

/// Judges an exec: each of its files. The worst verdict decides; of equal ones the subject's.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let of_subject = judge_file(evidence.exec, &evidence.subject);
    let Some(interpreter) = &evidence.interpreter else { return of_subject };
    let of_interpreter = judge_file(evidence.exec, interpreter);
    let (worse, other) = if of_interpreter.weight() > of_subject.weight() {
        (of_interpreter, of_subject)
    } else {
        (of_subject, of_interpreter)
    };
    Verdict { other: other.category.map(|_| (other.file, other.origin)), ..worse }
}

fn judge_file(exec: &Exec, evidence: &FileEvidence<'_>) -> Verdict {
    let file = &evidence.file;
    let is_given = file.is_given_to_an_interpreter(exec);
    let without_file = || Some(file).filter(|_| is_given).and_then(without_file);
    let verdict = without_image(exec, file).or_else(without_file).unwrap_or_else(|| match &evidence.image {
        Ok(image) => Case { exec, file, image }.judge(),
        Err(reason) => unresolved(file, reason),
    });
    let verdict = if is_given { verdict.of_given(file) } else { verdict };
    let note = match file.inner_mount() {
        Some(mount) if verdict.category.is_some() => through(mount, &verdict.note),
        _ => verdict.note,
    };
    Verdict { file: file.role, note, ..verdict }
}

/// The path of such a file is not the one that the verdict is about.
fn through(InnerMount(mount): InnerMount<'_>, note: &str) -> String {
    let Mount { point, source, .. } = mount;
    format!("{note}; it ran through a mount made inside the container, which shows its {source} at {point}")
}

/// The rows that apply whatever the image contains.
fn without_image(exec: &Exec, file: &ExecutedFile<'_>) -> Option<Verdict> {
    if exec.namespace == MountNamespace::Host {
        return Some(Verdict::new(Origin::HostNamespace, None, "it ran in the host's mount namespace"));
    }
    match file.class {
        FileClass::Memfd => Some(Verdict::new(
            Origin::Fileless,
            Some(FILELESS),
            "it ran from anonymous memory and has no file in any layer",
        )),
        FileClass::Volume if is_engine_init(exec, file) => {
            Some(Verdict::new(Origin::None, None, "the init program that the container's engine mounts into it"))
        }
        FileClass::Volume if file.mount.is_some_and(|mount| mount.point == SHM) => Some(Verdict::new(
            Origin::FilelessShm,
            Some(FILELESS_SHM),
            "it ran from the container's shared memory, which no image layer fills",
        )),
        _ => None,
    }
}

/// The engine executes it as the container's first process. The collector names the mount so only where the kernel shows a program
/// of the engine in the engine's place. What is executed later is judged like any mounted program.
fn is_engine_init(exec: &Exec, file: &ExecutedFile<'_>) -> bool {
    let is_first = exec.container_pid == 1 && exec.namespace == MountNamespace::Own;
    exec.named_path().is_none() && is_first && file.mount.is_some_and(|mount| mount.fs_type == ENGINE_INIT)
}

/// The row for what an interpreter was given when no regular file was found at its name. It may never have been there: then the
/// interpreter ran nothing.
fn without_file(file: &ExecutedFile<'_>) -> Option<Verdict> {
    let is_gone = file.hash_state == HashState::Gone;
    let is_regular = file.facts.mode & 0o170_000 == 0o100_000;
    (is_gone || (file.facts.is_known() && !is_regular)).then(|| {
        let note = "an interpreter was given it as its program, and no file was there when it was looked for";
        Verdict::unproven(Unproven::NoDigest(file.hash_state), note)
    })
}

/// The rows that apply while the image is not known.
fn unresolved(file: &ExecutedFile<'_>, reason: &str) -> Verdict {
    let verdict = match file.class {
        // The kernel shows that it is a file of a lower layer that nobody wrote to, whatever the layers contain.
        FileClass::Image => return Verdict::new(Origin::Image, None, UNTOUCHED),
        FileClass::New
        | FileClass::CopiedUp
        | FileClass::Volume
        | FileClass::Foreign
        | FileClass::Memfd
        | FileClass::OtherFs => {
            let note = "the file is not an untouched image file, and the image could not be consulted in time";
            Verdict::new(Origin::Unresolved, Some(ADDED), note).unsure()
        }
        // Every program of a root that is not an overlay has the same class; only the image could tell them apart.
        FileClass::RootfsPlain | FileClass::Unknown => Verdict::unproven(
            Unproven::NoImage,
            "the image, which alone could prove it, could not be consulted in time",
        ),
    };
    Verdict { unresolved: Some(reason.to_owned()), ..verdict }
}

/// One executed file, with the image's file at its path and the image's path with its content.
struct Case<'a> {
    exec: &'a Exec,
    file: &'a ExecutedFile<'a>,
    image: &'a ImageEvidence<'a>,
}

impl Case<'_> {
    fn judge(&self) -> Verdict {
        if self.file.class == FileClass::Image {
            return self.untouched();
        }
        if let Some(verdict) = self.equal_to_image() {
            return verdict;
        }
        match self.file.class {
            FileClass::Volume | FileClass::Foreign | FileClass::OtherFs => self.mounted(),
            _ if self.file.sha256.is_some() => self.by_content(),
            _ => self.by_path(),
        }
    }

    /// The kernel proves that the file was never written to. A truncated or relative path is not looked up in the
    /// manifest, so it is never reported as missing from it.
    fn untouched(&self) -> Verdict {
        if self.image.at_path.is_some() || !self.image.is_image_path || !self.file.path.starts_with(b"/") {
            return Verdict::new(Origin::Image, None, UNTOUCHED);
        }
        Verdict::new(
            Origin::Inconsistent,
            Some(MISMATCH),
            "the node runs an image file that the image's manifest does not list: manifest and node disagree",
        )
    }

    /// Path and content equal the image's, even if the file was rewritten, touched, or copied into a volume. That proves nothing
    /// where the content may be another than that of the exec, unless the kernel saw that the data was never copied.
    fn equal_to_image(&self) -> Option<Verdict> {
        let image = self.image.at_path?;
        if self.file.sha256 != Some(image.sha256) {
            return None;
        }
        let is_kept = self.file.class == FileClass::CopiedUp && self.file.facts.metacopy;
        let may_differ = self.file.hash_state == HashState::Changed && !is_kept;
        match self.file.class {
            FileClass::CopiedUp | FileClass::New | FileClass::RootfsPlain | FileClass::Volume | FileClass::Unknown
                if may_differ =>
            {
                Some(self.unproven("path and content are the image's, but the file may have been other when it ran"))
            }
            FileClass::CopiedUp => {
                Some(Verdict::new(Origin::Touched, None, "an image file whose attributes were changed"))
            }
            FileClass::New | FileClass::RootfsPlain | FileClass::Volume | FileClass::Unknown => {
                Some(Verdict::new(Origin::Image, None, "path and content are the image's"))
            }
            _ => None,
        }
    }

    fn mounted(&self) -> Verdict {
        let place = match (self.file.mount, self.file.class) {
            (Some(mount), _) => format!("a {} mount at {}", mount.fs_type, mount.point),
            (None, FileClass::Foreign) => "an overlay that is not the container's own".to_owned(),
            (None, _) => "a file system that is not the container's root".to_owned(),
        };
        let inner = self.exec.inner_container_id.as_ref();
        let inner = inner.map_or_else(String::new, |id| format!(" in container {id} in this one"));
        let note = format!("it ran from {place}{inner}, not from the image");
        let confidence = if self.file.sha256.is_some() { Confidence::High } else { Confidence::Low };
        Verdict {
            image_path: self.image.same_content.map(<[u8]>::to_vec),
            confidence,
            ..Verdict::new(Origin::Mounted, Some(ADDED), &note)
        }
    }

    fn by_content(&self) -> Verdict {
        if let Some(image) = &self.image.at_path {
            return self.modified(image, "the image's file at this path has other content");
        }
        if let Some(original) = self.image.same_content {
            return Verdict {
                image_path: Some(original.to_vec()),
                ..Verdict::new(
                    Origin::Relocated,
                    Some(ADDED),
                    "an image program was copied or moved to a path where the image has none",
                )
            };
        }
        Verdict::new(Origin::Added, Some(ADDED), "no layer of the image has this path or this content")
    }

    /// A file without a digest is judged by class, path and size.
    fn by_path(&self) -> Verdict {
        let Some(image) = &self.image.at_path else {
            return Verdict::new(Origin::Added, Some(ADDED), "no layer of the image has this path").unsure();
        };
        if self.file.class == FileClass::CopiedUp && self.file.facts.metacopy {
            let note = "an image file whose attributes were changed; its data was never copied";
            return Verdict::new(Origin::Touched, None, note);
        }
        if !self.file.facts.is_known() {
            return self.by_path_alone(image);
        }
        if u64::try_from(self.file.facts.size_bytes) != Ok(image.size_bytes) {
            return self.modified(image, "the image's file at this path has another size");
        }
        match self.file.class {
            FileClass::New | FileClass::CopiedUp => self
                .modified(image, "the image's file at this path was written to; its content could not be read")
                .unsure(),
            _ => self.unproven("path and size are the image's, but its content could not be read"),
        }
    }

    /// A script, or the target of a loader, that could not be opened: only its path is known.
    fn by_path_alone(&self, image: &FileContent) -> Verdict {
        if self.file.hash_state == HashState::Gone {
            let note = "the image has a file at this path, but what ran from it was gone when it was looked for";
            return self.modified(image, note).unsure();
        }
        self.unproven("the path is the image's, but nothing else of the file could be read")
    }

    fn unproven(&self, note: &str) -> Verdict {
        Verdict::unproven(Unproven::NoDigest(self.file.hash_state), note)
    }

    fn modified(&self, image: &FileContent, note: &str) -> Verdict {
        Verdict {
            image_path: self.image.same_content.map(<[u8]>::to_vec),
            image_sha256: Some(image.sha256),
            ..Verdict::new(Origin::Modified, Some(ADDED), note)
        }
    }
}

#[cfg(test)]
mod tests;
