//! How the alert and its formats write what a shell or a person reads.

pub mod shell;
pub mod utc;
