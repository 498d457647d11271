//! What the correlator asks of its shell.

/// The correlator needs nothing but findings and time, so there is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {}
