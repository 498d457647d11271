//! Commands of the correlator to its shell.

/// The correlator needs only findings and time, so it has no commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {}
