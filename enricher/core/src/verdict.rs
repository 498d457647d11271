//! The drift verdict: does the program that ran belong to the container's image?
//!
//! Decided by path *and* content against the merged layers, never by name alone. The rows are tried in order, and the
//! first that applies decides; `docs/detection.md` shows them as a table.

use driftline_schemas::text::printable;
use driftline_schemas::{Confidence, Exec, FileClass, HashState, Loader, MountNamespace, Origin, Severity, Sha256};

use crate::image::{ImageFile, ImageIndex};

/// Where a container's shared memory is mounted.
const SHM: &str = "/dev/shm";

/// What makes a verdict a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Category of the finding.
    pub category: &'static str,
    /// Severity of the category.
    pub severity: Severity,
    /// MITRE ATT&CK techniques.
    pub techniques: &'static [&'static str],
}

/// A program ran that the image does not contain, or not there.
pub const ADDED: Report =
    Report { category: "Added Binary Executed", severity: Severity::Low, techniques: &["T1105", "T1106"] };
/// A program ran from anonymous memory.
pub const FILELESS: Report =
    Report { category: "Execution: Fileless Execution in /memfd:", severity: Severity::High, techniques: &["T1620"] };
/// A program ran from shared memory.
pub const FILELESS_SHM: Report = Report {
    category: "Privilege Escalation: Fileless Execution in /dev/shm",
    severity: Severity::High,
    techniques: &["T1620"],
};
/// The node ran an image file that the manifest does not list.
pub const MISMATCH: Report = Report { category: "Image Manifest Mismatch", severity: Severity::Low, techniques: &[] };

/// Where a program came from, and whether that is a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Origin of the program.
    pub origin: Origin,
    /// The finding, or nothing to report.
    pub report: Option<Report>,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why, in one sentence.
    pub note: String,
    /// Path of an image file with the same content.
    pub image_path: Option<Vec<u8>>,
    /// Digest of the image file at this path, when it differs.
    pub image_sha256: Option<Sha256>,
    /// Why the image could not be consulted.
    pub unresolved: Option<String>,
    /// Which file all of this is about.
    pub about: About,
}

/// What of an exec a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The exec's subject.
    Subject,
    /// The dynamic loader that was told to run it, which is none of the image's.
    Loader,
}

impl Verdict {
    fn new(origin: Origin, report: Option<Report>, note: &str) -> Self {
        Self {
            origin,
            report,
            confidence: Confidence::High,
            note: note.to_owned(),
            image_path: None,
            image_sha256: None,
            unresolved: None,
            about: About::Subject,
        }
    }

    fn unsure(self) -> Self {
        Self { confidence: Confidence::Low, ..self }
    }
}

/// Judges one exec against its container's image, or against the reason why there is none. A loader that has to be judged
/// by its content comes first: else any program could be called like one and take an image program as argument.
#[must_use]
pub fn judge(exec: &Exec, image: Result<&ImageIndex, &str>) -> Verdict {
    let of_loader = loader_alone(exec).map(|loader| judge_subject(&loader, image));
    match of_loader.filter(|verdict| verdict.report.is_some()) {
        Some(verdict) => Verdict { about: About::Loader, ..verdict },
        None => judge_subject(exec, image),
    }
}

/// The exec of a loader that has to be judged by its content, as if it had not been told to run anything.
pub(crate) fn loader_alone(exec: &Exec) -> Option<Exec> {
    let Loader { class, file, mount, hash_state, sha256 } = exec.loader.clone()?;
    Some(Exec { class, file, mount, hash_state, sha256, loaded: None, loader: None, ..exec.clone() })
}

fn judge_subject(exec: &Exec, image: Result<&ImageIndex, &str>) -> Verdict {
    without_image(exec).unwrap_or_else(|| match image {
        Ok(index) => Case::new(exec, index).judge(),
        Err(reason) => unresolved(exec, reason),
    })
}

/// The rows that no image can change.
fn without_image(exec: &Exec) -> Option<Verdict> {
    let on_shm = || exec.mount.as_ref().is_some_and(|mount| mount.point == SHM);
    if exec.namespace == MountNamespace::Host {
        return Some(Verdict::new(Origin::HostNamespace, None, "it ran in the host's mount namespace"));
    }
    match exec.class {
        FileClass::Memfd => Some(Verdict::new(
            Origin::Fileless,
            Some(FILELESS),
            "it ran from anonymous memory and has no file in any layer",
        )),
        FileClass::Volume if on_shm() => Some(Verdict::new(
            Origin::FilelessShm,
            Some(FILELESS_SHM),
            "it ran from the container's shared memory, which no image layer fills",
        )),
        _ => None,
    }
}

fn unresolved(exec: &Exec, reason: &str) -> Verdict {
    let suspicious = match exec.class {
        FileClass::New
        | FileClass::CopiedUp
        | FileClass::Volume
        | FileClass::Foreign
        | FileClass::Memfd
        | FileClass::OtherFs => true,
        // Every program of a root that is no overlay looks alike; only the image could tell.
        FileClass::Image | FileClass::RootfsPlain | FileClass::Unknown => false,
    };
    let note = "the file is not an untouched image file, and the image could not be consulted in time";
    Verdict {
        unresolved: Some(reason.to_owned()),
        ..Verdict::new(Origin::Unresolved, suspicious.then_some(ADDED), note).unsure()
    }
}

/// Whether a path may be one of the image. One that was cut off names nothing, nor does one in a container in the container,
/// which has a root of its own.
fn has_image_path(exec: &Exec) -> bool {
    let is_elsewhere = exec.inner_container_id.is_some() && exec.namespace != MountNamespace::Own;
    !exec.path_truncated && !is_elsewhere
}

/// One exec beside what the image knows of its path and content.
struct Case<'a> {
    exec: &'a Exec,
    /// The image's file at the executed path. A truncated path names nothing.
    at_path: Option<ImageFile<'a>>,
    /// A path at which the image has the same content.
    same_content: Option<&'a [u8]>,
}

impl<'a> Case<'a> {
    fn new(exec: &'a Exec, index: &'a ImageIndex) -> Self {
        let path = exec.subject_path();
        Self {
            exec,
            at_path: if has_image_path(exec) { index.file(path) } else { None },
            same_content: exec.sha256.as_ref().and_then(|digest| index.path_of(digest)),
        }
    }

    fn judge(&self) -> Verdict {
        if self.exec.class == FileClass::Image {
            return self.untouched();
        }
        if let Some(verdict) = self.equal_to_image() {
            return verdict;
        }
        match self.exec.class {
            FileClass::Volume | FileClass::Foreign | FileClass::OtherFs => self.mounted(),
            _ if self.exec.sha256.is_some() => self.by_content(),
            _ => self.by_path(),
        }
    }

    /// The kernel says that nobody wrote to the file. A path that is not whole cannot be missing from the manifest.
    fn untouched(&self) -> Verdict {
        if self.at_path.is_some() || !has_image_path(self.exec) || !self.exec.subject_path().starts_with(b"/") {
            return Verdict::new(Origin::Image, None, "an untouched file of the image");
        }
        Verdict::new(
            Origin::Inconsistent,
            Some(MISMATCH),
            "the node runs an image file that the image's manifest does not list: manifest and node disagree",
        )
    }

    /// Path and content are the image's, even if the file was written anew, touched, or copied into a volume.
    fn equal_to_image(&self) -> Option<Verdict> {
        let image = self.at_path.as_ref()?;
        if self.exec.sha256 != Some(image.sha256) {
            return None;
        }
        match self.exec.class {
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
        let place = match (&self.exec.mount, self.exec.class) {
            (Some(mount), _) => format!("a {} mount at {}", mount.fs_type, mount.point),
            (None, FileClass::Foreign) => "an overlay that is not the container's own".to_owned(),
            (None, _) => "a file system that is not the container's root".to_owned(),
        };
        let inner = self.exec.inner_container_id.as_ref().map(|id| printable(id.as_str().as_bytes()).text);
        let inner = inner.map_or_else(String::new, |id| format!(" in container {id} in this one"));
        let note = format!("it ran from {place}{inner}, not from the image");
        let confidence = if self.exec.sha256.is_some() { Confidence::High } else { Confidence::Low };
        Verdict {
            image_path: self.same_content.map(<[u8]>::to_vec),
            confidence,
            ..Verdict::new(Origin::Mounted, Some(ADDED), &note)
        }
    }

    fn by_content(&self) -> Verdict {
        if let Some(image) = &self.at_path {
            return self.modified(image, "the image's file at this path has other content");
        }
        if let Some(original) = self.same_content {
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

    /// No digest: class, path and size must do.
    fn by_path(&self) -> Verdict {
        let Some(image) = &self.at_path else {
            return Verdict::new(Origin::Added, Some(ADDED), "no layer of the image has this path").unsure();
        };
        if self.exec.class == FileClass::CopiedUp && self.exec.file.metacopy {
            let note = "an image file whose attributes were changed; its data was never copied";
            return Verdict::new(Origin::Touched, None, note);
        }
        if !self.exec.file.is_known() {
            return self.by_path_alone(image);
        }
        if u64::try_from(self.exec.file.size_bytes) != Ok(image.size_bytes) {
            return self.modified(image, "the image's file at this path has another size");
        }
        match self.exec.class {
            FileClass::New | FileClass::CopiedUp => self
                .modified(image, "the image's file at this path was written to; its content could not be read")
                .unsure(),
            _ => Verdict::new(Origin::Image, None, "path and size are the image's").unsure(),
        }
    }

    /// A script, or what a loader was told to run, that could not be opened: nothing of it is known but the path.
    fn by_path_alone(&self, image: &ImageFile<'_>) -> Verdict {
        if self.exec.hash_state == HashState::Gone {
            let note = "the image has a file at this path, but what ran from it was gone when it was looked for";
            return self.modified(image, note).unsure();
        }
        Verdict::new(Origin::Image, None, "the path is the image's; nothing else of the file could be read").unsure()
    }

    fn modified(&self, image: &ImageFile<'_>, note: &str) -> Verdict {
        Verdict {
            image_path: self.same_content.map(<[u8]>::to_vec),
            image_sha256: Some(image.sha256),
            ..Verdict::new(Origin::Modified, Some(ADDED), note)
        }
    }
}

#[cfg(test)]
mod tests;
