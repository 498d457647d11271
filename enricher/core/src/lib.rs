//! The pure part of the enricher: the image tables, the merged image index, and parking.
//!
//! [`Enricher`] is the stage: it takes exec events, container records and image answers, and emits findings. The
//! package `detection` judges; [`judge`] passes it an exec with the image index's data of its files.
//!
//! Invariants: events of a container are settled in order of arrival; an event is parked only while its container's
//! metadata or image is awaited, and never past the container's deadline; one finding per exec and detector; the output
//! depends only on the input, the images and the changelog.
//!
//! [`tables::ImageTables`] answers the stage's queries about images; its owner fills it from the image topics.
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
mod unproven;
mod unresolved;

pub use enricher::{Enricher, ImageAnswer, ImageCommand, Input, Settings};
pub use judging::judge;
pub use trust::{ImageView, Trust};
