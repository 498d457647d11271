//! Pure part of the enricher: the image tables, the merged image index, and parking.
//!
//! [`Enricher`] is the stage: it takes exec events, container records and image answers, and emits findings. The package
//! `detection` judges; [`judge`] gives it an exec with what the image index has of its files.
//!
//! Invariants: events of a container leave in the order in which they came; an event is held only while its container's
//! metadata or image is awaited, and never past the container's deadline; one finding per exec and detector; what goes
//! out depends on nothing but the input, the images and what stands in the changelog.
//!
//! [`tables::ImageTables`] answers what the stage asks about images; whoever drives it fills them from the image topics.
//!
//! What is deliberately absent: I/O, clocks, caches; the shell in `enricher/` has them.

pub mod chunks;
mod container;
mod enricher;
#[cfg(test)]
mod fixtures;
pub mod image;
mod judging;
pub mod limits;
pub mod tables;
mod trust;

pub use enricher::{Enricher, ImageAnswer, ImageCommand, Input, Settings};
pub use judging::judge;
pub use trust::{ImageView, Trust};
