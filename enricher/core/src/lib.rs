//! Pure part of the enricher: the image tables and the merged image index, the verdict of one exec, and parking.
//!
//! [`Enricher`] is the stage; it takes exec events, container records and image answers, and gives findings.
//! [`verdict::judge`] decides one exec; read it first, it is the reason driftline exists.
//!
//! Invariants: events of a container leave in the order in which they came; an event is held only while its container's
//! metadata or image is awaited, and never past the container's deadline; one finding per exec and detector; what goes
//! out depends on nothing but the input, the images and what stands in the changelog.
//!
//! [`tables::ImageTables`] answers what the stage asks about images; whoever drives it fills them from the image topics.
//!
//! What is deliberately absent: I/O, clocks, caches; the shell in `enricher/` has them.

pub mod chunks;
mod enricher;
mod finding;
#[cfg(test)]
mod fixtures;
mod flaw;
pub mod image;
pub mod limits;
pub mod tables;
mod tracked;
mod trust;
pub mod verdict;

pub use enricher::{Ask, Enricher, ImageAnswer, Input, Settings};
pub use trust::{ImageView, Trust};
