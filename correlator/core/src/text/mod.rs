//! Text forms for shells and people, used by the alert and its formats.

pub mod shell;
pub mod utc;
