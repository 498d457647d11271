//! Detectors: turn the evidence of an exec into findings.
//!
//! [`Evidence`] holds what the kernel saw of each file of an exec and what the image has at its path and with its
//! content. [`judge`] derives a [`Verdict`] from it; read it first, it is the reason driftline exists. [`finding`]
//! builds the records that analysts read. A [`Detector`] names a closed set of rules; a finding is identified by its
//! event and its detector.
//!
//! What is deliberately absent: I/O, clocks, state, and how an image is stored. The caller supplies an [`ImageLookup`].

mod capability;
mod detector;
mod drift;
mod escape;
mod evidence;
pub mod finding;
mod flaw;
mod unproven;

pub use detector::Detector;
pub use drift::{
    ADDED, ADDED_SCRIPT, Category, FILELESS, FILELESS_SHM, MISMATCH, MOUNTED_SCRIPT, UNPROVEN, Verdict, judge,
};
pub use evidence::{Evidence, ExecutedFile, FileContent, FileEvidence, ImageEvidence, ImageLookup, InnerMount, Role};
pub use flaw::Flaw;
pub use unproven::Unproven;
